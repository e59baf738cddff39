"""Training of a head: what a step sees, what it minimises, and everything that resuming needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from radnerf.camera import Camera
from radnerf.errors import Diverged
from radnerf.head import Condition
from radnerf.kernels.protocol import Backend
from radnerf.losses import alpha_entropy, still_motion, structural_loss
from radnerf.model import HeadModel
from radnerf.occupancy import OccupancyGrid
from radnerf.rendering import RayColours
from radnerf.schedule import Average, StepReport, decayed
from radnerf.visibility import VisibilityGrid
from radnerf.volume import over

UPDATE_EVERY = 16
"""Steps between updates of the occupancy grid (arXiv 2201.05989, appendix C)."""

VISIBILITY_DECAY = 0.7
"""Of a cell's visibility at each update: an unseen cell is forgotten after a few hundred steps."""


@dataclass(frozen=True)
class Clip:
    """What training sees of a clip, N frames of S x S pixels; memory maps serve as well as memory.

    Attributes:
        truth: (N, S, S, 3) uint8, the true frame over the static background.
        behind: (N, S, S, 3) uint8, the true torso over the static background.
        head: (N, S, S) uint8, 255 times the share of a pixel that is head.
        camera: At S x S.
        rotation: (N, 3, 3) float32, head to camera.
        translation: (N, 3) float32, cm, head to camera.
        eye: (N,) float32 in [0, 1.5].
        mouth: (N, M) float32, standardised mouth components.
        features: (T, C) float32, standardised audio features.
        head_box, mouth_box, eyes_box: (N, 4) int64, left, top, right, bottom in pixels; right and bottom excluded.
        train: (F,) int64, the frames to train on, ascending.
    """

    truth: Tensor
    behind: Tensor
    head: Tensor
    camera: Camera
    rotation: Tensor
    translation: Tensor
    eye: Tensor
    mouth: Tensor
    features: Tensor
    head_box: Tensor
    mouth_box: Tensor
    eyes_box: Tensor
    train: Tensor


@dataclass(frozen=True)
class HeadSchedule:
    """Numbers of a head's training.

    Attributes:
        steps: Of the main phase.
        lips_steps: After it, looking at the mouth, with the occupancy frozen.
        rays: A step.
        frames: A step; the rays are shared among them.
        mouth_share, eyes_share: Shares of the rays drawn in these boxes.
        grid_rate, network_rate: Adam's rates at the start.
        attention_gain: The audio net's attention's rate over ``network_rate``.
        ema_decay: Of the averaged weights.
        entropy_weight, still_weight, mask_weight: Of the loss's terms; the second one rises from 0.
        code_drop: Probability that a frame's audio code is hidden in a step, leaving the mouth alone to drive.
        lips_weight: Of the perceptual term on the mouth patch.
        density_threshold: Per cm; cells below are empty.
        visible_threshold: Weight below which a cell counts as never seen.
    """

    steps: int
    lips_steps: int
    rays: int
    frames: int
    mouth_share: float
    eyes_share: float
    grid_rate: float
    network_rate: float
    attention_gain: float
    ema_decay: float
    entropy_weight: float
    still_weight: float
    mask_weight: float
    code_drop: float
    lips_weight: float
    density_threshold: float = 0.05
    visible_threshold: float = 0.02


APPEARANCE_DROP = 0.5
"""Probability that a frame's own appearance code gives way to the mean one in a step."""

SHUT_BELOW = 0.6
"""Openness of the eyes below which a frame counts as a blink's."""

BLINK_SHARE = 0.05
"""Share of the drawn frames that are a blink's, where the clip has any: blinks are rare, and seen at once if wrong."""

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance of two (3, H, W) pictures in [0, 1], a scalar >= 0."""


def _parameter_groups(named: list[tuple[str, nn.Parameter]], schedule: HeadSchedule) -> list[dict[str, Any]]:
    """Adam's groups: grids, everything else, the audio net's attention."""
    rates = (schedule.grid_rate, schedule.network_rate, schedule.network_rate * schedule.attention_gain)
    groups: list[dict[str, Any]] = [{"params": [], "lr": rate} for rate in rates]
    for name, value in named:
        which = 0 if name.endswith(".table") else 2 if name.startswith("audio_net.attention") else 1
        groups[which]["params"].append(value)
    return [group for group in groups if group["params"]]


class HeadTrainer:
    """Steps of a head's training, one call each, resumable to the last bit."""

    def __init__(
        self,
        model: HeadModel,
        clip: Clip,
        schedule: HeadSchedule,
        kernels: Backend,
        hull: Tensor,
        perceptual: Perceptual | None,
        seed: int,
    ) -> None:
        """Set the training up at step 0.

        Args:
            model: What is trained, in place.
            clip: What it is trained on.
            schedule: How.
            kernels: What marches and composites.
            hull: (G, G, G) bool, the cells that may hold anything at all.
            perceptual: The lips phase's distance; a structural one when None.
            seed: Of every random choice.
        """
        self.model, self.clip, self.schedule, self.kernels = model, clip, schedule, kernels
        self.device = model.aabb.device
        self.hull = hull.to(self.device)
        self.perceptual: Perceptual = structural_loss if perceptual is None else perceptual
        self.generator = torch.Generator().manual_seed(seed)
        self._shut = clip.train[clip.eye[clip.train] < SHUT_BELOW]
        # Frames and pixels are drawn on the CPU on every device; places in cells are drawn where the cells are.
        self.place_generator = torch.Generator(self.device).manual_seed(seed)
        size = model.shape.occupancy_resolution
        self.occupancy = OccupancyGrid(model.aabb, resolution=size).to(self.device)
        self.visibility = VisibilityGrid(model.aabb, size).to(self.device)
        # A net that was taught to foretell the mouth stays as it is: the picture's gradient would make it forget.
        self.taught = model.shape.mouth > 0
        left_out = "audio_net." if self.taught else "\0"
        trained = [(name, value) for name, value in model.named_parameters() if not name.startswith(left_out)]
        groups = _parameter_groups(trained, schedule)
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.first_rates = [float(group["lr"]) for group in self.optimiser.param_groups]
        self.average = Average([value for _, value in trained], schedule.ema_decay)
        self.step_number = 0
        self.skipped = 0
        model.mask.copy_(self.hull)

    @property
    def rate(self) -> float:
        """The grids' learning rate at the last step."""
        return float(self.optimiser.param_groups[0]["lr"])

    @property
    def total_steps(self) -> int:
        """Steps of both phases."""
        return self.schedule.steps + self.schedule.lips_steps

    def step(self) -> StepReport:
        """Do one step.

        Returns:
            What it found.

        Raises:
            Diverged: Ten steps in a row gave a loss that is not finite.
        """
        in_lips_phase = self.step_number >= self.schedule.steps
        if not in_lips_phase and self.step_number % UPDATE_EVERY == 0 and self.model.shape.backbone != "nerf":
            self._update_region()
        loss, report = self._lips_loss() if in_lips_phase and self.step_number % 2 else self._ray_loss()
        self._descend(loss)
        self.step_number += 1
        return report

    def _descend(self, loss: Tensor) -> None:
        """One step of the optimiser, unless the loss is not finite."""
        if not torch.isfinite(loss):
            self._skip()
            return
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if not self._gradients_finite():
            self._skip()
            return
        self.skipped = 0
        factor = decayed(self.step_number, self.total_steps)
        for group, rate in zip(self.optimiser.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * factor
        self.optimiser.step()
        if self.step_number % 4 == 3:
            self.average.update()

    def _skip(self) -> None:
        """Count a step that is left out; too many in a row end the training."""
        self.skipped += 1
        if self.skipped >= 10:
            raise Diverged(
                f"numbers were not finite in {self.skipped} steps in a row, the last at step {self.step_number}",
                hint="lower head.grid_rate and head.network_rate",
            )

    def _gradients_finite(self) -> bool:
        """Whether every gradient is finite; one sum tells, since NaN and infinity survive it."""
        gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
        return bool(torch.isfinite(torch.stack([gradient.sum() for gradient in gradients]).sum()))

    def _hear(self, frames: Tensor) -> Tensor:
        """Audio codes of frames, (B, A); differentiable unless the audio net was taught beforehand."""
        with torch.set_grad_enabled(not self.taught and torch.is_grad_enabled()):
            code, _ = self.model.hear(self.clip.features, frames)
        return code

    def _conditions(self, frames: Tensor) -> Condition:
        """Conditions of training frames: the measured mouth drives, the audio code is hidden now and then."""
        code = self._hear(frames)
        kept = torch.rand(len(frames), 1, generator=self.generator) >= self.schedule.code_drop
        mouth = self.clip.mouth[frames][:, : self.model.shape.mouth]
        position = torch.searchsorted(self.clip.train, frames)
        condition = self.model.condition(code * kept.to(self.device), mouth, self.clip.eye[frames], position)
        # New frames have the mean code: what moves must not hide in the frames' own ones.
        own = (torch.rand(len(frames), 1, generator=self.generator) >= APPEARANCE_DROP).to(self.device)
        mean = self.model.appearance.mean(0, keepdim=True)
        return Condition(condition.audio, condition.eye, torch.where(own, condition.appearance, mean))

    def _draw_frames(self, count: int) -> Tensor:
        """Random training frames, (count,) int64, a share of them from blinks."""
        chance = torch.rand(count, generator=self.generator)
        usual = self.clip.train[torch.randint(len(self.clip.train), (count,), generator=self.generator)]
        if len(self._shut) == 0:
            return usual
        shut = self._shut[torch.randint(len(self._shut), (count,), generator=self.generator)]
        return torch.where(chance < BLINK_SHARE, shut, usual)

    def _draw_pixels(self, frames: Tensor, each: int) -> Tensor:
        """Random pixels of the frames' boxes, (B, each, 2) int64: column, row."""
        clip, schedule = self.clip, self.schedule
        mouth, eyes = round(each * schedule.mouth_share), round(each * schedule.eyes_share)
        boxes = torch.cat(
            [
                clip.mouth_box[frames][:, None].expand(-1, mouth, -1),
                clip.eyes_box[frames][:, None].expand(-1, eyes, -1),
                clip.head_box[frames][:, None].expand(-1, each - mouth - eyes, -1),
            ],
            dim=1,
        )
        low, high = boxes[..., :2], boxes[..., 2:]
        return low + (torch.rand(low.shape, generator=self.generator) * (high - low)).long()

    def _ray_loss(self) -> tuple[Tensor, StepReport]:
        """Photometric and regularising terms on rays of a few frames."""
        clip, schedule = self.clip, self.schedule
        frames = self._draw_frames(schedule.frames)
        pixels = self._draw_pixels(frames, schedule.rays // schedule.frames)
        each = pixels.shape[1]
        poses = clip.rotation[frames][:, None], clip.translation[frames][:, None]
        origins, directions = clip.camera.rays(*poses, pixels)
        frame = frames.repeat_interleave(each)
        columns, rows = pixels.flatten(0, 1).unbind(-1)
        device = self.device
        truth = clip.truth[frame, rows, columns].to(device).float() / 255
        behind = clip.behind[frame, rows, columns].to(device).float() / 255
        head = clip.head[frame, rows, columns].to(device).float() / 255
        membership = torch.eye(len(frames), device=device).repeat_interleave(each, dim=0)
        jitter = torch.rand(len(frame), generator=self.generator).to(device)
        seen = self.model.render(
            self.kernels,
            (origins.flatten(0, 1).to(device), directions.flatten(0, 1).to(device)),
            self._conditions(frames),
            membership,
            jitter,
        )
        final = seen[-1]
        if self.model.shape.backbone != "nerf" and self.step_number < schedule.steps:
            self.visibility.observe(final.points, final.weights.detach())
        errors = [functional.mse_loss(over(one.image, one.alpha, behind), truth) for one in seen]
        loss = torch.stack(errors).sum() + self._regularisers(final, head, columns, rows, frame)
        mse = float(errors[-1].detach())
        return loss, StepReport(float(loss.detach()), mse, len(final.weights) / len(frame))

    def _regularisers(self, seen: RayColours, head: Tensor, columns: Tensor, rows: Tensor, frame: Tensor) -> Tensor:
        """Entropy of alpha, alpha against the head's mask, and stillness away from the mouth."""
        schedule = self.schedule
        loss = schedule.entropy_weight * alpha_entropy(seen.alpha)
        loss = loss + schedule.mask_weight * functional.mse_loss(seen.alpha, head)
        if seen.motion.shape[1] and schedule.still_weight:
            left, top, right, bottom = self.clip.mouth_box[frame].unbind(-1)
            margin = (right - left) // 2
            across = (columns >= left - margin) & (columns < right + margin)
            near = across & (rows >= top - margin) & (rows < bottom + margin)
            # Only once the mouth moves: a coordinate that is held still from the start never learns to.
            rising = max(0.0, min(1.0, 2 * self.step_number / max(1, schedule.steps) - 1))
            still = (~near).float().to(self.device)[seen.ray]
            loss = loss + schedule.still_weight * rising * still_motion(seen.motion, seen.weights, still)
        return loss

    def _lips_loss(self) -> tuple[Tensor, StepReport]:
        """Squared error and perceptual distance on one frame's whole mouth (arXiv 2211.12368, section 3.4)."""
        clip, size = self.clip, self.clip.camera.width_px
        frame = self._draw_frames(1)
        left, top, right, bottom = clip.mouth_box[frame[0]].tolist()
        side = min(max(32, right - left, bottom - top), size)
        x = min(max((left + right - side) // 2, 0), size - side)
        y = min(max((top + bottom - side) // 2, 0), size - side)
        rows, columns = torch.meshgrid(torch.arange(y, y + side), torch.arange(x, x + side), indexing="ij")
        pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
        device = self.device
        rays = clip.camera.rays(clip.rotation[frame[0]], clip.translation[frame[0]], pixels, device)
        truth = clip.truth[frame[0], y : y + side, x : x + side].reshape(-1, 3).to(device).float() / 255
        behind = clip.behind[frame[0], y : y + side, x : x + side].reshape(-1, 3).to(device).float() / 255
        seen = self.model.render(self.kernels, rays, self._conditions(frame))[-1]
        picture = over(seen.image, seen.alpha, behind)
        mse = functional.mse_loss(picture, truth)
        distance = self.perceptual(
            picture.T.reshape(3, side, side).clamp(0, 1), truth.T.reshape(3, side, side).contiguous()
        )
        loss = mse + self.schedule.lips_weight * distance
        return loss, StepReport(float(loss.detach()), float(mse.detach()), len(seen.weights) / (side * side))

    def _update_region(self) -> None:
        """Look where the density is, over random mouths and eyes, and keep the cells that anybody sees."""
        model, clip = self.model, self.clip
        field = model.fields[0]
        frames = self._draw_frames(8)
        with torch.no_grad():
            mouth = clip.mouth[frames][:, : model.shape.mouth]
            condition = model.condition(self._hear(frames), mouth, clip.eye[frames])

        def density(points: Tensor) -> Tensor:
            which = torch.randint(len(frames), (len(points),), generator=self.place_generator, device=self.device)
            sigma: Tensor = field.density(points, condition, functional.one_hot(which, len(frames)).float())[0]  # type: ignore[operator]
            return sigma

        self.visibility.fade(VISIBILITY_DECAY)
        seen = self.visibility.mask(self.schedule.visible_threshold)
        self.occupancy.update(
            density,
            threshold=self.schedule.density_threshold,
            generator=self.place_generator,
            random_cells=model.mask.numel() // 64,
            within=seen & self.hull,
        )
        model.mask.copy_(self.occupancy.mask & seen & self.hull)

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs besides the model's own state."""
        return {
            "step": self.step_number,
            "skipped": self.skipped,
            "generator": self.generator.get_state(),
            "place_generator": self.place_generator.get_state(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.values,
            "average_updates": self.average.updates,
            "occupancy": self.occupancy.state_dict(),
            "visibility": self.visibility.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.step_number, self.skipped = int(state["step"]), int(state["skipped"])
        self.generator.set_state(state["generator"])
        self.place_generator.set_state(state["place_generator"])
        self.optimiser.load_state_dict(state["optimiser"])
        for value, stored in zip(self.average.values, state["average"], strict=True):
            value.copy_(stored)
        self.average.updates = int(state["average_updates"])
        self.occupancy.load_state_dict(state["occupancy"])
        self.visibility.load_state_dict(state["visibility"])

"""Training of a head: what it minimises, and everything that resuming needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from radnerf.descent import Descent
from radnerf.devices import pick_precision, pictures_fit
from radnerf.frame_bend import FrameBend
from radnerf.head import Condition
from radnerf.head_clip import Clip, HeadSchedule
from radnerf.head_draws import Draw, Drawer
from radnerf.kernels.protocol import Backend
from radnerf.losses import alpha_entropy, still_motion, structural_loss
from radnerf.mlp import use_precision
from radnerf.model import HeadModel
from radnerf.occupancy import OccupancyGrid
from radnerf.pose_correction import pose_correction
from radnerf.rendering import RayColours, render_rays
from radnerf.schedule import StepReport, decayed, step_report
from radnerf.visibility import VisibilityGrid
from radnerf.volume import over

__all__ = ["UPDATE_EVERY", "Clip", "HeadSchedule", "HeadTrainer", "Perceptual"]

UPDATE_EVERY = 16
"""Steps between updates of the occupancy grid (arXiv 2201.05989, appendix C)."""

VISIBILITY_DECAY = 0.7
"""Of a cell's visibility at each update: an unseen cell is forgotten after a few hundred steps."""

_SPARE_ROOM = 1.25  # for samples, over the most that were seen lately
_ROOM_STEP = 1 << 12

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
    """Steps of a head's training, one call each; on a CPU resumable to the last bit.

    On a GPU nothing in a step waits for it, save for the update of the occupancy every 16 steps: what was left out
    and how many samples there were is read then. The samples of the other steps have a fixed room, a quarter more
    than was needed lately; rays that find none in it teach nothing in that step.
    """

    def __init__(
        self,
        model: HeadModel,
        clip: Clip,
        schedule: HeadSchedule,
        kernels: Backend,
        hull: Tensor,
        perceptual: Perceptual | None,
        seed: int,
        *,
        precision: torch.dtype | None = None,
        resident: bool | None = None,
        ahead: bool | None = None,
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
            precision: What the networks multiply in; ``pick_precision``'s own choice for the model's device when None.
            resident: Whether the clip's pictures are to lie on the model's device, as all else does; None for where
                ``pictures_fit`` there.
            ahead: Whether pictures are read a step ahead; None for where they have to be copied to a GPU.
        """
        self.model, self.schedule, self.kernels = model, schedule, kernels
        self.device = model.aabb.device
        precision = precision or pick_precision("auto", self.device)
        use_precision(model, precision)
        here = pictures_fit(clip.picture_bytes, self.device) if resident is None else resident
        self.clip = clip = clip.to(self.device, pictures=here)
        self.hull = hull.to(self.device)
        self.perceptual: Perceptual = structural_loss if perceptual is None else perceptual
        # Places in cells are drawn where the cells are, the rest as ``Drawer`` says.
        self.place_generator = torch.Generator(self.device).manual_seed(seed)
        generators = torch.Generator().manual_seed(seed), self.place_generator
        update_every = 0 if model.shape.backbone == "nerf" else UPDATE_EVERY
        self.drawer = Drawer(clip, schedule, self.device, generators, update_every, ahead=ahead)
        size = model.shape.occupancy_resolution
        self.occupancy = OccupancyGrid(model.aabb, resolution=size).to(self.device)
        self.visibility = VisibilityGrid(model.aabb, size).to(self.device)
        # A net that was taught to foretell the mouth stays as it is: the picture's gradient would make it forget.
        self.taught = model.shape.mouth > 0
        left_out = ("audio_net.", "further_nets.") if self.taught else ()
        trained = [(name, value) for name, value in model.named_parameters() if not name.startswith(left_out)]
        groups = _parameter_groups(trained, schedule)
        self.corrections = pose_correction(clip, model.shape.mouth) if schedule.pose_rate else None
        if self.corrections is not None:
            groups.append({"params": [self.corrections.shift], "lr": schedule.pose_rate})
        bends = schedule.bend_rate > 0 and model.shape.backbone != "nerf"
        self.bend = FrameBend(clip.train, clip.drives(model.shape.mouth)).to(self.device) if bends else None
        if self.bend is not None:
            groups.append({"params": [self.bend.shift], "lr": schedule.bend_rate})
        averaged = [value for _, value in trained]
        scaled = precision == torch.float16
        self.descent = Descent(groups, averaged, schedule.ema_decay, scaled=scaled, label="head")
        self.average = self.descent.average
        self.first_rates = [float(group["lr"]) for group in self.descent.optimiser.param_groups]
        self.step_number = 0
        # Room for samples; None where there is always as much as is needed.
        self._room = None if self.device.type == "cpu" else self._most_room
        self._most_samples = torch.zeros((), dtype=torch.int64, device=self.device)
        model.mask.copy_(self.hull)

    @property
    def rate(self) -> float:
        """The grids' learning rate at the last step."""
        return float(self.descent.optimiser.param_groups[0]["lr"])

    @property
    def total_steps(self) -> int:
        """Steps of both phases."""
        return self.schedule.steps + self.schedule.lips_steps

    @property
    def skipped(self) -> int:
        """Steps left out since the last good one, since something in them was not finite."""
        return self.descent.skipped

    @property
    def skipped_in_all(self) -> int:
        """Steps left out so far."""
        return self.descent.skipped_in_all

    def step(self) -> StepReport:
        """Do one step.

        Returns:
            What it found.

        Raises:
            Diverged: Ten steps in a row gave a loss that is not finite. On a GPU it may say so up to 16 steps later.
        """
        at_once = self.device.type == "cpu"
        if not at_once and self.step_number % UPDATE_EVERY == 0:
            self._look()
        draw = self.drawer.take(self.step_number)
        if draw.region_frames is not None:
            self._update_region(draw.region_frames)
        loss, report = self._ray_loss(draw) if draw.side_px is None else self._lips_loss(draw, draw.side_px)
        factor = decayed(self.step_number, self.total_steps)
        self.descent.step(loss, [rate * factor for rate in self.first_rates])
        if self.step_number % 4 == 3:
            self.average.update()
        if at_once:
            self._look()
        self.step_number += 1
        return report

    @property
    def _most_room(self) -> int:
        """Room for the samples of a step, whatever it sees."""
        return self.schedule.rays * self.model.shape.samples_per_ray

    def _look(self) -> None:
        """Wait for the steps so far, and see whether they were good and how much room for samples they need."""
        self.descent.check(self.step_number)
        if self._room is None:
            return
        most = int(self._most_samples)
        if most == 0:
            return
        # Where rays found no room, how much was needed is not known.
        cut_off = most > self._room - self.model.shape.samples_per_ray
        wanted = int(_SPARE_ROOM * (self._room if cut_off else most))
        self._room = min(-(-wanted // _ROOM_STEP) * _ROOM_STEP, self._most_room)
        self._most_samples.zero_()

    def _hear(self, frames: Tensor) -> Tensor:
        """Audio codes of frames, (B, A); differentiable unless the audio net was taught beforehand."""
        shape = self.model.shape
        heard = self.clip.features[:, : shape.net_features or shape.features]
        with torch.set_grad_enabled(not self.taught and torch.is_grad_enabled()):
            code, _ = self.model.audio_net(heard, frames)
        coded: Tensor = code
        return coded

    def _conditions(self, draw: Draw) -> tuple[Condition, Tensor]:
        """Conditions of training frames: the measured mouth drives, the audio code is hidden now and then.

        Returns:
            The conditions, and the penalty for how much they bend.
        """
        frames = draw.frames
        mouth = self.clip.mouth[frames][:, : self.model.shape.mouth]
        position = torch.searchsorted(self.clip.train, frames)
        code, eye, brow = self._hear(frames) * draw.kept, self.clip.eye[frames], self.clip.brow[frames]
        condition = self.model.condition(code, mouth, eye, position, brow=brow)
        # New frames have the mean code: what moves must not hide in the frames' own ones.
        mean = self.model.appearance.mean(0, keepdim=True)
        condition = dataclasses.replace(condition, appearance=torch.where(draw.own, condition.appearance, mean))
        if self.bend is None:
            return condition, mean.new_zeros(())
        bend, penalty = self.bend(frames)
        return dataclasses.replace(condition, bend=bend), penalty

    def _poses(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations (B, 3, 3) and translations (B, 3) of frames, corrected where that is learnt, and its penalty."""
        rotation, translation = self.clip.rotation[frames], self.clip.translation[frames]
        if self.corrections is None:
            return rotation, translation, rotation.new_zeros(())
        corrected: tuple[Tensor, Tensor, Tensor] = self.corrections(frames, rotation, translation)
        return corrected

    def _seen(
        self, draw: Draw, rays: tuple[Tensor, Tensor], membership: Tensor | None, room: int | None
    ) -> tuple[list[RayColours], Tensor]:
        """What each field sees along the draw's rays, with room for so many samples; None for as much as is needed.

        Returns:
            What is seen, and the penalty for how much the frames bend.
        """
        model, kernels = self.model, self.kernels
        condition, penalty = self._conditions(draw)
        if room is None or model.shape.backbone == "nerf":
            return model.render(kernels, rays, condition, membership, draw.jitter), penalty
        region = dataclasses.replace(model.region, room=room)
        return [render_rays(model.fields[0], kernels, region, rays, condition, membership, draw.jitter)], penalty

    def _ray_loss(self, draw: Draw) -> tuple[Tensor, StepReport]:
        """Photometric and regularising terms on rays of a few frames."""
        clip, schedule = self.clip, self.schedule
        count, each = draw.pixels.shape[:2]
        rotation, translation, turned = self._poses(draw.frames)
        origins, directions = clip.camera.rays(rotation[:, None], translation[:, None], draw.pixels)
        truth, behind = draw.truth.float() / 255, draw.behind.float() / 255
        membership = torch.eye(count, device=self.device)[:, None].expand(-1, each, -1).reshape(-1, count)
        rays = origins.flatten(0, 1), directions.flatten(0, 1)
        seen, bent = self._seen(draw, rays, membership, self._room)
        final = seen[-1]
        if self.model.shape.backbone != "nerf" and self.step_number < schedule.steps:
            self.visibility.observe(final.points, final.weights.detach())
        if self._room is not None:
            self._most_samples = torch.maximum(self._most_samples, final.samples)
        pictures = [over(one.image, one.alpha, behind) for one in seen]
        errors = [functional.mse_loss(picture, truth) for picture in pictures]
        self._note_errors(draw, pictures[-1].detach() - truth)
        loss = torch.stack(errors).sum() + self._regularisers(final, draw) + turned + bent
        return loss, step_report(loss, errors[-1], final.samples / len(truth))

    def _note_errors(self, draw: Draw, difference: Tensor) -> None:
        """Remember where in the head's box the picture differs from the truth, (N, 3)."""
        if self.schedule.error_share == 0:
            return
        errors, boxes = self.drawer.errors, self.clip.head_box[draw.frames][:, None]
        places = (draw.pixels + 0.5 - boxes[..., :2]) / (boxes[..., 2:] - boxes[..., :2])
        errors.note(places.flatten(0, 1), difference.square().mean(1))
        if self.step_number % UPDATE_EVERY == UPDATE_EVERY - 1:
            # The next step may have been drawn already.
            errors.settle(self.step_number + 2)

    def _regularisers(self, seen: RayColours, draw: Draw) -> Tensor:
        """Entropy of alpha, alpha against the head's mask, and stillness away from the mouth."""
        schedule = self.schedule
        loss = schedule.entropy_weight * alpha_entropy(seen.alpha)
        loss = loss + schedule.mask_weight * functional.mse_loss(seen.alpha, draw.head.float() / 255)
        if seen.motion.shape[1] and schedule.still_weight:
            left, top, right, bottom = self.clip.mouth_box[draw.frames][:, None].unbind(-1)
            columns, rows = draw.pixels.unbind(-1)
            margin = (right - left) // 2
            across = (columns >= left - margin) & (columns < right + margin)
            near = across & (rows >= top - margin) & (rows < bottom + margin)
            # Only once the mouth moves: a coordinate that is held still from the start never learns to.
            rising = max(0.0, min(1.0, 2 * self.step_number / max(1, schedule.steps) - 1))
            still = (~near).flatten().float()[seen.ray]
            loss = loss + schedule.still_weight * rising * still_motion(seen.motion, seen.weights, still)
        return loss

    def _lips_loss(self, draw: Draw, side_px: int) -> tuple[Tensor, StepReport]:
        """Squared error and perceptual distance on one frame's whole mouth (arXiv 2211.12368, section 3.4)."""
        clip = self.clip
        rotation, translation, _ = self._poses(draw.frames)
        rays = clip.camera.rays(rotation[0], translation[0], draw.pixels[0])
        truth, behind = draw.truth.float() / 255, draw.behind.float() / 255
        room = None if self._room is None else len(truth) * self.model.shape.samples_per_ray
        seen, bent = self._seen(draw, rays, None, room)
        final = seen[-1]
        picture = over(final.image, final.alpha, behind)
        mse = functional.mse_loss(picture, truth)
        distance = self.perceptual(
            picture.T.reshape(3, side_px, side_px).clamp(0, 1), truth.T.reshape(3, side_px, side_px).contiguous()
        )
        loss = mse + self.schedule.lips_weight * distance + bent
        return loss, step_report(loss, mse, final.samples / len(truth))

    def _update_region(self, frames: Tensor) -> None:
        """Look where the density is, over random mouths and eyes, and keep the cells that anybody sees."""
        model, clip = self.model, self.clip
        field = model.fields[0]
        with torch.no_grad():
            mouth = clip.mouth[frames][:, : model.shape.mouth]
            condition = model.condition(self._hear(frames), mouth, clip.eye[frames], brow=clip.brow[frames])

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

    @torch.no_grad()
    def finish(self) -> None:
        """Leave in the model what is to be rendered: the averaged weights, and the bends that they go with."""
        self.average.swap()
        if self.bend is not None and self.model.shape.bent_frames:
            self.model.bends.copy_(self.bend.bends())

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs besides the model's own state."""
        self.drawer.rewind()
        return {
            "step": self.step_number,
            "generator": self.drawer.generator.get_state(),
            "place_generator": self.place_generator.get_state(),
            "descent": self.descent.state_dict(),
            "occupancy": self.occupancy.state_dict(),
            "visibility": self.visibility.state_dict(),
            "errors": self.drawer.errors.state_dict(),
            "corrections": None if self.corrections is None else self.corrections.state_dict(),
            "bend": None if self.bend is None else self.bend.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.drawer.rewind()
        self.step_number = int(state["step"])
        self.drawer.generator.set_state(state["generator"])
        self.place_generator.set_state(state["place_generator"])
        self.descent.load_state_dict(state["descent"])
        self.occupancy.load_state_dict(state["occupancy"])
        self.visibility.load_state_dict(state["visibility"])
        self.drawer.errors.load_state_dict(state["errors"])
        if self.corrections is not None:
            self.corrections.load_state_dict(state["corrections"])
        if self.bend is not None:
            self.bend.load_state_dict(state["bend"])
        if self._room is not None:
            self._room = self._most_room

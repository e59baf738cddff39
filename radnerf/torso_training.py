"""Training of a torso under a frozen head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from radnerf.camera import Camera
from radnerf.descent import Descent
from radnerf.devices import pick_precision, pictures_fit, pinned, send
from radnerf.mlp import use_precision
from radnerf.prefetch import Ahead
from radnerf.schedule import StepReport, decayed, step_report
from radnerf.sway import displacement
from radnerf.torso import TorsoModel

LOOK_EVERY = 16
"""Steps on a GPU between looks at whether they were good."""


@dataclass(frozen=True)
class TorsoClip:
    """What training sees of a clip, N frames of S x S pixels; memory maps serve as well as memory.

    Attributes:
        truth: (N, S, S, 3) uint8, the true frame over the static background.
        torso: (N, S, S, 4) uint8, the torso layer: colour, not premultiplied, and alpha.
        background: (S, S, 3) float32 in [0, 1].
        head: (K, S, S, 4) uint8, the frozen head rendered: premultiplied colour and alpha.
        head_frames: (K,) int64, the frames that the head was rendered for.
        camera: At S x S.
        rotation: (N, 3, 3) float32, head to camera.
        translation: (N, 3) float32, cm.
        train: (F,) int64, the frames to train on, ascending.
    """

    truth: Tensor
    torso: Tensor
    background: Tensor
    head: Tensor
    head_frames: Tensor
    camera: Camera
    rotation: Tensor
    translation: Tensor
    train: Tensor

    @property
    def picture_bytes(self) -> int:
        """Memory that the pictures take."""
        return self.truth.nbytes + self.torso.nbytes + self.head.nbytes

    def to(self, device: torch.device, *, pictures: bool) -> TorsoClip:
        """The clip on a device.

        Args:
            device: Where the training computes.
            pictures: Whether the pictures go there too; else they stay where they are and are read a step at a time.

        Returns:
            The clip; what lies there already is shared.
        """
        seen = (self.truth, self.torso, self.head)
        truth, torso, head = (picture.to(device) for picture in seen) if pictures else seen
        return dataclasses.replace(
            self,
            truth=truth,
            torso=torso,
            head=head,
            background=self.background.to(device),
            head_frames=self.head_frames.to(device),
            rotation=self.rotation.to(device),
            translation=self.translation.to(device),
            train=self.train.to(device),
        )


@dataclass(frozen=True)
class TorsoSchedule:
    """Numbers of a torso's training.

    Attributes:
        steps: In all.
        pixels: A step.
        frames: A step; the pixels are shared among them.
        grid_rate, network_rate: Adam's rates at the start.
        ema_decay: Of the averaged weights.
        code_drop: Probability that a frame's own code gives way to the mean one, which new frames have.
    """

    steps: int
    pixels: int
    frames: int
    grid_rate: float
    network_rate: float
    ema_decay: float = 0.99
    code_drop: float = 0.5


def torso_mask(torso: Tensor, frames: Tensor, resolution: int) -> Tensor:
    """Cells of the picture where any of the frames has torso, and their neighbours.

    Args:
        torso: (N, S, S, 4) uint8.
        frames: (F,) int64, the frames looked at.
        resolution: Cells along an edge, G.

    Returns:
        (G, G) bool, indexed [row, column].
    """
    union = torch.zeros(torso.shape[1], torso.shape[2])
    for frame in frames.tolist():
        union = torch.maximum(union, torso[frame, :, :, 3].float())
    cells = functional.adaptive_max_pool2d(union[None, None], resolution)
    return functional.max_pool2d(cells, 5, stride=1, padding=2)[0, 0] > 12


@dataclass(frozen=True)
class TorsoDraw:
    """What one step looks at: N pixels of B frames.

    Attributes:
        frames: (B,) int64, the frames.
        kept: (B, 1) float32, 1 where the frame has its own code, 0 where it has the mean one.
        pixels: (N, 2) int64, column and row, N / B for each frame in turn.
        layer: (N, 4) uint8, the torso layer there.
        head: (N, 4) uint8, the head there.
        truth: (N, 3) uint8, the true frames there.
    """

    frames: Tensor
    kept: Tensor
    pixels: Tensor
    layer: Tensor
    head: Tensor
    truth: Tensor


class TorsoTrainer:
    """Steps of a torso's training, one call each; on a CPU resumable to the last bit. On a GPU nothing waits for it."""

    def __init__(
        self,
        model: TorsoModel,
        clip: TorsoClip,
        schedule: TorsoSchedule,
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
            seed: Of every random choice.
            precision: What the networks multiply in; ``pick_precision``'s own choice for the model's device when None.
            resident: Whether the clip's pictures are to lie on the model's device, as all else does; None for where
                ``pictures_fit`` there.
            ahead: Whether pictures are read a step ahead; None for where they have to be copied to a GPU.
        """
        self.model, self.schedule = model, schedule
        self.device = model.mask.device
        precision = precision or pick_precision("auto", self.device)
        use_precision(model, precision)
        here = pictures_fit(clip.picture_bytes, self.device) if resident is None else resident
        self.clip = clip = clip.to(self.device, pictures=here)
        place = clip.truth.device
        self.generator = torch.Generator().manual_seed(seed)
        # Pixels, which are many, are drawn where the pictures lie, all else on the CPU.
        self.pixel_generator = self.generator if place.type == "cpu" else torch.Generator(place).manual_seed(seed)
        streamed = place.type == "cpu" and self.device.type != "cpu"
        self._draws = Ahead(self._draw, self.generator, ahead=streamed if ahead is None else ahead)
        self._head_frames = clip.head_frames.cpu()
        grids = [value for name, value in model.named_parameters() if name.endswith(".table")]
        rest = [value for name, value in model.named_parameters() if not name.endswith(".table")]
        groups: list[dict[str, Any]] = [
            {"params": grids, "lr": schedule.grid_rate},
            {"params": rest, "lr": schedule.network_rate},
        ]
        scaled = precision == torch.float16
        self.descent = Descent(groups, model.parameters(), schedule.ema_decay, scaled=scaled, label="torso")
        self.average = self.descent.average
        self.first_rates = [float(group["lr"]) for group in self.descent.optimiser.param_groups]
        self.step_number = 0
        self._cells = model.mask.nonzero().flip(1).to(place)  # column, row

    @property
    def rate(self) -> float:
        """The grids' learning rate at the last step."""
        return float(self.descent.optimiser.param_groups[0]["lr"])

    @property
    def total_steps(self) -> int:
        """Steps in all."""
        return self.schedule.steps

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
            What it found; the error is the composite's.

        Raises:
            Diverged: Ten steps in a row gave a loss that is not finite. On a GPU it may say so up to 16 steps later.
        """
        at_once = self.device.type == "cpu"
        if not at_once and self.step_number % LOOK_EVERY == 0:
            self.descent.check(self.step_number)
        loss, mse = self._loss(self._draws.take(self.step_number, self.schedule.steps))
        factor = decayed(self.step_number, self.schedule.steps)
        self.descent.step(loss, [rate * factor for rate in self.first_rates])
        if at_once:
            self.descent.check(self.step_number)
        self.step_number += 1
        if self.step_number % 4 == 0:
            self.average.update()
        return step_report(loss, mse)

    def _draw(self, _: int) -> TorsoDraw:
        clip, schedule = self.clip, self.schedule
        place = clip.truth.device
        which = torch.randint(len(self._head_frames), (schedule.frames,), generator=self.generator)
        frames = self._head_frames[which]
        each = max(1, schedule.pixels // schedule.frames)
        pixels = self._draw_pixels(each * len(frames))
        kept = (torch.rand(len(frames), 1, generator=self.generator) >= schedule.code_drop).float()
        slot, frame = (_each(send(numbers, place), each) for numbers in (which, frames))
        columns, rows = pixels.unbind(-1)
        seen = (clip.torso[frame, rows, columns], clip.head[slot, rows, columns], clip.truth[frame, rows, columns])
        layer, head, truth = (pinned(colours, self.device) for colours in seen)
        device = self.device
        return TorsoDraw(pinned(frames, device), pinned(kept, device), pinned(pixels, device), layer, head, truth)

    def _draw_pixels(self, count: int) -> Tensor:
        """Random pixels where the torso ever is, (count, 2) int64: column, row."""
        size, cells, generator = self.clip.camera.width_px, self.model.shape.mask_resolution, self.pixel_generator
        place = self._cells.device
        chosen = self._cells[torch.randint(len(self._cells), (count,), generator=generator, device=place)]
        places = (chosen + torch.rand(count, 2, generator=generator, device=place)) / cells
        return (places * size).long().clamp(0, size - 1)

    def _loss(self, draw: TorsoDraw) -> tuple[Tensor, Tensor]:
        """The layer against the prepared one, and the picture under the frozen head against the truth."""
        clip, device = self.clip, self.device
        frames, kept, pixels = (send(drawn, device) for drawn in (draw.frames, draw.kept, draw.pixels))
        layer, head, truth = (send(colours, device).float() / 255 for colours in (draw.layer, draw.head, draw.truth))
        count, each = len(frames), len(pixels) // len(frames)
        columns, rows = pixels.unbind(-1)
        own = torch.searchsorted(clip.train, frames)
        code = kept * self.model.code(own, count) + (1 - kept) * self.model.code(None, count)
        pose = self.model.pose_code(clip.camera, clip.rotation[frames], clip.translation[frames])
        places = (pixels.float() + 0.5) / clip.camera.width_px
        places = places - displacement(self.model.sway[frames], places.view(count, each, 2)).view(-1, 2)
        membership = torch.eye(count, device=device)[:, None].expand(-1, each, -1).reshape(-1, count)
        rgb, alpha = self.model(places, pose, code, membership)
        background = clip.background[rows, columns]
        picture = rgb * alpha[:, None] + (1 - alpha)[:, None] * background
        wanted = layer[:, :3] * layer[:, 3:] + (1 - layer[:, 3:]) * background
        composite = head[:, :3] + (1 - head[:, 3:]) * picture
        mse = functional.mse_loss(composite, truth)
        # Under the head the truth shows no torso: there the prepared layer alone teaches, elsewhere both do.
        loss = mse + functional.mse_loss(picture, wanted) + 0.1 * functional.mse_loss(alpha, layer[:, 3])
        return loss, mse

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs besides the model's own state."""
        self._draws.rewind()
        return {
            "step": self.step_number,
            "generator": self.generator.get_state(),
            "pixel_generator": self.pixel_generator.get_state(),
            "descent": self.descent.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._draws.rewind()
        self.step_number = int(state["step"])
        # Where there is one generator, both are its state.
        if len(state["pixel_generator"]) == len(self.pixel_generator.get_state()):
            self.pixel_generator.set_state(state["pixel_generator"])
        self.generator.set_state(state["generator"])
        self.descent.load_state_dict(state["descent"])


def _each(numbers: Tensor, times: int) -> Tensor:
    """Each number so many times, one after the other; ``repeat_interleave`` may wait for a GPU."""
    return numbers[:, None].expand(-1, times).reshape(-1)

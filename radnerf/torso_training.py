"""Training of a torso under a frozen head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from radnerf.camera import Camera
from radnerf.errors import Diverged
from radnerf.schedule import Average, StepReport, decayed
from radnerf.torso import TorsoModel


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


class TorsoTrainer:
    """Steps of a torso's training, one call each, resumable to the last bit."""

    def __init__(self, model: TorsoModel, clip: TorsoClip, schedule: TorsoSchedule, seed: int) -> None:
        """Set the training up at step 0.

        Args:
            model: What is trained, in place.
            clip: What it is trained on.
            schedule: How.
            seed: Of every random choice.
        """
        self.model, self.clip, self.schedule = model, clip, schedule
        self.device = model.mask.device
        self.generator = torch.Generator().manual_seed(seed)
        grids = [value for name, value in model.named_parameters() if name.endswith(".table")]
        rest = [value for name, value in model.named_parameters() if not name.endswith(".table")]
        groups: list[dict[str, Any]] = [
            {"params": grids, "lr": schedule.grid_rate},
            {"params": rest, "lr": schedule.network_rate},
        ]
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.first_rates = [float(group["lr"]) for group in self.optimiser.param_groups]
        self.average = Average(model.parameters(), schedule.ema_decay)
        self.step_number = 0
        cells = model.mask.cpu().nonzero()
        self._cells = cells.flip(1)  # column, row

    @property
    def rate(self) -> float:
        """The grids' learning rate at the last step."""
        return float(self.optimiser.param_groups[0]["lr"])

    @property
    def total_steps(self) -> int:
        """Steps in all."""
        return self.schedule.steps

    def step(self) -> StepReport:
        """Do one step.

        Returns:
            What it found; the error is the composite's.

        Raises:
            Diverged: The loss is not finite.
        """
        loss, mse = self._loss()
        if not torch.isfinite(loss):
            raise Diverged(
                f"the torso's loss is {loss.item()} at step {self.step_number}",
                hint="lower torso.grid_rate and torso.network_rate",
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        factor = decayed(self.step_number, self.schedule.steps)
        for group, rate in zip(self.optimiser.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * factor
        self.optimiser.step()
        self.step_number += 1
        if self.step_number % 4 == 0:
            self.average.update()
        return StepReport(float(loss.detach()), mse)

    def _draw_pixels(self, count: int) -> Tensor:
        """Random pixels where the torso ever is, (count, 2) int64: column, row."""
        size, cells = self.clip.camera.width_px, self.model.shape.mask_resolution
        chosen = self._cells[torch.randint(len(self._cells), (count,), generator=self.generator)]
        places = (chosen + torch.rand(count, 2, generator=self.generator)) / cells
        return (places * size).long().clamp(0, size - 1)

    def _loss(self) -> tuple[Tensor, float]:
        """The layer against the prepared one, and the picture under the frozen head against the truth."""
        clip, schedule = self.clip, self.schedule
        which = torch.randint(len(clip.head_frames), (schedule.frames,), generator=self.generator)
        frames = clip.head_frames[which]
        each = max(1, schedule.pixels // schedule.frames)
        columns, rows = self._draw_pixels(each * len(frames)).unbind(-1)
        slot = which.repeat_interleave(each)
        frame = frames.repeat_interleave(each)
        device = self.device
        own = torch.searchsorted(clip.train, frames).to(device)
        kept = (torch.rand(len(frames), 1, generator=self.generator) >= schedule.code_drop).float().to(device)
        code = kept * self.model.code(own, len(frames)) + (1 - kept) * self.model.code(None, len(frames))
        pose = self.model.pose_code(clip.camera, clip.rotation[frames].to(device), clip.translation[frames].to(device))
        places = (torch.stack([columns, rows], dim=-1).to(device).float() + 0.5) / clip.camera.width_px
        places = places - self.model.sway[frame.to(device)]
        rgb, alpha = self.model(
            places, pose, code, torch.eye(len(frames), device=device).repeat_interleave(each, dim=0)
        )
        background = clip.background[rows, columns].to(device)
        layer = clip.torso[frame, rows, columns].to(device).float() / 255
        head = clip.head[slot, rows, columns].to(device).float() / 255
        truth = clip.truth[frame, rows, columns].to(device).float() / 255
        picture = rgb * alpha[:, None] + (1 - alpha)[:, None] * background
        wanted = layer[:, :3] * layer[:, 3:] + (1 - layer[:, 3:]) * background
        composite = head[:, :3] + (1 - head[:, 3:]) * picture
        mse = functional.mse_loss(composite, truth)
        # Under the head the truth shows no torso: there the prepared layer alone teaches, elsewhere both do.
        loss = mse + functional.mse_loss(picture, wanted) + 0.1 * functional.mse_loss(alpha, layer[:, 3])
        return loss, float(mse.detach())

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs besides the model's own state."""
        return {
            "step": self.step_number,
            "generator": self.generator.get_state(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.values,
            "average_updates": self.average.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.step_number = int(state["step"])
        self.generator.set_state(state["generator"])
        self.optimiser.load_state_dict(state["optimiser"])
        for value, stored in zip(self.average.values, state["average"], strict=True):
            value.copy_(stored)
        self.average.updates = int(state["average_updates"])

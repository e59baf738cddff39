"""What a step of a head's training looks at: frames, pixels, and their true colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from radnerf.devices import pinned, send
from radnerf.error_map import ErrorMap
from radnerf.head_clip import SHUT_BELOW, Clip, HeadSchedule
from radnerf.prefetch import Ahead

APPEARANCE_DROP = 0.5
"""Probability that a frame's own appearance code gives way to the mean one in a step."""

BLINK_SHARE = 0.12
"""Share of the drawn frames that are a blink's, where the clip has any: blinks are rare, and seen at once if wrong."""

REGION_FRAMES = 8
"""Frames whose mouths and eyes an update of the occupancy looks at."""

_LEAST_PATCH_PX = 32

Change = Callable[[Tensor], Tensor]
"""What is done to each tensor of a draw."""


@dataclass(frozen=True)
class Draw:
    """What one step looks at: N pixels of B frames, or a patch of one.

    Attributes:
        frames: (B,) int64, the frames.
        pixels: (B, N / B, 2) int64, column and row.
        truth: (N, 3) uint8, the true frames there.
        behind: (N, 3) uint8, the true torso over the background there.
        head: (N,) uint8, 255 times the share of a pixel that is head.
        jitter: (N,) float32 in [0, 1), where in its share of the ray a sample lies.
        kept: (B, 1) bool, whether the frame's audio code is seen.
        own: (B, 1) bool, whether the frame has its own appearance code.
        region_frames: (8,) int64, the frames that an update of the occupancy looks at; None where none is due.
        side_px: Side of the patch; None where the pixels lie anywhere.
    """

    frames: Tensor
    pixels: Tensor
    truth: Tensor
    behind: Tensor
    head: Tensor
    jitter: Tensor
    kept: Tensor
    own: Tensor
    region_frames: Tensor | None = None
    side_px: int | None = None

    def to(self, device: torch.device) -> Draw:
        """The same on a device, nothing waiting for the copies."""
        return self._each(lambda tensor: send(tensor, device))

    def pinned(self, device: torch.device) -> Draw:
        """The same in memory that a GPU copies from by itself."""
        return self._each(lambda tensor: pinned(tensor, device))

    def _each(self, change: Change) -> Draw:
        tensors = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        moved = {name: change(value) for name, value in tensors.items() if isinstance(value, Tensor)}
        return Draw(**{**tensors, **moved})


class Drawer:
    """Draws what steps look at.

    Frames are drawn on the CPU; pixels, which are many, where the pictures lie. Where these are not where the training
    computes, each step's colours are read from them and pinned while the step before is under way.

    Attributes:
        generator: Of all that is drawn on the CPU.
        errors: Where the error last was; whoever trains notes it there.
    """

    def __init__(
        self,
        clip: Clip,
        schedule: HeadSchedule,
        device: torch.device,
        generators: tuple[torch.Generator, torch.Generator],
        update_every: int,
        *,
        ahead: bool | None = None,
    ) -> None:
        """Draw nothing yet.

        Args:
            clip: What is looked at.
            schedule: How.
            device: Where the training computes.
            generators: On the CPU, and on that device.
            update_every: Steps of the main phase between updates of the occupancy; 0 for none.
            ahead: Whether to draw a step ahead; None for where pictures have to be copied to a GPU.
        """
        self._clip, self._schedule, self._device, self._update_every = clip, schedule, device, update_every
        place = clip.truth.device
        self.generator = generators[0]
        self._pixel_generator = generators[0] if place.type == "cpu" else generators[1]
        self._train = clip.train.cpu()
        self._blinks = (clip.eye < SHUT_BELOW).to(place)
        self._shut = self._train[self._blinks.cpu()[self._train]]
        # Patches are of many sizes, and the CPU has to know each.
        self._mouth_boxes = clip.mouth_box.cpu()
        self._boxes = torch.stack([clip.mouth_box, clip.eyes_box, clip.head_box]).to(place)
        self.errors = ErrorMap(device, place)
        streamed = place.type == "cpu" and device.type != "cpu"
        self._steps = Ahead(self._draw, self.generator, ahead=streamed if ahead is None else ahead)

    def take(self, number: int) -> Draw:
        """What a step looks at.

        Args:
            number: Of the step.

        Returns:
            The draw, on the training's device.
        """
        schedule = self._schedule
        return self._steps.take(number, schedule.steps + schedule.lips_steps).to(self._device)

    def rewind(self) -> None:
        """Bring the generator to where a training that draws nothing ahead has it."""
        self._steps.rewind()

    def _draw(self, number: int) -> Draw:
        in_lips_phase = number >= self._schedule.steps
        due = not in_lips_phase and self._update_every > 0 and number % self._update_every == 0
        region_frames = self.frames(REGION_FRAMES) if due else None
        draw = self._patch() if in_lips_phase and number % 2 else self._scattered(number)
        return dataclasses.replace(draw, region_frames=region_frames).pinned(self._device)

    def frames(self, count: int) -> Tensor:
        """Random training frames, (count,) int64, a share of them from blinks."""
        chance = torch.rand(count, generator=self.generator)
        usual = self._train[torch.randint(len(self._train), (count,), generator=self.generator)]
        if len(self._shut) == 0:
            return usual
        shut = self._shut[torch.randint(len(self._shut), (count,), generator=self.generator)]
        return torch.where(chance < BLINK_SHARE, shut, usual)

    def pixels(self, frames: Tensor, each: int, step: int) -> Tensor:
        """Random pixels of the boxes of frames (B,) for a step, (B, each, 2) int64: column, row."""
        schedule = self._schedule
        shares = (schedule.mouth_share, schedule.eyes_share, schedule.error_share)
        mouth, eyes, worst = (round(each * share) for share in shares)
        worst = min(worst, each - mouth - eyes)
        of_frames = self._boxes[:, frames]
        # A blink's frame is drawn for its eyes: they get the mouth's share there, and the mouth theirs.
        of_frames = torch.where(self._blinks[frames][:, None], of_frames[[1, 0, 2]], of_frames)
        boxes = torch.cat(
            [
                box[:, None].expand(-1, count, -1)
                for box, count in zip(of_frames, (mouth, eyes, each - mouth - eyes), strict=True)
            ],
            dim=1,
        )
        low, high = boxes[..., :2], boxes[..., 2:]
        places = torch.rand(low.shape, generator=self._pixel_generator, device=low.device)
        if worst:
            drawn = self.errors.draw(step, len(frames) * worst, self._pixel_generator)
            places[:, each - worst :] = drawn.view(len(frames), worst, 2)
        return low + (places * (high - low)).long()

    def _scattered(self, step: int) -> Draw:
        """Pixels all over the head, more of them at mouth and eyes, in a few frames."""
        schedule = self._schedule
        frames = send(self.frames(schedule.frames), self._boxes.device)
        pixels = self.pixels(frames, schedule.rays // schedule.frames, step)
        count = pixels.shape[0] * pixels.shape[1]
        jitter = torch.rand(count, generator=self._pixel_generator, device=pixels.device)
        return self._looked_at(frames, pixels, jitter)

    def _patch(self) -> Draw:
        """One frame's whole mouth (arXiv 2211.12368, section 3.4)."""
        size = self._clip.camera.width_px
        frames = self.frames(1)
        left, top, right, bottom = self._mouth_boxes[frames[0]].tolist()
        side = min(max(_LEAST_PATCH_PX, right - left, bottom - top), size)
        x = min(max((left + right - side) // 2, 0), size - side)
        y = min(max((top + bottom - side) // 2, 0), size - side)
        place = self._boxes.device
        along = torch.arange(side, device=place)
        rows, columns = torch.meshgrid(along + y, along + x, indexing="ij")
        pixels = torch.stack([columns, rows], dim=-1).reshape(1, -1, 2)
        middle = torch.full((side * side,), 0.5, device=place)
        return dataclasses.replace(self._looked_at(send(frames, place), pixels, middle), side_px=side)

    def _looked_at(self, frames: Tensor, pixels: Tensor, jitter: Tensor) -> Draw:
        """The draw of pixels (B, N / B, 2) in frames (B,)."""
        clip, count = self._clip, len(frames)
        frame = frames[:, None].expand(-1, pixels.shape[1]).reshape(-1)
        columns, rows = pixels.flatten(0, 1).unbind(-1)
        return Draw(
            frames=frames,
            pixels=pixels,
            truth=clip.truth[frame, rows, columns],
            behind=clip.behind[frame, rows, columns],
            head=clip.head[frame, rows, columns],
            jitter=jitter,
            kept=torch.rand(count, 1, generator=self.generator) >= self._schedule.code_drop,
            own=torch.rand(count, 1, generator=self.generator) >= APPEARANCE_DROP,
        )

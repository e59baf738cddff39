"""Frames of a portrait on a GPU: head, torso and blend in a few kernels, replayed as one CUDA graph, read back late."""

from __future__ import annotations

import dataclasses
import queue
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radnerf.camera import Camera
from radnerf.head import Condition, HeadField
from radnerf.kernels.protocol import Backend, FrozenHead
from radnerf.model import HeadModel
from radnerf.portrait import Pose, freeze_torso
from radnerf.torso import TorsoModel

if TYPE_CHECKING:
    from radnerf.kernels.protocol import FrozenTorso

Picture = npt.NDArray[np.uint8]

BUFFERS = 12
"""Pictures on their way from the GPU: those that wait to be encoded, and a few more."""


class PortraitPainter:
    """Draws a subject's frames; each is begun at once and may be fetched while the next ones are drawn.

    Sizes never change from frame to frame, so that on a GPU the whole of a frame is recorded once and replayed: a
    frame costs one launch. What changes lies in the tensors of ``_inputs``.
    """

    def __init__(
        self, head: HeadModel, torso: TorsoModel, kernels: Backend, camera: Camera, background: Tensor
    ) -> None:
        """Remember the scene; the first frame records it.

        Args:
            head: The trained head, with the ``radnerf`` backbone.
            torso: The trained torso.
            kernels: A backend that renders with Triton.
            camera: Decides the size.
            background: (H, W, 3) float in [0, 1], the camera's size.
        """
        field = head.fields[0]
        if not isinstance(field, HeadField):
            raise TypeError("only the radnerf backbone can be drawn by fused kernels")
        self._head, self._field, self._torso, self._kernels, self._camera = head, field, torso, kernels, camera
        self._device = head.aabb.device
        self._half = bool(getattr(kernels, "half", True))
        self._background = background.to(self._device).float().contiguous()
        self._inputs: list[Tensor] = []
        self._still: tuple[FrozenHead, FrozenTorso] | None = None
        self._draw: Callable[[], Tensor] | None = None
        self._free: queue.SimpleQueue[Tensor] = queue.SimpleQueue()
        pinned = self._device.type == "cuda"
        for _ in range(BUFFERS):
            self._free.put(torch.empty(background.shape, dtype=torch.uint8, pin_memory=pinned))

    @torch.no_grad()
    def paint(self, pose: Pose, torso_pose: Pose, condition: Condition) -> Callable[[], Picture]:
        """Begin a frame.

        Args:
            pose: Of the head.
            torso_pose: That the torso follows, and whose sway it has.
            condition: Of the one frame.

        Returns:
            A function, to be called once, from any thread: it waits for the frame and gives it, (H, W, 3) uint8 RGB.
            Where ``BUFFERS`` frames were begun and not fetched, this call waits for one of them to be.
        """
        frozen = self._field.frozen(condition)
        torso = freeze_torso(self._torso, self._camera, torso_pose)
        changing = [pose.rotation, pose.translation, frozen.motion_bias, frozen.density_bias, frozen.colour_bias]
        changing += [torso.offset_bias, torso.sway, *([] if frozen.warp is None else [frozen.warp])]
        if self._draw is None:
            self._inputs = [tensor.to(self._device, copy=True) for tensor in changing]
            self._draw = self._recorded(frozen, torso)
        else:
            for place, tensor in zip(self._inputs, changing, strict=True):
                place.copy_(tensor, non_blocking=True)
        picture = self._draw()
        buffer = self._free.get()
        buffer.copy_(picture, non_blocking=True)
        drawn = _reached() if self._device.type == "cuda" else None

        def fetch() -> Picture:
            if drawn is not None:
                drawn.synchronize()
            result: Picture = buffer.numpy().copy()
            self._free.put(buffer)
            return result

        return fetch

    @torch.no_grad()
    def again(self) -> Tensor:
        """Draw the last frame once more and leave it where it is; for measuring.

        Returns:
            (H, W, 3) uint8 RGB, on the painter's device.

        Raises:
            RuntimeError: No frame was drawn yet.
        """
        if self._draw is None:
            raise RuntimeError("no frame was drawn yet")
        return self._draw()

    @torch.no_grad()
    def torso_alone(self, pose: Pose) -> Tensor:
        """The torso before the background under nobody's head; for measuring.

        Args:
            pose: That the torso follows, and whose sway it has.

        Returns:
            (H, W, 3) uint8 RGB, on the painter's device.
        """
        from radnerf.kernels.triton_torso import paint

        torso = freeze_torso(self._torso, self._camera, pose)
        if self._half:
            torso = dataclasses.replace(torso, plane=torso.plane.half())
        nobody = torch.zeros(self._camera.width_px * self._camera.height_px, 5, device=self._device)
        return paint(nobody, torso, self._background, self._half)

    def _recorded(self, frozen: FrozenHead, torso: FrozenTorso) -> Callable[[], Tensor]:
        """What draws a frame from ``_inputs``: on a GPU a CUDA graph, elsewhere the kernels one by one."""
        rotation, translation, motion_bias, density_bias, colour_bias, torso_bias, sway, *warp = self._inputs
        head = dataclasses.replace(
            frozen,
            motion_bias=motion_bias,
            density_bias=density_bias,
            colour_bias=colour_bias,
            warp=warp[0] if warp else None,
        )
        still = dataclasses.replace(torso, offset_bias=torso_bias, sway=sway)
        if self._half:
            head = dataclasses.replace(head, space=head.space.half(), plane=head.plane.half())
            still = dataclasses.replace(still, plane=still.plane.half())
        # A recorded graph knows addresses only: what lies there must stay.
        self._still = (head, still)
        region = self._head.region

        def draw() -> Tensor:
            from radnerf.kernels.triton_torso import paint

            rays_o, rays_d = self._camera.rays(rotation, translation)
            seen = self._kernels.render(head, rays_o, rays_d, region.mask, region.max_samples, region.min_step_cm)
            return paint(seen, still, self._background, self._half)

        return _graph(draw) if self._device.type == "cuda" else draw


def _reached() -> torch.cuda.Event:
    """An event that happens when the GPU has done all that it was given so far."""
    event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def _graph(draw: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record a function as a CUDA graph; calling the result replays it into the same tensor."""
    # Kernels are compiled, tables narrowed and memory found before recording, on the stream that PyTorch asks for.
    beside: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(2):
            draw()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        picture = draw()

    def replay() -> Tensor:
        graph.replay()
        return picture

    return replay


def painter_for(
    head: HeadModel, torso: TorsoModel, kernels: Backend, camera: Camera, background: Tensor
) -> PortraitPainter | None:
    """The painter of a scene; None where its kernels are not those of a GPU.

    Args:
        head: The trained head.
        torso: The trained torso.
        kernels: Any backend.
        camera: Decides the size.
        background: (H, W, 3) float in [0, 1], the camera's size.
    """
    if head.aabb.device.type != "cuda" or kernels.name != "triton" or head.shape.backbone != "radnerf":
        return None
    return PortraitPainter(head, torso, kernels, camera, background)

"""One frame of a subject, ready to be rendered again and again, whole or an even share of its rays."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radnerf.camera import Camera
from radnerf.gpu_portrait import PortraitPainter, painter_for
from radnerf.head import Condition
from radnerf.kernels import get_backend
from radnerf.kernels.protocol import Backend, Painter
from radnerf.model import HeadModel
from radnerf.portrait import Pose, freeze_torso, paint_portrait, put_over
from radnerf.torso import TorsoModel
from stages.backdrop import clip_background
from stages.errors import BadInput
from stages.formats import AudioFeatures, Track
from stages.frame_queue import Frame, Pending
from stages.head_file import load_head
from stages.torso_file import load_torso
from stages.tracked_moment import tracked_condition, tracked_pose
from stages.training_data import camera_of
from stages.workspace import Workspace


@dataclass(frozen=True)
class Scene:
    """A subject at one size on one backend.

    Attributes:
        heard: The trained head, whose audio net hears.
        shown: What is rendered: the trained head, or the baseline with the same conditions.
        torso: The trained torso.
        kernels: What marches and composites.
        camera: At the size that is measured.
        track: The subject's own poses and blinks, and its sound's frames.
        features: (T, C) float32, standardised audio features.
        background: (S, S, 3) float in [0, 1].
        header: The head file's header.
        device: Where the models are.
        painter: Draws frames on a GPU, as in speaking; None where the backend has none.
    """

    heard: HeadModel
    shown: HeadModel
    torso: TorsoModel
    kernels: Backend
    camera: Camera
    track: Track
    features: Tensor
    background: Tensor
    header: dict[str, Any]
    device: torch.device
    painter: PortraitPainter | None = None

    def frame(self, offset: int = 0) -> int:
        """The number of a frame near the measured one, which is the clip's middle; the clip begins again at its end."""
        count = len(self.track.eye_open)
        return (count // 2 + offset) % count

    @property
    def is_baseline(self) -> bool:
        """Whether the head is the original NeRF."""
        return self.shown.shape.backbone == "nerf"

    def hear(self, frames: int) -> tuple[Tensor, Tensor]:
        """Audio code and mouth of so many frames from the measured one on."""
        return self.heard.hear(self.features, torch.tensor([self.frame(offset) for offset in range(frames)]))

    def condition(self, offset: int, code: Tensor, mouth: Tensor) -> Condition:
        """The condition of a frame near the measured one."""
        return tracked_condition(self.shown, self.track, self.frame(offset), code, mouth)

    def pose(self, offset: int = 0) -> Pose:
        """The pose of a frame near the measured one."""
        return tracked_pose(self.track, self.frame(offset))

    def picture(self, condition: Condition, offset: int = 0) -> Frame:
        """A finished frame as speaking makes it, (S, S, 3) uint8 RGB."""
        begun = self.begin(condition, offset)
        return begun() if callable(begun) else begun

    def begin(self, condition: Condition, offset: int = 0) -> Frame | Pending:
        """A frame as speaking makes it, finished, or on a GPU what waits for it."""
        pose = self.pose(offset)
        if self.painter is not None:
            return self.painter.paint(pose, pose, condition)
        return paint_portrait(
            self.shown, self.torso, self.kernels, self.camera, pose, pose, condition, self.background
        ).numpy()

    @property
    def paints(self) -> bool:
        """Whether the torso is evaluated and blended in one kernel."""
        return self.painter is not None or (isinstance(self.kernels, Painter) and self.device.type == "cpu")

    def torso_layer(self) -> Tensor:
        """The torso of the measured frame, (S, S, 4) float; where it is painted, finished over the background."""
        pose = self.pose()
        if self.painter is not None:
            return self.painter.torso_alone(pose)
        if isinstance(self.kernels, Painter) and self.paints:
            nobody = torch.zeros(self.camera.width_px * self.camera.height_px, 5)
            return self.kernels.paint(nobody, freeze_torso(self.torso, self.camera, pose), self.background)
        return self.torso.render(self.camera, pose.rotation, pose.translation, pose.clip_frame)

    def blend(self, head: Tensor, torso: Tensor) -> NDArray[np.uint8]:
        """Both layers (S, S, 4) over the background, (S, S, 3) uint8 RGB."""
        seen = put_over(head, put_over(torso, self.background))
        return (seen.clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    def rays(self, pixels: Tensor | None) -> tuple[Tensor, Tensor]:
        """The measured frame's rays through pixels (N, 2), or through all of them."""
        pose = self.pose()
        rays = self.camera.rays(pose.rotation, pose.translation, pixels, device=self.device)
        return rays[0].contiguous(), rays[1].contiguous()

    def head_rays(self, condition: Condition, pixels: Tensor | None, kernels: Backend | None = None) -> None:
        """Render the head's rays through pixels (N, 2), or through all of them."""
        self.shown.render_image(kernels or self.kernels, self.rays(pixels), condition)


def open_scene(workspace: Workspace, backend: str, backbone: str, size_px: int, device: torch.device) -> Scene:
    """Load a trained subject.

    Args:
        workspace: The subject.
        backend: The kernels' name.
        backbone: ``"radnerf"`` for the trained head; ``"nerf"`` for the baseline, untrained, which takes the same
            time trained or not, since it looks at every sample of every ray.
        size_px: Side of the picture.
        device: Where to render.

    Raises:
        BadInput: A file is missing or damaged, or the subject's own head is the baseline.
    """
    heard, header = load_head(workspace.head, backend, device)
    if heard.shape.backbone == "nerf":
        raise BadInput(
            f"the subject {workspace.root.name!r} was trained with the baseline's backbone, nerf",
            hint="name one that was trained with radnerf, or none",
        )
    shown = heard
    if backbone == "nerf":
        torch.manual_seed(0)
        shown = HeadModel(dataclasses.replace(heard.shape, backbone="nerf"), heard.aabb.cpu())
        shown.to(device).eval().requires_grad_(requires_grad=False)
    track = Track.load(workspace.track)
    torso, kernels = load_torso(workspace.torso, backend, device), get_backend(backend, device)
    camera = camera_of(track).scaled(size_px)
    background = torch.from_numpy(clip_background(workspace.background, size_px)).float() / 255
    return Scene(
        heard=heard,
        shown=shown,
        torso=torso,
        kernels=kernels,
        camera=camera,
        track=track,
        features=heard.standardised(torch.from_numpy(AudioFeatures.load(workspace.features).values)),
        background=background,
        header=header,
        device=device,
        painter=painter_for(shown, torso, kernels, camera, background),
    )


def lattice(size_px: int, most: int) -> Tensor | None:
    """An even share of a picture's pixels: every k-th of every k-th row.

    Args:
        size_px: Side of the picture.
        most: How many pixels are wanted at most.

    Returns:
        (N, 2) int64, column and row; None where all of them are few enough.
    """
    step = math.ceil(size_px / math.isqrt(max(most, 1)))
    if step <= 1:
        return None
    along = torch.arange(step // 2, size_px, step)
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 2)

"""A whole portrait: head over torso over background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from radnerf.camera import Camera
from radnerf.head import Condition
from radnerf.kernels.protocol import Backend
from radnerf.model import HeadModel
from radnerf.torso import TorsoModel


@dataclass(frozen=True)
class Pose:
    """Where a head is.

    Attributes:
        rotation: (3, 3) float32, head to camera.
        translation: (3,) float32, cm.
        clip_frame: The frame of the subject's own clip that the pose was measured in, or a place between two
            frames; the body's sway comes with it. None where there is no such frame.
    """

    rotation: Tensor
    translation: Tensor
    clip_frame: float | None = None


def render_head(head: HeadModel, kernels: Backend, camera: Camera, pose: Pose, condition: Condition) -> Tensor:
    """The head alone.

    Args:
        head: The trained head.
        kernels: What marches and composites.
        camera: Decides the size.
        pose: Of the head.
        condition: Of the one frame.

    Returns:
        (H, W, 4) float in [0, 1], on the CPU, where layers are put over each other: rgb premultiplied by alpha, and
        alpha.
    """
    rays = camera.rays(pose.rotation, pose.translation, device=head.aabb.device)
    image, alpha, _ = head.render_image(kernels, rays, condition)
    layer = torch.cat([image, alpha[:, None]], dim=1).clamp(0, 1).cpu()
    return layer.reshape(camera.height_px, camera.width_px, 4)


def put_over(layer: Tensor, behind: Tensor) -> Tensor:
    """Put a layer over an opaque picture.

    Args:
        layer: (H, W, 4) float in [0, 1]: rgb premultiplied by alpha, and alpha.
        behind: (H, W, 3) float in [0, 1].

    Returns:
        (H, W, 3) float in [0, 1].
    """
    return layer[..., :3] + (1 - layer[..., 3:]) * behind


def render_portrait(
    head: HeadModel,
    torso: TorsoModel,
    kernels: Backend,
    camera: Camera,
    pose: Pose,
    condition: Condition,
    background: Tensor,
) -> Tensor:
    """Head over torso over background, one frame.

    Args:
        head: The trained head.
        torso: The trained torso.
        kernels: What marches and composites.
        camera: Decides the size.
        pose: Of the head; the torso follows it.
        condition: Of the one frame.
        background: (H, W, 3) float in [0, 1], the camera's size.

    Returns:
        (H, W, 3) float in [0, 1].
    """
    behind = put_over(torso.render(camera, pose.rotation, pose.translation, pose.clip_frame), background)
    return put_over(render_head(head, kernels, camera, pose, condition), behind)

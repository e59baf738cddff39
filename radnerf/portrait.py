"""A whole portrait: head over torso over background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from radnerf.camera import Camera
from radnerf.head import Condition
from radnerf.kernels.protocol import Backend, FrozenTorso, Painter
from radnerf.model import HeadModel
from radnerf.sway import as_powers
from radnerf.torso import COORDINATE_BANDS, MAX_OFFSET, TorsoModel


@dataclass(frozen=True)
class Pose:
    """Where a head is, and how it holds its brows.

    Attributes:
        rotation: (3, 3) float32, head to camera.
        translation: (3,) float32, cm.
        clip_frame: The frame of the subject's own clip that the pose was measured in, or a place between two
            frames; the body's sway comes with it. None where there is no such frame.
        brow_mm: How far the brows are above their usual place.
    """

    rotation: Tensor
    translation: Tensor
    clip_frame: float | None = None
    brow_mm: float = 0.0


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


@torch.no_grad()
def freeze_torso(torso: TorsoModel, camera: Camera, pose: Pose) -> FrozenTorso:
    """A torso as it is during one frame.

    Args:
        torso: The trained torso.
        camera: Any size.
        pose: Of the head that it follows.

    Returns:
        The torso with the frame folded in.
    """
    device = torso.mask.device
    told = torso.pose_code(camera, pose.rotation.to(device)[None], pose.translation.to(device)[None])
    code = torso.code(None, 1)
    offset, offset_bias = torso.offset_net.folded(torch.cat([told, code], dim=1))
    colour, colour_bias = torso.colour_net.folded(code)
    return FrozenTorso(
        mask=torso.mask,
        plane=torso.plane.table.detach(),
        spec=torso.shape.plane,
        offset=(offset[0], offset[1], offset[2]),
        offset_bias=offset_bias,
        colour=(colour[0], colour[1], colour[2]),
        colour_bias=colour_bias,
        sway=as_powers(torso.sway_at(pose.clip_frame)),
        bands=COORDINATE_BANDS,
        max_offset=MAX_OFFSET,
    )


@torch.no_grad()
def paint_portrait(
    head: HeadModel,
    torso: TorsoModel,
    kernels: Backend,
    camera: Camera,
    pose: Pose,
    torso_pose: Pose,
    condition: Condition,
    background: Tensor,
) -> Tensor:
    """A finished frame: head over torso over background, by the backend's own kernel where it has one.

    Args:
        head: The trained head.
        torso: The trained torso.
        kernels: What marches and composites, and may finish frames.
        camera: Decides the size.
        pose: Of the head.
        torso_pose: That the torso follows, and whose sway it has.
        condition: Of the one frame.
        background: (H, W, 3) float in [0, 1], the camera's size.

    Returns:
        (H, W, 3) uint8 RGB, on the CPU.
    """
    if isinstance(kernels, Painter) and head.aabb.device.type == "cpu":
        rays = camera.rays(pose.rotation, pose.translation)
        image, alpha, depth = head.render_image(kernels, rays, condition)
        seen = torch.cat([image, alpha[:, None], depth[:, None]], dim=1)
        return kernels.paint(seen, freeze_torso(torso, camera, torso_pose), background)
    layer = torso.render(camera, torso_pose.rotation, torso_pose.translation, torso_pose.clip_frame)
    picture = put_over(render_head(head, kernels, camera, pose, condition), put_over(layer, background))
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)

"""The part of the box that the head's masks leave room for (Laurentini 1994, the visual hull)."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.camera import Camera


def box_points(aabb: Tensor, resolution: int) -> Tensor:
    """Centres of the cells of a box.

    Args:
        aabb: (2, 3) float, cm, world.
        resolution: Cells along an edge, G.

    Returns:
        (G * G * G, 3) float, cm, world, x slowest.
    """
    steps = (torch.arange(resolution, dtype=aabb.dtype) + 0.5) / resolution
    unit = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).reshape(-1, 3)
    return aabb[0] + unit * (aabb[1] - aabb[0])


def carve(
    masks: Tensor, camera: Camera, rotation: Tensor, translation: Tensor, aabb: Tensor, resolution: int, share: float
) -> Tensor:
    """Cells whose centres fall on the head in nearly every frame.

    Args:
        masks: (N, H, W) bool, where the head may be, generously; the camera's size.
        camera: The one camera.
        rotation: (N, 3, 3) float, head to camera.
        translation: (N, 3) float, cm, head to camera.
        aabb: (2, 3) float, cm, world.
        resolution: Cells along an edge, G.
        share: Least share of the frames in which a cell must fall on its mask; outside the picture nothing
            is known, and counts as inside.

    Returns:
        (G, G, G) bool, indexed [x, y, z].
    """
    points = box_points(aabb, resolution)
    votes = torch.zeros(len(points))
    for mask, turn, shift in zip(masks, rotation, translation, strict=True):
        pixels = camera.project(points, turn, shift).floor().long()
        x, y = pixels.unbind(-1)
        outside = (x < 0) | (y < 0) | (x >= camera.width_px) | (y >= camera.height_px)
        x, y = x.clamp(0, camera.width_px - 1), y.clamp(0, camera.height_px - 1)
        votes += (mask[y, x] | outside).float()
    return (votes >= share * len(masks)).reshape(resolution, resolution, resolution)

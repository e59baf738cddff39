"""The one pinhole camera of a subject: pixels to rays in the head's frame, and points back to pixels.

Pixel (column, row) covers [column, column + 1) x [row, row + 1); its centre lies half a pixel further. The camera's
axes are OpenCV's (x right, y down, z forward). The world is the head's frame in centimetres (x to the image's right
for a frontal face, y up, z towards the viewer); a pose maps it to the camera: x_cam = rotation @ x_head + translation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion.

    Attributes:
        focal_px: Focal length, the same along both axes.
        centre_x_px, centre_y_px: Principal point; the picture's middle is (width / 2, height / 2).
        width_px, height_px: Size of the picture.
    """

    focal_px: float
    centre_x_px: float
    centre_y_px: float
    width_px: int
    height_px: int

    def scaled(self, size_px: int) -> Camera:
        """The camera that sees the same picture ``size_px`` pixels wide.

        Args:
            size_px: Width of the new picture; the height follows in proportion, rounded.

        Returns:
            A camera; a picture whose sides are not in proportion to whole pixels gains or loses rows at its foot.
        """
        factor = size_px / self.width_px
        return Camera(
            focal_px=self.focal_px * factor,
            centre_x_px=self.centre_x_px * factor,
            centre_y_px=self.centre_y_px * factor,
            width_px=size_px,
            height_px=max(1, round(self.height_px * factor)),
        )

    def pixels(self, device: torch.device | str = "cpu") -> Tensor:
        """Every pixel in reading order.

        Returns:
            (height * width, 2) int64, column and row.
        """
        rows, columns = torch.meshgrid(
            torch.arange(self.height_px, device=device), torch.arange(self.width_px, device=device), indexing="ij"
        )
        return torch.stack((columns, rows), dim=-1).reshape(-1, 2)

    def rays(
        self,
        rotation: Tensor,
        translation: Tensor,
        pixels: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rays through the centres of pixels, in the head's frame; differentiable in the pose.

        Args:
            rotation: (3, 3) float, head to camera, or (N, 3, 3), one for each pixel. Any leading shape that
                broadcasts against that of ``pixels`` works: (B, 1, 3, 3) with (N, 2) gives (B, N, 3).
            translation: (3,) float, cm, or with the same leading shape as ``rotation``.
            pixels: (N, 2) integer, column and row; every pixel in reading order when None.
            device: Where the rays are made; where ``rotation`` is when None.

        Returns:
            rays_o: (N, 3), the rotation's dtype (float32 as a rule), cm, world (head frame): the camera's position.
            rays_d: (N, 3), unit, world (head frame).
        """
        device = rotation.device if device is None else torch.device(device)
        rotation = rotation.to(device=device)
        translation = translation.to(device=device)
        dtype = rotation.dtype
        if pixels is None:
            pixels = self.pixels(device)
        columns, rows = pixels.to(device=device, dtype=dtype).unbind(-1)
        x = (columns + (0.5 - self.centre_x_px)) / self.focal_px
        y = (rows + (0.5 - self.centre_y_px)) / self.focal_px
        directions = torch.nn.functional.normalize(torch.stack((x, y, torch.ones_like(x)), dim=-1), dim=-1)
        # The inverse of a rotation is its transpose: v @ R equals R^T v.
        rays_d = _rotate(directions, rotation.transpose(-1, -2))
        rays_o = -_rotate(translation, rotation.transpose(-1, -2))
        return rays_o.expand_as(rays_d), rays_d

    def project(self, points: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
        """Where points of the head appear in the picture; differentiable in everything.

        Args:
            points: (N, 3) float, cm, world (head frame).
            rotation: (3, 3) float, head to camera, or (N, 3, 3), one for each point; leading shapes broadcast
                as in ``rays``.
            translation: (3,) float, cm, or with the same leading shape as ``rotation``.

        Returns:
            (N, 2) in pixels, x and y. A point level with the camera or behind it has no image and gets
            meaningless, possibly infinite, coordinates.
        """
        x, y, z = (_rotate(points, rotation) + translation).unbind(-1)
        return torch.stack((self.focal_px * x / z + self.centre_x_px, self.focal_px * y / z + self.centre_y_px), dim=-1)


def _rotate(vectors: Tensor, rotation: Tensor) -> Tensor:
    """``rotation @ vector`` for (..., 3) vectors and (3, 3) or (..., 3, 3) rotations."""
    if rotation.dim() == 2:
        return vectors @ rotation.transpose(0, 1)
    return (rotation @ vectors.unsqueeze(-1)).squeeze(-1)


def yaw_pitch_rotation(yaw_deg: float, pitch_deg: float) -> Tensor:
    """Turn a head within its own frame: multiply a pose's rotation by this from the right.

    Args:
        yaw_deg: Degrees by which the face turns towards the image's right.
        pitch_deg: Degrees by which the face looks up.

    Returns:
        (3, 3) float32, head frame to head frame; pitch is applied first, then yaw.
    """
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    turn = torch.tensor(
        [[math.cos(yaw), 0.0, math.sin(yaw)], [0.0, 1.0, 0.0], [-math.sin(yaw), 0.0, math.cos(yaw)]],
        dtype=torch.float64,
    )
    nod = torch.tensor(
        [[1.0, 0.0, 0.0], [0.0, math.cos(pitch), math.sin(pitch)], [0.0, -math.sin(pitch), math.cos(pitch)]],
        dtype=torch.float64,
    )
    return (turn @ nod).to(torch.float32)

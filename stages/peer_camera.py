"""The camera convention of AD-NeRF's data folders, which RAD-NeRF and ER-NeRF share, and ours.

Theirs: ``transform_matrix`` takes camera coordinates (x right, y up, z backward: OpenGL) to the head's frame; a unit is
a metre, as far as a face tells. ``track_params.pt`` has the inverse as Euler angles and a translation in decimetres.
Ours: a rotation and a translation in centimetres take the head's frame to camera coordinates (x right, y down, z
forward: OpenCV). Both head frames have x to the image's right, y up, and z out of the face; theirs begins elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNIT_CM = 100.0
"""Centimetres in a unit of ``transform_matrix``."""

TRACK_UNIT_CM = 10.0
"""Centimetres in a unit of ``track_params.pt``."""

_FLIP = np.diag([1.0, -1.0, -1.0])


def to_matrices(rotation: Floats, translation: Floats) -> Floats:
    """Our poses as ``transform_matrix``.

    Args:
        rotation: (N, 3, 3), head to camera.
        translation: (N, 3), cm.

    Returns:
        (N, 4, 4), camera to head.
    """
    back = rotation.transpose(0, 2, 1)
    matrices = np.tile(np.eye(4), (len(rotation), 1, 1))
    matrices[:, :3, :3] = back @ _FLIP
    matrices[:, :3, 3] = -(back @ translation[:, :, None])[:, :, 0] / UNIT_CM
    return matrices


def from_matrices(matrices: Floats) -> tuple[Floats, Floats]:
    """The inverse of ``to_matrices``."""
    rotation = _FLIP @ matrices[:, :3, :3].transpose(0, 2, 1)
    translation = -(rotation @ matrices[:, :3, 3:])[:, :, 0] * UNIT_CM
    return rotation, translation


def to_euler(rotation: Floats, translation: Floats) -> tuple[Floats, Floats]:
    """Our poses as ``track_params.pt`` has them.

    Returns:
        euler: (N, 3) radians about x, y and z.
        trans: (N, 3), decimetres.
    """
    turn = _FLIP @ rotation
    angles = (np.arctan2(turn[:, 1, 2], turn[:, 2, 2]), -np.arcsin(turn[:, 0, 2].clip(-1, 1)))
    last = np.arctan2(-turn[:, 0, 1], turn[:, 0, 0])
    return np.stack([*angles, last], axis=1), translation @ _FLIP / TRACK_UNIT_CM


def from_euler(euler: Floats, trans: Floats) -> tuple[Floats, Floats]:
    """The inverse of ``to_euler``."""
    (a, b, c), (d, e, f) = np.cos(euler).T, np.sin(euler).T
    zero, one = np.zeros_like(a), np.ones_like(a)

    def matrices(*rows: Floats) -> Floats:
        return np.stack(rows, axis=1).reshape(-1, 3, 3)

    about_x = matrices(one, zero, zero, zero, a, d, zero, -d, a)
    about_y = matrices(b, zero, -e, zero, one, zero, e, zero, b)
    about_z = matrices(c, -f, zero, f, c, zero, zero, zero, one)
    return _FLIP @ about_x @ about_y @ about_z, trans @ _FLIP * TRACK_UNIT_CM

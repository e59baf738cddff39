"""Whether pictures of a clip belong to one take: something moves, and the scene stays the same."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stages.vision.faces import Face
from stages.vision.images import Rgb

Thumbnail = npt.NDArray[np.float32]
"""(32, 32, 3) float32 RGB in [0, 255], each cell the mean of its part of the picture."""

_CELLS = 32
_STILL_LEVELS = 6.0  # recoding a photograph changes a cell's mean by 2; a talking head changed it by 50 and more
_OTHER_LEVELS = 20.0
_OTHER_SHARE = 0.5
_LEAST_FREE = 0.1
_GAIN, _OFFSET = (0.6, 1.6), 40.0  # what automatic exposure may do


def thumbnail(picture: Rgb) -> Thumbnail:
    """A picture's means over a grid of cells.

    Args:
        picture: (H, W, 3) uint8 RGB.
    """
    small = cv2.resize(picture, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def free_of(faces: list[Face], width: int, height: int) -> npt.NDArray[np.bool_]:
    """Which of a thumbnail's cells no person covers: heads with their hair, and all below them, left out.

    Args:
        faces: In the picture's pixels.
        width: Of the picture, px.
        height: Of the picture, px.

    Returns:
        (32, 32) bool.
    """
    rows, columns = np.mgrid[:_CELLS, :_CELLS] + 0.5
    rows, columns = rows * height / _CELLS, columns * width / _CELLS
    free = np.ones((_CELLS, _CELLS), np.bool_)
    for face in faces:
        middle = face.centre[0]
        head = (np.abs(columns - middle) < 0.8 * face.height) & (rows > face.top - 0.6 * face.height)
        shoulders = (np.abs(columns - middle) < 1.5 * face.height) & (rows > face.bottom)
        free &= ~(head | shoulders)
    return free


def moves(one: Thumbnail, other: Thumbnail) -> bool:
    """Whether anything differs that recoding does not explain."""
    return float(np.abs(one - other).max()) > _STILL_LEVELS


def jumped(one: Face, other: Face) -> bool:
    """Whether a face is of quite another size or in quite another place."""
    taller, smaller = max(one.height, other.height), min(one.height, other.height)
    shift = np.hypot(one.centre[0] - other.centre[0], one.centre[1] - other.centre[1])
    return taller > 1.35 * smaller or float(shift) > 0.7 * smaller


def same_scene(one: Thumbnail, other: Thumbnail, free: npt.NDArray[np.bool_]) -> bool:
    """Whether two pictures show the same room, their exposure aside.

    Args:
        one: A picture.
        other: Another.
        free: (32, 32) bool, the cells to look at; all where it leaves too few.
    """
    if float(free.mean()) < _LEAST_FREE:
        free = np.ones_like(free)
    first, second = one[free].reshape(-1), other[free].reshape(-1)
    spread = float(np.var(first))
    gain = float(np.mean((first - first.mean()) * (second - second.mean()))) / spread if spread > 1.0 else 1.0
    gain = float(np.clip(gain, *_GAIN))
    offset = float(np.clip(second.mean() - gain * first.mean(), -_OFFSET, _OFFSET))
    difference = np.abs(gain * first + offset - second).reshape(-1, 3).max(axis=1)
    return float((difference > _OTHER_LEVELS).mean()) < _OTHER_SHARE

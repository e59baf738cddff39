"""Which part of the picture becomes the portrait: head and shoulders, as RAD-NeRF and AD-NeRF frame them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stages.vision.faces import Face

FACE_SHARE = 0.42
"""Forehead to chin over the portrait's side: the head with its hair then takes about half of it."""

FACE_LEVEL = 0.45
"""Height of the face's middle, from the top, over the portrait's side."""

WHOLE_SHARE = 0.8
"""A crop of at least this share of the picture's shorter side grows to all of it."""

Crop = tuple[int, int, int]
"""(x, y, side) px of the upright picture. May leave the picture when the head moves wider than it is high."""


def choose_crop(faces: Sequence[Face], width: int, height: int) -> Crop:
    """One square for the whole clip.

    Args:
        faces: The speaker's face in pictures spread over the clip, px of the upright picture.
        width: Of the upright picture, px.
        height: Of the upright picture, px.

    Returns:
        Even (x, y, side): the published framing around the median face, widened so that the head never leaves
        it, and held inside the picture where the head lets it.
    """
    tall = float(np.median([face.height for face in faces]))
    centre_x, centre_y = np.median([face.centre for face in faces], axis=0)
    heads = np.array([_head(face, width, height) for face in faces])
    low, high = heads[:, :2].min(axis=0), heads[:, 2:].max(axis=0)
    shorter = min(width, height)
    side = max(tall / FACE_SHARE, *(high - low))
    if side > WHOLE_SHARE * shorter:
        # Larger than the picture only where the moving head is.
        side = max(shorter, *(high - low))
    side_px = math.floor(side / 2) * 2
    x = _place(centre_x - side / 2, low[0], high[0], side_px, width)
    y = _place(centre_y - FACE_LEVEL * side, low[1], high[1], side_px, height)
    return x, y, side_px


def _head(face: Face, width: int, height: int) -> tuple[float, float, float, float]:
    """Bounds of the whole head, hair and ears included, as far as the picture shows it."""
    wide = face.right - face.left
    return (
        max(0.0, face.left - 0.2 * wide),
        max(0.0, face.top - 0.35 * face.height),
        min(float(width), face.right + 0.2 * wide),
        min(float(height), face.bottom + 0.1 * face.height),
    )


def _place(wanted: float, low: float, high: float, side: int, extent: int) -> int:
    """An even start of the crop: where it is wanted, shifted to hold [low, high], then into the picture."""
    start = min(max(wanted, high - side), low)
    start = min(max(start, 0.0), float(extent - side)) if side <= extent else (extent - side) / 2
    return math.floor(start / 2) * 2

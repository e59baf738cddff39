"""What stands behind the portrait: the clip's own background, a colour, or a picture that fills the frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stages.colours import Colour
from stages.errors import BadInput
from stages.training_data import resize
from stages.vision.images import Rgb, decode_rgb


def clip_background(path: Path, size_px: int) -> Rgb:
    """The subject's static background.

    Args:
        path: The picture that preparation made.
        size_px: Side that is wanted.

    Returns:
        (S, S, 3) uint8 RGB.

    Raises:
        BadInput: It is missing or damaged.
    """
    return resize(decode_rgb(_read(path), path), size_px)


def plain_background(colour: Colour, size_px: int) -> Rgb:
    """One colour, (S, S, 3) uint8 RGB."""
    return np.full((size_px, size_px, 3), colour, np.uint8)


def picture_background(path: Path, size_px: int) -> Rgb:
    """A picture, scaled to cover the frame and cut at its middle; upright as its EXIF data tell.

    Args:
        path: The user's picture.
        size_px: Side that is wanted.

    Returns:
        (S, S, 3) uint8 RGB.

    Raises:
        BadInput: It is missing or no picture.
    """
    data = _read(path)
    try:
        picture = decode_rgb(data, path)
    except (BadInput, cv2.error) as error:
        raise BadInput(f"{path} is no picture that can be used", hint="give a PNG or JPEG of ordinary size") from error
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(np.ascontiguousarray(picture[top : top + side, left : left + side]), size_px)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}", hint="check its name") from error
    if not data:
        raise BadInput(f"{path} is empty", hint="give another picture")
    return data

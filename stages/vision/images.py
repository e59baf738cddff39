"""Pictures as bytes: JPEG and PNG, RGB on our side of the door."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from stages.errors import DELETE_AND_REPEAT, BadInput, RadnerfError

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

Grey = npt.NDArray[np.uint8]
"""(H, W) uint8: a mask, an alpha or class ids."""


def encode_jpeg(rgb: Rgb, quality: int = 95) -> bytes:
    """A picture as JPEG with full colour resolution (4:4:4).

    Args:
        rgb: (H, W, 3) uint8 RGB.
        quality: 1 to 100.
    """
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _encode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), flags)


def encode_png(pixels: Rgb | Grey) -> bytes:
    """A picture, mask or class map as PNG, without loss.

    Args:
        pixels: (H, W, 3) uint8 RGB or (H, W) uint8.
    """
    return _encode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels, [])


def decode_rgb(data: bytes, source: Path) -> Rgb:
    """The (H, W, 3) uint8 RGB picture in a JPEG or PNG, upright as its EXIF data tell.

    Args:
        data: JPEG or PNG.
        source: The file that it came from, for the message.

    Raises:
        BadInput: The bytes hold no picture.
    """
    return np.asarray(cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR, source), cv2.COLOR_BGR2RGB), np.uint8)


def decode_grey(data: bytes, source: Path) -> Grey:
    """The (H, W) uint8 mask or class map in a PNG; arguments and errors as for ``decode_rgb``."""
    return _decode(data, cv2.IMREAD_GRAYSCALE, source)


def _encode(suffix: str, pixels: MatLike, flags: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, pixels, flags)
    if not done:
        raise RadnerfError(f"a {pixels.shape} picture cannot be encoded as {suffix}")
    return bytes(data)


def _decode(data: bytes, mode: int, source: Path) -> npt.NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), mode) if data else None
    except cv2.error:
        # Its header claims more pixels than are read.
        pixels = None
    if pixels is None:
        raise BadInput(f"{source} holds a damaged picture", hint=DELETE_AND_REPEAT)
    return np.asarray(pixels, np.uint8)

"""How far a body has swayed between two pictures."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from stages.vision.push_pull import fill

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 1e-3)
_SMOOTHING_PX = 5
_LEAST_AREA = 0.12  # share of the picture below which there is too little to go by: a neck alone turns with the head
_LEAST_CORRELATION = 0.8
_FARTHEST = 0.06  # of the picture's side


def body_shift(template: Float32, grey: Float32, mask: UInt8) -> Float32:
    """The translation that brings a template onto a picture, by maximising their correlation (ECC).

    Evangelidis, Psarakis, PAMI 2008; it does not mind a change of brightness.

    Args:
        template: (S, S) float32, luminance.
        grey: (S, S) float32, luminance of the picture.
        mask: (S, S) uint8, 1 where the picture shows the body.

    Returns:
        (2,) float32, x and y in fractions of the side; zero where nothing certain can be said.
    """
    size = len(grey)
    still = np.zeros(2, np.float32)
    if mask.mean() < _LEAST_AREA:
        return still
    # Smoothing must not mix into the body what is beside it, least of all the head's edge.
    body = fill(grey[:, :, None], mask.astype(np.float32))[:, :, 0]
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8))
    warp = np.eye(2, 3, dtype=np.float32)
    try:
        correlation, found = cv2.findTransformECC(
            template, body, warp, cv2.MOTION_TRANSLATION, _CRITERIA, inner, _SMOOTHING_PX
        )  # fmt: skip
    except cv2.error:
        return still  # no texture to hold on to
    shift = np.asarray(found[:, 2], np.float32) / size
    certain = correlation >= _LEAST_CORRELATION and np.abs(shift).max() <= _FARTHEST
    return shift if certain else still


def shifted(picture: npt.NDArray[Scalar], shift: Float32, interpolation: int = cv2.INTER_LINEAR) -> npt.NDArray[Scalar]:
    """A picture moved by a translation in fractions of its side; what comes in repeats the edge.

    Args:
        picture: (H, W) or (H, W, C).
        shift: (2,) float32, x and y.
        interpolation: ``cv2.INTER_…``; nearest for class ids.
    """
    size = picture.shape[0]
    matrix = np.array([[1, 0, shift[0] * size], [0, 1, shift[1] * size]], np.float32)
    moved: npt.NDArray[Scalar] = cv2.warpAffine(
        picture, matrix, picture.shape[1::-1], flags=interpolation, borderMode=cv2.BORDER_REPLICATE
    )
    return moved

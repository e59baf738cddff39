"""The still scene behind the person: seen pixels from a temporal median, the rest filled in."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stages.vision.median import masked_median
from stages.vision.push_pull import fill

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_HALO = 1 / 40  # of the frame's side, kept clear around the person: hair, soft edges, shadow
_LEAST_FRAMES = 3
_LEAST_SHARE = 0.08  # of the frames; a pixel seen less often may hold what moved there
_FILL_SIZE_PX = 256
_SWEEPS = 24
_END_PX = 3  # of the size at which the scene is filled
_STREAK_PX = 6.0  # of that size; what is lower than this and on one side only fades out
_FADE = 0.04  # of the width
_SIDEWAYS = 3.0  # shelves, horizons and walls run sideways more often than not


def still_scene(pictures: UInt8, people: npt.NDArray[np.bool_]) -> tuple[UInt8, Float32]:
    """The scene without the person.

    Args:
        pictures: (N, H, W, 3) uint8, frames spread over the clip.
        people: (N, H, W) bool, where the person is.

    Returns:
        (H, W, 3) uint8 scene and (H, W) float32 in [0, 1], 1 where it was seen and 0 where it is made up.
    """
    reach = max(1, round(_HALO * people.shape[1]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    free = np.stack([cv2.dilate(mask.astype(np.uint8), kernel) == 0 for mask in people])
    median, count = masked_median(pictures, free)
    least = min(len(pictures), max(_LEAST_FRAMES, _LEAST_SHARE * len(pictures)))
    seen = (count >= least).astype(np.float32)
    if seen.all():
        return median, seen
    return np.where(seen[:, :, None] > 0, median, fill_scene(median, seen)), seen


def fill_scene(scene: UInt8, seen: Float32) -> UInt8:
    """Make up the part of the scene that was never seen, from what is around it.

    Rows are carried across from both sides, as the edges of shelves, frames, horizons and walls mostly run; a
    hole that reaches the frame's side is filled smoothly. It is a guess, meant not to be noticed.

    Args:
        scene: (H, W, 3) uint8.
        seen: (H, W) float32, 1 where the scene is known.

    Returns:
        (H, W, 3) uint8; what was seen is as it was but for a rounding.
    """
    height, width = seen.shape
    factor = min(1.0, _FILL_SIZE_PX / height)
    size = (max(2, round(width * factor)), max(2, round(height * factor)))
    weight = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    colour = scene.astype(np.float32) * seen[:, :, None]
    small = cv2.resize(colour, size, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-6)[:, :, None]
    known = (weight > 0.5).astype(np.float32)
    smooth = fill(small.astype(np.float32), known, _SWEEPS, _SIDEWAYS)
    rows, sure = _carry_rows(small.astype(np.float32), known)
    made = cv2.resize(sure * rows + (1 - sure) * smooth, (width, height), interpolation=cv2.INTER_CUBIC)
    # What made-up and seen disagree on at the seam is spread over the hole, so that no edge is left.
    error = fill((colour - made) * seen[:, :, None], seen)
    return np.asarray(np.round(np.clip(made + error, 0, 255)), np.uint8)


def _carry_rows(values: Float32, known: Float32) -> tuple[Float32, Float32]:
    """Every row's unknown stretches as a ramp between the colours at both ends, and how far to trust it."""
    height, width = known.shape
    column = np.arange(width)[None, :]
    left = np.maximum.accumulate(np.where(known > 0, column, -1), axis=1)
    right = np.minimum.accumulate(np.where(known > 0, column, width)[:, ::-1], axis=1)[:, ::-1]
    # An end's colour is averaged over a few pixels, or every speck would become a streak.
    share = np.maximum(cv2.blur(known, (_END_PX, 1)), 1e-6)[:, :, None]
    ends = cv2.blur(values * known[:, :, None], (_END_PX, 1)) / share
    at = np.arange(height)[:, None]
    from_left, from_right = ends[at, np.clip(left, 0, None)], ends[at, np.clip(right, None, width - 1)]
    base_left, base_right = (
        cv2.GaussianBlur(side, (0, 0), 1e-3, sigmaY=_STREAK_PX) for side in (from_left, from_right)
    )
    detail_left, detail_right = from_left - base_left, from_right - base_right
    # An edge that both sides show runs across behind the person; what one side shows soon fades out.
    agree = np.minimum(np.abs(detail_left), np.abs(detail_right)) * (np.sign(detail_left) == np.sign(detail_right))
    common = np.sign(detail_left) * agree
    fade_left = np.exp(-np.maximum(column - left, 0) / (_FADE * width))[:, :, None]
    fade_right = np.exp(-np.maximum(right - column, 0) / (_FADE * width))[:, :, None]
    ramp = ((column - left) / np.maximum(right - left, 1))[:, :, None]
    rows = base_left * (1 - ramp) + base_right * ramp + common
    rows += (detail_left - common) * fade_left * (1 - ramp) + (detail_right - common) * fade_right * ramp
    sure = ((left >= 0) & (right < width)).astype(np.float32)
    fade = cv2.GaussianBlur(sure, (0, 0), 0.03 * height) * sure
    return rows.astype(np.float32), np.clip(2 * fade - 1, 0, 1)[:, :, None].astype(np.float32)

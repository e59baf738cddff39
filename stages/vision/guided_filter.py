"""Guided filtering: masks that follow the edges of the picture (He, Sun, Tang, PAMI 2013; He, Sun 2015)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def guided_upsample(guide: Float32, small_guide: Float32, values: Float32, radius_px: int, epsilon: float) -> Float32:
    """Filter values at a small size and bring them to the guide's size along the guide's edges.

    The "fast guided filter": the linear coefficients are found at the small size, enlarged, and applied to
    the full guide. It is linear in the values and keeps constants, so shares that sum to 1 still do.

    Args:
        guide: (H, W) float32 in [0, 1], the picture's luminance.
        small_guide: (h, w) float32 in [0, 1], the same, small.
        values: (h, w, C) float32.
        radius_px: Half side of the window, in pixels of the small size.
        epsilon: Variance of the guide below which the values are merely averaged.

    Returns:
        (H, W, C) float32; may leave the range of the values slightly.
    """
    window = (2 * radius_px + 1, 2 * radius_px + 1)
    size = (guide.shape[1], guide.shape[0])
    mean_guide = _box(small_guide, window)
    gain = 1 / (_box(small_guide * small_guide, window) - mean_guide * mean_guide + np.float32(epsilon))
    filtered = []
    for plane in cv2.split(values):
        mean = _box(plane, window)
        slope = (_box(small_guide * plane, window) - mean_guide * mean) * gain
        offset = mean - slope * mean_guide
        slope, offset = _box(slope, window), _box(offset, window)
        filtered.append(cv2.resize(slope, size) * guide + cv2.resize(offset, size))
    return np.asarray(cv2.merge(filtered), np.float32).reshape(*guide.shape, -1)


def _box(values: Float32, window: tuple[int, int]) -> Float32:
    averaged: Float32 = cv2.blur(values, window, borderType=cv2.BORDER_REFLECT_101)
    return averaged

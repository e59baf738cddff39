"""Filling what is unknown smoothly from what is known around it, however large the hole (push-pull and relaxation).

Gortler et al., The Lumigraph, 1996, section 3.4, for the pyramid; the relaxation makes it harmonic.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

_SMALLEST_PX = 2


def fill(values: Float32, known: Float32, sweeps: int = 0, sideways: float = 1.0) -> Float32:
    """Extend values to where they are unknown.

    Args:
        values: (H, W, C) float32; anything finite where unknown.
        known: (H, W) float32 in [0, 1], how much a value counts.
        sweeps: Rounds of relaxation towards the harmonic function, at each level of the pyramid.
        sideways: How much more a neighbour to the side counts than one above or below.

    Returns:
        (H, W, C) float32; where ``known`` is 1 the values themselves. Zero where nothing is known at all.
    """
    height, width = known.shape
    weighted = values * known[:, :, None]
    if min(height, width) <= _SMALLEST_PX:
        total = float(known.sum())
        mean = weighted.sum(axis=(0, 1)) / total if total > 0 else np.zeros(values.shape[2], np.float32)
        coarse_fill = np.broadcast_to(mean.astype(np.float32), values.shape)
    else:
        size = ((width + 1) // 2, (height + 1) // 2)
        share = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
        summed = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
        coarse = summed / np.maximum(share, 1e-6)[:, :, None]
        coarse = fill(coarse.astype(np.float32), np.minimum(4 * share, 1).astype(np.float32), sweeps, sideways)
        coarse_fill = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(values.shape)
    filled = weighted + (1 - known)[:, :, None] * coarse_fill
    return _relax(filled, values, known, sweeps, sideways) if sweeps else filled.astype(np.float32)


def _relax(filled: Float32, values: Float32, known: Float32, sweeps: int, sideways: float) -> Float32:
    beside, above = sideways / (2 * sideways + 2), 1 / (2 * sideways + 2)
    kernel = np.array([[0, above, 0], [beside, 0, beside], [0, above, 0]], np.float32)
    kept, free = values * known[:, :, None], (1 - known)[:, :, None]
    for _ in range(sweeps):
        neighbours = cv2.filter2D(filled, -1, kernel, borderType=cv2.BORDER_REPLICATE).reshape(filled.shape)
        filled = kept + free * neighbours
    return filled.astype(np.float32)

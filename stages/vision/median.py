"""What stands still behind somebody who moves: a temporal median that skips masked pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]

_STRIP_ROWS = 16


def masked_median(pictures: UInt8, valid: npt.NDArray[np.bool_]) -> tuple[UInt8, UInt16]:
    """The median over time of the pixels that are valid, and how many there were.

    With an even number the lower of the two middle values is taken, so that only values occur that were seen.

    Args:
        pictures: (N, H, W, C) uint8.
        valid: (N, H, W) bool.

    Returns:
        (H, W, C) uint8 median, 0 where nothing is valid, and (H, W) uint16 count of valid pictures.
    """
    count = valid.sum(axis=0).astype(np.uint16)
    median = np.zeros(pictures.shape[1:], np.uint8)
    for top in range(0, pictures.shape[1], _STRIP_ROWS):
        strip = slice(top, top + _STRIP_ROWS)
        # Time goes last, so that sorting walks through memory in order; what is masked sorts to the end.
        values = np.where(valid[:, strip, :, None], pictures[:, strip], 255).transpose(1, 2, 3, 0)
        ordered = np.sort(np.ascontiguousarray(values), axis=-1)
        middle = (np.maximum(count[strip].astype(np.intp), 1) - 1) // 2
        chosen = np.take_along_axis(ordered, middle[:, :, None, None], axis=-1)[..., 0]
        median[strip] = np.where(count[strip, :, None] > 0, chosen, 0)
    return median, count

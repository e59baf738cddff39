"""Agreement over time: a pixel that looks the same in neighbouring frames is given the same class."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Moment:
    """Class shares of one frame and the small picture that they belong to.

    Attributes:
        index: Frame number.
        rgb: (S, S, 3) uint8.
        shares: (S, S, C) float32, non-negative, sum 1.
    """

    index: int
    rgb: UInt8
    shares: Float32


def blend_over_time(moments: Iterable[Moment], radius: int, tolerance: float = 10.0) -> Iterator[Moment]:
    """A bilateral filter along time, looking both ways.

    Each pixel is averaged with the same pixel of up to ``radius`` frames before and after, weighted by how
    little its colour changed. What frame t becomes depends on frames t - radius .. t + radius alone, so that
    a clip may be cut into chunks that overlap by ``radius``.

    Args:
        moments: Consecutive frames.
        radius: Frames to look back and ahead.
        tolerance: Change of colour, in 8-bit levels, at which the weight has fallen to 0.6.

    Yields:
        Every frame, in order, with its shares blended.
    """
    falloff = np.exp(-0.5 * (np.arange(256) / tolerance) ** 2).astype(np.float32)
    alike: dict[tuple[int, int], Float32] = {}
    window: deque[Moment] = deque()
    waiting: deque[Moment] = deque()
    for moment in moments:
        window.append(moment)
        waiting.append(moment)
        while waiting and waiting[0].index + radius <= moment.index:
            yield _blend(waiting.popleft(), window, radius, falloff, alike)
        while window and waiting and window[0].index < waiting[0].index - radius:
            window.popleft()
    while waiting:
        yield _blend(waiting.popleft(), window, radius, falloff, alike)


def change_of_colour(one: UInt8, other: UInt8) -> UInt8:
    """(H, W) uint8, the largest difference over the channels of two (H, W, 3) uint8 pictures, noise averaged out."""
    red, green, blue = cv2.split(cv2.blur(cv2.absdiff(one, other), (3, 3)))
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def _blend(
    centre: Moment, window: Iterable[Moment], radius: int, falloff: Float32, alike: dict[tuple[int, int], Float32]
) -> Moment:
    """One frame's average; ``alike`` keeps how like two frames are until the later one has had its turn."""
    total = list(cv2.split(centre.shares))
    weights = np.ones(centre.rgb.shape[:2], np.float32)
    for other in window:
        lag = abs(other.index - centre.index)
        if not 0 < lag <= radius:
            continue
        if other.index < centre.index:
            likeness = alike.pop((other.index, centre.index))
        else:
            likeness = cv2.LUT(change_of_colour(centre.rgb, other.rgb), falloff)
            alike[centre.index, other.index] = likeness
        weight = likeness * np.float32(1 - lag / (radius + 1))
        for plane, values in zip(total, cv2.split(other.shares), strict=True):
            cv2.accumulateProduct(weight, values, plane)
        weights += weight
    scale = 1 / weights
    return Moment(centre.index, centre.rgb, np.asarray(cv2.merge([plane * scale for plane in total]), np.float32))

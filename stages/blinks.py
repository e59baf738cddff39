"""Blinks for new speech, made at a person's own rate and in the shape of that person's own blinks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from stages.formats import FPS
from stages.vision.face_measures import find_blinks

Floats = NDArray[np.float64]
Reals = NDArray[np.float32] | NDArray[np.float64]

QUIET_START_S = 0.3
"""No blink begins earlier: a video whose first picture is a blink makes a poor still."""

LEAST_GAP_S = 0.12
"""From the end of one blink to the beginning of the next, at least."""

_RATE_PRIOR = (3.0, 12.0)  # blinks and seconds that everybody's rate is taken to rest on: 15 a minute
_SHAPE_PRIOR = 1.0  # blinks that everybody's shape counts as
_SPREAD_PRIOR = 4.0  # intervals that everybody's spread counts as
_BEFORE, _AFTER = 5, 11  # frames of a blink around its deepest
_HALF_OPENED = 1 - 0.5**0.5  # share of the opening's time after which the lid is half way
_STEADY_FRAMES = 2.0
_BASE_RANGE = (0.8, 1.1)  # of the clip's usual openness


@dataclass(frozen=True)
class BlinkStyle:
    """How often and how somebody blinks.

    Attributes:
        rate_per_min: Blinks a minute.
        spread: Standard deviation of the logarithm of the time from one blink to the next.
        closing_s, closed_s, opening_s: How long the lids take to close, stay closed, and open again.
        depth: Share of the openness that a blink takes away, as measured on the clip: lashes and lids never let it
            come to 1.
    """

    rate_per_min: float = 15.0
    spread: float = 0.5
    closing_s: float = 0.1
    closed_s: float = 0.04
    opening_s: float = 0.2
    depth: float = 0.8

    @property
    def duration_s(self) -> float:
        """From the first movement of the lids to the last."""
        return self.closing_s + self.closed_s + self.opening_s


USUAL = BlinkStyle()
"""What people do in conversation (Bentivoglio et al. 1997: 17 a minute at rest, 26 talking, 5 reading aloud)."""


def learn_style(eye_open: Reals, tracked: NDArray[np.bool_]) -> BlinkStyle:
    """A person's style from a clip; the less it shows, the nearer to what people usually do.

    Args:
        eye_open: (N,) at 25 frames a second.
        tracked: (N,) bool, the frames in which the eyes were seen.

    Returns:
        The style; ``USUAL`` but for the rate where no blink was seen.
    """
    blinks = find_blinks(eye_open)
    blinks = blinks[tracked[blinks]]
    prior, over_s = _RATE_PRIOR
    rate = 60.0 * (len(blinks) + prior) / (float(tracked.sum()) / FPS + over_s)
    shapes = [shape for blink in blinks.tolist() if (shape := _shape(eye_open, blink)) is not None]
    return BlinkStyle(rate, _spread(blinks), *_mean_shape(shapes))


def _spread(blinks: NDArray[np.int64]) -> float:
    if len(blinks) < 3:
        return USUAL.spread
    logs = np.log(np.diff(blinks) / FPS)
    own = float(logs.var(ddof=1))
    return float(np.sqrt((len(logs) * own + _SPREAD_PRIOR * USUAL.spread**2) / (len(logs) + _SPREAD_PRIOR)))


def _shape(eye_open: Reals, blink: int) -> tuple[float, float, float] | None:
    """How long one blink takes to close and to open, s, and its depth; None where the clip cuts it off."""
    first, last = blink - _BEFORE, blink + _AFTER
    if first < 0 or last > len(eye_open):
        return None
    around = eye_open[first:last].astype(np.float64)
    usual = float(np.median(np.concatenate([around[:3], around[-3:]])))
    closed = np.clip(1 - around / max(usual, 1e-3), 0, 1)
    depth = float(closed[_BEFORE])
    if depth <= 0:
        return None
    level = closed / depth
    to_half = _crossing(level[_BEFORE::-1]), _crossing(level[_BEFORE:])
    if to_half[0] is None or to_half[1] is None:
        return None
    half = USUAL.closed_s / 2
    # The lids close evenly and open ever more slowly: see ``closures``.
    closing = float(np.clip(2 * (to_half[0] / FPS - half), 0.04, 0.25))
    opening = float(np.clip((to_half[1] / FPS - half) / _HALF_OPENED, 0.08, 0.5))
    return closing, opening, depth


def _crossing(level: Floats) -> float | None:
    """Frames until a curve that begins at 1 has fallen to a half; None when it does not."""
    below = np.flatnonzero(level < 0.5)
    if len(below) == 0:
        return None
    after = int(below[0])
    return after - 1 + float((level[after - 1] - 0.5) / (level[after - 1] - level[after]))


def _mean_shape(shapes: list[tuple[float, float, float]]) -> tuple[float, float, float, float]:
    """Closing, closed and opening times and depth, everybody's counting as one blink more."""
    usual = (USUAL.closing_s, USUAL.opening_s, USUAL.depth)
    if not shapes:
        return usual[0], USUAL.closed_s, *usual[1:]
    share = len(shapes) / (len(shapes) + _SHAPE_PRIOR)
    own = np.median(np.array(shapes), axis=0)
    closing, opening, depth = (share * own + (1 - share) * np.array(usual)).tolist()
    return closing, USUAL.closed_s, opening, depth


def blink_times(style: BlinkStyle, seed: int) -> Iterator[float]:
    """When blinks begin, s, ascending and without end; see ``draw_blinks``."""
    random = np.random.default_rng(seed)
    mean_s = 60.0 / style.rate_per_min
    least_s = style.duration_s + LEAST_GAP_S
    # The video begins somewhere between two blinks.
    at_s = QUIET_START_S + random.uniform(0, 1) * random.lognormal(np.log(mean_s) - style.spread**2 / 2, style.spread)
    while True:
        yield at_s
        at_s += max(least_s, random.lognormal(np.log(mean_s) - style.spread**2 / 2, style.spread))


def draw_blinks(style: BlinkStyle, frames: int, seed: int) -> Floats:
    """When blinks begin in a video.

    The times between them are lognormal. None overlap, none begins within the first 0.3 s, and none is cut off by
    the end.

    Args:
        style: How often.
        frames: Of the video.
        seed: Of the times; the same seed gives the same times.

    Returns:
        (B,) seconds, ascending.
    """
    ends_s = frames / FPS - style.duration_s
    return np.array(list(itertools.takewhile(lambda at_s: at_s < ends_s, blink_times(style, seed))))


def closures(style: BlinkStyle, begins_s: Floats, frames: int) -> Floats:
    """How far blinks close the eyes in each frame of a video.

    The lids close along a cubic and open fast, then ever more slowly.

    Args:
        style: Shape and depth.
        begins_s: (B,) seconds.
        frames: Of the video.

    Returns:
        (frames,) in [0, depth].
    """
    closed = np.zeros(frames)
    for begin_s in begins_s.tolist():
        first = max(int(begin_s * FPS), 0)
        last = min(int((begin_s + style.duration_s) * FPS) + 2, frames)
        since = np.arange(first, last) / FPS - begin_s
        down = np.clip(since / style.closing_s, 0, 1)
        up = np.clip((since - style.closing_s - style.closed_s) / style.opening_s, 0, 1)
        closed[first:last] = np.maximum(closed[first:last], style.depth * down**2 * (3 - 2 * down) * (1 - up) ** 2)
    return closed


def without_blinks(eye_open: Reals) -> Floats:
    """A clip's openness between blinks: blinks bridged, the measuring's noise and squints taken off.

    Args:
        eye_open: (N,) at 25 frames a second.

    Returns:
        (N,) >= 0.
    """
    values = eye_open.astype(np.float64)
    kept = np.ones(len(values), dtype=bool)
    for blink in find_blinks(values).tolist():
        kept[max(blink - _BEFORE, 0) : blink + _AFTER] = False
    if not kept.any():
        return np.full(len(values), float(np.percentile(values, 80)))
    usual = float(np.median(values[kept]))
    bridged = np.interp(np.arange(len(values)), np.flatnonzero(kept), values[kept])
    steady: Floats = gaussian_filter1d(bridged, _STEADY_FRAMES, mode="nearest")
    return np.clip(steady, _BASE_RANGE[0] * usual, _BASE_RANGE[1] * usual)

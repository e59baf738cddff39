"""How a head moves while nobody knows how long: the clip's eased loop and blinks, a frame at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from radnerf.portrait import Pose
from stages.blinks import BlinkStyle, blink_times, closures, without_blinks
from stages.formats import FPS
from stages.motion import CALM, Motion, eased_ping_pong, restful_start

_EXPECTED_FRAMES = 20 * FPS
_RISE_FRAMES = 8.0  # to set off again, and
_FALL_FRAMES = 25.0  # to calm down: a pause between two words passes unnoticed


class EndlessPerformance:
    """What a portrait does frame by frame, its lips apart: ``motion.perform`` without an end.

    Memory and time a frame do not grow. The same motion, style, seed and activity give the same frames.
    """

    def __init__(self, motion: Motion, style: BlinkStyle, seed: int) -> None:
        """Stand at frame 0.

        Args:
            motion: What to draw on.
            style: How the subject blinks.
            seed: Of the blinks.
        """
        self._motion, self._style = motion, style
        self._start = restful_start(motion, float(_EXPECTED_FRAMES))
        self._base = without_blinks(motion.eye_open)
        self._times: Iterator[float] = blink_times(style, seed)
        self._blink_s = next(self._times)
        self._speed = CALM
        self._travelled = 0.0
        self.frame = 0
        """The number of the frame that ``pose`` and ``eye`` are of."""

    def advance(self, activity: float) -> None:
        """Go on to the next frame.

        Args:
            activity: How much of this frame is speech, in [0, 1]; the head calms down where none is.
        """
        wanted = CALM + (1 - CALM) * activity
        self._speed += (wanted - self._speed) / (_RISE_FRAMES if wanted > self._speed else _FALL_FRAMES)
        self._travelled += self._speed
        self.frame += 1
        while self._blink_s + self._style.duration_s < self.frame / FPS:
            self._blink_s = next(self._times)

    def pose(self) -> Pose:
        """Where the head is."""
        return self._motion.pose(self._place())

    def eye(self) -> float:
        """How open the eyes are."""
        at = np.arange(len(self._base))
        closed = closures(self._style, np.array([self._blink_s - self.frame / FPS]), 1)[0]
        return float(np.interp(self._place(), at, self._base) * (1 - closed))

    def _place(self) -> float:
        return float(eased_ping_pong(np.array([self._travelled]), len(self._base), self._start)[0])

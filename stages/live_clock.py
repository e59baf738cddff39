"""Time as the sound has it: which picture is due is counted in samples, never read off a clock."""

from __future__ import annotations

import collections
from dataclasses import dataclass

import numpy as np

from stages.live_hearing import FRAME_SAMPLES

MOST_BEHIND = 4
"""Frames that may be due and not drawn before some are left out: sound comes in pieces of up to a tenth of a second."""

_LONGEST_MS = 20_000


@dataclass(frozen=True)
class Due:
    """A picture that is to be drawn now.

    Attributes:
        frame: Its number: it shows the instant of sample ``640 * frame``.
        skipped: Frames before it that are left out; the picture before them stands for them.
    """

    frame: int
    skipped: int


class FrameClock:
    """Decides which frame is drawn next, and remembers when its sound came."""

    def __init__(self, *, drops: bool) -> None:
        """Begin with frame 0.

        Args:
            drops: Whether frames may be left out.
        """
        self._drops = drops
        self._arrivals: collections.deque[tuple[int, float]] = collections.deque()
        self.samples = 0
        """How many have come."""
        self.next_frame = 0
        """The first frame that was neither drawn nor left out."""

    def hear(self, samples: int, at_s: float) -> None:
        """Note that samples have come.

        Args:
            samples: How many.
            at_s: When the last of them did.
        """
        self.samples += samples
        self._arrivals.append((self.samples, at_s))

    def due(self, ready: int) -> Due | None:
        """The frame to draw, which counts as drawn from now on.

        Args:
            ready: Frames before this one can be drawn.
        """
        waiting = ready - self.next_frame
        if waiting <= 0:
            return None
        skipped = waiting - 1 if self._drops and waiting > MOST_BEHIND else 0
        frame = self.next_frame + skipped
        self.next_frame = frame + 1
        return Due(frame, skipped)

    def arrived_s(self, frame: int) -> float:
        """When a frame's first sample came; frames are asked for in ascending order."""
        while len(self._arrivals) > 1 and self._arrivals[0][0] <= frame * FRAME_SAMPLES:
            self._arrivals.popleft()
        return self._arrivals[0][1]


class Delays:
    """How long pictures took, counted in milliseconds: memory does not grow."""

    def __init__(self) -> None:
        """Know none."""
        self._counts = np.zeros(_LONGEST_MS, np.int64)

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[min(max(round(1000 * seconds), 0), _LONGEST_MS - 1)] += 1

    def quantile_ms(self, share: float) -> int:
        """The delay that this share of the pictures did not exceed; 0 while there is none."""
        total = int(self._counts.sum())
        if not total:
            return 0
        return int(np.searchsorted(np.cumsum(self._counts), share * total))

"""How large pictures may be so that enough of them come a second: learnt from how long the last ones took."""

from __future__ import annotations

SIZES_PX = (64, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024)
"""Sides that are chosen from."""

LEAST_FPS = 12.0
"""Frames a second that a moving picture is to have."""

_FORGETS = 0.3  # how much a new time counts against what was known
_ROOM = 0.75  # of the time for a frame that a larger size may take, so that sizes do not go to and fro


class Pace:
    """Chooses a size; the time of a frame is taken to grow with its pixels."""

    def __init__(self, first_px: int, most_px: int, least_fps: float = LEAST_FPS) -> None:
        """Know nothing yet.

        Args:
            first_px: Size of the first picture.
            most_px: No picture becomes larger.
            least_fps: Frames a second to keep.
        """
        self.most_px = most_px
        self._budget_ms = 1000.0 / least_fps
        self._size_px = min(first_px, most_px)
        self._ms_per_px: float | None = None

    def took(self, size_px: int, milliseconds: float) -> None:
        """Hear how long a picture took, from its order to its bytes."""
        now = milliseconds / size_px**2
        if self._ms_per_px is None:
            self._ms_per_px = now
        else:
            self._ms_per_px += _FORGETS * (now - self._ms_per_px)

    def expected_ms(self, size_px: int) -> float:
        """How long a picture of this size will take; 0 while nobody knows."""
        return 0.0 if self._ms_per_px is None else self._ms_per_px * size_px**2

    def size_px(self) -> int:
        """The size of the next moving picture: the largest that keeps pace, one step at a time."""
        sizes = [size for size in SIZES_PX if size <= self.most_px] or [self.most_px]
        if self._size_px not in sizes:
            self._size_px = max((size for size in sizes if size <= self._size_px), default=sizes[0])
        place = sizes.index(self._size_px)
        if self._ms_per_px is None:
            return self._size_px
        while place and self.expected_ms(sizes[place]) > self._budget_ms:
            place -= 1
        if place + 1 < len(sizes) and self.expected_ms(sizes[place + 1]) < _ROOM * self._budget_ms:
            place += 1
        self._size_px = sizes[place]
        return self._size_px

"""What to draw next: the newest wish, never a queue of them; as large as keeps up, larger once nothing moves."""

from __future__ import annotations

from dataclasses import dataclass

from stages.formats import FPS
from stages.window.controls import Controls
from stages.window.pace import SIZES_PX, Pace

IN_FLIGHT = 2
"""Pictures that may be on their way to the page."""

REST_S = 0.25
"""How long nothing changes before the picture is drawn once more, as large as it may be."""

_LATE_S = 0.015  # from the picture's bytes to the screen


@dataclass(frozen=True)
class Order:
    """A picture to be drawn.

    Attributes:
        number: Counts pictures.
        controls: What is wanted.
        frame: Of the speech; None where none is chosen.
        idle_frame: Of the movement without an end.
        size_px: Side.
        moving: Whether more will follow by themselves.
        final: Whether it is as large as it may be.
    """

    number: int
    controls: Controls
    frame: int | None
    idle_frame: int
    size_px: int
    moving: bool
    final: bool


class Director:
    """Decides; it knows neither sockets nor clocks: every call says what time it is, in seconds."""

    def __init__(self, still_px: int) -> None:
        """Wait for the first wish.

        Args:
            still_px: Side of pictures that rest, where nobody asked for one.
        """
        self._still_px = still_px
        self._pace = Pace(min(128, still_px), still_px)
        self._controls = Controls()
        self._speech_ready = False
        self._anchor = (0.0, 0.0)
        self._changed, self._final = False, True
        self._changed_at = 0.0
        self._last_frame: int | None = None
        self._idle_at: float | None = None
        self._idle_frame = 0
        self._number = 0
        self._waiting_for: list[int] = []

    def want(self, controls: Controls, now: float, *, speech_ready: bool) -> None:
        """Hear a new wish.

        Args:
            controls: The wish.
            now: The time.
            speech_ready: Whether the chosen speech can be drawn already.
        """
        if controls.size_px != self._controls.size_px:
            most = controls.size_px or self._still_px
            self._pace.most_px = max(most, SIZES_PX[0]) if not controls.size_px else most
        self._controls, self._speech_ready = controls, speech_ready
        self._anchor = (controls.time_s, now)
        self._changed, self._changed_at, self._final = True, now, False

    def shown(self, number: int, time_s: float, now: float) -> None:
        """Hear that a picture is on the screen, and where the sound was then."""
        self._waiting_for = [waiting for waiting in self._waiting_for if waiting > number]
        if self._playing:
            self._anchor = (time_s, now)

    def took(self, order: Order, seconds: float) -> None:
        """Hear how long a picture took."""
        self._pace.took(order.size_px, 1000 * seconds)

    def next(self, now: float) -> Order | float | None:
        """What to do.

        Returns:
            An order to draw; seconds after which to ask again; None to wait until something is heard.
        """
        if len(self._waiting_for) >= IN_FLIGHT:
            return None
        moving = self._playing or self._alive
        idle_frame, until_idle = self._idle(now)
        frame, until_frame = self._frame(now)
        if moving:
            due = frame != self._last_frame if self._playing else until_idle is None
            if not (due or self._changed):
                return until_frame if self._playing else until_idle
            return self._order(frame, idle_frame, self._pace.size_px(), moving=True)
        if self._changed:
            return self._order(frame, idle_frame, self._pace.size_px(), moving=False)
        if self._final:
            return None
        left = self._changed_at + REST_S - now
        return left if left > 0 else self._order(frame, idle_frame, self._pace.most_px, moving=False)

    @property
    def _playing(self) -> bool:
        return self._controls.playing and self._speech_ready

    @property
    def _alive(self) -> bool:
        return self._controls.alive and not (self._controls.speech is not None and self._speech_ready)

    def _frame(self, now: float) -> tuple[int | None, float]:
        """The frame of the speech that will be heard when a picture begun now is seen, and how long until the next."""
        if self._controls.speech is None or not self._speech_ready:
            return None, 0.0
        time_s, told_at = self._anchor
        if self._playing:
            time_s += now - told_at + self._pace.expected_ms(self._pace.size_px()) / 1000 + _LATE_S
        frame = int(time_s * FPS + 1e-6)
        return frame, max((frame + 1) / FPS - time_s, 0.001)

    def _idle(self, now: float) -> tuple[int, float | None]:
        """The frame of the endless movement, and how long until the next; None when a new one is due."""
        if not self._alive:
            self._idle_at = None
            return self._idle_frame, None
        if self._idle_at is None:
            # Go on from where it stopped.
            self._idle_at = now - self._idle_frame / FPS
        frame = int((now - self._idle_at) * FPS + 1e-6)
        if frame > self._idle_frame:
            return frame, None
        return self._idle_frame, max(self._idle_at + (self._idle_frame + 1) / FPS - now, 0.001)

    def _order(self, frame: int | None, idle_frame: int, size_px: int, *, moving: bool) -> Order:
        self._number += 1
        self._waiting_for.append(self._number)
        self._changed = False
        self._final = not moving and size_px == self._pace.most_px
        self._last_frame, self._idle_frame = frame, idle_frame
        return Order(self._number, self._controls, frame, idle_frame, size_px, moving, self._final)

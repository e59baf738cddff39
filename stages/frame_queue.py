"""Encoding in a thread beside rendering, a few frames behind it at most."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Pending = Callable[[], Frame]
"""Waits for a frame that was begun, as on a GPU, and gives it."""

_WAITING_FRAMES = 8


class Writer(Protocol):
    """What takes finished frames."""

    def write(self, frame: Frame) -> None:
        """Append a frame."""


class FrameQueue:
    """Hands frames to a writer in a thread of its own; a context manager that leaves once all are written.

    When the writer fails, the next ``put`` or the end of the block raises its error. When the block fails, frames
    that still wait are dropped.
    """

    def __init__(self, writer: Writer) -> None:
        """Start the thread.

        Args:
            writer: Called from that thread only.
        """
        self._writer = writer
        self._waiting: queue.Queue[Frame | Pending | None] = queue.Queue(_WAITING_FRAMES)
        self._error: BaseException | None = None
        self._dropping = False
        self._thread = threading.Thread(target=self._work, name="radnerf-encoder", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return the queue."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Wait until all is written, or stop after the frame in hand when the block failed.

        Raises:
            RadnerfError: The writer failed.
        """
        if kind is not None:
            self._dropping = True
        self._waiting.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, frame: Frame | Pending) -> None:
        """Hand over a frame, waiting while too many are underway.

        Args:
            frame: (H, W, 3) uint8 RGB, not changed afterwards; or what will give one, called in the writer's thread,
                so that nobody else waits for it.

        Raises:
            RadnerfError: The writer, or what gives a frame, failed on an earlier one.
        """
        if self._error is not None:
            raise self._error
        self._waiting.put(frame)

    def _work(self) -> None:
        # Goes on taking frames after an error, so that nobody waits for room for ever.
        while (frame := self._waiting.get()) is not None:
            if self._dropping or self._error is not None:
                continue
            try:
                self._writer.write(frame() if callable(frame) else frame)
            except BaseException as error:
                self._error = error

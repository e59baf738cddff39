"""Live picture and sound to every page that watches: the newest picture and all of the sound."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import struct
import threading
from collections.abc import Iterator

from stages.formats import SAMPLE_RATE_HZ

PICTURE, SOUND, WORDS = 1, 2, 3
"""The first byte of a message; a number of 8 bytes follows: the frame, the first sample, 0."""

MOST_SOUND_BYTES = 10 * SAMPLE_RATE_HZ * 2
"""Sound that may wait for a page; one that takes none for so long has gone."""


class Listener:
    """One page. What is offered may come from any thread; what is taken is taken in the page's own loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have nothing to tell.

        Args:
            loop: Of the page's connection.
        """
        self._loop = loop
        self._sound: collections.deque[bytes] = collections.deque()
        self._sound_bytes = 0
        self._newest: dict[int, bytes] = {}
        self._something = asyncio.Event()
        self.gone = False

    def offer(self, kind: int, message: bytes) -> None:
        """Offer a message; a picture takes the place of one that was not taken yet."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._keep, kind, message)

    async def take(self) -> bytes:
        """The next message, sound first."""
        while not (self._sound or self._newest):
            self._something.clear()
            await self._something.wait()
        if self._sound:
            message = self._sound.popleft()
            self._sound_bytes -= len(message)
            return message
        return self._newest.pop(next(iter(self._newest)))

    def _keep(self, kind: int, message: bytes) -> None:
        if kind == SOUND:
            self._sound.append(message)
            self._sound_bytes += len(message)
            self.gone = self.gone or self._sound_bytes > MOST_SOUND_BYTES
        else:
            self._newest[kind] = message
        self._something.set()


class Broadcast:
    """Everybody who watches."""

    def __init__(self) -> None:
        """Nobody yet."""
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def listening(self, loop: asyncio.AbstractEventLoop) -> Iterator[Listener]:
        """One more page, while the block runs."""
        listener = Listener(loop)
        with self._lock:
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        with self._lock:
            return any(not listener.gone for listener in self._listeners)

    def tell(self, kind: int, number: int, data: bytes) -> None:
        """Tell everybody something.

        Args:
            kind: ``PICTURE``, ``SOUND`` or ``WORDS``.
            number: Of the frame or of the first sample.
            data: JPEG, 16-bit little-endian PCM, or JSON.
        """
        message = struct.pack(">BQ", kind, number) + data
        with self._lock:
            for listener in self._listeners:
                if not listener.gone:
                    listener.offer(kind, message)

"""Where live sound comes from, and a queue between its pace and ours that loses none of it."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from stages.errors import BadInput, RadnerfError
from stages.formats import SAMPLE_RATE_HZ
from stages.media import FfmpegProcess, ffmpeg_path
from stages.sound.wav import Samples

PIECE_SAMPLES = SAMPLE_RATE_HZ // 50
"""Samples that are taken at once where they come in a stream: 20 ms."""

GAP_S = 0.25
"""A source that stays away for longer than this is taken to be silent."""

AHEAD_S = 0.3
"""Sound that came earlier than it can be spoken waits, but for this much."""

MOST_WAITING_S = 600.0
"""Sound that may wait; a source that has sent more is made to wait itself."""

_FASTER = 1.002  # than the wall clock, so that a sound card that runs fast never builds up a delay


@dataclass(frozen=True)
class Piece:
    """Sound that is taken from the queue.

    Attributes:
        samples: (N,) int16.
        came_s: When the last of it came, or was due where it came too early.
    """

    samples: np.ndarray[tuple[int], np.dtype[np.int16]]
    came_s: float


class SoundQueue:
    """Sound between a source's thread and ours.

    A live source's pauses become silence, so that the portrait goes on moving, and what comes faster than it can be
    spoken waits. Otherwise sound is handed on as it comes.
    """

    def __init__(self, clock: Callable[[], float], *, live: bool) -> None:
        """Be empty.

        Args:
            clock: Seconds of some steady clock.
            live: Whether time goes on while nothing comes.
        """
        self._clock, self._live = clock, live
        self._pieces: collections.deque[tuple[bytes, float]] = collections.deque()
        self._waiting_bytes = 0
        self._odd = b""
        self._changed = threading.Condition()
        self._ended = False
        self._error: RadnerfError | None = None
        self._began_s = self._last_put_s = clock()
        self._given = 0

    def begin(self) -> None:
        """Let time begin now."""
        with self._changed:
            self._began_s = self._last_put_s = self._clock()

    def put(self, data: bytes) -> None:
        """Add sound; waits while too much of it waits.

        Args:
            data: 16-bit little-endian mono PCM at 16 kHz; may end within a sample.
        """
        with self._changed:
            data = self._odd + data
            whole = len(data) // 2 * 2
            self._odd = data[whole:]
            if not whole:
                return
            most = int(MOST_WAITING_S * SAMPLE_RATE_HZ) * 2
            self._changed.wait_for(lambda: self._waiting_bytes < most or self._ended)
            now = self._clock()
            self._pieces.append((data[:whole], now))
            self._waiting_bytes += whole
            self._last_put_s = now
            self._changed.notify_all()

    def end(self, error: RadnerfError | None = None) -> None:
        """Know that nothing will follow.

        Args:
            error: Why not, if that is nothing to be content with.
        """
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def take(self, patience_s: float = 0.02) -> Piece | None:
        """Sound that is due; waits a little for it, and gives none when there is none.

        Args:
            patience_s: How long to wait.

        Returns:
            The sound; None after its end.

        Raises:
            RadnerfError: The source failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._due() > 0 or (self._ended and not self._pieces), patience_s)
            now = self._clock()
            count = min(self._due(), self._waiting_bytes // 2)
            if count > 0:
                return self._pull(count, now)
            if self._ended and not self._pieces:
                if self._error is not None:
                    raise self._error
                return None
            silence = self._silence(now)
            self._given += silence
            return Piece(np.zeros(silence, np.int16), now)

    def _due(self) -> int:
        """Samples that may be given now."""
        waiting = self._waiting_bytes // 2
        if not self._live:
            return min(waiting, 25 * PIECE_SAMPLES)
        allowed = (self._clock() - self._began_s) * _FASTER + AHEAD_S
        return min(waiting, int(allowed * SAMPLE_RATE_HZ) - self._given)

    def _pull(self, count: int, now: float) -> Piece:
        parts: list[bytes] = []
        came_s = now
        left = 2 * count
        while left:
            data, came_s = self._pieces.popleft()
            if len(data) > left:
                self._pieces.appendleft((data[left:], came_s))
                data = data[:left]
            parts.append(data)
            left -= len(data)
        self._waiting_bytes -= 2 * count
        self._given += count
        self._changed.notify_all()
        if self._live:
            # What came early is late only from the moment on at which it was due.
            came_s = max(came_s, self._began_s + self._given / SAMPLE_RATE_HZ / _FASTER - AHEAD_S)
        return Piece(np.frombuffer(b"".join(parts), "<i2").astype(np.int16), min(came_s, now))

    def _silence(self, now: float) -> int:
        """Samples of silence that a live source's absence stands for; never more than it takes to catch up."""
        if not self._live or self._waiting_bytes or now - self._last_put_s < GAP_S:
            return 0
        return max(int((now - self._began_s) * SAMPLE_RATE_HZ) - self._given, 0)


def as_floats(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> Samples:
    """16-bit samples at full scale ±1."""
    return samples.astype(np.float32) / np.float32(32_768.0)


@contextmanager
def reading(stream: IO[bytes], queue: SoundQueue) -> Iterator[None]:
    """Move a stream of PCM into a queue, in a thread of its own, while the block runs.

    Args:
        stream: Standard input, or a program's output.
        queue: Where it goes.
    """

    def move() -> None:
        # Not through the stream: it waits until a whole block is there.
        while data := os.read(stream.fileno(), 2 * PIECE_SAMPLES):
            queue.put(data)
        queue.end()

    threading.Thread(target=move, name="radnerf-sound", daemon=True).start()
    try:
        yield
    finally:
        queue.end()


@contextmanager
def microphone(name: str, queue: SoundQueue) -> Iterator[None]:
    """Move a microphone's sound into a queue while the block runs.

    Args:
        name: Of the device, as ffmpeg knows it; empty for the usual one.
        queue: Where it goes.

    Raises:
        BadInput: This system's sound is not known here.
    """
    kind, device = microphone_source(sys.platform, name, _input_formats() if sys.platform == "linux" else frozenset())
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "error", "-fflags", "nobuffer"]
    command += ["-f", kind, "-i", device, "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-f", "s16le", "pipe:1"]
    process = FfmpegProcess(command, feed=False, own_session=True)

    def move() -> None:
        while data := os.read(process.pipe.fileno(), 2 * PIECE_SAMPLES):
            queue.put(data)
        problem = f"the microphone {device!r} ({kind}) gives no sound: {process.complaint()}"
        queue.end(RadnerfError(problem, hint="name another one: --input mic:NAME"))

    threading.Thread(target=move, name="radnerf-microphone", daemon=True).start()
    try:
        yield
    finally:
        queue.end()
        process.stop()


def microphone_source(platform: str, name: str, formats: frozenset[str]) -> tuple[str, str]:
    """Ffmpeg's input format and device.

    Args:
        platform: As ``sys.platform``.
        name: As the user gave it; may be empty.
        formats: Input devices that ffmpeg was built with.

    Raises:
        BadInput: Nothing is known of this system's sound.
    """
    if platform == "darwin":
        return "avfoundation", f":{name or 'default'}"
    if platform == "win32" and name:
        return "dshow", f"audio={name}"
    if platform == "linux":
        runtime = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"))
        pulse = "PULSE_SERVER" in os.environ or (runtime / "pulse" / "native").exists()
        for kind in ["pulse", "alsa"] if pulse else ["alsa", "pulse"]:
            if kind in formats:
                return kind, name or "default"
        raise BadInput(
            "this ffmpeg reads neither PulseAudio nor ALSA",
            hint="install the system's ffmpeg, or send sound by --input - or --input ws",
        )
    raise BadInput("there is no usual microphone on this system", hint="name it: --input mic:NAME, or use --input -")


def _input_formats() -> frozenset[str]:
    said = subprocess.run([ffmpeg_path(), "-hide_banner", "-devices"], capture_output=True, text=True, check=False)
    fields = [line.split() for line in said.stdout.splitlines()]
    return frozenset(words[1] for words in fields if len(words) > 1 and "D" in words[0])

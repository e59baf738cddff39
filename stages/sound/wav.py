"""Any sound as 16 kHz mono samples that can be read from any place, without holding the whole in memory."""

from __future__ import annotations

import io
import tempfile
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from stages.errors import BadInput, RadnerfError
from stages.formats import FEATURE_RATE_HZ, SAMPLE_RATE_HZ

Samples = npt.NDArray[np.float32]

ROW_SAMPLES = SAMPLE_RATE_HZ // FEATURE_RATE_HZ
"""Samples that one row of features describes."""

_PCM16_SCALE = 32_768.0


class Sound:
    """16 kHz mono sound, full scale at ±1.

    Attributes:
        samples: How many there are.
        rows: Rows of features that describe it, ``ceil(samples / 320)``.
    """

    def __init__(self, stream: IO[bytes], first_byte: int, samples: int, dtype: str) -> None:
        """Sound in an open binary stream.

        Args:
            stream: Seekable; stays the caller's.
            first_byte: Where the samples begin in it.
            samples: How many there are.
            dtype: ``"<i2"`` or ``"<f4"``.
        """
        self._stream = stream
        self._first_byte = first_byte
        self._dtype = np.dtype(dtype)
        self.samples = samples
        self.rows = -(-samples // ROW_SAMPLES)

    def read(self, first: int, last: int) -> Samples:
        """Samples ``first`` to ``last`` (exclusive); silence before the beginning and after the end.

        Returns:
            (last - first,) float32.
        """
        result = np.zeros(last - first, np.float32)
        begin, end = max(first, 0), min(last, self.samples)
        if begin >= end:
            return result
        self._stream.seek(self._first_byte + begin * self._dtype.itemsize)
        found = np.frombuffer(self._stream.read((end - begin) * self._dtype.itemsize), self._dtype)
        scale = 1.0 / _PCM16_SCALE if self._dtype.kind == "i" else 1.0
        result[begin - first : begin - first + len(found)] = found * np.float32(scale)
        return result

    def blocks(self, block_rows: int) -> Iterator[tuple[int, int]]:
        """The rows in blocks: ``(first, last)`` with ``last`` exclusive."""
        for first in range(0, self.rows, block_rows):
            yield first, min(first + block_rows, self.rows)


def sound_from_array(samples: npt.NDArray[np.float32]) -> Sound:
    """Sound that is in memory already.

    Args:
        samples: (N,) floats at 16 kHz, full scale at ±1.
    """
    data = np.ascontiguousarray(samples, dtype="<f4").tobytes()
    return Sound(io.BytesIO(data), 0, len(samples), "<f4")


def _plain_wav(stream: IO[bytes], size_bytes: int) -> Sound | None:
    """The stream as sound if it is already a 16 kHz mono 16-bit WAV, else None."""
    try:
        reader = wave.open(stream, "rb")  # noqa: SIM115 - the stream stays the caller's
    except (wave.Error, EOFError):
        return None
    if (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) != (SAMPLE_RATE_HZ, 1, 2):
        return None
    reader.readframes(1)
    first_byte = stream.tell() - 2
    # A header written by a program that was killed claims more than there is.
    samples = min(reader.getnframes(), (size_bytes - first_byte) // 2)
    return Sound(stream, first_byte, samples, "<i2") if samples > 0 else None


def _decode_into(path: Path, scratch: IO[bytes]) -> int:
    """Decode any file into ``scratch`` as 16 kHz mono float32.

    Returns:
        How many samples there are.
    """
    from stages.media import stream_audio

    samples = 0
    for piece in stream_audio(path, SAMPLE_RATE_HZ):
        try:
            scratch.write(np.ascontiguousarray(piece, "<f4").data)
        except OSError as error:
            raise RadnerfError(
                f"{path} cannot be decoded: {error.strerror or error}",
                hint=f"free some space in {tempfile.gettempdir()}",
            ) from error
        samples += len(piece)
    return samples


@contextmanager
def open_sound(path: Path) -> Iterator[Sound]:
    """Open any file that ffmpeg reads as 16 kHz mono sound.

    A 16 kHz mono 16-bit WAV is read in place; anything else is decoded to an unnamed temporary file (64 kB a second),
    so that memory does not grow with the length.

    Raises:
        BadInput: The file is missing, empty, a directory, cannot be decoded or has no sound.
        RadnerfError: There is no space for the temporary file.
    """
    if path.is_file():
        with path.open("rb") as stream:
            plain = _plain_wav(stream, path.stat().st_size)
            if plain is not None:
                yield plain
                return
    with tempfile.TemporaryFile(prefix="radnerf-sound-") as scratch:
        samples = _decode_into(path, scratch)
        if samples == 0:
            raise BadInput(f"the sound in {path} lasts 0 s", hint="give a file in which somebody can be heard")
        yield Sound(scratch, 0, samples, "<f4")

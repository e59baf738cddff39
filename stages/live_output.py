"""Live picture and sound through ffmpeg: a file, a stream by RTMP, a named pipe."""

from __future__ import annotations

import os
import queue
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from stages.errors import BadInput, RadnerfError
from stages.formats import FPS, SAMPLE_RATE_HZ
from stages.media import FfmpegProcess, ffmpeg_path, file_url
from stages.video_encoder import Encoder, encoder_options

_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}
_PICTURES_WAITING = 16
_CRF = 20


@dataclass(frozen=True)
class Target:
    """Where encoded video goes.

    Attributes:
        kind: An ordinary file, a named pipe, or an address.
        format: ffmpeg's name of the container.
        url: What ffmpeg writes to.
        path: Of the file or pipe; None for an address.
    """

    kind: Literal["file", "pipe", "address"]
    format: str
    url: str
    path: Path | None = None

    def moved(self, path: Path) -> Target:
        """The same, at another path."""
        return Target(self.kind, self.format, file_url(path), path)


def read_target(text: str) -> Target:
    """Where video goes, as a person wrote it.

    Args:
        text: A file's or a named pipe's path, or ``rtmp://…``.

    Raises:
        BadInput: It is none of these, or cannot be written.
    """
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in ("rtmp", "rtmps"):
        return Target("address", "flv", text)
    if scheme:
        raise BadInput(f"{text!r} cannot be streamed to", hint="give rtmp://…, a file or a named pipe")
    path = Path(text).absolute()
    if path.exists() and stat.S_ISFIFO(path.stat().st_mode):
        return Target(
            "pipe", _FORMATS.get(path.suffix.lower(), "mpegts").replace("mp4", "mpegts"), file_url(path), path
        )
    if path.is_dir() or path.suffix.lower() not in _FORMATS:
        raise BadInput(f"the video cannot be written to {text}", hint="give a name that ends in .mp4, .mkv or .ts")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {path.parent}", hint="make it first")
    return Target("file", _FORMATS[path.suffix.lower()], file_url(path), path)


class LiveEncoder:
    """Takes pictures and sound as they come and encodes both; a context manager that leaves once all is written.

    A frame of the video belongs to each 640 samples from the first one on: both are counted from 0, so that neither
    can drift from the other.
    """

    def __init__(self, target: Target, side_px: int, encoder: Encoder, metadata: Mapping[str, str]) -> None:
        """Start the encoder.

        Args:
            target: Where to.
            side_px: Of the square pictures; even.
            encoder: As ``stages.video_encoder.choose_encoder`` chose it.
            metadata: Tags of the container.
        """
        self._target = target
        hears, self._sound_pipe = os.pipe()
        try:
            command = _command(target, side_px, encoder, metadata, hears)
            self._process = FfmpegProcess(command, feed=True, more=(hears,), own_session=True)
        finally:
            os.close(hears)
        self._pictures: queue.Queue[npt.NDArray[np.uint8] | None] = queue.Queue(_PICTURES_WAITING)
        # Sound is small, and none of it is ever left out.
        self._sound: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._failed = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"radnerf-{name}", daemon=True)
            for name, work in (("picture", self._write_pictures), ("sound", self._write_sound))
        ]
        for thread in self._threads:
            thread.start()

    def sound(self, samples: npt.NDArray[np.int16]) -> None:
        """Append sound.

        Args:
            samples: (N,) int16 at 16 kHz.

        Raises:
            RadnerfError: The encoder failed.
        """
        self._check()
        self._sound.put(samples.astype("<i2").tobytes())

    def picture(self, picture: npt.NDArray[np.uint8]) -> None:
        """Append a frame; waits while the encoder is far behind.

        Args:
            picture: (S, S, 3) uint8 RGB, not changed afterwards.

        Raises:
            RadnerfError: The encoder failed.
        """
        self._check()
        self._pictures.put(picture)

    def close(self) -> None:
        """Finish the video.

        Raises:
            RadnerfError: The encoder failed.
        """
        self._sound.put(None)
        self._pictures.put(None)
        for thread in self._threads:
            thread.join()
        if self._process.wait() != 0 or self._failed.is_set():
            raise self._failure()

    def abandon(self) -> None:
        """Stop at once."""
        self._failed.set()
        self._process.stop()
        self._sound.put(None)
        self._pictures.put(None)

    def _write_pictures(self) -> None:
        while (picture := self._pictures.get()) is not None:
            if not self._failed.is_set():
                try:
                    self._process.pipe.write(np.ascontiguousarray(picture).data)
                    self._process.pipe.flush()
                except (OSError, ValueError):
                    self._failed.set()
        if not self._failed.is_set():
            try:
                self._process.pipe.close()
            except OSError:
                self._failed.set()

    def _write_sound(self) -> None:
        with os.fdopen(self._sound_pipe, "wb", buffering=0) as pipe:
            while (data := self._sound.get()) is not None:
                try:
                    rest = memoryview(data)
                    while rest and not self._failed.is_set():
                        rest = rest[pipe.write(rest) :]
                except OSError:
                    self._failed.set()

    def _check(self) -> None:
        if self._failed.is_set():
            raise self._failure()

    def _failure(self) -> RadnerfError:
        self._process.wait()
        where = self._target.path or self._target.url.partition("?")[0].rpartition("/")[0]
        return RadnerfError(
            f"the video cannot be written to {where}: {self._process.complaint()}",
            hint="check the address, the folder's rights and the room on the disk",
        )


def _command(target: Target, side_px: int, encoder: Encoder, metadata: Mapping[str, str], sound_pipe: int) -> list[str]:
    """Ffmpeg's argument list: pictures on its standard input, sound on another pipe."""
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    command += ["-thread_queue_size", "64", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{side_px}x{side_px}"]
    command += ["-framerate", str(FPS), "-i", "pipe:0"]
    command += ["-thread_queue_size", "1024", "-f", "s16le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1"]
    command += ["-i", f"pipe:{sound_pipe}", "-map", "0:v", "-map", "1:a"]
    command += ["-vf", "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+lanczos,format=yuv420p"]
    options = {key: str(value) for key, value in encoder_options(encoder, _CRF, "veryfast").items()}
    if encoder == "libx264":
        options["tune"] = "zerolatency"
    options |= {"g": str(2 * FPS), "c:a": "aac", "b:a": "128k", "ar": "48000", "flush_packets": "1"}
    options |= {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
    if target.format == "mp4":
        options["movflags"] = "+faststart"
    for key, value in options.items():
        command += [f"-{key}", value]
    for key, value in metadata.items():
        command += ["-metadata", f"{key}={value}"]
    return [*command, "-f", target.format, target.url]

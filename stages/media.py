"""ffmpeg as streams of arrays: pictures and sound in, a finished video out, at constant memory."""

from __future__ import annotations

import collections
import contextlib
import subprocess
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import ffmpeg
import numpy as np
import numpy.typing as npt

from stages.errors import BadInput, RadnerfError
from stages.media_info import (
    MediaInfo,
    check_not_killed,
    ffmpeg_path,
    file_url,
    has_filters,
    last_complaint,
    probe,
    require_audio,
    require_video,
)
from stages.video_encoder import Encoder, encoder_options

__all__ = [
    "FfmpegProcess",
    "Filter",
    "MediaInfo",
    "VideoWriter",
    "decode_audio",
    "ffmpeg_path",
    "file_url",
    "has_filters",
    "probe",
    "read_video",
    "require_audio",
    "require_video",
    "stream_audio",
]

Filter = tuple[str, Mapping[str, str | int | float]]
"""A video filter and its options: ``("scale", {"w": 512, "h": 512})``."""

_STANDARD_TAGS = frozenset(
    {"title", "artist", "album", "comment", "description", "copyright", "date", "genre", "synopsis", "encoder"}
)


class FfmpegProcess:
    """A running ffmpeg whose standard error is drained by a thread, so that it can never block."""

    def __init__(self, command: list[str], *, feed: bool, more: Sequence[int] = (), own_session: bool = False) -> None:
        """Start it.

        Args:
            command: The argument list.
            feed: Whether its standard input is written; else its standard output is read.
            more: File descriptors that it inherits, under the same numbers.
            own_session: Whether Ctrl-C passes it by, so that it can finish what it writes.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if feed else subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=more,
            start_new_session=own_session,
        )
        self._lines: collections.deque[str] = collections.deque(maxlen=50)
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()

    def _read_errors(self) -> None:
        stream = self._process.stderr
        if stream is not None:
            for line in stream:
                self._lines.append(line.decode("utf-8", "replace").rstrip())

    @property
    def pipe(self) -> IO[bytes]:
        """Standard input when it is fed, standard output when it is read."""
        stream = self._process.stdin or self._process.stdout
        if stream is None:
            raise RadnerfError("ffmpeg was started without a pipe")
        return stream

    @property
    def complained(self) -> bool:
        """Whether it has written an error so far (all of them after ``wait``)."""
        return bool(self._lines)

    def complaint(self) -> str:
        """Its most telling error line."""
        return last_complaint(list(self._lines))

    def wait(self) -> int:
        """Close the pipe and return the exit status."""
        # The reason of a failure stands in the process's own errors.
        with contextlib.suppress(OSError):
            self.pipe.close()
        code = self._process.wait()
        self._drain.join()
        if self._process.stderr is not None:
            self._process.stderr.close()
        return code

    def stop(self) -> None:
        """End it at once if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait()


def _command(output: object) -> list[str]:
    """Argument list of an ffmpeg-python graph."""
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "error"]
    return [str(part) for part in ffmpeg.compile(output, cmd=command, overwrite_output=True)]


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    """``size`` bytes, or fewer at the end of the stream."""
    parts: list[bytes] = []
    missing = size
    while missing and (part := pipe.read(missing)):
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_video(
    info: MediaInfo,
    filters: Sequence[Filter],
    size: tuple[int, int],
    *,
    fps: float | None = None,
    start_s: float = 0.0,
    max_frames: int | None = None,
) -> Generator[npt.NDArray[np.uint8], None, None]:
    """Decode a video frame by frame.

    Rotation flags are obeyed; ``filters`` see upright frames with the stored sample aspect ratio.

    Args:
        info: What ``probe`` said about the file.
        filters: Applied in order.
        size: (width, height) of the frames that leave the filters; the frames are scaled to it where they differ.
        fps: Resample so that frame i is the picture nearest to ``start_s + i / fps`` seconds of the file's
            timeline (the earliest stream begins it; the first and last pictures are held where the video is
            shorter); None takes the frames as they are stored.
        start_s: Where to begin, seconds.
        max_frames: Stop after so many.

    Yields:
        (height, width, 3) uint8 RGB.

    Raises:
        BadInput: There is no video or the stream breaks; names the time of the last good frame.
    """
    require_video(info)
    width, height = size
    seek = {"ss": f"{start_s:.6f}"} if start_s > 0 else {}
    stream = ffmpeg.input(file_url(info.path), protocol_whitelist="file", **seek)[str(info.video_index)]
    # Does nothing where the filters have made RGB of this size already.
    last: Filter = ("scale", {"w": width, "h": height, "flags": "lanczos+accurate_rnd+full_chroma_int"})
    for name, options in [*(resampling(info, fps) if fps else []), *filters, last]:
        stream = stream.filter(name, **options)
    limit = {"frames:v": max_frames} if max_frames is not None else {}
    output = stream.output("pipe:1", format="rawvideo", pix_fmt="rgb24", **limit)
    process = FfmpegProcess(_command(output), feed=False)
    count = 0
    try:
        while len(data := _read_exactly(process.pipe, width * height * 3)) == width * height * 3:
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            count += 1
        code = process.wait()
        check_not_killed(code)
        time_s = start_s + count / (fps or info.fps or 25.0)
        unfinished = max_frames is None or count < max_frames
        cut_off = process.complained and unfinished and time_s < info.duration_s - 1.0
        if code != 0 or data or cut_off:
            what = f"breaks off after {time_s:.2f} s" if count else "cannot be decoded"
            raise BadInput(
                f"the video in {info.path} {what} ({process.complaint()})",
                hint="convert it again from the original, or cut it before that time",
            )
    finally:
        process.stop()


def resampling(info: MediaInfo, fps: float) -> list[Filter]:
    """Filters after which frame i is the picture nearest to i / fps seconds.

    ffmpeg's ``fps`` filter holds the last picture that began at or before a tick (``round=up``); moving all
    pictures half a frame earlier makes that the nearest one, and keeps time stamps that were rounded in the
    container from falling on the wrong side of a tick.
    """
    half_us = round(min(0.5 / fps, 0.5 / info.fps if info.fps > 0 else 0.5 / fps) * 1e6)
    return [
        ("settb", {"expr": "1/1000000"}),
        ("setpts", {"expr": f"PTS-{half_us}"}),
        ("fps", {"fps": fps, "start_time": 0, "round": "up"}),
    ]


def stream_audio(
    path: Path, rate_hz: int, channels: int = 1, *, chunk_s: float = 10.0
) -> Generator[npt.NDArray[np.float32], None, None]:
    """Decode the first sound stream in pieces.

    Sample 0 is time 0 of the file's timeline (the earliest stream begins it): silence is put before sound that
    begins later, and into gaps.

    Args:
        path: Any media file with sound.
        rate_hz: Sample rate to convert to.
        channels: Channels to mix to.
        chunk_s: Length of the pieces; the last one is shorter.

    Yields:
        (T,) float32 for one channel, else (T, channels) float32; within about [-1, 1]. What is no number is 0.

    Raises:
        BadInput: The file is bad, has no sound, or breaks before its end.
    """
    info = probe(path)
    require_audio(info)
    stream = ffmpeg.input(file_url(path), protocol_whitelist="file")[str(info.audio_index)]
    stream = stream.filter("aresample", rate_hz, **{"async": 1, "first_pts": 0})
    output = stream.output("pipe:1", format="f32le", acodec="pcm_f32le", ac=channels, ar=rate_hz)
    process = FfmpegProcess(_command(output), feed=False)
    frame_bytes = 4 * channels
    count = 0
    try:
        while data := _read_exactly(process.pipe, max(1, round(chunk_s * rate_hz)) * frame_bytes):
            samples = np.frombuffer(data[: len(data) // frame_bytes * frame_bytes], np.float32)
            if not np.isfinite(samples).all():
                # Float files may hold anything; what is no number is no sound.
                samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
            count += len(samples) // channels
            yield samples if channels == 1 else samples.reshape(-1, channels)
        code = process.wait()
        check_not_killed(code)
        # Of the formats that are read without a complaint when they are cut, FLAC alone knows its length for sure.
        told = process.complained or info.audio_codec == "flac"
        cut_off = told and not info.has_video and count / rate_hz < info.duration_s - 1.0
        if code != 0 or cut_off:
            what = f"breaks off after {count / rate_hz:.2f} s" if count else "cannot be decoded"
            raise BadInput(
                f"the sound in {path} {what} ({process.complaint()})",
                hint="convert it again from the original; protected files cannot be used",
            )
    finally:
        process.stop()


def decode_audio(path: Path, rate_hz: int, channels: int = 1) -> npt.NDArray[np.float32]:
    """The whole of the first sound stream: ``stream_audio`` joined.

    Returns:
        (T,) float32 for one channel, else (T, channels) float32.

    Raises:
        BadInput: As ``stream_audio``.
    """
    pieces = list(stream_audio(path, rate_hz, channels))
    empty = np.zeros((0,) if channels == 1 else (0, channels), np.float32)
    return np.concatenate([empty, *pieces])


class VideoWriter:
    """Writes RGB frames as H.264 (yuv420p, BT.709), with the user's own sound as AAC.

    Odd sizes grow by one repeated row or column, since yuv420p needs even ones. Give it a temporary path.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: float,
        *,
        audio: Path | None = None,
        length: int | None = None,
        crf: int = 18,
        preset: str = "medium",
        metadata: Mapping[str, str] | None = None,
        encoder: Encoder = "libx264",
    ) -> None:
        """Start the encoder.

        Args:
            path: The mp4 to write.
            size: (width, height) of the frames.
            fps: Frames a second.
            audio: A media file whose first sound stream goes into the video, at 48 kHz and 192 kbit/s, mono or
                stereo as it is; its time 0 is frame 0.
            length: Frames that will be written: the sound is filled up with silence or cut to them; None leaves it
                as long as it is.
            crf: x264's constant rate factor: lower is better and bigger.
            preset: x264's speed preset.
            metadata: Tags of the container.
            encoder: As ``stages.video_encoder.choose_encoder`` chose it.

        Raises:
            BadInput: The audio file is bad or has no sound.
        """
        self.size = size
        self.frames = 0
        self._path = path
        width, height = size
        self._pad = (height % 2, width % 2)
        shape = f"{width + width % 2}x{height + height % 2}"
        picture = ffmpeg.input("pipe:0", format="rawvideo", pix_fmt="rgb24", s=shape, framerate=fps)
        picture = picture.filter("scale", out_color_matrix="bt709", out_range="tv", flags="accurate_rnd+lanczos")
        tagged = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "range": "tv"}
        streams = [picture.filter("format", "yuv420p").filter("setparams", **tagged)]
        options = {**encoder_options(encoder, crf, preset), "pix_fmt": "yuv420p"}
        # Once more for the encoder: before ffmpeg 5 it does not look at what the frames say.
        options |= {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
        if audio is not None:
            streams.append(_own_sound(audio, None if length is None else length / fps))
            options |= {"c:a": "aac", "b:a": "192k"}
        tags = dict(metadata or {})
        known = _STANDARD_TAGS.issuperset(tags)
        options["movflags"] = "+faststart" if known else "+faststart+use_metadata_tags"
        options |= {f"metadata:g:{i}": f"{key}={value}" for i, (key, value) in enumerate(tags.items())}
        output = ffmpeg.output(*streams, file_url(path), format="mp4", **options)
        self._process = FfmpegProcess(_command(output), feed=True)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Finish the video, or stop at once when the block failed.

        Raises:
            RadnerfError: The encoder failed, as on a full disk.
        """
        if kind is not None:
            self._process.stop()
        elif (code := self._process.wait()) != 0:
            raise self._failure(code)

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        """Append a frame.

        Args:
            frame: (height, width, 3) uint8 RGB.

        Raises:
            RadnerfError: The encoder failed, as on a full disk.
        """
        if frame.shape != (self.size[1], self.size[0], 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.dtype} {frame.shape}, not uint8 {(self.size[1], self.size[0], 3)}")
        if any(self._pad):
            frame = np.pad(frame, ((0, self._pad[0]), (0, self._pad[1]), (0, 0)), mode="edge")
        try:
            self._process.pipe.write(np.ascontiguousarray(frame).data)
        except (BrokenPipeError, OSError) as error:
            raise self._failure(self._process.wait()) from error
        self.frames += 1

    def _failure(self, code: int) -> RadnerfError:
        check_not_killed(code)
        return RadnerfError(
            f"the video cannot be written to {self._path}: {self._process.complaint()}",
            hint="free some space or check the folder's rights",
        )


def _own_sound(path: Path, duration_s: float | None) -> object:
    """The first sound stream at 48 kHz, from time 0, padded or cut to a duration."""
    info = probe(path)
    require_audio(info)
    stream = ffmpeg.input(file_url(path), protocol_whitelist="file")[str(info.audio_index)]
    stream = stream.filter("aresample", 48_000, **{"async": 1, "first_pts": 0})
    layout = "mono" if info.channel_layout in {"mono", "1 channels"} else "stereo"
    stream = stream.filter("aformat", channel_layouts=layout)
    if duration_s is None:
        return stream
    # Not apad and -shortest: before ffmpeg 5 the two together never end.
    samples = round(duration_s * 48_000)
    return stream.filter("apad", whole_len=samples).filter("atrim", end_sample=samples)

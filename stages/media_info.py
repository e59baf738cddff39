"""What a media file holds, asked of ffmpeg itself, since its bundled builds come without ffprobe."""

from __future__ import annotations

import functools
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from stages.errors import BadInput, RadnerfError

_STREAM = re.compile(r"^ {2,4}Stream #0:(\d+)(?:\[\w+\])?(?:\([^)]*\))?: (Video|Audio): (.*)$", re.MULTILINE)
_SIZE = re.compile(r", (\d+)x(\d+)(?: \[SAR (\d+):(\d+))?")
_CLOCK = r"(-?)(\d+):(\d\d):(\d\d(?:\.\d+)?)"


@functools.cache
def ffmpeg_path() -> str:
    """The ffmpeg to run: the system's if there is one, else imageio-ffmpeg's.

    Raises:
        RadnerfError: There is neither.
    """
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise RadnerfError(
            "there is no ffmpeg on this machine", hint="install ffmpeg, or 'pip install imageio-ffmpeg'"
        ) from error


@functools.cache
def has_filters(*names: str) -> bool:
    """Whether this ffmpeg was built with all of these filters."""
    listing = _run([ffmpeg_path(), "-hide_banner", "-filters"])
    there = {fields[1] for fields in map(str.split, listing.stdout.splitlines()) if len(fields) > 2}
    return there.issuperset(names)


def file_url(path: Path) -> str:
    """The path as ffmpeg must be given it, so that no name is taken for an option, a protocol or a pattern."""
    return f"file:{path.absolute()}"


@dataclass(frozen=True)
class MediaInfo:
    """What a media file holds.

    Attributes:
        path: The file.
        duration_s: Length of the longest stream, from the container or, where it does not say, from reading.
        has_video: Whether there is a moving picture (a cover picture is none).
        width, height: The picture as shown: upright, with square pixels; 0 without video, as are the next ones.
        coded_width, coded_height: The picture as stored.
        rotation_deg: Clockwise turn that makes the stored picture upright, in [0, 360).
        fps: Average frame rate.
        video_codec, pixel_format: As ffmpeg names them.
        transfer: Transfer characteristic, such as ``bt709`` or ``smpte2084``; empty when not told.
        matrix_told: Whether the file says which YUV matrix it uses.
        interlaced: Whether the video is flagged as interlaced.
        video_index: Index of the video stream among all streams; -1 without.
        has_audio: Whether there is sound.
        audio_codec, sample_rate_hz, channel_layout: Of the first sound stream.
        audio_index: Index of the first sound stream among all streams; -1 without.
    """

    path: Path
    duration_s: float
    has_video: bool = False
    width: int = 0
    height: int = 0
    coded_width: int = 0
    coded_height: int = 0
    rotation_deg: int = 0
    fps: float = 0.0
    video_codec: str = ""
    pixel_format: str = ""
    transfer: str = ""
    matrix_told: bool = False
    interlaced: bool = False
    video_index: int = -1
    has_audio: bool = False
    audio_codec: str = ""
    sample_rate_hz: int = 0
    channel_layout: str = ""
    audio_index: int = -1


def probe(path: Path) -> MediaInfo:
    """Read what a media file holds, and decode a first frame of each stream to know that it can be.

    Raises:
        BadInput: The file is missing, a directory, empty, no media file, or cannot be decoded.
        RadnerfError: There is no ffmpeg.
    """
    _check_file(path)
    text, failure = _describe(path)
    if "moov atom not found" in text and _begins_as_mp4(path):
        raise BadInput(
            f"{path} was never finished: its index is missing",
            hint="copy it again from where it was recorded; a copy or a recording was broken off",
        )
    if not (found := re.search(r"^Input #0, (\S+), from ", text, re.MULTILINE)):
        raise BadInput(f"{path} is not a media file ({failure})", hint="give a video or sound file that ffmpeg reads")
    demuxer = found[1]
    if demuxer == "tty" or not (streams := list(_STREAM.finditer(_input_part(text)))):
        raise BadInput(f"{path} is not a media file", hint="give a video or sound file that ffmpeg reads")
    if demuxer == "image2" or demuxer.endswith("_pipe"):
        raise BadInput(f"{path} is a picture, not a video", hint="give a video or sound file")
    video = next((s for s in streams if s[2] == "Video" and "(attached pic)" not in s[3]), None)
    audio = next((s for s in streams if s[2] == "Audio"), None)
    values: dict[str, object] = {}
    if video is not None:
        values |= _video_values(video, text, path, failure)
    if audio is not None:
        values |= _audio_values(audio)
    return MediaInfo(path=path, duration_s=_duration_s(text, path), **values)  # type: ignore[arg-type]


def require_video(info: MediaInfo) -> None:
    """Make sure that there is a moving picture.

    Raises:
        BadInput: There is none.
    """
    if not info.has_video:
        raise BadInput(f"{info.path} has no video stream", hint="give a video that shows a person talking")


def require_audio(info: MediaInfo) -> None:
    """Make sure that there is sound.

    Raises:
        BadInput: There is none.
    """
    if not info.has_audio:
        raise BadInput(f"{info.path} has no audio stream", hint="give a file in which somebody can be heard")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    check_not_killed(done.returncode)
    return done


def check_not_killed(code: int) -> None:
    """Tell an ffmpeg that was killed from one that found fault with a file.

    Args:
        code: Its exit status.

    Raises:
        RadnerfError: It was killed from outside, as by a system that lacks memory.
    """
    if code == -signal.SIGKILL:
        raise RadnerfError(
            "ffmpeg was killed from outside", hint="too little memory is the usual reason; the same command goes on"
        )


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise BadInput(f"{path} does not exist", hint="check the name")
        if path.is_dir():
            raise BadInput(f"{path} is a directory", hint="give the video or sound file in it")
        if not path.is_file():
            raise BadInput(f"{path} is not an ordinary file", hint="give a video or sound file")
        if path.stat().st_size == 0:
            raise BadInput(f"{path} is empty", hint="copy or record it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}", hint="check its rights") from error


def _begins_as_mp4(path: Path) -> bool:
    """Whether a file has an MP4's first box, whatever its name ends in."""
    with path.open("rb") as stream:
        return stream.read(8)[4:] in {b"ftyp", b"mdat", b"free", b"skip", b"wide"}


def _describe(path: Path) -> tuple[str, str]:
    """How ffmpeg describes the input and its first frames, and its last complaint."""
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-protocol_whitelist", "file", "-i", file_url(path)]
    command += ["-map", "0:V:0?", "-map", "0:a:0?", "-frames:v", "1", "-frames:a", "1", "-f", "null", "-"]
    text = _run(command).stderr
    complaints = [line for line in text.splitlines() if line.strip() and not line.startswith((" ", "frame="))]
    return text, last_complaint(complaints)


_SAYS_NOTHING = re.compile(
    r"Conversion failed|Error opening|Last message repeated|Press \[q\]|Terminating thread|Task finished with error"
)
_SAYS_LITTLE = re.compile(r"Invalid data found when processing input|Error while (decoding|filtering)|Decoding error")


def last_complaint(lines: list[str]) -> str:
    """The most telling line of ffmpeg's errors, without the parts that mean nothing to people."""
    told = ""
    for line in reversed(lines):
        bare = re.sub(r"^(\[[^]]*\] *)+", "", line).strip()
        bare = re.sub(r"^Error opening input files?:? ?(file:.*: )?", "", bare)
        if not bare or _SAYS_NOTHING.match(bare):
            continue
        if not _SAYS_LITTLE.match(bare):
            return bare
        told = told or bare
    return told or "ffmpeg gave no reason"


def _input_part(text: str) -> str:
    return re.split(r"^(?:Stream mapping:|Output #0)", text, maxsplit=1, flags=re.MULTILINE)[0]


def _video_values(stream: re.Match[str], text: str, path: Path, failure: str) -> dict[str, object]:
    fields = stream[3]
    size = _SIZE.search(fields)
    output = re.search(r"^Output #0.*?^ {2,4}Stream #0:\d+[^\n]*?: Video: ([^\n]*)", text, re.MULTILINE | re.DOTALL)
    shown = _SIZE.search(output[1]) if output else None
    if size is None or shown is None:
        raise BadInput(f"the video in {path} cannot be decoded ({failure})", hint="convert it to H.264 first")
    width, height = int(shown[1]), int(shown[2])
    if shown[3] and int(shown[3]) and int(shown[4]):
        width = max(1, round(width * int(shown[3]) / int(shown[4])))
    coded = fields[: size.start()]
    pixels = re.search(r", ([a-z]\w*)(?:\(([^)]*)\))?", coded)
    traits = (pixels[2] or "") if pixels else ""
    colour = re.search(r"(\w+)/(\w+)/([\w-]+)|\b(bt709|smpte170m|bt470bg|bt2020\w*)\b", traits)
    rate = re.search(r", ([\d.]+k?) fps", fields) or re.search(r", ([\d.]+k?) tbr", fields)
    return {
        "has_video": True,
        "width": width,
        "height": height,
        "coded_width": int(size[1]),
        "coded_height": int(size[2]),
        "rotation_deg": _rotation_deg(_input_part(text)[stream.end() :]),
        "fps": _number(rate[1]) if rate else 0.0,
        "video_codec": fields.split()[0].rstrip(","),
        "pixel_format": pixels[1] if pixels else "",
        "transfer": (colour[3] or colour[4] or "") if colour else "",
        "matrix_told": bool(colour) and (colour[1] or colour[4]) not in {None, "unknown"} if colour else False,
        "interlaced": " first" in traits,
        "video_index": int(stream[1]),
    }


def _audio_values(stream: re.Match[str]) -> dict[str, object]:
    rate = re.search(r", (\d+) Hz(?:, ([^,]+))?", stream[3])
    return {
        "has_audio": True,
        "audio_codec": stream[3].split()[0].rstrip(","),
        "sample_rate_hz": int(rate[1]) if rate else 0,
        "channel_layout": (rate[2] or "") if rate else "",
        "audio_index": int(stream[1]),
    }


def _rotation_deg(after: str) -> int:
    """The turn told between this stream's line and the next one's."""
    own = re.split(r"^ {2,4}Stream #", after, maxsplit=1, flags=re.MULTILINE)[0]
    matrix = re.search(r"rotation of (-?[\d.]+) degrees", own)
    if matrix:
        return round(-float(matrix[1])) % 360
    tag = re.search(r"^\s+rotate\s*: (-?\d+)", own, re.MULTILINE)
    return int(tag[1]) % 360 if tag else 0


def _number(text: str) -> float:
    return float(text[:-1]) * 1000 if text.endswith("k") else float(text)


def _seconds(match: re.Match[str]) -> float:
    seconds = int(match[2]) * 3600 + int(match[3]) * 60 + float(match[4])
    return -seconds if match[1] else seconds


def _duration_s(text: str, path: Path) -> float:
    told = re.search(rf"^  Duration: {_CLOCK}", text, re.MULTILINE)
    if told:
        return _seconds(told)
    # Recordings from browsers carry no duration: read through without decoding.
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-protocol_whitelist", "file", "-i", file_url(path)]
    command += ["-map", "0:V:0?", "-map", "0:a:0?", "-c", "copy", "-f", "null", "-"]
    times = list(re.finditer(rf"time={_CLOCK}", _run(command).stderr))
    return _seconds(times[-1]) if times else 0.0

"""The pictures of a report: one video of tiles that all move in step, and stills."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from stages import progress
from stages.archive import Archive, frame_name
from stages.contact_sheet import spread
from stages.errors import DELETE_AND_REPEAT, BadInput
from stages.evaluation_series import SERIES
from stages.formats import BACKGROUND, FPS, HEAD, NECK, TORSO
from stages.media import VideoWriter
from stages.provenance import Statement, container_metadata, sign_video
from stages.training_data import resize
from stages.vision.clip import load_grey, load_rgb
from stages.vision.images import Rgb, decode_rgb, encode_jpeg

TILES = ("truth", "head", "composite", "head_error", "composite_error", "parsing")
"""What each frame of the video shows, row by row."""

COLUMNS = 3
"""Tiles in a row."""

ERROR_RANGE = 0.15
"""Difference, as a share of full brightness and a mean over the colours, at which an error map is brightest."""

CLASS_COLOURS: dict[int, tuple[int, int, int]] = {HEAD: (230, 159, 0), NECK: (240, 228, 66), TORSO: (86, 180, 233)}
"""Of the parse overlay (Okabe and Ito's palette, told apart without red and green)."""

_OVERLAY = 0.45
_LEAST_TILE_PX = 32
_CRFS = (20, 26, 32)
_LEAST_COVERAGE = 0.5
_STILL_QUALITY = 88
_STILL_PX = 512
_CLIP_STILLS = 6


def error_map(rendered: Rgb, truth: Rgb) -> Rgb:
    """How far each pixel is from the true one, black where it is equal, yellow at ``ERROR_RANGE`` and beyond.

    Args:
        rendered: (H, W, 3) uint8 RGB.
        truth: The same.

    Returns:
        (H, W, 3) uint8 RGB, in the colours of matplotlib's "inferno".
    """
    difference = np.abs(rendered.astype(np.float32) - truth.astype(np.float32)).mean(axis=2) / 255
    level = (np.clip(difference / ERROR_RANGE, 0, 1) * 255).round().astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def parse_overlay(frame: Rgb, classes: npt.NDArray[np.uint8]) -> Rgb:
    """A frame with head, neck and torso tinted, the background dimmed, and white lines between classes.

    Args:
        frame: (H, W, 3) uint8 RGB.
        classes: (H, W) uint8 class ids.
    """
    tint = frame.astype(np.float32)
    tint[classes == BACKGROUND] *= 0.45
    for label, colour in CLASS_COLOURS.items():
        inside = classes == label
        tint[inside] = (1 - _OVERLAY) * tint[inside] + _OVERLAY * np.array(colour, np.float32)
    kernel = np.ones((3, 3), np.uint8)
    tint[cv2.dilate(classes, kernel) != cv2.erode(classes, kernel)] = 255
    return tint.round().astype(np.uint8)


def timeline(frames: Sequence[int]) -> list[int]:
    """Frame numbers in the order in which the video shows them.

    A few frames that were left out are shown as gaps, so that the sound stays in step; where most were, as with the
    slow baseline, only those compared are shown.
    """
    whole = list(range(frames[0], frames[-1] + 1))
    return whole if len(frames) >= _LEAST_COVERAGE * len(whole) else list(frames)


@dataclass(frozen=True)
class PictureFiles:
    """Where the pictures lie; see ``Workspace``."""

    frames: Path
    parsing: Path
    pictures: Path


class FrameSheets:
    """Makes the tiles of single frames."""

    def __init__(self, files: PictureFiles) -> None:
        """Open the archives.

        Raises:
            BadInput: One is missing or damaged, or holds no picture.
        """
        self._frames, self._parsing = Archive(files.frames), Archive(files.parsing)
        self._pictures = Archive(files.pictures)
        try:
            self.first = min(int(name[:6]) for name in self._pictures.names)
        except ValueError as error:
            raise BadInput(f"{files.pictures} holds no pictures", hint=DELETE_AND_REPEAT) from error
        self.side_px = self.rendered(self.first)["truth"].shape[0]

    def rendered(self, frame: int) -> dict[str, Rgb]:
        """The true and the rendered pictures of a frame, (S, S, 3) uint8 each."""
        archive = self._pictures
        return {name: decode_rgb(archive.read(frame_name(frame, f".{name}.jpg")), archive.path) for name in SERIES}

    def overlay(self, frame: int, size_px: int) -> Rgb:
        """The clip's own frame with its classes, (size_px, size_px, 3) uint8."""
        classes = load_grey(self._parsing, frame)
        picture = resize(load_rgb(self._frames, frame), size_px)
        return parse_overlay(
            picture, np.asarray(cv2.resize(classes, (size_px, size_px), interpolation=cv2.INTER_NEAREST), np.uint8)
        )

    def tiles(self, frame: int) -> dict[str, Rgb]:
        """All ``TILES`` of a frame; without the rendered ones where the frame was not compared."""
        overlay = self.overlay(frame, self.side_px)
        if frame_name(frame, ".truth.jpg") not in self._pictures.names:
            return {"truth": load_rgb(self._frames, frame), "parsing": overlay}
        shown = self.rendered(frame)
        errors = {f"{mode}_error": error_map(shown[mode], shown["truth"]) for mode in SERIES[1:]}
        return {**shown, **errors, "parsing": overlay}

    def sheet(self, frame: int, tile_px: int) -> Rgb:
        """A frame of the video: ``TILES`` in rows of ``COLUMNS``."""
        tiles = self.tiles(frame)
        rows = -(-len(TILES) // COLUMNS)
        sheet = np.full((rows * tile_px, COLUMNS * tile_px, 3), 96, np.uint8)
        for place, name in enumerate(TILES):
            if name in tiles:
                down, along = (tile_px * index for index in divmod(place, COLUMNS))
                sheet[down : down + tile_px, along : along + tile_px] = resize(tiles[name], tile_px)
        return sheet


@dataclass(frozen=True)
class TiledVideo:
    """The video of a report.

    Attributes:
        data: MP4.
        frames: The frame number of each of its frames.
        tile_px: Side of a tile.
        crf: x264's constant rate factor.
        sound: Whether it has the clip's sound.
        left_out: Frames at the end that did not fit.
    """

    data: bytes
    frames: list[int]
    tile_px: int
    crf: int
    sound: bool
    left_out: int


def tiled_video(
    sheets: FrameSheets,
    frames: Sequence[int],
    sound: Path,
    size_px: int,
    most_bytes: int,
    statement: Statement,
    *,
    sign: bool,
) -> TiledVideo:
    """Encode the frames compared, small enough for a page.

    Args:
        sheets: Makes the tiles.
        frames: Numbers of the frames compared, ascending.
        sound: The clip's sound, 16-bit mono WAV beginning with frame 0.
        size_px: Side of a tile, at most; 0 takes the pictures' own.
        most_bytes: Compressed harder, halved in size, then cut until it fits; one frame is always left.
        statement: What its metadata and its manifest say.
        sign: Whether it gets a manifest.
    """
    shown = timeline(frames)
    with_sound = len(shown) > 1 and shown[-1] - shown[0] + 1 == len(shown)
    full_px = min(size_px or sheets.side_px, sheets.side_px)
    full_px -= full_px % 2
    half_px = max(_LEAST_TILE_PX, full_px // 4 * 2)
    # A manifest and the header take about 20 kB.
    with tempfile.TemporaryDirectory(prefix="radnerf-report-") as folder:
        video, wav = Path(folder) / "video.mp4", Path(folder) / "sound.wav"

        def encode(count: int, tile_px: int, crf: int) -> int:
            if with_sound:
                _cut_sound(sound, shown[0] / FPS, count / FPS, wav)
            metadata = container_metadata(statement.subject, statement.model_version, statement.consent)
            with VideoWriter(
                video,
                (COLUMNS * tile_px, -(-len(TILES) // COLUMNS) * tile_px),
                FPS,
                audio=wav if with_sound else None,
                length=count,
                crf=crf,
                metadata=metadata,
            ) as writer:
                for frame in progress.track(shown[:count], "pictures", count):
                    writer.write(sheets.sheet(frame, tile_px))
            if sign:
                sign_video(video, statement)
            return video.stat().st_size

        count, choices = len(shown), [(side, crf) for side in dict.fromkeys((full_px, half_px)) for crf in _CRFS]
        for tile_px, crf in choices:
            size = encode(count, tile_px, crf)
            if size <= most_bytes:
                break
        while size > most_bytes and count > 1:
            count = max(1, min(count - 1, int(0.9 * count * most_bytes / size)))
            size = encode(count, tile_px, crf)
        return TiledVideo(video.read_bytes(), shown[:count], tile_px, crf, with_sound, len(shown) - count)


def _cut_sound(sound: Path, start_s: float, duration_s: float, cut: Path) -> None:
    samples, rate_hz = read_sound(sound, start_s, duration_s)
    with wave.open(str(cut), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate_hz)
        # A clip whose picture goes on in silence still has sound for ffmpeg to read.
        stream.writeframes(samples.tobytes() if len(samples) else bytes(2))


def read_sound(sound: Path, start_s: float, duration_s: float) -> tuple[npt.NDArray[np.int16], int]:
    """A stretch of a prepared clip's sound.

    Args:
        sound: 16-bit mono WAV.
        start_s: Where it begins.
        duration_s: Its length; less where the sound ends earlier.

    Returns:
        (T,) int16, and samples a second.

    Raises:
        BadInput: The file is missing, damaged or of another kind.
    """
    try:
        with wave.open(str(sound), "rb") as stream:
            if stream.getnchannels() != 1 or stream.getsampwidth() != 2:
                raise BadInput(f"{sound} is no 16-bit mono sound", hint=DELETE_AND_REPEAT)
            rate_hz = stream.getframerate()
            stream.setpos(min(round(start_s * rate_hz), stream.getnframes()))
            data = stream.readframes(round(duration_s * rate_hz))
    except (OSError, EOFError, wave.Error) as error:
        raise BadInput(f"{sound} cannot be read: {error}", hint=DELETE_AND_REPEAT) from error
    return np.frombuffer(data[: len(data) // 2 * 2], np.int16), rate_hz


@dataclass(frozen=True)
class Still:
    """A picture of a report.

    Attributes:
        frame: Its number.
        name: One of ``TILES``.
        jpeg: The picture.
        side_px: Its side.
    """

    frame: int
    name: str
    jpeg: bytes
    side_px: int


def compared_stills(sheets: FrameSheets, frame: int) -> list[Still]:
    """Truth, both modes and their errors of one frame, nearly without loss."""
    side_px = min(sheets.side_px, _STILL_PX)
    tiles = sheets.tiles(frame)
    return [_still(frame, name, resize(tiles[name], side_px)) for name in TILES[:-1]]


def parsing_stills(sheets: FrameSheets, count: int) -> list[Still]:
    """The parse overlay of a few frames spread over the clip.

    Args:
        sheets: Makes them.
        count: Frames of the clip.
    """
    side_px = min(sheets.side_px, _STILL_PX)
    chosen = spread(range(count), _CLIP_STILLS)
    return [_still(frame, "parsing", sheets.overlay(frame, side_px)) for frame in chosen]


def _still(frame: int, name: str, picture: Rgb) -> Still:
    return Still(frame, name, encode_jpeg(picture, _STILL_QUALITY), picture.shape[0])

"""What an evaluation measured frame by frame, and the pictures that it looked at: what a report is drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from radnerf.camera import Camera
from stages.archive import ArchiveWriter, frame_name
from stages.atomic_files import atomic_path, load_json, save_json
from stages.errors import DELETE_AND_REPEAT, BadInput
from stages.evaluation_measures import Reading
from stages.formats import FPS, Track
from stages.vision.canonical_face import vertices_cm
from stages.vision.face_measures import eye_openness, measure_mouth, open_eye_ratio
from stages.vision.images import Rgb, encode_jpeg
from stages.vision.reprojection import Pinhole

FACE_KEYS = ("lip_opening", "lip_width", "eye_open")
"""Read off each picture's face; the lips over the distance of the outer eye corners, the eyes over open ones."""

SCORE_KEYS = ("psnr_full", "psnr_head", "psnr_mouth")
"""Of each rendered picture against the true one, dB."""

SERIES = ("truth", "head", "composite")
"""The pictures of a frame: the true one, and rendered in both modes."""

_DIGITS = 4
_JPEG_QUALITY = 92

Curve = list[float | None]


class KeepPictures(Protocol):
    """Keeps a frame's pictures."""

    def __call__(self, frame: int, pictures: Mapping[str, Rgb]) -> None:
        """Keep (S, S, 3) uint8 RGB pictures by the name of their series."""


@contextmanager
def keeping_pictures(path: Path | None) -> Iterator[KeepPictures]:
    """A function that puts pictures into an archive, which appears when the block succeeds; None keeps none."""
    if path is None:
        yield lambda frame, pictures: None  # noqa: ARG005 - the signature is the protocol's
        return
    with atomic_path(path) as temporary, ArchiveWriter(temporary) as archive:

        def keep(frame: int, pictures: Mapping[str, Rgb]) -> None:
            for series, picture in pictures.items():
                archive.add(frame_name(frame, f".{series}.jpg"), encode_jpeg(picture, _JPEG_QUALITY))

        yield keep


def save_series(
    path: Path,
    frames: Sequence[int],
    faces: Mapping[str, Reading],
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    track: Track,
    camera: Camera,
) -> None:
    """Write the curves of an evaluation.

    Args:
        path: JSON, ``{"fps", "frames", "truth": {curve: [...]}, "head": {...}, "composite": {...}}``; a value that a
            frame does not tell is null.
        frames: Numbers of the frames compared, ascending.
        faces: What was read of ``truth``, ``head`` and ``composite``.
        scores: For each mode, a frame's ``SCORE_KEYS`` among others.
        track: Poses and this face's shape.
        camera: At the size at which faces were read.
    """
    truth = faces["truth"].points
    open_ratio = open_eye_ratio(truth) if len(truth) else math.nan
    values: dict[str, dict[str, Curve]] = {
        series: _face_curves(faces[series], frames, open_ratio, track, camera) for series in SERIES
    }
    for mode, rows in scores.items():
        values[mode] |= {key: [_number(row[key]) for row in rows] for key in SCORE_KEYS}
    save_json(path, {"fps": FPS, "frames": [int(frame) for frame in frames], **values})


def _face_curves(
    reading: Reading, frames: Sequence[int], open_ratio: float, track: Track, camera: Camera
) -> dict[str, Curve]:
    found = reading.frames
    if len(found) == 0:
        return {key: [None] * len(frames) for key in FACE_KEYS}
    mouth = measure_mouth(
        reading.points,
        track.rotation[found],
        track.translation[found],
        Pinhole(camera.focal_px, camera.centre_x_px, camera.centre_y_px),
        vertices_cm + track.shape_offset_cm,
    )
    blank = np.full(len(found), math.nan)
    eyes = blank if math.isnan(open_ratio) else eye_openness(reading.points, open_ratio)
    curves = {"lip_opening": mouth.opening, "lip_width": mouth.width, "eye_open": eyes}
    places = {int(frame): place for place, frame in enumerate(found)}
    return {
        key: [_number(float(curve[places[frame]])) if frame in places else None for frame in frames]
        for key, curve in curves.items()
    }


def _number(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None


def load_series(path: Path) -> dict[str, Any]:
    """The curves that ``save_series`` wrote.

    Raises:
        BadInput: The file is missing, damaged, or its curves have not one value a frame.
    """
    values = load_json(path)
    frames = values.get("frames")
    wanted = {series: FACE_KEYS + (SCORE_KEYS if series != "truth" else ()) for series in SERIES}
    whole = isinstance(frames, list) and all(
        isinstance(curves := values.get(series), dict) and all(_fits(curves.get(key), len(frames)) for key in keys)
        for series, keys in wanted.items()
    )
    if not whole or not frames:
        raise BadInput(f"{path} holds no whole curves", hint=DELETE_AND_REPEAT)
    return values


def _fits(curve: object, count: int) -> bool:
    return (
        isinstance(curve, list)
        and len(curve) == count
        and all(value is None or isinstance(value, int | float) for value in curve)
    )

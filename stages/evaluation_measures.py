"""What is read off faces in rendered and in true pictures, in the same way, and how the two compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from radnerf.camera import Camera
from radnerf.metrics import amplitude_gain, correlation, jitter_ratio, landmark_distance
from stages.formats import Track
from stages.vision.canonical_face import vertices_cm
from stages.vision.face_measures import (
    LIP_INDICES,
    brow_raise_mm,
    compare_blinks,
    eye_openness,
    find_blinks,
    measure_mouth,
    open_eye_ratio,
)
from stages.vision.face_mesh import POINTS, FaceMesh
from stages.vision.images import Rgb
from stages.vision.reprojection import Pinhole

LEAST_READING_PX = 256
"""Least side of a picture that faces are read in: below it an opening is a pixel or two, and its reading noise."""

FACE_FIGURES = (
    "lmd_px",
    "lip_opening_r",
    "lip_opening_gain",
    "lip_width_r",
    "lip_width_gain",
    "blink_r",
    "blinks_missed",
    "blinks_invented",
    "brow_r",
    "brow_gain",
    "jitter_ratio",
)
"""What ``face_figures`` gives."""

NOSE = (1, 4, 5, 6, 195, 197)
"""Landmarks along the ridge of the nose, whose mean tells how the head trembles."""


@dataclass(frozen=True)
class Reading:
    """The faces found in a series of pictures.

    Attributes:
        frames: (K,) int64, numbers of the frames in which a face was found, ascending.
        points: (K, 478, 2) float32, landmarks in px.
        missed: (M,) int64, the frames in which none was.
    """

    frames: NDArray[np.int64]
    points: NDArray[np.float32]
    missed: NDArray[np.int64]

    def at(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """The landmarks of some of the frames found, (F, 478, 2)."""
        return self.points[np.searchsorted(self.frames, frames)]


class FaceReader:
    """Reads the face in one picture after another; a context manager, since it keeps a native graph open.

    Each picture is looked at alone: on true frames of german.mp4 at 256 px, MediaPipe's tracking over frames gave
    the same readings with the Tasks model, and slightly noisier ones with the bundled mesh.

    Attributes:
        model: ``tasks`` or ``mesh``: what is used.
    """

    def __init__(self) -> None:
        """Load the best model that is here."""
        self._mesh = FaceMesh("auto", video=False)
        self.model = self._mesh.model
        self._found: dict[str, list[tuple[int, NDArray[np.float32]]]] = {}
        self._missed: dict[str, list[int]] = {}

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Free the native graph."""
        self._mesh.__exit__(kind, error, None)

    def look(self, series: str, frame: int, rgb: Rgb) -> None:
        """Read the face in a picture.

        Args:
            series: Which series the picture belongs to.
            frame: Its number, greater than the one before in this series.
            rgb: (S, S, 3) uint8 RGB.
        """
        points = self._mesh.detect(rgb)
        if points is None:
            self._missed.setdefault(series, []).append(frame)
        else:
            self._found.setdefault(series, []).append((frame, points[:, :2]))

    def reading(self, series: str) -> Reading:
        """All that was read of a series."""
        found = self._found.get(series, [])
        points = np.stack([points for _, points in found]) if found else np.zeros((0, POINTS, 2), np.float32)
        frames = np.array([frame for frame, _ in found], np.int64)
        return Reading(frames, points, np.array(self._missed.get(series, []), np.int64))


def face_figures(rendered: Reading, truth: Reading, track: Track, camera: Camera) -> dict[str, float]:
    """Compare what rendered and true faces do, over the frames in which both were found.

    Args:
        rendered: Of the rendered pictures.
        truth: Of the true ones.
        track: Poses and this face's shape.
        camera: At the pictures' size.

    Returns:
        ``FACE_FIGURES``; NaN where the frames do not tell.
    """
    both = np.intersect1d(rendered.frames, truth.frames)
    if len(both) == 0:
        return dict.fromkeys(FACE_FIGURES, math.nan)
    ours, theirs = rendered.at(both), truth.at(both)
    pinhole = Pinhole(camera.focal_px, camera.centre_x_px, camera.centre_y_px)
    face_cm = vertices_cm + track.shape_offset_cm
    placed = track.rotation[both], track.translation[both], pinhole, face_cm
    our_mouth, their_mouth = (measure_mouth(points, *placed) for points in (ours, theirs))
    our_brows, their_brows = (brow_raise_mm(points, *placed) for points in (ours, theirs))
    open_ratio = open_eye_ratio(theirs)
    our_eyes, their_eyes = (eye_openness(points, open_ratio) for points in (ours, theirs))
    our_blinks, their_blinks = (both[find_blinks(eyes)] for eyes in (our_eyes, their_eyes))
    noses = [points[:, NOSE].mean(axis=1) for points in (ours, theirs)]
    values = (
        landmark_distance(ours[:, LIP_INDICES], theirs[:, LIP_INDICES]),
        correlation(our_mouth.opening, their_mouth.opening),
        amplitude_gain(our_mouth.opening, their_mouth.opening),
        correlation(our_mouth.width, their_mouth.width),
        amplitude_gain(our_mouth.width, their_mouth.width),
        correlation(our_eyes, their_eyes),
        *compare_blinks(our_blinks, their_blinks),
        correlation(our_brows, their_brows),
        amplitude_gain(our_brows, their_brows),
        jitter_ratio(noses[0], noses[1], both),
    )
    return dict(zip(FACE_FIGURES, values, strict=True))

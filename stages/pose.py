"""The pose stage: landmarks become one camera, a head pose a frame, and what eyes and mouth do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.archive import Archive
from stages.errors import BadInput
from stages.formats import FPS, Landmarks, Track
from stages.progress import report
from stages.settings import PoseSettings
from stages.vision import canonical_face
from stages.vision.bundle_adjustment import Adjustment, adjust
from stages.vision.clip import count_frames
from stages.vision.face_measures import brow_raise_mm, eye_openness, find_blinks, measure_mouth, open_eye_ratio
from stages.vision.surface_refinement import refine

HOPELESS_RMS = 3.0 / 512
"""Reprojection error, over the frame's side, beyond which the track would only make a blurred head."""

LEAST_TRACKED = 0.75
"""Share of the frames with a face whose landmarks must agree with one head that moves smoothly."""


@dataclass(frozen=True)
class Inputs:
    """What the stage reads.

    Attributes:
        landmarks: ``stages.formats.Landmarks`` (npz).
        frames: Square frames (zip of JPEG), whose skin may tell the pose better; None for landmarks alone.
    """

    landmarks: Path
    frames: Path | None = None


@dataclass(frozen=True)
class Outputs:
    """What the stage writes.

    Attributes:
        track: ``stages.formats.Track`` (npz).
    """

    track: Path


def run(inputs: Inputs, outputs: Outputs, settings: PoseSettings) -> None:
    """Solve camera, shape and poses, measure eyes and mouth, and write the track.

    Raises:
        BadInput: The landmarks are missing or damaged, hold no face, or do not fit one head.
    """
    landmarks = Landmarks.load(inputs.landmarks)
    report("pose", 0, 1)
    track = solve_track(landmarks, settings, inputs.frames)
    track.save(outputs.track)
    report("pose", 1, 1, f"reprojection {track.reprojection_rms_px:.2f} px, {len(track.blinks)} blinks")


def solve_track(landmarks: Landmarks, settings: PoseSettings, frames: Path | None = None) -> Track:
    """The track of a clip.

    Args:
        landmarks: Of every frame.
        settings: How to solve.
        frames: Archive of the frames; None solves from landmarks alone.

    Raises:
        BadInput: No frame holds a face, or the landmarks do not fit one head.
    """
    if not landmarks.found.any():
        raise BadInput("no face was found in any frame", hint="give a video in which one face is seen throughout")
    adjustment = adjust(
        landmarks.points,
        landmarks.found,
        size_px=landmarks.size_px,
        focal_ratio=settings.focal_ratio,
        shape_sigma_cm=settings.shape_sigma_cm,
        smoothing=settings.smoothing,
    )
    _check(adjustment, landmarks)
    if frames is not None and settings.skin:
        adjustment = _by_skin(adjustment, landmarks, frames, settings)
    tracked = adjustment.tracked
    seen = landmarks.points[tracked]
    eyes = eye_openness(seen, open_eye_ratio(seen))
    face_cm = canonical_face.vertices_cm + adjustment.shape_offset_cm
    placed = adjustment.rotation[tracked], adjustment.translation[tracked], adjustment.camera, face_cm
    mouth = measure_mouth(seen, *placed)
    eye_open = _bridged(eyes, tracked)
    # Rounded far below what landmarks tell: a solver's last bits differ with the number of its threads.
    return Track(
        rotation=adjustment.rotation.round(7).astype(np.float32),
        translation=adjustment.translation.round(7).astype(np.float32),
        eye_open=eye_open,
        mouth_open=_bridged(mouth.opening, tracked),
        mouth_wide=_bridged(mouth.width, tracked),
        mouth_shape=_bridged(mouth.shape, tracked),
        tracked=tracked,
        blinks=find_blinks(eye_open),
        shape_offset_cm=adjustment.shape_offset_cm.astype(np.float32),
        focal_px=float(adjustment.camera.focal_px),
        centre_x_px=float(adjustment.camera.centre_x_px),
        centre_y_px=float(adjustment.camera.centre_y_px),
        reprojection_rms_px=round(adjustment.rms_px, 6),
        size_px=int(landmarks.size_px),
        brow_mm=_bridged(brow_raise_mm(seen, *placed), tracked),
    )


def _by_skin(adjustment: Adjustment, landmarks: Landmarks, frames: Path, settings: PoseSettings) -> Adjustment:
    """Poses by the skin's texture where that aligns the clip better; else those that there are."""
    with Archive(frames) as archive:
        count = count_frames(archive)
    if count != len(landmarks.found):
        raise BadInput(
            f"{frames} has {count} frames, the landmarks {len(landmarks.found)}",
            hint="run the stages frames and landmarks again",
        )
    better = refine(
        adjustment, landmarks.points, frames, landmarks.size_px, settings.shape_sigma_cm, settings.smoothing
    )
    return adjustment if better is None else better


def _check(adjustment: Adjustment, landmarks: Landmarks) -> None:
    """Raise when the track would be of no use."""
    rejected = landmarks.found & ~adjustment.tracked
    if adjustment.tracked.sum() < LEAST_TRACKED * landmarks.found.sum():
        raise BadInput(
            f"the face cannot be followed: {rejected.sum()} of {landmarks.found.sum()} frames do not fit"
            f" one head ({_times(rejected)})",
            hint="cut the video to a stretch in which one face is seen throughout",
        )
    limit_px = HOPELESS_RMS * landmarks.size_px
    if adjustment.rms_px > limit_px:
        raise BadInput(
            f"the head pose cannot be told: its reprojection error is {adjustment.rms_px:.1f} px,"
            f" more than {limit_px:.1f} px at {landmarks.size_px} x {landmarks.size_px}",
            hint="give a video of one face, sharp, well lit and seen mostly from the front",
        )


def _times(frames: NDArray[np.bool_], most: int = 4) -> str:
    """The stretches of the clip in which ``frames`` is set, in seconds: ``"1.2-1.5 s, 3.0-3.1 s"``."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], frames, [False])).astype(np.int8)))
    spans = [f"{first / FPS:.1f}-{last / FPS:.1f} s" for first, last in edges.reshape(-1, 2).tolist()]
    more = f" and {len(spans) - most} more" if len(spans) > most else ""
    return ", ".join(spans[:most]) + more


def _bridged(values: NDArray[np.float32] | NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values of the known frames, and straight lines between them for the others.

    Args:
        values: (K, ...) for the K known frames.
        known: (N,) bool.

    Returns:
        (N, ...) float32.
    """
    frames = np.arange(len(known))
    flat = values.reshape(len(values), -1)
    columns = [np.interp(frames, frames[known], column) for column in flat.T]
    return np.stack(columns, axis=1).reshape(len(known), *values.shape[1:]).astype(np.float32)

"""Stage 4a: 478 face landmarks in every frame."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from stages.archive import Archive
from stages.errors import BadInput
from stages.formats import FPS, Landmarks
from stages.progress import report
from stages.settings import LandmarksSettings
from stages.vision.clip import load_rgb
from stages.vision.face_mesh import POINTS, FaceMesh, Model, choose_model
from stages.workers import end_with_parent, result_of

MAX_MISSING_SHARE = 0.1
"""Share of the frames that may lack a face."""

_LABEL = "landmarks"
_WARM_UP = 12
_LEAST_FOR_TWO = 100

Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]

Counter: TypeAlias = "Synchronized[int]"
"""Frames done so far, shared by the worker processes."""

_counter: Counter | None = None


@dataclass(frozen=True)
class Inputs:
    """What the stage reads.

    Attributes:
        frames: The frames archive.
    """

    frames: Path


@dataclass(frozen=True)
class Outputs:
    """What the stage writes.

    Attributes:
        landmarks: 478 points a frame (npz).
    """

    landmarks: Path


def run(inputs: Inputs, outputs: Outputs, settings: LandmarksSettings) -> None:
    """Find the landmarks of every frame.

    Raises:
        BadInput: The face is missing for longer than ``max_gap_s`` or in more than a tenth of the frames; names
            the times.
    """
    model = choose_model(settings.model)
    with Archive(inputs.frames) as archive:
        count = len(archive.names)
        size_px = load_rgb(archive, 0).shape[0]
    points, found = track_faces(inputs.frames, count, model)
    require_faces(found, settings.max_gap_s)
    Landmarks(points=points, found=found, model=model, size_px=size_px).save(outputs.landmarks)


def require_faces(found: npt.NDArray[np.bool_], max_gap_s: float) -> None:
    """Make sure that the face is there nearly all the time.

    Args:
        found: (N,) bool, a face in frame i.
        max_gap_s: Longest stretch without one.

    Raises:
        BadInput: A longer stretch, or more than a tenth of all frames; names the times.
    """
    gaps = missing_stretches(found)
    long = [gap for gap in gaps if (gap[1] - gap[0]) / FPS > max_gap_s + 1e-6]
    share = 1.0 - float(found.mean()) if len(found) else 1.0
    if not long and share <= MAX_MISSING_SHARE:
        return
    worst = sorted(sorted(long or gaps, key=lambda gap: gap[0] - gap[1])[:5])
    times = ", ".join(f"from {start / FPS:.1f} s to {stop / FPS:.1f} s" for start, stop in worst)
    more = len(long or gaps) - len(worst)
    raise BadInput(
        f"no face {times}{f' and {more} times more' if more > 0 else ''} ({share:.0%} of the clip)",
        hint="cut the video to where the face is seen",
    )


def missing_stretches(found: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The stretches without a face as (first, one after the last) frame.

    Args:
        found: (N,) bool.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[True], found, [True]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def track_faces(frames: Path, count: int, model: Model) -> Found:
    """Landmarks of all frames of an archive, in two processes where it is long.

    Each process begins a few frames early, so that its tracking has settled where its part begins.

    Args:
        frames: The frames archive.
        count: Frames in it.
        model: What finds the landmarks.

    Returns:
        points (N, 478, 3) float32 px, found (N,) bool, as in ``Landmarks``.
    """
    workers = min(2, os.cpu_count() or 1) if count > _LEAST_FOR_TWO else 1
    report(_LABEL, 0, count)
    if workers == 1:
        return _track_part(frames, 0, count, model)
    bounds = np.linspace(0, count, workers + 1).round().astype(int)
    # A fresh interpreter each: a fork would copy this one's threads in an unknown state.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(workers, context, _keep_counter, (counter,)) as pool:
        parts = [
            pool.submit(_track_part, frames, int(start), int(stop), model) for start, stop in itertools.pairwise(bounds)
        ]
        results = _results(parts, counter, count)
    return np.concatenate([points for points, _ in results]), np.concatenate([found for _, found in results])


def _results(parts: Sequence[Future[Found]], counter: Counter, count: int) -> list[Found]:
    waiting = set(parts)
    while waiting:
        done, waiting = wait(waiting, timeout=0.2)
        report(_LABEL, min(counter.value, count), count)
        for part in done:
            result_of(part)
    return [result_of(part) for part in parts]


def _keep_counter(counter: Counter) -> None:
    global _counter
    _counter = counter
    end_with_parent()


def _track_part(frames: Path, start: int, stop: int, model: Model) -> Found:
    """Landmarks of frames [start, stop), following the face nearest to the one before."""
    points = np.zeros((stop - start, POINTS, 3), np.float32)
    found = np.zeros(stop - start, np.bool_)
    previous: npt.NDArray[np.float32] | None = None
    with Archive(frames) as archive, FaceMesh(model, video=True, max_faces=2, fps=FPS) as mesh:
        for index in range(max(0, start - _WARM_UP), stop):
            rgb = load_rgb(archive, index)
            face = nearest_face(mesh.detect_all(rgb), previous)
            previous = previous if face is None else face
            if index < start:
                continue
            if face is not None:
                points[index - start], found[index - start] = face, True
            if _counter is None:
                report(_LABEL, index + 1 - start, stop - start)
            else:
                with _counter.get_lock():
                    _counter.value += 1
    return points, found


def nearest_face(
    faces: npt.NDArray[np.float32], previous: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float32] | None:
    """The face that goes on from the one before; the biggest where there was none.

    Args:
        faces: (F, 478, 3) float32 px.
        previous: (478, 3) float32 px, or None.

    Returns:
        (478, 3) float32 px, or None where there are no faces.
    """
    if not len(faces):
        return None
    centres = faces[:, :, :2].mean(axis=1)
    if previous is None:
        spans = np.ptp(faces[:, :, :2], axis=1).prod(axis=1)
        return np.asarray(faces[int(spans.argmax())])
    distance = np.linalg.norm(centres - previous[:, :2].mean(axis=0), axis=1)
    return np.asarray(faces[int(distance.argmin())])

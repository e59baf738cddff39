"""The curves of a report, thinned out to what a page can show."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.atomic_files import load_json
from stages.errors import DELETE_AND_REPEAT, BadInput
from stages.formats import FPS, Track
from stages.report_pictures import read_sound
from stages.training_data import camera_of, mouth_boxes

MOST_POINTS = 160
"""Points of a training curve."""

MOST_CLIP_POINTS = 1500
"""Points of a curve over the whole clip."""

WAVE_HZ = 100
"""Strokes a second of the waveform."""

MOST_STROKES = 3000
"""Strokes of the waveform."""

QUIET_DB = -45.0
"""Level below full scale under which nobody can be heard to speak."""

Values = list[float | None]
Floats = npt.NDArray[np.float64]


def load_history(path: Path) -> dict[str, Any]:
    """A training's curves.

    Args:
        path: ``history.json`` of head or torso.

    Returns:
        ``steps``, ``seconds`` and ``lips_loss`` (None where there is none) of the whole training, and of at most
        ``MOST_POINTS`` stretches: the last ``step``, ``second``, ``psnr_db`` and ``rate``, and the ``loss``: its
        geometric mean, ``loss_low`` and ``loss_high``.

    Raises:
        BadInput: The file is missing or damaged.
    """
    history = load_json(path)
    try:
        points: list[dict[str, Any]] = history["points"]
        stretches = [points[part[0] : part[-1] + 1] for part in _parts(len(points), MOST_POINTS)]
        losses = [[value for point in part if (value := _known(point["loss"])) is not None] for part in stretches]
        return {
            "steps": int(history["steps"]),
            "seconds": float(history["seconds"]),
            "lips_loss": history.get("lips_loss"),
            "step": [int(part[-1]["step"]) for part in stretches],
            "second": [float(part[-1]["seconds"]) for part in stretches],
            "psnr_db": [_known(part[-1]["psnr_db"]) for part in stretches],
            "rate": [_known(part[-1]["rate"], 9) for part in stretches],
            "loss": [_each(part, _geometric_mean) for part in losses],
            "loss_low": [_each(part, min) for part in losses],
            "loss_high": [_each(part, max) for part in losses],
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} holds no whole history: {error!r}", hint=DELETE_AND_REPEAT) from error


def _parts(count: int, most: int) -> list[npt.NDArray[np.int64]]:
    """The indices 0 to ``count`` in at most so many parts of about equal length, none empty."""
    return [part for part in np.array_split(np.arange(count), min(count, most)) if len(part)] if count else []


def _known(value: float | None, digits: int = 7) -> float | None:
    return round(float(value), digits) if value is not None and math.isfinite(value) else None


def _each(values: list[float], measure: Callable[[list[float]], float]) -> float | None:
    return _known(measure(values)) if values else None


def _geometric_mean(values: list[float]) -> float:
    positive = [value for value in values if value > 0]
    return math.exp(sum(map(math.log, positive)) / len(positive)) if positive else 0.0


def pose_angles(rotation: npt.NDArray[np.float32]) -> Floats:
    """How heads are turned.

    Args:
        rotation: (N, 3, 3), head to camera.

    Returns:
        (N, 3) degrees: yaw (the face towards the image's right), pitch (upwards), roll (the crown to the image's
        right); for a rotation that rolls first, then pitches, then turns.
    """
    # From OpenCV's camera axes to those of a head that looks into it.
    facing = np.diag([1.0, -1.0, -1.0]) @ rotation.astype(np.float64)
    yaw = np.arctan2(facing[:, 0, 2], facing[:, 2, 2])
    pitch = np.arcsin(np.clip(facing[:, 1, 2], -1, 1))
    right = np.stack([np.cos(yaw), np.zeros_like(yaw), -np.sin(yaw)], axis=1)
    roll = -np.arctan2((facing[:, :, 1] * -right).sum(axis=1), (facing[:, :, 0] * right).sum(axis=1))
    angles: Floats = np.degrees(np.stack([yaw, pitch, roll], axis=1))
    return angles


def clip_curves(track: Track) -> dict[str, Any]:
    """Pose, eyes and brows over the whole clip.

    Returns:
        ``frame``, ``yaw``, ``pitch``, ``roll`` (degrees), ``x``, ``y``, ``z`` (cm, camera axes, from the clip's
        median) of frames at equal distances, null where the pose was not measured; ``eye_open``, the least of each
        stretch, so that no blink is lost; ``brow_mm``, the most of each; ``blinks``; ``untracked``, how many frames
        have no measured pose.
    """
    frames = len(track.tracked)
    parts = _parts(frames, MOST_CLIP_POINTS)
    chosen = np.array([part[0] for part in parts])
    angles = pose_angles(track.rotation[chosen])
    middle = np.median(track.translation[track.tracked], axis=0) if track.tracked.any() else np.zeros(3)
    places = track.translation[chosen] - middle
    known = track.tracked[chosen]

    def curve(values: Floats | npt.NDArray[np.float32]) -> Values:
        return [round(float(value), 3) if there else None for value, there in zip(values, known, strict=True)]

    return {
        "frames": frames,
        "frame": chosen.tolist(),
        **{name: curve(angles[:, column]) for column, name in enumerate(("yaw", "pitch", "roll"))},
        **{name: curve(places[:, column]) for column, name in enumerate(("x", "y", "z"))},
        "eye_open": [round(float(track.eye_open[part].min()), 3) for part in parts],
        "brow_mm": [round(float(track.brow_mm[part].max()), 2) for part in parts],
        "blinks": track.blinks.tolist(),
        "untracked": int((~track.tracked).sum()),
    }


def waveform(sound: Path, frames: Sequence[int]) -> dict[str, Any]:
    """The sound of a stretch of frames, as strokes from its lowest to its highest sample.

    Args:
        sound: The clip's sound, beginning with frame 0.
        frames: The first and the last frame.

    Returns:
        ``second`` (of the clip, where each stroke begins), ``low`` and ``high`` (in [-1, 1]) of at most
        ``MOST_STROKES``; empty where there is no sound. ``heard``: the share of the time that is louder than
        ``QUIET_DB``, measured over a frame at a time.
    """
    start_s, duration_s = frames[0] / FPS, (frames[-1] + 1 - frames[0]) / FPS
    samples, rate_hz = read_sound(sound, start_s, duration_s)
    parts = _parts(len(samples), min(MOST_STROKES, math.ceil(duration_s * WAVE_HZ)))
    values = samples.astype(np.float64) / 32768
    return {
        "second": [round(start_s + int(part[0]) / rate_hz, 3) for part in parts],
        "low": [round(float(values[part].min()), 3) for part in parts],
        "high": [round(float(values[part].max()), 3) for part in parts],
        "heard": round(_heard(values, rate_hz // FPS), 3),
    }


def _heard(samples: Floats, block: int) -> float:
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    loud = np.sqrt((blocks**2).mean(axis=1)) > 10 ** (QUIET_DB / 20)
    return float(loud.mean()) if len(loud) else 0.0


def mouth_places(track: Track, frames: Sequence[int]) -> dict[str, Any]:
    """Where the mouth is in each frame, for enlarging it.

    Args:
        track: Poses and this face's shape.
        frames: Numbers of the frames.

    Returns:
        ``centre``, (x, y) for each frame, and ``side``, that of a square that holds each mouth; shares of the
        picture's side.
    """
    boxes = mouth_boxes(track, camera_of(track))[list(frames)].numpy() / track.size_px
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    return {"centre": centres.round(4).tolist(), "side": round(min(1.0, 1.15 * float(np.median(sides))), 4)}


def load_times(folder: Path) -> dict[str, dict[str, float | None]]:
    """What each stage took when the workflow last ran it.

    Args:
        folder: Of Snakemake's benchmarks; need not be there.

    Returns:
        ``seconds`` and ``memory_mb`` by the benchmark's name; files that cannot be read are passed over.
    """
    times: dict[str, dict[str, float | None]] = {}
    for path in sorted(folder.glob("*.tsv")):
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                row = next(csv.DictReader(stream, delimiter="\t"))
            times[path.stem] = {"seconds": float(row["s"]), "memory_mb": _measured(row["max_rss"])}
        except (OSError, UnicodeDecodeError, StopIteration, KeyError, ValueError, TypeError):
            continue
    return times


def _measured(text: str) -> float | None:
    """A number of a benchmark; None for what Snakemake could not measure of a short job."""
    try:
        return _known(float(text))
    except ValueError:
        return None

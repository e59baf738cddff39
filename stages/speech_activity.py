"""When a speech speaks and when it rests, frame by frame."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.errors import DELETE_AND_REPEAT, BadInput
from stages.formats import FEATURE_RATE_HZ, FPS

Floats = NDArray[np.float64]

_ROWS = FEATURE_RATE_HZ // FPS
_SILENT_DB = -60.0
_BELOW_LOUD_DB = (38.0, 24.0)  # below the loud passages: surely rest, surely speech


def load_activity(path: Path, frames: int) -> Floats:
    """How much of each frame is speech: what the features' file says of it, or else told by the level.

    Args:
        path: ``AudioFeatures`` (npz); ``voiced``, one value a row in [0, 1], may be among its arrays.
        frames: Of the video.

    Returns:
        (frames,) in [0, 1].

    Raises:
        BadInput: The file is missing or damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            told = stored["voiced"] if "voiced" in stored.files else from_level(stored["level_db"])
            told = np.asarray(told, np.float64)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing", hint="run the audio stage") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged: {error}", hint=DELETE_AND_REPEAT) from error
    if told.ndim != 1 or len(told) == 0 or not np.isfinite(told).all():
        raise BadInput(f"{path} is damaged: its activity is no curve", hint=DELETE_AND_REPEAT)
    if len(told) > frames:
        told = np.pad(told, (0, -len(told) % _ROWS), mode="edge").reshape(-1, _ROWS).max(axis=1)
    told = np.clip(told, 0, 1)
    return np.pad(told[:frames], (0, max(frames - len(told), 0)), mode="edge")


def from_level(level_db: NDArray[np.float32]) -> Floats:
    """Activity of each row by its level against the speech's own loud passages.

    Args:
        level_db: (T,) float32, dB below full scale.

    Returns:
        (T,) in [0, 1].
    """
    loud = float(np.percentile(level_db, 95))
    if loud < _SILENT_DB:
        return np.zeros(len(level_db))
    low, high = (loud - below for below in _BELOW_LOUD_DB)
    return np.clip((level_db.astype(np.float64) - low) / (high - low), 0, 1)

"""What a front end is, which ones there are, and how sound longer than a window goes through one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stages.errors import BadInput
from stages.progress import report
from stages.settings import AudioSettings
from stages.sound.wav import ROW_SAMPLES, Sound

Rows = npt.NDArray[np.float32]

LEVEL_FLOOR_DB = -100.0
"""What digital silence is said to have; the quantisation of 16 bits alone lies near it."""

SILENT_BELOW_DB = -70.0
"""A row below this holds no sound that anybody would hear (the absolute gate of ITU-R BS.1770-4)."""

LOUDNESS_TARGET_DB = -23.0
"""Loudness to which every front end brings the sound (EBU R 128)."""

_RELATIVE_GATE_DB = -10.0
_BLOCK_ROWS = 3000


class FrontEnd(Protocol):
    """Turns sound into features.

    Attributes:
        name: As in the settings.
        model: What identifies its weights; empty when it has none.
    """

    name: str
    model: str

    def features(self, sound: Sound, gain: float) -> Rows:
        """Features of a whole piece of sound.

        Args:
            sound: The sound.
            gain: Factor that brings its speech to ``LOUDNESS_TARGET_DB``.

        Returns:
            (sound.rows, C) float32, of order one; row t is centred at (t + 0.5)/50 s.
        """


_MODULES = {
    "logmel": "logmel",
    "deepspeech": "deepspeech",
    "whisper": "whisper",
    "both": "both",
    "wav2vec2": "transformers_speech",
    "hubert": "transformers_speech",
}


def load_front_end(settings: AudioSettings) -> FrontEnd:
    """The front end that the settings name, its weights found and loaded.

    Raises:
        BadInput: A package or the weights are missing; the hint says what to install or where to point.
    """
    if settings.front_end not in _MODULES:
        raise BadInput(f"unknown front end {settings.front_end!r}", hint=f"choose one of: {', '.join(_MODULES)}")
    module = importlib.import_module(f"stages.sound.{_MODULES[settings.front_end]}")
    front_end: FrontEnd = module.load(settings)
    return front_end


def levels_db(sound: Sound) -> npt.NDArray[np.float32]:
    """Root mean square of every row's samples.

    Returns:
        (rows,) float32, dB below full scale, floored at -100.
    """
    result = np.empty(sound.rows, np.float32)
    for first, last in sound.blocks(_BLOCK_ROWS):
        samples = sound.read(first * ROW_SAMPLES, last * ROW_SAMPLES).reshape(-1, ROW_SAMPLES).astype(np.float64)
        held = np.full(last - first, ROW_SAMPLES)
        # The last row may be only partly filled.
        held[-1] = min(ROW_SAMPLES, sound.samples - (last - 1) * ROW_SAMPLES)
        power = np.square(samples).sum(axis=1) / held
        result[first:last] = 10.0 * np.log10(np.maximum(power, 10.0 ** (LEVEL_FLOOR_DB / 10.0)))
    return result


def loudness_db(level_db: npt.NDArray[np.float32]) -> float:
    """How loud the speech is, pauses left out: the gated mean of ITU-R BS.1770-4 without its frequency weighting.

    Args:
        level_db: (rows,) float32, as from ``levels_db``.

    Returns:
        dB below full scale; ``LOUDNESS_TARGET_DB`` when there is no sound, so that silence is not amplified.
    """
    power = np.power(10.0, level_db.astype(np.float64) / 10.0)
    heard = power[level_db > SILENT_BELOW_DB]
    if not heard.size:
        return LOUDNESS_TARGET_DB
    loud = heard[heard >= heard.mean() * 10.0 ** (_RELATIVE_GATE_DB / 10.0)]
    return float(10.0 * np.log10(loud.mean()))


def gain_for(level_db: npt.NDArray[np.float32]) -> float:
    """Factor on the samples that brings the speech to ``LOUDNESS_TARGET_DB``."""
    return float(10.0 ** ((LOUDNESS_TARGET_DB - loudness_db(level_db)) / 20.0))


def blend_windows(
    rows: int, window_rows: int, overlap_rows: int, encode: Callable[[int, int], Rows], label: str = "audio"
) -> Rows:
    """Run an encoder over overlapping windows and fade each into the next.

    Args:
        rows: Rows wanted.
        window_rows: Rows of a window.
        overlap_rows: Rows that two windows share; linearly faded from one to the other.
        encode: Gives (last - first, C) float32 for rows ``first`` to ``last``.
        label: What to call the work in progress reports.

    Returns:
        (rows, C) float32.
    """
    hop = window_rows - overlap_rows
    windows = max(1, -(-(rows - overlap_rows) // hop))
    report(label, 0, windows)
    result: Rows | None = None
    for index in range(windows):
        first = index * hop
        last = min(first + window_rows, rows)
        found = encode(first, last)
        if result is None:
            result = np.zeros((rows, found.shape[1]), np.float32)
        shared = min(overlap_rows, last - first) if index else 0
        fade = ((np.arange(shared, dtype=np.float32) + 0.5) / overlap_rows)[:, None] if shared else 0.0
        result[first : first + shared] += fade * (found[:shared] - result[first : first + shared])
        result[first + shared : last] = found[shared:]
        report(label, index + 1, windows)
    if result is None:
        raise ValueError("no rows to encode")
    return result

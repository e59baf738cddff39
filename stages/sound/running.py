"""Sound that still goes on: its features, its loudness and whether somebody speaks, as soon as they can be told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.formats import FEATURE_RATE_HZ
from stages.sound.activity import VOICE_LEAD_SAMPLES, VOICE_SAMPLES, RowVoices, decide_activity, row_voices
from stages.sound.front_end import LOUDNESS_TARGET_DB, SILENT_BELOW_DB, Rows, levels_db
from stages.sound.logmel import BANDS, LEAD_SAMPLES, WINDOW_SAMPLES, LogMel
from stages.sound.wav import ROW_SAMPLES, Samples, sound_from_array

ROW_DELAY_SAMPLES = VOICE_SAMPLES - VOICE_LEAD_SAMPLES
"""Samples from a row's first one on that must be there before the row can be told."""

_BIN_DB = 0.5
_BINS = int(-SILENT_BELOW_DB / _BIN_DB) + 1
_RELATIVE_GATE_DB = -10.0
_HALF_LIFE_S = 60.0
_PRIOR_S = 0.5
_MOST_GAIN_DB = 40.0
_ACTIVITY_ROWS = 10 * FEATURE_RATE_HZ


class RunningLoudness:
    """The loudness of a speech so far: ``front_end.loudness_db`` over a minute or two that fade away.

    Levels are counted in half decibels, so that memory does not grow. Half a second of speech at the target counts from
    the start, in decibels, so that the first sound is not taken for what it is not.
    """

    def __init__(self) -> None:
        """Expect speech at the target."""
        self._centres_db = SILENT_BELOW_DB + _BIN_DB * (np.arange(_BINS) + 0.5)
        self._rows = np.zeros(_BINS)

    def hear(self, level_db: npt.NDArray[np.float32]) -> None:
        """Count more rows.

        Args:
            level_db: (rows,) float32, as ``front_end.levels_db`` gives it.
        """
        heard = level_db[level_db > SILENT_BELOW_DB].astype(np.float64)
        # Silence fades nothing: whoever speaks on after a pause is as loud as before.
        self._rows *= 0.5 ** (len(heard) / (_HALF_LIFE_S * FEATURE_RATE_HZ))
        place = np.clip((heard - SILENT_BELOW_DB) / _BIN_DB, 0, _BINS - 1).astype(np.int64)
        np.add.at(self._rows, place, 1.0)

    @property
    def loudness_db(self) -> float:
        """Mean of the loud rows' power, dB below full scale."""
        if not self._rows.any():
            return LOUDNESS_TARGET_DB
        power = 10.0 ** (self._centres_db / 10.0)
        mean = float((self._rows * power).sum() / self._rows.sum())
        loud = power >= mean * 10.0 ** (_RELATIVE_GATE_DB / 10.0)
        rows = float(self._rows[loud].sum())
        own_db = float(10.0 * np.log10((self._rows * power)[loud].sum() / rows))
        trust = rows / (rows + _PRIOR_S * FEATURE_RATE_HZ)
        return LOUDNESS_TARGET_DB + trust * (own_db - LOUDNESS_TARGET_DB)

    @property
    def gain(self) -> float:
        """Factor on the samples that brings the speech to ``LOUDNESS_TARGET_DB``."""
        decibel = np.clip(LOUDNESS_TARGET_DB - self.loudness_db, -_MOST_GAIN_DB, _MOST_GAIN_DB)
        return float(10.0 ** (decibel / 20.0))


@dataclass(frozen=True)
class RunningRows:
    """Rows that could be told.

    Attributes:
        values: (n, 40) float32, log-mel bands.
        voiced: (m,) float32, whether somebody speaks, of the last m rows, these among them, as far as is known now.
    """

    values: Rows
    voiced: npt.NDArray[np.float32]


class RunningSound:
    """Turns samples into rows; the same rows, in whatever pieces the samples come."""

    def __init__(self, gain: float | None = None) -> None:
        """Have heard nothing.

        Args:
            gain: A fixed one; None for the running estimate.
        """
        self._front_end = LogMel()
        self._gain = gain
        self._loudness = RunningLoudness()
        # Silence before the beginning, as much as the first row looks back.
        self._samples: Samples = np.zeros(VOICE_LEAD_SAMPLES, np.float32)
        self._levels = np.zeros(0, np.float32)
        self._voices = RowVoices(np.zeros(0, np.float32), np.ones(0, np.float32), np.zeros((0, 16), np.float32))

    @property
    def gain(self) -> float:
        """Factor on the samples now."""
        return self._loudness.gain if self._gain is None else self._gain

    def hear(self, samples: Samples) -> RunningRows:
        """Hear more.

        Args:
            samples: (N,) float32 at 16 kHz, full scale at ±1.

        Returns:
            The rows that can be told now and could not before.
        """
        self._samples = np.concatenate([self._samples, samples])
        rows = (len(self._samples) - VOICE_SAMPLES) // ROW_SAMPLES + 1
        if rows <= 0:
            return RunningRows(np.zeros((0, BANDS), np.float32), self._decide())
        first = VOICE_LEAD_SAMPLES
        own = self._samples[first : first + rows * ROW_SAMPLES]
        level_db = levels_db(sound_from_array(own))
        self._loudness.hear(level_db)
        begin = first - LEAD_SAMPLES - 1
        end = begin + 1 + (rows - 1) * ROW_SAMPLES + WINDOW_SAMPLES
        values = self._front_end.rows(self._samples[begin:end], self.gain)
        found = row_voices(self._samples[: (rows - 1) * ROW_SAMPLES + VOICE_SAMPLES])
        self._remember(level_db, found)
        self._samples = self._samples[rows * ROW_SAMPLES :]
        return RunningRows(values, self._decide())

    def _remember(self, level_db: npt.NDArray[np.float32], found: RowVoices) -> None:
        old = self._voices
        self._levels = np.concatenate([self._levels, level_db])[-_ACTIVITY_ROWS:]
        self._voices = RowVoices(
            np.concatenate([old.periodicity, found.periodicity])[-_ACTIVITY_ROWS:],
            np.concatenate([old.pitch_hz, found.pitch_hz])[-_ACTIVITY_ROWS:],
            np.concatenate([old.shape_db, found.shape_db])[-_ACTIVITY_ROWS:],
        )

    def _decide(self) -> npt.NDArray[np.float32]:
        if not len(self._levels):
            return np.zeros(0, np.float32)
        return decide_activity(self._voices, self._levels, self.gain)

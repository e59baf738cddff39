"""Where somebody speaks in a piece of sound: loud enough, voiced or close to voiced, and changing as speech does.

Lips must not follow breath, room tone, a hum or music. None of that needs a trained detector: the larynx is periodic
(Boersma 1993, "Accurate short-term analysis of the fundamental frequency"), consonants lie within a fifth of a second
of a voiced sound, and articulation changes the spectrum several times a second, while a held note, a drone and a
steady noise keep theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d

from stages.formats import FEATURE_RATE_HZ, SAMPLE_RATE_HZ
from stages.sound.front_end import LEVEL_FLOOR_DB, LOUDNESS_TARGET_DB, SILENT_BELOW_DB
from stages.sound.wav import ROW_SAMPLES, Sound

Levels = npt.NDArray[np.float32]

PERIODIC = 0.5
"""Least normalised autocorrelation of a voiced row; a perfect period has 1, white noise about 0.2."""

CONSONANT_ROWS = 10
"""How far from a voiced row a sound still counts as a consonant of it."""

STEADY_DB = 1.7
"""Median change of the spectrum's shape in 60 ms below which a second of sound is no speech."""

WHISPER_DB = 2.5
"""The same for sound without any voice: a whisper articulates, wind and breath do not."""

MUSICAL_SHARE = 0.4
"""Share of a second's rows that hold one note, above which it is music; in speech it stays below 0.25."""

VOICE_SAMPLES = 640
"""Samples in which a row's voice is looked for: 40 ms, nearly three periods of the lowest one."""

VOICE_LEAD_SAMPLES = (VOICE_SAMPLES - ROW_SAMPLES) // 2
"""Samples by which they begin before the row."""

_LOW_HZ, _HIGH_HZ = 70.0, 400.0
_FFT = 2048
_BANDS = 16
_BAND_LOW_HZ, _BAND_HIGH_HZ = 200.0, 4000.0
_STEP_ROWS = 3
_NOTE_OCTAVES = 0.1 / 12
_STEADY_ROWS = FEATURE_RATE_HZ
_FLOOR_PERCENTILE = 5.0
_ABOVE_FLOOR_DB = 9.0
_LEAST_DB, _MOST_DB = -30.0, -14.0  # of the threshold, against the speech's loudness
_WHISPER_SHARE = 0.1
_BLOCK_ROWS = 1500


@dataclass(frozen=True)
class RowVoices:
    """What each row of sound alone says of a voice.

    Attributes:
        periodicity: (rows,) float32, the best period's normalised autocorrelation.
        pitch_hz: (rows,) float32, that period's pitch.
        shape_db: (rows, 16) float32, the spectrum against its own mean.
    """

    periodicity: Levels
    pitch_hz: Levels
    shape_db: Levels


def activity(sound: Sound, level_db: Levels, gain: float) -> Levels:
    """Whether somebody speaks, row by row.

    Args:
        sound: The sound.
        level_db: (rows,) float32, as ``front_end.levels_db`` gives it.
        gain: Factor that brings the speech to ``LOUDNESS_TARGET_DB``.

    Returns:
        (rows,) float32, 1 where somebody speaks and 0 elsewhere.
    """
    return decide_activity(_voices(sound), level_db, gain)


def decide_activity(voices: RowVoices, level_db: Levels, gain: float) -> Levels:
    """Whether somebody speaks, row by row, from what was measured of each row.

    Args:
        voices: Of consecutive rows.
        level_db: (rows,) float32, as for ``activity``.
        gain: As for ``activity``.

    Returns:
        (rows,) float32, 1 where somebody speaks and 0 elsewhere.
    """
    # dB against the speech's own loudness.
    loud_db = level_db + np.float32(20.0 * np.log10(gain) - LOUDNESS_TARGET_DB)
    audible = level_db > LEVEL_FLOOR_DB + 5.0
    if level_db.max() <= SILENT_BELOW_DB:
        return np.zeros(len(level_db), np.float32)
    floor_db = float(np.percentile(loud_db[audible], _FLOOR_PERCENTILE))
    heard = audible & (loud_db > np.clip(floor_db + _ABOVE_FLOOR_DB, _LEAST_DB, _MOST_DB))
    periodicity, pitch_hz, change_db = voices.periodicity, voices.pitch_hz, _change_db(voices.shape_db)
    musical = _held_notes(heard, periodicity, pitch_hz) > MUSICAL_SHARE
    voiced = heard & (periodicity > PERIODIC) & (change_db > STEADY_DB) & ~musical
    if voiced.sum() < _WHISPER_SHARE * (audible & (loud_db > _MOST_DB)).sum():
        # Nobody whose larynx moves: a whisper, if it changes as articulation does.
        voiced = heard & (loud_db > _MOST_DB) & (periodicity <= PERIODIC) & (change_db > WHISPER_DB)
    near = maximum_filter1d(voiced.astype(np.uint8), 2 * CONSONANT_ROWS + 1) > 0
    result: Levels = (heard & near).astype(np.float32)
    return result


def _held_notes(heard: npt.NDArray[np.bool_], periodicity: Levels, pitch_hz: Levels) -> Levels:
    """Share of the rows heard in the second around each whose pitch stays within a tenth of a semitone for 40 ms."""
    later = np.minimum(np.arange(len(heard)) + 2, len(heard) - 1)
    stays = np.abs(np.log2(pitch_hz[later] / pitch_hz)) < _NOTE_OCTAVES
    held = heard & stays & (np.minimum(periodicity, periodicity[later]) > PERIODIC)
    around = [uniform_filter1d(rows.astype(np.float32), _STEADY_ROWS, mode="constant") for rows in (held, heard)]
    result: Levels = around[0] / np.maximum(around[1], 1.0 / _STEADY_ROWS)
    return result


def _voices(sound: Sound) -> RowVoices:
    periodicity = np.empty(sound.rows, np.float32)
    pitch_hz = np.empty(sound.rows, np.float32)
    shape_db = np.empty((sound.rows, _BANDS), np.float32)
    for first, last in sound.blocks(_BLOCK_ROWS):
        begin = first * ROW_SAMPLES - VOICE_LEAD_SAMPLES
        found = row_voices(sound.read(begin, begin + (last - first - 1) * ROW_SAMPLES + VOICE_SAMPLES))
        periodicity[first:last], pitch_hz[first:last] = found.periodicity, found.pitch_hz
        shape_db[first:last] = found.shape_db
    return RowVoices(periodicity, pitch_hz, shape_db)


def row_voices(samples: npt.NDArray[np.float32]) -> RowVoices:
    """Measure consecutive rows.

    Args:
        samples: (N,) float32 at 16 kHz, from ``VOICE_LEAD_SAMPLES`` before the first row on; each further row needs
            ``ROW_SAMPLES`` more than the ``VOICE_SAMPLES`` of one.
    """
    window = np.hanning(VOICE_SAMPLES + 1)[:-1]
    of_window = _autocorrelation(_power(window))
    shortest, longest = int(SAMPLE_RATE_HZ / _HIGH_HZ), int(SAMPLE_RATE_HZ / _LOW_HZ)
    edges = np.geomspace(_BAND_LOW_HZ, _BAND_HIGH_HZ, _BANDS + 1) * _FFT / SAMPLE_RATE_HZ
    starts = np.unique(edges.astype(int))
    rows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), VOICE_SAMPLES)[::ROW_SAMPLES]
    rows = (rows - rows.mean(axis=1, keepdims=True)) * window
    power = _power(rows)
    own = _autocorrelation(power)
    scaled = own[:, shortest - 1 : longest + 2] / np.maximum(own[:, :1], 1e-12)
    scaled *= of_window[0] / of_window[shortest - 1 : longest + 2]
    bands = np.add.reduceat(power[:, : int(edges[-1])], starts[:-1], axis=1)
    decibel = 10.0 * np.log10(bands + 1e-9 * (1.0 + bands.max(axis=1, keepdims=True)))
    shape_db = np.zeros((len(rows), _BANDS), np.float32)
    shape_db[:, : decibel.shape[1]] = decibel - decibel.mean(axis=1, keepdims=True)
    return RowVoices(
        scaled[:, 1:-1].max(axis=1).astype(np.float32),
        (SAMPLE_RATE_HZ / (shortest - 1 + _peak(scaled))).astype(np.float32),
        shape_db,
    )


def _change_db(shape_db: Levels) -> Levels:
    """How the spectrum's shape changes around each row."""
    smooth = uniform_filter1d(shape_db, 3, axis=0, mode="nearest")
    later = smooth[np.minimum(np.arange(len(smooth)) + _STEP_ROWS, len(smooth) - 1)]
    step_db = np.abs(later - smooth).mean(axis=1)
    change: Levels = median_filter(step_db, _STEADY_ROWS, mode="reflect").astype(np.float32)
    return change


def _peak(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where each row's greatest inner value lies, between the samples, by the parabola through its neighbours."""
    best = rows[:, 1:-1].argmax(axis=1) + 1
    every = np.arange(len(rows))
    before, peak, after = (rows[every, best + shift] for shift in (-1, 0, 1))
    bend = before - 2.0 * peak + after
    result: npt.NDArray[np.float64] = best + np.where(
        bend < -1e-9, np.clip(0.5 * (before - after) / np.minimum(bend, -1e-9), -0.5, 0.5), 0.0
    )
    return result


def _power(windows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Power spectra along the last axis."""
    spectrum = np.fft.rfft(windows, _FFT, axis=-1)
    result: npt.NDArray[np.float64] = spectrum.real**2 + spectrum.imag**2
    return result


def _autocorrelation(power: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of windows whose power spectra these are; along the last axis, lag 0 first."""
    result: npt.NDArray[np.float64] = np.fft.irfft(power, axis=-1)[..., : _FFT // 2]
    return result

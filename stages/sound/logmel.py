"""Log-mel filter banks: the default front end, offline, for any language."""

from __future__ import annotations

import numpy as np
from python_speech_features import get_filterbanks, sigproc

from stages.errors import BadInput
from stages.formats import SAMPLE_RATE_HZ
from stages.progress import report
from stages.settings import AudioSettings
from stages.sound.front_end import Rows
from stages.sound.wav import ROW_SAMPLES, Samples, Sound

BANDS = 40
"""Filter banks a row."""

WINDOW_SAMPLES = 400
"""25 ms."""

LEAD_SAMPLES = (WINDOW_SAMPLES - ROW_SAMPLES) // 2
"""Samples by which a row's window begins before the row, so that the two have one centre."""

_FFT = 512
_LOW_HZ, _HIGH_HZ = 60.0, 7600.0
_PREEMPHASIS = 0.97
_BLOCK_ROWS = 1500

# Room tone lies near or below the floor once speech is at LOUDNESS_TARGET_DB, and so becomes (nearly) zero.
_FLOOR_DB = -65.0
_SCALE_DB = 15.0


class LogMel:
    """40 log filter-bank energies a row: 25 ms Hamming window, 60 Hz to 7.6 kHz, 0.97 pre-emphasis.

    A value is the band's energy in units of 15 dB above a floor 42 dB below speech: 0 is silence, so that zeros
    continue a file at its ends, and speech lies between 0 and about 4.
    """

    name = "logmel"
    model = ""

    def __init__(self) -> None:
        """Make the filter banks."""
        self._banks = get_filterbanks(BANDS, _FFT, SAMPLE_RATE_HZ, _LOW_HZ, _HIGH_HZ)

    def features(self, sound: Sound, gain: float) -> Rows:
        """Features of a whole piece of sound; see ``FrontEnd.features``."""
        result = np.empty((sound.rows, BANDS), np.float32)
        for first, last in sound.blocks(_BLOCK_ROWS):
            report("audio", first, sound.rows)
            result[first:last] = self._block(sound, gain, first, last)
        report("audio", sound.rows, sound.rows)
        return result

    def _block(self, sound: Sound, gain: float, first: int, last: int) -> Rows:
        """Rows ``first`` to ``last`` (exclusive)."""
        begin = first * ROW_SAMPLES - LEAD_SAMPLES
        end = (last - 1) * ROW_SAMPLES - LEAD_SAMPLES + WINDOW_SAMPLES
        return self.rows(sound.read(begin - 1, end), gain)

    def rows(self, samples: Samples, gain: float) -> Rows:
        """Consecutive rows.

        Args:
            samples: (N,) float32 at 16 kHz, from ``LEAD_SAMPLES + 1`` before the first row on: pre-emphasis takes its
                first sample as it is. Each further row needs ``ROW_SAMPLES`` more than one's ``WINDOW_SAMPLES + 1``.
            gain: As for ``features``.

        Returns:
            (rows, 40) float32.
        """
        emphasised = sigproc.preemphasis(samples.astype(np.float64) * gain, _PREEMPHASIS)[1:]
        windows = sigproc.framesig(emphasised, WINDOW_SAMPLES, ROW_SAMPLES, np.hamming)
        energy = sigproc.powspec(windows, _FFT) @ self._banks.T
        above_db: Rows = 10.0 * np.log10(1.0 + energy * 10.0 ** (-_FLOOR_DB / 10.0)).astype(np.float32)
        return above_db / np.float32(_SCALE_DB)


def load(settings: AudioSettings) -> LogMel:
    """The front end.

    Raises:
        BadInput: The settings name weights, which it does not have.
    """
    if settings.model:
        raise BadInput(f"logmel has no weights, yet audio.model is {settings.model!r}", hint="leave audio.model empty")
    return LogMel()

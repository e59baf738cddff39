"""Sounds for the tests of front ends."""

from __future__ import annotations

import numpy as np

from stages.sound import reference
from stages.sound.wav import Sound, sound_from_array

RATE = 16_000


def speech(seconds: float = 2.0) -> Sound:
    """The reference syllables, cut or repeated to a length."""
    source = reference.reference_sound()
    count = round(seconds * RATE)
    return sound_from_array(np.resize(source.read(0, source.samples), count))


def click(row: int, rows: int) -> Sound:
    """A click in the middle of a row."""
    samples = np.zeros(rows * 320, np.float32)
    samples[row * 320 + 160] = 0.9
    return sound_from_array(samples)

"""A fixed sound, and each channel's scale by a network's answer to it.

Networks' states have channels of very different size. Statistics of the clip itself would differ between the clip
that a subject learnt from and the speech that it is to speak; those of one fixed sound do not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.formats import SAMPLE_RATE_HZ
from stages.sound.front_end import Rows, gain_for, levels_db
from stages.sound.wav import Sound, sound_from_array

_SYLLABLE_S = 0.2
_SEED = 2211

# First and second formants in Hz of a, e, i, o, u, schwa, and two fricatives' (noise) bands.
_VOICED = ((730, 1090), (530, 1840), (270, 2290), (570, 840), (300, 870), (500, 1500))
_NOISY = ((2500, 4500), (4000, 6500))
"""Made-up syllables: their formants follow Peterson and Barney (1952), table II, male speakers."""


@dataclass(frozen=True)
class Standardiser:
    """Shift and scale of each channel.

    Attributes:
        mean: (C,) float32.
        scale: (C,) float32 > 0.
    """

    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    def apply(self, raw: Rows) -> Rows:
        """Standardise in place.

        Args:
            raw: (T, C) float32; overwritten.

        Returns:
            The same array.
        """
        raw -= self.mean
        raw /= self.scale
        return raw


def standardiser_for(raw: Callable[[Sound, float], Rows]) -> Standardiser:
    """Measure a network on the reference sound.

    Args:
        raw: Gives (rows, C) float32 for a sound and its gain.
    """
    sound = reference_sound()
    answer = raw(sound, gain_for(levels_db(sound))).astype(np.float64)
    scale = answer.std(axis=0)
    # A channel that the reference does not move must not blow up on what does.
    scale = np.maximum(scale, 0.1 * np.median(scale) + 1e-6)
    return Standardiser(answer.mean(axis=0).astype(np.float32), scale.astype(np.float32))


class StandardisedFrontEnd(ABC):
    """A front end whose network's answers are standardised by what the same network answers to the reference sound.

    Attributes:
        name: As in the settings.
        model: What identifies its weights.
    """

    name: str
    model: str
    _standardiser: Standardiser | None = None

    def features(self, sound: Sound, gain: float) -> Rows:
        """Features of a whole piece of sound; see ``FrontEnd.features``."""
        if self._standardiser is None:
            self._standardiser = standardiser_for(self.raw)
        return self._standardiser.apply(self.raw(sound, gain))

    @abstractmethod
    def raw(self, sound: Sound, gain: float) -> Rows:
        """The network's own answers, (sound.rows, C) float32; arguments as for ``features``."""


def reference_sound() -> Sound:
    """24 s of made-up syllables at changing pitch, with pauses; the same on every machine."""
    rng = np.random.default_rng(_SEED)
    pieces: list[npt.NDArray[np.float32]] = []
    for index in range(120):
        if index % 10 >= 8:
            pieces.append(np.zeros(round(_SYLLABLE_S * SAMPLE_RATE_HZ), np.float32))
        else:
            pieces.append(_syllable(rng, noisy=index % 4 == 3))
    return sound_from_array(np.concatenate(pieces))


def _syllable(rng: np.random.Generator, *, noisy: bool) -> npt.NDArray[np.float32]:
    """One vowel or fricative of 0.2 s, softly on and off."""
    count = round(_SYLLABLE_S * SAMPLE_RATE_HZ)
    hertz = np.fft.rfftfreq(count, 1.0 / SAMPLE_RATE_HZ)
    if noisy:
        bands, width = _NOISY[rng.integers(len(_NOISY))], 900.0
        source = rng.standard_normal(count)
    else:
        bands, width = _VOICED[rng.integers(len(_VOICED))], 120.0
        phase = np.cumsum(rng.uniform(90.0, 240.0) * np.linspace(1.0, rng.uniform(0.8, 1.2), count)) / SAMPLE_RATE_HZ
        source = np.diff(np.floor(phase), prepend=0.0) + 0.005 * rng.standard_normal(count)
    gains = sum(np.exp(-0.5 * ((hertz - centre) / width) ** 2) for centre in bands) + 0.02
    shaped = np.fft.irfft(np.fft.rfft(source) * gains, count) * np.hanning(count)
    result: npt.NDArray[np.float32] = (0.2 * shaped / (np.abs(shaped).max() + 1e-9)).astype(np.float32)
    return result

"""Bring another voice, microphone or room to the speech that a subject learnt from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DOUBT_S = 3.0
"""Seconds of speech at which a voice's own statistics count half."""

MOST_STRETCH = 1.5
"""Largest factor on a column's spread."""


@dataclass(frozen=True)
class Voice:
    """Statistics of the rows in which somebody speaks.

    Attributes:
        mean, std: (C,) float32.
        seconds: How much speech they were taken from.
    """

    mean: Tensor
    std: Tensor
    seconds: float


def matched(features: Tensor, voice: Voice, mean: Tensor, std: Tensor) -> Tensor:
    """Shift and scale each column so that this voice's speech looks like the training clip's.

    Cepstral mean and variance normalisation (Viikki and Laurila 1998), towards another voice's statistics instead of
    towards 0 and 1, and the less of it the less of the voice has been heard.

    Args:
        features: (T, C) float.
        voice: Of the speech that the features are of.
        mean: (C,) float, of the training clip's speech.
        std: (C,) float, likewise.

    Returns:
        (T, C) float.
    """
    trust = voice.seconds / (voice.seconds + DOUBT_S)
    stretch = (std / voice.std.to(std).clamp(min=1e-6)).clamp(1 / MOST_STRETCH, MOST_STRETCH) ** trust
    own = voice.mean.to(mean)
    target = own + trust * (mean - own)
    return (features - own) * stretch + target


class VoiceMeter:
    """Takes a voice's statistics in one pass."""

    def __init__(self, columns: int) -> None:
        """Nothing heard yet.

        Args:
            columns: C.
        """
        self._sum = torch.zeros(columns, dtype=torch.float64)
        self._squares = torch.zeros(columns, dtype=torch.float64)
        self._rows = 0

    def hear(self, features: Tensor, voiced: Tensor) -> None:
        """Take more rows into account.

        Args:
            features: (T, C) float.
            voiced: (T,) float, above 0.5 where somebody speaks.
        """
        speech = features[voiced > 0.5].double()
        self._sum += speech.sum(0)
        self._squares += speech.square().sum(0)
        self._rows += len(speech)

    def voice(self) -> Voice:
        """What was heard so far; mean 0, spread 1 and no seconds when that is less than two rows."""
        if self._rows < 2:
            return Voice(torch.zeros(len(self._sum)), torch.ones(len(self._sum)), 0.0)
        mean = self._sum / self._rows
        spread = (self._squares / self._rows - mean.square()).clamp(min=0).sqrt()
        return Voice(mean.float(), spread.float(), self._rows / 50)

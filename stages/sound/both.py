"""Log-mel bands and Whisper's encoder side by side: how the sound is made, and what is said with it."""

from __future__ import annotations

import importlib.util

import numpy as np

from stages.settings import AudioSettings
from stages.sound import whisper
from stages.sound.front_end import Rows
from stages.sound.logmel import LogMel
from stages.sound.wav import Sound


class Both:
    """The columns of ``logmel``, then those of ``whisper``."""

    name = "both"

    def __init__(self, encoder: whisper.Whisper) -> None:
        """Join the two.

        Args:
            encoder: Whisper's, with its weights loaded.
        """
        self._encoder = encoder
        self._bands = LogMel()
        self.model = encoder.model

    def features(self, sound: Sound, gain: float) -> Rows:
        """Features of a whole piece of sound; see ``FrontEnd.features``."""
        return np.concatenate([self._bands.features(sound, gain), self._encoder.features(sound, gain)], axis=1)


def load(settings: AudioSettings) -> Both:
    """Both, with the weights that ``whisper`` would take.

    Raises:
        BadInput: faster-whisper or the weights are missing.
    """
    return Both(whisper.load(settings))


def best_present() -> AudioSettings:
    """The best front end whose weights came in a package on this machine; nothing is loaded or fetched.

    Returns:
        ``both`` with Whisper base or tiny.en, else ``logmel``.
    """
    if importlib.util.find_spec("faster_whisper") is not None:
        for name in ("base", "tiny.en"):
            if whisper.is_installed(name):
                return AudioSettings("both", name)
    return AudioSettings("logmel")

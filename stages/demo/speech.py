"""Speech for the demo subject: espeak-ng's voice, to memory, with the time of every phoneme."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.demo.text import sentences_for
from stages.errors import RadnerfError

SAMPLE_RATE_HZ = 22050
_LEAD_IN_S = 0.4
_LEAD_OUT_S = 0.2
_PAUSE_S = (0.25, 0.9)


@dataclass(frozen=True)
class Voice:
    """How to speak.

    Attributes:
        name: An espeak-ng voice, with a variant where wanted: ``en-us``, ``en-gb+f3``, ``de``.
        rate_wpm: Words a minute, 80 to 450.
        pitch: 0 to 99, 50 being the voice's own.
    """

    name: str = "en-us"
    rate_wpm: int = 150
    pitch: int = 45


@dataclass(frozen=True)
class Phoneme:
    """One sound: its IPA symbol (empty for a pause) and when it is heard."""

    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Speech:
    """Sound and what is said in it.

    Attributes:
        samples: (n,) float32 in [-1, 1], mono, at ``SAMPLE_RATE_HZ``.
        phonemes: In order, without gaps from the first to the last; pauses have an empty symbol.
    """

    samples: NDArray[np.float32]
    phonemes: tuple[Phoneme, ...]

    @property
    def duration_s(self) -> float:
        """The length of the sound."""
        return len(self.samples) / SAMPLE_RATE_HZ


def speak(sentences: tuple[str, ...], voice: Voice) -> tuple[Speech, ...]:
    """Speak each sentence on its own.

    Args:
        sentences: What to say.
        voice: How to say it.

    Returns:
        One ``Speech`` a sentence, with times from the start of each.

    Raises:
        RadnerfError: espeak-ng is not installed, has no such voice, or failed.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise RadnerfError(
            "The demo subject's voice, espeak-ng, is not installed", hint='pip install "radnerf[demo]"'
        ) from error
    request = {
        "library": espeakng_loader.get_library_path(),
        "data": espeakng_loader.get_data_path(),
        "voice": voice.name,
        "rate_wpm": voice.rate_wpm,
        "pitch": voice.pitch,
        "sentences": sentences,
    }
    with tempfile.TemporaryDirectory(prefix="radnerf-speech-") as folder:
        request_path, answer_path = Path(folder) / "request.json", Path(folder) / "answer.npz"
        request_path.write_text(json.dumps(request), encoding="utf-8")
        # -P: the script's own folder must not shadow standard modules.
        program = Path(__file__).with_name("espeak_process.py")
        command = [sys.executable, "-P", str(program), str(request_path), str(answer_path)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0 or not answer_path.exists():
            reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise RadnerfError(
                f"Speaking failed: {reason[0]}", hint="try the voice en-us, or reinstall espeakng-loader"
            )
        with np.load(answer_path, allow_pickle=False) as answer:
            return _split(answer["samples"], answer["sentence_end"], answer["event_sample"], answer["event_symbol"])


def speak_for(duration_s: float, seed: int, voice: Voice) -> Speech:
    """Speak varied sentences, with pauses between them, for exactly this long.

    Sentences come in a seeded order, each once until all have been said; what does not fit is left out (a clip too
    short for any has the beginning of one). The pauses are stretched until the last sentence ends just before the clip
    does, since its end is what portraits are compared on; the clip begins and ends in silence.

    Args:
        duration_s: Length wanted; about four minutes of English pass before a sentence comes again.
        seed: Order of the sentences and length of the pauses.
        voice: How to speak.

    Returns:
        The speech, ``round(duration_s * SAMPLE_RATE_HZ)`` samples.

    Raises:
        RadnerfError: As for ``speak``.
    """
    random = np.random.default_rng(seed)
    texts = sentences_for(voice.name)
    spoken = speak(texts, voice)
    total = round(duration_s * SAMPLE_RATE_HZ)
    last = total - round(_LEAD_OUT_S * SAMPLE_RATE_HZ)
    at = min(round(_LEAD_IN_S * SAMPLE_RATE_HZ), total // 8)
    order: list[int] = []
    parts: list[tuple[int, Speech]] = []
    while at < last:
        order = order or [0, *(1 + random.permutation(len(spoken) - 1)).tolist()]
        fitting = next((n for n in order if len(spoken[n].samples) <= last - at), None)
        if fitting is not None:
            order.remove(fitting)
            part = spoken[fitting]
        elif not parts:
            part = _beginning(spoken[order[0]], last - at)
        else:
            break
        parts.append((at, part))
        at += len(part.samples) + round(random.uniform(*_PAUSE_S) * SAMPLE_RATE_HZ)
    samples = np.zeros(total, dtype=np.float32)
    phonemes: list[Phoneme] = []
    left = last - (parts[-1][0] + len(parts[-1][1].samples)) if parts else 0
    for number, (begin, part) in enumerate(parts):
        at = begin + left * (number + 1) // len(parts)
        samples[at : at + len(part.samples)] = part.samples
        start_s = at / SAMPLE_RATE_HZ
        phonemes += [Phoneme(p.symbol, start_s + p.start_s, start_s + p.end_s) for p in part.phonemes]
    return Speech(samples, _without_gaps(phonemes, duration_s))


def _split(
    samples: NDArray[np.int16],
    sentence_end: NDArray[np.int64],
    event_sample: NDArray[np.int64],
    event_symbol: NDArray[np.str_],
) -> tuple[Speech, ...]:
    """Cut the joined sound of all sentences into one ``Speech`` each."""
    parts = []
    start = 0
    for end in sentence_end.tolist():
        inside = (event_sample >= start) & (event_sample < end)
        at = event_sample[inside] - start
        until = np.append(at[1:], end - start)
        phonemes = tuple(
            Phoneme(str(symbol), a / SAMPLE_RATE_HZ, b / SAMPLE_RATE_HZ)
            for symbol, a, b in zip(event_symbol[inside], at.tolist(), until.tolist(), strict=True)
            if b > a
        )
        sound = samples[start:end].astype(np.float32) / np.float32(32768)
        parts.append(Speech(sound, phonemes))
        start = end
    return tuple(parts)


def _beginning(speech: Speech, count: int) -> Speech:
    """The first ``count`` samples, faded out over 50 ms."""
    samples = speech.samples[:count].copy()
    fade = min(SAMPLE_RATE_HZ // 20, count)
    samples[count - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    end_s = count / SAMPLE_RATE_HZ
    kept = (p for p in speech.phonemes if p.start_s < end_s)
    return Speech(samples, tuple(Phoneme(p.symbol, p.start_s, min(p.end_s, end_s)) for p in kept))


def _without_gaps(phonemes: list[Phoneme], duration_s: float) -> tuple[Phoneme, ...]:
    """Fill the time before, between and after with pauses."""
    filled: list[Phoneme] = []
    now_s = 0.0
    for phoneme in phonemes:
        if phoneme.start_s > now_s:
            filled.append(Phoneme("", now_s, phoneme.start_s))
        filled.append(phoneme)
        now_s = phoneme.end_s
    if now_s < duration_s:
        filled.append(Phoneme("", now_s, duration_s))
    return tuple(filled)

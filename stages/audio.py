"""Stage ``audio``: sound becomes features at 50 Hz, and the early checks of what a user gives as speech."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.errors import BadInput
from stages.formats import SAMPLE_RATE_HZ, AudioFeatures
from stages.settings import AudioSettings
from stages.sound.activity import activity
from stages.sound.front_end import SILENT_BELOW_DB, gain_for, levels_db, load_front_end
from stages.sound.wav import Sound, open_sound

SHORTEST_S = 0.2
"""Speech shorter than this is refused."""


@dataclass(frozen=True)
class Inputs:
    """What the stage reads.

    Attributes:
        audio: Any file with sound that ffmpeg reads: a subject's 16 kHz WAV or the user's own speech.
    """

    audio: Path


@dataclass(frozen=True)
class Outputs:
    """What the stage writes.

    Attributes:
        features: ``AudioFeatures`` (npz).
    """

    features: Path


def run(inputs: Inputs, outputs: Outputs, settings: AudioSettings) -> None:
    """Compute the features of one sound file.

    Args:
        inputs: The sound.
        outputs: Where the features go.
        settings: Which front end, and where its weights are.

    Raises:
        BadInput: The file is no usable sound, or the front end's packages or weights are missing.
    """
    front_end = load_front_end(settings)
    with open_sound(inputs.audio) as sound:
        level_db = levels_db(sound)
        gain = gain_for(level_db)
        values = front_end.features(sound, gain)
        voiced = activity(sound, level_db, gain)
    AudioFeatures(values, level_db, front_end.name, front_end.model, voiced).save(outputs.features)


def check(path: Path) -> float:
    """Refuse a speech file that cannot be spoken, before any long work.

    Args:
        path: What the user gave.

    Returns:
        Its duration, s.

    Raises:
        BadInput: It is missing, a directory, empty, cannot be decoded, has no audio stream, is too short,
            or is silent throughout.
    """
    with open_sound(path) as sound:
        duration_s = sound.samples / SAMPLE_RATE_HZ
        if duration_s < SHORTEST_S:
            raise BadInput(f"{path} holds {duration_s:.2f} s of sound", hint=f"give at least {SHORTEST_S:g} s")
        if is_silent(sound):
            raise BadInput(
                f"{path} is a speech file with no sound in it",
                hint=f"it never rises above {SILENT_BELOW_DB:g} dB of full scale; check the recording",
            )
    return duration_s


def is_silent(sound: Sound) -> bool:
    """Whether no 20 ms of the sound are loud enough to be heard."""
    return bool((levels_db(sound) < SILENT_BELOW_DB).all())


def check_same_front_end(subject: AudioFeatures, speech: AudioFeatures) -> None:
    """Check that speech was analysed as the subject's own sound was.

    Raises:
        BadInput: Front end, weights or width differ.
    """
    ours = (subject.front_end, subject.model, subject.values.shape[1])
    if ours == (speech.front_end, speech.model, speech.values.shape[1]):
        return
    raise BadInput(
        f"the speech was analysed with {speech.front_end} {speech.model}".rstrip()
        + f", the subject with {subject.front_end} {subject.model}".rstrip(),
        hint="use the same weights, or run 'prepare' and 'train' again with the new ones",
    )

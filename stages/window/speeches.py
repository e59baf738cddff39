"""The speeches that can be played in the window: what the subject was asked for, what was given, its own clip."""

from __future__ import annotations

import threading
import wave
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages import audio
from stages.atomic_files import load_json, sha256_of
from stages.errors import BadInput, RadnerfError
from stages.formats import FPS
from stages.hearing import Features, check_heard, hear, open_features
from stages.media import stream_audio
from stages.motion import Performance
from stages.speech_job import SpeechJob
from stages.window.puppet import Moment, Puppet
from stages.workspace import Workspace

SOUND_RATE_HZ = 32_000
"""Of the sound that the page plays; mono, as WAV: every browser plays it and finds any place in it exactly."""

_BLOCK = 250  # frames whose sound is heard together
_BLOCKS_KEPT = 4


@dataclass(frozen=True)
class Entry:
    """A speech that may be chosen.

    Attributes:
        name: For people.
        sound: A file that ffmpeg reads.
        features: Its features, made earlier; None where there are none.
        sha256: Of the file; empty for the subject's own clip.
    """

    name: str
    sound: Path
    features: Path | None
    sha256: str


def list_speeches(workspace: Workspace, given: Sequence[Path]) -> list[Entry]:
    """The speeches of a subject: the given files, what it was asked for before, newest first, and its own clip.

    Raises:
        BadInput: A given file cannot be spoken.
    """
    found = []
    for path in given:
        audio.check(path)
        found.append(Entry(path.name, path, None, sha256_of(path)))
    jobs = sorted(workspace.root.glob("speech/*/job.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for job in jobs:
        folder = workspace.speech(job.parent.name)
        try:
            told = load_json(job).get("speech")
        except BadInput:
            continue
        if isinstance(told, dict) and folder.source.is_file():
            features = folder.features if folder.features.is_file() else None
            found.append(Entry(str(told.get("name")), folder.source, features, str(told.get("sha256", ""))))
    if workspace.audio.is_file():
        features = workspace.features if workspace.features.is_file() else None
        found.append(Entry("The clip’s own sound", workspace.audio, features, ""))
    return found


class Rehearsed:
    """A speech whose every moment can be drawn.

    Attributes:
        frames: How many there are.
        sound: WAV for the page.
    """

    def __init__(self, puppet: Puppet, features: Features, performance: Performance, sound: Path) -> None:
        """Know the speech.

        Args:
            puppet: Who speaks.
            features: Of the speech; open as long as this lives.
            performance: Poses and eyes of every frame.
            sound: What the page plays.
        """
        self._head, self._features, self._performance = puppet.portrait.head, features, performance
        self._blocks: dict[int, tuple[Tensor, Tensor]] = {}
        self.frames = features.frames
        self.sound = sound

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / FPS

    @torch.no_grad()
    def moment(self, frame: int) -> Moment:
        """A frame of the speech; the last one where it has ended."""
        frame = min(max(frame, 0), self.frames - 1)
        block = frame // _BLOCK
        if block not in self._blocks:
            while len(self._blocks) >= _BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
            last = min((block + 1) * _BLOCK, self.frames)
            self._blocks[block] = hear(self._head, self._features, block * _BLOCK, last)
        code, mouth = self._blocks[block]
        row = slice(frame - block * _BLOCK, frame - block * _BLOCK + 1)
        return Moment(self._performance.pose(frame), self._performance.eye(frame), code[row], mouth[row])


class Library:
    """The speeches of one window; a context manager within which what was rehearsed stays open."""

    def __init__(self, puppet: Puppet, entries: Sequence[Entry]) -> None:
        """Know what may be chosen.

        Args:
            puppet: Who speaks.
            entries: What.
        """
        self.entries = list(entries)
        self._puppet = puppet
        self._stack = ExitStack()
        self._ready: dict[int, Rehearsed] = {}
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Library:
        """Return the library."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open."""
        self._stack.close()

    def ready(self, number: int | None) -> Rehearsed | None:
        """A speech, if it was rehearsed."""
        return None if number is None else self._ready.get(number)

    def rehearse(self, number: int) -> Rehearsed:
        """Hear a speech, once; may take a while.

        Args:
            number: Its place in ``entries``.

        Raises:
            BadInput: There is none of this number, or it cannot be heard.
        """
        if not 0 <= number < len(self.entries):
            raise BadInput(f"there is no speech {number}", hint="choose another one")
        with self._one_at_a_time:
            if number not in self._ready:
                self._ready[number] = self._rehearse(number, self.entries[number])
            return self._ready[number]

    def _rehearse(self, number: int, entry: Entry) -> Rehearsed:
        portrait = self._puppet.portrait
        path = entry.features or self._stack.enter_context(portrait.heard(entry.sound))
        features = self._stack.enter_context(open_features(path))
        try:
            check_heard(portrait.workspace.head, portrait.head, portrait.header, features)
        except BadInput:
            if entry.features is None:
                raise
            # Heard before the subject was trained anew, with other ears.
            path = self._stack.enter_context(portrait.heard(entry.sound))
            features = self._stack.enter_context(open_features(path))
            check_heard(portrait.workspace.head, portrait.head, portrait.header, features)
        seed = SpeechJob(portrait.name, speech_sha256=entry.sha256).seed
        performance = portrait.performance(features, path, eyes="auto", seed=seed)
        sound = self._puppet.folder / f"{number}.wav"
        _write_wav(entry.sound, sound, features.frames)
        return Rehearsed(self._puppet, features, performance, sound)


def _write_wav(source: Path, target: Path, frames: int) -> None:
    """The sound as the page plays it, as long as the pictures."""
    left = frames * SOUND_RATE_HZ // FPS
    try:
        with wave.open(str(target), "wb") as stream:
            stream.setparams((1, 2, SOUND_RATE_HZ, 0, "NONE", ""))
            for piece in stream_audio(source, SOUND_RATE_HZ):
                samples = (np.clip(piece[:left], -1, 1) * 32_767).round().astype("<i2")
                stream.writeframes(samples.tobytes())
                left -= len(samples)
            while left > 0:
                silence = min(left, SOUND_RATE_HZ)
                stream.writeframes(bytes(2 * silence))
                left -= silence
    except OSError as error:
        raise RadnerfError(f"{target} cannot be written: {error.strerror or error}", hint="free some space") from error

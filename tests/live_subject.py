"""The tiny speaking subject with all that the window shows: a clip with sound, features that its head understands."""

from __future__ import annotations

import dataclasses
import os
import threading
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.formats import AudioFeatures
from stages.head_file import load_head, save_head
from stages.settings import HeadSettings
from stages.sound.logmel import BANDS
from stages.workspace import Workspace
from tests.cli_harness import Shell
from tests.speaking_subject import make_speaking_subject
from tests.tiny_subject import FRAMES, SIZE_PX, make_features


def speech_like(seconds: float, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A voice that articulates: harmonics of a gliding pitch, a spectrum that changes, a pause each second."""
    random = np.random.default_rng(seed)
    at = np.arange(round(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 25 * np.sin(2 * np.pi * 0.7 * at)) / 16_000
    found = np.zeros(len(at))
    for harmonic in range(1, 20):
        wobble = 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(2, 6) * at + random.uniform(0, 6))
        found += wobble / harmonic * np.sin(harmonic * phase)
    speaking = (at % 1.0) < 0.7
    return (0.1 * found * speaking + 1e-4 * random.normal(size=len(at))).astype(np.float32)


def write_sound(path: Path, samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Path:
    """A 16 kHz mono WAV."""
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 16_000, 0, "NONE", ""))
        stream.writeframes(pcm(samples))
    return path


def pcm(samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> bytes:
    """Samples as the live speech takes them."""
    return (samples * 32_767).astype("<i2").tobytes()


def make_live_subject(home: Path, name: str = "anna") -> Workspace:
    """Write the subject; its head has a voice of its own, so that silence brings the mouth to rest."""
    workspace = make_speaking_subject(home, name)
    workspace.audio.parent.mkdir(parents=True, exist_ok=True)
    write_sound(workspace.audio, speech_like(FRAMES / 25))
    random = np.random.default_rng(4)
    values = np.abs(random.normal(size=(2 * FRAMES, BANDS))).astype(np.float32)
    level_db = np.full(2 * FRAMES, -20, np.float32)
    AudioFeatures(values, level_db, "logmel", "", np.ones(2 * FRAMES, np.float32)).save(workspace.features)
    head, _ = load_head(workspace.head)
    with torch.no_grad():
        head.voice_mean.fill_(1.0)
        head.voice_std.fill_(0.8)
        head.closed_mouth.fill_(-0.5)
        for module in head.fields.modules():
            for weight in module.parameters(recurse=False):
                # Untrained nets say nearly nothing of what they hear.
                if weight.dim() == 2:
                    weight.mul_(2.0)
    save_head(workspace.head, head, HeadSettings(size_px=SIZE_PX), dataclasses.replace(make_features(2)))
    return workspace


def speak_live(shell: Shell, monkeypatch: pytest.MonkeyPatch, sound: bytes, *words: str) -> tuple[int, str, str]:
    """``radnerf live`` with sound on its standard input."""
    read, write = os.pipe()
    threading.Thread(target=lambda: (os.write(write, sound), os.close(write)), daemon=True).start()
    stream = os.fdopen(read, "rb")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stream, isatty=lambda: False))
    answer = shell("live", "anna", "--input", "-", "--device", "cpu", "--backend", "reference", *words)
    stream.close()
    return answer.code, answer.out, answer.err

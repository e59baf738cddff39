"""``benchmarks/front_ends.py``: the mouth it drives a head with is the one that training did, and it hears anew."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from stages import head
from stages.formats import AudioFeatures, Track
from stages.settings import HeadSettings
from tests.tiny_subject import make_track

FRAMES = 110


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "benchmarks"))
    return importlib.import_module("front_ends")


@pytest.fixture
def track() -> Track:
    """A mouth that moves in all its components, in one frame untracked."""
    random = np.random.default_rng(0)
    tracked = np.ones(FRAMES, np.bool_)
    tracked[7] = False
    return replace(
        make_track(frames=FRAMES),
        mouth_open=random.random(FRAMES, np.float32),
        mouth_wide=random.random(FRAMES, np.float32),
        mouth_shape=random.random((FRAMES, 40, 2), np.float32),
        tracked=tracked,
    )


def test_the_measured_mouth_is_what_a_heads_training_was_driven_by(benchmark: ModuleType, track: Track) -> None:
    driven_by = head._measured_mouth(track, head._training_frames(track), HeadSettings())
    torch.testing.assert_close(benchmark.heads_mouth(track), driven_by)


def test_a_front_end_that_hears_the_opening_foretells_it(
    benchmark: ModuleType, track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learning_curve.HeadSettings", lambda: HeadSettings(mouth_lesson_steps=20))
    opening = np.convolve(track.mouth_open, np.ones(5) / 5, mode="same").astype(np.float32)
    track = replace(track, mouth_open=opening)
    values = np.random.default_rng(1).standard_normal((2 * FRAMES, 40)).astype(np.float32)
    values[:, 0] = np.repeat(opening, 2)
    level = np.zeros(2 * FRAMES, np.float32)
    AudioFeatures(values, level, "logmel", "").save(tmp_path / "features.npz")
    frames = torch.arange(FRAMES - 10, FRAMES)
    held_out = benchmark.HeldOut(None, track, None, frames, None)
    said = benchmark.foretold(tmp_path / "features.npz", held_out, 1)
    assert said.shape == (10, HeadSettings().mouth_components)
    assert float(torch.corrcoef(torch.stack([said[:, 0], torch.from_numpy(opening)[frames]]))[0, 1]) > 0.8

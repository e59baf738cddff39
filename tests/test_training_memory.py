"""``benchmarks/training_memory.py``: the long clip is the short one again, and memory is told apart by kind."""

from __future__ import annotations

import importlib.util
import mmap
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from stages.archive import Archive
from stages.formats import AudioFeatures, Landmarks, Track
from tests import tiny_subject


@pytest.fixture(scope="module")
def memory() -> ModuleType:
    path = Path(__file__).resolve().parent.parent / "benchmarks" / "training_memory.py"
    spec = importlib.util.spec_from_file_location("training_memory", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_longer_clip_is_the_short_one_again(memory: ModuleType, tmp_path: Path) -> None:
    short = tiny_subject.make_subject(tmp_path / "short")
    short.landmarks.parent.mkdir(exist_ok=True)
    points = np.random.default_rng(0).random((tiny_subject.FRAMES, 478, 3), np.float32)
    found = np.ones(tiny_subject.FRAMES, np.bool_)
    Landmarks(points=points, found=found, model="mesh", size_px=tiny_subject.SIZE_PX).save(short.landmarks)
    long = memory.lengthen(short, tmp_path / "long", 2 * tiny_subject.FRAMES + 3)
    before, after = Track.load(short.track), Track.load(long.track)
    assert len(after.rotation) == 2 * tiny_subject.FRAMES + 3
    assert np.array_equal(after.rotation[tiny_subject.FRAMES :][:5], before.rotation[:5])
    assert np.array_equal(after.shape_offset_cm, before.shape_offset_cm)
    assert len(AudioFeatures.load(long.features).values) == 2 * len(after.rotation)
    assert np.array_equal(Landmarks.load(long.landmarks).points[tiny_subject.FRAMES], points[0])
    with Archive(short.layers) as one, Archive(long.layers) as other:
        assert other.read(f"{tiny_subject.FRAMES + 1:06d}.truth.jpg") == one.read("000001.truth.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells kinds of memory apart")
def test_own_memory_is_seen_to_grow(memory: ModuleType) -> None:
    watch = memory.Watch()
    time.sleep(0.2)
    before = dict(watch.most)
    # Pages of its own: an allocator that has many might hand out some that are there already.
    held = mmap.mmap(-1, 100 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    np.frombuffer(held, np.uint8)[:] = 1
    watch.training = True
    time.sleep(0.2)
    most = watch.stop()
    assert most["own_mb"] > before["build_own_mb"] + 80
    assert most["rss_mb"] >= most["own_mb"]
    assert most["mapped_mb"] > 0

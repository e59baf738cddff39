"""Made blinks: at the person's own rate, in its own shape, never two at once, none at the very start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.speech_plan import Wishes, _read_eyes
from stages.atomic_files import save_json
from stages.blinks import LEAST_GAP_S, USUAL, BlinkStyle, closures, draw_blinks, learn_style, without_blinks
from stages.errors import BadInput
from stages.speech_activity import from_level, load_activity
from stages.speech_job import load_job
from stages.vision.face_measures import find_blinks


def _clip(style: BlinkStyle, seconds: int, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    frames = 25 * seconds
    noise = np.random.default_rng(seed).normal(0, 0.015, frames)
    return 1 - closures(style, draw_blinks(style, frames, seed), frames) + noise


@given(rate=st.floats(2, 90), spread=st.floats(0.05, 1.2), frames=st.integers(1, 3000), seed=st.integers(0, 2**48))
def test_blinks_keep_apart_and_off_both_ends(rate: float, spread: float, frames: int, seed: int) -> None:
    style = BlinkStyle(rate, spread)
    begins = draw_blinks(style, frames, seed)
    np.testing.assert_array_equal(begins, draw_blinks(style, frames, seed))
    assert (begins >= 0.3).all()
    assert (begins + style.duration_s <= frames / 25).all()
    assert (np.diff(begins) >= style.duration_s + LEAST_GAP_S - 1e-9).all()
    closed = closures(style, begins, frames)
    assert closed[:8].max(initial=0) == 0
    assert closed.max(initial=0) <= style.depth


def test_the_rate_and_the_seed_are_kept() -> None:
    for rate in (8.0, 25.0):
        begins = draw_blinks(BlinkStyle(rate), 25 * 3600, 5)
        assert len(begins) / 60 == pytest.approx(rate, rel=0.12)
    assert (draw_blinks(USUAL, 2000, 5)[:3] != draw_blinks(USUAL, 2000, 6)[:3]).all()


def test_a_style_is_learnt_from_a_clip_that_shows_it() -> None:
    own = BlinkStyle(rate_per_min=30, spread=0.3, closing_s=0.16, opening_s=0.4, depth=0.65)
    learnt = learn_style(_clip(own, 120), np.ones(3000, dtype=bool))
    assert learnt.rate_per_min == pytest.approx(30, rel=0.25)
    assert learnt.closing_s == pytest.approx(0.16, abs=0.03)
    assert learnt.opening_s == pytest.approx(0.4, abs=0.06)
    assert learnt.depth == pytest.approx(0.65, abs=0.05)
    quick = learn_style(_clip(BlinkStyle(30, 0.3, 0.08, 0.04, 0.15), 120), np.ones(3000, dtype=bool))
    assert quick.opening_s < learnt.opening_s - 0.15
    assert quick.closing_s < learnt.closing_s - 0.04


def test_a_clip_without_blinks_leaves_what_is_usual() -> None:
    learnt = learn_style(np.ones(100), np.ones(100, dtype=bool))
    assert (learnt.closing_s, learnt.opening_s, learnt.depth) == (USUAL.closing_s, USUAL.opening_s, USUAL.depth)
    assert 10 < learnt.rate_per_min < 15
    assert learn_style(np.ones(3000), np.ones(3000, dtype=bool)).rate_per_min < 2
    assert learn_style(np.ones(3), np.zeros(3, dtype=bool)).rate_per_min == 15


def test_a_made_blink_is_found_as_one() -> None:
    eyes = 1 - closures(USUAL, np.array([1.0, 2.2, 3.9]), 150)
    np.testing.assert_allclose(find_blinks(eyes) / 25, [1.12, 2.32, 4.02], atol=0.05)
    np.testing.assert_allclose(without_blinks(eyes), 1, atol=0.02)
    assert without_blinks(np.full(4, 0.5)).tolist() == [0.5] * 4


def test_activity_tells_speech_from_rest_and_prefers_what_the_file_says(tmp_path: Path) -> None:
    level = np.full(200, -70, np.float32)
    level[60:140] = -20
    path = tmp_path / "features.npz"
    np.savez(path, level_db=level)
    activity = load_activity(path, 100)
    assert activity[32:68].min() == 1
    assert max(activity[:28].max(), activity[72:].max()) == 0
    np.testing.assert_array_equal(from_level(level - 15), from_level(level))
    np.testing.assert_array_equal(from_level(np.full(9, -90, np.float32)), np.zeros(9))
    for told in (np.linspace(0, 1, 100), np.linspace(0, 1, 200)):
        np.savez(path, level_db=level, voiced=told)
        np.testing.assert_allclose(load_activity(path, 100), np.linspace(0, 1, 100), atol=0.01)
    assert len(load_activity(path, 130)) == 130
    np.savez(path, level_db=level, voiced=np.zeros((3, 2)))
    with pytest.raises(BadInput, match="damaged"):
        load_activity(path, 100)
    with pytest.raises(BadInput, match="missing"):
        load_activity(tmp_path / "none.npz", 100)


@pytest.mark.parametrize(("typed", "kept"), [("auto", "auto"), ("clip", "clip"), ("0", 0.0), ("0.9", 0.9), ("1", 1.0)])
def test_what_is_typed_reaches_the_job(tmp_path: Path, typed: str, kept: float | str) -> None:
    save_json(tmp_path / "job.json", {"format": 1, "subject": "tiny", "eyes": _read_eyes(typed)})
    assert load_job(tmp_path / "job.json").eyes == kept
    assert Wishes().eyes == "auto"


def test_the_same_subject_and_speech_give_the_same_seed_whatever_stands_behind(tmp_path: Path) -> None:
    job = {"format": 1, "subject": "tiny", "speech": {"name": "a.wav", "sha256": "ab"}}
    seeds = []
    for change in (
        {},
        {"background_colour": "#102030"},
        {"speech": {"name": "a.wav", "sha256": "cd"}},
        {"subject": "b"},
    ):
        save_json(tmp_path / "job.json", {**job, **change})
        seeds.append(load_job(tmp_path / "job.json").seed)
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3

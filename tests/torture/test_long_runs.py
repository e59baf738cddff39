"""Seconds in place of an hour: memory and work stay, sound and picture stay together, and what drifts is found."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from stages import render
from stages.frame_queue import Frame, Pending
from stages.media import probe
from tests.torture.__main__ import inputs_table
from tests.torture.long_speech import lag_frames, speak_long


def test_sound_and_picture_stay_together_and_memory_stays(tmp_path: Path) -> None:
    found = speak_long(tmp_path, 16.0)
    assert found.picture_lags == (0, 0)
    assert abs(found.sound_lag_ms) < 1
    assert found.together
    video = next(path for path in tmp_path.rglob("video.mp4"))
    assert abs(probe(video).duration_s - 16.0) < 1 / 25
    assert found.late.mb < found.early.mb + 48


def test_pictures_that_fall_two_frames_behind_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_time = render._frames

    def stumble(scene: render._Scene, features: render.Features) -> Iterator[Frame | Pending]:
        def stumbling() -> Iterator[Frame | Pending]:
            for index, frame in enumerate(in_time(scene, features)):
                # Half way through, one picture is shown three times.
                yield from [frame] * (3 if index == features.frames // 2 else 1)

        return islice(stumbling(), features.frames)

    monkeypatch.setattr(render, "_frames", stumble)
    found = speak_long(tmp_path, 16.0)
    assert found.picture_lags == (0, 2)
    assert not found.together
    assert not found.well


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_the_lag_of_pictures_is_measured(late: int) -> None:
    random = np.random.default_rng(0)
    loud = np.repeat(random.uniform(-60, -10, 60), 4)[:224]
    pictures = np.full((200, 4, 4, 3), 0.0) + loud[12 - late :][:200, None, None, None]
    assert lag_frames(pictures + random.normal(0, 1, pictures.shape), loud) == late


def test_the_table_of_bad_input_counts_what_was_refused(tmp_path: Path) -> None:
    test = Path(__file__).parents[1] / "test_bad_input_files.py"
    table, well = inputs_table(tmp_path, [f"{test}::test_settings_that_cannot_be_are_refused"])
    counts = [int(line.split()[-1]) for line in table.splitlines()]
    assert well
    assert counts[0] == counts[1] > 10
    assert counts[2] == 0

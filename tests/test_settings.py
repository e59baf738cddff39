"""Settings: what is said wins over the preset, and what cannot be is refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import BadInput
from stages.settings import PRESETS, STAGES, FramesSettings, HeadSettings, SubjectSettings
from stages.settings_reading import from_mapping, parse_assignment, resolve, to_mapping


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_survives_json(preset: str) -> None:
    settings = resolve(preset, {})
    for stage in STAGES:
        values = getattr(settings, stage)
        assert from_mapping(type(values), json.loads(json.dumps(to_mapping(values))), stage) == values


def test_a_change_wins_over_the_preset_and_touches_nothing_else() -> None:
    before, after = resolve("full", {}), resolve("full", {"head": {"steps": 5}})
    assert after.head == dataclasses.replace(before.head, steps=5)
    assert dataclasses.replace(after, head=before.head) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": {"stepz": 1}}, "unknown setting head.stepz (did you mean head.steps?)"),
        ({"haed": {"steps": 1}}, "unknown stage 'haed' in the settings (known: head)"),
        ({"head": {"steps": "many"}}, "head.steps is 'many', a text (give a whole number)"),
        ({"head": {"steps": True}}, "head.steps is True, true or false (give a whole number)"),
        ({"head": {"steps": -1}}, "head.steps is -1 (give a value from 0 to 1e+07)"),
        ({"head": {"grid_rate": float("nan")}}, "head.grid_rate is nan (give a value from 0 to 1)"),
        ({"head": {"hidden_width": 60}}, "head.hidden_width is 60 (give a multiple of 16, 1024 at most)"),
        ({"head": {"backbone": "gan"}}, "head.backbone is 'gan' (choose one of: radnerf, nerf)"),
        ({"frames": {"crop": [1, 2]}}, "frames.crop is [1, 2] (give 3 values)"),
        ({"head": 3}, "the settings of head are 3 (write 'head:' with indented keys below)"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        resolve("draft", changes)
    assert str(caught.value) == said


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"unknown preset 'best' \(choose one of: draft, standard, full, max\)"):
        resolve("best", {})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("head.steps=500", ("head", "steps", 500)),
        ("head.grid_rate=1.0e-3", ("head", "grid_rate", 1e-3)),
        ("frames.crop=[1, 2, 3]", ("frames", "crop", [1, 2, 3])),
        ("frames.crop=null", ("frames", "crop", None)),
        ("audio.model=/a=b c", ("audio", "model", "/a=b c")),
    ],
)
def test_an_assignment_is_read_as_yaml_reads_it(text: str, parts: tuple[str, str, object]) -> None:
    assert parse_assignment(text) == parts


@pytest.mark.parametrize("text", ["", "head", "head.steps", "steps=3", ".steps=3", "head.=3", "head.steps=[1"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_assignment(text)


@given(st.text())
def test_any_text_is_an_assignment_or_refused(text: str) -> None:
    try:
        stage, key, _ = parse_assignment(text)
    except BadInput:
        return
    assert stage
    assert key


def test_an_int_is_taken_for_a_float_and_a_list_for_a_tuple() -> None:
    assert from_mapping(HeadSettings, {"grid_rate": 1}).grid_rate == 1.0
    assert from_mapping(FramesSettings, {"crop": [1, 2, 3]}).crop == (1, 2, 3)


def test_every_stage_with_settings_is_a_stage() -> None:
    from cli.plan import STAGES as RUNNABLE

    assert set(STAGES) == set(RUNNABLE)
    assert {field.name for field in dataclasses.fields(SubjectSettings)} == {"preset", *STAGES}


def test_the_settings_page_is_up_to_date() -> None:
    from cli.settings_page import settings_page

    page = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_page(), "run 'make docs'"


def test_the_baseline_brings_numbers_that_it_can_bear_and_the_user_may_change_them() -> None:
    plain = resolve("draft", {})
    baseline = resolve("draft", {"head": {"backbone": "nerf"}})
    assert baseline.head.rays < plain.head.rays
    assert baseline.head.lips_steps == 0
    assert resolve("draft", {"head": {"backbone": "nerf", "steps": 7}}).head.steps == 7
    assert dataclasses.replace(baseline, head=plain.head) == plain

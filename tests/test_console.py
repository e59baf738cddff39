"""What progress says where there is no terminal."""

from __future__ import annotations

import io

import pytest

from cli import console
from stages.progress import Progress


def _said(monkeypatch: pytest.MonkeyPatch, *steps: tuple[float, int]) -> list[str]:
    """The lines about 100 frames, of which so many are done at such seconds."""
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    stream = io.StringIO()
    plain = console._Plain(stream)
    for now, done in steps:  # noqa: B007 - the clock reads it
        plain.show("render", Progress("render", done, 100))
    return stream.getvalue().splitlines()


def test_what_is_left_is_not_told_by_the_frame_that_waits_for_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    said = _said(monkeypatch, (0.0, 0), (40.0, 1), (50.0, 11), (60.0, 51))
    assert said == [
        "render: render 0/100",
        "render: render 1/100",
        "render: render 11/100, 1 min 29 s left",
        "render: render 51/100, 20 s left",
    ]


def test_what_was_done_before_an_interruption_took_no_time_now(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _said(monkeypatch, (0.0, 80), (10.0, 90))[-1] == "render: render 90/100, 10 s left"

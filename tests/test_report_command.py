"""``radnerf report`` as it is typed: it evaluates first, copies and shows the page, and does nothing twice."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli.plan import PREPARATION, TRAINING, find_step, stale_steps, subject_steps
from tests.cli_harness import WORKING_STAGE, Shell, fabricate, shell

__all__ = ["shell"]


def test_a_trained_subject_is_evaluated_then_reported_once(shell: Shell, tmp_path: Path) -> None:
    workspace = fabricate(shell.home)
    workspace.evaluation_series.unlink()
    workspace.report.unlink()
    shell.use_stages(tmp_path / "environment", WORKING_STAGE)

    answer = shell("report", "anchor", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["report"] == str(workspace.report)
    assert told["bytes"] == workspace.report.stat().st_size
    assert told["ran"] == ["evaluate", "report"]
    made = workspace.report.stat().st_mtime_ns

    answer = shell("report", "anchor")
    assert (answer.code, "made before, nothing to do" in answer.out) == (0, True)
    assert workspace.report.stat().st_mtime_ns == made


def test_a_copy_goes_where_it_is_wanted_and_is_what_is_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = fabricate(shell.home)
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: shown.append(address) or True)
    answer = shell("report", "anchor", "-o", "my page.html", "--open")
    assert answer.code == 0, answer.err
    assert Path("my page.html").read_bytes() == workspace.report.read_bytes()
    assert shown == [(shell.home / "my page.html").as_uri()]
    Path("pages").mkdir()
    assert json.loads(shell("report", "anchor", "-o", "pages", "--json").out)["report"].endswith(
        "/pages/anchor_report.html"
    )


def test_without_a_browser_the_page_is_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = fabricate(shell.home)
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    assert f"no browser was found; open {workspace.report} yourself" in shell("report", "anchor", "--open").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody"], "error: there is no subject 'nobody'"),
        (["raw"], "error: the subject 'raw' is not trained yet (run 'radnerf train raw' first)"),
        (
            ["anchor", "-o", "page.pdf"],
            "error: the page cannot be written to page.pdf (give a name that ends in .html)",
        ),
        (["anchor", "-o", "no/page.html"], "error: there is no folder no (make it first)"),
    ],
)
def test_what_cannot_be_reported_is_said(shell: Shell, words: list[str], said: str) -> None:
    fabricate(shell.home)
    fabricate(shell.home, "raw", trained=False)
    answer = shell("report", *words)
    assert answer.code == 2
    assert answer.err.startswith(said)


def test_only_what_the_page_shows_makes_it_stale(shell: Shell) -> None:
    workspace = fabricate(shell.home)
    steps = subject_steps(workspace)
    assert list(steps) == [*PREPARATION, *TRAINING, "evaluate", "report"]
    assert find_step(workspace, "report").outputs == {"page": workspace.report}
    assert stale_steps(steps) == {}
    workspace.preview.touch()
    workspace.log("head").parent.mkdir()
    workspace.log("head").touch()
    assert stale_steps(steps) == {}
    workspace.subject.touch()
    assert set(stale_steps(steps)) == {"report"}
    workspace.head.touch()
    assert {"evaluate", "report"} <= set(stale_steps(steps))


def test_evaluating_alone_makes_no_page(shell: Shell, tmp_path: Path) -> None:
    workspace = fabricate(shell.home)
    workspace.evaluation.unlink()
    workspace.report.unlink()
    figures = '{"head": {}, "composite": {}, "subject": "", "preset": "", "backbone": "", "frames": [1, 2],'
    shell.use_stages(tmp_path / "environment", WORKING_STAGE.replace('{"frames": 75,', figures))
    answer = shell("evaluate", "anchor")
    assert answer.code == 0, answer.err
    assert re.findall(r"^(\w+): done", answer.err, re.MULTILINE) == ["evaluate"]
    assert not workspace.report.exists()

"""One run at a time on a subject."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.lock import VARIABLE, SubjectBusy, stage_lock, subject_lock
from tests.cli_harness import Shell, fabricate, shell

__all__ = ["shell"]


def test_a_second_run_is_told_who_holds_the_subject(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with subject_lock(path, "radnerf train anchor"), pytest.raises(SubjectBusy) as caught, subject_lock(path, "other"):
        pass
    assert caught.value.exit_code == 1
    assert f"'radnerf train anchor' (process {os.getpid()}) has been working on this subject since 20" in str(
        caught.value
    )


def test_the_command_line_says_so_in_one_line(shell: Shell) -> None:
    workspace = fabricate(shell.home, trained=False)
    before = workspace.subject.read_text(), workspace.settings("head").read_text()
    with subject_lock(workspace.lock, "radnerf train anchor"):
        answer = shell("train", "anchor", "--set", "head.steps=77")
    assert answer.code == 1
    assert (workspace.subject.read_text(), workspace.settings("head").read_text()) == before
    assert answer.err.startswith("error: 'radnerf train anchor' (process ")
    assert answer.err.count("\n") == 1


def test_a_free_lock_leaves_no_owner(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with subject_lock(path, "first") as (token, left_over):
        assert not left_over
        assert json.loads(path.read_text())["token"] == token
    assert path.read_text() == ""
    with subject_lock(path, "second") as (_, left_over):
        assert not left_over


def test_a_lock_is_let_go_when_the_run_fails(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with pytest.raises(ZeroDivisionError), subject_lock(path, "first"):
        raise ZeroDivisionError
    with subject_lock(path, "second") as (_, left_over):
        assert not left_over


def test_a_dead_owners_lock_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    script = (
        "import os, sys; from pathlib import Path; from cli.lock import subject_lock\n"
        "with subject_lock(Path(sys.argv[1]), 'radnerf train anchor'): os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert json.loads(path.read_text())["command"] == "radnerf train anchor"
    with subject_lock(path, "next") as (_, left_over):
        assert left_over


def test_a_lock_from_another_machine_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    owner = {"pid": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00", "command": "radnerf train a", "token": "t"}
    path.write_text(json.dumps(owner))
    with pytest.raises(SubjectBusy, match="on elsewhere took this subject at 2026-01-01"), subject_lock(path, "next"):
        pass
    assert json.loads(path.read_text()) == owner


def test_a_stage_of_the_run_that_holds_the_subject_goes_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".lock"
    with subject_lock(path, "radnerf train anchor") as (token, _):
        monkeypatch.setenv(VARIABLE, token)
        with stage_lock(path, "radnerf stage head anchor") as by_hand:
            assert not by_hand
            assert json.loads(path.read_text())["token"] == token
        monkeypatch.setenv(VARIABLE, "another")
        with pytest.raises(SubjectBusy), stage_lock(path, "radnerf stage head anchor"):
            pass

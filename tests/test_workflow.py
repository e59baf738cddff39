"""The DAG: the Snakefile says what cli/plan.py says, and only what depends on a change runs again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cli.plan import speech_chain, stale_steps
from cli.snakemake_call import workflow_file
from cli.subject import books_folder, load_record, save_record, write_settings
from stages.workspace import Workspace
from tests.cli_harness import (
    REFUSING_STAGE,
    SLEEPING_STAGE,
    SPEECH,
    WORKING_STAGE,
    Shell,
    all_steps,
    fabricate,
    shell,
    shim_environment,
)

__all__ = ["shell"]


def dry_run(workspace: Workspace, targets: list[Path], *more: str) -> str:
    """What Snakemake says that it would do."""
    folder = books_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"../../{workspace.root.name}/{path.relative_to(workspace.root)}" for path in targets]
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(workflow_file("Snakefile"))]
    command += ["--directory", str(folder), "--rerun-triggers", "mtime", "--cores", "2", "--dry-run", *more]
    done = subprocess.run([*command, "--", *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules(said: str) -> set[str]:
    """The rules that a dry run names."""
    return set(re.findall(r"^rule (\w+):", said, re.MULTILINE))


def change_settings(workspace: Workspace, stage: str, key: str, value: object) -> list[str]:
    """Change one setting as ``--set`` does; the stages whose settings' file was written."""
    record = load_record(workspace.subject).changed(preset=None, assignments={stage: {key: value}})
    save_record(workspace.subject, record)
    return write_settings(workspace, record.resolved())


def test_head_settings_rerun_head_torso_and_what_follows_only(tmp_path: Path) -> None:
    workspace = fabricate(tmp_path, speech=True)
    targets = [workspace.torso, workspace.evaluation, workspace.speech(SPEECH).video]
    assert rules(dry_run(workspace, targets)) == set()

    assert change_settings(workspace, "head", "steps", 77) == ["head"]
    assert rules(dry_run(workspace, targets)) == {"head", "torso", "evaluate", "render"}


def test_the_snakefile_and_the_plan_name_the_same_files(tmp_path: Path) -> None:
    workspace = fabricate(tmp_path, speech=True)
    said = dry_run(workspace, [workspace.report, workspace.speech(SPEECH).video], "--forceall")

    def listed(block: str, kind: str) -> set[str]:
        found = re.search(rf"^    {kind}: (.*)$", block, re.MULTILINE)
        return set(found[1].split(", ")) if found else set()

    prefix = f"../../{workspace.root.name}/"
    blocks = dict(re.findall(r"^rule (\w+):\n((?:    .*\n)+)", said, re.MULTILINE))
    expected = all_steps(workspace)
    assert set(blocks) == set(expected)
    for name, step in expected.items():
        reads = {prefix + str(path.relative_to(workspace.root)) for path in step.reads()}
        writes = {prefix + str(path.relative_to(workspace.root)) for path in step.outputs.values()}
        assert listed(blocks[name], "input") == reads, name
        assert listed(blocks[name], "output") == writes, name


@pytest.mark.parametrize(
    ("stage", "key", "value", "again"),
    [
        ("head", "steps", 77, {"head", "torso", "render"}),
        ("torso", "steps", 77, {"torso", "render"}),
        ("render", "crf", 30, {"render"}),
        ("pose", "smoothing", 2.0, {"pose", "head", "torso", "render"}),
        ("audio", "front_end", "whisper", {"clip audio", "audio", "head", "torso", "render"}),
        ("evaluate", "size_px", 64, set()),
    ],
)
def test_a_changed_setting_makes_stale_what_depends_on_it(
    tmp_path: Path, stage: str, key: str, value: object, again: set[str]
) -> None:
    workspace = fabricate(tmp_path, speech=True)
    assert change_settings(workspace, stage, key, value) == [stage]
    assert set(stale_steps(speech_chain(workspace, SPEECH))) == again


def test_training_runs_what_is_missing_and_then_nothing(shell: Shell, tmp_path: Path) -> None:
    workspace = fabricate(shell.home, trained=False)
    shell.use_stages(tmp_path / "environment", WORKING_STAGE)

    answer = shell("train", "anchor")
    assert answer.code == 0, answer.err
    assert re.findall(r"^(\w+): done", answer.err, re.MULTILINE) == ["head", "torso"]
    made = workspace.head.stat().st_mtime_ns

    answer = shell("train", "anchor")
    assert (answer.code, answer.out) == (0, "anchor is trained already, nothing to do\n")
    assert workspace.head.stat().st_mtime_ns == made


def test_a_stages_own_error_and_exit_code_reach_the_user(shell: Shell, tmp_path: Path) -> None:
    fabricate(shell.home, trained=False)
    shell.use_stages(tmp_path / "environment", REFUSING_STAGE)

    answer = shell("train", "anchor", "--json")
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err == "error: the face is lost from 3.0 to 5.2 s (cut that part out)\n"


def test_ctrl_c_ends_everything_and_exits_130(tmp_path: Path) -> None:
    workspace = fabricate(tmp_path, trained=False)
    python = shim_environment(tmp_path / "environment", SLEEPING_STAGE)
    pid_file = tmp_path / "pid"
    environment = {**os.environ, "STAGE_PID_FILE": str(pid_file), "RADNERF_HOME": str(tmp_path)}
    run = subprocess.Popen(
        [python, "-P", "-m", "cli.app", "train", "anchor"], env=environment, stderr=subprocess.PIPE, text=True
    )
    stage = _wait_for_number(pid_file)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)

    assert run.returncode == 130
    assert err.splitlines()[-1] == "interrupted; the same command goes on where it stopped"
    assert _is_gone(stage)
    assert not workspace.head.exists()
    assert workspace.lock.read_text() == ""


def test_a_killed_runs_stage_is_ended_before_the_next_run(tmp_path: Path) -> None:
    workspace = fabricate(tmp_path, trained=False)
    pid_file = tmp_path / "pid"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "STAGE_PID_FILE": str(pid_file), "RADNERF_HOME": str(tmp_path), "TMPDIR": str(scratch)}
    command = ["-P", "-m", "cli.app", "train", "anchor"]
    sleeping = shim_environment(tmp_path / "sleeping", SLEEPING_STAGE)
    run = subprocess.Popen([sleeping, *command], env=environment, stderr=subprocess.DEVNULL)
    orphan = _wait_for_number(pid_file)
    snakemake = psutil.Process(orphan).parents()[1]
    run.kill()
    run.wait()
    snakemake.kill()
    assert psutil.pid_exists(orphan)
    assert list(scratch.iterdir())
    assert any((books_folder(workspace) / ".snakemake" / "locks").iterdir())

    working = shim_environment(tmp_path / "working", WORKING_STAGE)
    done = subprocess.run([working, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert _is_gone(orphan)
    assert workspace.torso.is_file()
    assert list(scratch.iterdir()) == []


TAKES_ITS_TIME = f"""\
import os, time
from pathlib import Path
Path(os.environ["STAGE_PID_FILE"]).write_text(str(os.getpid()))
time.sleep(4)
{WORKING_STAGE}"""
"""A stage that does not mind whether its run is still there."""


def test_snakemake_starts_nothing_more_when_its_run_was_killed(tmp_path: Path) -> None:
    workspace = fabricate(tmp_path, trained=False)
    pid_file = tmp_path / "pid"
    environment = {**os.environ, "STAGE_PID_FILE": str(pid_file), "RADNERF_HOME": str(tmp_path)}
    python = shim_environment(tmp_path / "environment", TAKES_ITS_TIME)
    run = subprocess.Popen(
        [python, "-P", "-m", "cli.app", "train", "anchor"], env=environment, stderr=subprocess.DEVNULL
    )
    stage = psutil.Process(_wait_for_number(pid_file))
    snakemake = stage.parents()[1]
    assert "snakemake" in snakemake.cmdline()
    run.kill()
    run.wait()
    assert _is_gone(snakemake.pid, 30)
    assert not workspace.torso.exists()


def _wait_for_number(path: Path) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was never written")


def _is_gone(pid: int, seconds: float = 10) -> bool:
    """Whether a process is gone or only waits for its parent to notice."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False

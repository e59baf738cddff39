"""The DAG: the Snakefile says what cli/plan.py says, and only what depends on a change runs again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.plan import Step, speech_chain, speech_steps, stale_steps, subject_steps
from cli.subject import Source, create_subject, load_record, new_record, save_record, write_settings
from cli.workflow import snakemake_folder, workflow_file
from stages import formats
from stages.workspace import Workspace

SPEECH = "hello-0123abcd"


def fabricate(home: Path, name: str = "anchor", *, trained: bool = True, speech: bool = False) -> Workspace:
    """A subject whose files hold nothing, each newer than what it was made from."""
    video = home / "video.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(b"video")
    workspace = Workspace(home / "subjects" / name)
    record = new_record(name, Source("video.mp4", "0" * 64, 5), "").changed(preset="draft", assignments={})
    create_subject(workspace, record, video)
    steps = subject_steps(workspace)
    if not trained:
        steps = {key: step for key, step in steps.items() if key not in ("head", "torso", "evaluate")}
    if speech:
        folder = workspace.speech(SPEECH)
        formats.save_json(folder.job, {"format": 1})
        folder.source.write_bytes(b"speech")
        steps = {**speech_chain(workspace, SPEECH), "evaluate": steps["evaluate"]}
    touch_outputs(steps, time.time() - 1000)
    return workspace


def touch_outputs(steps: dict[str, Step], start: float) -> None:
    """Make every input, then every output a second after the one before."""
    for step in steps.values():
        for path in step.reads():
            if path.exists():
                os.utime(path, (start, start))
    for later, step in enumerate(steps.values(), start=1):
        for path in step.outputs.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"made")
            os.utime(path, (start + later, start + later))


def dry_run(workspace: Workspace, targets: list[Path]) -> set[str]:
    """The rules that Snakemake would run."""
    folder = snakemake_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"../../{workspace.root.name}/{path.relative_to(workspace.root)}" for path in targets]
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(workflow_file("Snakefile"))]
    command += ["--directory", str(folder), "--rerun-triggers", "mtime", "--cores", "2", "--dry-run", "--", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"^rule (\w+):", done.stdout + done.stderr, re.MULTILINE))


def change_settings(workspace: Workspace, stage: str, key: str, value: object) -> list[str]:
    """Change one setting as ``--set`` does; the stages whose settings' file was written."""
    record = load_record(workspace.subject).changed(preset=None, assignments={stage: {key: value}})
    save_record(workspace.subject, record)
    return write_settings(workspace, record.resolved())


def test_head_settings_rerun_head_torso_and_what_follows_only(tmp_path: Path) -> None:
    workspace = fabricate(tmp_path, speech=True)
    targets = [workspace.torso, workspace.evaluation, workspace.speech(SPEECH).video]
    assert dry_run(workspace, targets) == set()

    assert change_settings(workspace, "head", "steps", 77) == ["head"]
    assert dry_run(workspace, targets) == {"head", "torso", "evaluate", "render"}

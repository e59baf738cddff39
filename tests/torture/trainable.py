"""A subject that looks fully prepared and trains in seconds: no video, no vision."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cli.plan import PREPARATION, subject_steps
from cli.subject import load_record, save_record, write_settings
from stages.workspace import Workspace
from tests.cli_harness import fabricate
from tests.synthetic import SIZE_PX, write_subject

CHANGES = {
    "head": {
        "size_px": SIZE_PX, "levels": 4, "features_per_level": 2, "log2_entries": 10, "max_resolution": 32,
        "audio_max_resolution": 8, "hidden_width": 16, "audio_code": 16, "occupancy_resolution": 16, "steps": 60,
        "lips_steps": 6, "rays": 256, "mouth_lesson_steps": 4, "lips_lpips_weight": 0.0, "checkpoint_every_s": 0.2,
        "warp": False,
    },
    "torso": {
        "size_px": SIZE_PX, "levels": 4, "features_per_level": 2, "log2_entries": 10, "max_resolution": 32,
        "steps": 20, "pixels": 256, "checkpoint_every_s": 0.2,
    },
}  # fmt: skip


def make_trainable(home: Path, name: str = "demo") -> Workspace:
    """Write a subject whose preparation is up to date and whose pictures are a talking ball's."""
    home.mkdir(parents=True, exist_ok=True)
    workspace = fabricate(home, name, trained=False)
    record = load_record(workspace.subject)
    write_subject(workspace.root)
    workspace.subject.unlink(missing_ok=True)
    record = record.changed(preset="draft", assignments=CHANGES)
    save_record(workspace.subject, record)
    write_settings(workspace, record.resolved())
    _age(workspace)
    return workspace


def _age(workspace: Workspace) -> None:
    """Let every output be newer than what it was made from, and all of them older than now."""
    steps = {name: step for name, step in subject_steps(workspace).items() if name in PREPARATION}
    start = time.time() - 1000
    for step in steps.values():
        for path in step.reads():
            if path.exists():
                os.utime(path, (start, start))
    for later, step in enumerate(steps.values(), start=1):
        for path in step.outputs.values():
            os.utime(path, (start + later, start + later))

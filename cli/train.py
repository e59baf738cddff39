"""``radnerf train``: the head, then the torso."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import Console, duration
from cli.help_pages import KEPT
from cli.options import (
    AsJson,
    BackendName,
    Deployment,
    DeviceName,
    Home,
    PresetName,
    ProfileName,
    Quiet,
    Settings,
    SnakemakeArgs,
    SubjectName,
    Wait,
    examples,
    passed_on,
    read_backend,
    read_deployment,
    read_device,
    read_home,
    read_profile,
)
from cli.plan import PREPARATION, TRAINING, stale_steps, subject_steps
from cli.snakemake_call import Execution
from cli.status import benchmark_seconds
from cli.subject import check_space, load_record, read_assignments, save_record, write_settings
from cli.workflow import Held, Outcome, hold, run_steps
from stages.atomic_files import load_json
from stages.workspace import Workspace, open_subject

EXAMPLES = examples(
    "radnerf train anchor",
    "radnerf train anchor --preset draft",
    "radnerf train anchor --set head.steps=5000 --set head.size_px=192",
    "radnerf train anchor --backbone nerf",
    "radnerf train anchor -- --dry-run",
)

CACHE_BYTES_PER_PIXEL = 10
"""A generous guess at what the memory maps that training reads from hold for a pixel of a frame."""


def train(
    subject: SubjectName,
    args: SnakemakeArgs = None,
    preset: PresetName = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="NAME",
            help="radnerf, or nerf: the baseline without grids.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    assignments: Settings = [],  # noqa: B006 - typer copies it
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    profile: ProfileName = None,
    sdm: Deployment = None,
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
    wait: Wait = False,
) -> None:
    """Train a prepared subject; goes on from its checkpoint after an interruption.

    Preset, backbone and settings are kept in the subject, so that speaking and evaluating use what was trained.
    """
    console = Console(json=as_json, quiet=quiet)
    workspace = open_subject(read_home(home), subject)
    changes = read_assignments(assignments)
    if backbone is not None:
        changes.setdefault("head", {})["backbone"] = backbone
    execution = Execution(
        read_backend(backend), read_device(device), passed_on(args), read_profile(profile), read_deployment(sdm)
    )
    record = load_record(workspace.subject).changed(preset=preset, assignments=changes)
    with hold(workspace, None, console.waiting if wait else None) as held:
        save_record(workspace.subject, record)
        write_settings(workspace, record.resolved())
        outcome = run_training(held, execution, console)
    if execution.snakemake_args and not workspace.torso.is_file():
        return
    summary = summarise(workspace, outcome)
    console.result(summary, _words(subject, workspace, summary, outcome))


def run_training(held: Held, execution: Execution, console: Console) -> Outcome:
    """Bring a subject's head and torso up to date, and what they need."""
    workspace = held.workspace
    steps = {stage: step for stage, step in subject_steps(workspace).items() if stage in (*PREPARATION, *TRAINING)}
    if "head" in stale_steps(steps) and workspace.frames_info.is_file():
        frames = int(load_json(workspace.frames_info)["frames"])
        side = load_record(workspace.subject).resolved().head.size_px
        check_space(workspace.root, CACHE_BYTES_PER_PIXEL * frames * side**2 + 100_000_000, "training")
    return run_steps(held, steps, list(TRAINING), execution, console)


def summarise(workspace: Workspace, outcome: Outcome) -> dict[str, Any]:
    """What training cost; the seconds of the last training when nothing was to do."""
    settings = load_record(workspace.subject).resolved()
    seconds = outcome.seconds
    if not outcome.ran:
        seconds = sum(benchmark_seconds(workspace, stage) or 0.0 for stage in TRAINING)
    return {
        "seconds": round(seconds, 2),
        "head_steps": settings.head.steps + settings.head.lips_steps,
        "torso_steps": settings.torso.steps,
    }


def _words(subject: str, workspace: Workspace, summary: dict[str, Any], outcome: Outcome) -> str:
    if not outcome.ran:
        return f"{subject} is trained already, nothing to do"
    histories = (load_json(path) for path in (workspace.head_history, workspace.torso_history))
    points = [point for history in histories for point in history.get("points", [])]
    astray = sum("went_back_from" in point for point in points)
    times = "once" if astray == 1 else f"{astray} times"
    remark = f"\nit went astray {times} and went on from before with half the rates" if astray else ""
    return (
        f"{subject} trained in {duration(summary['seconds'])}: {summary['head_steps']} steps of the head, "
        f"{summary['torso_steps']} of the torso; look at {workspace.preview}{remark}\n"
        f"next: radnerf speak {subject} SPEECH"
    )

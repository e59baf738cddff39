"""``radnerf status``: what is done, what is stale and why, and what it would cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import completion
from cli.console import Console, duration, size, table
from cli.options import AsJson, Home, examples, read_home
from cli.plan import Step, speech_chain, stale_steps, step_done, subject_steps
from cli.subject import SubjectRecord, load_record
from stages.errors import BadInput
from stages.settings_reading import to_mapping
from stages.workspace import Workspace, open_subject

EXAMPLES = examples("radnerf status", "radnerf status anchor", "radnerf status anchor --json")


def status(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUBJECT]",
            help="One subject, in detail.",
            show_default=False,
            autocompletion=completion.subjects,
        ),
    ] = None,
    home: Home = Path(),
    as_json: AsJson = False,
) -> None:
    """Show what is done, what is stale and why, and what bringing it up to date would cost."""
    console = Console(json=as_json)
    home = read_home(home)
    if subject is not None:
        report = describe_subject(open_subject(home, subject))
        console.result(report, _subject_words(report))
        return
    names = sorted(path.parent.name for path in (home / "subjects").glob("*/subject.yaml"))
    reports = [_guarded(home, name) for name in names]
    text = table([_row(report) for report in reports], ("subject", "preset", "prepared", "trained", "speeches", "size"))
    nothing = f"there is no subject under {home / 'subjects'} yet\nnext: radnerf prepare VIDEO"
    console.result({"home": str(home), "subjects": reports}, text if reports else nothing)


def _guarded(home: Path, name: str) -> dict[str, Any]:
    """One damaged subject must not hide the others."""
    try:
        return describe_subject(open_subject(home, name))
    except BadInput as error:
        return {"subject": name, "error": str(error)}


def describe_subject(workspace: Workspace) -> dict[str, Any]:
    """Everything that ``status`` says about a subject.

    Raises:
        BadInput: ``subject.yaml`` is damaged or asks for something that is not.
    """
    record = load_record(workspace.subject)
    stages = _describe_steps(workspace, subject_steps(workspace), record)
    speeches = []
    for job in sorted(workspace.root.glob("speech/*/job.json")):
        told = _describe_steps(workspace, speech_chain(workspace, job.parent.name), record)["render"]
        speeches.append({**told, "id": job.parent.name, "video": str(workspace.speech(job.parent.name).video)})
    stale = [stage for stage in stages.values() if stage["state"] != "done"]
    known = [stage["last_seconds"] for stage in stale if stage["last_seconds"] is not None]
    return {
        "subject": record.name,
        "preset": record.preset,
        "backbone": record.resolved().head.backbone,
        "source": record.source.name,
        "consent": record.consent,
        "stages": stages,
        "speeches": speeches,
        "bytes": folder_bytes(workspace.root),
        "cost_seconds": round(sum(known), 1) if len(known) == len(stale) else None,
        "busy": _owner(workspace),
    }


def _describe_steps(workspace: Workspace, steps: Mapping[str, Step], record: SubjectRecord) -> dict[str, Any]:
    changed = changed_settings(workspace, record)
    reasons = stale_steps(dict(steps), changed)
    told = {}
    for name, step in steps.items():
        state = "done" if name not in reasons else "stale" if step_done(step) else "missing"
        told[name] = {
            "state": state,
            "why": reasons.get(name, ""),
            "bytes": sum(path.stat().st_size for path in step.outputs.values() if path.exists()),
            "last_seconds": benchmark_seconds(workspace, step.log_name),
        }
    return told


def changed_settings(workspace: Workspace, record: SubjectRecord) -> dict[Path, str]:
    """Settings that the next run will write anew because ``subject.yaml`` says something else now.

    Returns:
        What differs, ``"steps 3000 -> 500"``, by the settings' file.
    """
    found = {}
    resolved = record.resolved()
    for name, step in subject_steps(workspace).items():
        wanted = to_mapping(getattr(resolved, name))
        try:
            present = json.loads(step.settings.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            present = {}
        differing = [key for key in wanted if json.loads(json.dumps(wanted[key])) != present.get(key, ...)]
        if differing:
            words = [f"{key} {present[key]} -> {wanted[key]}" for key in differing if key in present]
            found[step.settings] = ", ".join(words) or "settings are new"
    return found


def benchmark_seconds(workspace: Workspace, log_name: str) -> float | None:
    """How long a stage took when the workflow last ran it; None when it never did."""
    try:
        lines = workspace.benchmark(log_name).read_text(encoding="utf-8").splitlines()
        return float(lines[1].split("\t")[0])
    except (OSError, IndexError, ValueError):
        return None


def folder_bytes(folder: Path) -> int:
    """Size of everything in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _owner(workspace: Workspace) -> dict[str, Any] | None:
    """Who works on the subject now, as its lock says."""
    try:
        owner = json.loads(workspace.lock.read_text(encoding="utf-8"))
        return {key: owner[key] for key in ("pid", "host", "since", "command")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _row(report: dict[str, Any]) -> tuple[str, ...]:
    if "error" in report:
        return (report["subject"], "?", "damaged", "-", "-", report["error"])
    states = {name: stage["state"] for name, stage in report["stages"].items()}

    def word(names: tuple[str, ...]) -> str:
        # What was given from elsewhere has no state of its own.
        found = {states.get(name, "done") for name in names}
        return "yes" if found == {"done"} else "stale" if "missing" not in found else "no"

    prepared = word(("frames", "landmarks", "parsing", "background", "pose", "audio"))
    trained = word(("head", "torso"))
    return (report["subject"], report["preset"], prepared, trained, str(len(report["speeches"])), size(report["bytes"]))


def _subject_words(report: dict[str, Any]) -> str:
    rows = []
    for name, stage in [*report["stages"].items(), *((f"speech {item['id']}", item) for item in report["speeches"])]:
        took = duration(stage["last_seconds"]) if stage["last_seconds"] is not None else "-"
        rows.append((name, stage["state"], size(stage["bytes"]) if stage["bytes"] else "-", took, stage["why"]))
    head = f"{report['subject']}: preset {report['preset']}, from {report['source']}, {size(report['bytes'])}"
    cost = report["cost_seconds"]
    tail = "" if cost == 0 else f"bringing all of it up to date would take about {duration(cost)}" if cost else ""
    busy = report["busy"]
    owner = f"'{busy['command']}' (process {busy['pid']}) is working on it since {busy['since']}" if busy else ""
    stages = (
        table(rows, ("stage", "state", "size", "last took", "why")) if rows else "all of it was given, nothing is to do"
    )
    return "\n".join(filter(None, [head, stages, tail, owner]))

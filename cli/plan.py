"""Which files each stage reads and writes: what the Snakefile says, for running a stage by hand and for ``status``.

``tests/test_workflow.py`` holds the Snakefile and this table together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stages.atomic_files import load_json
from stages.errors import BadInput
from stages.workspace import SpeechFolder, Workspace

PREPARATION = ("frames", "landmarks", "parsing", "background", "pose", "audio")
"""Stages up to the first training step, in an order in which they can run."""

TRAINING = ("head", "torso")
"""Stages that ``radnerf train`` adds."""

STAGES = (*PREPARATION, *TRAINING, "evaluate", "report", "render")
"""Every stage; ``render`` and the second use of ``audio`` belong to a speech."""


@dataclass(frozen=True)
class Step:
    """One stage of one subject, or of one of its speeches.

    Attributes:
        stage: The module in ``stages/`` and the section of the settings.
        settings: The resolved settings that it reads.
        inputs: Fields of the module's ``Inputs``.
        outputs: Fields of the module's ``Outputs`` that later stages or the user wait for.
        extras: The other fields of ``Outputs``: caches, checkpoints, pictures to look at.
        log_name: What its log and benchmark are called.
        optional: Fields of the module's ``Inputs`` that are read where they are there, and make nothing stale.
    """

    stage: str
    settings: Path
    inputs: dict[str, Path]
    outputs: dict[str, Path]
    extras: dict[str, Path | None] = field(default_factory=dict)
    log_name: str = ""
    optional: dict[str, Path] = field(default_factory=dict)

    def reads(self) -> list[Path]:
        """Every file that makes the outputs stale when it is newer."""
        return [*self.inputs.values(), self.settings]


def _subject_inputs(workspace: Workspace) -> dict[str, Path]:
    return {
        "layers": workspace.layers,
        "parsing": workspace.parsing,
        "background": workspace.background,
        "track": workspace.track,
        "features": workspace.features,
    }


def subject_steps(workspace: Workspace) -> dict[str, Step]:
    """The stages of a subject by name, in an order in which they can run."""
    ws = workspace
    common = _subject_inputs(ws)
    table: list[tuple[str, dict[str, Path], dict[str, Path], dict[str, Path | None]]] = [
        ("frames", {"video": ws.source}, {"frames": ws.frames, "info": ws.frames_info, "audio": ws.audio}, {}),
        ("landmarks", {"frames": ws.frames}, {"landmarks": ws.landmarks}, {}),
        ("parsing", {"frames": ws.frames, "landmarks": ws.landmarks}, {"parsing": ws.parsing}, {}),
        (
            "background",
            {"frames": ws.frames, "parsing": ws.parsing, "landmarks": ws.landmarks},
            {"background": ws.background, "layers": ws.layers},
            {},
        ),
        ("pose", {"landmarks": ws.landmarks, "frames": ws.frames}, {"track": ws.track}, {}),
        ("audio", {"audio": ws.audio}, {"features": ws.features}, {}),
        (
            "head",
            {**common, "landmarks": ws.landmarks},
            {"head": ws.head, "history": ws.head_history},
            {"state": ws.head_state, "cache": ws.cache},
        ),
        (
            "torso",
            {**common, "head": ws.head},
            {"torso": ws.torso, "history": ws.torso_history},
            {"state": ws.torso_state, "cache": ws.cache, "preview": ws.preview},
        ),
        (
            "evaluate",
            {**common, "head": ws.head, "torso": ws.torso},
            {"evaluation": ws.evaluation, "series": ws.evaluation_series, "pictures": ws.evaluation_pictures},
            {"preview": ws.preview, "saved_frames": None},
        ),
    ]
    given = given_stages(ws)
    steps = {
        stage: Step(stage, ws.settings(stage), inputs, outputs, extras, stage)
        for stage, inputs, outputs, extras in table
    }
    return {stage: step for stage, step in {**steps, "report": _report_step(ws)}.items() if stage not in given}


def given_stages(workspace: Workspace) -> frozenset[str]:
    """Stages that never run for a subject, since what they would make came from elsewhere: a pack, another program.

    Snakemake takes such files as they are because the settings of the stages that would make them are not there.

    Raises:
        BadInput: The subject's list of them is damaged.
    """
    if not workspace.given.is_file():
        return frozenset()
    stages = load_json(workspace.given).get("stages")
    if not isinstance(stages, list) or not set(stages) <= set(STAGES):
        raise BadInput(f"{workspace.given} names stages that are not", hint="import or unpack the subject again")
    return frozenset(stages)


def _report_step(workspace: Workspace) -> Step:
    ws = workspace
    inputs = {
        "subject": ws.subject,
        "frames": ws.frames,
        "info": ws.frames_info,
        "audio": ws.audio,
        "parsing": ws.parsing,
        "track": ws.track,
        "head": ws.head,
        "torso": ws.torso,
        "head_history": ws.head_history,
        "torso_history": ws.torso_history,
        "evaluation": ws.evaluation,
        "series": ws.evaluation_series,
        "pictures": ws.evaluation_pictures,
    }
    optional = {"benchmarks": ws.benchmark("report").parent, "settings": ws.settings("report").parent}
    return Step("report", ws.settings("report"), inputs, {"page": ws.report}, log_name="report", optional=optional)


def speech_steps(workspace: Workspace, speech_id: str) -> dict[str, Step]:
    """The stages of one speech by name: its features, then its video."""
    ws, speech = workspace, workspace.speech(speech_id)
    return {
        "audio": Step(
            "audio",
            ws.settings("audio"),
            {"audio": speech.source},
            {"features": speech.features},
            log_name=f"audio-{speech_id}",
        ),
        "render": Step(
            "render",
            ws.settings("render"),
            {
                "job": speech.job,
                "speech": speech.source,
                "features": speech.features,
                "head": ws.head,
                "torso": ws.torso,
                "background": ws.background,
                "track": ws.track,
            },
            {"video": speech.video, "summary": speech.summary},
            {"cutout": speech.cutout, "stills": speech.stills},
            log_name=f"render-{speech_id}",
        ),
    }


def speech_chain(workspace: Workspace, speech_id: str) -> dict[str, Step]:
    """All that a speech's video needs, in an order in which it can run; ``clip audio`` is the subject's own."""
    needed = {name: step for name, step in subject_steps(workspace).items() if name not in ("evaluate", "report")}
    chain = {"clip audio" if name == "audio" else name: step for name, step in needed.items()}
    return {**chain, **speech_steps(workspace, speech_id)}


def find_step(workspace: Workspace, stage: str, speech_id: str | None = None) -> Step:
    """The step that ``radnerf stage`` names.

    Raises:
        BadInput: No such stage, or a speech is named where none belongs, or is missing where one does.
    """
    if stage not in STAGES:
        raise BadInput(f"there is no stage {stage!r}", hint=f"the stages are: {', '.join(STAGES)}")
    if speech_id is None:
        if stage == "render":
            raise BadInput("the render stage needs a speech", hint="add --speech ID, a folder's name under speech/")
        if stage in given_stages(workspace):
            why = load_json(workspace.given).get("why", "it came from elsewhere")
            raise BadInput(f"the {stage} stage has nothing to work on: the subject was {why}", hint="leave it as it is")
        return subject_steps(workspace)[stage]
    if stage not in ("audio", "render"):
        raise BadInput(f"the {stage} stage belongs to the subject, not to a speech", hint="leave --speech out")
    if not _speech_folder(workspace, speech_id).job.is_file():
        there = sorted(path.parent.name for path in workspace.root.glob("speech/*/job.json"))
        known = f"there are: {', '.join(there)}" if there else "'radnerf speak' makes one"
        raise BadInput(f"the subject has no speech {speech_id!r}", hint=known)
    return speech_steps(workspace, speech_id)[stage]


def _speech_folder(workspace: Workspace, speech_id: str) -> SpeechFolder:
    if not speech_id or "/" in speech_id or speech_id.startswith("."):
        raise BadInput(f"{speech_id!r} is no speech's name", hint="give a folder's name under speech/")
    return workspace.speech(speech_id)


def why_stale(step: Step) -> str:
    """Why a step would run, by the rule that Snakemake follows with ``--rerun-triggers mtime``; empty if it would not.

    Only the step's own files are looked at, not whether an earlier stage is stale.
    """
    missing = [path for path in step.outputs.values() if not path.exists()]
    if missing:
        return "not done yet" if len(missing) == len(step.outputs) else f"{missing[0].name} is missing"
    oldest = min(path.stat().st_mtime_ns for path in step.outputs.values())
    for path in step.reads():
        if not path.exists():
            return f"its input {path.name} is missing"
        if path.stat().st_mtime_ns > oldest:
            return "its settings changed" if path == step.settings else f"{path.name} is newer"
    return ""


def stale_steps(steps: Mapping[str, Step], changed: Mapping[Path, str] | None = None) -> dict[str, str]:
    """Which of some steps would run, and why, following staleness from stage to stage.

    Args:
        steps: Steps in an order in which they can run.
        changed: Settings' files that are about to be written anew, and what will differ in them.

    Returns:
        The reason for each step that would run, by name.
    """
    reasons: dict[str, str] = {}
    renewed: dict[Path, str] = {}
    for name, step in steps.items():
        upstream = next((renewed[path] for path in step.reads() if path in renewed), "")
        reason = why_stale(step)
        if changed and step.settings in changed and step_done(step):
            reason = changed[step.settings]
        if upstream and (not reason or reason.startswith("its input")):
            reason = f"{upstream} will run again" if step_done(step) else "not done yet"
        if reason:
            reasons[name] = reason
            renewed.update(dict.fromkeys(step.outputs.values(), name))
    return reasons


def step_done(step: Step) -> bool:
    """Whether every output is there, fresh or not."""
    return all(path.exists() for path in step.outputs.values())

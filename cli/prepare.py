"""``radnerf prepare``: everything up to the first training step."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import completion
from cli.console import Console, duration
from cli.help_pages import KEPT
from cli.options import (
    AsJson,
    Deployment,
    Home,
    PresetName,
    ProfileName,
    Quiet,
    Settings,
    SnakemakeArgs,
    Wait,
    examples,
    passed_on,
    read_deployment,
    read_home,
    read_numbers,
    read_profile,
)
from cli.plan import PREPARATION, subject_steps
from cli.snakemake_call import Execution
from cli.subject import (
    SubjectRecord,
    check_space,
    create_subject,
    describe_source,
    load_record,
    new_record,
    read_assignments,
    remove_subject,
    save_record,
    slug,
    write_settings,
)
from cli.workflow import Held, Outcome, hold, run_steps
from stages import formats
from stages.atomic_files import load_json, save_json_if_changed
from stages.errors import BadInput, RadnerfError
from stages.progress import listening
from stages.workspace import Workspace, check_name

EXAMPLES = examples(
    "radnerf prepare anchor.mp4",
    "radnerf prepare 'my clip.mov' --name anna --consent 'Anna, by mail, 3 May'",
    "radnerf prepare anchor.mp4 --crop 320,0,720 --front-end whisper",
    "radnerf prepare ./-odd-.mp4 --name odd -- --dry-run",
)

BYTES_PER_PIXEL = 1.2
"""A generous guess at what preparation writes for a pixel of a prepared frame, compressed."""


def prepare(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="Any video that ffmpeg reads.", show_default=False)],
    args: SnakemakeArgs = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The subject's name.  [default: the file's]"),
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(
            "--consent",
            metavar="TEXT",
            help="Whose face it is and that they agreed; else it is asked for once, at a terminal.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            "--crop",
            metavar="X,Y,SIDE",
            help="The square that is used, in pixels of the upright video.  [default: around the face]",
            rich_help_panel=KEPT,
        ),
    ] = None,
    front_end: Annotated[
        str | None,
        typer.Option(
            "--front-end",
            metavar="NAME",
            help="What hears: logmel, both, whisper, wav2vec2, hubert or deepspeech.  [default: the best that is here]",
            autocompletion=completion.front_ends,
            rich_help_panel=KEPT,
        ),
    ] = None,
    preset: PresetName = None,
    assignments: Settings = [],  # noqa: B006 - typer copies it
    force: Annotated[bool, typer.Option("--force", help="Replace a subject of that name, its models too.")] = False,
    profile: ProfileName = None,
    sdm: Deployment = None,
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
    wait: Wait = False,
) -> None:
    """Make a subject from a video: frames, masks, background, pose and sound features."""
    console = Console(json=as_json, quiet=quiet)
    changes = _read_changes(assignments, crop, front_end)
    source = describe_source(video)
    name = check_name(name if name is not None else slug(video.stem)[:64] or f"subject-{source.sha256[:8]}")
    workspace = Workspace(read_home(home) / "subjects" / name)
    record = _existing(workspace, source.sha256, force=force)
    waiting = console.waiting if wait else None
    created = record is None
    remark = _choose_front_end(changes) if created else ""
    record = record or new_record(name, source, "")
    record = record.changed(preset=preset, assignments=changes)
    if consent is None and created and not (quiet or as_json):
        consent = ask_consent()
    if consent is not None:
        record = SubjectRecord(**{**record.__dict__, "consent": consent})
    if created:
        _check_video(video, workspace, record, console)
        if remark:
            console.remark(remark)
        with hold(workspace, None, waiting) if workspace.subject.is_file() else nullcontext():
            create_subject(workspace, record, video)
    try:
        with hold(workspace, None, waiting) as held:
            save_record(workspace.subject, record)
            write_settings(workspace, record.resolved())
            outcome = run_preparation(
                held,
                Execution(
                    snakemake_args=passed_on(args), profile=read_profile(profile), deployment=read_deployment(sdm)
                ),
                console,
            )
    except RadnerfError as error:
        if created and error.exit_code == BadInput.exit_code:
            remove_subject(workspace)
        raise
    if passed_on(args) and not workspace.track.is_file():
        return
    summary = summarise(workspace, outcome)
    console.result(summary, _words(name, summary, outcome))


def ask_consent() -> str | None:
    """Ask once whose face it is and whether they agreed; None where nobody sits at a terminal.

    Returns:
        The note, as ``--consent`` would give it; may be empty.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    question = "Whose face is this, and did they agree? (kept in the subject and in every video; may be left empty)\n"
    answer: str = typer.prompt(question, default="", show_default=False, prompt_suffix="> ", err=True)
    return " ".join(answer.split())


def run_preparation(held: Held, execution: Execution, console: Console) -> Outcome:
    """Bring a subject's preparation up to date."""
    steps = {stage: step for stage, step in subject_steps(held.workspace).items() if stage in PREPARATION}
    return run_steps(held, steps, ["background", "pose", "audio"], execution, console)


def summarise(workspace: Workspace, outcome: Outcome) -> dict[str, Any]:
    """What preparation found, kept in ``prepared.json``; its seconds are those of the last run that did something."""
    info = load_json(workspace.frames_info)
    track = formats.Track.load(workspace.track)
    seconds = outcome.seconds
    if not outcome.ran and workspace.prepared.is_file():
        seconds = float(load_json(workspace.prepared)["seconds"])
    summary = {
        "seconds": round(seconds, 2),
        "frames": info["frames"],
        "fps": info["fps"],
        "reprojection_rms_px": round(float(track.reprojection_rms_px), 4),
        "blinks": [int(frame) for frame in track.blinks],
    }
    save_json_if_changed(workspace.prepared, summary)
    return summary


def _words(name: str, summary: dict[str, Any], outcome: Outcome) -> str:
    done = f"prepared in {duration(outcome.seconds)}" if outcome.ran else "was prepared already, nothing to do"
    return (
        f"{name} {done}: {summary['frames']} frames, pose within {summary['reprojection_rms_px']:.2f} px, "
        f"{len(summary['blinks'])} blinks\nnext: radnerf train {name}"
    )


def _read_changes(assignments: list[str], crop: str | None, front_end: str | None) -> dict[str, dict[str, Any]]:
    changes = read_assignments(assignments)
    if crop is not None:
        numbers = read_numbers(crop, 3, "--crop", "320,0,720")
        changes.setdefault("frames", {})["crop"] = [round(number) for number in numbers]
    if front_end is not None:
        changes.setdefault("audio", {})["front_end"] = front_end
    return changes


def _choose_front_end(changes: dict[str, dict[str, Any]]) -> str:
    """Write down the best front end that is installed where none was asked for, so that speeches use the same.

    Returns:
        What there is to say of it, once nothing else is wrong; empty for nothing.
    """
    if {"front_end", "model"} & changes.get("audio", {}).keys():
        return ""
    from stages.sound.both import best_present

    best = best_present()
    if best.front_end == "logmel":
        return ""
    changes.setdefault("audio", {}).update(front_end=best.front_end, model=best.model)
    return f"sound is analysed with log-mel bands and Whisper {best.model}, which is installed"


def _existing(workspace: Workspace, sha256: str, *, force: bool) -> SubjectRecord | None:
    """The record of a subject that is there and stays; None when one is to be made."""
    if not workspace.subject.is_file():
        if workspace.root.exists() and not force:
            raise BadInput(f"{workspace.root} is there and is no subject", hint="give another --name, or --force")
        return None
    record = None if force else load_record(workspace.subject)
    if record is not None and record.source.sha256 != sha256:
        raise BadInput(
            f"the subject {workspace.root.name!r} was made from another video, {record.source.name}",
            hint="give another --name, or --force to replace it",
        )
    return record


def _check_video(video: Path, workspace: Workspace, record: SubjectRecord, console: Console) -> None:
    """Look at the video before anything is written.

    Raises:
        BadInput: It cannot become a subject, or the disk has too little room.
    """
    import stages.frames
    from stages.sound.front_end import load_front_end
    from stages.vision.face_mesh import choose_model
    from stages.vision.segmentation import choose_parser

    resolved = record.resolved()
    settings = resolved.frames
    # A model that is missing is told before the video is looked at, not after its frames are made.
    choose_model(resolved.landmarks.model)
    choose_parser(resolved.parsing.model)
    load_front_end(resolved.audio)
    with console.progress() as display, listening(lambda progress: display.show("check", progress)):
        seconds = stages.frames.check(video, settings).duration_s
        display.finish("check")
    pixels = seconds * formats.FPS * settings.size_px**2
    check_space(workspace.root, int(BYTES_PER_PIXEL * pixels) + record.source.size_bytes, "preparing this video")

"""``radnerf speak``: a trained subject speaks any audio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import completion
from cli.console import Console, duration
from cli.help_pages import LOOKING, SIGNING, WRITING
from cli.options import (
    AsJson,
    BackendName,
    Deployment,
    DeviceName,
    Home,
    ProfileName,
    Quiet,
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
from cli.plan import PREPARATION, TRAINING, Step, given_stages, speech_chain, stale_steps, subject_steps
from cli.snakemake_call import Execution
from cli.speech_plan import Plan, Wishes, check_room, check_sound, hand_out, plan_speech, write_job
from cli.speech_plan import check_trained as check_trained
from cli.subject import SubjectRecord, load_record, write_settings
from cli.workflow import Held, Outcome, hold, hold_speech, run_steps
from stages.atomic_files import load_json
from stages.settings import STAGES
from stages.settings_reading import to_mapping
from stages.workspace import Workspace

EXAMPLES = examples(
    "radnerf speak anchor speech.wav",
    "radnerf speak anchor speech.mp3 -o news.mp4 --background '#204060'",
    "radnerf speak anchor speech.wav --background studio.jpg --eyes 1 --view 10,-5",
    "radnerf speak anchor speech.wav --pose-from anna --size 256",
    "radnerf speak anchor speech.wav -o anchor.mov --save-frames frames",
    "radnerf speak anchor speech.wav --signing-key studio.key --signing-certificates studio.pem",
)


def speak(
    subject: SubjectName,
    speech: Annotated[Path, typer.Argument(metavar="SPEECH", help="Any sound that ffmpeg reads.", show_default=False)],
    args: SnakemakeArgs = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The video: .mp4, or .mov without background.  [default: ./SUBJECT_SPEECH.mp4]",
            rich_help_panel=WRITING,
        ),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            metavar="COLOUR|FILE",
            help="'#rrggbb', a CSS name, or a picture.  [default: the clip's own]",
            rich_help_panel=LOOKING,
        ),
    ] = None,
    eyes: Annotated[
        str,
        typer.Option(
            "--eyes",
            metavar="auto|clip|OPEN",
            help="New blinks, the clip's, or 0 (shut) to 1 (open).",
            autocompletion=completion.eyes,
            rich_help_panel=LOOKING,
        ),
    ] = "auto",
    view: Annotated[
        str | None,
        typer.Option(
            "--view",
            metavar="YAW,PITCH",
            help="Turn the head, in degrees: left/right, up/down.",
            rich_help_panel=LOOKING,
        ),
    ] = None,
    pose_from: Annotated[
        str | None,
        typer.Option(
            "--pose-from",
            metavar="SUBJECT",
            help="Move as another prepared subject does.",
            autocompletion=completion.subjects,
            rich_help_panel=LOOKING,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            min=16,
            max=4096,
            help="Side of the video.  [default: as trained]",
            rich_help_panel=LOOKING,
        ),
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(
            "--signing-key",
            metavar="FILE",
            envvar="RADNERF_SIGNING_KEY",
            help="PEM key that signs; else a local one.",
            rich_help_panel=SIGNING,
        ),
    ] = None,
    signing_certificates: Annotated[
        Path | None,
        typer.Option(
            "--signing-certificates",
            metavar="FILE",
            envvar="RADNERF_SIGNING_CERTIFICATES",
            help="Its PEM chain, unless it is in the key's file.",
            rich_help_panel=SIGNING,
        ),
    ] = None,
    save_frames: Annotated[
        Path | None,
        typer.Option(
            "--save-frames",
            metavar="DIR",
            help="Write every frame as PNG without background.",
            rich_help_panel=WRITING,
        ),
    ] = None,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    profile: ProfileName = None,
    sdm: Deployment = None,
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
    wait: Wait = False,
) -> None:
    """Render a trained subject as it speaks; the sound of the video is your own file's.

    A name that ends in .mp4 gets H.264 and AAC; one that ends in .mov gets ProRes 4444 without a background, with an
    alpha channel, to be put over anything.
    """
    console = Console(json=as_json, quiet=quiet)
    wishes = Wishes(output, background, eyes, view, pose_from, size, signing_key, signing_certificates, save_frames)
    plan = plan_speech(read_home(home), subject, speech, wishes)
    execution = Execution(
        read_backend(backend), read_device(device), passed_on(args), read_profile(profile), read_deployment(sdm)
    )
    check_room(plan, check_sound(plan))
    warn_of_size(plan, console)
    waiting = console.waiting if wait else None
    ready = is_current(plan.workspace, plan.record)
    held_by = hold_speech(plan.workspace, plan.speech_id, waiting) if ready else hold(plan.workspace, None, waiting)
    with held_by as held:
        write_job(plan, plan.speech_id)
        outcome = render(held, plan.speech_id, execution, console)
    folder = plan.workspace.speech(plan.speech_id)
    if execution.snakemake_args and not folder.video.is_file():
        return
    hand_out(plan, plan.speech_id)
    summary = {**load_json(folder.summary), "video": str(plan.output.resolve())}
    told = {key: summary[key] for key in ("video", "frames", "seconds", "fps", "peak_rss_mb")}
    console.result(told, _words(plan.output, told, outcome))


def is_current(workspace: Workspace, record: SubjectRecord) -> bool:
    """Whether a subject's own stages have nothing to do, so that speeches of it can be rendered side by side."""
    settings = record.resolved()
    given = given_stages(workspace) - {"audio"}
    for stage in (stage for stage in STAGES if stage not in given):
        path = workspace.settings(stage)
        wanted = json.loads(json.dumps(to_mapping(getattr(settings, stage))))
        if not path.is_file() or load_json(path) != wanted:
            return False
    steps = subject_steps(workspace)
    return not stale_steps({name: steps[name] for name in (*PREPARATION, *TRAINING) if name in steps})


def render(held: Held, speech_id: str, execution: Execution, console: Console) -> Outcome:
    """Bring a speech's video up to date."""
    workspace = held.workspace
    write_settings(workspace, load_record(workspace.subject).resolved())
    steps = speech_chain(workspace, speech_id)
    warn_of_training(steps, console)
    return run_steps(held, steps, ["render"], execution, console)


def warn_of_training(steps: Mapping[str, Step], console: Console) -> None:
    """Say beforehand when a subject that was trained will be trained again, which may take long."""
    again = [stage for stage in TRAINING if stage in stale_steps(steps)]
    if again:
        console.remark(f"the settings or the preparation changed since training: {' and '.join(again)} will be trained")


def warn_of_size(plan: Plan, console: Console) -> None:
    """Say beforehand when the picture will be larger than what the head is trained at, and so softer than could be."""
    settings, asked_px = plan.record.resolved(), plan.options["size_px"]
    trained_px, clip_px = settings.head.size_px, settings.frames.size_px
    if asked_px <= trained_px:
        return
    name, better_px = plan.workspace.root.name, min(asked_px, clip_px)
    remedy = f"; 'radnerf train {name} --set head.size_px={better_px} --set torso.size_px={better_px}' trains it larger"
    console.remark(
        f"{asked_px} pixels are more than the {trained_px} that {name} is trained at: the picture will be soft"
        + (remedy if better_px > trained_px else "")
    )


def _words(final: Path, told: dict[str, Any], outcome: Outcome) -> str:
    took = f"rendered in {duration(outcome.seconds)}" if outcome.ran else "rendered before, nothing to do"
    return f"{final}: {told['frames']} frames, {took}, peak memory {told['peak_rss_mb']:.0f} MB"

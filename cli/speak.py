"""``radnerf speak``: a trained subject speaks any audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import Console, duration
from cli.options import (
    AsJson,
    BackendName,
    DeviceName,
    Home,
    Quiet,
    SnakemakeArgs,
    SubjectName,
    examples,
    passed_on,
    read_backend,
    read_device,
    read_home,
    read_numbers,
)
from cli.plan import TRAINING, Step, speech_chain, stale_steps
from cli.subject import (
    Source,
    SubjectRecord,
    check_space,
    copy_file,
    describe_source,
    load_record,
    slug,
    write_settings,
)
from cli.workflow import Execution, Held, Outcome, hold, run_steps
from stages import formats
from stages.colours import parse_colour
from stages.errors import BadInput
from stages.workspace import SpeechFolder, Workspace, open_subject

EXAMPLES = examples(
    "radnerf speak anchor speech.wav",
    "radnerf speak anchor speech.mp3 -o news.mp4 --background '#204060'",
    "radnerf speak anchor speech.wav --background studio.jpg --eyes 1 --view 10,-5",
    "radnerf speak anchor speech.wav --pose-from anna --size 256",
)

VIDEO_BYTES_PER_SECOND = 2_000_000
"""A generous guess at the size of a second of video, with its copy."""

PICTURE_CHECK_PX = 16
"""Size at which a background picture is read once before the work begins."""

MAX_VIEW_DEG = 45.0
"""Largest turn that ``--view`` takes; a field has only seen what the clip showed."""


def speak(
    subject: SubjectName,
    speech: Annotated[Path, typer.Argument(metavar="SPEECH", help="Any sound that ffmpeg reads.", show_default=False)],
    args: SnakemakeArgs = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="[default: ./SUBJECT_SPEECH.mp4]")
    ] = None,
    background: Annotated[
        str | None, typer.Option("--background", metavar="COLOUR|FILE", help="'#rrggbb', a CSS name, or a picture.")
    ] = None,
    eyes: Annotated[
        str, typer.Option("--eyes", metavar="OPEN|sequence", help="0 (shut) to 1 (open), or the clip's own blinks.")
    ] = "sequence",
    view: Annotated[
        str | None, typer.Option("--view", metavar="YAW,PITCH", help="Turn the head, in degrees: left/right, up/down.")
    ] = None,
    pose_from: Annotated[
        str | None, typer.Option("--pose-from", metavar="SUBJECT", help="Move as another prepared subject does.")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", min=16, max=4096, help="Side of the video in pixels.")] = None,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Render a trained subject as it speaks; the sound of the video is your own file's."""
    console = Console(json=as_json, quiet=quiet)
    home = read_home(home)
    workspace = open_subject(home, subject)
    record = load_record(workspace.subject)
    check_trained(workspace)
    source = describe_source(speech)
    final = _final_path(output, subject, speech)
    if final.exists() and final.samefile(speech):
        raise BadInput(f"the video would overwrite {speech}", hint="give another --output")
    options = {"eyes": _read_eyes(eyes), "view_deg": _read_view(view), "size_px": size or 0}
    colour, picture = read_background(background)
    pose = _pose_source(home, pose_from)
    execution = Execution(read_backend(backend), read_device(device), passed_on(args))

    import stages.audio

    seconds = stages.audio.check(speech)
    check_space(workspace.root, int(VIDEO_BYTES_PER_SECOND * seconds) + source.size_bytes, "this video")
    check_space(final.parent, int(VIDEO_BYTES_PER_SECOND * seconds), "this video")
    speech_id = f"{slug(speech.stem)[:40] or 'speech'}-{source.sha256[:8]}"
    folder = workspace.speech(speech_id)
    job = {**options, "background_colour": colour}
    with hold(workspace) as held:
        write_job(folder, job, speech=speech, source=source, picture=picture, pose=pose, record=record)
        outcome = render(held, speech_id, execution, console)
    if execution.snakemake_args and not folder.video.is_file():
        return
    copy_file(folder.video, final)
    summary = {**formats.load_json(folder.summary), "video": str(final.resolve())}
    told = {key: summary[key] for key in ("video", "frames", "seconds", "fps", "peak_rss_mb")}
    console.result(told, _words(final, told, outcome))


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


def check_trained(workspace: Workspace) -> None:
    """Raise when a subject has no model yet.

    Raises:
        BadInput: Head or torso is missing.
    """
    name = workspace.root.name
    if not workspace.track.is_file():
        raise BadInput(
            f"the subject {name!r} is not fully prepared", hint=f"'radnerf train {name}' does what is missing"
        )
    if not (workspace.head.is_file() and workspace.torso.is_file()):
        raise BadInput(f"the subject {name!r} is not trained yet", hint=f"run 'radnerf train {name}' first")


def read_background(text: str | None) -> tuple[list[int] | None, Path | None]:
    """``--background`` as a colour (0 to 255 each) or a picture's path; neither keeps the clip's own background.

    Raises:
        BadInput: No colour, and no picture of that name.
    """
    if text is None:
        return None, None
    if Path(text).is_file():
        from stages.backdrop import picture_background

        # Only to know that it can be read.
        picture_background(Path(text), PICTURE_CHECK_PX)
        return None, Path(text)
    try:
        return list(parse_colour(text)), None
    except BadInput as error:
        raise BadInput(
            f"--background is {text!r}, neither a colour nor a file that is there", hint=error.hint
        ) from error


def write_job(
    folder: SpeechFolder,
    options: dict[str, Any],
    *,
    speech: Path,
    source: Source,
    picture: Path | None,
    pose: Path | None,
    record: SubjectRecord,
) -> None:
    """Write what a speech's video is to look like, with copies of every file that it needs.

    The job names files only inside the speech's folder and tells their hashes, so that it changes with their content.
    """
    if not folder.source.is_file() or formats.sha256_of(folder.source) != source.sha256:
        copy_file(speech, folder.source)
    job = {
        "format": 1,
        "subject": record.name,
        "consent": record.consent,
        "speech": {"name": source.name, "sha256": source.sha256},
        **options,
        "background_image": _keep(picture, folder.root / "background"),
        "pose": _keep(pose, folder.root / "pose.npz"),
    }
    formats.save_json_if_changed(folder.job, job)


def _keep(path: Path | None, copy: Path) -> dict[str, str] | None:
    """Copy a file into the speech's folder unless the same is there; its name there and its hash."""
    if path is None:
        return None
    sha256 = formats.sha256_of(path)
    if not copy.is_file() or formats.sha256_of(copy) != sha256:
        copy_file(path, copy)
    return {"file": copy.name, "sha256": sha256}


def _pose_source(home: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    track = open_subject(home, name).track
    if not track.is_file():
        raise BadInput(f"the subject {name!r} is not fully prepared", hint=f"prepare it before --pose-from {name}")
    return track


def _read_eyes(text: str) -> float | None:
    """``--eyes`` as a number, or None for the clip's own."""
    if text == "sequence":
        return None
    value = read_numbers(text, 1, "--eyes", "0.8, or sequence")[0]
    if not 0 <= value <= 1:
        raise BadInput(f"--eyes is {text!r}", hint="give 0 (shut) to 1 (open), or sequence")
    return value


def _read_view(text: str | None) -> list[float]:
    """``--view`` as yaw and pitch in degrees."""
    angles = read_numbers(text, 2, "--view", "10,-5") if text is not None else [0.0, 0.0]
    if max(map(abs, angles)) > MAX_VIEW_DEG:
        raise BadInput(f"--view is {text!r}", hint=f"give at most {MAX_VIEW_DEG:g} degrees either way")
    return angles


def _final_path(output: Path | None, subject: str, speech: Path) -> Path:
    """Where the finished video goes.

    Raises:
        BadInput: There is no such folder, or the name does not end in .mp4.
    """
    default = f"{subject}_{speech.stem}.mp4"
    if output is None:
        return Path(default).absolute()
    if output.is_dir():
        return output / default
    if output.suffix.lower() != ".mp4":
        raise BadInput(f"the video cannot be written to {output}", hint="give a name that ends in .mp4")
    if not output.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {output.parent}", hint="make it first")
    return output.absolute()


def _words(final: Path, told: dict[str, Any], outcome: Outcome) -> str:
    took = f"rendered in {duration(outcome.seconds)}" if outcome.ran else "rendered before, nothing to do"
    return f"{final}: {told['frames']} frames, {took}, peak memory {told['peak_rss_mb']:.0f} MB"

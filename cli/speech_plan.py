"""What was asked of a speech's video: the options of ``speak`` read and checked, and the job that they make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.options import read_numbers
from cli.subject import Source, SubjectRecord, check_space, copy_file, describe_source, load_record, slug
from stages.archive import Archive
from stages.atomic_files import atomic_path, save_json, save_json_if_changed, sha256_of
from stages.colours import parse_colour
from stages.errors import BadInput
from stages.workspace import Workspace, open_subject

VIDEO_BYTES_PER_SECOND = 2_000_000
"""A generous guess at the size of a second of video, with its copy."""

PICTURE_CHECK_PX = 16
"""Size at which a background picture is read once before the work begins."""

_FRAME = re.compile(r"\d{6}\.png")

MAX_VIEW_DEG = 45.0
"""Largest turn that ``--view`` takes; a field has only seen what the clip showed."""


@dataclass(frozen=True)
class Wishes:
    """What ``speak``'s options ask of a video, as typed; also the columns of a list of jobs.

    Attributes:
        output, background, eyes, view, pose_from, size: The options of the same names.
        signing_key, signing_certificates, save_frames: The options of the same names.
    """

    output: Path | None = None
    background: str | None = None
    eyes: str = "auto"
    view: str | None = None
    pose_from: str | None = None
    size: int | None = None
    signing_key: Path | None = None
    signing_certificates: Path | None = None
    save_frames: Path | None = None


@dataclass(frozen=True)
class Plan:
    """A speech that a subject can be asked for: everything read and checked but the sound itself.

    Attributes:
        workspace: The subject.
        record: Of the subject.
        speech: The user's sound file.
        source: Its name, hash and size.
        output: Where the video goes.
        options: Keys of ``job.json`` that say how the video looks.
        picture: The background's picture.
        pose: The track of the subject whose movement is borrowed.
        frames: Folder for every frame as a picture without background; None for none.
    """

    workspace: Workspace
    record: SubjectRecord
    speech: Path
    source: Source
    output: Path
    options: dict[str, Any]
    picture: Path | None
    pose: Path | None
    frames: Path | None = None

    @property
    def speech_id(self) -> str:
        """The speech's folder, named after the file's name and content."""
        return f"{slug(self.speech.stem)[:40] or 'speech'}-{self.source.sha256[:8]}"


def plan_speech(home: Path, subject: str, speech: Path, wishes: Wishes) -> Plan:
    """Read and check what was asked for; nothing is written.

    Args:
        home: The folder that holds ``subjects/``.
        subject: The subject's name.
        speech: The user's sound file.
        wishes: The options.

    Raises:
        BadInput: Something of it cannot be used.
    """
    workspace = open_subject(home, subject)
    record = load_record(workspace.subject)
    check_trained(workspace)
    source = describe_source(speech)
    output = _final_path(wishes.output, subject, speech)
    if output.exists() and output.samefile(speech):
        raise BadInput(f"the video would overwrite {speech}", hint="give another --output")
    colour, picture = read_background(wishes.background)
    cutout = output.suffix.lower() == ".mov"
    if cutout and wishes.background is not None:
        raise BadInput("a .mov has no background", hint="leave --background out, or write an .mp4")
    frames = _frames_folder(wishes.save_frames)
    options = {
        "eyes": _read_eyes(wishes.eyes),
        "view_deg": read_view(wishes.view),
        "size_px": wishes.size or 0,
        "background_colour": colour,
        "signing": _read_signing(wishes),
        "cutout": cutout,
        "stills": frames is not None,
    }
    pose = _pose_source(home, wishes.pose_from)
    return Plan(workspace, record, speech, source, output, options, picture, pose, frames)


def check_sound(plan: Plan) -> float:
    """Decode the speech once.

    Returns:
        Its length in seconds.

    Raises:
        BadInput: It cannot be spoken.
    """
    import stages.audio

    return stages.audio.check(plan.speech)


def check_room(plan: Plan, seconds: float) -> None:
    """Raise when a disk has too little room for the speech's video.

    Raises:
        BadInput: It has.
    """
    video_bytes = int(VIDEO_BYTES_PER_SECOND * seconds)
    check_space(plan.workspace.root, video_bytes + plan.source.size_bytes, "this video")
    check_space(plan.output.parent, video_bytes, "this video")


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


def write_job(plan: Plan, speech_id: str) -> None:
    """Write what a speech's video is to look like, with copies of every file that it needs.

    The job names files only inside the speech's folder and tells their hashes, so that it changes with their content.

    Args:
        plan: What was asked for.
        speech_id: The speech's folder.
    """
    folder = plan.workspace.speech(speech_id)
    if not folder.source.is_file() or sha256_of(folder.source) != plan.source.sha256:
        copy_file(plan.speech, folder.source)
    job = {
        "format": 1,
        "subject": plan.record.name,
        "consent": plan.record.consent,
        "speech": {"name": plan.source.name, "sha256": plan.source.sha256},
        **plan.options,
        "background_image": _keep(plan.picture, folder.root / "background"),
        "pose": _keep(plan.pose, folder.root / "pose.npz"),
    }
    extras = ((folder.cutout, job["cutout"]), (folder.stills, job["stills"]))
    if any(asked and not path.is_file() for path, asked in extras):
        # Nothing waits for these files, so only a job that is newer makes them anew.
        save_json(folder.job, job)
    save_json_if_changed(folder.job, job)


def made_file(plan: Plan, speech_id: str) -> Path:
    """The finished video in the speech's folder."""
    folder = plan.workspace.speech(speech_id)
    return folder.cutout if plan.options["cutout"] else folder.video


def hand_out(plan: Plan, speech_id: str) -> None:
    """Put what was made where it was asked for; a video that is there already stays.

    Raises:
        RadnerfError: The disk is full or a folder cannot be written.
    """
    made = made_file(plan, speech_id)
    there = plan.output.is_file() and plan.output.stat().st_size == made.stat().st_size
    if not (there and sha256_of(plan.output) == sha256_of(made)):
        copy_file(made, plan.output)
    if plan.frames is None:
        return
    with Archive(plan.workspace.speech(speech_id).stills) as stills:
        for name in sorted(stills.names):
            with atomic_path(plan.frames / name) as temporary:
                temporary.write_bytes(stills.read(name))


def _keep(path: Path | None, copy: Path) -> dict[str, str] | None:
    """Copy a file into the speech's folder unless the same is there; its name there and its hash."""
    if path is None:
        return None
    sha256 = sha256_of(path)
    if not copy.is_file() or sha256_of(copy) != sha256:
        copy_file(path, copy)
    return {"file": copy.name, "sha256": sha256}


def _pose_source(home: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    track = open_subject(home, name).track
    if not track.is_file():
        raise BadInput(f"the subject {name!r} is not fully prepared", hint=f"prepare it before --pose-from {name}")
    return track


def _read_signing(wishes: Wishes) -> dict[str, str] | None:
    """``--signing-key`` as a job keeps it: where the files are, never what is in them."""
    if wishes.signing_key is None:
        if wishes.signing_certificates is not None:
            raise BadInput("--signing-certificates needs --signing-key", hint="give both")
        return None
    from stages.signing_key import given_credentials

    found = given_credentials(wishes.signing_key.absolute(), wishes.signing_certificates)
    certificates = found.certificates.absolute()
    return {
        "key": str(found.key),
        "certificates": str(certificates),
        "sha256": sha256_of(certificates),
    }


def _read_eyes(text: str) -> float | str:
    """``--eyes`` as a job keeps it: a number, ``auto`` or ``clip``."""
    if text in ("auto", "clip"):
        return text
    value = read_numbers(text, 1, "--eyes", "auto, clip or 0.8")[0]
    if not 0 <= value <= 1:
        raise BadInput(f"--eyes is {text!r}", hint="give auto, clip, or 0 (shut) to 1 (open)")
    return value


def read_view(text: str | None) -> list[float]:
    """``--view`` as yaw and pitch in degrees."""
    angles = read_numbers(text, 2, "--view", "10,-5") if text is not None else [0.0, 0.0]
    if max(map(abs, angles)) > MAX_VIEW_DEG:
        raise BadInput(f"--view is {text!r}", hint=f"give at most {MAX_VIEW_DEG:g} degrees either way")
    return angles


def _frames_folder(folder: Path | None) -> Path | None:
    """``--save-frames``, which may hold frames of an earlier run and nothing else.

    Raises:
        BadInput: It is a file, or holds other files.
    """
    if folder is None:
        return None
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is no folder", hint="give --save-frames a folder")
    strangers = [path.name for path in folder.iterdir() if not _FRAME.fullmatch(path.name)] if folder.exists() else []
    if strangers:
        raise BadInput(f"{folder} holds other files, {strangers[0]} for one", hint="give --save-frames an empty folder")
    return folder.absolute()


def _final_path(output: Path | None, subject: str, speech: Path) -> Path:
    """Where the finished video goes.

    Raises:
        BadInput: There is no such folder, or the name does not end in .mp4 or .mov.
    """
    default = f"{subject}_{speech.stem}.mp4"
    if output is None:
        return Path(default).absolute()
    if output.is_dir():
        return output / default
    if output.suffix.lower() not in (".mp4", ".mov"):
        raise BadInput(
            f"the video cannot be written to {output}", hint="give a name that ends in .mp4, or .mov for alpha"
        )
    if not output.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {output.parent}", hint="make it first")
    return output.absolute()

"""``radnerf pack`` and ``radnerf unpack``: a subject in one file, to take along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli.console import Console, size
from cli.help_pages import WRITING
from cli.options import AsJson, Home, Quiet, SubjectName, examples, read_home
from cli.plan import stale_steps, subject_steps
from cli.speech_plan import check_trained
from cli.staging import new_subject
from cli.subject import check_space, load_record, save_record
from cli.workflow import hold
from stages.errors import BadInput
from stages.progress import listening
from stages.workspace import Workspace, check_name, open_subject

PACK_EXAMPLES = examples(
    "radnerf pack anchor",
    "radnerf pack anchor -o /media/stick/anchor.radnerf",
    "radnerf pack anchor --training",
)
UNPACK_EXAMPLES = examples("radnerf unpack anchor.radnerf", "radnerf unpack anchor.radnerf --name anna")


def pack(
    subject: SubjectName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The pack.  [default: ./SUBJECT.radnerf]",
            rich_help_panel=WRITING,
        ),
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Also what training reads: frames, masks, sound.")
    ] = False,
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a trained subject into one file with all that speaking needs; 'radnerf unpack' reads it.

    The file holds head, torso, background, poses, settings and the consent note, but no frame of your video and none
    of its sound, unless --training asks for them.
    """
    from stages.subject_pack import write_pack

    console = Console(json=as_json, quiet=quiet)
    workspace = open_subject(read_home(home), subject)
    check_trained(workspace)
    final = (output or Path(f"{subject}.radnerf")).absolute()
    if final.is_dir():
        final = final / f"{subject}.radnerf"
    if not final.parent.is_dir():
        raise BadInput(f"there is no folder {final.parent}", hint="make it first")
    with hold(workspace), console.progress() as display:
        stale = [stage for stage in ("head", "torso") if stage in stale_steps(subject_steps(workspace))]
        if stale:
            console.remark(f"the settings or the preparation changed since {' and '.join(stale)} was trained")
        with listening(lambda progress: display.show("pack", progress)):
            made = write_pack(workspace, final, training=training)
        display.finish("pack")
    told = {"file": str(final), "bytes": final.stat().st_size, "files": sorted(made.files), "training": training}
    console.result(told, f"{final}: {size(final.stat().st_size)}, {len(made.files)} files of {subject}")


def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What 'radnerf pack' wrote.", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The subject's name here.  [default: as packed]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a subject of that name.")] = False,
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a subject from a pack; every file in it is checked against its hash before the subject appears."""
    from stages.subject_pack import read_contents
    from stages.subject_pack import unpack as unpack_files

    console = Console(json=as_json, quiet=quiet)
    contents = read_contents(file)
    workspace = Workspace(read_home(home) / "subjects" / check_name(name or contents.subject))
    check_space(workspace.root, contents.total_bytes, "this subject")
    with new_subject(workspace, force=force) as staging:
        with console.progress() as display, listening(lambda progress: display.show("unpack", progress)):
            unpack_files(file, contents, staging)
            display.finish("unpack")
        record = load_record(staging.subject)
        if record.name != workspace.root.name:
            save_record(staging.subject, replace(record, name=workspace.root.name))
    told = {
        "subject": record.name if name is None else name,
        "consent": record.consent,
        "made_at": contents.made_at,
        "training": contents.training,
    }
    consent = record.consent or "none was given"
    next_step = f"radnerf speak {workspace.root.name} SPEECH"
    console.result(told, f"{workspace.root.name} unpacked, every file intact; consent: {consent}\nnext: {next_step}")

"""``radnerf evaluate``: figures on the frames that were not trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import Console, table
from cli.help_pages import WRITING
from cli.options import (
    AsJson,
    BackendName,
    DeviceName,
    Home,
    Quiet,
    SnakemakeArgs,
    SubjectName,
    Wait,
    examples,
    passed_on,
    read_backend,
    read_device,
    read_home,
)
from cli.plan import TRAINING, Step, subject_steps
from cli.snakemake_call import Execution
from cli.speak import check_trained, warn_of_training
from cli.stage import run_step
from cli.subject import load_record, write_settings
from cli.workflow import Held, hold, run_steps
from stages.atomic_files import load_json
from stages.errors import BadInput
from stages.workspace import open_subject

EXAMPLES = examples(
    "radnerf evaluate anchor",
    "radnerf evaluate anchor --size 512 --json",
    "radnerf evaluate anchor --save-frames compare/",
)

MODES = {"head": "head over true torso", "composite": "full learnt composite"}
"""The two ways in which figures are taken, and what to call them in a table."""


def evaluate(
    subject: SubjectName,
    args: SnakemakeArgs = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            min=16,
            max=4096,
            help="Compare at so many pixels a side.  [default: as trained]",
        ),
    ] = None,
    save_frames: Annotated[
        Path | None,
        typer.Option(
            "--save-frames",
            metavar="DIR",
            help="Write truth/, head/ and composite/ as PNG.",
            rich_help_panel=WRITING,
        ),
    ] = None,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
    wait: Wait = False,
) -> None:
    """Compare rendered with true frames on the last eleventh of the clip, which training never saw."""
    console = Console(json=as_json, quiet=quiet)
    workspace = open_subject(read_home(home), subject)
    check_trained(workspace)
    if save_frames is not None:
        _check_folder(save_frames)
    execution = Execution(read_backend(backend), read_device(device), passed_on(args))
    settings = load_record(workspace.subject).resolved()
    if size is not None:
        settings = replace(settings, evaluate=replace(settings.evaluate, size_px=size))
    steps = {name: step for name, step in subject_steps(workspace).items() if name != "report"}
    with hold(workspace, None, console.waiting if wait else None) as held:
        write_settings(workspace, settings)
        warn_of_training(steps, console)
        if save_frames is None:
            run_steps(held, steps, ["evaluate"], execution, console)
        else:
            _with_frames(held, steps, save_frames, execution, console)
    if not workspace.evaluation.is_file():
        return
    figures = load_json(workspace.evaluation)
    console.result(figures, _words(figures))


def _with_frames(held: Held, steps: dict[str, Step], folder: Path, execution: Execution, console: Console) -> None:
    """Evaluate in this process, since where the user wants frames is no concern of the workflow's."""
    earlier = {name: step for name, step in steps.items() if name != "evaluate"}
    run_steps(held, earlier, list(TRAINING), execution, console)
    extras = {"saved_frames": folder.absolute()}
    run_step(steps["evaluate"], backend=execution.backend, device=execution.device, console=console, extras=extras)


def _check_folder(folder: Path) -> None:
    """Raise when frames of something else lie where these are to go."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is no folder", hint="give another --save-frames")
    strangers = {path.name for path in folder.iterdir()} - {"truth", *MODES} if folder.is_dir() else set()
    if strangers:
        raise BadInput(f"{folder} holds other files, {sorted(strangers)[0]} among them", hint="give an empty folder")


def _words(figures: dict[str, Any]) -> str:
    keys = list(figures["head"])
    rows = [(MODES[mode], *(_number(figures[mode].get(key)) for key in keys)) for mode in MODES]
    upright = [(keys[index], *(row[index + 1] for row in rows)) for index in range(len(keys))]
    first, last = figures["frames"]
    title = (
        f"{figures['subject']}, preset {figures['preset']}, backbone {figures['backbone']}, frames {first} to {last}"
    )
    return f"{title}\n{table(upright, ('', *MODES.values()))}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"

"""``radnerf report``: one page that shows how good a portrait is."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from cli.console import Console, duration, size
from cli.help_pages import WRITING
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
)
from cli.plan import subject_steps
from cli.snakemake_call import Execution
from cli.speak import check_trained, warn_of_training
from cli.subject import copy_file, load_record, write_settings
from cli.workflow import Outcome, hold, run_steps
from stages.errors import BadInput
from stages.workspace import open_subject

EXAMPLES = examples(
    "radnerf report anchor",
    "radnerf report anchor --open",
    "radnerf report anchor -o anchor.html --json",
)


def report(
    subject: SubjectName,
    args: SnakemakeArgs = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Put a copy of the page here.  [default: only in the subject]",
            rich_help_panel=WRITING,
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make one page with pictures, curves and figures, that opens from disk in any browser.

    It shows the evaluation on the last eleventh of the clip, and evaluates first where that is still to be done.
    """
    console = Console(json=as_json, quiet=quiet)
    workspace = open_subject(read_home(home), subject)
    check_trained(workspace)
    copy = None if output is None else _copy_path(output, subject)
    execution = Execution(read_backend(backend), read_device(device), passed_on(args))
    steps = subject_steps(workspace)
    if "report" not in steps and not workspace.report.is_file():
        raise BadInput(
            f"the subject {subject!r} came without the frames that a report compares with",
            hint="make the report where it was trained; 'radnerf evaluate' shows the figures that came with it",
        )
    with hold(workspace) as held:
        write_settings(workspace, load_record(workspace.subject).resolved())
        warn_of_training(steps, console)
        outcome = run_steps(held, steps, ["report"], execution, console)
    if not workspace.report.is_file():
        return
    if copy is not None:
        copy_file(workspace.report, copy)
    page = (copy or workspace.report).resolve()
    told = {"report": str(page), "bytes": page.stat().st_size, "ran": outcome.ran}
    console.result(told, _words(page, outcome))
    if show and not webbrowser.open(page.as_uri()):
        console.remark(f"no browser was found; open {page} yourself")


def _copy_path(output: Path, subject: str) -> Path:
    """Where the copy goes.

    Raises:
        BadInput: There is no such folder, or the name does not end in .html.
    """
    if output.is_dir():
        return output / f"{subject}_report.html"
    if output.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f"the page cannot be written to {output}", hint="give a name that ends in .html")
    if not output.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {output.parent}", hint="make it first")
    return output.absolute()


def _words(page: Path, outcome: Outcome) -> str:
    took = f"made in {duration(outcome.seconds)}" if outcome.ran else "made before, nothing to do"
    return f"{page}: {size(page.stat().st_size)}, {took}"

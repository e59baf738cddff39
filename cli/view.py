"""``radnerf view``: a window on a trained subject."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import Console
from cli.help_pages import LOOKING
from cli.options import (
    AsJson,
    BackendName,
    DeviceName,
    Home,
    Quiet,
    SubjectName,
    examples,
    read_backend,
    read_device,
    read_home,
)
from cli.speech_plan import check_trained
from cli.subject import load_record
from stages.errors import Interrupted
from stages.workspace import open_subject

if TYPE_CHECKING:
    from stages.window.server import Door

EXAMPLES = examples(
    "radnerf view anchor",
    "radnerf view anchor --speech hello.wav --speech news.mp3",
    "radnerf view anchor --size 512 --port 8080 --no-open",
    codes={130: "ended with Ctrl-C, as it always is"},
)


def view(
    subject: SubjectName,
    speech: Annotated[
        list[Path] | None,
        typer.Option("--speech", metavar="FILE", help="A sound to play, beside earlier speeches; may be repeated."),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the page; 0 for any free one.")] = 0,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")] = True,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=16, max=1024, help="Largest side of the pictures, in pixels.", rich_help_panel=LOOKING
        ),
    ] = None,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn a trained subject's head in the browser, open its eyes and mouth, and play speeches.

    The page is served to this machine alone, at an address that nobody guesses. Ctrl-C ends it.
    """
    console = Console(json=as_json, quiet=quiet)
    workspace = open_subject(read_home(home), subject)
    check_trained(workspace)
    consent = load_record(workspace.subject).consent
    backend, device = read_backend(backend), read_device(device)

    import stages.view
    from stages.api import load
    from stages.window.server import check_packages

    check_packages()

    def opened(door: Door) -> None:
        Console(json=as_json).result({"address": door.address}, f"{door.address}\nCtrl-C ends it")
        sys.stdout.flush()
        if show and not webbrowser.open(door.address):
            console.remark("no browser was found; open the address yourself")

    portrait = load(workspace.root, backend=backend, device=device)
    try:
        stages.view.run(portrait, speech or [], consent=consent, size_px=size or 0, port=port, opened=opened)
    except KeyboardInterrupt as error:
        raise Interrupted("the window is closed") from error

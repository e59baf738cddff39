"""``radnerf view``: a window on a trained subject."""

from __future__ import annotations

import sys
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
)
from cli.window import Port, ShowPage, find_sitter, open_browser
from stages.errors import Interrupted

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
    port: Port = 0,
    show: ShowPage = True,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            min=16,
            max=1024,
            help="Largest side of the pictures.  [default: twice the trained, 512 at most]",
            rich_help_panel=LOOKING,
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
    sitter = find_sitter(home, subject, backend=backend, device=device)

    import stages.view
    from stages.window.server import check_packages

    check_packages()

    def opened(door: Door) -> None:
        Console(json=as_json).result({"address": door.address}, f"{door.address}\nCtrl-C ends it")
        sys.stdout.flush()
        if show:
            open_browser(door.address, console)

    portrait = sitter.load()
    try:
        stages.view.run(portrait, speech or [], consent=sitter.consent, size_px=size or 0, port=port, opened=opened)
    except KeyboardInterrupt as error:
        raise Interrupted("the window is closed") from error

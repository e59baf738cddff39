"""What the commands that open a window share: their options, and how they begin."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import Console
from cli.options import read_backend, read_device, read_home
from cli.speech_plan import check_trained
from cli.subject import load_record
from stages.workspace import Workspace, open_subject

if TYPE_CHECKING:
    from stages.api import Portrait

Port = Annotated[
    int, typer.Option("--port", metavar="NUMBER", min=0, max=65535, help="Of the page; 0 for any free one.")
]
ShowPage = Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")]


@dataclass(frozen=True)
class Sitter:
    """A trained subject that is about to be shown.

    Attributes:
        workspace: The subject.
        consent: The note of its maker; may be empty.
        backend: Of the kernels.
        device: Of torch.
    """

    workspace: Workspace
    consent: str
    backend: str
    device: str

    def load(self) -> Portrait:
        """Read its model, which takes a while."""
        from stages.api import load

        return load(self.workspace.root, backend=self.backend, device=self.device)


def find_sitter(home: Path, subject: str, *, backend: str, device: str) -> Sitter:
    """What was typed, checked.

    Raises:
        BadInput: There is no such subject, it is not trained, or there are no such kernels or device.
    """
    workspace = open_subject(read_home(home), subject)
    check_trained(workspace)
    return Sitter(workspace, load_record(workspace.subject).consent, read_backend(backend), read_device(device))


def open_browser(address: str, console: Console) -> None:
    """Show a page in the browser, or say that there is none."""
    if not webbrowser.open(address):
        console.remark("no browser was found; open the address yourself")

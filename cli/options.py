"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cli import completion
from cli.help_pages import KEPT, RUNNING, SAYING, PageCommand
from cli.help_pages import examples as examples
from stages.errors import BadInput

Home = Annotated[
    Path,
    typer.Option(
        "--home",
        metavar="DIR",
        envvar="RADNERF_HOME",
        help="The folder that holds subjects/.",
        show_default="here",
        rich_help_panel=RUNNING,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output, and nothing else.", rich_help_panel=SAYING),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Wait for a subject that another run holds, in place of leaving.", rich_help_panel=RUNNING
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.", rich_help_panel=SAYING)]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="STAGE.KEY=VALUE",
        help="Change a setting; may be repeated. docs/settings.md lists them.",
        autocompletion=completion.settings,
        rich_help_panel=KEPT,
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="draft (128 px), standard (256 px, unless told otherwise), full (512 px) or max (1024 px).",
        show_default=False,
        autocompletion=completion.presets,
        rich_help_panel=KEPT,
    ),
]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="Kernels: auto, reference, cpu, triton or tcnn; 'radnerf doctor' tells which are here.",
        autocompletion=completion.backends,
        rich_help_panel=RUNNING,
    ),
]
DeviceName = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N.",
        autocompletion=completion.devices,
        rich_help_panel=RUNNING,
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME|DIR",
        help="Where stages run: workstation, slurm, kubernetes, or your own Snakemake profile.",
        autocompletion=completion.profiles,
        rich_help_panel=RUNNING,
    ),
]
Deployment = Annotated[
    str | None,
    typer.Option(
        "--sdm",
        metavar="KIND",
        help="What stages run in: conda or apptainer; else this environment.",
        rich_help_panel=RUNNING,
    ),
]
SubjectName = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT", help="The subject's name.", show_default=False, autocompletion=completion.subjects
    ),
]
SnakemakeArgs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- ARGS]", help="After '--': passed on to Snakemake.", show_default=False),
]


class PassingCommand(PageCommand):
    """A command that takes arguments for Snakemake, but only after ``--``."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - typer's own context type is private
        """Parse as usual, then refuse a stray argument that no ``--`` announces."""
        separated = "--" in args
        rest = super().parse_args(ctx, args)
        stray = ctx.params.get("args") or []
        if stray and not separated:
            ctx.fail(f"unexpected extra argument {stray[0]!r}")
        return rest


def passed_on(args: list[str] | None) -> tuple[str, ...]:
    """What is meant for Snakemake, without the ``--`` before it."""
    found = tuple(args or ())
    return found[1:] if found[:1] == ("--",) else found


def read_profile(text: str | None) -> str:
    """``--profile`` as the folder of a Snakemake profile; empty without.

    Raises:
        BadInput: There is none of that name, and no such folder.
    """
    if text is None:
        return ""
    from cli.snakemake_call import workflow_file

    shipped = workflow_file("profiles")
    for folder in (Path(text), shipped / text):
        if (folder / "config.yaml").is_file():
            return str(folder.resolve())
    names = ", ".join(sorted(path.parent.name for path in shipped.glob("*/config.yaml")))
    raise BadInput(f"{text!r} is no profile", hint=f"choose one of: {names}, or give a folder with a config.yaml")


def read_deployment(text: str | None) -> str:
    """``--sdm``; empty without.

    Raises:
        BadInput: Some other text.
    """
    if text not in (None, "conda", "apptainer"):
        raise BadInput(f"--sdm is {text!r}", hint="give conda or apptainer")
    return text or ""


def read_home(home: Path) -> Path:
    """The home as an absolute path.

    Raises:
        BadInput: It is a file.
    """
    if home.exists() and not home.is_dir():
        raise BadInput(f"{home} is no folder", hint="give --home a folder")
    return home.resolve()


def read_device(device: str) -> str:
    """A torch device's name.

    Raises:
        BadInput: Some other text.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise BadInput(f"{device!r} is no device", hint="give auto, cpu, cuda or cuda:N")
    return device


def read_backend(backend: str) -> str:
    """A backend's name; whether it is here is for the stage to say.

    Raises:
        BadInput: Some other text.
    """
    known = ("auto", "reference", "cpu", "triton", "tcnn")
    if backend not in known:
        raise BadInput(f"{backend!r} is no backend", hint=f"choose one of: {', '.join(known)}")
    return backend


def read_numbers(text: str, count: int, what: str, example: str) -> list[float]:
    """``"12.5,-3"`` as numbers.

    Raises:
        BadInput: Another count, or something that is no finite number.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < 1e9 for number in numbers):
        wanted = "a number" if count == 1 else f"{count} numbers with commas between"
        raise BadInput(f"{what} is {text!r}", hint=f"give {wanted}, as in {example}")
    return numbers

"""What ``--help`` looks like: options in groups, examples as they are typed, exit codes; plain text that can be piped.

Typer's own grouping draws boxes with Rich, whose import alone takes longer than everything else that ``--help`` does.
The groups are Typer's ``rich_help_panel``; a parameter without one belongs to ``Options``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

RUNNING = "Where it runs"
"""Panel of the options that say where and on what a command works, and change no result."""

SAYING = "What it says"
"""Panel of the options that say how a command speaks."""

KEPT = "Kept in the subject"
"""Panel of the options that are written into ``subject.yaml``."""

LOOKING = "What it looks like"
"""Panel of the options that decide a video's pictures."""

WRITING = "What it writes"
"""Panel of the options that name files to write."""

SIGNING = "Who signs it"
"""Panel of the options that name keys."""

EXIT_CODES = {
    0: "done, or nothing to do",
    1: "something failed that the input does not explain",
    2: "what was typed or given cannot be used",
    130: "interrupted; the same command goes on where it stopped",
}
"""What exit codes mean where a command does not say more."""

_OPTIONS = "Options"
_FIRST = ("Arguments", _OPTIONS, KEPT, LOOKING, WRITING, SIGNING)
_LAST = (RUNNING, SAYING)
_COLUMN = 34


def examples(*lines: str, codes: dict[int, str] | None = None) -> str:
    """The end of a help page: how the command is typed, and its exit codes.

    Args:
        lines: Whole commands.
        codes: What an exit code means for this command, in place of what it usually means.
    """
    told = {**EXIT_CODES, **(codes or {})}
    return "\n".join(
        ["Examples:", *(f"  {line}" for line in lines), "", "Exit codes:"]
        + [f"  {code:<4} {told[code]}" for code in sorted(told)]
    )


def panels(params: Iterable[Any]) -> dict[str, list[Any]]:
    """Parameters by their panel, in the order in which a page shows them.

    Args:
        params: Of a command.
    """
    found: dict[str, list[Any]] = {}
    for param in params:
        named = getattr(param, "rich_help_panel", None)
        usual = "Arguments" if param.param_type_name == "argument" else SAYING if param.name == "help" else _OPTIONS
        found.setdefault(named or usual, []).append(param)
    order = [*_FIRST, *(name for name in found if name not in _FIRST + _LAST), *_LAST]
    return {name: found[name] for name in order if name in found}


def records(params: Iterable[Any], ctx: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - typer's own types are private
    """What a page says of parameters: how they are typed, and what they mean.

    Args:
        params: Of a command.
        ctx: Its context.
    """
    told = ((param, param.get_help_record(ctx)) for param in params)
    return [
        (param.metavar if param.param_type_name == "argument" and param.metavar else record[0], record[1])
        for param, record in told
        if record is not None
    ]


def summary(command: Any) -> str:  # noqa: ANN401 - as above
    """The first paragraph of a command's help, on one line."""
    return " ".join(inspect.cleandoc(command.help or "").partition("\n\n")[0].split())


class PageCommand(TyperCommand):
    """A command whose help is a page of its own."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - as above
        """Arguments as their pages call them."""
        arguments = (param for param in self.get_params(ctx) if param.param_type_name == "argument")
        return [self.options_metavar or "", *(str(param.metavar or param.name) for param in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - typer's own types are private
        """Write arguments and options, a section for each panel."""
        write_panels(self.get_params(ctx), ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - as above
        """Write examples and exit codes as they are: a command that is wrapped cannot be copied."""
        write_end(self.epilog, formatter)


class PageGroup(TyperGroup):
    """The application, its commands in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - as above
        """Write the commands, a section for each panel, then the application's own options."""
        shown = {name: command for name, command in self.commands.items() if not command.hidden}
        width = max(map(len, shown), default=0)
        found: dict[str, list[tuple[str, str]]] = {}
        for name, command in shown.items():
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            found.setdefault(panel, []).append((name.ljust(width), summary(command)))
        for panel, rows in found.items():
            with formatter.section(panel):
                formatter.write_dl(rows)
        write_panels(self.get_params(ctx), ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - as above
        """Write the examples as they are."""
        write_end(self.epilog, formatter)


def write_panels(params: Iterable[Any], ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - as above
    """Write a section of definitions for each panel.

    Args:
        params: Of the command.
        ctx: Its context.
        formatter: What makes the page.
    """
    for name, members in panels(params).items():
        rows = records(members, ctx)
        if rows:
            with formatter.section(name):
                formatter.write_dl(rows, col_max=_COLUMN)


def write_end(epilog: str | None, formatter: Any) -> None:  # noqa: ANN401 - as above
    """Write the end of a page without wrapping its lines.

    Args:
        epilog: What ``examples`` made.
        formatter: What makes the page.
    """
    if epilog:
        formatter.write_paragraph()
        formatter.write(f"{inspect.cleandoc(epilog)}\n")

"""``docs/commands.md``, made from the commands themselves: ``python -m cli.commands_page > docs/commands.md``."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

import typer

from cli.app import app
from cli.help_pages import panels, records

_INTRODUCTION = """\
# Commands

What `radnerf --help` and `radnerf COMMAND --help` say, on one page. Options may stand anywhere after the command, and
`--option=value` means the same as `--option value`. What follows `--` is passed on to Snakemake by the commands that
run it. `radnerf --install-completion` teaches the shell to complete commands, options, subjects and settings.

| exit code | meaning |
| --- | --- |
| 0 | done, or nothing to do |
| 1 | something failed that the input does not explain |
| 2 | what was typed or given cannot be used |
| 130 | interrupted; the same command goes on where it stopped |

Where a command's codes mean more, its section says so; [what is left after each](exit-codes.md).

This page is made from the code by `make docs`.
"""


def commands_page() -> str:
    """The page as Markdown: a section a command, in the groups of ``radnerf --help``."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("radnerf", [], resilient_parsing=True)
    found: dict[str, list[tuple[str, Any]]] = {}
    for name, command in group.commands.items():
        if not command.hidden:
            found.setdefault(command.rich_help_panel or "Commands", []).append((name, command))
    parts = [_INTRODUCTION]
    for panel, commands in found.items():
        links = ", ".join(f"[{name}](#{name})" for name, _ in commands)
        parts.append(f"**{panel}:** {links}\n")
    for name, command in (pair for commands in found.values() for pair in commands):
        parts.append(_section(name, command, context))
    return "\n".join(parts)


def _section(name: str, command: Any, parent: Any) -> str:  # noqa: ANN401 - typer's own types are private
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    usage = " ".join(["radnerf", name, *command.collect_usage_pieces(context)])
    described = inspect.cleandoc(command.help or "")
    shown, _, codes = (command.epilog or "").partition("Exit codes:")
    lines = [f"## {name}", "", described, "", "```text", usage, "```", "", *_table(command, context)]
    lines += ["```sh", *(line.strip() for line in shown.splitlines()[1:] if line.strip()), "```", ""]
    own = [line for line in codes.splitlines() if line.strip() and line.strip() not in _usual_codes()]
    if own:
        told = "; ".join("{}: {}".format(*line.strip().split(maxsplit=1)) for line in own)
        lines += [f"Exit codes: {told}.", ""]
    return "\n".join(lines)


def _usual_codes() -> set[str]:
    from cli.help_pages import EXIT_CODES

    return {f"{code:<4} {meaning}" for code, meaning in EXIT_CODES.items()}


def _table(command: Any, context: Any) -> list[str]:  # noqa: ANN401 - as above
    """Arguments and options, a table for each panel."""
    lines: list[str] = []
    for panel, params in panels(command.get_params(context)).items():
        rows = records([param for param in params if param.name != "help"], context)
        if rows:
            lines += [f"| {panel} | |", "| --- | --- |", *(_row(*row) for row in rows), ""]
    return lines


def _row(name: str, told: str) -> str:
    words = re.sub(r"\s{2,}\[", " [", told.strip())
    return f"| `{_escaped(name)}` | {_escaped(words)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(commands_page())

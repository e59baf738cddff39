"""Lists of jobs: rows of a CSV or YAML file, or sound files, each read as the ``speak`` command that it stands for."""

from __future__ import annotations

import csv
import difflib
import glob
import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import typer

from cli.options import PassingCommand
from cli.speak import speak
from cli.speech_plan import Wishes
from stages.errors import BadInput

LISTS = (".csv", ".tsv", ".yaml", ".yml")
"""Endings of files that list jobs; every other file is a speech."""

COLUMNS = ("subject", "speech", "output", "options")
"""What every row may say; each option of ``speak`` may be a column too."""


@dataclass(frozen=True)
class Row:
    """One job as it was written.

    Attributes:
        place: Where, for messages: ``"jobs.csv, line 3"``.
        values: What its columns hold; empty ones left out.
    """

    place: str
    values: dict[str, str]


@dataclass(frozen=True)
class Asked:
    """One job as ``speak`` would be asked for it.

    Attributes:
        place: As in ``Row``.
        subject: Name of the subject.
        speech: The sound file.
        wishes: Output and options.
    """

    place: str
    subject: str
    speech: Path
    wishes: Wishes


def read_rows(sources: Sequence[str]) -> list[Row]:
    """Every job that files, patterns and lists name, in their order.

    Args:
        sources: Lists of jobs, sound files, and patterns (``"talks/*.wav"``) of either.

    Raises:
        BadInput: A pattern that matches nothing, or a list that cannot be read.
    """
    rows: list[Row] = []
    for source in sources:
        paths = [Path(source)]
        if not paths[0].exists() and glob.has_magic(source):
            paths = sorted(Path(found) for found in glob.glob(source, recursive=True))  # noqa: PTH207 - as typed
            if not paths:
                raise BadInput(f"nothing matches {source!r}", hint="check the pattern")
        for path in paths:
            if path.suffix.lower() in LISTS:
                rows += _list_rows(path)
            else:
                rows.append(Row(str(path), {"speech": str(path)}))
    if not rows:
        raise BadInput(f"{', '.join(sources)} holds no jobs", hint="write one row for each video")
    return rows


def _list_rows(path: Path) -> list[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {path}", hint="check the name") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}", hint="save it as UTF-8 text") from error
    return list(_table_rows(path, text) if path.suffix.lower() in (".csv", ".tsv") else _yaml_rows(path, text))


def _table_rows(path: Path, text: str) -> Iterator[Row]:
    """Rows of a table whose first line names the columns; commas, semicolons or tabs, as the first line has them."""
    first = text.partition("\n")[0]
    delimiter = max(("\t", ";", ","), key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    header = [name.strip() for name in next(reader, [])]
    for name in header:
        _check_column(name, str(path))
    if len(set(header)) < len(header):
        raise BadInput(f"{path} names a column twice", hint="name each once")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        place = f"{path}, line {reader.line_num}"
        if len(cells) > len(header):
            raise BadInput(f"{place} has {len(cells)} values under {len(header)} columns", hint="quote what has commas")
        yield _row(place, dict(zip(header, cells, strict=False)))


def _yaml_rows(path: Path, text: str) -> Iterator[Row]:
    """Rows of a list of mappings, or of ``{"defaults": {…}, "jobs": […]}``."""
    import yaml

    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}", hint="mend it") from error
    defaults: Any = {}
    if isinstance(told, dict):
        if set(told) - {"defaults", "jobs"}:
            raise BadInput(f"{path} has an unknown key", hint="write 'jobs:' with a list below, and 'defaults:'")
        defaults, told = told.get("defaults") or {}, told.get("jobs")
    if not isinstance(told, list) or not isinstance(defaults, dict):
        raise BadInput(f"{path} holds no list of jobs", hint="write '- {subject: …, speech: …}' for each video")
    for number, values in enumerate(told, start=1):
        place = f"{path}, job {number}"
        if not isinstance(values, dict):
            raise BadInput(f"{place} is {values!r}", hint="write '- {subject: …, speech: …}'")
        merged = {**defaults, **values}
        for name in merged:
            _check_column(str(name), place)
        yield _row(place, {str(name): _text(value) for name, value in merged.items()})


def _text(value: Any) -> str:  # noqa: ANN401 - YAML
    """A YAML value as it would be typed: ``[10, -5]`` is ``"10,-5"``, and options are ``"--eyes 1"``."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return shlex.join(f"--{name}={_text(inner)}" for name, inner in value.items())
    return str(value)


def _row(place: str, values: Mapping[str, str]) -> Row:
    kept = {name.replace("_", "-"): text.strip() for name, text in values.items()}
    return Row(place, {name: text for name, text in kept.items() if text})


def _check_column(name: str, where: str) -> None:
    known = [*COLUMNS, *option_columns()]
    if name.replace("_", "-") not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise BadInput(f"{where} has an unknown column {name!r}", hint=hint)


def _command() -> Any:  # noqa: ANN401 - typer's own command type is private
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command("speak", cls=PassingCommand)(speak)
    return typer.main.get_command(alone)


def option_columns() -> list[str]:
    """The options of ``speak`` that say how a video looks, and so may be columns."""
    wanted = {item.name for item in fields(Wishes)} - {"output"}
    return [option.opts[0].removeprefix("--") for option in _command().params if option.name in wanted]


def ask(row: Row, subject: str | None, folder: Path | None) -> Asked:
    """Read a row as the command that it stands for.

    Args:
        row: The row.
        subject: Whose, where the row does not say.
        folder: Where its video goes, where the row does not say.

    Raises:
        BadInput: It names no subject or no speech, or its options are not those of ``speak``.
    """
    values = dict(row.values)
    name = values.pop("subject", subject or "")
    if not name:
        raise BadInput("names no subject", hint="give each row a subject, or --subject for all of them")
    if "speech" not in values:
        raise BadInput("names no speech", hint="give each row a sound file")
    speech = Path(values.pop("speech"))
    output = Path(values.pop("output")) if "output" in values else None
    if output is None and folder is not None:
        output = folder / f"{name}_{speech.stem}.mp4"
    try:
        words = shlex.split(values.pop("options", ""))
    except ValueError as error:
        raise BadInput(f"options cannot be read: {error}", hint="quote them as in a shell") from error
    return Asked(row.place, name, speech, _wishes(words, values, output))


def _wishes(words: list[str], columns: Mapping[str, str], output: Path | None) -> Wishes:
    """Options as ``speak`` itself reads them."""
    command = _command()
    flags = {option.opts[0].removeprefix("--") for option in command.params if getattr(option, "is_flag", False)}
    for name, text in columns.items():
        if name in flags:
            if text.lower() not in ("yes", "true", "1", "no", "false", "0"):
                raise BadInput(f"{name} is {text!r}", hint="give yes or no")
            words = [*words, f"--{name}"] if text.lower() in ("yes", "true", "1") else words
        else:
            words = [*words, f"--{name}={text}"]
    try:
        with command.make_context("speak", [*words, "--", "subject", "speech"]) as context:
            params = dict(context.params)
            typed = {key for key in params if context.get_parameter_source(key).name == "COMMANDLINE"}
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        raise BadInput(" ".join(usage().split()), hint="see 'radnerf speak --help'") from error
    looks = {item.name for item in fields(Wishes)} - {"output"}
    foreign = sorted(typed - looks - {"subject", "speech", "args"})
    if foreign or params.get("args"):
        what = foreign[0].replace("as_json", "json") if foreign else params["args"][0]
        raise BadInput(f"options say {what!r}, which is not for one job", hint="give it to 'radnerf batch' itself")
    return Wishes(output=output, **{name: params[name] for name in looks})

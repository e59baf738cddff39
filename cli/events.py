"""How a stage, run by Snakemake in its own process, tells the command that started it all how it goes.

A file of JSON lines, named by ``RADNERF_EVENTS``: ``start``, ``progress``, ``error`` and ``end`` of each stage, with
the subject and the speech that it works on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import RadnerfError
from stages.progress import Progress

VARIABLE = "RADNERF_EVENTS"
"""The environment variable that names the file."""

MIN_INTERVAL_S = 0.2
"""Seconds between two progress events of the same work."""

_about: dict[str, str] = {}


class StageFailed(RadnerfError):
    """A stage ended with an error that it has worded itself; carries its exit code."""

    def __init__(self, message: str, *, hint: str, exit_code: int) -> None:
        """Repeat a stage's error in the process that started it."""
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def tell_about(subject: str, speech: str | None) -> None:
    """From now on this process's events say whom they are about; a run may work on several subjects and speeches."""
    _about.update(subject=subject, speech=speech or "")


def _append(event: dict[str, Any]) -> None:
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = json.dumps({**event, **_about}, ensure_ascii=False) + "\n"
    try:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(line)
    except OSError:
        # A full disk must not turn into a second error that hides the first.
        return


def tell_start(stage: str) -> None:
    """A stage begins."""
    _append({"kind": "start", "stage": stage})


def tell_end(stage: str) -> None:
    """A stage has written all its files."""
    _append({"kind": "end", "stage": stage})


def tell_error(message: str, hint: str, exit_code: int) -> None:
    """This process ends with an error."""
    _append({"kind": "error", "message": message, "hint": hint, "exit_code": exit_code})


class ProgressEvents:
    """A listener that writes a stage's progress into the file, a few times a second at most."""

    def __init__(self, stage: str) -> None:
        """Listen for one stage."""
        self._stage = stage
        self._label = ""
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        """Write one report, unless another was just written and this one is not the last."""
        now = time.monotonic()
        ends = progress.total > 0 and progress.done >= progress.total
        if progress.label == self._label and not ends and now - self._last < MIN_INTERVAL_S:
            return
        self._label, self._last = progress.label, now
        _append({"kind": "progress", "stage": self._stage, **progress.__dict__})


@dataclass(frozen=True)
class Event:
    """One line of the file.

    Attributes:
        kind: ``start``, ``progress``, ``error`` or ``end``.
        values: The rest of the line.
    """

    kind: str
    values: dict[str, Any]

    @property
    def stage(self) -> str:
        """The stage that speaks; empty for an error."""
        return str(self.values.get("stage", ""))

    @property
    def about(self) -> tuple[str, str]:
        """The subject and the speech that it is about; the speech is empty for the subject's own stages."""
        return str(self.values.get("subject", "")), str(self.values.get("speech", ""))

    @property
    def progress(self) -> Progress:
        """The report of a ``progress`` event."""
        values = self.values
        return Progress(values["label"], values["done"], values["total"], values.get("note", ""))

    @property
    def error(self) -> StageFailed:
        """The error of an ``error`` event."""
        return StageFailed(
            self.values["message"], hint=self.values.get("hint", ""), exit_code=int(self.values["exit_code"])
        )


class Tail:
    """Reads what was added to the file since the last look."""

    def __init__(self, path: Path) -> None:
        """Follow a file that need not exist yet."""
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[Event]:
        """The events of every line that is complete by now."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                values = json.loads(line)
                yield Event(values.pop("kind"), values)
            except (ValueError, KeyError):
                # Two stages that write at once on a network disk can tear a line; progress is not worth dying for.
                continue

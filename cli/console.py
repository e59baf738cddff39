"""What a person or a script sees: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from stages.errors import RadnerfError
from stages.progress import Progress

PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines about the same work where there is no terminal."""


class Display(Protocol):
    """Shows how far each piece of work is."""

    def show(self, stage: str, progress: Progress) -> None:
        """Show how far a stage is."""

    def finish(self, stage: str) -> None:
        """Show that a stage is done."""


class _Silent:
    """Shows nothing."""

    def show(self, stage: str, progress: Progress) -> None:
        """Do nothing."""

    def finish(self, stage: str) -> None:
        """Do nothing."""


class _Plain:
    """A line now and then, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: dict[tuple[str, str], float] = {}
        self._began: dict[str, float] = {}
        self._first: dict[tuple[str, str], tuple[float, int]] = {}

    def show(self, stage: str, progress: Progress) -> None:
        """Write a line when the work is new, is done, or was not heard of for a while."""
        now = time.monotonic()
        key = (stage, progress.label)
        self._began.setdefault(stage, now)
        # The first piece of work compiles kernels and opens files: it says nothing of the others.
        since, before = self._first.setdefault(key, (now, progress.done)) if progress.done else (now, 0)
        done = progress.total > 0 and progress.done >= progress.total
        if key in self._last and not done and now - self._last[key] < PLAIN_INTERVAL_S:
            return
        self._last[key] = now
        of = f"/{progress.total}" if progress.total else ""
        left = ""
        if before < progress.done < progress.total and now > since:
            left = f", {duration((now - since) / (progress.done - before) * (progress.total - progress.done))} left"
        note = f"  {progress.note}" if progress.note else ""
        self._write(f"{stage}: {progress.label} {progress.done}{of}{left}{note}")

    def finish(self, stage: str) -> None:
        """Write that the stage is done and how long it took."""
        began = self._began.pop(stage, None)
        took = f" in {duration(time.monotonic() - began)}" if began is not None else ""
        self._write(f"{stage}: done{took}")

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class _Bars:
    """One Rich bar a stage, with what is left of its time and the figures worth seeing."""

    def __init__(self) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=RichConsole(stderr=True),
            refresh_per_second=5,
        )
        self._tasks: dict[str, Any] = {}
        self._labels: dict[str, str] = {}

    def show(self, stage: str, progress: Progress) -> None:
        """Move the stage's bar."""
        total = progress.total or None
        label = progress.label if progress.label.startswith(stage) else f"{stage}: {progress.label}"
        if stage not in self._tasks:
            self._tasks[stage] = self.bars.add_task(label, total=total, note="")
        elif self._labels[stage] != label:
            self.bars.reset(self._tasks[stage], total=total, description=label)
        self._labels[stage] = label
        self.bars.update(self._tasks[stage], completed=progress.done, total=total, note=progress.note)

    def finish(self, stage: str) -> None:
        """Fill the stage's bar and stop its clock."""
        if stage not in self._tasks:
            self._tasks[stage] = self.bars.add_task(stage, total=1, note="")
        task = self._tasks.pop(stage)
        total = next(item.total for item in self.bars.tasks if item.id == task) or 1
        self.bars.update(task, description=stage, total=total, completed=total)
        self.bars.stop_task(task)


class Console:
    """Where a command's words go.

    Attributes:
        json: Whether standard output holds one JSON object and nothing else.
        quiet: Whether progress and remarks are left out.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        """Choose how a command speaks."""
        self.json = json
        self.quiet = quiet

    @contextmanager
    def progress(self) -> Iterator[Display]:
        """A display for the work inside the block: bars on a terminal, else a line now and then."""
        if self.quiet:
            yield _Silent()
        elif sys.stderr.isatty():
            bars = _Bars()
            with bars.bars:
                yield bars
        else:
            yield _Plain(sys.stderr)

    def remark(self, text: str) -> None:
        """A line for people, on standard error."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - the command line's own voice

    def waiting(self, busy: RadnerfError) -> None:
        """Say whom a run waits for."""
        self.remark(f"{busy.message}; waiting until it has ended")

    def result(self, value: Mapping[str, Any], text: str) -> None:
        """What the command found or made, on standard output: the object with ``--json``, else the text."""
        if self.json:
            print(json.dumps(value, ensure_ascii=False, allow_nan=False))  # noqa: T201 - see above
        elif text and not self.quiet:
            print(text)  # noqa: T201 - see above


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Rows as aligned columns, without colour or frames, so that it can be piped."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def size(count: int) -> str:
    """``28_000_000`` bytes as ``"28 MB"``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(seconds: float) -> str:
    """``75.2`` as ``"1 min 15 s"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"

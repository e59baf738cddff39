"""The live table of a batch on a terminal; elsewhere a line for each job that ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from cli.console import Console, duration
from cli.speech_plan import Plan
from stages.errors import RadnerfError
from stages.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table


class State(StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    WORKING = "working"
    MADE = "made"
    KEPT = "up to date"
    FAILED = "failed"


@dataclass
class Job:
    """One video of a batch.

    Attributes:
        place: Where it was asked for: ``"jobs.csv, line 3"``.
        plan: What was asked for.
        speech_id: Its folder in the subject.
        state: How far it is.
        doing: What is being done for it now.
        share: Of that, 0 to 1.
        began: When the stage that works on it began, on the monotonic clock; None while none does.
        seconds: How long stages have worked on it, the present one not counted.
        error: Why it failed.
    """

    place: str
    plan: Plan
    speech_id: str
    state: State = State.WAITING
    doing: str = ""
    share: float = 0.0
    began: float | None = None
    seconds: float = 0.0
    error: RadnerfError | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Subject and speech, by which events name it."""
        return self.plan.workspace.root.name, self.speech_id

    def work(self, stage: str, progress: Progress | None = None) -> None:
        """A stage works on it."""
        self.began = self.began if self.began is not None else time.monotonic()
        self.state, self.error = State.WORKING, None
        self.doing = stage if progress is None else f"{stage} {progress.done}/{progress.total}"
        self.share = progress.done / progress.total if progress is not None and progress.total else 0.0

    def pause(self) -> None:
        """A stage is done with it, and the next has not begun."""
        self.seconds += time.monotonic() - self.began if self.began is not None else 0.0
        self.began, self.state, self.doing = None, State.WAITING, ""

    def end(self, state: State, error: RadnerfError | None = None) -> None:
        """It is over."""
        self.pause()
        self.state, self.error = state, error


@dataclass
class Board:
    """Shows the jobs.

    Attributes:
        jobs: All of them.
        subjects: What is done for a whole subject, by its name: training that several jobs wait for.
    """

    jobs: Sequence[Job]
    console: Console
    subjects: dict[str, str] = field(default_factory=dict)
    _told: set[int] = field(default_factory=set)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the table while the block runs."""
        import sys

        if self.console.quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console as RichConsole
        from rich.live import Live

        terminal = RichConsole(stderr=True)
        room = max(4, terminal.size.height - 6)
        with Live(get_renderable=lambda: self.table(room), console=terminal, refresh_per_second=4, transient=True):
            yield

    def table(self, room: int) -> Table:
        """The jobs that matter most now.

        Args:
            room: Rows that fit.
        """
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        counts = ", ".join(f"{count} {state}" for state in State if (count := self._count(state)))
        busy = "".join(f"\n{name}: {doing}" for name, doing in self.subjects.items())
        table = Table(title=f"{len(self.jobs)} jobs: {counts}{busy}", title_justify="left", expand=True, box=None)
        for name in ("subject", "speech", "state", "", "time"):
            table.add_column(name, overflow="ellipsis", no_wrap=True)
        order = [State.WORKING, State.FAILED, State.WAITING, State.MADE, State.KEPT]
        for job in sorted(self.jobs, key=lambda job: order.index(job.state))[:room]:
            took = job.seconds + (time.monotonic() - job.began if job.began is not None else 0.0)
            last = ProgressBar(1.0, job.share, width=24) if job.state == State.WORKING else _last(job)
            style = {State.FAILED: "red", State.MADE: "green", State.WORKING: "bold"}.get(job.state, "dim")
            doing = job.doing or str(job.state)
            table.add_row(job.key[0], job.plan.speech.name, doing, last, duration(took) if took else "", style=style)
        return table

    def tell(self, job: Job) -> None:
        """Say once that a job has ended, where there is no table or it goes away."""
        if id(job) in self._told:
            return
        self._told.add(id(job))
        done = len(self._told)
        how = f"made in {duration(job.seconds)}, {job.plan.output}" if job.state == State.MADE else _last(job)
        word = "" if job.state == State.MADE else f"{job.state}: "
        self.console.remark(f"[{done}/{len(self.jobs)}] {job.key[0]} {job.plan.speech.name}: {word}{how}")

    def _count(self, state: State) -> int:
        return sum(job.state == state for job in self.jobs)


def _last(job: Job) -> str:
    return str(job.error) if job.error is not None else str(job.plan.output.name)

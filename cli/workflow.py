"""Starts Snakemake, follows what its stages say, and ends all of it on Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cli import events, kubernetes_jobs, lock
from cli.console import Console, Display
from cli.plan import Step, stale_steps
from cli.profiles import submits_to_kubernetes
from cli.snakemake_call import Execution, command, environment
from cli.subject import books_folder
from stages.atomic_files import TEMPORARY
from stages.errors import RadnerfError
from stages.workspace import Workspace, check_contained

POLL_S = 0.1
"""Seconds between two looks at the stages' events."""

INTERRUPT_PATIENCE_S = 60.0
"""How long stages may take to save a checkpoint after Ctrl-C."""

_LEAST_ROOM_BYTES = 1 << 16


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        seconds: Wall time.
        ran: Stages that ended well, in order.
    """

    seconds: float = 0.0
    ran: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Held:
    """A subject that this process alone may write to, for now.

    Attributes:
        workspace: The subject.
        token: What all processes of the run carry.
        speech_id: The speech that is held, where the subject itself is only read; empty else.
    """

    workspace: Workspace
    token: str
    speech_id: str = ""

    @property
    def books(self) -> Path:
        """Where Snakemake keeps its books for this run: nobody else's, so a lock in them is a dead run's."""
        own = books_folder(self.workspace)
        return own.with_name(f".speech-{own.name}-{self.speech_id}") if self.speech_id else own

    @property
    def log(self) -> Path:
        """What Snakemake says."""
        return self.workspace.log(f"snakemake-{self.speech_id}" if self.speech_id else "snakemake")


@contextmanager
def hold(workspace: Workspace, token: str | None = None, waiting: lock.Waiting | None = None) -> Iterator[Held]:
    """Hold a subject for the length of the block: settings, too, change only inside of one.

    Args:
        workspace: The subject.
        token: The run's own, where one run holds several subjects.
        waiting: Wait for a subject that another run holds, and tell this who does.

    Raises:
        SubjectBusy: Another run holds the subject.
        BadInput: The subject cannot be written, or a link in it leads out of it.
    """
    check_contained(workspace)
    with lock.subject_lock(workspace.lock, lock.typed_command(), token, waiting) as (token, left_over):
        held = Held(workspace, token)
        if left_over:
            remove_left_over(workspace.root)
        unlock(held.books)
        yield held


@contextmanager
def hold_speech(workspace: Workspace, speech_id: str, waiting: lock.Waiting | None = None) -> Iterator[Held]:
    """Hold one speech, and keep the subject as it is; other speeches of it may be held at the same time.

    Args:
        workspace: The subject, trained.
        speech_id: The speech; need not exist yet.
        waiting: As for ``hold``.

    Raises:
        SubjectBusy: Another run works on the subject or on this speech.
        BadInput: As for ``hold``.
    """
    check_contained(workspace)
    folder = workspace.speech(speech_id)
    with lock.shared_lock(workspace.lock, waiting) as subject_left_over:
        if subject_left_over:
            remove_left_over(workspace.root)
            unlock(books_folder(workspace))
        folder.root.mkdir(parents=True, exist_ok=True)
        with lock.subject_lock(folder.lock, lock.typed_command(), None, waiting) as (token, left_over):
            held = Held(workspace, token, speech_id)
            if left_over:
                remove_left_over(folder.root)
            unlock(held.books)
            yield held


def remove_left_over(folder: Path) -> None:
    """Delete what writers that were killed left below a folder that this process holds: their temporary files."""
    for path in folder.rglob(".*.part*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def run_steps(held: Held, steps: dict[str, Step], wanted: list[str], execution: Execution, console: Console) -> Outcome:
    """Bring steps up to date through Snakemake.

    Args:
        held: The subject.
        steps: Everything that the wanted steps may need, and they themselves, in an order in which they can run.
        wanted: Names of the steps whose outputs are wanted.
        execution: How stages run.
        console: Where progress goes.

    Returns:
        How long it took and which stages ran; none when nothing was to do.

    Raises:
        StageFailed: A stage ended with an error of its own.
        RadnerfError: Snakemake ended with an error that no stage has worded.
        KeyboardInterrupt: Ctrl-C; everything that was started has ended.
    """
    began = time.monotonic()
    outcome = Outcome()
    # What is up to date needs no Snakemake, unless the user has something to say to it.
    if stale_steps(steps) or (steps and execution.snakemake_args):
        # What was given from elsewhere has no step.
        targets = [path for name in wanted if name in steps for path in steps[name].outputs.values()]
        with console.progress() as display:
            _run(held, targets, execution, display, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def unlock(folder: Path, *_: Path) -> None:
    """Drop what a killed Snakemake left in a folder of books: its lock, and where its stages told of themselves.

    Args:
        folder: The books, held by this process alone; so whatever lies there is a dead run's.
        _: Not looked at.

    Raises:
        RadnerfError: It cannot be removed.
    """
    locks = folder / ".snakemake" / "locks"
    try:
        # What 'snakemake --unlock' does, without two seconds of starting it.
        if locks.is_dir() and any(locks.iterdir()):
            shutil.rmtree(locks)
        for told in folder.glob("events-*"):
            shutil.rmtree(told, ignore_errors=True)
    except OSError as error:
        raise RadnerfError(
            f"the lock that a killed run left in {locks} cannot be removed: {error.strerror}", hint="delete that folder"
        ) from error


@contextmanager
def _event_file(folder: Path) -> Iterator[Path]:
    """In the books' folder, since the other machines of a cluster must reach it."""
    made = Path(tempfile.mkdtemp(prefix="events-", dir=folder))
    try:
        yield made / "events.jsonl"
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _scratch(token: str) -> Iterator[None]:
    """One folder for the temporary files of everything that this run starts."""
    folder = lock.scratch_folder(token)
    # On a full disk everybody looks for a place of their own.
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_snakemake(
    folder: Path,
    token: str,
    targets: list[Path],
    execution: Execution,
    log: Path,
    heed: Callable[[Iterator[events.Event]], None],
) -> bool:
    """Run Snakemake until it ends.

    Args:
        folder: Where it keeps its books, two levels below ``subjects/``.
        token: Of the run, which holds every subject that the targets belong to.
        targets: Files of subjects.
        execution: How stages run.
        log: What Snakemake says; where the user talks to it, that goes to standard error.
        heed: Called a few times a second with what the stages told since.

    Returns:
        Whether it ended well.

    Raises:
        KeyboardInterrupt: Ctrl-C; everything that was started has ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(token), _event_file(folder) as event_file, log.open("wb") as stream:
        process = subprocess.Popen(
            command(folder, targets, execution),
            # A person who talks to Snakemake wants to hear it.
            stdout=sys.stderr if execution.snakemake_args else stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment(folder, token, event_file, execution),
            start_new_session=True,
        )
        tail = events.Tail(event_file)
        try:
            while process.poll() is None:
                heed(tail.read())
                time.sleep(POLL_S)
        except BaseException:
            _end_group(process)
            _end_jobs(token, execution, stream)
            raise
        heed(tail.read())
        if process.returncode != 0:
            # A Snakemake or a stage that was killed leaves its own children running.
            lock.end_orphans(token)
        if process.returncode < 0:
            stream.write(f"it was killed from outside (signal {-process.returncode})\n".encode())
            _end_jobs(token, execution, stream)
    return process.returncode == 0


def _run(held: Held, targets: list[Path], execution: Execution, display: Display, outcome: Outcome) -> None:
    log = held.log
    follower = _Follower(display, outcome)
    if run_snakemake(held.books, held.token, targets, execution, log, follower.heed):
        return
    if follower.error is not None:
        raise follower.error
    if follower.running:
        names = " and ".join(sorted(follower.running))
        raise RadnerfError(
            f"the {names} stage was killed from outside",
            hint=f"too little memory is the usual reason; the same command goes on; read {log}",
        )
    if shutil.disk_usage(held.workspace.root).free < _LEAST_ROOM_BYTES:
        # Then the log is empty, too.
        raise RadnerfError("the disk is full", hint="free some space; the same command goes on where it stopped")
    raise RadnerfError(
        f"the workflow failed: {last_words(log)}" if not execution.snakemake_args else "the workflow failed",
        hint=f"the same command goes on; read {log}",
    )


class _Follower:
    """Passes the stages' events on to the display and keeps the first error."""

    def __init__(self, display: Display, outcome: Outcome) -> None:
        self._display = display
        self._outcome = outcome
        self.error: events.StageFailed | None = None
        self.running: set[str] = set()

    def heed(self, told: Iterator[events.Event]) -> None:
        """Handle what was told since the last time."""
        for event in told:
            if event.kind == "start":
                self.running.add(event.stage)
            elif event.kind in ("end", "error"):
                self.running.discard(event.stage)
            if event.kind == "progress":
                self._display.show(event.stage, event.progress)
            elif event.kind == "end":
                self._display.finish(event.stage)
                self._outcome.ran.append(event.stage)
            elif event.kind == "error" and self.error is None:
                self.error = event.error


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Interrupt Snakemake and all its stages, wait for them, and insist where they do not listen."""
    for action, patience_s in ((signal.SIGINT, INTERRUPT_PATIENCE_S), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, action)
        if _wait_group(process, patience_s):
            return


def _end_jobs(token: str, execution: Execution, log: BinaryIO) -> None:
    """Delete what an interrupted run left on Kubernetes; Slurm's jobs were cancelled by Snakemake."""
    if submits_to_kubernetes(execution.profile):
        try:
            kubernetes_jobs.delete_run(token)
        except RadnerfError as error:
            log.write(f"the run's Kubernetes jobs may still be there: {error}\n".encode())


def _wait_group(process: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Wait until the whole group is gone; a second Ctrl-C ends the wait."""
    end = time.monotonic() + patience_s
    try:
        while time.monotonic() < end:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)
    except KeyboardInterrupt:
        return False
    return False


def last_words(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Complete log", "Shutting down", "Exiting"))]
    return telling[-1] if telling else "it wrote nothing"

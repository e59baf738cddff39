"""One run at a time on a subject, and a safe way past a run that was killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from stages.errors import RadnerfError

if TYPE_CHECKING:
    import psutil

VARIABLE = "RADNERF_RUN"
"""The environment variable by which every process of a run carries the run's token."""

ORPHAN_PATIENCE_S = 20.0
"""How long an orphan may take to end after it was asked to, before it is killed."""


class SubjectBusy(RadnerfError):
    """Another run holds the subject. Exit code 1."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        pid: Process.
        host: Machine.
        since: Start, ISO 8601.
        command: What was typed.
        token: What all processes of the run carry in their environment.
    """

    pid: int
    host: str
    since: str
    command: str
    token: str


def _read_owner(descriptor: int) -> Owner | None:
    try:
        return Owner(**json.loads(os.pread(descriptor, 65_536, 0)))
    except (ValueError, TypeError):
        return None


def _write_owner(descriptor: int, owner: Owner | None) -> None:
    os.ftruncate(descriptor, 0)
    if owner is not None:
        os.pwrite(descriptor, json.dumps(asdict(owner)).encode(), 0)


def _busy(owner: Owner | None) -> SubjectBusy:
    if owner is None:
        return SubjectBusy("another run is working on this subject", hint="wait until it has ended")
    where = "" if owner.host == socket.gethostname() else f" on {owner.host}"
    return SubjectBusy(
        f"'{owner.command}' (process {owner.pid}{where}) has been working on this subject since {owner.since}",
        hint="wait until it has ended, or stop it with Ctrl-C",
    )


@contextmanager
def subject_lock(path: Path, command: str, token: str | None = None) -> Iterator[tuple[str, bool]]:
    """Hold a subject for the length of the block.

    The kernel drops an flock with the process that holds it, however that ends, so a lock that can be had is free;
    what its file still says tells of a run that was killed. The file itself stays, empty.

    Args:
        path: The subject's lock file.
        command: What to tell others who want it.
        token: The run's own, where one run holds several subjects; made here when None.

    Yields:
        The run's token, and whether a run that was killed left the lock.

    Raises:
        SubjectBusy: Another run holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _busy(_read_owner(descriptor)) from error
        previous = _read_owner(descriptor)
        if previous is not None and previous.host != socket.gethostname():
            # Not every network disk carries flock to other machines, so what the file says is all there is.
            raise SubjectBusy(
                f"'{previous.command}' on {previous.host} took this subject at {previous.since} and did not let go",
                hint=f"if it has ended, delete {path}",
            )
        if previous is not None:
            end_orphans(previous.token)
        since = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
        owner = Owner(os.getpid(), socket.gethostname(), since, command, token or uuid4().hex)
        _write_owner(descriptor, owner)
        try:
            yield owner.token, previous is not None
        finally:
            _write_owner(descriptor, None)
    finally:
        os.close(descriptor)


@contextmanager
def stage_lock(path: Path, command: str) -> Iterator[bool]:
    """Hold a subject for one stage run by hand; nothing when the run that started this process holds it already.

    Yields:
        Whether the stage is run by hand.

    Raises:
        SubjectBusy: Another run holds it.
    """
    token = os.environ.get(VARIABLE)
    if token:
        try:
            owner = Owner(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            owner = None
        if owner is not None and owner.token == token:
            yield False
            return
    with subject_lock(path, command):
        yield True


def end_orphans(token: str) -> None:
    """End what a killed run left running: the processes that carry its token.

    Raises:
        SubjectBusy: Some of them would not end.
    """
    import psutil

    orphans = _carriers(token)
    for action in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if not orphans:
            return
        for process in orphans:
            try:
                process.send_signal(action)
            except psutil.Error:
                continue
        orphans = _wait(orphans, ORPHAN_PATIENCE_S if action == signal.SIGINT else 5.0)
    if orphans:
        numbers = ", ".join(str(process.pid) for process in orphans)
        raise SubjectBusy(f"processes {numbers} of a killed run do not end", hint="end them by hand")


def _carriers(token: str) -> list[psutil.Process]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(VARIABLE) == token:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _wait(processes: list[psutil.Process], patience_s: float) -> list[psutil.Process]:
    """Wait for processes that are no children of this one; those that are left, zombies not counted."""
    import psutil

    end = time.monotonic() + patience_s
    while True:
        left = []
        for process in processes:
            try:
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
            except psutil.Error:
                continue
        if not left or time.monotonic() >= end:
            return left
        time.sleep(0.05)


def typed_command() -> str:
    """What was typed, for the lock and the log."""
    return " ".join(["radnerf", *sys.argv[1:]])

"""One run at a time on a subject, and a safe way past a run that was killed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from stages.errors import BadInput, RadnerfError

if TYPE_CHECKING:
    import psutil

VARIABLE = "RADNERF_RUN"
"""The environment variable by which every process of a run carries the run's token."""

OWNER_VARIABLE = "RADNERF_OWNER"
"""The environment variable by which a stage knows the process that started its run."""

WAIT_POLL_S = 0.5
"""Seconds between two tries to get a lock that is waited for."""

OWNER_POLL_S = 1.0
"""Seconds between two looks whether the run that started a stage is still there."""

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


def _busy(owners: list[Owner]) -> SubjectBusy:
    if not owners:
        return SubjectBusy(
            "another run is working on this subject",
            hint="wait until it has ended; prepare, train, speak and evaluate take --wait",
        )
    owner, more = owners[0], len(owners) - 1
    where = "" if owner.host == socket.gethostname() else f" on {owner.host}"
    others = f", and {more} more" if more else ""
    return SubjectBusy(
        f"'{owner.command}' (process {owner.pid}{where}) has been working on this subject since {owner.since}{others}",
        hint="wait until it has ended, or stop it with Ctrl-C; prepare, train, speak and evaluate take --wait",
    )


def _owners(path: Path, descriptor: int) -> list[Owner]:
    """Who holds a lock: the one whom its file names, or those who share it, each with a speech's lock of its own."""
    alone = _read_owner(descriptor)
    if alone is not None:
        return [alone]
    found = []
    for sharer in sorted(path.parent.glob(f"speech/*/{path.name}")):
        try:
            found.append(Owner(**json.loads(sharer.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda owner: owner.since)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


Waiting = Callable[[SubjectBusy], None]
"""Told once who holds a subject when a run waits for it."""


def _take(path: Path, descriptor: int, kind: int, waiting: Waiting | None) -> Owner | None:
    """Get a lock at once, or wait for it; the owner that its file still names, whose run was killed.

    Raises:
        SubjectBusy: Another run holds it and nobody wants to wait, or a run of another machine did not let go.
    """
    told = ""
    while not _try(descriptor, kind):
        busy = _busy(_owners(path, descriptor))
        if waiting is None:
            raise busy
        if busy.message != told:
            waiting(busy)
            told = busy.message
        time.sleep(WAIT_POLL_S)
    previous = _read_owner(descriptor)
    if previous is not None and previous.host != socket.gethostname():
        # Not every network disk carries flock to other machines, so what the file says is all there is.
        raise SubjectBusy(
            f"'{previous.command}' on {previous.host} took this subject at {previous.since} and did not let go",
            hint=f"if it has ended, delete {path}",
        )
    return previous


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written: {error.strerror}", hint="give another --home, or check the folder's rights"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def subject_lock(
    path: Path, command: str, token: str | None = None, waiting: Waiting | None = None
) -> Iterator[tuple[str, bool]]:
    """Hold a subject, or one speech, for the length of the block.

    The kernel drops an flock with the process that holds it, however that ends, so a lock that can be had is free;
    what its file still says tells of a run that was killed. The file itself stays, empty.

    Args:
        path: The lock file.
        command: What to tell others who want it.
        token: The run's own, where one run holds several subjects; by default a new one.
        waiting: Wait until it is free, and tell this who holds it; None does not wait.

    Yields:
        The run's token, and whether a run that was killed left the lock.

    Raises:
        SubjectBusy: Another run holds it.
        BadInput: The lock's file cannot be written.
    """
    with _opened(path) as descriptor:
        previous = _take(path, descriptor, fcntl.LOCK_EX, waiting)
        if previous is not None:
            _bury(previous)
        owner = _new_owner(command, token)
        _write_owner(descriptor, owner)
        try:
            yield owner.token, previous is not None
        finally:
            _write_owner(descriptor, None)


def _bury(previous: Owner) -> None:
    """End what a killed run left running, and remove its temporary files."""
    end_orphans(previous.token)
    # It stands in a file that anybody may have written.
    if re.fullmatch(r"[0-9a-f]{32}", str(previous.token)):
        shutil.rmtree(scratch_folder(previous.token), ignore_errors=True)


def scratch_folder(token: str) -> Path:
    """Where the processes of a run keep temporary files, so that the next run finds them when this one is killed."""
    return Path(tempfile.gettempdir()) / f"radnerf-{token[:12]}"


def _new_owner(command: str, token: str | None) -> Owner:
    since = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    return Owner(os.getpid(), socket.gethostname(), since, command, token or uuid4().hex)


@contextmanager
def shared_lock(path: Path, waiting: Waiting | None = None) -> Iterator[bool]:
    """Keep a subject from being changed for the length of the block, together with others who only read it.

    Args:
        path: The subject's lock file.
        waiting: As for ``subject_lock``.

    Yields:
        Whether a run that was killed left the lock.

    Raises:
        SubjectBusy: A run that may change the subject holds it.
        BadInput: The lock's file cannot be written.
    """
    with _opened(path) as descriptor:
        left_over = False
        # Alone at first, if that can be had: only then nobody else sees what a killed run left.
        if _try(descriptor, fcntl.LOCK_EX):
            previous = _take(path, descriptor, fcntl.LOCK_EX, waiting)
            left_over = previous is not None
            if previous is not None:
                _bury(previous)
                _write_owner(descriptor, None)
        _take(path, descriptor, fcntl.LOCK_SH, waiting)
        yield left_over


@contextmanager
def stage_lock(path: Path, command: str, *others: Path) -> Iterator[bool]:
    """Hold a subject for one stage run by hand; nothing when the run that started this process holds it already.

    Args:
        path: The subject's lock file.
        command: What to tell others who want it.
        others: Lock files that the run may hold in its place: its speech's.

    Yields:
        Whether the stage is run by hand.

    Raises:
        SubjectBusy: Another run holds it.
    """
    token = os.environ.get(VARIABLE)
    if token:
        for held in (path, *others):
            try:
                owner = Owner(**json.loads(held.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                continue
            if owner.token == token:
                yield False
                return
    with subject_lock(path, command):
        yield True


def watch_owner() -> None:
    """End this process, checkpoint saved, soon after the run that started it is gone; does nothing by hand.

    A run that is killed cannot end its stages itself. On another machine of a cluster its end cannot be seen.
    """
    text = os.environ.get(OWNER_VARIABLE, "")
    host, _, process = text.rpartition("/")
    number, _, born = process.partition(":")
    if host == socket.gethostname() and number.isdigit():
        threading.Thread(target=_watch, args=(int(number), born), name="radnerf-owner", daemon=True).start()


def owner_mark() -> str:
    """What ``watch_owner`` finds this process by: its machine, number and birth."""
    return f"{socket.gethostname()}/{os.getpid()}:{_born(os.getpid())}"


def _born(pid: int) -> str:
    """When a process began; empty when it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


def _watch(pid: int, born: str) -> None:
    while _born(pid) == born:
        time.sleep(OWNER_POLL_S)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        os.kill(os.getpid(), number)
        time.sleep(ORPHAN_PATIENCE_S)


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

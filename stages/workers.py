"""Worker processes that do not outlive the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from stages.errors import RadnerfError

T = TypeVar("T")


def end_with_parent() -> None:
    """Call in a worker: it ends as soon as the process that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="radnerf-parent", daemon=True).start()


def result_of(future: Future[T]) -> T:
    """What a worker made.

    Raises:
        RadnerfError: A worker was killed from outside.
    """
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RadnerfError(
            "a process of this stage was killed from outside",
            hint="too little memory is the usual reason; the same command goes on",
        ) from error

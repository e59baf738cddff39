"""Cutting a clip into chunks for two processes, with the results in order and few of them in memory."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

import cv2

from stages.workers import end_with_parent, result_of

Job = TypeVar("Job")
T = TypeVar("T")

CHUNK_FRAMES = 50
"""Frames that one call of a worker handles."""

_WORTH_A_PROCESS = 3  # chunks; starting a process that imports MediaPipe takes as long as a chunk
_MOST_WORKERS = 2


def chunks(count: int) -> list[range]:
    """Contiguous stretches of frames that make up ``count`` frames."""
    return [range(start, min(start + CHUNK_FRAMES, count)) for start in range(0, count, CHUNK_FRAMES)]


def map_chunks(work: Callable[[Job], T], jobs: Sequence[Job]) -> Iterator[T]:
    """Call ``work`` on every chunk's job, in two processes when there are many, and yield the results in order.

    Args:
        work: A picklable callable.
        jobs: What each call gets, picklable: one for every stretch of ``chunks``.
    """
    workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    if workers < 2 or len(jobs) < _WORTH_A_PROCESS:
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker) as pool:
        pending: deque[Future[T]] = deque()
        try:
            for job in jobs:
                pending.append(pool.submit(work, job))
                if len(pending) > workers:
                    yield result_of(pending.popleft())
            while pending:
                yield result_of(pending.popleft())
        finally:
            for future in pending:
                future.cancel()


def _prepare_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(1)

"""Encoding beside rendering: order, errors either way, and what happens to frames that wait."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.errors import RadnerfError
from stages.frame_queue import FrameQueue


class _Slow:
    """A writer that takes its time, and fails when told to."""

    def __init__(self, fail_at: int = -1) -> None:
        self.frames: list[NDArray[np.uint8]] = []
        self.threads: set[int] = set()
        self._fail_at = fail_at

    def write(self, frame: NDArray[np.uint8]) -> None:
        time.sleep(0.001)
        if len(self.frames) == self._fail_at:
            raise RadnerfError("the disk is full")
        self.frames.append(frame)
        self.threads.add(threading.get_ident())


def _numbered(number: int) -> NDArray[np.uint8]:
    return np.full((1, 1, 3), number, np.uint8)


def test_queued_frames_arrive_in_order_from_one_other_thread() -> None:
    writer = _Slow()
    with FrameQueue(writer) as waiting:
        for number in range(40):
            waiting.put(_numbered(number))
    assert [int(frame[0, 0, 0]) for frame in writer.frames] == list(range(40))
    assert len(writer.threads) == 1
    assert threading.get_ident() not in writer.threads


def _feed(writer: _Slow, count: int, error: Exception | None = None) -> None:
    with FrameQueue(writer) as waiting:
        for number in range(count):
            waiting.put(_numbered(number))
        if error is not None:
            raise error


@pytest.mark.parametrize("fail_at", [0, 39])
def test_a_writers_failure_reaches_the_renderer(fail_at: int) -> None:
    with pytest.raises(RadnerfError, match="disk is full"):
        _feed(_Slow(fail_at), 40)


def test_a_failed_block_drops_what_waits() -> None:
    writer = _Slow()
    with pytest.raises(ValueError, match="render"):
        _feed(writer, 8, ValueError("render"))
    assert len(writer.frames) < 8


def test_pending_frames_are_waited_for_in_the_writers_thread() -> None:
    writer, fetched_in = _Slow(), []

    def pending() -> NDArray[np.uint8]:
        fetched_in.append(threading.get_ident())
        return _numbered(len(fetched_in))

    with FrameQueue(writer) as waiting:
        for _ in range(3):
            waiting.put(pending)
        waiting.put(_numbered(9))
    assert [int(frame[0, 0, 0]) for frame in writer.frames] == [1, 2, 3, 9]
    assert set(fetched_in) == writer.threads


def test_a_pending_frame_that_fails_reaches_the_renderer() -> None:
    def broken() -> NDArray[np.uint8]:
        raise RadnerfError("the GPU is gone")

    def feed() -> None:
        with FrameQueue(_Slow()) as waiting:
            waiting.put(broken)

    with pytest.raises(RadnerfError, match="GPU is gone"):
        feed()

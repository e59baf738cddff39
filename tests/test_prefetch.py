"""Drawing ahead: the same numbers in the same order, and none lost."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from radnerf.prefetch import Ahead

TOTAL = 6


def _ahead(*, ahead: bool, seed: int = 3) -> tuple[Ahead[Tensor], torch.Generator, list[int]]:
    generator = torch.Generator().manual_seed(seed)
    made: list[int] = []

    def make(number: int) -> Tensor:
        made.append(number)
        # As many numbers as the step has, so that a wrong order shows.
        return torch.rand(number + 1, generator=generator)

    return Ahead(make, generator, ahead=ahead), generator, made


def test_being_ahead_changes_no_number() -> None:
    results = []
    for ahead in (False, True):
        drawer, generator, made = _ahead(ahead=ahead)
        results.append([drawer.take(number, TOTAL) for number in range(TOTAL)])
        assert made == list(range(TOTAL))
        results.append([generator.get_state()])
    for one, other in zip(results[0] + results[1], results[2] + results[3], strict=True):
        assert torch.equal(one, other)


def test_what_nobody_took_is_given_back() -> None:
    slow, at_once = _ahead(ahead=False)[:2]
    fast, ahead = _ahead(ahead=True)[:2]
    for number in range(3):
        assert torch.equal(slow.take(number, TOTAL), fast.take(number, TOTAL))
    fast.rewind()
    assert torch.equal(at_once.get_state(), ahead.get_state())
    fast.rewind()
    # Another step than the next one: after going back to an earlier state.
    assert torch.equal(slow.take(1, TOTAL), fast.take(1, TOTAL))
    assert torch.equal(slow.take(4, TOTAL), fast.take(4, TOTAL))


def test_the_next_step_is_made_beside_this_one_and_its_failure_is_raised_there() -> None:
    threads: list[str] = []

    def make(number: int) -> int:
        threads.append(threading.current_thread().name)
        if number == 1:
            raise OSError("the disk has gone")
        return number

    drawer = Ahead(make, torch.Generator(), ahead=True)
    assert drawer.take(0, TOTAL) == 0
    with pytest.raises(OSError, match="the disk has gone"):
        drawer.take(1, TOTAL)
    assert all(name.startswith("radnerf-pictures") for name in threads)

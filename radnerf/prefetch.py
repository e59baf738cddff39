"""What the next step needs, made ready while this one is under way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


class Ahead(Generic[Item]):
    """Hands out what each step needs; made one step ahead in a thread of its own, or when it is asked for.

    All that is random in it comes from one generator, which nobody else may use. Being ahead changes nothing: the
    numbers are drawn in the steps' order, and ``rewind`` gives back those that were drawn for nothing.
    """

    def __init__(self, make: Callable[[int], Item], generator: torch.Generator, *, ahead: bool) -> None:
        """Make nothing yet.

        Args:
            make: Makes what the step of a number needs; called in the order of the steps.
            generator: What it draws from.
            ahead: Whether to be a step ahead.
        """
        self._make, self._generator = make, generator
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="radnerf-pictures") if ahead else None
        self._waiting: tuple[int, Future[tuple[Tensor, Item]]] | None = None

    def take(self, number: int, total: int) -> Item:
        """What a step needs; what the next one needs is begun.

        Args:
            number: Of the step.
            total: Steps in all: nothing is made for those beyond.
        """
        if self._pool is None:
            return self._make(number)
        if self._waiting is None or self._waiting[0] != number:
            self.rewind()
            self._waiting = (number, self._pool.submit(self._remembering, number))
        item = self._waiting[1].result()[1]
        following = number + 1
        self._waiting = (following, self._pool.submit(self._remembering, following)) if following < total else None
        return item

    def rewind(self) -> None:
        """Bring the generator back to where it was before what nobody has taken was drawn."""
        if self._waiting is not None:
            self._generator.set_state(self._waiting[1].result()[0])
            self._waiting = None

    def _remembering(self, number: int) -> tuple[Tensor, Item]:
        before = self._generator.get_state()
        return before, self._make(number)

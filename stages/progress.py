"""How a stage says how far it is, without knowing who listens.

The command line installs a listener (a progress bar, a file that another process follows, nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Attributes:
        label: What is being done, for people: ``"parsing"``.
        done: Units finished.
        total: Units in all; 0 when nobody knows.
        note: Figures worth seeing: ``"loss 0.0021 PSNR 29.8 dB"``.
    """

    label: str
    done: int
    total: int
    note: str = ""


Listener = Callable[[Progress], None]

_listener: ContextVar[Listener | None] = ContextVar("radnerf_progress_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every report made inside the block to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(label: str, done: int, total: int, note: str = "") -> None:
    """Tell whoever listens how far the work is; does nothing when nobody does."""
    listener = _listener.get()
    if listener is not None:
        listener(Progress(label, done, total, note))


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yield the items, reporting after each."""
    report(label, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        report(label, done, total)

"""Step until done, saving at intervals and when interrupted: the loop that head and torso share."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from radnerf.errors import Diverged
from radnerf.schedule import StepReport, read_reports
from stages import progress
from stages.checkpoint import flatten, load_checkpoint, restore, save_checkpoint, unflatten
from stages.errors import DELETE_AND_REPEAT, BadInput

_STATE_FORMAT = 3  # of the trainers' states; a state of another one is as good as none
_REPORT_EVERY = 10
_MOST_RETURNS = 5
_ASTRAY_TIMES, _ASTRAY_MSE = 10.0, 0.02  # a picture worse than 17 dB that was ten times better
_LOWER = "lower {0}.grid_rate and {0}.network_rate"
Point = dict[str, Any]
"""Of a history: step, seconds, loss (None when it was not finite), psnr_db, rate; skipped where steps were left out so
far; went_back_from and why where training went back to that step."""


class Trainer(Protocol):
    """What the loop steps, saves and resumes.

    Attributes:
        step_number: Steps done.
        first_rates: The optimiser's rates at step 0, from which those of every step follow.
    """

    step_number: int
    first_rates: list[float]

    @property
    def rate(self) -> float:
        """The grids' learning rate at the last step."""

    @property
    def total_steps(self) -> int:
        """Steps in all."""

    @property
    def skipped(self) -> int:
        """Steps left out since the last good one."""

    @property
    def skipped_in_all(self) -> int:
        """Steps left out so far, since something in them was not finite."""

    def step(self) -> StepReport:
        """Do one step; on a GPU its report need not be there yet."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs besides the model."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


@dataclass(frozen=True)
class Resumable:
    """Where a training's state is kept, and for whom it is good.

    Attributes:
        path: The file.
        kind: ``"head-state"`` or ``"torso-state"``.
        fingerprint: Of the settings and inputs; another one makes the state useless.
        every_s: Seconds between checkpoints.
    """

    path: Path
    kind: str
    fingerprint: str
    every_s: float

    def save(self, model: torch.nn.Module, trainer: Trainer, history: list[Point]) -> None:
        """Write everything that going on needs, atomically."""
        skeleton, tensors = flatten({"model": model.state_dict(), "trainer": trainer.state_dict()})
        header = {
            "fingerprint": self.fingerprint,
            "format": _STATE_FORMAT,
            "state": skeleton,
            "history": history,
            "first_rates": trainer.first_rates,
        }
        save_checkpoint(self.path, self.kind, header, tensors)

    def load(self, model: torch.nn.Module, trainer: Trainer) -> list[Point] | None:
        """Go on from the state if it is there, whole, and of the same settings and inputs.

        Returns:
            The history so far; None when training begins anew.
        """
        try:
            header, tensors = load_checkpoint(self.path, self.kind)
        except BadInput:
            return None
        if header.get("fingerprint") != self.fingerprint or header.get("format") != _STATE_FORMAT:
            return None
        try:
            state = unflatten(header["state"], tensors)
            history = [dict(point) for point in header["history"]]
            restore(model, state["model"], self.path)
            trainer.load_state_dict(state["trainer"])
            trainer.first_rates = [float(rate) for rate in header.get("first_rates", trainer.first_rates)]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise BadInput(
                f"{self.path} is damaged: {' '.join(str(error).split())[:200]}",
                hint=DELETE_AND_REPEAT,
            ) from error
        return history


def seconds_of(history: list[Point]) -> float:
    """Seconds of training in all, over every resumption."""
    return float(history[-1]["seconds"]) if history else 0.0


def told(history: list[Point]) -> dict[str, Any]:
    """What a training's history file says of every training: its seconds, steps left out since not finite, points."""
    skipped = max((int(point.get("skipped", 0)) for point in history), default=0)
    return {"seconds": seconds_of(history), "skipped_steps": skipped, "points": history}


def times_gone_back(history: list[Point]) -> int:
    """How often training went back to an earlier state and on with lower rates."""
    return sum("went_back_from" in point for point in history)


def train(label: str, trainer: Trainer, model: torch.nn.Module, state: Resumable, history: list[Point]) -> None:
    """Step until done.

    Ctrl-C and a polite kill wait for the end of the step, so that what is saved is what an undisturbed training has
    at that step. Where numbers are no longer finite, or the error grows to a multiple of what it was, training goes
    back to the last good state and on with half the rates.

    Args:
        label: What is trained, for whoever watches.
        trainer: Does the steps.
        model: What is trained.
        state: Where the state is kept.
        history: Points so far; grows in place.

    Raises:
        Diverged: Training went astray again and again; the last good state is kept.
        KeyboardInterrupt: It was interrupted; the state is saved.
    """
    if not history:
        state.save(model, trainer, history)
    with _deferred() as asked:
        run = _Run(label, trainer, model, state, history, asked)
        while True:
            try:
                run.steps()
            except Diverged as error:
                run.go_back(error)
            else:
                return


class _Run:
    """A training from one state of its own to the next."""

    def __init__(
        self,
        label: str,
        trainer: Trainer,
        model: torch.nn.Module,
        state: Resumable,
        history: list[Point],
        asked: list[int],
    ) -> None:
        self.label, self.trainer, self.model, self.state, self.history = label, trainer, model, state, history
        self.asked = asked
        self.before, self.started = seconds_of(history), time.monotonic()
        self.running_mse = self.best_mse = math.nan
        self.unread: list[StepReport] = []

    def steps(self) -> None:
        """Step to the end, saving now and then."""
        trainer, saved = self.trainer, time.monotonic()
        while trainer.step_number < trainer.total_steps:
            self.unread.append(trainer.step())
            due = trainer.step_number % _REPORT_EVERY == 0 or trainer.step_number == trainer.total_steps
            # A GPU that is asked after every step waits for the program in between.
            if due or not self.unread[-1].is_late:
                report = self._read()
            if due:
                point = _point(trainer, report, self.running_mse, self.before + time.monotonic() - self.started)
                self.history.append(point)
                progress.report(self.label, trainer.step_number, trainer.total_steps, _note(point, report))
            if self.asked:
                self._save()
                raise KeyboardInterrupt
            # Amid steps that were left out the last state is still the better one.
            if time.monotonic() - saved > self.state.every_s and not trainer.skipped:
                self._save()
                saved = time.monotonic()
        self._save()

    def _read(self) -> StepReport:
        """Read and follow what the steps since the last time found; the last one's report."""
        reports = read_reports(self.unread)
        self.unread.clear()
        for report in reports:
            self._follow(report)
        return reports[-1]

    def _follow(self, report: StepReport) -> None:
        """Keep an eye on the error.

        Raises:
            Diverged: It is far above what it was.
        """
        if not math.isfinite(report.mse):
            return
        mean = report.mse if math.isnan(self.running_mse) else 0.98 * self.running_mse + 0.02 * report.mse
        self.running_mse = mean
        self.best_mse = mean if math.isnan(self.best_mse) else min(self.best_mse, mean)
        if mean > max(_ASTRAY_TIMES * self.best_mse, _ASTRAY_MSE):
            raise Diverged(
                f"the error grew to {mean / self.best_mse:.0f} times what it was by step {self.trainer.step_number}",
                hint=_LOWER.format(self.label),
            )

    def _save(self) -> None:
        """Save the state if it is a good one.

        Raises:
            Diverged: A weight is not finite.
        """
        if not all(bool(torch.isfinite(value.detach().sum())) for value in self.model.parameters()):
            raise Diverged(
                f"a weight was not finite at step {self.trainer.step_number}", hint=_LOWER.format(self.label)
            )
        self.state.save(self.model, self.trainer, self.history)

    def go_back(self, error: Diverged) -> None:
        """Return to the last good state and halve the rates.

        Raises:
            Diverged: That was done too often already.
        """
        trainer, astray = self.trainer, self.trainer.step_number
        self.unread.clear()
        spent = self.before + time.monotonic() - self.started
        if times_gone_back(self.history) >= _MOST_RETURNS:
            raise Diverged(
                f"{error.message}, after going back {_MOST_RETURNS} times to half the rates", hint=error.hint
            ) from error
        earlier = self.state.load(self.model, trainer)
        if earlier is None:
            raise error
        self.history[:] = earlier
        trainer.first_rates = [rate / 2 for rate in trainer.first_rates]
        self.history.append(
            {
                "step": trainer.step_number,
                "seconds": round(spent, 3),
                "loss": None,
                "psnr_db": None,
                "rate": trainer.first_rates[0],
                "went_back_from": astray,
                "why": error.message,
            }
        )
        self.running_mse = self.best_mse = math.nan
        self.state.save(self.model, trainer, self.history)
        note = f"{error.message}: back to step {trainer.step_number} with half the rates"
        progress.report(f"{self.label} went astray", trainer.step_number, trainer.total_steps, note)


@contextmanager
def _deferred() -> Iterator[list[int]]:
    """Note SIGINT, SIGTERM and SIGHUP for the block to heed; a second one interrupts at once.

    Yields:
        The signals that came; empty so far, and for ever in a thread that gets none.
    """
    asked: list[int] = []

    def note(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # Who ignores a signal, or leaves it to the system, keeps doing so.
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    former = {number: handler for number, handler in former.items() if callable(handler)}
    for number in former:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _point(trainer: Trainer, report: StepReport, running_mse: float, seconds: float) -> Point:
    """One point of the history."""
    point = {
        "step": trainer.step_number,
        "seconds": round(seconds, 3),
        "loss": round(report.loss, 6) if math.isfinite(report.loss) else None,
        "psnr_db": None if math.isnan(running_mse) else round(-10 * math.log10(max(running_mse, 1e-10)), 3),
        "rate": trainer.rate,
    }
    skipped = trainer.skipped_in_all
    return point | ({"skipped": skipped} if skipped else {})


def _note(point: Point, report: StepReport) -> str:
    """The figures worth seeing."""
    parts = [f"loss {report.loss:.5f}"]
    if point["psnr_db"] is not None:
        parts.append(f"PSNR {point['psnr_db']:.1f} dB")
    if report.samples_per_ray is not None:
        parts.append(f"{report.samples_per_ray:.1f} samples/ray")
    if "skipped" in point:
        parts.append(f"{point['skipped']} steps left out")
    return "  ".join(parts)

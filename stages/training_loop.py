"""Step until done, saving at intervals and when interrupted: the loop that head and torso share."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from radnerf.errors import Diverged
from radnerf.schedule import StepReport
from stages import progress
from stages.checkpoint import flatten, load_checkpoint, restore, save_checkpoint, unflatten
from stages.errors import BadInput

_REPORT_EVERY = 10
Point = dict[str, Any]
"""Of a history: step, seconds, loss (None when it was not finite), psnr_db, rate."""


class Trainer(Protocol):
    """What the loop steps, saves and resumes."""

    step_number: int

    @property
    def rate(self) -> float:
        """The grids' learning rate at the last step."""

    @property
    def total_steps(self) -> int:
        """Steps in all."""

    def step(self) -> StepReport:
        """Do one step."""

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
        header = {"fingerprint": self.fingerprint, "state": skeleton, "history": history}
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
        if header.get("fingerprint") != self.fingerprint:
            return None
        state = unflatten(header["state"], tensors)
        restore(model, state["model"], self.path)
        trainer.load_state_dict(state["trainer"])
        history: list[Point] = header["history"]
        return history


def seconds_of(history: list[Point]) -> float:
    """Seconds of training in all, over every resumption."""
    return float(history[-1]["seconds"]) if history else 0.0


def train(label: str, trainer: Trainer, model: torch.nn.Module, state: Resumable, history: list[Point]) -> None:
    """Step until done.

    Args:
        label: What is trained, for whoever watches.
        trainer: Does the steps.
        model: What is trained.
        state: Where the state is kept.
        history: Points so far; grows in place.

    Raises:
        Diverged: Training met numbers that are not finite and could not go on; the last good state is kept.
    """
    before = seconds_of(history)
    started = saved = time.monotonic()
    running_mse = math.nan
    try:
        while trainer.step_number < trainer.total_steps:
            report = trainer.step()
            if math.isfinite(report.mse):
                running_mse = report.mse if math.isnan(running_mse) else 0.98 * running_mse + 0.02 * report.mse
            if trainer.step_number % _REPORT_EVERY == 0 or trainer.step_number == trainer.total_steps:
                point = _point(trainer, report, running_mse, before + time.monotonic() - started)
                history.append(point)
                progress.report(label, trainer.step_number, trainer.total_steps, _note(point, report))
            if time.monotonic() - saved > state.every_s:
                state.save(model, trainer, history)
                saved = time.monotonic()
    except Diverged:
        raise
    except BaseException:
        # Ctrl-C and the like: nothing that was learnt is lost.
        state.save(model, trainer, history)
        raise
    state.save(model, trainer, history)


def _point(trainer: Trainer, report: StepReport, running_mse: float, seconds: float) -> Point:
    """One point of the history."""
    return {
        "step": trainer.step_number,
        "seconds": round(seconds, 3),
        "loss": round(report.loss, 6) if math.isfinite(report.loss) else None,
        "psnr_db": None if math.isnan(running_mse) else round(-10 * math.log10(max(running_mse, 1e-10)), 3),
        "rate": trainer.rate,
    }


def _note(point: Point, report: StepReport) -> str:
    """The figures worth seeing."""
    parts = [f"loss {report.loss:.5f}"]
    if point["psnr_db"] is not None:
        parts.append(f"PSNR {point['psnr_db']:.1f} dB")
    if report.samples_per_ray is not None:
        parts.append(f"{report.samples_per_ray:.1f} samples/ray")
    return "  ".join(parts)

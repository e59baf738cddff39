"""Steps of Adam that leave out what is not finite, without anybody waiting for the device to find out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from radnerf.errors import Diverged
from radnerf.schedule import Average

GIVE_UP_AFTER = 10
"""Steps left out in a row that end a training."""

_FIRST_SCALE, _MOST_SCALE = 2.0**16, 2.0**24
_PATIENCE = 2000  # good steps before the scale is doubled


class Descent:
    """Adam (arXiv 1412.6980) on float32 parameters, their moving average, and a count of the steps left out.

    A step whose loss or gradient is not finite leaves parameters and moments as they were. That is decided where the
    numbers are: what is counted is read when ``check`` asks for it.

    Where networks multiply in float16, small gradients would vanish on their way back. So the loss is multiplied by a
    scale first, and Adam divides by it (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2). A scale that is too
    large makes a step that is left out, and is halved; after many good steps it is doubled.

    Attributes:
        optimiser: With its rates as of the last step.
        average: Of the parameters.
        scale: Scalar that losses are multiplied by; None for 1.
    """

    def __init__(
        self, groups: list[dict[str, Any]], averaged: Iterable[Tensor], ema_decay: float, *, scaled: bool, label: str
    ) -> None:
        """Begin.

        Args:
            groups: Adam's groups, each with its ``params`` and ``lr``.
            averaged: What is averaged.
            ema_decay: Of the average.
            scaled: Whether losses are scaled.
            label: Of the settings that hold the rates, for who has to lower them: ``"head"`` or ``"torso"``.
        """
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.average = Average(averaged, ema_decay)
        self._label = label
        device = next(value.device for group in groups for value in group["params"])
        # Steps left out in a row, steps left out in all, good steps since the scale was changed.
        self._counts = torch.zeros(3, device=device)
        self.scale = torch.full((), _FIRST_SCALE, device=device) if scaled else None

    @property
    def skipped(self) -> int:
        """Steps left out since the last good one; waits for the device."""
        return int(self._counts[0])

    @property
    def skipped_in_all(self) -> int:
        """Steps left out so far; waits for the device."""
        return int(self._counts[1])

    def step(self, loss: Tensor, rates: Sequence[float]) -> None:
        """Go down a loss, unless something in it is not finite.

        Args:
            loss: Scalar float32.
            rates: Of each group.
        """
        if loss.device.type == "cpu" and not torch.isfinite(loss):
            self._count(torch.ones_like(loss.detach()))
            return
        self.optimiser.zero_grad(set_to_none=True)
        (loss if self.scale is None else loss * self.scale).backward()  # type: ignore[no-untyped-call]
        bad = self._bad(loss.detach())
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate
        # What torch's own gradient scaler hands to the fused kernel: it then leaves everything as it is.
        self.optimiser.found_inf, self.optimiser.grad_scale = bad, self.scale  # type: ignore[attr-defined]
        self.optimiser.step()
        self._count(bad)

    def _bad(self, loss: Tensor) -> Tensor:
        """1 where the loss or a gradient is not finite, else 0; one sum tells, since NaN and infinity survive it."""
        parameters = (value for group in self.optimiser.param_groups for value in group["params"])
        sums = [value.grad.sum() for value in parameters if value.grad is not None]
        return (~torch.isfinite(torch.stack([loss, *sums]).sum())).to(loss.dtype)

    def _count(self, bad: Tensor) -> None:
        """Count a step, and change the scale."""
        in_a_row, in_all, good = self._counts.unbind()
        good = (good + 1) * (1 - bad)
        if self.scale is not None:
            enough = (good >= _PATIENCE).to(good.dtype)
            self.scale = (self.scale * (1 + enough) * (1 - bad / 2)).clamp(1, _MOST_SCALE)
            good = good * (1 - enough)
        self._counts = torch.stack([(in_a_row + bad) * bad, in_all + bad, good])

    def check(self, step: int) -> None:
        """Wait for the steps so far.

        Args:
            step: Number of the last one, for the message.

        Raises:
            Diverged: Too many in a row were left out.
        """
        if self.skipped >= GIVE_UP_AFTER:
            raise Diverged(
                f"numbers were not finite in {self.skipped} steps in a row, the last at step {step}",
                hint=f"lower {self._label}.grid_rate and {self._label}.network_rate",
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that going on needs."""
        return {
            "counts": self._counts,
            "scale": self.scale,
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.values,
            "average_updates": self.average.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; what was left out on the way that is given up stays counted."""
        counts = state["counts"].to(self._counts.device)
        self._counts = torch.stack([counts[0], torch.maximum(counts[1], self._counts[1]), counts[2]])
        if self.scale is not None and state["scale"] is not None:
            self.scale = state["scale"].to(self._counts.device)
        self.optimiser.load_state_dict(state["optimiser"])
        for value, stored in zip(self.average.values, state["average"], strict=True):
            value.copy_(stored)
        self.average.updates = int(state["average_updates"])

"""How rates fall and weights are averaged over a training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepReport:
    """What a step of training found. Reading a number waits until the step's device has come so far.

    Attributes:
        figures: (3,) float: the loss with all of its terms, the mean squared error of the drawn pixels, and the samples
            of a drawn ray on the mean; the last is not a number where no rays are marched.
    """

    figures: Tensor

    @property
    def is_late(self) -> bool:
        """Whether the numbers may not be there yet."""
        return self.figures.device.type != "cpu"

    @property
    def loss(self) -> float:
        """All terms."""
        return float(self.figures[0])

    @property
    def mse(self) -> float:
        """Mean squared error of the drawn pixels."""
        return float(self.figures[1])

    @property
    def samples_per_ray(self) -> float | None:
        """Mean over the drawn rays; None where no rays are marched."""
        samples = float(self.figures[2])
        return None if math.isnan(samples) else samples


def step_report(loss: Tensor, mse: Tensor, samples_per_ray: Tensor | None = None) -> StepReport:
    """A report, without waiting for any of it.

    Args:
        loss: Scalar.
        mse: Scalar.
        samples_per_ray: Scalar; None where no rays are marched.
    """
    samples = torch.full_like(loss, math.nan) if samples_per_ray is None else samples_per_ray
    return StepReport(torch.stack([loss.detach(), mse.detach(), samples.detach().to(loss.dtype)]))


def read_reports(reports: Sequence[StepReport]) -> list[StepReport]:
    """The same reports with their numbers at hand, which are waited for once.

    Args:
        reports: At least one, all of one training.
    """
    figures = torch.stack([report.figures for report in reports]).cpu()
    return [StepReport(row) for row in figures]


def decayed(step: int, steps: int, final_share: float = 0.1) -> float:
    """Exponential decay from 1 to ``final_share``.

    Args:
        step: Steps done, 0 to ``steps``.
        steps: Steps in all.
        final_share: Factor at the end.

    Returns:
        The factor on the first learning rate.
    """
    return float(final_share ** (step / max(steps, 1)))


class Average:
    """Exponential moving average of parameters (EMA), updated every few steps.

    The first updates weigh more, so that the average does not remember the initial values.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        """Begin with the parameters as they are.

        Args:
            parameters: What is averaged.
            decay: Weight of the past at each update, [0, 1).
        """
        self.parameters = list(parameters)
        self.decay = decay
        self.updates = 0
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' present values in."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and parameters; a second call undoes it."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            held = parameter.clone()
            parameter.copy_(value)
            value.copy_(held)

"""How rates fall and weights are averaged over a training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepReport:
    """What a step of training found.

    Attributes:
        loss: All terms.
        mse: Mean squared error of the drawn pixels.
        samples_per_ray: Mean over the drawn rays; None where no rays are marched.
    """

    loss: float
    mse: float
    samples_per_ray: float | None = None


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

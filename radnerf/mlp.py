"""Bias-free multi-layer perceptrons whose input is partly the same for many rows."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConditionedMLP(nn.Module):
    """ReLU network on rows ``[x, membership @ condition]``, without building that matrix.

    The first layer is linear, so the condition's share of it is computed once for each of the few
    conditions (a frame each) and handed to the rows that belong to it.

    Attributes:
        precision: What all layers but the last multiply in; that of the parameters when None. The last one, whose
            results are exponents, coordinates and colours, always multiplies in that of the parameters.
    """

    precision: torch.dtype | None = None

    def __init__(self, width_in: int, width_condition: int, width_hidden: int, width_out: int, layers: int) -> None:
        """Make the layers.

        Args:
            width_in: Columns of ``x``.
            width_condition: Columns of ``condition``; 0 for none.
            width_hidden: Of each of the ``layers - 1`` hidden layers.
            width_out: Columns of the result.
            layers: Matrices in all, at least 2.
        """
        super().__init__()
        widths = [width_in + width_condition, *[width_hidden] * (layers - 1), width_out]
        self.width_in = width_in
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(after, before).uniform_(-1, 1).mul_(math.sqrt(6 / (before + after))))
            for before, after in pairwise(widths)
        )

    def forward(self, x: Tensor, condition: Tensor | None = None, membership: Tensor | None = None) -> Tensor:
        """Evaluate the network.

        Args:
            x: (N, width_in) float.
            condition: (B, width_condition) float; None when the network has no condition.
            membership: (N, B) float, one 1 in each row, which condition it has; None when B is 1. A matrix
                rather than indices, since the gradient of a product is far faster than that of a gather.

        Returns:
            (N, width_out) float.
        """
        first, *middle, last = self.weights
        kind = self.precision or first.dtype
        hidden = functional.linear(x.to(kind), first[:, : self.width_in].to(kind))
        if condition is not None:
            share = functional.linear(condition, first[:, self.width_in :]).to(kind)
            hidden = hidden + share if membership is None else torch.addmm(hidden, membership.to(kind), share)
        for weight in middle:
            hidden = functional.linear(torch.relu(hidden), weight.to(kind))
        return functional.linear(torch.relu(hidden).to(last.dtype), last)

    def folded(self, condition: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The network for one condition, which becomes the first layer's bias.

        Args:
            condition: (1, width_condition) float.

        Returns:
            weights: The matrices, the first one (width_hidden, width_in).
            bias: (width_hidden,) float, of the first layer.
        """
        first, *rest = [weight.detach() for weight in self.weights]
        bias = functional.linear(condition, first[:, self.width_in :])[0]
        return (first[:, : self.width_in].contiguous(), *rest), bias


def use_precision(model: nn.Module, precision: torch.dtype) -> None:
    """Let all networks of a model multiply in a precision; their parameters stay what they are.

    Args:
        model: Holds any number of ``ConditionedMLP``.
        precision: float16 or bfloat16 for less than float32.
    """
    for module in model.modules():
        if isinstance(module, ConditionedMLP):
            module.precision = None if precision == torch.float32 else precision

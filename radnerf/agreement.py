"""How well two series of a mouth's components go together."""

from __future__ import annotations

import torch
from torch import Tensor

_STRETCH_FRAMES = 50


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's, column by column, (M,); 0 where a column does not move."""
    one, other = one - one.mean(0), other - other.mean(0)
    spread = (one.square().mean(0) * other.square().mean(0)).sqrt()
    return torch.where(spread > 1e-9, (one * other).mean(0) / spread.clamp(min=1e-9), 0)


def correlation_within(one: Tensor, other: Tensor) -> Tensor:
    """Mean of the correlations within stretches of two seconds, column by column, (M,).

    Whether the lips move with the sound is what is seen; not whether one sentence is spoken wider than another.
    """
    pairs = zip(torch.split(one, _STRETCH_FRAMES), torch.split(other, _STRETCH_FRAMES), strict=True)
    whole = [correlation(*pair) for pair in pairs if len(pair[0]) > _STRETCH_FRAMES // 2]
    return torch.stack(whole or [correlation(one, other)]).mean(0)

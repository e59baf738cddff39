"""Layers over one another."""

from __future__ import annotations

from torch import Tensor


def over(image: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """Put a premultiplied layer over an opaque one (Porter and Duff 1984).

    Args:
        image: (N, 3) colour, premultiplied by alpha.
        alpha: (N,) in [0, 1].
        background: (N, 3) or (3,) colour.

    Returns:
        (N, 3) colour.
    """
    return image + (1 - alpha)[:, None] * background

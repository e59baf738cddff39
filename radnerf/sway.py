"""How a body sways: a smooth displacement of the picture, known by its control points (a biquadratic Bézier patch)."""

from __future__ import annotations

import torch
from torch import Tensor

NODES = 3
"""Control points along an edge of the picture."""

# Rows: powers 0, 1, 2 of u; columns: the quadratic Bernstein polynomials (1 - u)^2, 2 u (1 - u), u^2.
_POWERS = ((1.0, 0.0, 0.0), (-2.0, 2.0, 0.0), (1.0, -2.0, 1.0))


def influence(places: Tensor) -> Tensor:
    """How much each control point moves each place.

    Args:
        places: (..., 2) float32, x and y over the picture's side.

    Returns:
        (..., 9) float32, rows of control points from the top; each place's sum to 1.
    """
    rest = 1 - places
    x, y = torch.stack([rest * rest, 2 * places * rest, places * places], dim=-1).unbind(-2)
    return (y[..., :, None] * x[..., None, :]).flatten(-2)


def displacement(control: Tensor, places: Tensor) -> Tensor:
    """How far places of the picture are displaced.

    Args:
        control: (..., 3, 3, 2) float32, rows of control points from the top, each x and y over the picture's side.
        places: (..., N, 2) float32, x and y over the picture's side.

    Returns:
        (..., N, 2) float32, over the picture's side.
    """
    return influence(places) @ control.flatten(-3, -2)


def as_powers(control: Tensor) -> Tensor:
    """A displacement's polynomial, as kernels evaluate it.

    Args:
        control: (..., 3, 3, 2) float32, as ``displacement`` takes it.

    Returns:
        (..., 3, 3, 2) float32: coefficient [j, i] belongs to y^j x^i.
    """
    change = torch.tensor(_POWERS, dtype=control.dtype, device=control.device)
    return torch.einsum("ja,ib,...abk->...jik", change, change, control)

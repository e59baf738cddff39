"""Fixed encodings of directions and coordinates."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spherical_harmonics(directions: Tensor) -> Tensor:
    """Real spherical harmonics up to degree 3, which let colour depend on the viewing direction.

    Args:
        directions: (N, 3) float, unit, world.

    Returns:
        (N, 16) float, orthonormal basis values in the order (l, m) = (0,0), (1,-1), (1,0), … (3,3).
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    xy, yz, xz = x * y, y * z, x * z
    one = torch.ones_like(x)
    return torch.stack(
        [
            0.28209479177387814 * one,
            -0.48860251190291987 * y,
            0.48860251190291987 * z,
            -0.48860251190291987 * x,
            1.0925484305920792 * xy,
            -1.0925484305920792 * yz,
            0.31539156525252005 * (3.0 * zz - 1.0),
            -1.0925484305920792 * xz,
            0.5462742152960396 * (xx - yy),
            -0.5900435899266435 * y * (3.0 * xx - yy),
            2.890611442640554 * xy * z,
            -0.4570457994644658 * y * (5.0 * zz - 1.0),
            0.3731763325901154 * z * (5.0 * zz - 3.0),
            -0.4570457994644658 * x * (5.0 * zz - 1.0),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3.0 * yy),
        ],
        dim=-1,
    )


def frequency_encode(values: Tensor, bands: int) -> Tensor:
    """Positional encoding, arXiv 2003.08934 equation 4, with the value itself in front.

    Args:
        values: (N, D) float.
        bands: Number of octaves L.

    Returns:
        (N, D * (1 + 2 L)) float: values, then sin and cos of 2^0 π … 2^(L-1) π times them.
    """
    scales = math.pi * 2.0 ** torch.arange(bands, dtype=values.dtype, device=values.device)
    angles = (values[:, None, :] * scales[:, None]).flatten(1)
    return torch.cat([values, torch.sin(angles), torch.cos(angles)], dim=-1)

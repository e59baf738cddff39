"""Where rays meet the box."""

from __future__ import annotations

import torch
from torch import Tensor

# A direction's component below this is taken for this, with its sign. Division by an exact 0 is fine on its
# own (+-inf orders rightly), but an origin that lies in a face's plane then gives 0 / 0 = NaN, which every
# later minimum and maximum carries on. 1e-15 shifts a crossing by less than float32 can tell at any distance
# where the ray is still in a box of sensible size.
_SMALLEST = 1e-15


def intersect_aabb(rays_o: Tensor, rays_d: Tensor, aabb: Tensor) -> tuple[Tensor, Tensor]:
    """Intersect rays with an axis-aligned box by slabs (Kay and Kajiya 1986).

    Args:
        rays_o: (N, 3) origins, world.
        rays_d: (N, 3) directions, world; t is in units of their length.
        aabb: (2, 3) lower and upper corner, world.

    Returns:
        near (N,) and far (N,), near at least 0 (an origin inside the box has near = 0). A ray that misses,
        or has the box behind it, has near >= far. Never NaN for finite input.
    """
    tiny = torch.full_like(rays_d, _SMALLEST).masked_fill_(rays_d < 0, -_SMALLEST)
    direction = torch.where(rays_d.abs() < _SMALLEST, tiny, rays_d)
    first = (aabb[0] - rays_o) / direction
    second = (aabb[1] - rays_o) / direction
    near = torch.minimum(first, second).amax(dim=-1).clamp(min=0)
    far = torch.maximum(first, second).amin(dim=-1)
    return near, far

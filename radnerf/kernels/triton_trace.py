"""Marching for pictures: float32, from cell to cell by whole numbers, into one row of a table for each sample.

The same samples as ``march`` places, up to rounding. Nothing waits for the device: the table has room for every ray's
most samples, and the rays that have any are gathered in a list, so that the next kernel's blocks are full.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton.language as tl
from torch import Tensor

from radnerf.kernels.reference import ARC_SHRINK
from radnerf.kernels.triton_jit import kernel, piece, programs

_BLOCK = 32
_TINY = tl.constexpr(1e-15)
_SHRINK = tl.constexpr(ARC_SHRINK)

# A length that float32 rounds to just above a whole number of steps still gets that number of samples.
_SLACK = tl.constexpr(1e-4)


@dataclass(frozen=True)
class Traced:
    """Samples of R rays.

    Attributes:
        times: (max_samples, R) float32, distance of each sample in cm; undefined from a ray's count on.
        steps: (R,) float32, cm that each sample stands for.
        counts: (R,) int32, samples of each ray.
        listed: (R,) int32, the rays that have samples, in any order; undefined from ``alive`` on.
        alive: (1,) int32, how many these are.
    """

    times: Tensor
    steps: Tensor
    counts: Tensor
    listed: Tensor
    alive: Tensor


@piece
def _slab(origin: tl.tensor, direction: tl.tensor, low: tl.tensor, high: tl.tensor) -> tl.tensor:
    """A direction that can be divided by, and where rays enter and leave an axis' slab."""
    direction = tl.where(tl.abs(direction) < _TINY, tl.where(direction < 0.0, -_TINY, _TINY), direction)
    first = (low - origin) / direction
    second = (high - origin) / direction
    return direction, tl.minimum(first, second), tl.maximum(first, second)


@piece
def _plane(index: tl.tensor, origin: tl.tensor, direction: tl.tensor, low: tl.tensor, cell: tl.tensor) -> tl.tensor:
    """Where rays leave their cell along an axis."""
    return (low + (index + (direction > 0.0).to(tl.int32)).to(tl.float32) * cell - origin) / direction


@kernel
def _trace(
    origins: tl.tensor,
    directions: tl.tensor,
    occupancy: tl.tensor,
    aabb: tl.tensor,
    times: tl.tensor,
    steps: tl.tensor,
    counts: tl.tensor,
    listed: tl.tensor,
    alive: tl.tensor,
    rays: tl.tensor,
    size: tl.tensor,
    max_samples: tl.tensor,
    min_step: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = r < rays
    ox = tl.load(origins + 3 * r, mask=live, other=0.0)
    oy = tl.load(origins + 3 * r + 1, mask=live, other=0.0)
    oz = tl.load(origins + 3 * r + 2, mask=live, other=0.0)
    dx = tl.load(directions + 3 * r, mask=live, other=1.0)
    dy = tl.load(directions + 3 * r + 1, mask=live, other=1.0)
    dz = tl.load(directions + 3 * r + 2, mask=live, other=1.0)
    lx, ly, lz = tl.load(aabb), tl.load(aabb + 1), tl.load(aabb + 2)
    hx, hy, hz = tl.load(aabb + 3), tl.load(aabb + 4), tl.load(aabb + 5)
    dx, near_x, far_x = _slab(ox, dx, lx, hx)
    dy, near_y, far_y = _slab(oy, dy, ly, hy)
    dz, near_z, far_z = _slab(oz, dz, lz, hz)
    near = tl.maximum(tl.maximum(near_x, near_y), tl.maximum(near_z, 0.0))
    end = tl.minimum(tl.minimum(far_x, far_y), far_z) - near
    going = live & (end > 0.0) & (near < 1e30)
    # From where the ray enters: float32 is finest near 0.
    near = tl.where(going, near, 0.0)
    ox += near * dx
    oy += near * dy
    oz += near * dz
    cx, cy, cz = (hx - lx) / size, (hy - ly) / size, (hz - lz) / size
    length = tl.zeros([BLOCK], tl.float32)
    count = tl.zeros([BLOCK], tl.int32)
    step = length
    for phase in tl.static_range(2):
        ix = tl.where(going, tl.minimum(tl.maximum(tl.floor((ox - lx) / cx), 0.0), size - 1.0), 0.0).to(tl.int32)
        iy = tl.where(going, tl.minimum(tl.maximum(tl.floor((oy - ly) / cy), 0.0), size - 1.0), 0.0).to(tl.int32)
        iz = tl.where(going, tl.minimum(tl.maximum(tl.floor((oz - lz) / cz), 0.0), size - 1.0), 0.0).to(tl.int32)
        tx = _plane(ix, ox, dx, lx, cx)
        ty = _plane(iy, oy, dy, ly, cy)
        tz = _plane(iz, oz, dz, lz, cz)
        t = tl.zeros([BLOCK], tl.float32)
        passed = tl.zeros([BLOCK], tl.float32)
        number = tl.zeros([BLOCK], tl.int32)
        arc = 0.5 * _SHRINK * step
        while tl.max(going.to(tl.int32), axis=0) > 0:
            upto = tl.maximum(tl.minimum(tl.minimum(tx, ty), tl.minimum(tz, end)), t)
            full = tl.load(occupancy + (ix * size + iy) * size + iz, mask=going, other=0) != 0
            begin = passed
            passed = tl.where(full, passed + (upto - t), passed)
            if phase == 1:
                here = full & (number < count) & (arc < passed)
                while tl.max(here.to(tl.int32), axis=0) > 0:
                    place = number.to(tl.int64) * rays + r
                    tl.store(times + place, near + t + (arc - begin), mask=here)
                    number = tl.where(here, number + 1, number)
                    arc = (number.to(tl.float32) + 0.5) * _SHRINK * step
                    here = here & (number < count) & (arc < passed)
            over_x = (tx <= ty) & (tx <= tz)
            over_y = (ty <= tz) & (tx > ty)
            over_z = (tz < ty) & (tx > tz)
            ix = tl.where(over_x, tl.where(dx > 0.0, ix + 1, ix - 1), ix)
            iy = tl.where(over_y, tl.where(dy > 0.0, iy + 1, iy - 1), iy)
            iz = tl.where(over_z, tl.where(dz > 0.0, iz + 1, iz - 1), iz)
            tx = _plane(ix, ox, dx, lx, cx)
            ty = _plane(iy, oy, dy, ly, cy)
            tz = _plane(iz, oz, dz, lz, cz)
            inside = (ix >= 0) & (ix < size) & (iy >= 0) & (iy < size) & (iz >= 0) & (iz < size)
            going = going & inside & (upto < end)
            if phase == 1:
                going = going & (number < count)
            t = upto
        if phase == 0:
            length = passed
            many = tl.minimum(tl.maximum(tl.ceil(length / min_step - _SLACK), 1.0), max_samples * 1.0)
            count = tl.where(length > 0.0, many, 0.0).to(tl.int32)
            step = length / tl.maximum(count, 1).to(tl.float32)
            going = count > 0
        else:
            # Rounding may leave a ray's last sample unplaced; it is not counted then.
            tl.store(counts + r, number, mask=live)
            tl.store(steps + r, step, mask=live)
            some = (number > 0).to(tl.int32)
            first = tl.atomic_add(alive, tl.sum(some, axis=0), sem="relaxed")
            tl.store(listed + first + tl.cumsum(some, axis=0) - some, r, mask=some > 0)


def trace(rays_o: Tensor, rays_d: Tensor, occupancy: Tensor, aabb: Tensor, max_samples: int, min_step: float) -> Traced:
    """Place samples in the middles of their shares, between where each ray enters and leaves the box.

    Args:
        rays_o: (R, 3) float32, contiguous, cm, world.
        rays_d: (R, 3) float32, contiguous, unit, world.
        occupancy: (G, G, G) bool, indexed [x, y, z].
        aabb: (2, 3) float32, cm, world.
        max_samples: Most samples of one ray.
        min_step: Finest sampling, cm.

    Returns:
        The samples.
    """
    rays, device = len(rays_o), rays_o.device
    times = torch.empty(max_samples, rays, device=device)
    steps = torch.empty(rays, device=device)
    counts, listed = (torch.empty(rays, dtype=torch.int32, device=device) for _ in range(2))
    alive = torch.zeros(1, dtype=torch.int32, device=device)
    cells = occupancy.contiguous().view(torch.int8)
    made = (times, steps, counts, listed, alive)
    if rays:
        sizes = (rays, occupancy.shape[0], max_samples, float(min_step))
        _trace[(programs(rays, _BLOCK),)](rays_o, rays_d, cells, aabb.contiguous(), *made, *sizes, _BLOCK, num_warps=1)
    return Traced(*made)

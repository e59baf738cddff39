"""Ray marching to a compact list: measure each ray, sum the counts up, place the samples.

Both passes walk from cell to cell in float64, in the order of ``radnerf.kernels.cpu_rays``, whose comments hold here
too. They are launched without fused multiply-adds, so that samples agree with the other backends' bit for bit.
"""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from radnerf.kernels.protocol import Samples
from radnerf.kernels.reference import ARC_SHRINK, COUNT_SLACK, LAST_FRACTION
from radnerf.kernels.triton_jit import kernel, piece, programs

# Rays of a program: one warp, since a walk ends with its slowest ray.
_BLOCK = 32
_SLACK = tl.constexpr(COUNT_SLACK)
_SHRINK = tl.constexpr(ARC_SHRINK)
_LAST_FRACTION = tl.constexpr(LAST_FRACTION)


@piece
def _crossing(
    plane: tl.tensor, origin: tl.tensor, direction: tl.tensor, low: tl.tensor, cell: tl.tensor, size: tl.tensor
) -> tl.tensor:
    """Where rays cross planes of an axis; infinity if there is no such plane."""
    there = (direction != 0.0) & (plane >= 0) & (plane <= size)
    distance = (low + plane.to(tl.float64) * cell - origin) / tl.where(there, direction, 1.0)
    return tl.where(there, distance, float("inf"))


@piece
def _first_plane(
    start: tl.tensor, origin: tl.tensor, direction: tl.tensor, low: tl.tensor, cell: tl.tensor, size: tl.tensor
) -> tl.tensor:
    """The first plane of an axis that rays cross after start; one outside 0 to size if none."""
    place = (origin + start * direction - low) / cell
    place = tl.where(place == place, place, 0.0)
    place = tl.minimum(tl.maximum(place, -1.0), size + 1.0)
    turn = tl.where(direction > 0.0, 1, -1)
    plane = tl.minimum(tl.maximum(tl.floor(place).to(tl.int32) - turn, 0), size)
    behind = (direction != 0.0) & (_crossing(plane, origin, direction, low, cell, size) <= start)
    while tl.max(behind.to(tl.int32), axis=0) > 0:
        plane = tl.where(behind, plane + turn, plane)
        behind = behind & (_crossing(plane, origin, direction, low, cell, size) <= start)
    return tl.where(direction != 0.0, plane, -1)


@kernel
def _walk(
    origins: tl.tensor,
    directions: tl.tensor,
    near: tl.tensor,
    far: tl.tensor,
    occupancy: tl.tensor,
    aabb: tl.tensor,
    jitter: tl.tensor,
    lengths: tl.tensor,
    counts: tl.tensor,
    offsets: tl.tensor,
    t_out: tl.tensor,
    dt_out: tl.tensor,
    ray_out: tl.tensor,
    rays: tl.tensor,
    size: tl.tensor,
    max_samples: tl.tensor,
    numbers: tl.tensor,
    PLACE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Measure rays, filling lengths and counts; or, knowing these, place their samples."""
    r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = r < rays
    ox = tl.load(origins + 3 * r, mask=live, other=0.0).to(tl.float64)
    oy = tl.load(origins + 3 * r + 1, mask=live, other=0.0).to(tl.float64)
    oz = tl.load(origins + 3 * r + 2, mask=live, other=0.0).to(tl.float64)
    dx = tl.load(directions + 3 * r, mask=live, other=1.0).to(tl.float64)
    dy = tl.load(directions + 3 * r + 1, mask=live, other=1.0).to(tl.float64)
    dz = tl.load(directions + 3 * r + 2, mask=live, other=1.0).to(tl.float64)
    t = tl.load(near + r, mask=live, other=0.0).to(tl.float64)
    # As Python's max: what is not a number stays so, and its ray ends at once.
    t = tl.where(t < 0.0, 0.0, t)
    end = tl.load(far + r, mask=live, other=0.0).to(tl.float64)
    lx, ly, lz = tl.load(aabb).to(tl.float64), tl.load(aabb + 1).to(tl.float64), tl.load(aabb + 2).to(tl.float64)
    cx = (tl.load(aabb + 3).to(tl.float64) - lx) / size
    cy = (tl.load(aabb + 4).to(tl.float64) - ly) / size
    cz = (tl.load(aabb + 5).to(tl.float64) - lz) / size
    going = live & (t < end)
    length = tl.zeros([BLOCK], tl.float64)
    number = tl.zeros([BLOCK], tl.int64)
    first = number
    wanted = number
    step = length
    last = length
    if PLACE:
        first = tl.load(offsets + r, mask=live, other=0)
        wanted = tl.load(offsets + r + 1, mask=live, other=0) - first
        shift = tl.load(jitter + r, mask=live, other=0.0).to(tl.float64)
        whole = tl.load(lengths + r, mask=live, other=0.0)
        step = whole / tl.maximum(wanted, 1).to(tl.float64)
        last = whole * _LAST_FRACTION
        going = going & (wanted > 0)
        apart = step * _SHRINK
        arc = tl.minimum(shift * apart, last)
    kx = _first_plane(t, ox, dx, lx, cx, size)
    ky = _first_plane(t, oy, dy, ly, cy, size)
    kz = _first_plane(t, oz, dz, lz, cz, size)
    tx = _crossing(kx, ox, dx, lx, cx, size)
    ty = _crossing(ky, oy, dy, ly, cy, size)
    tz = _crossing(kz, oz, dz, lz, cz, size)
    while tl.max(going.to(tl.int32), axis=0) > 0:
        upto = tl.minimum(tl.minimum(tx, ty), tl.minimum(tz, end))
        middle = 0.5 * (t + upto)
        x = tl.floor((ox + middle * dx - lx) / cx)
        y = tl.floor((oy + middle * dy - ly) / cy)
        z = tl.floor((oz + middle * dz - lz) / cz)
        inside = going & (x >= 0.0) & (x < size) & (y >= 0.0) & (y < size) & (z >= 0.0) & (z < size)
        x = tl.where(inside, x, 0.0).to(tl.int64)
        y = tl.where(inside, y, 0.0).to(tl.int64)
        z = tl.where(inside, z, 0.0).to(tl.int64)
        occupied = inside & (tl.load(occupancy + (x * size + y) * size + z, mask=inside, other=0) != 0)
        begin = length
        length = tl.where(occupied, begin + (upto - t), length)
        if PLACE:
            here = occupied & (number < wanted) & (arc < length)
            while tl.max(here.to(tl.int32), axis=0) > 0:
                where = first + number
                tl.store(t_out + where, (t + (arc - begin)).to(t_out.dtype.element_ty), mask=here)
                tl.store(dt_out + where, step.to(dt_out.dtype.element_ty), mask=here)
                tl.store(ray_out + where, r, mask=here)
                number = tl.where(here, number + 1, number)
                arc = tl.minimum((number.to(tl.float64) + shift) * apart, last)
                here = here & (number < wanted) & (arc < length)
            going = going & (number < wanted)
        over_x = going & (upto == tx)
        over_y = going & (upto == ty) & (upto != tx)
        over_z = going & (upto == tz) & (upto != tx) & (upto != ty)
        kx = tl.where(over_x, tl.where(dx > 0.0, kx + 1, kx - 1), kx)
        ky = tl.where(over_y, tl.where(dy > 0.0, ky + 1, ky - 1), ky)
        kz = tl.where(over_z, tl.where(dz > 0.0, kz + 1, kz - 1), kz)
        tx = tl.where(over_x, _crossing(kx, ox, dx, lx, cx, size), tx)
        ty = tl.where(over_y, _crossing(ky, oy, dy, ly, cy, size), ty)
        tz = tl.where(over_z, _crossing(kz, oz, dz, lz, cz, size), tz)
        going = (over_x | over_y | over_z) & (upto < end)
        t = tl.where(going, upto, t)
    if not PLACE:
        # Numbers in double precision would be narrowed as arguments.
        min_step = tl.load(numbers)
        many = tl.ceil(length / min_step - _SLACK)
        many = tl.minimum(tl.maximum(many, 1.0), max_samples * 1.0)
        tl.store(lengths + r, length, mask=live)
        tl.store(counts + r, tl.where(length > 0.0, many, 0.0).to(tl.int64), mask=live)


def march(
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    occupancy: Tensor,
    aabb: Tensor,
    max_samples: int,
    min_step: float,
    jitter: Tensor,
    capacity: int | None = None,
) -> Samples:
    """Place samples as ``Backend.march``, on tensors that were checked; its arguments are explained there.

    With a ``capacity`` there is room for so many samples and nothing waits for the device: the lists are as long as
    that, beyond ``offsets[-1]`` they hold zeros, and rays whose samples find no room have none. Without it the
    device's total is read, once, and the lists are exactly as long.

    Returns:
        The samples.
    """
    rays, device = len(rays_o), rays_o.device
    given = [tensor.contiguous() for tensor in (rays_o, rays_d, near, far)]
    given += [occupancy.contiguous().view(torch.int8), aabb.contiguous(), jitter.contiguous()]
    lengths = torch.empty(rays, dtype=torch.float64, device=device)
    counts = torch.empty(rays, dtype=torch.int64, device=device)
    offsets = torch.zeros(rays + 1, dtype=torch.int64, device=device)
    numbers = torch.full((1,), min_step, dtype=torch.float64, device=device)
    nothing = rays_o.new_empty(1)
    sizes = (rays, occupancy.shape[0], max_samples, numbers)
    if rays:
        none = (nothing, nothing, counts)
        _walk[(programs(rays, _BLOCK),)](
            *given, lengths, counts, offsets, *none, *sizes, False, _BLOCK, num_warps=1, enable_fp_fusion=False
        )
    torch.cumsum(counts, 0, out=offsets[1:])
    if capacity is not None:
        # A ray that was cut off in the middle would stand for less than its length.
        offsets = torch.cummax(offsets.masked_fill(offsets > capacity, 0), 0).values
    room = int(offsets[-1]) if capacity is None else capacity
    make = torch.empty if capacity is None else torch.zeros
    t, dt = (make(room, dtype=rays_o.dtype, device=device) for _ in range(2))
    ray = make(room, dtype=torch.int64, device=device)
    if rays and room:
        _walk[(programs(rays, _BLOCK),)](
            *given, lengths, counts, offsets, t, dt, ray, *sizes, True, _BLOCK, num_warps=1, enable_fp_fusion=False
        )
    return Samples(offsets, t, dt, ray)

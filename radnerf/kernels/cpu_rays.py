"""Ray marching and compositing in numba, parallel over rays.

Both do their sums in the order and precision of the reference, so that samples agree bit for bit and rays end
at the same sample; ``radnerf.kernels.protocol`` has the contract.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from radnerf.kernels.cpu_jit import inlined, parallel
from radnerf.kernels.reference import ARC_SHRINK, COUNT_SLACK, LAST_FRACTION

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Cells = NDArray[np.bool_]

# Rays that one thread takes at once: few enough to share out evenly, enough to make handing them out cheap.
CHUNK = 64


@inlined
def _crossing(plane: int, origin: float, direction: float, low: float, cell: float, size: int) -> float:
    """Return t where a ray crosses one of an axis' size + 1 planes; infinity if there is no such plane."""
    if direction == 0.0 or plane < 0 or plane > size:
        return np.inf
    return (low + plane * cell - origin) / direction


@inlined
def _first_plane(start: float, origin: float, direction: float, low: float, cell: float, size: int) -> int:
    """Return the first plane of an axis that a ray crosses after start; one outside 0 to size if none."""
    if direction == 0.0:
        return -1
    place = min(max((origin + start * direction - low) / cell, -1.0), size + 1.0)
    # Rounding may misplace the estimate by one plane: begin before it and skip what lies behind.
    turn = 1 if direction > 0.0 else -1
    plane = min(max(math.floor(place) - turn, 0), size)
    while 0 <= plane <= size and _crossing(plane, origin, direction, low, cell, size) <= start:
        plane += turn
    return plane


@inlined
def _walk(
    origin: Doubles,
    direction: Doubles,
    start: float,
    end: float,
    occupancy: Cells,
    low: Doubles,
    cell: Doubles,
    jitter: float,
    step: float,
    last: float,
    t_out: Floats,
) -> float:
    """Walk a ray from cell to cell; fill t_out, near to far, and return the occupied length."""
    size = occupancy.shape[0]
    ox, oy, oz = origin[0], origin[1], origin[2]
    dx, dy, dz = direction[0], direction[1], direction[2]
    kx = _first_plane(start, ox, dx, low[0], cell[0], size)
    ky = _first_plane(start, oy, dy, low[1], cell[1], size)
    kz = _first_plane(start, oz, dz, low[2], cell[2], size)
    tx = _crossing(kx, ox, dx, low[0], cell[0], size)
    ty = _crossing(ky, oy, dy, low[1], cell[1], size)
    tz = _crossing(kz, oz, dz, low[2], cell[2], size)
    t, length, number = start, 0.0, 0
    arc = min(jitter * step, last)
    while t < end:
        upto = min(tx, ty, tz, end)
        middle = 0.5 * (t + upto)
        x = math.floor((ox + middle * dx - low[0]) / cell[0])
        y = math.floor((oy + middle * dy - low[1]) / cell[1])
        z = math.floor((oz + middle * dz - low[2]) / cell[2])
        if 0 <= x < size and 0 <= y < size and 0 <= z < size and occupancy[int(x), int(y), int(z)]:
            begin = length
            length = begin + (upto - t)
            while number < t_out.shape[0] and arc < length:
                t_out[number] = t + (arc - begin)
                number += 1
                arc = min((number + jitter) * step, last)
        if upto == tx:
            kx += 1 if dx > 0.0 else -1
            tx = _crossing(kx, ox, dx, low[0], cell[0], size)
        elif upto == ty:
            ky += 1 if dy > 0.0 else -1
            ty = _crossing(ky, oy, dy, low[1], cell[1], size)
        elif upto == tz:
            kz += 1 if dz > 0.0 else -1
            tz = _crossing(kz, oz, dz, low[2], cell[2], size)
        else:
            break
        t = upto
    return length


@parallel
def measure_rays(
    rays_o: Floats,
    rays_d: Floats,
    near: Floats,
    far: Floats,
    occupancy: Cells,
    aabb: Floats,
    max_samples: int,
    min_step: float,
    lengths: Doubles,
    counts: Integers,
) -> None:
    """Fill each ray's occupied length and number of samples."""
    rays = rays_o.shape[0]
    low = aabb[0].astype(np.float64)
    cell = (aabb[1].astype(np.float64) - low) / occupancy.shape[0]
    for chunk in prange((rays + CHUNK - 1) // CHUNK):
        nothing = np.empty(0, np.float32)
        for r in range(chunk * CHUNK, min(rays, (chunk + 1) * CHUNK)):
            origin, direction = rays_o[r].astype(np.float64), rays_d[r].astype(np.float64)
            start, end = max(np.float64(near[r]), 0.0), np.float64(far[r])
            lengths[r] = _walk(origin, direction, start, end, occupancy, low, cell, 0.0, 0.0, 0.0, nothing)
            counts[r] = 0
            if lengths[r] > 0.0:
                wanted = math.ceil(lengths[r] / min_step - COUNT_SLACK)
                counts[r] = int(min(max(wanted, 1.0), float(max_samples)))


@parallel
def place_samples(
    rays_o: Floats,
    rays_d: Floats,
    near: Floats,
    far: Floats,
    occupancy: Cells,
    aabb: Floats,
    jitter: Floats,
    lengths: Doubles,
    offsets: Integers,
    t: Floats,
    dt: Floats,
    ray: Integers,
) -> None:
    """Fill the samples of each ray."""
    rays = rays_o.shape[0]
    low = aabb[0].astype(np.float64)
    cell = (aabb[1].astype(np.float64) - low) / occupancy.shape[0]
    for chunk in prange((rays + CHUNK - 1) // CHUNK):
        for r in range(chunk * CHUNK, min(rays, (chunk + 1) * CHUNK)):
            first, beyond = offsets[r], offsets[r + 1]
            if beyond == first:
                continue
            step = lengths[r] / (beyond - first)
            dt[first:beyond] = step
            ray[first:beyond] = r
            origin, direction = rays_o[r].astype(np.float64), rays_d[r].astype(np.float64)
            start, end = max(np.float64(near[r]), 0.0), np.float64(far[r])
            last = lengths[r] * LAST_FRACTION
            some = t[first:beyond]
            _walk(
                origin,
                direction,
                start,
                end,
                occupancy,
                low,
                cell,
                np.float64(jitter[r]),
                step * ARC_SHRINK,
                last,
                some,
            )


@parallel
def composite_forward(
    sigma: Floats,
    rgb: Floats,
    t: Floats,
    dt: Floats,
    offsets: Integers,
    limit: float,
    rays_out: Floats,
    weights: Floats,
    after: Floats,
) -> None:
    """Fill (R, 5) colour, alpha and depth, (S,) weights, and (S,) transmittance after each sample that counts."""
    rays = offsets.shape[0] - 1
    for chunk in prange((rays + CHUNK - 1) // CHUNK):
        for r in range(chunk * CHUNK, min(rays, (chunk + 1) * CHUNK)):
            red = green = blue = alpha = depth = np.float32(0)
            # In float64, as torch's cumsum adds: the sample at which a ray ends must not depend on rounding.
            total = 0.0
            for s in range(offsets[r], offsets[r + 1]):
                optical = sigma[s] * dt[s]
                before = np.float32(total)
                total += optical
                if before <= limit:
                    reaching = math.exp(-before)
                    weight = -math.expm1(-optical) * reaching
                    weights[s] = weight
                    after[s] = math.exp(-optical) * reaching
                    red += weight * rgb[s, 0]
                    green += weight * rgb[s, 1]
                    blue += weight * rgb[s, 2]
                    alpha += weight
                    depth += weight * t[s]
                else:
                    weights[s] = np.float32(0)
                    after[s] = np.float32(0)
            rays_out[r, 0], rays_out[r, 1], rays_out[r, 2] = red, green, blue
            rays_out[r, 3], rays_out[r, 4] = min(alpha, np.float32(1)), depth


@parallel
def composite_backward(
    grad_rays: Floats,
    grad_weights: Floats,
    rgb: Floats,
    t: Floats,
    dt: Floats,
    offsets: Integers,
    weights: Floats,
    after: Floats,
    grad_sigma: Floats,
    grad_rgb: Floats,
) -> None:
    """Fill the gradients of density and colour, far to near.

    A sample's optical depth x adds to its own weight, d w / d x = transmittance after it, and takes from all
    weights behind it, d w_behind / d x = -w_behind.
    """
    rays = offsets.shape[0] - 1
    for chunk in prange((rays + CHUNK - 1) // CHUNK):
        for r in range(chunk * CHUNK, min(rays, (chunk + 1) * CHUNK)):
            behind = np.float32(0)
            for s in range(offsets[r + 1] - 1, offsets[r] - 1, -1):
                weight = weights[s]
                g = grad_weights[s] + grad_rays[r, 3] + grad_rays[r, 4] * t[s]
                for c in range(3):
                    g += grad_rays[r, c] * rgb[s, c]
                    grad_rgb[s, c] = weight * grad_rays[r, c]
                grad_sigma[s] = dt[s] * (g * after[s] - behind)
                behind += g * weight

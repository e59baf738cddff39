"""Walking one ray through the occupied cells of the box, once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from radnerf.kernels.cpu_jit import inlined
from radnerf.kernels.reference import ARC_SHRINK, COUNT_SLACK, LAST_FRACTION

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@inlined
def occupied_runs(
    origin: Floats,
    direction: Floats,
    occupancy: NDArray[np.bool_],
    bounds: NDArray[np.int64],
    low: Doubles,
    cell: Doubles,
    begins: Doubles,
    lengths: Doubles,
) -> int:
    """Find the stretches of a ray that lie in occupied cells.

    Args:
        origin: (3,) float32, cm, world.
        direction: (3,) float32, unit, world.
        occupancy: (G, G, G) bool, indexed [x, y, z].
        bounds: (2, 3) int64, the first occupied cell along each axis, and the one after the last.
        low: (3,) float64, the box's lower corner.
        cell: (3,) float64, sides of a cell.
        begins: At least (3 G + 4,) float64; filled with where each run begins, cm along the ray.
        lengths: As ``begins``; filled with the runs' lengths, cm.

    Returns:
        Number of runs, near to far.
    """
    size = len(occupancy)
    start, end = 0.0, np.inf
    for axis in range(3):
        o, d = np.float64(origin[axis]), np.float64(direction[axis])
        least, most = low[axis] + bounds[0, axis] * cell[axis], low[axis] + bounds[1, axis] * cell[axis]
        if d == 0.0:
            if o < least or o > most:
                return 0
        else:
            one, other = (least - o) / d, (most - o) / d
            start, end = max(start, min(one, other)), min(end, max(one, other))
    if not start < end:
        return 0
    # Where the ray is now, and for each axis the next crossing, the distance between crossings, and the direction.
    ix, nx, sx, ux = _axis(start, origin[0], direction[0], low[0], cell[0], size)
    iy, ny, sy, uy = _axis(start, origin[1], direction[1], low[1], cell[1], size)
    iz, nz, sz, uz = _axis(start, origin[2], direction[2], low[2], cell[2], size)
    runs, t, inside = 0, start, False
    while t < end:
        upto = min(nx, ny, nz, end)
        if not occupancy[ix, iy, iz]:
            inside = False
        elif inside:
            lengths[runs - 1] = upto - begins[runs - 1]
        else:
            begins[runs], lengths[runs] = t, upto - t
            runs += 1
            inside = True
        t = upto
        if upto == nx:
            ix += ux
            nx += sx
            if ix < 0 or ix >= size:
                break
        elif upto == ny:
            iy += uy
            ny += sy
            if iy < 0 or iy >= size:
                break
        elif upto == nz:
            iz += uz
            nz += sz
            if iz < 0 or iz >= size:
                break
    return runs


@inlined
def _axis(
    start: float, origin: float, direction: float, low: float, cell: float, size: int
) -> tuple[int, float, float, int]:
    """The cell at ``start``, the next crossing, the distance between crossings, and which way."""
    o, d = np.float64(origin), np.float64(direction)
    index = int(min(max(math.floor((o + start * d - low) / cell), 0.0), size - 1.0))
    if d == 0.0:
        return index, np.inf, np.inf, 0
    way = 1 if d > 0.0 else -1
    plane = index + (1 if d > 0.0 else 0)
    step = float(abs(cell / d))
    crossing = float((low + plane * cell - o) / d)
    # Rounding may have put the start on the wrong side of a plane.
    if crossing <= start:
        index = min(max(index + way, 0), size - 1)
        crossing += step
    return index, crossing, step, way


@inlined
def place_on_runs(
    begins: Doubles, lengths: Doubles, runs: int, max_samples: int, min_step: float, t: Floats
) -> tuple[int, float]:
    """Place a ray's samples in the middle of equal shares of its occupied length, as ``Backend.march`` says.

    Args:
        begins: Where each run begins, cm along the ray.
        lengths: The runs' lengths, cm.
        runs: How many there are.
        max_samples: Most samples.
        min_step: Finest sampling, cm.
        t: (max_samples,) float32; filled with distances along the ray, cm, near to far.

    Returns:
        How many samples there are, and the occupied length, cm.
    """
    total = 0.0
    for run in range(runs):
        total += lengths[run]
    if not total > 0.0:
        return 0, 0.0
    count = int(min(max(math.ceil(total / min_step - COUNT_SLACK), 1.0), float(max_samples)))
    share, last = total / count, total * LAST_FRACTION
    run, before = 0, 0.0
    for sample in range(count):
        arc = min((sample + 0.5) * (share * ARC_SHRINK), last)
        while run < runs - 1 and arc >= before + lengths[run]:
            before += lengths[run]
            run += 1
        t[sample] = begins[run] + (arc - before)
    return count, total

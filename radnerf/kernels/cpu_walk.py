"""Walking one ray through the occupied cells of the box, once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from radnerf.kernels.cpu_jit import inlined
from radnerf.kernels.reference import ARC_SHRINK, COUNT_SLACK, LAST_FRACTION

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Place = tuple[float, float, float]


BRICK = 8
"""Cells along an edge of a brick: rays look through bricks first, and through cells where a brick holds any."""

_SLACK_CM = 1e-6  # by which rounding may part a brick's face from its cells'


@inlined
def fill_bricks(occupancy: NDArray[np.bool_], bricks: NDArray[np.bool_]) -> None:
    """Say which bricks hold an occupied cell.

    Args:
        occupancy: (G, G, G) bool.
        bricks: (B, B, B) bool with B = G / ``BRICK`` rounded up, False everywhere; filled.
    """
    size = len(occupancy)
    for x in range(size):
        for y in range(size):
            for first in range(0, size, BRICK):
                found = False
                for z in range(first, min(first + BRICK, size)):
                    found |= occupancy[x, y, z]
                if found:
                    bricks[x // BRICK, y // BRICK, first // BRICK] = True


@inlined
def _stretch(
    origin: Place, direction: Place, rate: Place, bricks: NDArray[np.bool_], low: Place, cell: Place,
    start: float, end: float,
) -> tuple[float, float]:  # fmt: skip
    """The part of a ray, within a part, from its first occupied brick to its last one; the end first if none is."""
    size = len(bricks)
    ix, nx, sx, ux = _axis(start, origin[0], direction[0], rate[0], low[0], BRICK * cell[0], size)
    iy, ny, sy, uy = _axis(start, origin[1], direction[1], rate[1], low[1], BRICK * cell[1], size)
    iz, nz, sz, uz = _axis(start, origin[2], direction[2], rate[2], low[2], BRICK * cell[2], size)
    t, first, last = start, end, start
    while t < end:
        upto = min(nx, ny, nz, end)
        if bricks[ix, iy, iz]:
            first, last = min(first, t), upto
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
    return max(start, first - _SLACK_CM), min(end, last + _SLACK_CM)


@inlined
def _within(origin: float, direction: float, rate: float, low: float, high: float) -> tuple[float, float]:
    """Where a ray is between two planes of an axis; the end first if nowhere."""
    if direction == 0.0:
        return (-np.inf, np.inf) if low <= origin <= high else (np.inf, -np.inf)
    one, other = (low - origin) * rate, (high - origin) * rate
    return min(one, other), max(one, other)


@inlined
def occupied_runs(
    origin: Place,
    direction: Place,
    occupancy: NDArray[np.bool_],
    bricks: NDArray[np.bool_],
    low: Place,
    cell: Place,
    begins: Doubles,
    lengths: Doubles,
) -> int:
    """Find the stretches of a ray that lie in occupied cells.

    Args:
        origin: Where it begins, cm, world.
        direction: Where it goes, unit, world.
        occupancy: (G, G, G) bool, indexed [x, y, z].
        bricks: What ``fill_bricks`` says of it.
        low: The box's lower corner, cm, world.
        cell: Sides of a cell, cm.
        begins: At least (3 G + 4,) float64; filled with where each run begins, cm along the ray.
        lengths: As ``begins``; filled with the runs' lengths, cm.

    Returns:
        Number of runs, near to far.
    """
    size = len(occupancy)
    # Divided once for each axis: a ray that meets nothing costs little else.
    rate = 1.0 / direction[0], 1.0 / direction[1], 1.0 / direction[2]
    x0, x1 = _within(origin[0], direction[0], rate[0], low[0], low[0] + size * cell[0])
    y0, y1 = _within(origin[1], direction[1], rate[1], low[1], low[1] + size * cell[1])
    z0, z1 = _within(origin[2], direction[2], rate[2], low[2], low[2] + size * cell[2])
    start, end = max(x0, y0, z0, 0.0), min(x1, y1, z1)
    if not start < end:
        return 0
    start, end = _stretch(origin, direction, rate, bricks, low, cell, start, end)
    if not start < end:
        return 0
    # Where the ray is now, and for each axis the next crossing, the distance between crossings, and the direction.
    ix, nx, sx, ux = _axis(start, origin[0], direction[0], rate[0], low[0], cell[0], size)
    iy, ny, sy, uy = _axis(start, origin[1], direction[1], rate[1], low[1], cell[1], size)
    iz, nz, sz, uz = _axis(start, origin[2], direction[2], rate[2], low[2], cell[2], size)
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
    start: float, origin: float, direction: float, rate: float, low: float, cell: float, size: int
) -> tuple[int, float, float, int]:
    """The cell at ``start``, the next crossing, the distance between crossings, and which way."""
    index = int(min(max(math.floor((origin + start * direction - low) / cell), 0.0), size - 1.0))
    if direction == 0.0:
        return index, np.inf, np.inf, 0
    way = 1 if direction > 0.0 else -1
    plane = index + (1 if direction > 0.0 else 0)
    step = abs(cell * rate)
    crossing = (low + plane * cell - origin) * rate
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

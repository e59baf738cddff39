"""A surface out of values on a grid: surface nets (Gibson, Constrained Elastic Surface Nets, MICCAI 1998)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Kind = TypeVar("Kind", np.float32, np.bool_)


def surface_nets(values: Floats, level: float) -> tuple[Floats, Ints]:
    """The surface on which the values cross a level: one vertex in each cell that it passes through.

    Args:
        values: (X, Y, Z) float32 at the corners of a grid.
        level: Inside is where values are larger.

    Returns:
        vertices: (V, 3) float32, in units of the grid: corner (i, j, k) lies at (i, j, k).
        faces: (F, 3) int64 triangles, counter-clockwise seen from outside.
    """
    inside = values > level
    shape = tuple(size - 1 for size in values.shape)
    total = np.zeros((*shape, 3), np.float64)
    crossings = np.zeros(shape, np.int64)
    for axis in range(3):
        low, high = _ends(values, axis)
        crossed = _ends(inside, axis)[0] != _ends(inside, axis)[1]
        way = np.divide(level - low, high - low, out=np.full_like(low, 0.5), where=crossed)
        others = [other for other in range(3) if other != axis]
        for corner in np.ndindex(2, 2):
            part = [slice(None)] * 3
            for other, step in zip(others, corner, strict=True):
                part[other] = slice(step, step + shape[other])
            here = crossed[tuple(part)]
            place = np.zeros((*shape, 3))
            place[..., axis] = way[tuple(part)]
            for other, step in zip(others, corner, strict=True):
                place[..., other] = step
            total += place * here[..., None]
            crossings += here
    cells = np.argwhere(crossings > 0)
    number = np.full(shape, -1, np.int64)
    number[tuple(cells.T)] = np.arange(len(cells))
    mean = total[tuple(cells.T)] / crossings[tuple(cells.T)][:, None]
    faces = [_quads(inside, number, axis) for axis in range(3)]
    return (cells + mean).astype(np.float32), np.concatenate(faces) if faces else np.zeros((0, 3), np.int64)


def _ends(grid: NDArray[Kind], axis: int) -> tuple[NDArray[Kind], NDArray[Kind]]:
    """What lies at both ends of every edge along an axis."""
    size = grid.shape[axis]
    return grid.take(range(size - 1), axis), grid.take(range(1, size), axis)


def _quads(inside: NDArray[np.bool_], number: Ints, axis: int) -> Ints:
    """Two triangles for each edge along an axis that the surface crosses, between the four cells around it."""
    low, high = _ends(inside, axis)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    edges = np.argwhere(low != high)
    # Edges in the grid's outer faces have no four cells around them.
    whole = (edges[:, first] > 0) & (edges[:, second] > 0)
    whole &= (edges[:, first] < number.shape[first]) & (edges[:, second] < number.shape[second])
    edges = edges[whole]
    leaves = low[tuple(edges.T)]
    around = []
    for back_first, back_second in ((1, 1), (0, 1), (0, 0), (1, 0)):
        cell = edges.copy()
        cell[:, first] -= back_first
        cell[:, second] -= back_second
        around.append(number[tuple(cell.T)])
    a, b, c, d = around
    outward = np.stack([a, b, c, a, c, d], axis=1)
    inward = np.stack([a, c, b, a, d, c], axis=1)
    return np.where(leaves[:, None], outward, inward).reshape(-1, 3)

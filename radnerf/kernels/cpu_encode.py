"""Hash grid encoding in numba, made anew for each number of features so that every loop over them unrolls.

A level is a float32 scale and a row of uint32: resolution, offset, entries, hashed. Positions are rounded as
the reference rounds them; ``radnerf.grid`` has the convention. Every uint32 result is cast back, because numba
widens to 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import prange
from numpy.typing import NDArray

from radnerf.kernels.cpu_jit import inlined, parallel

Floats = NDArray[np.float32]
Levels = NDArray[np.uint32]

# Points that one thread takes through all levels: their features stay in the second-level cache meanwhile.
CHUNK = 1024

_PRIME_Y = np.uint32(2654435761)
_PRIME_Z = np.uint32(805459861)
_1U = np.uint32(1)
_1F = np.float32(1)


@inlined
def _locate(x: np.float32, scale: np.float32) -> tuple[np.uint32, np.float32]:
    """Return the vertex below x and how far x is on the way to the next one."""
    position = np.float32(np.float64(x) * np.float64(scale) + 0.5)
    floor = np.floor(position)
    return np.uint32(np.int64(floor)), np.float32(position - floor)


@inlined
def _row(index: np.uint32, offset: np.uint32, entries: np.uint32) -> np.uint64:
    """Return the table's row of an index, which is taken modulo the level's entries."""
    mask = np.uint32(entries - _1U)
    if entries & mask == 0:
        index = np.uint32(index & mask)
    elif index >= entries:
        index = np.uint32(index % entries)
    return np.uint64(offset) + np.uint64(index)


@inlined
def _rows2(px: np.uint32, py: np.uint32, level: Levels) -> tuple[np.uint64, ...]:
    """Return the rows of a cell's 4 corners, x fastest."""
    resolution, offset, entries = level[0], level[1], level[2]
    qx = np.uint32(px + _1U)
    if level[3] != 0:
        y0 = np.uint32(py * _PRIME_Y)
        y1 = np.uint32(y0 + _PRIME_Y)
        i0, i1, i2, i3 = px ^ y0, qx ^ y0, px ^ y1, qx ^ y1
    else:
        y0 = np.uint32(py * resolution)
        y1 = np.uint32(y0 + resolution)
        i0, i1, i2, i3 = px + y0, qx + y0, px + y1, qx + y1
    return (
        _row(np.uint32(i0), offset, entries),
        _row(np.uint32(i1), offset, entries),
        _row(np.uint32(i2), offset, entries),
        _row(np.uint32(i3), offset, entries),
    )


@inlined
def _rows3(px: np.uint32, py: np.uint32, pz: np.uint32, level: Levels) -> tuple[np.uint64, ...]:
    """Return the rows of a cell's 8 corners, x fastest, z slowest."""
    resolution, offset, entries = level[0], level[1], level[2]
    qx = np.uint32(px + _1U)
    if level[3] != 0:
        y0, z0 = np.uint32(py * _PRIME_Y), np.uint32(pz * _PRIME_Z)
        y1, z1 = np.uint32(y0 + _PRIME_Y), np.uint32(z0 + _PRIME_Z)
        a, b, c, d = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
        i0, i1, i2, i3 = px ^ a, qx ^ a, px ^ b, qx ^ b
        i4, i5, i6, i7 = px ^ c, qx ^ c, px ^ d, qx ^ d
    else:
        y0, z0 = np.uint32(py * resolution), np.uint32(pz * np.uint32(resolution * resolution))
        y1, z1 = np.uint32(y0 + resolution), np.uint32(z0 + np.uint32(resolution * resolution))
        a, b, c, d = y0 + z0, y1 + z0, y0 + z1, y1 + z1
        i0, i1, i2, i3 = px + a, qx + a, px + b, qx + b
        i4, i5, i6, i7 = px + c, qx + c, px + d, qx + d
    return (
        _row(np.uint32(i0), offset, entries),
        _row(np.uint32(i1), offset, entries),
        _row(np.uint32(i2), offset, entries),
        _row(np.uint32(i3), offset, entries),
        _row(np.uint32(i4), offset, entries),
        _row(np.uint32(i5), offset, entries),
        _row(np.uint32(i6), offset, entries),
        _row(np.uint32(i7), offset, entries),
    )


@cache
def forward_kernel(dim: int, features: int) -> Callable[..., None]:
    """Return ``kernel(x, table, scales, levels, out)``, parallel over points."""
    return _forward2(features) if dim == 2 else _forward3(features)


@cache
def table_gradient_kernel(dim: int, features: int) -> Callable[..., None]:
    """Return ``kernel(x, grad, scales, levels, threads, grad_table)``, parallel over levels.

    A level's rows are its own, so no thread writes where another does, and the sum's order is fixed.
    """
    return _table_gradient2(features) if dim == 2 else _table_gradient3(features)


@cache
def point_gradient_kernel(dim: int, features: int) -> Callable[..., None]:
    """Return ``kernel(x, grad, table, scales, levels, grad_x)``, parallel over points."""
    return _point_gradient2(features) if dim == 2 else _point_gradient3(features)


def _forward2(features: int) -> Callable[..., None]:
    @parallel
    def forward(x: Floats, table: Floats, scales: Floats, levels: Levels, out: Floats) -> None:
        points = x.shape[0]
        for chunk in prange((points + CHUNK - 1) // CHUNK):
            for level in range(scales.shape[0]):
                for n in range(chunk * CHUNK, min(points, (chunk + 1) * CHUNK)):
                    px, fx = _locate(x[n, 0], scales[level])
                    py, fy = _locate(x[n, 1], scales[level])
                    r0, r1, r2, r3 = _rows2(px, py, levels[level])
                    gx, gy = _1F - fx, _1F - fy
                    for f in range(features):
                        out[n, level * features + f] = (
                            gx * gy * table[r0, f]
                            + fx * gy * table[r1, f]
                            + gx * fy * table[r2, f]
                            + fx * fy * table[r3, f]
                        )

    return forward


def _forward3(features: int) -> Callable[..., None]:
    @parallel
    def forward(x: Floats, table: Floats, scales: Floats, levels: Levels, out: Floats) -> None:
        points = x.shape[0]
        for chunk in prange((points + CHUNK - 1) // CHUNK):
            for level in range(scales.shape[0]):
                for n in range(chunk * CHUNK, min(points, (chunk + 1) * CHUNK)):
                    px, fx = _locate(x[n, 0], scales[level])
                    py, fy = _locate(x[n, 1], scales[level])
                    pz, fz = _locate(x[n, 2], scales[level])
                    r0, r1, r2, r3, r4, r5, r6, r7 = _rows3(px, py, pz, levels[level])
                    gx, gy, gz = _1F - fx, _1F - fy, _1F - fz
                    for f in range(features):
                        out[n, level * features + f] = (
                            gx * gy * gz * table[r0, f]
                            + fx * gy * gz * table[r1, f]
                            + gx * fy * gz * table[r2, f]
                            + fx * fy * gz * table[r3, f]
                            + gx * gy * fz * table[r4, f]
                            + fx * gy * fz * table[r5, f]
                            + gx * fy * fz * table[r6, f]
                            + fx * fy * fz * table[r7, f]
                        )

    return forward


def _table_gradient2(features: int) -> Callable[..., None]:
    @parallel
    def table_gradient(
        x: Floats, grad: Floats, scales: Floats, levels: Levels, threads: int, grad_table: Floats
    ) -> None:
        points, count = x.shape[0], scales.shape[0]
        for thread in prange(threads):
            for chunk in range((points + CHUNK - 1) // CHUNK):
                # Coarse and fine levels alternate between the threads, because the fine ones cost more.
                for level in range(thread, count, threads):
                    for n in range(chunk * CHUNK, min(points, (chunk + 1) * CHUNK)):
                        px, fx = _locate(x[n, 0], scales[level])
                        py, fy = _locate(x[n, 1], scales[level])
                        r0, r1, r2, r3 = _rows2(px, py, levels[level])
                        gx, gy = _1F - fx, _1F - fy
                        for f in range(features):
                            g = grad[n, level * features + f]
                            grad_table[r0, f] += gx * gy * g
                            grad_table[r1, f] += fx * gy * g
                            grad_table[r2, f] += gx * fy * g
                            grad_table[r3, f] += fx * fy * g

    return table_gradient


def _table_gradient3(features: int) -> Callable[..., None]:
    @parallel
    def table_gradient(
        x: Floats, grad: Floats, scales: Floats, levels: Levels, threads: int, grad_table: Floats
    ) -> None:
        points, count = x.shape[0], scales.shape[0]
        for thread in prange(threads):
            for chunk in range((points + CHUNK - 1) // CHUNK):
                # Coarse and fine levels alternate between the threads, because the fine ones cost more.
                for level in range(thread, count, threads):
                    for n in range(chunk * CHUNK, min(points, (chunk + 1) * CHUNK)):
                        px, fx = _locate(x[n, 0], scales[level])
                        py, fy = _locate(x[n, 1], scales[level])
                        pz, fz = _locate(x[n, 2], scales[level])
                        r0, r1, r2, r3, r4, r5, r6, r7 = _rows3(px, py, pz, levels[level])
                        gx, gy, gz = _1F - fx, _1F - fy, _1F - fz
                        for f in range(features):
                            g = grad[n, level * features + f]
                            grad_table[r0, f] += gx * gy * gz * g
                            grad_table[r1, f] += fx * gy * gz * g
                            grad_table[r2, f] += gx * fy * gz * g
                            grad_table[r3, f] += fx * fy * gz * g
                            grad_table[r4, f] += gx * gy * fz * g
                            grad_table[r5, f] += fx * gy * fz * g
                            grad_table[r6, f] += gx * fy * fz * g
                            grad_table[r7, f] += fx * fy * fz * g

    return table_gradient


def _point_gradient2(features: int) -> Callable[..., None]:
    @parallel
    def point_gradient(x: Floats, grad: Floats, table: Floats, scales: Floats, levels: Levels, grad_x: Floats) -> None:
        points = x.shape[0]
        for chunk in prange((points + CHUNK - 1) // CHUNK):
            for level in range(scales.shape[0]):
                for n in range(chunk * CHUNK, min(points, (chunk + 1) * CHUNK)):
                    px, fx = _locate(x[n, 0], scales[level])
                    py, fy = _locate(x[n, 1], scales[level])
                    r0, r1, r2, r3 = _rows2(px, py, levels[level])
                    gx, gy = _1F - fx, _1F - fy
                    for f in range(features):
                        g = scales[level] * grad[n, level * features + f]
                        t0, t1, t2, t3 = table[r0, f], table[r1, f], table[r2, f], table[r3, f]
                        grad_x[n, 0] += g * (gy * (t1 - t0) + fy * (t3 - t2))
                        grad_x[n, 1] += g * (gx * (t2 - t0) + fx * (t3 - t1))

    return point_gradient


def _point_gradient3(features: int) -> Callable[..., None]:
    @parallel
    def point_gradient(x: Floats, grad: Floats, table: Floats, scales: Floats, levels: Levels, grad_x: Floats) -> None:
        points = x.shape[0]
        for chunk in prange((points + CHUNK - 1) // CHUNK):
            for level in range(scales.shape[0]):
                for n in range(chunk * CHUNK, min(points, (chunk + 1) * CHUNK)):
                    px, fx = _locate(x[n, 0], scales[level])
                    py, fy = _locate(x[n, 1], scales[level])
                    pz, fz = _locate(x[n, 2], scales[level])
                    r0, r1, r2, r3, r4, r5, r6, r7 = _rows3(px, py, pz, levels[level])
                    gx, gy, gz = _1F - fx, _1F - fy, _1F - fz
                    for f in range(features):
                        g = scales[level] * grad[n, level * features + f]
                        t0, t1, t2, t3 = table[r0, f], table[r1, f], table[r2, f], table[r3, f]
                        t4, t5, t6, t7 = table[r4, f], table[r5, f], table[r6, f], table[r7, f]
                        along_x0 = gz * (gy * (t1 - t0) + fy * (t3 - t2))
                        along_x1 = fz * (gy * (t5 - t4) + fy * (t7 - t6))
                        along_y0 = gz * (gx * (t2 - t0) + fx * (t3 - t1))
                        along_y1 = fz * (gx * (t6 - t4) + fx * (t7 - t5))
                        along_z0 = gy * (gx * (t4 - t0) + fx * (t5 - t1))
                        along_z1 = fy * (gx * (t6 - t2) + fx * (t7 - t3))
                        grad_x[n, 0] += g * (along_x0 + along_x1)
                        grad_x[n, 1] += g * (along_y0 + along_y1)
                        grad_x[n, 2] += g * (along_z0 + along_z1)

    return point_gradient

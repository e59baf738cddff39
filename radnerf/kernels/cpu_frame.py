"""A frame of a frozen head in one kernel: rays are marched, evaluated and composited a few hundred at a time.

All that a few hundred rays need stays in a core's caches. Samples are taken in waves, a few of each ray that is not
opaque yet, and evaluated in blocks of ``BLOCK`` points, one row of memory a feature, so that the networks are matrix
products over neighbouring points. Samples lie where ``march`` puts them; ``frozen.render_by_parts`` is the
specification.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from radnerf.kernels.cpu_field import BLOCK, VIEWS, PackedHead, evaluate, exp, pack, scratch
from radnerf.kernels.cpu_jit import follow_torch_threads, inlined, parallel
from radnerf.kernels.cpu_simd import TILE, take_next
from radnerf.kernels.cpu_walk import BRICK, fill_bricks, occupied_runs, place_on_runs

if TYPE_CHECKING:
    from radnerf.kernels.protocol import FrozenHead

Floats = NDArray[np.float32]
Pair = tuple[np.float32, np.float32]

RAYS_AT_ONCE = 512
"""Rays that a thread takes at once: their waves fill many blocks, and their numbers fit the cache."""

SAMPLES_A_WAVE = 2
"""Samples of a ray that are evaluated before asking whether it is opaque."""

_0F, _1F = np.float32(0), np.float32(1)


@inlined
def _bent(
    x: np.float32, y: np.float32, warp: Floats, across: int, up: int, low: Pair, rate: Pair
) -> tuple[np.float32, np.float32]:
    """A point's x and y after the warp, as ``radnerf.warp.bend``; the warp is flat, ``up`` nodes of two a column."""
    u, v = np.float32((x - low[0]) * rate[0]), np.float32((y - low[1]) * rate[1])
    i, j = np.int32(u), np.int32(v)
    # The far edge belongs to the last cell.
    i, j = min(i, np.int32(across - 2)), min(j, np.int32(up - 2))
    if u < _0F or v < _0F or u > np.float32(across - 1) or v > np.float32(up - 1) or across < 2:
        return x, y
    fu, fv = np.float32(u - np.float32(i)), np.float32(v - np.float32(j))
    gu, gv = np.float32(_1F - fu), np.float32(_1F - fv)
    a = 2 * (np.int64(i) * up + np.int64(j))
    b = a + 2 * up
    dx = (warp[a] * gu + warp[b] * fu) * gv + (warp[a + 2] * gu + warp[b + 2] * fu) * fv
    dy = (warp[a + 1] * gu + warp[b + 1] * fu) * gv + (warp[a + 3] * gu + warp[b + 3] * fu) * fv
    return np.float32(x + dx), np.float32(y + dy)


@inlined
def _views(direction: Floats, out: Floats) -> None:
    """Fill the spherical harmonics of a direction, as ``radnerf.encoding.spherical_harmonics``."""
    x, y, z = direction[0], direction[1], direction[2]
    xx, yy, zz = x * x, y * y, z * z
    out[0] = 0.28209479177387814
    out[1] = -0.48860251190291987 * y
    out[2] = 0.48860251190291987 * z
    out[3] = -0.48860251190291987 * x
    out[4] = 1.0925484305920792 * x * y
    out[5] = -1.0925484305920792 * y * z
    out[6] = 0.31539156525252005 * (3.0 * zz - 1.0)
    out[7] = -1.0925484305920792 * x * z
    out[8] = 0.5462742152960396 * (xx - yy)
    out[9] = -0.5900435899266435 * y * (3.0 * xx - yy)
    out[10] = 2.890611442640554 * x * y * z
    out[11] = -0.4570457994644658 * y * (5.0 * zz - 1.0)
    out[12] = 0.3731763325901154 * z * (5.0 * zz - 3.0)
    out[13] = -0.4570457994644658 * x * (5.0 * zz - 1.0)
    out[14] = 1.445305721320277 * z * (xx - yy)
    out[15] = -0.5900435899266435 * x * (xx - 3.0 * yy)


@inlined
def _densities(raw: Floats, shift: np.float32, most: np.float32, out: Floats) -> None:
    for n in range(len(out)):
        out[n] = exp(min(raw[n] + shift, most))


@inlined
def _shades(raw: Floats, out: Floats) -> None:
    for n in range(len(out)):
        out[n] = _1F / (_1F + exp(-raw[n]))


@inlined
def _share(
    head: PackedHead,
    rays_o: Floats,
    rays_d: Floats,
    occupancy: NDArray[np.bool_],
    bricks: NDArray[np.bool_],
    aabb: Floats,
    max_samples: int,
    min_step: float,
    limit: float,
    taken: NDArray[np.int64],
    out: Floats,
) -> None:
    rays, size = len(rays_o), len(occupancy)
    low = np.float64(aabb[0, 0]), np.float64(aabb[0, 1]), np.float64(aabb[0, 2])
    cell = (
        (np.float64(aabb[1, 0]) - low[0]) / size,
        (np.float64(aabb[1, 1]) - low[1]) / size,
        (np.float64(aabb[1, 2]) - low[2]) / size,
    )
    side = (aabb[1] - aabb[0]).astype(np.float32)
    width = len(head.space_scales) * head.space_features + len(head.plane_scales) * head.plane_features
    chunks = (rays + RAYS_AT_ONCE - 1) // RAYS_AT_ONCE
    most = RAYS_AT_ONCE * SAMPLES_A_WAVE
    across, up = head.warp.shape[0], head.warp.shape[1]
    warp = head.warp.reshape(-1)
    warp_low, warp_rate = (head.warp_low[0], head.warp_low[1]), (head.warp_rate[0], head.warp_rate[1])
    block = scratch(width, head.hidden)
    t = np.empty((RAYS_AT_ONCE, max_samples), np.float32)
    step, depth_in = np.empty(RAYS_AT_ONCE, np.float32), np.empty(RAYS_AT_ONCE)
    counts, alive = np.empty(RAYS_AT_ONCE, np.int64), np.empty(RAYS_AT_ONCE, np.int64)
    owner, number = np.empty(most, np.int64), np.empty(most, np.int64)
    sigma, rgb = np.empty(most, np.float32), np.empty((3, most), np.float32)
    begins, lengths = np.empty(3 * size + 4), np.empty(3 * size + 4)
    views = np.empty((RAYS_AT_ONCE, VIEWS), np.float32)
    while True:
        # Each thread takes the next chunk when it is done with its last: some have more head in them, some cores less
        # time for us.
        chunk = take_next(taken)
        if chunk >= chunks:
            break
        first = chunk * RAYS_AT_ONCE
        beyond = min(rays, first + RAYS_AT_ONCE)
        living = 0
        for r in range(first, beyond):
            out[r] = _0F
            origin = np.float64(rays_o[r, 0]), np.float64(rays_o[r, 1]), np.float64(rays_o[r, 2])
            direction = np.float64(rays_d[r, 0]), np.float64(rays_d[r, 1]), np.float64(rays_d[r, 2])
            runs = occupied_runs(origin, direction, occupancy, bricks, low, cell, begins, lengths)
            count, length = place_on_runs(begins, lengths, runs, max_samples, min_step, t[r - first])
            if count:
                _views(rays_d[r], views[r - first])
                counts[r - first], step[r - first] = count, length / count
                depth_in[r - first] = 0.0
                alive[living] = r - first
                living += 1
        wave = 0
        while living:
            packed = 0
            for a in range(living):
                r = alive[a]
                for s in range(wave, min(wave + SAMPLES_A_WAVE, counts[r])):
                    owner[packed], number[packed] = r, s
                    packed += 1
            for start in range(0, packed, BLOCK):
                count = min(BLOCK, packed - start)
                padded = (count + TILE - 1) // TILE * TILE
                for n in range(padded):
                    p = start + min(n, count - 1)
                    r = first + owner[p]
                    distance = t[owner[p], number[p]]
                    x, y = rays_o[r, 0] + distance * rays_d[r, 0], rays_o[r, 1] + distance * rays_d[r, 1]
                    x, y = _bent(x, y, warp, across, up, warp_low, warp_rate)
                    z = rays_o[r, 2] + distance * rays_d[r, 2]
                    block.unit[n] = min(max((x - aabb[0, 0]) / side[0], _0F), _1F)
                    block.unit[BLOCK + n] = min(max((y - aabb[0, 1]) / side[1], _0F), _1F)
                    block.unit[2 * BLOCK + n] = min(max((z - aabb[0, 2]) / side[2], _0F), _1F)
                    for view in range(VIEWS):
                        block.seen[(head.hidden // 2 + view) * BLOCK + n] = views[owner[p], view]
                evaluate(head, block, padded)
                _densities(block.seen[:count], head.shift, head.most, sigma[start : start + count])
                for channel in range(3):
                    _shades(block.one[channel * BLOCK : channel * BLOCK + count], rgb[channel, start : start + count])
            for p in range(packed):
                r = owner[p]
                before = np.float32(depth_in[r])
                if before <= limit:
                    optical = sigma[p] * step[r]
                    depth_in[r] += optical
                    weight = (_1F - exp(-optical)) * exp(-before)
                    ray = first + r
                    for channel in range(3):
                        out[ray, channel] += weight * rgb[channel, p]
                    out[ray, 3] += weight
                    out[ray, 4] += weight * t[r, number[p]]
            wave += SAMPLES_A_WAVE
            left = 0
            for a in range(living):
                r = alive[a]
                if wave < counts[r] and np.float32(depth_in[r]) <= limit:
                    alive[left] = r
                    left += 1
            living = left
        for r in range(first, beyond):
            out[r, 3] = min(out[r, 3], _1F)


@parallel
def _frame(
    head: PackedHead,
    rays_o: Floats,
    rays_d: Floats,
    occupancy: NDArray[np.bool_],
    bricks: NDArray[np.bool_],
    aabb: Floats,
    max_samples: int,
    min_step: float,
    limit: float,
    taken: NDArray[np.int64],
    workers: int,
    out: Floats,
) -> None:
    # The loop holds nothing but a call: numba rewrites what stands in a parallel loop, vector pieces wrongly.
    for _ in prange(workers):
        _share(head, rays_o, rays_d, occupancy, bricks, aabb, max_samples, min_step, limit, taken, out)


def render_frame(
    head: FrozenHead,
    rays_o: Tensor,
    rays_d: Tensor,
    occupancy: Tensor,
    max_samples: int,
    min_step: float,
    min_transmittance: float,
) -> Tensor:
    """Render with the fused kernel; arguments and result as ``Backend.render``."""
    threads = follow_torch_threads()
    out = torch.empty(len(rays_o), 5)
    limit = -math.log(min_transmittance) if min_transmittance > 0 else math.inf
    given: list[Any] = [tensor.detach().contiguous().numpy() for tensor in (rays_o, rays_d)]
    cells = occupancy.contiguous().numpy()
    bricks = np.zeros([(len(cells) + BRICK - 1) // BRICK] * 3, np.bool_)
    fill_bricks(cells, bricks)
    box = head.aabb.contiguous().numpy()
    _frame(
        pack(head),
        *given,
        cells,
        bricks,
        box,
        max_samples,
        float(min_step),
        limit,
        np.zeros(1, np.int64),
        threads,
        out.numpy(),
    )
    return out

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
from radnerf.kernels.cpu_simd import TILE
from radnerf.kernels.cpu_walk import occupied_runs, place_on_runs

if TYPE_CHECKING:
    from radnerf.kernels.protocol import FrozenHead

Floats = NDArray[np.float32]

RAYS_AT_ONCE = 512
"""Rays that a thread takes at once: their waves fill many blocks, and their numbers fit the cache."""

SAMPLES_A_WAVE = 2
"""Samples of a ray that are evaluated before asking whether it is opaque."""

_0F, _1F = np.float32(0), np.float32(1)


@inlined
def _bent(x: np.float32, y: np.float32, head: PackedHead) -> tuple[np.float32, np.float32]:
    """A point's x and y after the warp, as ``radnerf.warp.bend``."""
    across, up = head.warp.shape[0], head.warp.shape[1]
    u, v = (x - head.warp_low[0]) * head.warp_rate[0], (y - head.warp_low[1]) * head.warp_rate[1]
    if across < 2 or not (_0F <= u <= across - 1 and _0F <= v <= up - 1):
        return x, y
    i, j = min(int(u), across - 2), min(int(v), up - 2)
    fu, fv = np.float32(u - np.float32(i)), np.float32(v - np.float32(j))
    gu, gv = _1F - fu, _1F - fv
    a, b, c, d = head.warp[i, j], head.warp[i + 1, j], head.warp[i, j + 1], head.warp[i + 1, j + 1]
    dx = (a[0] * gu + b[0] * fu) * gv + (c[0] * gu + d[0] * fu) * fv
    dy = (a[1] * gu + b[1] * fu) * gv + (c[1] * gu + d[1] * fu) * fv
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
def _share(
    worker: int,
    head: PackedHead,
    rays_o: Floats,
    rays_d: Floats,
    occupancy: NDArray[np.bool_],
    bounds: NDArray[np.int64],
    aabb: Floats,
    max_samples: int,
    min_step: float,
    limit: float,
    workers: int,
    out: Floats,
) -> None:
    rays, size = len(rays_o), len(occupancy)
    low = aabb[0].astype(np.float64)
    cell = (aabb[1].astype(np.float64) - low) / size
    side = (aabb[1] - aabb[0]).astype(np.float32)
    width = len(head.space_scales) * head.space_features + len(head.plane_scales) * head.plane_features
    chunks = (rays + RAYS_AT_ONCE - 1) // RAYS_AT_ONCE
    most = RAYS_AT_ONCE * SAMPLES_A_WAVE
    block = scratch(width, head.hidden)
    t = np.empty((RAYS_AT_ONCE, max_samples), np.float32)
    step, depth_in = np.empty(RAYS_AT_ONCE, np.float32), np.empty(RAYS_AT_ONCE)
    counts, alive = np.empty(RAYS_AT_ONCE, np.int64), np.empty(RAYS_AT_ONCE, np.int64)
    owner, number = np.empty(most, np.int64), np.empty(most, np.int64)
    sigma, rgb = np.empty(most, np.float32), np.empty((3, most), np.float32)
    begins, lengths = np.empty(3 * size + 4), np.empty(3 * size + 4)
    views = np.empty((RAYS_AT_ONCE, VIEWS), np.float32)
    # Chunks in turn, so that each thread has its share of head and of background.
    for chunk in range(worker, chunks, workers):
        first = chunk * RAYS_AT_ONCE
        beyond = min(rays, first + RAYS_AT_ONCE)
        living = 0
        for r in range(first, beyond):
            out[r] = _0F
            runs = occupied_runs(rays_o[r], rays_d[r], occupancy, bounds, low, cell, begins, lengths)
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
                    x, y = _bent(rays_o[r, 0] + distance * rays_d[r, 0], rays_o[r, 1] + distance * rays_d[r, 1], head)
                    z = rays_o[r, 2] + distance * rays_d[r, 2]
                    block.unit[n] = min(max((x - aabb[0, 0]) / side[0], _0F), _1F)
                    block.unit[BLOCK + n] = min(max((y - aabb[0, 1]) / side[1], _0F), _1F)
                    block.unit[2 * BLOCK + n] = min(max((z - aabb[0, 2]) / side[2], _0F), _1F)
                    for view in range(VIEWS):
                        block.seen[(head.hidden // 2 + view) * BLOCK + n] = views[owner[p], view]
                evaluate(head, block, padded)
                for n in range(count):
                    sigma[start + n] = exp(min(block.seen[n] + head.shift, head.most))
                for channel in range(3):
                    for n in range(count):
                        rgb[channel, start + n] = _1F / (_1F + exp(-block.one[channel * BLOCK + n]))
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
    bounds: NDArray[np.int64],
    aabb: Floats,
    max_samples: int,
    min_step: float,
    limit: float,
    workers: int,
    out: Floats,
) -> None:
    # The loop holds nothing but a call: numba rewrites what stands in a parallel loop, vector pieces wrongly.
    for worker in prange(workers):
        _share(worker, head, rays_o, rays_d, occupancy, bounds, aabb, max_samples, min_step, limit, workers, out)


def _bounds(occupancy: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(2, 3): the first occupied cell along each axis, and the one after the last; zeros where none is."""
    bounds = np.zeros((2, 3), np.int64)
    flat = occupancy.any(axis=2)
    for axis, line in enumerate((flat.any(axis=1), flat.any(axis=0), occupancy.any(axis=(0, 1)))):
        cells = np.flatnonzero(line)
        if len(cells):
            bounds[:, axis] = cells[0], cells[-1] + 1
    return bounds


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
    box = head.aabb.contiguous().numpy()
    _frame(
        pack(head),
        *given,
        cells,
        _bounds(cells),
        box,
        max_samples,
        float(min_step),
        limit,
        threads,
        out.numpy(),
    )
    return out

"""A frozen head on a block of points: both grids and the three networks, one row of memory a feature.

A block's numbers stay in a core's caches; networks are matrix products over neighbouring points. The specification is
``radnerf.kernels.frozen.evaluate_frozen``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radnerf.kernels.cpu_jit import inlined
from radnerf.kernels.cpu_simd import LANES, POINTS_A_BLEND, ROWS, TILE, blend_corners, grid_corners, product_tile

if TYPE_CHECKING:
    from radnerf.grid import GridSpec
    from radnerf.kernels.protocol import FrozenHead

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]

BLOCK = 2 * TILE
"""Points that are evaluated together."""

VIEWS = 16
"""Spherical harmonics of a direction."""

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
NO_FLOOR = np.float32(-np.inf)
_0F, _1F, _2F = np.float32(0), np.float32(1), np.float32(2)


class PackedHead(NamedTuple):
    """A frozen head as the kernel reads it.

    Attributes:
        space, plane: The tables, flat.
        space_scales, space_levels, plane_scales, plane_levels: A level's scale, and its resolution, offset, entries
            and whether it is hashed.
        space_features, plane_features: Features a level.
        weights: All matrices, tile after tile of rows, inner index before row.
        places: (8,) int64 where each of the eight matrices begins in ``weights``.
        biases: All biases, then zeros.
        hidden: Width of the hidden layers.
        shift, most: Of the density's activation.
        warp: (X, Y, 2) float32, cm, added to a point's x and y; (1, 1, 2) for nothing.
        warp_low: (2,) float32, cm, the warp's least corner.
        warp_rate: (2,) float32, nodes a cm.
    """

    space: Floats
    space_scales: Floats
    space_levels: Words
    space_features: int
    plane: Floats
    plane_scales: Floats
    plane_levels: Words
    plane_features: int
    weights: Floats
    places: NDArray[np.int64]
    biases: Floats
    hidden: int
    shift: np.float32
    most: np.float32
    warp: Floats
    warp_low: Floats
    warp_rate: Floats


def tiled(weight: Tensor) -> Floats:
    """A matrix (rows, inner) as the kernel reads it: tiles of ``ROWS`` rows, the last one narrower."""
    matrix: Floats = weight.detach().numpy()
    tiles = [matrix[first : first + ROWS].T.ravel() for first in range(0, len(matrix), ROWS)]
    whole: Floats = np.concatenate(tiles).astype(np.float32)
    return whole


def pack(head: FrozenHead) -> PackedHead:
    """Lay a frozen head out for the kernel.

    Args:
        head: On the CPU, float32.

    Returns:
        The packed head; the tables share the head's memory.
    """
    hidden = len(head.motion_bias)
    # The colour's input is the density's output, raw density first, and then the views.
    colour = head.colour[0]
    colour = torch.cat([torch.zeros(hidden, 1), colour[:, VIEWS:], colour[:, :VIEWS]], dim=1)
    matrices = [tiled(weight) for weight in (*head.motion, *head.density, colour, head.colour[1])]
    places = np.cumsum([0, *[len(matrix) for matrix in matrices[:-1]]])
    nothing = torch.zeros(hidden)
    warp, box = torch.zeros(1, 1, 2), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    if head.warp is not None and head.warp_box is not None:
        warp, box = head.warp.detach(), head.warp_box.detach()
    biases = torch.cat([head.motion_bias, head.density_bias, head.colour_bias, nothing])
    return PackedHead(
        space=head.space.detach().numpy().reshape(-1),
        space_scales=level_arrays(head.space_spec)[0],
        space_levels=level_arrays(head.space_spec)[1],
        space_features=head.space_spec.features_per_level,
        plane=head.plane.detach().numpy().reshape(-1),
        plane_scales=level_arrays(head.plane_spec)[0],
        plane_levels=level_arrays(head.plane_spec)[1],
        plane_features=head.plane_spec.features_per_level,
        weights=np.concatenate(matrices),
        places=places.astype(np.int64),
        biases=biases.detach().numpy(),
        hidden=hidden,
        shift=np.float32(head.density_shift),
        most=np.float32(head.max_log_density),
        warp=warp.contiguous().numpy(),
        warp_low=box[0].contiguous().numpy(),
        warp_rate=((torch.tensor(warp.shape[:2]) - 1) / (box[1] - box[0])).numpy(),
    )


@lru_cache(maxsize=64)
def level_arrays(spec: GridSpec) -> tuple[Floats, Words]:
    """Scales (L,), and resolution, offset, entries, hashed (L, 4)."""
    layout = spec.level_layout()
    rows = [(level.resolution, level.offset, level.entries, level.hashed) for level in layout]
    return np.array([level.scale for level in layout], np.float32), np.array(rows, np.uint32)


@inlined
def exp(x: np.float32) -> np.float32:
    """e^x to 2 units in the last place, without a branch: a loop over it becomes vectors."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    power = np.floor(x * _LOG2_E + np.float32(0.5))
    rest = x - power * _LN2_HIGH - power * _LN2_LOW
    value = np.float32(1.9875691500e-4)
    value = value * rest + np.float32(1.3981999507e-3)
    value = value * rest + np.float32(8.3334519073e-3)
    value = value * rest + np.float32(4.1665795894e-2)
    value = value * rest + np.float32(1.6666665459e-1)
    value = value * rest + np.float32(5.0000001201e-1)
    value = value * rest * rest + rest + _1F
    result: np.float32 = value * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    return result


# Pieces are globals, not made where they are used: numba finds a kernel in its cache by the kernel's own code.
_whole, _two, _three, _four = (product_tile(rows) for rows in (ROWS, 2, 3, 4))
_hashed2, _dense2 = grid_corners(2, hashed=True), grid_corners(2, hashed=False)
_hashed3, _dense3 = grid_corners(3, hashed=True), grid_corners(3, hashed=False)
_blend22, _blend24, _blend32, _blend34 = (blend_corners(dim, features) for dim in (2, 3) for features in (2, 4))


@inlined
def product(
    x: Floats,
    inner: int,
    weights: Floats,
    at: int,
    rows: int,
    biases: Floats,
    bias: int,
    y: Floats,
    count: int,
    least: float,
) -> None:
    """Fill y = max(W x + bias, least) on ``count`` columns; W, laid out by ``tiled``, begins at ``at``.

    ``rows`` is a multiple of ``ROWS``, or 2, 3 or 4.
    """
    if rows >= ROWS:
        for first in range(0, rows, ROWS):
            for n in range(0, count, TILE):
                place = at + first * inner
                _whole(x, n, BLOCK, weights, place, inner, biases, bias + first, y, first * BLOCK + n, least)
    else:
        for n in range(0, count, TILE):
            if rows == 2:
                _two(x, n, BLOCK, weights, at, inner, biases, bias, y, n, least)
            elif rows == 3:
                _three(x, n, BLOCK, weights, at, inner, biases, bias, y, n, least)
            else:
                _four(x, n, BLOCK, weights, at, inner, biases, bias, y, n, least)


@inlined
def _layer(x: Floats, inner: int, head: PackedHead, which: int, bias: int, y: Floats, count: int, least: float) -> None:
    """One matrix of a head, rectified at ``least``."""
    rows = 2 if which == 2 else 3 if which == 7 else head.hidden // 2 if which == 5 else head.hidden
    product(x, inner, head.weights, head.places[which], rows, head.biases, bias, y, count, least)


@inlined
def encode_block(
    x: Floats,
    count: int,
    dim: int,
    features: int,
    table: Floats,
    scales: Floats,
    levels: Words,
    out: Floats,
    o0: int,
    rows: Words,
    weights: Floats,
) -> None:
    """Interpolate a grid at ``count`` points of a block."""
    for level in range(len(scales)):
        scale, resolution, offset, entries = scales[level], levels[level, 0], levels[level, 1], levels[level, 2]
        hashed = levels[level, 3] != 0
        for n in range(0, count, LANES):
            if dim == 3 and hashed:
                _hashed3(x, n, BLOCK, scale, resolution, offset, entries, rows, weights, n)
            elif dim == 3:
                _dense3(x, n, BLOCK, scale, resolution, offset, entries, rows, weights, n)
            elif hashed:
                _hashed2(x, n, BLOCK, scale, resolution, offset, entries, rows, weights, n)
            else:
                _dense2(x, n, BLOCK, scale, resolution, offset, entries, rows, weights, n)
        first = o0 + level * features * BLOCK
        for n in range(0, count, POINTS_A_BLEND):
            if dim == 3 and features == 4:
                _blend34(table, rows, weights, n, BLOCK, out, first + n)
            elif dim == 3:
                _blend32(table, rows, weights, n, BLOCK, out, first + n)
            elif features == 4:
                _blend24(table, rows, weights, n, BLOCK, out, first + n)
            else:
                _blend22(table, rows, weights, n, BLOCK, out, first + n)


class Scratch(NamedTuple):
    """A thread's memory for one block, one row of ``BLOCK`` floats a feature.

    Attributes:
        unit: Three coordinates in [0, 1].
        encoded: Features of both grids.
        one, two: Hidden layers.
        seen: The density network's output and the views.
        rows, weights: Of a level's corners.
    """

    unit: Floats
    encoded: Floats
    one: Floats
    two: Floats
    seen: Floats
    rows: Words
    weights: Floats


@inlined
def scratch(encoded: int, hidden: int) -> Scratch:
    """Take memory for one thread; ``encoded`` features in all and ``hidden`` numbers a layer."""
    return Scratch(
        np.empty(3 * BLOCK, np.float32),
        np.empty(encoded * BLOCK, np.float32),
        np.empty(hidden * BLOCK, np.float32),
        np.empty(hidden * BLOCK, np.float32),
        np.empty((hidden // 2 + VIEWS) * BLOCK, np.float32),
        np.empty(8 * BLOCK, np.uint32),
        np.empty(8 * BLOCK, np.float32),
    )


@inlined
def evaluate(head: PackedHead, block: Scratch, count: int) -> None:
    """From ``unit`` and the views to raw density in row 0 of ``seen`` and raw colour in rows 0 to 2 of ``one``."""
    width = len(head.space_scales) * head.space_features
    both = width + len(head.plane_scales) * head.plane_features
    encode_block(
        block.unit, count, 3, head.space_features, head.space, head.space_scales, head.space_levels,
        block.encoded, 0, block.rows, block.weights,
    )  # fmt: skip
    none, hidden = 3 * head.hidden, head.hidden
    _layer(block.encoded, width, head, 0, 0, block.one, count, _0F)
    _layer(block.one, hidden, head, 1, none, block.two, count, _0F)
    _layer(block.two, hidden, head, 2, none, block.unit, count, NO_FLOOR)
    for n in range(count):
        # (tanh(x) + 1) / 2
        block.unit[n] = _1F / (_1F + exp(-_2F * block.unit[n]))
    for n in range(BLOCK, BLOCK + count):
        block.unit[n] = _1F / (_1F + exp(-_2F * block.unit[n]))
    encode_block(
        block.unit, count, 2, head.plane_features, head.plane, head.plane_scales, head.plane_levels,
        block.encoded, width * BLOCK, block.rows, block.weights,
    )  # fmt: skip
    _layer(block.encoded, both, head, 3, hidden, block.one, count, _0F)
    _layer(block.one, hidden, head, 4, none, block.two, count, _0F)
    _layer(block.two, hidden, head, 5, none, block.seen, count, NO_FLOOR)
    _layer(block.seen, hidden // 2 + VIEWS, head, 6, 2 * hidden, block.two, count, _0F)
    _layer(block.two, hidden, head, 7, none, block.one, count, NO_FLOOR)

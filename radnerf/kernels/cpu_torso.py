"""A finished frame in one kernel: the torso is evaluated, and the head put over it over the background."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from radnerf.kernels.cpu_field import BLOCK, NO_FLOOR, encode_block, exp, level_arrays, product, tiled
from radnerf.kernels.cpu_jit import follow_torch_threads, inlined, parallel
from radnerf.kernels.cpu_simd import TILE

if TYPE_CHECKING:
    from radnerf.kernels.protocol import FrozenTorso

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]
Integers = NDArray[np.int64]

_PIXELS_AT_ONCE = 1024
_0F, _1F, _2F, _PI = np.float32(0), np.float32(1), np.float32(2), np.float32(math.pi)


class _PackedTorso(NamedTuple):
    """A frozen torso as the kernel reads it.

    Attributes:
        mask: (G, G) bool, indexed [row, column].
        plane, scales, levels: The grid's table, flat, and its levels.
        features: A level.
        weights: All six matrices, laid out by ``tiled``; ``places`` says where each begins.
        biases: Those of the first layers, then zeros.
        hidden: Width of the hidden layers.
        bands: Octaves in which a place is encoded.
        sway: (18,) the displacement's polynomial, flat (see ``radnerf.sway.as_powers``).
        reach: Farthest that a pixel may be deformed.
    """

    mask: NDArray[np.bool_]
    plane: Floats
    scales: Floats
    levels: Words
    features: int
    weights: Floats
    places: Integers
    biases: Floats
    hidden: int
    bands: int
    sway: Floats
    reach: np.float32


def _pack(torso: FrozenTorso) -> _PackedTorso:
    hidden = len(torso.offset_bias)
    matrices = [tiled(weight) for weight in (*torso.offset, *torso.colour)]
    scales, levels = level_arrays(torso.spec)
    return _PackedTorso(
        mask=torso.mask.contiguous().numpy(),
        plane=torso.plane.detach().numpy().reshape(-1),
        scales=scales,
        levels=levels,
        features=torso.spec.features_per_level,
        weights=np.concatenate(matrices),
        places=np.cumsum([0, *[len(matrix) for matrix in matrices[:-1]]]).astype(np.int64),
        biases=torch.cat([torso.offset_bias, torso.colour_bias, torch.zeros(hidden)]).detach().numpy(),
        hidden=hidden,
        bands=torso.bands,
        sway=torso.sway.contiguous().numpy().reshape(-1),
        reach=np.float32(torso.max_offset),
    )


@inlined
def _half_turns(x: np.float32) -> tuple[np.float32, np.float32]:
    """sin(pi x) and cos(pi x), by Taylor's series within half a turn, without a branch."""
    whole = np.floor(x + np.float32(0.5))
    angle = _PI * (x - whole)
    square = angle * angle
    sine = np.float32(-1 / 39916800)
    cosine = np.float32(1 / 479001600)
    sine, cosine = sine * square + np.float32(1 / 362880), cosine * square - np.float32(1 / 3628800)
    sine, cosine = sine * square - np.float32(1 / 5040), cosine * square + np.float32(1 / 40320)
    sine, cosine = sine * square + np.float32(1 / 120), cosine * square - np.float32(1 / 720)
    sine, cosine = sine * square - np.float32(1 / 6), cosine * square + np.float32(1 / 24)
    sine, cosine = sine * square * angle + angle, (cosine * square - np.float32(0.5)) * square + _1F
    # An odd number of half turns points the other way: 1 for an even one, -1 for an odd one.
    sign = _1F - np.float32(4) * (whole / _2F - np.floor(whole / _2F))
    return sign * sine, sign * cosine


@inlined
def _place(torso: _PackedTorso, pixels: Integers, count: int, padded: int, width: int, inside: Floats) -> None:
    """Fill ``inside`` with the places of pixels, the sway taken away, in [-1, 1], and with all octaves of them."""
    sway, bands = torso.sway, torso.bands
    for n in range(padded):
        pixel = pixels[min(n, count - 1)]
        x = (np.float32(pixel % width) + np.float32(0.5)) / np.float32(width)
        y = (np.float32(pixel // width) + np.float32(0.5)) / np.float32(width)
        for axis in range(2):
            still = sway[axis] + x * (sway[2 + axis] + x * sway[4 + axis])
            first = sway[6 + axis] + x * (sway[8 + axis] + x * sway[10 + axis])
            second = sway[12 + axis] + x * (sway[14 + axis] + x * sway[16 + axis])
            at = x if axis == 0 else y
            inside[axis * BLOCK + n] = _2F * (at - (still + y * (first + y * second))) - _1F
    # Sines of all octaves, then cosines; x before y in each. Each octave is the double angle of the one before.
    cosines = 2 + 2 * bands
    for axis in range(2):
        for n in range(padded):
            sine, cosine = _half_turns(inside[axis * BLOCK + n])
            inside[(2 + axis) * BLOCK + n], inside[(cosines + axis) * BLOCK + n] = sine, cosine
        for k in range(1, bands):
            for n in range(padded):
                sine = inside[(2 * k + axis) * BLOCK + n]
                cosine = inside[(cosines + 2 * k - 2 + axis) * BLOCK + n]
                inside[(2 + 2 * k + axis) * BLOCK + n] = _2F * sine * cosine
                inside[(cosines + 2 * k + axis) * BLOCK + n] = _1F - _2F * sine * sine


@inlined
def _layer_of(torso: _PackedTorso, pixels: Integers, count: int, width: int, memory: Floats, seen: Floats) -> None:
    """Fill rows 0 to 3 of ``seen`` with alpha and rgb of a block of pixels."""
    hidden = torso.hidden
    place, encoded = 2 + 4 * torso.bands, len(torso.scales) * torso.features
    padded = (count + TILE - 1) // TILE * TILE
    inside = memory[: place * BLOCK]
    unit = memory[place * BLOCK : (place + 2) * BLOCK]
    one = memory[(place + 2) * BLOCK : (place + 2 + hidden) * BLOCK]
    two = memory[(place + 2 + hidden) * BLOCK : (place + 2 + 2 * hidden) * BLOCK]
    grid = memory[(place + 2 + 2 * hidden) * BLOCK : (place + 2 + 2 * hidden + encoded) * BLOCK]
    rows = np.empty(4 * BLOCK, np.uint32)
    weights = np.empty(4 * BLOCK, np.float32)
    _place(torso, pixels, count, padded, width, inside)
    none, places = 2 * hidden, torso.places
    product(inside, place, torso.weights, places[0], hidden, torso.biases, 0, one, padded, _0F)
    product(one, hidden, torso.weights, places[1], hidden, torso.biases, none, two, padded, _0F)
    product(two, hidden, torso.weights, places[2], 2, torso.biases, none, one, padded, NO_FLOOR)
    for axis in range(2):
        for n in range(padded):
            # tanh, of the way that the pixel is moved.
            moved = _2F / (_1F + exp(-_2F * one[axis * BLOCK + n])) - _1F
            at = (inside[axis * BLOCK + n] + _1F) / _2F + torso.reach * moved
            unit[axis * BLOCK + n] = min(max(at, _0F), _1F)
    encode_block(unit, padded, 2, torso.features, torso.plane, torso.scales, torso.levels, grid, 0, rows, weights)
    product(grid, encoded, torso.weights, places[3], hidden, torso.biases, hidden, one, padded, _0F)
    product(one, hidden, torso.weights, places[4], hidden, torso.biases, none, two, padded, _0F)
    product(two, hidden, torso.weights, places[5], 4, torso.biases, none, seen, padded, NO_FLOOR)
    for row in range(4):
        for n in range(row * BLOCK, row * BLOCK + padded):
            seen[n] = _1F / (_1F + exp(-seen[n]))


@inlined
def _share(
    worker: int, workers: int, torso: _PackedTorso, head: Floats, background: Floats, out: NDArray[np.uint8]
) -> None:
    """Finish a worker's share of the pixels."""
    height, width = out.shape[0], out.shape[1]
    cells, pixels_in_all = len(torso.mask), height * width
    place = 2 + 4 * torso.bands
    memory = np.empty((place + 4 + 2 * torso.hidden + len(torso.scales) * torso.features) * BLOCK, np.float32)
    seen = np.empty(4 * BLOCK, np.float32)
    chosen = np.empty(_PIXELS_AT_ONCE, np.int64)
    layer = np.empty((_PIXELS_AT_ONCE, 4), np.float32)
    chunks = (pixels_in_all + _PIXELS_AT_ONCE - 1) // _PIXELS_AT_ONCE
    for chunk in range(worker, chunks, workers):
        first = chunk * _PIXELS_AT_ONCE
        beyond = min(pixels_in_all, first + _PIXELS_AT_ONCE)
        count = 0
        for pixel in range(first, beyond):
            layer[pixel - first, 0] = _0F
            # As torch rounds it: in float32.
            x = min(
                int(np.float32((np.float32(pixel % width) + np.float32(0.5)) / np.float32(width)) * cells), cells - 1
            )
            y = min(
                int(np.float32((np.float32(pixel // width) + np.float32(0.5)) / np.float32(width)) * cells), cells - 1
            )
            if torso.mask[y, x]:
                chosen[count] = pixel
                count += 1
        for start in range(0, count, BLOCK):
            some = min(BLOCK, count - start)
            _layer_of(torso, chosen[start : start + some], some, width, memory, seen)
            for n in range(some):
                for row in range(4):
                    layer[chosen[start + n] - first, row] = seen[row * BLOCK + n]
        for pixel in range(first, beyond):
            y, x = pixel // width, pixel % width
            alpha, through = layer[pixel - first, 0], _1F - min(max(head[pixel, 3], _0F), _1F)
            for channel in range(3):
                behind = background[y, x, channel]
                if alpha > _0F:
                    behind = layer[pixel - first, channel + 1] * alpha + (_1F - alpha) * behind
                value = min(max(head[pixel, channel], _0F), _1F) + through * behind
                out[y, x, channel] = np.uint8(np.rint(min(max(value, _0F), _1F) * np.float32(255)))


@parallel
def _paint(workers: int, torso: _PackedTorso, head: Floats, background: Floats, out: NDArray[np.uint8]) -> None:
    for worker in prange(workers):
        _share(worker, workers, torso, head, background, out)


def paint(head: Tensor, torso: FrozenTorso, background: Tensor) -> Tensor:
    """Put a head over a torso over a background.

    Args:
        head: (H * W, 5) float32, as ``Backend.render``, pixels in reading order.
        torso: In this frame, on the CPU.
        background: (H, W, 3) float32 in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    threads = follow_torch_threads()
    height, width = background.shape[:2]
    out = torch.empty(height, width, 3, dtype=torch.uint8)
    packed = _pack(torso)
    _paint(threads, packed, head.contiguous().numpy(), background.contiguous().numpy(), out.numpy())
    return out

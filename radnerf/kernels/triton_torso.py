"""The torso as one kernel, which puts it over the background and the head over both: pixels in, bytes out."""

from __future__ import annotations

import math

import torch
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from radnerf.kernels.protocol import FrozenTorso
from radnerf.kernels.triton_grid import encode_levels, level_tensors, padded_levels
from radnerf.kernels.triton_jit import kernel, padded, piece, programs
from radnerf.kernels.triton_shade import column, filled, matrix, product

_BLOCK = 64
_PI = tl.constexpr(math.pi)


@piece
def _byte(value: tl.tensor) -> tl.tensor:
    """A byte of a colour in [0, 1], halves to the even one as torch rounds."""
    scaled = tl.minimum(tl.maximum(value, 0.0), 1.0) * 255.0
    whole = tl.floor(scaled)
    part = scaled - whole
    odd = (whole.to(tl.int32) & 1) == 1
    return tl.where((part > 0.5) | ((part == 0.5) & odd), whole + 1.0, whole).to(tl.uint8)


@piece
def _displaced(powers: tl.tensor, x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """One axis of ``radnerf.sway.displacement``."""
    still = tl.load(powers) + x * (tl.load(powers + 2) + x * tl.load(powers + 4))
    first = tl.load(powers + 6) + x * (tl.load(powers + 8) + x * tl.load(powers + 10))
    second = tl.load(powers + 12) + x * (tl.load(powers + 14) + x * tl.load(powers + 16))
    return still + y * (first + y * second)


@kernel
def _paint(
    head: tl.tensor,
    background: tl.tensor,
    mask: tl.tensor,
    sway: tl.tensor,
    plane: tl.tensor,
    scales: tl.tensor,
    layout: tl.tensor,
    weights: tl.tensor,
    biases: tl.tensor,
    out: tl.tensor,
    pixels: tl.tensor,
    width_px: tl.tensor,
    cells: tl.tensor,
    max_offset: tl.tensor,
    BANDS: tl.constexpr,
    PLACE: tl.constexpr,
    LEVELS: tl.constexpr,
    PADDED: tl.constexpr,
    F: tl.constexpr,
    W: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    # Where each matrix lies; ``_packed`` puts them there.
    O1: tl.constexpr = PLACE * W
    O2: tl.constexpr = O1 + W * W
    C0: tl.constexpr = O2 + W * 16
    C1: tl.constexpr = C0 + PADDED * F * W
    C2: tl.constexpr = C1 + W * W

    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = pixel < pixels
    side = width_px.to(tl.float32)
    x = ((pixel % width_px).to(tl.float32) + 0.5) / side
    y = ((pixel // width_px).to(tl.float32) + 0.5) / side
    across = tl.minimum((x * cells).to(tl.int32), cells - 1)
    down = tl.minimum((y * cells).to(tl.int32), cells - 1)
    there = live & (tl.load(mask + down * cells + across, mask=live, other=0) != 0)
    red = tl.load(background + 3 * pixel, mask=live, other=0.0)
    green = tl.load(background + 3 * pixel + 1, mask=live, other=0.0)
    blue = tl.load(background + 3 * pixel + 2, mask=live, other=0.0)
    if tl.max(there.to(tl.int32), axis=0) > 0:
        across_by = _displaced(sway, x, y)
        down_by = _displaced(sway + 1, x, y)
        x = x - across_by
        y = y - down_by
        # The value itself, its sines, its cosines; x before y in each octave.
        k = tl.arange(0, PLACE)[None, :]
        value = 2.0 * tl.where((k & 1) == 0, x[:, None], y[:, None]) - 1.0
        octave = tl.where(k < 2, 0, (k - 2) % (2 * BANDS)) // 2
        angle = value * (_PI * (1 << octave).to(tl.float32))
        encoded = tl.where(k < 2, value, tl.where(k < 2 + 2 * BANDS, tl.sin(angle), tl.cos(angle)))
        encoded = tl.where(k < 2 + 4 * BANDS, encoded, 0.0)
        hidden = tl.arange(0, W)[None, :]
        h = product(encoded, matrix(weights, 0, PLACE, W), HALF) + tl.load(biases + hidden)
        h = product(tl.maximum(h, 0.0), matrix(weights, O1, W, W), HALF)
        h = product(tl.maximum(h, 0.0), matrix(weights, O2, W, 16), HALF)
        moved = max_offset * (2.0 * tl.sigmoid(2.0 * h) - 1.0)
        x = tl.minimum(tl.maximum(x + column(moved, 0, 16), 0.0), 1.0)
        y = tl.minimum(tl.maximum(y + column(moved, 1, 16), 0.0), 1.0)
        features = encode_levels(x, y, y, there, plane, scales, layout, 2, LEVELS, PADDED, F, BLOCK)
        h = product(features, matrix(weights, C0, PADDED * F, W), HALF) + tl.load(biases + W + hidden)
        h = product(tl.maximum(h, 0.0), matrix(weights, C1, W, W), HALF)
        seen = tl.sigmoid(product(tl.maximum(h, 0.0), matrix(weights, C2, W, 16), HALF))
        alpha = tl.where(there, column(seen, 0, 16), 0.0)
        red = column(seen, 1, 16) * alpha + (1.0 - alpha) * red
        green = column(seen, 2, 16) * alpha + (1.0 - alpha) * green
        blue = column(seen, 3, 16) * alpha + (1.0 - alpha) * blue
    through = 1.0 - tl.load(head + 5 * pixel + 3, mask=live, other=0.0)
    for channel in tl.static_range(3):
        front = tl.load(head + 5 * pixel + channel, mask=live, other=0.0)
        front = tl.minimum(tl.maximum(front, 0.0), 1.0)
        behind = red if channel == 0 else green if channel == 1 else blue
        tl.store(out + 3 * pixel + channel, _byte(front + through * behind), mask=live)


def paint(head: Tensor, torso: FrozenTorso, background: Tensor, half: bool) -> Tensor:
    """Put a head over a torso over a background.

    Args:
        head: (H * W, 5) float32, as ``Backend.render``, pixels in reading order.
        torso: In this frame.
        background: (H, W, 3) float32 in [0, 1], contiguous.
        half: Whether the networks' weights and activations are in half precision.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = background.shape[:2]
    hidden = padded(len(torso.offset_bias))
    place = padded(2 + 4 * torso.bands)
    levels = (torso.spec.levels, padded_levels(torso.spec), torso.spec.features_per_level)
    out = torch.empty(height, width, 3, dtype=torch.uint8, device=head.device)
    biases = torch.cat(
        [functional.pad(bias, (0, hidden - len(bias))) for bias in (torso.offset_bias, torso.colour_bias)]
    )
    _paint[(programs(height * width, _BLOCK),)](
        head,
        background,
        torso.mask.contiguous().view(torch.int8),
        torso.sway.contiguous(),
        torso.plane,
        *level_tensors(torso.spec, head.device),
        _packed(torso, place, hidden).to(torch.float16 if half else torch.float32),
        biases,
        out,
        height * width,
        width,
        torso.mask.shape[0],
        torso.max_offset,
        torso.bands,
        place,
        *levels,
        hidden,
        half,
        _BLOCK,
        num_warps=4,
    )
    return out


def _packed(torso: FrozenTorso, place: int, hidden: int) -> Tensor:
    """Every matrix, (inputs, outputs), filled up with zeros, one behind the other."""
    encoded = padded_levels(torso.spec) * torso.spec.features_per_level
    parts = [
        (torso.offset[0], place, hidden),
        (torso.offset[1], hidden, hidden),
        (torso.offset[2], hidden, 16),
        (torso.colour[0], encoded, hidden),
        (torso.colour[1], hidden, hidden),
        (torso.colour[2], hidden, 16),
    ]
    return torch.cat([filled(part.T, rows, columns).flatten() for part, rows, columns in parts])

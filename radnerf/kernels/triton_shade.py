"""The fused head: a sample is encoded, moved by the sound, encoded again, lit and composited without leaving the chip.

A program takes a block of rays and goes from their nearest samples to their farthest, until all of them are opaque.
Networks are matrix products of the block's samples, widths filled up with zeros to powers of two.
"""

from __future__ import annotations

import math

import torch
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from radnerf.kernels.protocol import FrozenHead
from radnerf.kernels.triton_composite import opacity
from radnerf.kernels.triton_grid import encode_levels, level_tensors, padded_levels
from radnerf.kernels.triton_jit import kernel, padded, piece, programs
from radnerf.kernels.triton_trace import Traced

_BLOCK = 64
_LARGEST_HALF = tl.constexpr(65504.0)


@piece
def product(rows: tl.tensor, matrix: tl.tensor, HALF: tl.constexpr) -> tl.tensor:
    """Product of matrices, summed in float32; rows are narrowed to half precision where the matrix is."""
    if HALF:
        narrow = tl.minimum(tl.maximum(rows, -_LARGEST_HALF), _LARGEST_HALF).to(tl.float16)
        return tl.dot(narrow, matrix)
    else:  # noqa: RET505 - Triton follows both ways unless they are two branches
        return tl.dot(rows, matrix, input_precision="tf32x3")


@piece
def matrix(weights: tl.tensor, OFFSET: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr) -> tl.tensor:
    """A (ROWS, COLUMNS) matrix that lies OFFSET numbers behind a pointer."""
    return tl.load(weights + OFFSET + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])


@piece
def column(values: tl.tensor, NUMBER: tl.constexpr, WIDTH: tl.constexpr) -> tl.tensor:
    """One column of a (N, WIDTH) block, (N,)."""
    return tl.sum(tl.where(tl.arange(0, WIDTH)[None, :] == NUMBER, values, 0.0), axis=1)


@piece
def _harmonics(x: tl.tensor, y: tl.tensor, z: tl.tensor) -> tl.tensor:
    """``radnerf.encoding.spherical_harmonics`` of BLOCK directions, (BLOCK, 16)."""
    x, y, z = x[:, None], y[:, None], z[:, None]
    xx, yy, zz = x * x, y * y, z * z
    k = tl.arange(0, 16)[None, :]
    out = tl.where(k == 0, 0.28209479177387814 + 0.0 * x, 0.0)
    out = tl.where(k == 1, -0.48860251190291987 * y, out)
    out = tl.where(k == 2, 0.48860251190291987 * z, out)
    out = tl.where(k == 3, -0.48860251190291987 * x, out)
    out = tl.where(k == 4, 1.0925484305920792 * (x * y), out)
    out = tl.where(k == 5, -1.0925484305920792 * (y * z), out)
    out = tl.where(k == 6, 0.31539156525252005 * (3.0 * zz - 1.0), out)
    out = tl.where(k == 7, -1.0925484305920792 * (x * z), out)
    out = tl.where(k == 8, 0.5462742152960396 * (xx - yy), out)
    out = tl.where(k == 9, -0.5900435899266435 * y * (3.0 * xx - yy), out)
    out = tl.where(k == 10, 2.890611442640554 * (x * y) * z, out)
    out = tl.where(k == 11, -0.4570457994644658 * y * (5.0 * zz - 1.0), out)
    out = tl.where(k == 12, 0.3731763325901154 * z * (5.0 * zz - 3.0), out)
    out = tl.where(k == 13, -0.4570457994644658 * x * (5.0 * zz - 1.0), out)
    out = tl.where(k == 14, 1.445305721320277 * z * (xx - yy), out)
    return tl.where(k == 15, -0.5900435899266435 * x * (xx - 3.0 * yy), out)


@piece
def _bent(
    x: tl.tensor, y: tl.tensor, live: tl.tensor, warp: tl.tensor, box: tl.tensor, ACROSS: tl.constexpr, UP: tl.constexpr
) -> tl.tensor:
    """``radnerf.warp.bend`` of BLOCK points: x and y in cm, moved by what lies between a lattice's nodes."""
    left, foot = tl.load(box), tl.load(box + 1)
    u = (x - left) / (tl.load(box + 2) - left) * (ACROSS - 1)
    v = (y - foot) / (tl.load(box + 3) - foot) * (UP - 1)
    inside = live & (u >= 0.0) & (u <= ACROSS - 1) & (v >= 0.0) & (v <= UP - 1)
    u = tl.where(inside, u, 0.0)
    v = tl.where(inside, v, 0.0)
    left_u = tl.minimum(tl.floor(u), ACROSS - 2)
    low_v = tl.minimum(tl.floor(v), UP - 2)
    u -= left_u
    v -= low_v
    node = warp + 2 * (left_u.to(tl.int32) * UP + low_v.to(tl.int32))
    for axis in tl.static_range(2):
        low = tl.load(node + axis, mask=inside, other=0.0) * (1.0 - u)
        low += tl.load(node + axis + 2 * UP, mask=inside, other=0.0) * u
        high = tl.load(node + axis + 2, mask=inside, other=0.0) * (1.0 - u)
        high += tl.load(node + axis + 2 * UP + 2, mask=inside, other=0.0) * u
        if axis == 0:
            x += low * (1.0 - v) + high * v
        else:
            y += low * (1.0 - v) + high * v
    return x, y


@kernel
def _shade(
    origins: tl.tensor,
    directions: tl.tensor,
    times: tl.tensor,
    steps: tl.tensor,
    counts: tl.tensor,
    listed: tl.tensor,
    alive: tl.tensor,
    aabb: tl.tensor,
    space: tl.tensor,
    space_scales: tl.tensor,
    space_layout: tl.tensor,
    plane: tl.tensor,
    plane_scales: tl.tensor,
    plane_layout: tl.tensor,
    weights: tl.tensor,
    biases: tl.tensor,
    warp: tl.tensor,
    warp_box: tl.tensor,
    out: tl.tensor,
    rays: tl.tensor,
    limit: tl.tensor,
    density_shift: tl.tensor,
    max_log_density: tl.tensor,
    SPACE_LEVELS: tl.constexpr,
    SPACE_PADDED: tl.constexpr,
    SPACE_F: tl.constexpr,
    PLANE_LEVELS: tl.constexpr,
    PLANE_PADDED: tl.constexpr,
    PLANE_F: tl.constexpr,
    W: tl.constexpr,
    RAW: tl.constexpr,
    ACROSS: tl.constexpr,
    UP: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    E3: tl.constexpr = SPACE_PADDED * SPACE_F
    E2: tl.constexpr = PLANE_PADDED * PLANE_F
    # Where each matrix lies; ``_packed`` puts them there.
    M1: tl.constexpr = E3 * W
    M2: tl.constexpr = M1 + W * W
    D0: tl.constexpr = M2 + W * 16
    D0_PLANE: tl.constexpr = D0 + E3 * W
    D1: tl.constexpr = D0_PLANE + E2 * W
    D2: tl.constexpr = D1 + W * W
    C0: tl.constexpr = D2 + W * RAW
    C0_RAW: tl.constexpr = C0 + 16 * W
    C1: tl.constexpr = C0_RAW + RAW * W

    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    going = slot < tl.load(alive)
    ray = tl.load(listed + slot, mask=going, other=0)
    count = tl.load(counts + ray, mask=going, other=0)
    dt = tl.load(steps + ray, mask=going, other=0.0)
    ox = tl.load(origins + 3 * ray, mask=going, other=0.0)
    oy = tl.load(origins + 3 * ray + 1, mask=going, other=0.0)
    oz = tl.load(origins + 3 * ray + 2, mask=going, other=0.0)
    dx = tl.load(directions + 3 * ray, mask=going, other=0.0)
    dy = tl.load(directions + 3 * ray + 1, mask=going, other=0.0)
    dz = tl.load(directions + 3 * ray + 2, mask=going, other=0.0)
    lx, ly, lz = tl.load(aabb), tl.load(aabb + 1), tl.load(aabb + 2)
    sx, sy, sz = tl.load(aabb + 3) - lx, tl.load(aabb + 4) - ly, tl.load(aabb + 5) - lz
    hidden = tl.arange(0, W)[None, :]
    views = _harmonics(dx, dy, dz)
    colour = tl.zeros([BLOCK, 16], tl.float32)
    alpha = tl.zeros([BLOCK], tl.float32)
    depth = tl.zeros([BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    number = 0
    while tl.max(going.to(tl.int32), axis=0) > 0:
        t = tl.load(times + tl.cast(number, tl.int64) * rays + ray, mask=going, other=0.0)
        x = ox + t * dx
        y = oy + t * dy
        if ACROSS > 0:
            x, y = _bent(x, y, going, warp, warp_box, ACROSS, UP)
        x = tl.minimum(tl.maximum((x - lx) / sx, 0.0), 1.0)
        y = tl.minimum(tl.maximum((y - ly) / sy, 0.0), 1.0)
        z = tl.minimum(tl.maximum((oz + t * dz - lz) / sz, 0.0), 1.0)
        spatial = encode_levels(
            x, y, z, going, space, space_scales, space_layout, 3, SPACE_LEVELS, SPACE_PADDED, SPACE_F, BLOCK
        )
        h = product(spatial, matrix(weights, 0, E3, W), HALF) + tl.load(biases + hidden)
        h = product(tl.maximum(h, 0.0), matrix(weights, M1, W, W), HALF)
        h = product(tl.maximum(h, 0.0), matrix(weights, M2, W, 16), HALF)
        # tanh(h) / 2 + 1 / 2, the audio coordinate's place in the plane.
        moved = tl.sigmoid(2.0 * h)
        u, v = column(moved, 0, 16), column(moved, 1, 16)
        deformed = encode_levels(
            u, v, v, going, plane, plane_scales, plane_layout, 2, PLANE_LEVELS, PLANE_PADDED, PLANE_F, BLOCK
        )
        h = product(spatial, matrix(weights, D0, E3, W), HALF) + tl.load(biases + W + hidden)
        h += product(deformed, matrix(weights, D0_PLANE, E2, W), HALF)
        h = product(tl.maximum(h, 0.0), matrix(weights, D1, W, W), HALF)
        raw = product(tl.maximum(h, 0.0), matrix(weights, D2, W, RAW), HALF)
        sigma = tl.exp(tl.minimum(column(raw, 0, RAW) + density_shift, max_log_density))
        h = product(views, matrix(weights, C0, 16, W), HALF) + tl.load(biases + 2 * W + hidden)
        h += product(raw, matrix(weights, C0_RAW, RAW, W), HALF)
        rgb = tl.sigmoid(product(tl.maximum(h, 0.0), matrix(weights, C1, W, 16), HALF))
        optical = tl.where(going, sigma * dt, 0.0)
        weight = tl.exp(-total) * opacity(optical)
        colour += weight[:, None] * rgb
        alpha += weight
        depth += weight * t
        total += optical
        number += 1
        going = going & (number < count) & (total <= limit)
    place = tl.arange(0, 16)[None, :]
    colour = tl.where(place == 3, tl.minimum(alpha, 1.0)[:, None], colour)
    colour = tl.where(place == 4, depth[:, None], colour)
    tl.store(out + 5 * ray[:, None] + place, colour, mask=(count > 0)[:, None] & (place < 5))


def shade(
    head: FrozenHead, rays: tuple[Tensor, Tensor], traced: Traced, min_transmittance: float, half: bool
) -> Tensor:
    """Evaluate and composite samples.

    Args:
        head: The head in this frame; its tables may be in half precision.
        rays: Origins and directions, (R, 3) float32, contiguous.
        traced: Their samples.
        min_transmittance: Below it a ray is opaque; 0 keeps every sample.
        half: Whether the networks' weights and activations are in half precision.

    Returns:
        (R, 5) float32, as ``Backend.render``.
    """
    device, count = rays[0].device, len(rays[0])
    width, raw = head.motion_bias.shape[0], padded(head.density[2].shape[0])
    specs = (head.space_spec, head.plane_spec)
    sizes = [size for spec in specs for size in (spec.levels, padded_levels(spec), spec.features_per_level)]
    limit = -math.log(min_transmittance) if min_transmittance > 0 else math.inf
    out = torch.zeros(count, 5, device=device)
    if count:
        weights = _packed(head).to(torch.float16 if half else torch.float32)
        biases = [filled(bias[None], 1, padded(width)) for bias in _biases(head)]
        _shade[(programs(count, _BLOCK),)](
            *rays,
            traced.times,
            traced.steps,
            traced.counts,
            traced.listed,
            traced.alive,
            head.aabb.contiguous(),
            head.space,
            *level_tensors(head.space_spec, device),
            head.plane,
            *level_tensors(head.plane_spec, device),
            weights,
            torch.cat(biases).contiguous(),
            out if head.warp is None else head.warp.contiguous(),
            out if head.warp_box is None else head.warp_box.contiguous(),
            out,
            count,
            limit,
            head.density_shift,
            head.max_log_density,
            *sizes,
            padded(width),
            raw,
            *((0, 0) if head.warp is None else head.warp.shape[:2]),
            half,
            _BLOCK,
            num_warps=4,
        )
    return out


def _biases(head: FrozenHead) -> tuple[Tensor, Tensor, Tensor]:
    return head.motion_bias, head.density_bias, head.colour_bias


def _packed(head: FrozenHead) -> Tensor:
    """Every matrix, (inputs, outputs), filled up with zeros, one behind the other."""
    width, raw = padded(head.motion_bias.shape[0]), padded(head.density[2].shape[0])
    e3, e2 = (padded_levels(spec) * spec.features_per_level for spec in (head.space_spec, head.plane_spec))
    encoded = head.space_spec.output_width
    colour = head.colour[0]
    # The density comes first in what the last density matrix gives: the colour does not look at it.
    geometry = functional.pad(colour[:, 16:], (1, 0))
    parts = [
        (head.motion[0], e3, width),
        (head.motion[1], width, width),
        (head.motion[2], width, 16),
        (head.density[0][:, :encoded], e3, width),
        (head.density[0][:, encoded:], e2, width),
        (head.density[1], width, width),
        (head.density[2], width, raw),
        (colour[:, :16], 16, width),
        (geometry, raw, width),
        (head.colour[1], width, 16),
    ]
    return torch.cat([filled(part.T, rows, columns).flatten() for part, rows, columns in parts])


def filled(values: Tensor, rows: int, columns: int) -> Tensor:
    """A (N, M) matrix filled up with zeros to (rows, columns)."""
    return functional.pad(values, (0, columns - values.shape[1], 0, rows - values.shape[0]))

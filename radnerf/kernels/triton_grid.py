"""Pieces that index and interpolate the hash grid; ``radnerf.grid`` has the convention.

A level is described by four integers side by side: resolution, offset, entries, hashed (see ``level_tensors``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import triton.language as tl
from torch import Tensor

from radnerf.errors import BadInput
from radnerf.kernels.triton_jit import INTERPRETED, piece, power_of_two

if TYPE_CHECKING:
    from radnerf.grid import GridSpec

LEVEL_NUMBERS = tl.constexpr(4)


@lru_cache(maxsize=64)
def level_tensors(spec: GridSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scales (L,) float32, and resolution, offset, entries, hashed (L, 4) int32, on a device.

    Raises:
        BadInput: The table is too big for the kernels' 32-bit indices.
    """
    if spec.total_entries * spec.features_per_level >= 1 << 31:
        raise BadInput(f"backend triton: a table of {spec.total_entries} entries is too big", hint="lower log2_entries")
    layout = spec.level_layout()
    scales = torch.tensor([level.scale for level in layout], dtype=torch.float32)
    rows = [(level.resolution, level.offset, level.entries, level.hashed) for level in layout]
    return scales.to(device), torch.tensor(rows, dtype=torch.int32).to(device)


def padded_levels(spec: GridSpec) -> int:
    """Levels that a fused kernel encodes at once: a power of two, and features enough for a matrix product."""
    return max(power_of_two(spec.levels), 16 // spec.features_per_level)


@piece
def rounded_once(x: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """X * scale + 0.5, rounded once to float32, as tiny-cuda-nn's fused multiply-add."""
    if INTERPRETED:
        return (x.to(tl.float64) * scale + 0.5).to(tl.float32)
    else:  # noqa: RET505 - Triton follows both ways unless they are two branches
        return tl.fma(x, scale, tl.full([], 0.5, tl.float32))


@piece
def lower_vertex(x: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """The vertex below a coordinate, uint32, and the way from it to the next one in [0, 1)."""
    position = rounded_once(x, scale)
    floor = tl.floor(position)
    return floor.to(tl.int32).to(tl.uint32, bitcast=True), position - floor


@piece
def vertex_row(
    x: tl.tensor,
    y: tl.tensor,
    z: tl.tensor,
    resolution: tl.tensor,
    entries: tl.tensor,
    hashed: tl.tensor,
    DIM: tl.constexpr,
) -> tl.tensor:
    """Row of a vertex within its level, uint32: dense with x fastest, or by the coherent prime hash."""
    if DIM == 2:
        dense = x + y * resolution
        mixed = x ^ (y * 2654435761)
    else:
        dense = x + y * resolution + z * resolution * resolution
        mixed = x ^ (y * 2654435761) ^ (z * 805459861)
    return tl.where(hashed != 0, mixed, dense) % entries


@piece
def encode_levels(
    x: tl.tensor,
    y: tl.tensor,
    z: tl.tensor,
    live: tl.tensor,
    table: tl.tensor,
    scales: tl.tensor,
    layout: tl.tensor,
    DIM: tl.constexpr,
    LEVELS: tl.constexpr,
    PADDED: tl.constexpr,
    F: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """All levels of BLOCK points at once: (BLOCK, PADDED * F) float32, level after level, 0 beyond LEVELS.

    Points have coordinates x, y, z, (BLOCK,) float32 in [0, 1]; z is not looked at where DIM is 2. Nothing is read
    for points that are not live.
    """
    level = tl.arange(0, PADDED)
    there = level < LEVELS
    scale = tl.load(scales + level, mask=there, other=0.0)[None, :]
    numbers = layout + level * LEVEL_NUMBERS
    resolution = tl.load(numbers, mask=there, other=1).to(tl.uint32)[None, :]
    offset = tl.load(numbers + 1, mask=there, other=0)[None, :]
    entries = tl.load(numbers + 2, mask=there, other=8).to(tl.uint32)[None, :]
    hashed = tl.load(numbers + 3, mask=there, other=0)[None, :]
    cell_x, part_x = lower_vertex(x[:, None], scale)
    cell_y, part_y = lower_vertex(y[:, None], scale)
    cell_z, part_z = lower_vertex(z[:, None], scale)
    read = (live[:, None] & there[None, :])[:, :, None]
    feature = tl.arange(0, F)[None, None, :]
    total = tl.zeros([BLOCK, PADDED, F], tl.float32)
    for corner in tl.static_range(1 << DIM):
        weight = part_x if corner & 1 else 1 - part_x
        weight = weight * (part_y if corner & 2 else 1 - part_y)
        if DIM == 3:
            weight = weight * (part_z if corner & 4 else 1 - part_z)
        row = vertex_row(
            cell_x + (corner & 1),
            cell_y + (corner >> 1 & 1),
            cell_z + (corner >> 2 & 1),
            resolution,
            entries,
            hashed,
            DIM,
        )
        place = (offset + row.to(tl.int32))[:, :, None] * F + feature
        total += weight[:, :, None] * tl.load(table + place, mask=read, other=0.0).to(tl.float32)
    return tl.reshape(total, [BLOCK, PADDED * F])

"""Grid encoding with gradients to the points and to the table, one level a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from radnerf.kernels.triton_grid import LEVEL_NUMBERS, level_tensors, lower_vertex, vertex_row
from radnerf.kernels.triton_jit import kernel, piece, programs

if TYPE_CHECKING:
    from radnerf.grid import GridSpec

_BLOCK = 256


@piece
def _coordinates(points: tl.tensor, n: tl.tensor, live: tl.tensor, DIM: tl.constexpr) -> tl.tensor:
    """x, y and z of points, float32; z is y where DIM is 2."""
    x = tl.load(points + n * DIM, mask=live, other=0.0).to(tl.float32)
    y = tl.load(points + n * DIM + 1, mask=live, other=0.0).to(tl.float32)
    z = tl.load(points + n * DIM + DIM - 1, mask=live, other=0.0).to(tl.float32)
    return x, y, z


@piece
def _level(scales: tl.tensor, layout: tl.tensor, level: tl.tensor) -> tl.tensor:
    """Scale, resolution, offset, entries and hashed of one level."""
    numbers = layout + level * LEVEL_NUMBERS
    return (
        tl.load(scales + level),
        tl.load(numbers).to(tl.uint32),
        tl.load(numbers + 1),
        tl.load(numbers + 2).to(tl.uint32),
        tl.load(numbers + 3),
    )


@kernel
def _forward(
    points: tl.tensor,
    table: tl.tensor,
    scales: tl.tensor,
    layout: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    LEVELS: tl.constexpr,
    DIM: tl.constexpr,
    F: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    level = tl.program_id(1)
    live = n < count
    x, y, z = _coordinates(points, n, live, DIM)
    scale, resolution, offset, entries, hashed = _level(scales, layout, level)
    cell_x, part_x = lower_vertex(x, scale)
    cell_y, part_y = lower_vertex(y, scale)
    cell_z, part_z = lower_vertex(z, scale)
    feature = tl.arange(0, F)[None, :]
    total = tl.zeros([BLOCK, F], tl.float32)
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
        place = (offset + row.to(tl.int32))[:, None] * F + feature
        total += weight[:, None] * tl.load(table + place, mask=live[:, None], other=0.0).to(tl.float32)
    where = n[:, None] * (LEVELS * F) + level * F + feature
    tl.store(out + where, total.to(out.dtype.element_ty), mask=live[:, None])


@kernel
def _table_gradient(
    points: tl.tensor,
    grad: tl.tensor,
    scales: tl.tensor,
    layout: tl.tensor,
    grad_table: tl.tensor,
    count: tl.tensor,
    LEVELS: tl.constexpr,
    DIM: tl.constexpr,
    F: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    level = tl.program_id(1)
    live = n < count
    x, y, z = _coordinates(points, n, live, DIM)
    scale, resolution, offset, entries, hashed = _level(scales, layout, level)
    cell_x, part_x = lower_vertex(x, scale)
    cell_y, part_y = lower_vertex(y, scale)
    cell_z, part_z = lower_vertex(z, scale)
    feature = tl.arange(0, F)[None, :]
    where = n[:, None] * (LEVELS * F) + level * F + feature
    slope = tl.load(grad + where, mask=live[:, None], other=0.0).to(tl.float32)
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
        place = (offset + row.to(tl.int32))[:, None] * F + feature
        tl.atomic_add(grad_table + place, weight[:, None] * slope, mask=live[:, None], sem="relaxed")


@kernel
def _point_gradient(
    points: tl.tensor,
    grad: tl.tensor,
    table: tl.tensor,
    scales: tl.tensor,
    layout: tl.tensor,
    grad_points: tl.tensor,
    count: tl.tensor,
    LEVELS: tl.constexpr,
    DIM: tl.constexpr,
    F: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = n < count
    x, y, z = _coordinates(points, n, live, DIM)
    feature = tl.arange(0, F)[None, :]
    grad_x = tl.zeros([BLOCK], tl.float32)
    grad_y = tl.zeros([BLOCK], tl.float32)
    grad_z = tl.zeros([BLOCK], tl.float32)
    for level in range(LEVELS):
        scale, resolution, offset, entries, hashed = _level(scales, layout, level)
        cell_x, part_x = lower_vertex(x, scale)
        cell_y, part_y = lower_vertex(y, scale)
        cell_z, part_z = lower_vertex(z, scale)
        where = n[:, None] * (LEVELS * F) + level * F + feature
        slope = tl.load(grad + where, mask=live[:, None], other=0.0).to(tl.float32)
        for corner in tl.static_range(1 << DIM):
            row = vertex_row(
                cell_x + (corner & 1),
                cell_y + (corner >> 1 & 1),
                cell_z + (corner >> 2 & 1),
                resolution,
                entries,
                hashed,
                DIM,
            )
            place = (offset + row.to(tl.int32))[:, None] * F + feature
            value = tl.load(table + place, mask=live[:, None], other=0.0).to(tl.float32)
            along = tl.sum(slope * value, axis=1) * scale
            weight_x = part_x if corner & 1 else 1 - part_x
            weight_y = part_y if corner & 2 else 1 - part_y
            weight_z = part_z if corner & 4 else 1 - part_z
            if DIM == 2:
                weight_z = tl.full([BLOCK], 1.0, tl.float32)
            grad_x += along * weight_y * weight_z * (2 * (corner & 1) - 1)
            grad_y += along * weight_x * weight_z * (2 * (corner >> 1 & 1) - 1)
            grad_z += along * weight_x * weight_y * (2 * (corner >> 2 & 1) - 1)
    kind = grad_points.dtype.element_ty
    tl.store(grad_points + n * DIM, grad_x.to(kind), mask=live)
    tl.store(grad_points + n * DIM + 1, grad_y.to(kind), mask=live)
    if DIM == 3:
        tl.store(grad_points + n * DIM + 2, grad_z.to(kind), mask=live)


class Encode(torch.autograd.Function):
    """The grid's features, with gradients to the points and to the table."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:  # noqa: ANN401
        """Interpolate (N, dim) points in a table."""
        x = x.contiguous()
        ctx.save_for_backward(x, table)
        ctx.spec = spec
        out = torch.empty(len(x), spec.output_width, dtype=table.dtype, device=x.device)
        if len(x):
            levels = level_tensors(spec, x.device)
            _forward[_grid(x, spec)](x, table, *levels, out, len(x), *_shape(spec), _BLOCK)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401
        """Gradients; the table's is summed in float32 whatever its own type."""
        x, table = ctx.saved_tensors
        spec: GridSpec = ctx.spec
        levels = level_tensors(spec, x.device)
        grad = grad.contiguous()
        grad_x = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            if len(x):
                grid = (programs(len(x), _BLOCK),)
                _point_gradient[grid](x, grad, table, *levels, grad_x, len(x), *_shape(spec), _BLOCK)
        if ctx.needs_input_grad[1]:
            summed = torch.zeros(table.shape, dtype=torch.float32, device=x.device)
            if len(x):
                _table_gradient[_grid(x, spec)](x, grad, *levels, summed, len(x), *_shape(spec), _BLOCK)
            grad_table = summed.to(table.dtype)
        return grad_x, grad_table, None


def _grid(x: Tensor, spec: GridSpec) -> tuple[int, int]:
    return programs(len(x), _BLOCK), spec.levels


def _shape(spec: GridSpec) -> tuple[int, int, int]:
    return spec.levels, spec.dim, spec.features_per_level

"""The specification of every kernel, in plain torch: any device, any float type, differentiable, slow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from radnerf.kernels.checks import check_composite, check_encode, check_march
from radnerf.kernels.frozen import render_by_parts
from radnerf.kernels.protocol import MIN_TRANSMITTANCE, Composite, FrozenHead, Samples

if TYPE_CHECKING:
    from radnerf.grid import GridLevel, GridSpec

_PRIMES = (1, 2654435761, 805459861)
_UINT32 = 0xFFFFFFFF
_RAYS_AT_ONCE = 4096

# How far below a whole number l / min_step may come to rest and still count as that number. Lengths that are
# whole multiples of the step are common (rays along an axis); without slack rounding decides their count.
COUNT_SLACK = 1e-6

# A sample may lie exactly between two occupied stretches, most often the middle one of an odd number on a ray that
# crosses cells of one length: shrinking distances by this keeps it on the nearer one, whatever rounding does, that of
# a float32 near and far included.
ARC_SHRINK = 1.0 - 2.0**-16

# Keeps the last sample of a ray in front of the end of its occupied length.
LAST_FRACTION = 1.0 - 2.0**-40


class ReferenceBackend:
    """The twin that every other backend is compared with; see ``Backend`` for the contract."""

    name = "reference"

    def encode(self, x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
        """Interpolate a hash grid at points, (N, dim) -> (N, levels * features_per_level)."""
        check_encode(x, table, spec)
        return torch.cat([_encode_level(x, table, level) for level in spec.level_layout()], dim=1)

    def march(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        near: Tensor,
        far: Tensor,
        occupancy: Tensor,
        aabb: Tensor,
        max_samples: int,
        min_step: float,
        jitter: Tensor,
    ) -> Samples:
        """Place samples along the occupied part of each ray."""
        check_march(rays_o, rays_d, near, far, occupancy, aabb, max_samples, min_step, jitter)
        with torch.no_grad():
            wide = [tensor.double() for tensor in (rays_o, rays_d, near, far, jitter)]
            parts = [
                _march_some(
                    [tensor[first : first + _RAYS_AT_ONCE] for tensor in wide],
                    occupancy=occupancy,
                    aabb=aabb.double(),
                    max_samples=max_samples,
                    min_step=min_step,
                )
                for first in range(0, max(len(rays_o), 1), _RAYS_AT_ONCE)
            ]
            counts = torch.cat([part[0] for part in parts])
            offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
            torch.cumsum(counts, 0, out=offsets[1:])
            ray = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
            t, dt = (torch.cat([part[i] for part in parts]).to(rays_o.dtype) for i in (1, 2))
        return Samples(offsets, t, dt, ray)

    def composite(
        self,
        sigma: Tensor,
        rgb: Tensor,
        t: Tensor,
        dt: Tensor,
        offsets: Tensor,
        min_transmittance: float = MIN_TRANSMITTANCE,
    ) -> Composite:
        """Integrate samples along rays."""
        check_composite(sigma, rgb, t, dt, offsets)
        rays = offsets.shape[0] - 1
        counts = offsets[1:] - offsets[:-1]
        ray = torch.repeat_interleave(torch.arange(rays, device=offsets.device), counts)
        # Rays side by side in a padded matrix, so that one ray's numbers never touch another's.
        longest = int(counts.max()) if rays else 0
        slot = ray * longest + torch.arange(len(ray), device=ray.device) - offsets[ray]
        optical = sigma * dt.detach()
        padded = torch.zeros(rays * longest, dtype=sigma.dtype, device=sigma.device)
        padded = padded.index_put((slot,), optical).view(rays, longest)
        before = torch.cat([padded.new_zeros(rays, 1), padded.cumsum(1)[:, :-1]], dim=1)[:, :longest]
        before = before.reshape(-1)[slot]
        # The threshold is on the optical depth, a sum, so that every backend stops at the same sample.
        limit = -math.log(min_transmittance) if min_transmittance > 0 else math.inf
        weights = torch.exp(-before) * -torch.expm1(-optical)
        weights = torch.where(before <= limit, weights, torch.zeros_like(weights))
        alpha = sigma.new_zeros(rays).index_add(0, ray, weights)
        # A sum of weights can round to just above 1, which no logarithm of 1 - alpha survives.
        alpha = alpha - (alpha.detach() - 1).clamp(min=0)
        depth = sigma.new_zeros(rays).index_add(0, ray, weights * t.detach())
        image = sigma.new_zeros(rays, 3).index_add(0, ray, weights[:, None] * rgb)
        return Composite(image, alpha, depth, weights)

    def render(
        self,
        head: FrozenHead,
        rays_o: Tensor,
        rays_d: Tensor,
        occupancy: Tensor,
        max_samples: int,
        min_step: float,
        min_transmittance: float = MIN_TRANSMITTANCE,
    ) -> Tensor:
        """March, evaluate and composite the rays of one frame."""
        return render_by_parts(self, head, rays_o, rays_d, occupancy, max_samples, min_step, min_transmittance)


def _encode_level(x: Tensor, table: Tensor, level: GridLevel) -> Tensor:
    """Encode (N, D) points on one level, (N, F)."""
    dim = x.shape[1]
    # In float64 the product of two float32 is exact: rounding the sum once is a fused multiply-add.
    position = (x.double() * level.scale + 0.5).to(x.dtype)
    floor = position.detach().floor()
    fraction = position - floor
    cell = floor.long()
    total = torch.zeros(x.shape[0], table.shape[1], dtype=x.dtype, device=x.device)
    for corner in range(1 << dim):
        weight = torch.ones_like(fraction[:, 0])
        index = torch.zeros_like(cell[:, 0])
        stride = 1
        for axis in range(dim):
            upper = corner >> axis & 1
            weight = weight * (fraction[:, axis] if upper else 1 - fraction[:, axis])
            vertex = (cell[:, axis] + upper) & _UINT32
            if level.hashed:
                index = index ^ ((vertex * _PRIMES[axis]) & _UINT32)
            else:
                index = (index + vertex * stride) & _UINT32
                stride *= level.resolution
        rows = level.offset + index % level.entries
        total = total + weight[:, None] * table.index_select(0, rows)
    return total


def _march_some(
    rays: list[Tensor],
    occupancy: Tensor,
    aabb: Tensor,
    max_samples: int,
    min_step: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """March a few rays: [origins, directions, near, far, jitter] in float64 -> counts (R,), t (S,), dt (S,)."""
    rays_o, rays_d, near, far, jitter = rays
    size = occupancy.shape[0]
    low, cell = aabb[0], (aabb[1] - aabb[0]) / size
    planes = low + torch.arange(size + 1, device=low.device)[:, None] * cell
    # A ray along an axis never crosses the planes of the others: its crossings are sent to the end.
    moving = rays_d[:, None, :] != 0
    crossings = torch.where(
        moving, (planes - rays_o[:, None, :]) / torch.where(moving, rays_d[:, None, :], 1.0), torch.inf
    )
    start = near.clamp(min=0)
    end = torch.maximum(far, start)
    crossings = crossings.flatten(1).clamp(start[:, None], end[:, None])
    bounds = torch.cat([start[:, None], crossings, end[:, None]], dim=1).sort(dim=1).values
    middle = 0.5 * (bounds[:, :-1] + bounds[:, 1:])
    points = rays_o[:, None, :] + middle[:, :, None] * rays_d[:, None, :]
    index = torch.floor((points - low) / cell)
    inside = ((index >= 0) & (index < size)).all(dim=2)
    x, y, z = torch.where(inside[:, :, None], index, 0.0).long().unbind(2)
    occupied = inside & occupancy[x, y, z]
    ends = torch.where(occupied, bounds[:, 1:] - bounds[:, :-1], 0.0).cumsum(dim=1)
    length = ends[:, -1]

    counts = torch.ceil(length / min_step - COUNT_SLACK).clamp(min=1, max=max_samples).long()
    counts = torch.where(length > 0, counts, 0)
    ray = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    first = torch.cumsum(counts, 0) - counts
    number = torch.arange(len(ray), device=ray.device) - first[ray]
    step = length / counts.clamp(min=1)
    arc = torch.minimum((number + jitter[ray]) * (step[ray] * ARC_SHRINK), length[ray] * LAST_FRACTION)
    # The segment of a sample is the first whose end lies beyond it, counted by comparison a ray at a time.
    padded = torch.full((len(counts), max_samples), torch.inf, dtype=arc.dtype, device=arc.device)
    padded[ray, number] = arc
    segment = torch.searchsorted(ends, padded, right=True)[ray, number]
    begins = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], dim=1)
    t = bounds[ray, segment] + (arc - begins[ray, segment])
    return counts, t, step[ray]


BACKEND = ReferenceBackend()

"""A frame of a frozen head, kernel after kernel: the specification of every fused one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from radnerf.encoding import spherical_harmonics
from radnerf.kernels.protocol import Backend, FrozenHead
from radnerf.rays import intersect_aabb
from radnerf.warp import bend

RAYS_AT_ONCE = 1 << 14
"""Rays of a frame that are rendered together where each step's result is a tensor: bounds the memory."""


@torch.no_grad()
def render_by_parts(
    kernels: Backend,
    head: FrozenHead,
    rays_o: Tensor,
    rays_d: Tensor,
    occupancy: Tensor,
    max_samples: int,
    min_step: float,
    min_transmittance: float,
) -> Tensor:
    """Render with a backend's ``march``, ``encode`` and ``composite`` and torch between them.

    Args:
        kernels: The backend.
        head: The head in this frame.
        rays_o: (R, 3) origins, cm, world.
        rays_d: (R, 3) unit directions, world.
        occupancy: (G, G, G) bool, indexed [x, y, z], over the head's box.
        max_samples: Most samples of one ray.
        min_step: Finest sampling, cm.
        min_transmittance: Below it a ray is opaque.

    Returns:
        (R, 5), as ``Backend.render``.
    """
    some = zip(torch.split(rays_o, RAYS_AT_ONCE), torch.split(rays_d, RAYS_AT_ONCE), strict=True)
    return torch.cat(
        [_render_some(kernels, head, *rays, occupancy, max_samples, min_step, min_transmittance) for rays in some]
    )


def _render_some(
    kernels: Backend,
    head: FrozenHead,
    rays_o: Tensor,
    rays_d: Tensor,
    occupancy: Tensor,
    max_samples: int,
    min_step: float,
    min_transmittance: float,
) -> Tensor:
    near, far = intersect_aabb(rays_o, rays_d, head.aabb)
    middle = torch.full_like(near, 0.5)
    samples = kernels.march(rays_o, rays_d, near, far, occupancy, head.aabb, max_samples, min_step, middle)
    points = torch.addcmul(rays_o[samples.ray], rays_d[samples.ray], samples.t[:, None])
    sigma, rgb = evaluate_frozen(kernels, head, points, spherical_harmonics(rays_d)[samples.ray])
    seen = kernels.composite(sigma, rgb, samples.t, samples.dt, samples.offsets, min_transmittance)
    return torch.cat([seen.image, seen.alpha[:, None], seen.depth[:, None]], dim=1)


def evaluate_frozen(kernels: Backend, head: FrozenHead, points: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
    """Density and colour of points of a frozen head.

    Args:
        kernels: The backend that encodes.
        head: The head in this frame.
        points: (N, 3) cm, world.
        views: (N, 16) spherical harmonics of the viewing directions.

    Returns:
        sigma: (N,) > 0, per cm.
        rgb: (N, 3) in [0, 1].
    """
    if head.warp is not None and head.warp_box is not None:
        points = bend(points, head.warp[None], head.warp_box)
    unit = ((points - head.aabb[0]) / (head.aabb[1] - head.aabb[0])).clamp(0, 1)
    spatial = kernels.encode(unit, head.space, head.space_spec)
    motion = torch.tanh(_network(spatial, head.motion, head.motion_bias))
    deformed = kernels.encode(motion * 0.5 + 0.5, head.plane, head.plane_spec)
    raw = _network(torch.cat([spatial, deformed], dim=1), head.density, head.density_bias)
    sigma = torch.exp((raw[:, 0] + head.density_shift).clamp(max=head.max_log_density))
    rgb = torch.sigmoid(_network(torch.cat([views, raw[:, 1:]], dim=1), head.colour, head.colour_bias))
    return sigma, rgb


def _network(x: Tensor, weights: Sequence[Tensor], bias: Tensor) -> Tensor:
    hidden = functional.linear(x, weights[0], bias)
    for weight in weights[1:]:
        hidden = functional.linear(torch.relu(hidden), weight)
    return hidden

"""Rays through the occupied part of the box, a field's samples on them, and their composite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from radnerf.head import Condition, FieldSample
from radnerf.kernels.protocol import Backend, RoomyMarcher
from radnerf.rays import intersect_aabb

Field = Callable[[Tensor, Tensor, Condition, Tensor | None, Tensor], FieldSample]
"""A radiance field: ``(points, the rays' directions, condition, membership, ray) -> FieldSample``."""


@dataclass(frozen=True)
class Region:
    """Where there is anything to sample, and how finely.

    Attributes:
        aabb: (2, 3) float32, the box, cm, world.
        mask: (G, G, G) bool, the cells that may hold something, indexed [x, y, z].
        max_samples: At most so many samples a ray.
        min_step_cm: Finest spacing of samples.
        room: How many samples there is room for, where the backend then need not wait to know their number; None for
            as many as there are.
    """

    aabb: Tensor
    mask: Tensor
    max_samples: int
    min_step_cm: float
    room: int | None = None


@dataclass(frozen=True)
class RayColours:
    """What R rays see through S samples.

    Attributes:
        image: (R, 3) float, premultiplied by alpha, without background.
        alpha: (R,) float in [0, 1].
        depth: (R,) float, cm, premultiplied by alpha.
        weights: (S,) float in [0, 1], the share of each sample in its ray.
        motion: (S, 2) float, the samples' 2-D audio coordinates (S, 0 without).
        points: (S, 3) float, cm, world.
        ray: (S,) int64, the ray of each sample.
        samples: Scalar int64, how many of the samples are rays' own; behind them lie empty ones where room was left.
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor
    weights: Tensor
    motion: Tensor
    points: Tensor
    ray: Tensor
    samples: Tensor


def render_rays(
    field: Field,
    kernels: Backend,
    region: Region,
    rays: tuple[Tensor, Tensor],
    condition: Condition,
    membership: Tensor | None,
    jitter: Tensor | None = None,
) -> RayColours:
    """March, evaluate and composite; differentiable in the field's parameters.

    Args:
        field: The radiance field.
        kernels: What marches and composites.
        region: Where to look.
        rays: Origins (R, 3) cm and unit directions (R, 3), float32, world.
        condition: Of B frames.
        membership: (R, B) float, one 1 in each row: the frame of a ray; None when B is 1.
        jitter: (R,) float in [0, 1), where in its share of the ray a sample lies; the middle when None.

    Returns:
        The rays' colours over nothing.
    """
    rays_o, rays_d = rays[0].contiguous(), rays[1].contiguous()
    near, far = intersect_aabb(rays_o, rays_d, region.aabb)
    if jitter is None:
        jitter = torch.full_like(near, 0.5)
    given = (rays_o, rays_d, near, far, region.mask, region.aabb, region.max_samples, region.min_step_cm, jitter)
    if region.room is not None and isinstance(kernels, RoomyMarcher):
        samples = kernels.march_within(*given, region.room)
    else:
        samples = kernels.march(*given)
    points = torch.addcmul(rays_o[samples.ray], rays_d[samples.ray], samples.t[:, None])
    frames = None if membership is None else membership[samples.ray]
    sample = field(points, rays_d, condition, frames, samples.ray)
    seen = kernels.composite(sample.sigma, sample.rgb, samples.t, samples.dt, samples.offsets)
    number = samples.offsets[-1]
    return RayColours(seen.image, seen.alpha, seen.depth, seen.weights, sample.motion, points, samples.ray, number)

"""What a frame costs on paper: operations and bytes, counted from the shapes.

Only what no implementation can leave out is counted: the products and sums of the networks, of the grids'
interpolation, of compositing and blending; the table rows that interpolation asks for, and the pictures. Exponentials,
index arithmetic, marching and everything in between count for nothing, so that a time reckoned from these figures is a
floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radnerf.grid import GridSpec
from radnerf.kernels.protocol import FrozenHead
from radnerf.mlp import ConditionedMLP
from radnerf.nerf import NerfField
from radnerf.torso import TorsoModel

FLOAT_BYTES = 4

COMPOSITE_OPERATIONS = 14
"""A sample: density x length, 1 - e, weight, transmittance (1 each); colour (6), alpha (2), depth (2)."""

WARP_OPERATIONS = 26
"""A sample where there is a warp: its place in the lattice (4) and the complements of its fractions (2), three
interpolations of two numbers (3 x 2 x 3), and the displacement added to both (2)."""

WARP_BYTES = 32
"""A sample: four nodes of two floats."""

BLEND_OPERATIONS = 14
"""A pixel: two layers over what is behind them, 1 - alpha (1) and a product and a sum a channel (6) each."""

PIXEL_BYTES = 15
"""A pixel: the background read as three floats, the picture written as three bytes."""


@dataclass(frozen=True)
class Cost:
    """What some work takes at least.

    Attributes:
        operations: Floating-point products and sums; a fused multiply-add counts as two.
        asked_bytes: Bytes that the arithmetic asks for, from whatever cache.
        least_bytes: Bytes that must come from or go to main memory once.
    """

    operations: float
    asked_bytes: float
    least_bytes: float

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(
            self.operations + other.operations,
            self.asked_bytes + other.asked_bytes,
            self.least_bytes + other.least_bytes,
        )


def matrix_operations(*weights: Tensor) -> int:
    """Operations of one row through matrices, 2 for each weight."""
    return 2 * sum(weight.numel() for weight in weights)


def mlp_operations(network: ConditionedMLP) -> int:
    """Operations of one row through a network whose condition is the same for all rows, and so counts for nothing."""
    first, *rest = network.weights
    return matrix_operations(first[:, : network.width_in], *rest)


def encode_operations(spec: GridSpec) -> int:
    """Operations of one point's interpolation.

    On each level: the position (a product, a sum and the fraction's complement an axis), the weight of each corner
    (dim - 1 products), and a product and a sum for each feature of each corner.
    """
    corners = 1 << spec.dim
    return spec.levels * (3 * spec.dim + corners * (spec.dim - 1) + 2 * corners * spec.features_per_level)


def encode_bytes(spec: GridSpec, element_bytes: int = FLOAT_BYTES) -> int:
    """Bytes of the table that one point's interpolation asks for."""
    return spec.levels * (1 << spec.dim) * spec.features_per_level * element_bytes


def table_bytes(spec: GridSpec, element_bytes: int = FLOAT_BYTES) -> int:
    """Bytes of the whole table."""
    return spec.total_entries * spec.features_per_level * element_bytes


def _grid_cost(spec: GridSpec, points: float) -> Cost:
    """Of interpolating a grid at points; the table comes from main memory once, or as little of it as is asked for."""
    asked = points * encode_bytes(spec)
    return Cost(points * encode_operations(spec), asked, min(asked, table_bytes(spec)))


def head_cost(head: FrozenHead, samples: float) -> Cost:
    """Of a frozen head.

    Args:
        head: In its frame.
        samples: That count: those before which a ray is not opaque yet.
    """
    networks = matrix_operations(*head.motion, *head.density, *head.colour)
    row = Cost(samples * (networks + COMPOSITE_OPERATIONS), 0, 0)
    if head.warp is not None:
        asked = samples * WARP_BYTES
        row += Cost(samples * WARP_OPERATIONS, asked, min(asked, FLOAT_BYTES * head.warp.numel()))
    return row + _grid_cost(head.space_spec, samples) + _grid_cost(head.plane_spec, samples)


def nerf_cost(coarse: NerfField, fine: NerfField, coarse_samples: float, fine_samples: float) -> Cost:
    """Of the baseline.

    Args:
        coarse: The field that finds where things are.
        fine: The field that is seen.
        coarse_samples: That the coarse field evaluates.
        fine_samples: That the fine field evaluates.
    """
    total = Cost(0, 0, 0)
    for field, samples in ((coarse, coarse_samples), (fine, fine_samples)):
        operations = sum(mlp_operations(network) for network in (field.before, field.after, field.colour_net))
        operations += matrix_operations(field.density_layer.weight, field.feature_layer.weight)
        weights = FLOAT_BYTES * sum(value.numel() for value in field.parameters())
        total += Cost(samples * (operations + COMPOSITE_OPERATIONS), weights, weights)
    return total


def torso_cost(torso: TorsoModel, places: float) -> Cost:
    """Of a torso.

    Args:
        torso: The model.
        places: Of the picture that it evaluates.
    """
    operations = mlp_operations(torso.offset_net) + mlp_operations(torso.colour_net)
    return Cost(places * operations, 0, 0) + _grid_cost(torso.shape.plane, places)


def blend_cost(pixels: float) -> Cost:
    """Of putting head over torso over background."""
    return Cost(pixels * BLEND_OPERATIONS, pixels * PIXEL_BYTES, pixels * PIXEL_BYTES)


def needed_samples(sigma: Tensor, dt: Tensor, offsets: Tensor, min_transmittance: float) -> int:
    """Samples before which their ray is not opaque yet.

    Args:
        sigma: (S,) float, density.
        dt: (S,) float, lengths.
        offsets: (R + 1,) int64, as of ``Samples``.
        min_transmittance: Below it a ray is opaque.

    Returns:
        How many of the S samples any renderer has to evaluate.
    """
    if not len(sigma):
        return 0
    depth = sigma.double() * dt.double()
    before = torch.cumsum(depth, 0) - depth
    counts = offsets[1:] - offsets[:-1]
    first = offsets[:-1].clamp(max=len(sigma) - 1)
    start = torch.repeat_interleave(before[first], counts)
    limit = -math.log(min_transmittance) if min_transmittance > 0 else math.inf
    return int((before - start <= limit).sum())

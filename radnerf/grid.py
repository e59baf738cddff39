"""Multiresolution hash grids in tiny-cuda-nn's "Hash" convention (Müller et al. 2022, arXiv 2201.05989).

The layout here is the one on disk: a table written by any backend is read by any other. What is fixed, from
tiny-cuda-nn's ``GridEncoding`` with ``"type": "Hash"`` and linear interpolation:

- scale of level l = base * 2^(l * log2 s) - 1, every step in float32; resolution = ceil(scale) + 1 vertices.
  log2 and exp2 are rounded correctly here. A C library whose log2f is not gives tiny-cuda-nn a scale that
  differs in its last bits: seen for 8 of 1,064 combinations of sizes, the published one not among them. So
  compare the number of parameters before handing it a table;
- position on a level = x * scale + 0.5, rounded once (a fused multiply-add); the cell is its floor;
- entries of a level = min(resolution^D rounded up to a multiple of 8, 2^log2_entries);
- a vertex is indexed densely, x fastest, where resolution^D fits the entries, and by the coherent prime hash
  x ^ 2654435761 y ^ 805459861 z (uint32, wrapping) where not; either index is taken modulo the entries, so
  that the vertex one past the end at x = 1 wraps around;
- output: level after level, the features of a level side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from radnerf.errors import BadInput
from radnerf.kernels import get_backend

if TYPE_CHECKING:
    from radnerf.kernels.protocol import Backend

HASH_PRIMES = (1, 2654435761, 805459861)
"""One factor for each axis; the first is 1 so that neighbours in x stay neighbours in memory."""

_INITIAL_RANGE = 1e-4


@dataclass(frozen=True)
class GridLevel:
    """Where one level of a grid lies and how it is indexed.

    Attributes:
        scale: Factor from [0, 1] to vertices, a float32 value.
        resolution: Vertices along each axis.
        offset: First row of the level in the table.
        entries: Rows of the level.
        hashed: Whether vertices are hashed; dense otherwise.
    """

    scale: float
    resolution: int
    offset: int
    entries: int
    hashed: bool


@dataclass(frozen=True)
class GridSpec:
    """Shape of a multiresolution hash grid.

    Attributes:
        dim: 2 or 3.
        levels: Number of levels, 1 to 32.
        features_per_level: 2 or 4.
        base_resolution: Vertices along each axis on the coarsest level, at least 2.
        max_resolution: Vertices along each axis on the finest level, at least base_resolution.
        log2_entries: A level has at most 2^log2_entries rows; 3 to 24.
    """

    dim: int
    levels: int
    features_per_level: int
    base_resolution: int
    max_resolution: int
    log2_entries: int

    def __post_init__(self) -> None:
        """Refuse shapes that no backend encodes.

        Raises:
            BadInput: A value is outside its range.
        """
        ranges = {
            "dim": (2, 3),
            "levels": (1, 32),
            "base_resolution": (2, 1 << 20),
            "max_resolution": (self.base_resolution, 1 << 20),
            "log2_entries": (3, 24),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(f"a grid cannot have {name} = {value}", hint=f"use {low} to {high}")
        if self.features_per_level not in (2, 4):
            raise BadInput(f"a grid cannot have features_per_level = {self.features_per_level}", hint="use 2 or 4")

    @property
    def per_level_scale(self) -> float:
        """Growth of the resolution from level to level, a float32 value; 1 for a single level."""
        if self.levels == 1:
            return 1.0
        growth = (self.max_resolution / self.base_resolution) ** (1 / (self.levels - 1))
        return float(np.float32(growth))

    @property
    def output_width(self) -> int:
        """Features of one encoded point, over all levels."""
        return self.levels * self.features_per_level

    @property
    def total_entries(self) -> int:
        """Rows of the table, over all levels."""
        last = self.level_layout()[-1]
        return last.offset + last.entries

    def level_layout(self) -> tuple[GridLevel, ...]:
        """Return the levels, coarsest first."""
        return _level_layout(self)


@lru_cache(maxsize=64)
def _level_layout(spec: GridSpec) -> tuple[GridLevel, ...]:
    log2_scale = np.float32(math.log2(spec.per_level_scale))
    offset = 0
    layout = []
    for level in range(spec.levels):
        # math.exp2 in double and one rounding is what a correctly rounded float32 exp2 gives.
        growth = np.float32(math.exp2(float(np.float32(level) * log2_scale)))
        scale = np.float32(growth * np.float32(spec.base_resolution)) - np.float32(1)
        resolution = math.ceil(float(scale)) + 1
        vertices = resolution**spec.dim
        entries = min(-(-vertices // 8) * 8, 1 << spec.log2_entries)
        layout.append(GridLevel(float(scale), resolution, offset, entries, hashed=vertices > entries))
        offset += entries
    return tuple(layout)


class HashGrid(nn.Module):
    """A trainable multiresolution hash grid.

    Attributes:
        spec: The grid's shape.
        backend: Name of the kernel backend, or "auto".
        table: (total_entries, features_per_level) float32, the one parameter.
    """

    def __init__(self, spec: GridSpec, *, backend: str = "auto", generator: torch.Generator | None = None) -> None:
        """Start with features drawn uniformly from +-1e-4, as Müller et al. 2022, section 4.

        Args:
            spec: The grid's shape.
            backend: Name of the kernel backend, or "auto" for the best one on the table's device.
            generator: Where the initial features are drawn from; torch's default one if None.
        """
        super().__init__()
        self.spec = spec
        self.backend = backend
        table = torch.empty(spec.total_entries, spec.features_per_level)
        self.table = nn.Parameter(table.uniform_(-_INITIAL_RANGE, _INITIAL_RANGE, generator=generator))

    def forward(self, x: Tensor, backend: Backend | None = None) -> Tensor:
        """Encode points.

        Args:
            x: (N, dim) float32 in [0, 1], on the table's device.
            backend: The kernels to use; those of the module's own backend if None.

        Returns:
            (N, output_width) features, level after level, differentiable in the table and in x.

        Raises:
            BackendUnavailable: The backend is not on this machine or not for this device.
            BadInput: x does not have the shape, dtype or device of this grid.
        """
        kernels = get_backend(self.backend, self.table.device) if backend is None else backend
        return kernels.encode(x, self.table, self.spec)

    def extra_repr(self) -> str:
        """Show the shape in the module's representation."""
        return f"{self.spec}, backend={self.backend!r}"

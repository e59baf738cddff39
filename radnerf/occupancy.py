"""Which cells of the box hold anything: the occupancy grid that rays skip empty space with.

Source: Müller et al. 2022 (arXiv 2201.05989), appendix C; RAD-NeRF (arXiv 2211.12368), section 3.4, which
keeps the maximum over the audio: ``density_fn`` draws another audio code at every update.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from radnerf.errors import BadInput, Diverged


class OccupancyGrid(nn.Module):
    """Decayed maximum of the density in each cell of a box, and the cells worth sampling.

    Everything lies in buffers, so that ``state_dict`` resumes it exactly.

    Attributes:
        density: (G, G, G) float32, at least 0, indexed [x, y, z].
        mask: (G, G, G) bool, the occupied cells and their neighbours; all of them before the first update.
        aabb: (2, 3) float32, the box's lower and upper corner, world.
    """

    density: Tensor
    mask: Tensor
    aabb: Tensor

    def __init__(self, aabb: Tensor, *, resolution: int = 128) -> None:
        """Start with every cell occupied.

        Args:
            aabb: (2, 3) the box's lower and upper corner, world.
            resolution: Cells along each axis, G; at least 2.

        Raises:
            BadInput: The box is empty or the resolution too small.
        """
        super().__init__()
        if tuple(aabb.shape) != (2, 3) or not bool((aabb[1] > aabb[0]).all()):
            raise BadInput(f"an occupancy grid needs a (2, 3) box with room in it, not {aabb.tolist()}")
        if resolution < 2:
            raise BadInput(f"an occupancy grid cannot have resolution {resolution}", hint="use at least 2")
        shape = (resolution, resolution, resolution)
        self.register_buffer("density", torch.zeros(shape))
        self.register_buffer("mask", torch.ones(shape, dtype=torch.bool))
        self.register_buffer("aabb", aabb.detach().to(torch.float32).clone())

    @property
    def resolution(self) -> int:
        """Cells along each axis."""
        return int(self.density.shape[0])

    @property
    def occupied_fraction(self) -> float:
        """Share of the cells that are occupied, 0 to 1."""
        return float(self.mask.float().mean())

    @torch.no_grad()
    def update(
        self,
        density_fn: Callable[[Tensor], Tensor],
        *,
        threshold: float,
        generator: torch.Generator,
        decay: float = 0.95,
        random_cells: int | None = None,
        within: Tensor | None = None,
        points_at_once: int = 1 << 16,
    ) -> None:
        """Look at the density again, at one random place in each cell looked at.

        A cell looked at keeps max(decay * what it had, density there); the others keep what they had. Occupied
        are the cells above min(mean over all cells, threshold), and all cells that touch one of them.

        Args:
            density_fn: (N, 3) points in world units, float32 -> (N,) density, at least 0.
            threshold: Density, in the units of density_fn, above which a cell is occupied for certain.
            generator: Where the places and cells are drawn from, on the grid's device.
            decay: Factor on what a cell had, 0 to 1.
            random_cells: How many cells to draw, with replacement, to look at besides all occupied ones;
                None looks at every cell.
            within: (G, G, G) bool, the cells that are ever looked at; None for all. The others stay as they are.
            points_at_once: Most points given to density_fn in one call.

        Raises:
            Diverged: density_fn returned a number that is not finite.
        """
        cells = self._choose_cells(random_cells, within, generator)
        seen = torch.empty(len(cells), device=cells.device)
        for first in range(0, len(cells), points_at_once):
            some = cells[first : first + points_at_once]
            values = density_fn(self._places_in(some, generator))
            seen[first : first + points_at_once] = values.to(torch.float32)
        if not bool(torch.isfinite(seen).all()):
            raise Diverged("the density is not finite", hint="lower the learning rate")
        flat = self.density.view(-1)
        flat[cells] = torch.maximum(flat[cells] * decay, seen)
        self._threshold(threshold)

    def _choose_cells(self, random_cells: int | None, within: Tensor | None, generator: torch.Generator) -> Tensor:
        """Return the flat indices of the cells to look at, ascending, each once."""
        chosen = torch.ones_like(self.mask).flatten() if random_cells is None else self.mask.flatten().clone()
        if random_cells is not None:
            count, device = self.density.numel(), self.density.device
            chosen[torch.randint(count, (random_cells,), generator=generator, device=device)] = True
        if within is not None:
            chosen &= within.flatten()
        return chosen.nonzero().squeeze(1)

    def _places_in(self, cells: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random place in each cell, (N,) flat indices -> (N, 3) world."""
        size = self.resolution
        index = torch.stack([cells // (size * size), cells // size % size, cells % size], dim=1)
        jitter = torch.rand(len(cells), 3, generator=generator, device=cells.device)
        return self.aabb[0] + (index + jitter) / size * (self.aabb[1] - self.aabb[0])

    def _threshold(self, threshold: float) -> None:
        """Set the mask from the density, dilated by one cell."""
        occupied = self.density > min(float(self.density.mean()), threshold)
        dilated = F.max_pool3d(occupied[None, None].float(), kernel_size=3, stride=1, padding=1)
        self.mask.copy_(dilated[0, 0] > 0)

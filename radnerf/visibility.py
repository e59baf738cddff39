"""Which cells anybody ever sees: the inside of a head is dense, and nobody needs samples there.

A cell's visibility is the decayed maximum of the weights of samples that fell into it. Leaving out cells that
no ray of any training frame sees makes the sampled shell thin, so that the few samples of a ray lie close.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class VisibilityGrid(nn.Module):
    """Decayed maximum of the samples' weights in each cell; everything lies in buffers, for exact resuming.

    Attributes:
        weight: (G, G, G) float32 in [0, 1], indexed [x, y, z].
        aabb: (2, 3) float32, cm, world.
    """

    weight: Tensor
    aabb: Tensor

    def __init__(self, aabb: Tensor, resolution: int, start: float = 1.0) -> None:
        """Start with every cell visible.

        Args:
            aabb: (2, 3) float, cm, world.
            resolution: Cells along an edge, G.
            start: Every cell's first weight: how long cells stay before anything is seen in them.
        """
        super().__init__()
        self.register_buffer("weight", torch.full((resolution, resolution, resolution), start))
        self.register_buffer("aabb", aabb.detach().to(torch.float32).clone())

    @torch.no_grad()
    def observe(self, points: Tensor, weights: Tensor) -> None:
        """Note the weights of samples.

        Args:
            points: (S, 3) float, cm, world, inside the box.
            weights: (S,) float in [0, 1]; what is not a number, as in a step that went wrong, is nothing seen.
        """
        size = self.weight.shape[0]
        cell = ((points - self.aabb[0]) / (self.aabb[1] - self.aabb[0]) * size).long().clamp(0, size - 1)
        flat = (cell[:, 0] * size + cell[:, 1]) * size + cell[:, 2]
        self.weight.view(-1).scatter_reduce_(0, flat, weights.to(self.weight.dtype).nan_to_num(0.0), reduce="amax")

    @torch.no_grad()
    def fade(self, decay: float) -> None:
        """Forget a little, so that a cell must be seen again to stay: multiply every weight by ``decay``."""
        self.weight.mul_(decay)

    def mask(self, threshold: float) -> Tensor:
        """Cells seen with more than a weight, and their neighbours.

        Args:
            threshold: Weight in (0, 1).

        Returns:
            (G, G, G) bool, indexed [x, y, z].
        """
        seen = (self.weight > threshold).float()
        return functional.max_pool3d(seen[None, None], kernel_size=3, stride=1, padding=1)[0, 0] > 0

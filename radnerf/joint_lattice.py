"""Two displacements, one after the other, as the one lattice that fused kernels take."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.warp import bend


class JointLattice:
    """Places of a fine lattice, and as many more of the same spacing as it takes to hold a second, coarser one's box.

    The fine lattice's own places are among them: where the coarse one moves nothing, nothing is drawn softer.

    Attributes:
        box: (2, 2) float32, cm, least and greatest corner.
        nodes: How many places there are across and up, X and Y.
    """

    def __init__(self, fine_box: Tensor, fine_nodes: tuple[int, int], coarse_box: Tensor) -> None:
        """Lay the places out; on a GPU this waits for it.

        Args:
            fine_box: (2, 2) float32, cm.
            fine_nodes: Places of the fine lattice, across and up.
            coarse_box: (2, 2) float32, cm.
        """
        self._fine_box, self._coarse_box = fine_box, coarse_box
        cell = (fine_box[1] - fine_box[0]) / (torch.tensor(fine_nodes, device=fine_box.device) - 1)
        ways = torch.stack([fine_box[0] - coarse_box[0], coarse_box[1] - fine_box[1]]) / cell
        before, after = ways.clamp(min=0).ceil().long().tolist()
        across, up = (fine_nodes[axis] + before[axis] + after[axis] for axis in range(2))
        self.nodes = across, up
        steps = torch.meshgrid(torch.arange(across) - before[0], torch.arange(up) - before[1], indexing="ij")
        flat = fine_box[0] + torch.stack(steps, dim=-1).reshape(-1, 2).to(cell) * cell
        self.box = torch.stack([flat[0], flat[-1]])
        self._places = torch.cat([flat, torch.zeros_like(flat[:, :1])], dim=1)
        # A place beyond the coarse box goes with its edge: what lies between it and the edge is inside.
        self._held = torch.cat([flat.clamp(coarse_box[0], coarse_box[1]), self._places[:, 2:]], dim=1)

    def join(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """The coarse displacement, and the fine one of where that leads.

        Args:
            coarse: (1, X', Y', 2) float32, cm, over the coarse box.
            fine: (1, X'', Y'', 2) float32, cm, over the fine box.

        Returns:
            (X, Y, 2) float32, cm, over ``box``.
        """
        first = bend(self._held, coarse, self._coarse_box) - self._held
        there = bend(self._places + first, fine, self._fine_box)
        return (there - self._places)[:, :2].reshape(*self.nodes, 2)

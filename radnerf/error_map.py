"""Where a portrait's error last was: a map over the head's box, from which rays are drawn.

All frames share the map. A frame is looked at some twenty times in a short training, too seldom to know its own errors;
and what is hard, the outline, hair and teeth, lies in the same part of the box in every frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CELLS = 24
"""Cells along each side of the box."""

_KEPT = 0.95  # of a cell's old error for each new one: about twenty rays are remembered


class ErrorMap:
    """Running mean of the squared error in each cell of the head's box.

    What is drawn follows the map with a delay (see ``settle``), so that steps can be drawn ahead. A cell that was never
    looked at counts as wholly wrong.

    Attributes:
        errors: (CELLS, CELLS) float32 in [0, 1], row and column.
    """

    def __init__(self, device: torch.device, place: torch.device) -> None:
        """Know nothing: every cell is as wrong as any.

        Args:
            device: Where errors are noted.
            place: Where places are drawn.
        """
        self._place = place
        self.errors = torch.ones(CELLS, CELLS, device=device)
        self._sums = torch.zeros(2, CELLS * CELLS, device=device)
        self._before = self._now = torch.arange(1.0, CELLS * CELLS + 1, device=place)
        self._since = 0

    @torch.no_grad()
    def note(self, places: Tensor, squared: Tensor) -> None:
        """Remember errors.

        Args:
            places: (N, 2) float, x and y in the head's box, [0, 1) inside; what lies outside is passed over.
            squared: (N,) float in [0, 1], squared errors; what is not a number counts as none.
        """
        cell = (places * CELLS).floor().long()
        inside = ((cell >= 0) & (cell < CELLS)).all(1).to(squared.dtype)
        index = cell.clamp(0, CELLS - 1)
        flat = index[:, 1] * CELLS + index[:, 0]
        self._sums[0].index_add_(0, flat, squared.nan_to_num(0.0) * inside)
        self._sums[1].index_add_(0, flat, inside)

    @torch.no_grad()
    def settle(self, since: int) -> None:
        """Take what was noted since the last time into the map.

        Args:
            since: The first step whose draw is to follow the map as it is now.
        """
        total, count = self._sums.view(2, CELLS, CELLS)
        kept = _KEPT**count
        self.errors = kept * self.errors + (1 - kept) * total / count.clamp(min=1)
        self._sums = torch.zeros_like(self._sums)
        self._before, self._since = self._now, since
        # By the error itself and not by its square, lest a few cells take all rays.
        self._now = self.errors.flatten().sqrt().cumsum(0).to(self._place)

    def draw(self, step: int, count: int, generator: torch.Generator) -> Tensor:
        """Random places, the more in a cell the larger its error.

        Args:
            step: What it is drawn for.
            count: How many, N.
            generator: On the place of drawing.

        Returns:
            (N, 2) float32 in [0, 1), x and y in the head's box.
        """
        reached = self._now if step >= self._since else self._before
        chance = torch.rand(count, 3, generator=generator, device=self._place)
        cell = torch.searchsorted(reached, chance[:, 0] * reached[-1]).clamp(max=CELLS * CELLS - 1)
        corner = torch.stack([cell % CELLS, cell // CELLS], dim=-1)
        return ((corner + chance[:, 1:]) / CELLS).clamp(max=1 - 2**-24)

    def state_dict(self) -> dict[str, Any]:
        """Everything that going on needs."""
        return {
            "errors": self.errors,
            "sums": self._sums,
            "before": self._before,
            "now": self._now,
            "since": self._since,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        device = self.errors.device
        self.errors, self._sums = state["errors"].to(device), state["sums"].to(device)
        self._before, self._now = state["before"].to(self._place), state["now"].to(self._place)
        self._since = int(state["since"])

"""The mouth's shape as a smooth function of the sound around a frame: a third opinion, from the frames most alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radnerf.linear_ear import evenly, frame_surroundings, steadied

REACH = 2
"""Frames on each side that are looked at."""

MOST_FRAMES = 1500
"""Frames that are kept at most, evenly spread; time grows with their square, a head's file with their number."""

WIDTHS = (0.3, 1.0)
"""Of the kernel; see ``KernelEar``."""

RIDGES = (0.1, 0.3, 1.0)
"""Penalties that are tried."""

_BLOCK_FRAMES = 1024


def kept_frames(frames: Tensor) -> Tensor:
    """The frames that an ear keeps of (F,) int64 ones: all, or evenly spread ones."""
    return evenly(frames, MOST_FRAMES)


class KernelEar(nn.Module):
    """Kernel ridge regression with k(x, c) = exp(-width |x - c|^2 / columns); no parameter that a gradient reaches.

    Each component of the mouth has a kernel of its own width.

    Far from all that it has heard it foretells the mean mouth.

    Attributes:
        heard: (K, 5 C) float32, the sound around the frames that it was taught from.
        weight: (K, M) float32.
        offset: (M,) float32.
        width: (M,) float32.
    """

    heard: Tensor
    weight: Tensor
    offset: Tensor
    width: Tensor

    def __init__(self, features: int, frames: int, mouth: int) -> None:
        """Foretell nothing yet.

        Args:
            features: Columns C of the audio features that it listens to, the leading ones.
            frames: How many frames K it keeps.
            mouth: Components M of the mouth shape.
        """
        super().__init__()
        self.columns = features
        self.register_buffer("heard", torch.zeros(frames, (2 * REACH + 1) * features))
        self.register_buffer("weight", torch.zeros(frames, mouth))
        self.register_buffer("offset", torch.zeros(mouth))
        self.register_buffer("width", torch.ones(mouth))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """The mouth of some frames.

        Args:
            features: (T, C or more) float, standardised, 50 rows a second.
            frames: (B,) int64.

        Returns:
            (B, M) float, standardised units.
        """
        # Some frames at a time: each is compared with all that are kept.
        return torch.cat([self._foretold(features, some) for some in torch.split(frames, _BLOCK_FRAMES)])

    def _foretold(self, features: Tensor, frames: Tensor) -> Tensor:
        around = frame_surroundings(features[:, : self.columns], frames, REACH)
        apart = _apart(around, self.heard)
        foretold = [torch.exp(-width * apart) @ column for width, column in zip(self.width, self.weight.T, strict=True)]
        return torch.stack(foretold, dim=1) + self.offset if foretold else self.offset.expand(len(frames), 0)

    @torch.no_grad()
    def fit(self, features: Tensor, mouth: Tensor, frames: Tensor, widths: Tensor, ridges: Tensor) -> None:
        """Learn from some frames, in closed form, in place.

        Args:
            features: (T, C or more) float, standardised.
            mouth: (N, M) float, standardised components, frame i at feature row 2 i.
            frames: (F,) int64, as many of which are kept as ``kept_frames`` says.
            widths: (M,) float > 0, each component's kernel's.
            ridges: (M,) float > 0, penalty on each component's weights.
        """
        kept = kept_frames(frames)
        self.heard = frame_surroundings(features[:, : self.columns], kept, REACH)
        apart, target = _apart(self.heard.double(), self.heard.double()), mouth[kept].double()
        level, same = target.mean(0), torch.eye(len(kept), dtype=torch.float64)
        weight = torch.zeros_like(target)
        # Components that share a kernel and a penalty share the solution's dear part.
        for width, ridge in set(zip(widths.tolist(), ridges.tolist(), strict=True)):
            these = (widths == width) & (ridges == ridge)
            weight[:, these] = torch.linalg.solve(torch.exp(-width * apart) + ridge * same, (target - level)[:, these])
        self.weight = steadied(weight).float()
        self.offset.copy_(level)
        self.width.copy_(widths)


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared differences of the rows of (A, D) and (B, D): (A, B)."""
    # By differences, not by products: equal rows are exactly alike.
    apart = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.square() / one.shape[1]

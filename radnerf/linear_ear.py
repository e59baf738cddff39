"""The mouth's shape as a linear function of the sound around a frame: a second opinion beside the audio net."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

REACH = 3
"""Frames on each side that are looked at."""

MOST_FRAMES = 2500
"""Frames that are learnt from at most, evenly spread; the time grows with their square."""

_BLOCK_FRAMES = 4096


def frame_surroundings(features: Tensor, frames: Tensor, reach: int = REACH) -> Tensor:
    """The features of a frame and of its neighbours, each the mean of the two rows that meet at the frame's instant.

    Args:
        features: (T, C) float, 50 rows a second.
        frames: (B,) int64, frame numbers at 25 a second; may lie outside the recording.
        reach: Frames on each side.

    Returns:
        (B, (2 reach + 1) C) float; rows outside the recording repeat its ends.
    """
    around = 2 * (frames[:, None] + torch.arange(-reach, reach + 1, device=frames.device))
    last = len(features) - 1
    return 0.5 * (features[(around - 1).clamp(0, last)] + features[around.clamp(0, last)]).flatten(1)


def evenly(frames: Tensor, most: int) -> Tensor:
    """All of (F,) frames where they are so few at most, else evenly spread ones of them."""
    return frames[:: max(1, -(-len(frames) // most))]


def steadied(weights: Tensor) -> Tensor:
    """Rounded, and without negative zeros: the last bits of a solution differ from run to run."""
    return (weights * 1e8).round() / 1e8 + 0.0


class LinearEar(nn.Module):
    """Ridge regression; it has no parameters that a gradient reaches.

    Attributes:
        weight: (7 C, M) float32.
        offset: (M,) float32.
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, features: int, mouth: int) -> None:
        """Foretell nothing yet.

        Args:
            features: Columns C of the audio features.
            mouth: Components M of the mouth shape.
        """
        super().__init__()
        self.register_buffer("weight", torch.zeros((2 * REACH + 1) * features, mouth))
        self.register_buffer("offset", torch.zeros(mouth))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """The mouth of some frames.

        Args:
            features: (T, C) float, standardised, 50 rows a second.
            frames: (B,) int64.

        Returns:
            (B, M) float, standardised units.
        """
        some = torch.split(frames, _BLOCK_FRAMES)
        return torch.cat([frame_surroundings(features, block) @ self.weight for block in some]) + self.offset

    def fit(self, features: Tensor, mouth: Tensor, frames: Tensor, ridge: float, weights: Tensor) -> None:
        """Learn from some frames, in closed form.

        Args:
            features: (T, C) float, standardised.
            mouth: (N, M) float, standardised components, frame i at feature row 2 i.
            frames: (F,) int64, the frames to learn from.
            ridge: Penalty on the weights, in units of the surroundings' mean square.
            weights: (C,) float >= 0, how much each column is listened to; a greater one is penalised less.
        """
        for _ in self.fits(features, mouth, frames, (ridge,), weights):
            pass

    @torch.no_grad()
    def fits(
        self, features: Tensor, mouth: Tensor, frames: Tensor, ridges: Sequence[float], weights: Tensor
    ) -> Iterator[float]:
        """Learn with one penalty after the other, at little more than the price of one; arguments as for ``fit``.

        Yields:
            The penalty that the ear has now learnt with.
        """
        frames = evenly(frames, MOST_FRAMES)
        scale = weights.double().repeat(2 * REACH + 1)
        seen = frame_surroundings(features, frames).double() * scale
        target = mouth[frames].double()
        middle, level = seen.mean(0), target.mean(0)
        seen, target = seen - middle, target - level
        # As many unknowns as frames or as columns, whichever are fewer.
        by_frames = len(seen) <= seen.shape[1]
        products = seen @ seen.T if by_frames else seen.T @ seen
        aim = target if by_frames else seen.T @ target
        same = torch.eye(len(products), dtype=products.dtype)
        for ridge in ridges:
            solved = torch.linalg.solve(products + ridge * float(scale.square().sum()) * same, aim)
            weight = seen.T @ solved if by_frames else solved
            self.weight.copy_(steadied(scale[:, None] * weight))
            self.offset.copy_(level - middle @ weight)
            yield ridge

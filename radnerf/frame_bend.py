"""What moves on a head in a training frame and nothing measured explains, learnt together with the field.

Long hair swings, an ear-ring dangles, a collar slides. One still field that has to explain all frames at once blurs
them. So each training frame may bend the head a little before the field is asked, as deformable fields do (Nerfies,
arXiv 2011.12948), on a coarse lattice; like corrected poses, this only keeps the field sharp. New frames do not bend:
what cannot be foretold from pose and sound stays where it usually is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NODES = (8, 10)
"""Places across and up the head's box at which a displacement is learnt."""

_FRAMES_A_MOMENT = 2
_MOST_MOMENTS = 1000  # of a long clip: memory and time a step do not grow beyond
_PULL = 1e-3  # towards no displacement
_STIFFNESS = 1e-2  # towards that of the neighbouring nodes


def moments_of(frames: int) -> int:
    """How many moments of a clip of so many frames may bend, K >= 2."""
    return max(2, min(math.ceil(frames / _FRAMES_A_MOMENT), _MOST_MOMENTS))


def bend_at(bends: Tensor, frames: int, places: Tensor) -> Tensor:
    """Displacements at places of a clip, linear between its moments.

    Args:
        bends: (K, NODES[0], NODES[1], 2) float, cm, at K >= 2 moments at equal distances from the first frame to the
            last.
        frames: Of the clip, N.
        places: (B,) float in [0, N - 1].

    Returns:
        (B, NODES[0], NODES[1], 2) float, cm.
    """
    before, share = _between(len(bends), frames, places)
    return torch.lerp(bends[before], bends[before + 1], share[:, None, None, None])


def _between(moments: int, frames: int, places: Tensor) -> tuple[Tensor, Tensor]:
    """The moment before each place, (B,) int64, and how far it is on the way to the next one, (B,) in [0, 1]."""
    scaled = places.float() * ((moments - 1) / max(1, frames - 1))
    before = scaled.floor().clamp(0, moments - 2)
    return before.long(), scaled - before


class FrameBend(nn.Module):
    """Displacements across and up the head (x and y of its frame) at moments of the clip; linear between them.

    Over the training frames they cancel out, and do not go along with what drives the face: else a smile would be
    learnt as a bend, which new speech does not make.

    Attributes:
        shift: (K, NODES[0], NODES[1], 2) float32, cm, at K moments at equal distances from the first frame to the last.
        explained: (K, D) float32, orthonormal: what a displacement at those moments must not go along with.
        frames: Frames of the clip, N.
    """

    explained: Tensor

    def __init__(self, train_frames: Tensor, drives: Tensor) -> None:
        """Bend nothing yet.

        Args:
            train_frames: (F,) int64, the frames to learn from.
            drives: (N, D) float, each frame's driving numbers: mouth, eyes and brows.
        """
        super().__init__()
        self.frames = len(drives)
        moments = moments_of(self.frames)
        self.shift = nn.Parameter(torch.zeros(moments, *NODES, 2))
        trained = train_frames.cpu()
        before, share = _between(moments, self.frames, trained)
        share = share.double()[:, None]
        told = torch.cat([torch.ones(self.frames, 1), drives.float().cpu()], dim=1)[trained].double()
        summed = torch.zeros(moments, told.shape[1], dtype=torch.float64)
        summed.index_add_(0, before, (1 - share) * told)
        summed.index_add_(0, before + 1, share * told)
        ways, sizes, _ = torch.linalg.svd(summed, full_matrices=False)
        # Numbers that say the same, or never change, count once.
        explained = ways[:, sizes > 1e-4 * sizes[0]].float()
        self.register_buffer("explained", explained.to(train_frames.device))

    def bends(self) -> Tensor:
        """What is bent at each moment, (K, NODES[0], NODES[1], 2) float32, cm; differentiable."""
        flat = self.shift.flatten(1)
        return (flat - self.explained @ (self.explained.T @ flat)).view_as(self.shift)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The way from what is seen in frames to where it usually is; differentiable.

        Args:
            frames: (B,) int64.

        Returns:
            lattice: (B, NODES[0], NODES[1], 2) float32, cm, over the head's box, for ``warp.bend``.
            penalty: Scalar float32, for the loss: what keeps displacements small and smooth.
        """
        lattice = bend_at(self.bends(), self.frames, frames)
        across, up = lattice.diff(dim=1), lattice.diff(dim=2)
        rough = across.square().mean() + up.square().mean()
        return lattice, _PULL * lattice.square().mean() + _STIFFNESS * rough

"""Small corrections of each training frame's pose, learnt together with the field.

As in BARF (arXiv 2104.06405) and NeRF-- (arXiv 2102.07064): rays are differentiable in the pose, so that a pose that
was measured a little wrong blurs the field less. Only training sees them; new frames are posed as they are measured.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_REACH_CM = (10.0, 10.0, 30.0)  # of a head's turn by 1 rad, about; depth, which shows least, may move most
_PULL = 1e-3  # towards the measured pose


class PoseCorrection(nn.Module):
    """A turn and a shift for each frame; over the training frames they cancel out, so that the head stays in place.

    Attributes:
        shift: (N, 6) float32: along the axis of a turn in the head's frame, twice the tangent of half its angle, which
            is the angle itself, rad, where it is small; then a translation over ``_REACH_CM``.
        train_frames: (F,) int64.
        reach: (3,) float32, cm.
    """

    train_frames: Tensor
    reach: Tensor

    def __init__(self, frames: int, train_frames: Tensor) -> None:
        """Correct nothing yet.

        Args:
            frames: Of the clip, N.
            train_frames: (F,) int64.
        """
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(frames, 6))
        self.register_buffer("train_frames", train_frames)
        self.register_buffer("reach", torch.tensor(_REACH_CM))

    def of(self, frames: Tensor) -> Tensor:
        """The corrections of frames (B,), (B, 6) float32, as ``shift``."""
        corrections: Tensor = self.shift[frames] - self.shift[self.train_frames].mean(0)
        return corrections

    def forward(self, frames: Tensor, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Corrected poses; differentiable.

        Args:
            frames: (B,) int64.
            rotation: (B, 3, 3) float32, head to camera, as measured.
            translation: (B, 3) float32, cm, as measured.

        Returns:
            rotation: (B, 3, 3) float32, head to camera.
            translation: (B, 3) float32, cm.
        """
        correction = self.of(frames)
        x, y, z = correction[:, :3].unbind(1)
        nothing = torch.zeros_like(x)
        skew = torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], dim=1).view(-1, 3, 3)
        # Cayley's form of a rotation: exact, smooth at no turn at all, and a GPU need not be waited for.
        share = 4 / (4 + correction[:, :3].square().sum(1))
        turn = torch.eye(3, device=skew.device) + share[:, None, None] * (skew + 0.5 * skew @ skew)
        return rotation @ turn, translation + correction[:, 3:] * self.reach

    def penalty(self, frames: Tensor) -> Tensor:
        """What keeps corrections of frames (B,) small; a scalar."""
        return _PULL * self.of(frames).square().sum(1).mean()

"""Small corrections of each training frame's pose, learnt together with the field.

As in BARF (arXiv 2104.06405) and NeRF-- (arXiv 2102.07064): rays are differentiable in the pose, so that a pose that
was measured a little wrong blurs the field less. Only training sees them; new frames are posed as they are measured.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radnerf.head_clip import Clip

_REACH_CM = (10.0, 10.0, 30.0)  # of a head's turn by 1 rad, about; depth, which shows least, may move most
_PULL = 1e-3  # towards the measured pose


class PoseCorrection(nn.Module):
    """A turn and a shift for each frame.

    Over the training frames they cancel out, so that the head stays in place, and do not go along with what drives the
    face: else a wider mouth would be learnt as a turn of the head, which new speech does not make.

    Attributes:
        shift: (N, 6) float32: along the axis of a turn in the head's frame, twice the tangent of half its angle, which
            is the angle itself, rad, where it is small; then a translation over ``_REACH_CM``.
        train_frames: (F,) int64.
        basis: (N, K) float32, orthonormal over the training frames: a constant and the driving numbers.
        reach: (3,) float32, cm.
    """

    train_frames: Tensor
    basis: Tensor
    reach: Tensor

    def __init__(self, train_frames: Tensor, drives: Tensor) -> None:
        """Correct nothing yet.

        Args:
            train_frames: (F,) int64.
            drives: (N, D) float, each frame's driving numbers: mouth, eyes and brows.
        """
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(len(drives), 6))
        basis = torch.cat([torch.ones(len(drives), 1), drives.float().cpu()], dim=1)
        _, sizes, ways = torch.linalg.svd(basis[train_frames.cpu()], full_matrices=False)
        # Numbers that say the same, or never change, count once.
        told = sizes > 1e-4 * sizes[0]
        self.register_buffer("train_frames", train_frames)
        self.register_buffer("basis", (basis @ ways.T / sizes.clamp(min=1e-12))[:, told].to(train_frames.device))
        self.register_buffer("reach", torch.tensor(_REACH_CM))

    def of(self, frames: Tensor) -> Tensor:
        """The corrections of frames (B,), (B, 6) float32, as ``shift``."""
        train = self.train_frames
        corrections: Tensor = self.shift[frames] - self.basis[frames] @ (self.basis[train].T @ self.shift[train])
        return corrections

    def forward(self, frames: Tensor, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Corrected poses; differentiable.

        Args:
            frames: (B,) int64.
            rotation: (B, 3, 3) float32, head to camera, as measured.
            translation: (B, 3) float32, cm, as measured.

        Returns:
            rotation: (B, 3, 3) float32, head to camera.
            translation: (B, 3) float32, cm.
            penalty: Scalar float32, for the loss: what keeps these corrections small.
        """
        correction = self.of(frames)
        x, y, z = correction[:, :3].unbind(1)
        nothing = torch.zeros_like(x)
        skew = torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], dim=1).view(-1, 3, 3)
        # Cayley's form of a rotation: exact, smooth at no turn at all, and a GPU need not be waited for.
        share = 4 / (4 + correction[:, :3].square().sum(1))
        turn = torch.eye(3, device=skew.device) + share[:, None, None] * (skew + 0.5 * skew @ skew)
        penalty = _PULL * correction.square().sum(1).mean()
        return rotation @ turn, translation + correction[:, 3:] * self.reach, penalty


def pose_correction(clip: Clip, mouth: int) -> PoseCorrection:
    """Corrections of a clip's poses, kept apart from so many components of the mouth, from eyes and from brows."""
    return PoseCorrection(clip.train, clip.drives(mouth)).to(clip.train.device)

"""From windows of audio features to the audio code and the mouth shape that it foretells."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WINDOW = 16
"""Feature rows (20 ms each) that one code looks at."""

NEIGHBOURS = 8
"""Frames whose codes the attention blends."""


def frame_windows(features: Tensor, frames: Tensor) -> Tensor:
    """The feature rows around each frame; rows outside the recording repeat its ends.

    Frame i is the picture at i/25 s, so its window is centred on feature row 2i.

    Args:
        features: (T, C) float, 50 rows a second.
        frames: (B,) int64, frame numbers at 25 a second; may lie outside the recording.

    Returns:
        (B, C, 16) float.
    """
    rows = 2 * frames[:, None] + torch.arange(-WINDOW // 2, WINDOW // 2, device=frames.device)
    return features[rows.clamp(0, len(features) - 1)].transpose(1, 2)


class AudioNet(nn.Module):
    """Four strided convolutions over a window, then attention over neighbouring frames.

    The architecture is AD-NeRF's (arXiv 2103.11078, section 3.3) as RAD-NeRF uses it. A linear head reads the
    measured mouth shape off the code, so that the code must carry it.
    """

    def __init__(self, features: int, code: int, mouth: int) -> None:
        """Make the layers.

        Args:
            features: Columns C of the audio features.
            code: Width A of the audio code.
            mouth: Components M of the mouth shape.
        """
        super().__init__()
        slope = 0.02
        self.windows = nn.Sequential(
            nn.Conv1d(features, 32, 3, stride=2, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv1d(32, 32, 3, stride=2, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv1d(32, 64, 3, stride=2, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv1d(64, 64, 3, stride=2, padding=1),
            nn.LeakyReLU(slope),
            nn.Flatten(),
            nn.Linear(64, 64),
            nn.LeakyReLU(slope),
            nn.Linear(64, code),
        )
        self.attention = nn.Sequential(
            nn.Conv1d(code, 16, 3, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv1d(16, 8, 3, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv1d(8, 4, 3, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv1d(4, 2, 3, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv1d(2, 1, 3, padding=1),
            nn.LeakyReLU(slope),
            nn.Flatten(),
            nn.Linear(NEIGHBOURS, NEIGHBOURS),
        )
        self.mouth = nn.Linear(code, mouth)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of some frames.

        Args:
            features: (T, C) float, standardised, 50 rows a second.
            frames: (B,) int64.

        Returns:
            code: (B, A) float.
            mouth: (B, M) float, the mouth shape that the code foretells, standardised units.
        """
        around = frames[:, None] + torch.arange(-NEIGHBOURS // 2, NEIGHBOURS // 2, device=frames.device)
        if around.device.type == "cpu":
            # Neighbouring frames share most of their windows: encode each window once.
            wanted, where = torch.unique(around, return_inverse=True)
            codes = self.windows(frame_windows(features, wanted))[where]
        else:
            # A GPU encodes them all sooner than it says which of them are the same.
            codes = self.windows(frame_windows(features, around.flatten())).unflatten(0, around.shape)
        shares = torch.softmax(self.attention(codes.transpose(1, 2)), dim=-1)
        code = (shares[:, :, None] * codes).sum(1)
        return code, self.mouth(code)

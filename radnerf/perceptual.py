"""LPIPS with AlexNet (Zhang et al. 2018, arXiv 1801.03924): distance of two pictures as people judge it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

_CONVOLUTIONS = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}  # torchvision's index: stride, padding
_POOLED_BEFORE = (3, 6)
_MEAN = (-0.030, -0.088, -0.188)
_SPREAD = (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Weighted squared distance of unit-normalised AlexNet activations after each of its five convolutions."""

    def __init__(self, features: Mapping[str, Tensor], heads: Mapping[int, Tensor]) -> None:
        """Take the weights.

        Args:
            features: AlexNet's convolutions under torchvision's names, ``features.0.weight`` ….
            heads: Of each of the five layers 0 … 4, (1, C, 1, 1) float32 >= 0, LPIPS 0.1's linear heads.
        """
        super().__init__()
        for index in _CONVOLUTIONS:
            self.register_buffer(f"weight{index}", features[f"features.{index}.weight"].float())
            self.register_buffer(f"bias{index}", features[f"features.{index}.bias"].float())
        for layer in range(len(_CONVOLUTIONS)):
            self.register_buffer(f"head{layer}", heads[layer].float())
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("spread", torch.tensor(_SPREAD).reshape(1, 3, 1, 1))

    def _activations(self, pictures: Tensor) -> list[Tensor]:
        """Activations after each convolution, normalised over channels."""
        hidden = (pictures * 2 - 1 - self.get_buffer("mean")) / self.get_buffer("spread")
        result = []
        for index, (stride, padding) in _CONVOLUTIONS.items():
            if index in _POOLED_BEFORE:
                hidden = functional.max_pool2d(hidden, 3, stride=2)
            weight, bias = self.get_buffer(f"weight{index}"), self.get_buffer(f"bias{index}")
            hidden = torch.relu(functional.conv2d(hidden, weight, bias, stride=stride, padding=padding))
            # Black patches have no activation at all: keep the norm off zero.
            norm = hidden.square().sum(1, keepdim=True).clamp(min=1e-20).sqrt()
            result.append(hidden / (norm + 1e-10))
        return result

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance of two pictures.

        Args:
            first: (3, H, W) float in [0, 1], RGB; H and W at least 32.
            second: The same.

        Returns:
            Scalar >= 0.
        """
        both = self._activations(torch.stack([first, second]))
        parts = [
            (self.get_buffer(f"head{layer}")[0] * (pair[0] - pair[1]).square()).sum(0).mean()
            for layer, pair in enumerate(both)
        ]
        return torch.stack(parts).sum()

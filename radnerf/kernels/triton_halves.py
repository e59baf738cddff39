"""Tables in half precision, made once for as long as their float32 originals stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor

_KEPT = 4


class Halves:
    """Half precision copies of the tensors asked for last.

    An original is kept along with its copy: as long as it lives here, no other tensor can lie where it lies.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._kept: list[tuple[Tensor, int, Tensor]] = []

    def of(self, tensor: Tensor) -> Tensor:
        """The copy of a tensor, made anew where the tensor was changed in place.

        Args:
            tensor: Any shape, float32.

        Returns:
            The same shape, float16, contiguous.
        """
        for index, (original, version, half) in enumerate(self._kept):
            same = original.data_ptr() == tensor.data_ptr() and original.shape == tensor.shape
            if same and version == tensor._version:
                self._kept.append(self._kept.pop(index))
                return half
        half = tensor.detach().to(torch.float16).contiguous()
        stale = [kept for kept in self._kept if kept[0].data_ptr() != tensor.data_ptr()]
        self._kept = [*stale[1 - _KEPT :], (tensor.detach(), tensor._version, half)]
        return half

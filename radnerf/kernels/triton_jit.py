"""How the Triton kernels are made: compiled on a GPU at their first call, interpreted where TRITON_INTERPRET is 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from radnerf.errors import BackendUnavailable, BadInput

INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))
"""Whether kernels run step by step on the CPU (tests): it has no fused multiply-add."""


def kernel(function: Callable[..., None]) -> Any:  # noqa: ANN401
    """Make a kernel, called as ``function[grid](...)``."""
    return triton.jit(function)


def piece(function: Callable[..., Any]) -> Any:  # noqa: ANN401
    """Make a piece of kernels."""
    return triton.jit(function)


def programs(count: int, block: int) -> int:
    """Blocks that hold so many items."""
    return -(-count // block)


def padded(width: int) -> int:
    """The least power of two that a matrix product takes and that holds a width."""
    return max(16, power_of_two(width))


def power_of_two(count: int) -> int:
    """The least power of two that is not below a count."""
    return 1 << max(count - 1, 0).bit_length()


def require_device(where: str, tensor: Tensor) -> None:
    """Raise unless a tensor lies where Triton's kernels run.

    Raises:
        BackendUnavailable: It does not.
    """
    wanted = "cpu" if INTERPRETED.value else "cuda"
    if tensor.device.type != wanted:
        hint = "move them, or use backend cpu or reference"
        raise BackendUnavailable(f"backend triton: {where} was given tensors on {tensor.device}", hint=hint)


def require_dtype(where: str, tensor: Tensor, *allowed: torch.dtype) -> None:
    """Raise unless a tensor's numbers are of an allowed kind.

    Raises:
        BadInput: They are not.
    """
    if tensor.dtype not in allowed:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        raise BadInput(f"backend triton: {where} was given {tensor.dtype}", hint=f"use {names}, or backend reference")

"""Where tensors live, how they get there, and in how many bits their products are reckoned."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.errors import BackendUnavailable, BadInput

PRECISIONS = ("auto", "float32", "float16", "bfloat16")
"""Every name that ``pick_precision`` takes."""

_SHARE_FOR_PICTURES = 0.5  # of the free memory: the rest is for a step's samples


def pick_device(name: str = "auto") -> torch.device:
    """A device by name.

    Args:
        name: ``"auto"`` takes the first CUDA device when torch has one, else the CPU; or a torch device.

    Raises:
        BackendUnavailable: torch has no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise BackendUnavailable(f"torch cannot use the device {name!r}: {first}", hint="use --device auto") from error
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """What a training's networks multiply in; their parameters are float32 whatever it is.

    Args:
        name: One of ``PRECISIONS``; ``"auto"`` takes float16 on a GPU, whose matrix units want it, and float32 on a
            CPU, where it is no faster.
        device: Where the training computes.

    Raises:
        BadInput: There is no such precision.
    """
    if name not in PRECISIONS:
        raise BadInput(f"there is no precision {name!r}", hint=f"use one of {', '.join(PRECISIONS)}")
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return kinds[name]


def pictures_fit(size_bytes: int, device: torch.device) -> bool:
    """Whether a clip's pictures may lie on a device: at most half of what is free there.

    Args:
        size_bytes: Of the pictures.
        device: Where the training computes. A CPU reads them from the memory map, which takes no memory for good.
    """
    return device.type == "cuda" and size_bytes <= _SHARE_FOR_PICTURES * free_bytes(device)


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that nobody uses."""
    return torch.cuda.mem_get_info(device)[0]


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, on the way there while the program goes on.

    Args:
        tensor: Anywhere. On the CPU it is copied into pinned memory first, unless it lies there.
        device: Where it is needed; work that is given to the device later finds it there.

    Returns:
        The tensor there; the same one when it lies there already.
    """
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor in memory that a GPU copies from by itself; the same one where the device is no GPU.

    Args:
        tensor: Anywhere.
        device: Where it will be sent.
    """
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor

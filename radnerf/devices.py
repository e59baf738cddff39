"""Where tensors live."""

from __future__ import annotations

import torch

from radnerf.errors import BackendUnavailable


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

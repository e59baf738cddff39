"""The one door to the compute kernels; no backend's library is imported before it is asked for."""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

import torch

from radnerf.errors import BackendUnavailable

if TYPE_CHECKING:
    from radnerf.kernels.protocol import Backend

__all__ = ["BACKENDS", "available", "get_backend"]


@dataclass(frozen=True)
class _Entry:
    """A backend that may be here.

    Attributes:
        module: The module whose ``BACKEND`` is the backend.
        needs: Packages that the module imports.
        devices: Types of device that it serves; empty for all.
        hint: What to do when it is missing.
    """

    module: str
    needs: tuple[str, ...]
    devices: tuple[str, ...]
    hint: str


_USE_INSTEAD = "use --backend auto, or reference"

# Of the GPUs that Triton compiles for.
_LEAST_CAPABILITY = 8

# Best first: "auto" takes the first that is here and serves the device.
_REGISTRY = {
    "triton": _Entry("radnerf.kernels.triton_backend", ("triton",), ("cuda",), _USE_INSTEAD),
    "tcnn": _Entry("radnerf.kernels.tcnn", ("tinycudann", "triton"), ("cuda",), _USE_INSTEAD),
    "cpu": _Entry("radnerf.kernels.cpu", ("numba",), ("cpu",), "pip install numba"),
    "reference": _Entry("radnerf.kernels.reference", (), (), ""),
}

BACKENDS = ("auto", *reversed(_REGISTRY))
"""Every name that ``get_backend`` takes."""


def available() -> dict[str, str]:
    """Say for each backend "ok" or why it is not here."""
    return {name: _why_not(name) or "ok" for name in reversed(_REGISTRY)}


def get_backend(name: str = "auto", device: torch.device | str = "cpu") -> Backend:
    """Return the kernels by name.

    Args:
        name: One of ``BACKENDS``; "auto" takes the fastest one that serves the device.
        device: Where the tensors lie.

    Returns:
        The backend.

    Raises:
        BackendUnavailable: No such backend, not on this machine, or not for this device.
    """
    device_type = torch.device(device).type
    if name == "auto":
        name = next(
            candidate
            for candidate, entry in _REGISTRY.items()
            if (not entry.devices or device_type in entry.devices) and not _why_not(candidate)
        )
    if name not in _REGISTRY:
        raise BackendUnavailable(f"there is no backend {name!r}", hint=f"use one of {', '.join(BACKENDS)}")
    entry = _REGISTRY[name]
    reason = _why_not(name)
    if reason:
        raise BackendUnavailable(f"backend {name}: {reason}", hint=entry.hint)
    if entry.devices and device_type not in entry.devices:
        raise BackendUnavailable(
            f"backend {name} runs on {' or '.join(entry.devices)}, and the tensors lie on {device_type}",
            hint=f"move them, or {_USE_INSTEAD}",
        )
    return _load(name)


@cache
def _why_not(name: str) -> str:
    """Return why a registered backend cannot be used on this machine; empty if it can."""
    entry = _REGISTRY[name]
    if entry.devices == ("cuda",) and (lacking := _gpu_lacks()):
        return lacking
    for package in entry.needs:
        try:
            importlib.import_module(package)
        # A package built for another numpy or another platform fails in its own ways.
        except Exception as error:
            return f"{package} cannot be imported: {error}"
    return ""


def _gpu_lacks() -> str:
    """Return what keeps this machine from running a backend's kernels on an NVIDIA GPU; empty if nothing."""
    if not torch.cuda.is_available():
        return "torch sees no NVIDIA GPU"
    major, minor = torch.cuda.get_device_capability()
    if major < _LEAST_CAPABILITY:
        return f"the GPU has compute capability {major}.{minor}, and Triton needs {_LEAST_CAPABILITY}.0"
    if not any(shutil.which(os.environ.get("CC") or compiler) for compiler in ("gcc", "clang")):
        return "Triton needs a C compiler, gcc or clang, at its first start"
    return ""


@cache
def _load(name: str) -> Backend:
    return cast("Backend", importlib.import_module(_REGISTRY[name].module).BACKEND)

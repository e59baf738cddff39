"""The Triton kernels to test: on a GPU where there is one, else step by step through Triton's interpreter.

Which of them is decided when triton is first loaded. So tests take everything that loads it from here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

_backend = importlib.import_module("radnerf.kernels.triton_backend")
Halves = importlib.import_module("radnerf.kernels.triton_halves").Halves
march_into = importlib.import_module("radnerf.kernels.triton_march").march
trace = importlib.import_module("radnerf.kernels.triton_trace").trace

SINGLE = _backend.TritonBackend(half=False)
HALF = _backend.TritonBackend(half=True)

# Of colours and opacities in single precision: a GPU's exponentials and products are a few bits coarser.
CLOSE = 2e-5 if DEVICE.type == "cpu" else 3e-4


def kernel_modules() -> list[ModuleType]:
    """The modules of the kernels that training uses, for tests that do without launching them."""
    names = ("triton_backend", "triton_march", "triton_encode", "triton_composite")
    return [importlib.import_module(f"radnerf.kernels.{name}") for name in names]

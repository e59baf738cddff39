"""How the numba kernels are compiled: once for each machine, then from the cache on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import torch


def parallel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a kernel that runs on several threads. The GIL is kept: kernels never overlap."""
    return _compile(function, parallel=True)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a piece of a kernel."""
    return _compile(function, parallel=False)


def _compile(function: Callable[..., Any], *, parallel: bool) -> Callable[..., Any]:
    # numba's own annotations differ from version to version.
    njit: Any = numba.njit
    # Division by zero gives infinities as in torch, and no branch that would stop vectorisation.
    options = {"parallel": parallel, "error_model": "numpy"}
    try:
        compiled: Callable[..., Any] = njit(function, cache=True, **options)
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written: compile anew in each process.
        compiled = njit(function, **options)
    return compiled


def follow_torch_threads() -> int:
    """Let the next kernel run on as many threads as torch uses here; return how many.

    numba's OpenMP layer, when it starts, sets the number of threads of the OpenMP that torch may share; torch's own
    number, which OMP_NUM_THREADS or the caller chose, is put back.
    """
    config: Any = numba.config
    chosen = torch.get_num_threads()
    threads = max(1, min(chosen, int(config.NUMBA_NUM_THREADS)))
    numba.set_num_threads(threads)
    if torch.get_num_threads() != chosen:
        torch.set_num_threads(chosen)
    return threads

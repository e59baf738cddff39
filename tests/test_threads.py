"""Threads that wait for each other sleep, unless the user says otherwise: OpenMP tells what it was told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def _policy(imports: str, **environment: str) -> str:
    """What the library itself says of how its threads wait."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    told = subprocess.run(
        [sys.executable, "-c", f"import {imports}"],
        env={**clean, "OMP_DISPLAY_ENV": "TRUE", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stderr
    policies = [line.split("=")[1].strip(" '") for line in told.splitlines() if "OMP_WAIT_POLICY" in line]
    if not policies:
        pytest.skip("this torch's threads are not OpenMP's, or do not say how they wait")
    return policies[0].lower()


@pytest.mark.parametrize("imports", ["cli.app, torch", "radnerf.model", "radnerf.kernels.cpu", "stages.api"])
def test_waiting_threads_sleep(imports: str) -> None:
    assert _policy(imports) == "passive"


def test_the_environment_has_the_last_word() -> None:
    assert _policy("radnerf.model", OMP_WAIT_POLICY="active") == "active"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_kernels_leave_the_number_of_threads_as_it_was_chosen(threads: str) -> None:
    # Twice, since numba's own threads start with the first call.
    script = (
        "from radnerf.kernels.cpu_jit import follow_torch_threads as follow; import torch;"
        "print(follow(), torch.get_num_threads(), follow(), torch.get_num_threads())"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert told.split() == [threads] * 4

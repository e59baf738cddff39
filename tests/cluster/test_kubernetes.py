"""A batch through ``--profile kubernetes`` and a real kubectl, on a stand-in for the cluster; a job fails once.

Only with ``make cluster-test``: it needs kubectl and the extra ``kubernetes``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_harness import shim_environment
from tests.cluster.kubernetes_api import LoopbackCluster
from tests.cluster.speaking_batch import (
    FAILS_ONCE,
    NEVER_ENDS,
    PATIENCE_S,
    batch_command,
    check_videos,
    interrupt_once_begun,
    make_batch,
)

pytestmark = [
    pytest.mark.skipif(os.environ.get("RADNERF_CLUSTER_TEST") != "1", reason="takes minutes: make cluster-test"),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl"),
]

QUICKLY = ["--", "--seconds-between-status-checks", "2", "--latency-wait", "10"]


@pytest.fixture
def cluster() -> Iterator[LoopbackCluster]:
    """Jobs run on this machine."""
    made = LoopbackCluster()
    yield made
    made.close()


def _environment(cluster: LoopbackCluster, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig(folder / "kubeconfig")),
        "RADNERF_IMAGE": "registry.example/radnerf:0.1.0",
        "RADNERF_VOLUME": f"subjects:{folder}",
        "XDG_DATA_HOME": str(folder / "data"),
    }


def test_a_batch_runs_as_kubernetes_jobs_and_a_dead_one_is_tried_again(
    cluster: LoopbackCluster, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    make_batch(home)
    python = shim_environment(tmp_path / "environment", FAILS_ONCE)
    done = subprocess.run(
        [*batch_command(python, home, "kubernetes"), *QUICKLY],
        env=_environment(cluster, tmp_path), cwd=home, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert (told["made"], told["failed"]) == (2, 0)
    check_videos(home)
    states = {name: next(iter(cluster.told(name)["status"])) for name in cluster.jobs}
    print(json.dumps(states, indent=2))  # noqa: T201 - 'make cluster-test' shows it
    renderings = {name: state for name, state in states.items() if name.startswith("radnerf-render-")}
    assert sorted(states.values()) == ["failed"] + ["succeeded"] * 4
    assert sorted(renderings.values()) == ["failed", "succeeded", "succeeded"]
    gpus = {name for name, job in cluster.jobs.items() if "nvidia.com/gpu" in json.dumps(job)}
    assert gpus == set(renderings)


def test_an_interrupted_run_deletes_its_jobs(cluster: LoopbackCluster, tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_batch(home)
    python = shim_environment(tmp_path / "environment", NEVER_ENDS)
    command = [*batch_command(python, home, "kubernetes"), *QUICKLY]
    interrupt_once_begun(command, _environment(cluster, tmp_path), home)
    assert cluster.jobs
    assert set(cluster.deleted) == set(cluster.jobs)

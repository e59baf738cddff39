"""A batch on a real Slurm: one machine that is its own cluster, on loopback, with a job that fails once.

Only with ``make cluster-test``: it needs root, Debian's slurm-wlm and munge, and the extra ``slurm``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli_harness import shim_environment
from tests.cluster.speaking_batch import (
    FAILS_ONCE,
    NEVER_ENDS,
    PATIENCE_S,
    batch_command,
    check_videos,
    interrupt_once_begun,
    make_batch,
)

pytestmark = pytest.mark.skipif(
    os.environ.get("RADNERF_CLUSTER_TEST") != "1", reason="starts daemons as root: make cluster-test"
)


QUICKLY = ["--", "--slurm-init-seconds-before-status-checks", "5", "--seconds-between-status-checks", "5",
           "--latency-wait", "10"]  # fmt: skip
"""A test need not wait as long as a cluster's users do."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A cluster of this machine alone; the environment in which its commands find it."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'}")
    folder = tmp_path / "slurm"
    folder.mkdir(mode=0o755)
    key, sock = folder / "munge.key", folder / "munge.socket"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(
        f"""\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={sock}
CredType=cred/munge
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
ReturnToService=2
MinJobAge=600
GresTypes=gpu
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
    )
    # Any file stands for a GPU: what matters here is that Slurm hands out one at a time.
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={sock}"]
    munged += [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            _start(stack, command, environment, folder)
            time.sleep(1)
        _wait_for_node(environment)
        yield environment


def _start(stack: ExitStack, command: list[str], environment: dict[str, str], folder: Path) -> None:
    log = stack.enter_context((folder / f"{command[0]}.out").open("wb"))
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    stack.callback(process.wait, timeout=30)
    stack.callback(process.terminate)


def _wait_for_node(environment: dict[str, str]) -> None:
    end = time.monotonic() + 60
    said = ""
    while time.monotonic() < end:
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        if done.stdout.strip() == "idle":
            return
        time.sleep(1)
    pytest.fail(f"the node does not come up: {said}")


def test_a_batch_runs_as_slurm_jobs_and_a_dead_one_is_tried_again(cluster: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_batch(home)
    python = shim_environment(tmp_path / "environment", FAILS_ONCE)
    environment = {**cluster, "XDG_DATA_HOME": str(tmp_path / "data")}
    done = subprocess.run(
        [*batch_command(python, home, "slurm"), *QUICKLY],
        env=environment, cwd=home, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    log = (tmp_path / "slurm" / "slurmctld.log").read_text()
    assert done.returncode == 0, done.stderr + done.stdout + log
    told = json.loads(done.stdout)
    assert (told["made"], told["failed"]) == (2, 0)
    check_videos(home)

    dead = (home / "failed-once").read_text()
    assert dead.isdigit()
    assert re.search(r"[Tt]rying to restart job|[Rr]etry|attempt", done.stderr), done.stderr
    completed = (tmp_path / "slurm" / "completed.txt").read_text()
    states = dict(re.findall(r"JobId=(\d+) .*?JobState=(\w+)", completed))
    print(completed)  # noqa: T201 - 'make cluster-test' shows it
    assert states[dead] == "FAILED"
    assert sorted(states.values()) == ["COMPLETED"] * 4 + ["FAILED"]
    jobs = subprocess.run(["scontrol", "show", "jobs"], env=cluster, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"JobName=(\w+?)_", jobs)) == {"radnerf"}
    # Both renderings and the dead one asked for the GPU; the two that heard the speeches did not.
    assert len(re.findall(r"Tres\w+=\S*gpu:1", jobs)) == 3, jobs


def test_an_interrupted_run_cancels_its_jobs(cluster: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_batch(home)
    python = shim_environment(tmp_path / "environment", NEVER_ENDS)
    environment = {**cluster, "XDG_DATA_HOME": str(tmp_path / "data")}
    interrupt_once_begun([*batch_command(python, home, "slurm"), *QUICKLY], environment, home)
    end = time.monotonic() + 60
    while (queue := subprocess.check_output(["squeue", "-h"], env=cluster, text=True)) and time.monotonic() < end:
        time.sleep(1)
    assert queue == ""
    completed = (tmp_path / "slurm" / "completed.txt").read_text()
    assert set(re.findall(r"JobState=(\w+)", completed)) == {"CANCELLED"}

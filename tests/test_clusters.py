"""What runs where: profiles by name, deployment, and a stage as a Kubernetes job."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import kubernetes_jobs
from cli.options import read_deployment, read_profile
from cli.plan import STAGES
from cli.profiles import submits_to_kubernetes
from cli.slurm import without_accounting
from cli.snakemake_call import Execution, arguments, workflow_file
from stages.errors import BadInput, RadnerfError
from tests.cli_harness import fabricate
from tests.test_workflow import dry_run


def test_profiles_are_found_by_name_and_by_folder(tmp_path: Path) -> None:
    for name in ("workstation", "slurm", "kubernetes"):
        assert read_profile(name) == str(workflow_file("profiles") / name)
    (tmp_path / "config.yaml").write_text("jobs: 2\n")
    assert read_profile(str(tmp_path)) == str(tmp_path)
    assert read_profile(None) == ""
    with pytest.raises(BadInput, match=r"'slorm' is no profile \(choose one of: kubernetes, slurm, workstation"):
        read_profile("slorm")
    with pytest.raises(BadInput, match="--sdm is 'docker'"):
        read_deployment("docker")


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_profile_speaks_of_rules_that_are(name: str) -> None:
    told = yaml.safe_load((workflow_file("profiles") / name / "config.yaml").read_text())
    assert set(told["set-threads"]) <= set(STAGES)
    assert told["rerun-triggers"] == "mtime"


def test_a_profile_takes_the_place_of_this_machines_limits(tmp_path: Path) -> None:
    folder = tmp_path / "subjects" / ".workflow" / "anna"
    words = arguments(folder, [], Execution(profile="/profiles/slurm", deployment="apptainer"))
    assert words[words.index("--profile") + 1] == "/profiles/slurm"
    assert words[words.index("--sdm") + 1] == "apptainer"
    assert not {"--cores", "--resources"} & set(words)


@pytest.fixture
def sacct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Puts a ``sacct`` on PATH that says a line on standard error and ends with a code."""

    def put(said: str, code: int) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "sacct").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
        (folder / "sacct").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return put


def test_a_slurm_without_accounts_is_asked_through_its_queue(sacct: Callable[[str, int], None], tmp_path: Path) -> None:
    sacct("Slurm accounting storage is disabled", 1)
    slurm = read_profile("slurm")
    words = ["--slurm-status-command", "squeue", "--slurm-no-account"]
    folder = tmp_path / "subjects" / ".workflow" / "anna"
    assert " ".join(words) in " ".join(arguments(folder, [], Execution(profile=slurm)))
    assert without_accounting(slurm, ("--slurm-no-account",)) == words[:2]
    assert without_accounting(slurm, ("--slurm-status-command=sacct",)) == words[2:]
    assert without_accounting(read_profile("kubernetes"), ()) == []
    assert without_accounting("", ()) == []


def test_a_slurm_with_accounts_is_left_to_its_executor(sacct: Callable[[str, int], None]) -> None:
    sacct("sacct: error: slurm_persist_conn_open: cannot reach the database", 1)
    assert without_accounting(read_profile("slurm"), ()) == []


def test_a_conda_environment_runs_the_code_that_was_started(tmp_path: Path) -> None:
    workspace = fabricate(tmp_path, trained=False)
    said = dry_run(workspace, [workspace.head], "--printshellcmds")
    assert re.search(r"\bradnerf stage head anchor", said, re.MULTILINE)
    said = dry_run(workspace, [workspace.head], "--printshellcmds", "--config", "sdm=conda")
    assert re.search(r"python -P -m cli\.app stage head anchor", said, re.MULTILINE)


def _job(**needs: int) -> dict[str, Any]:
    return kubernetes_jobs.manifest("head", "/radnerf/job.sh", memory_mb=8000, cores=8, minutes=60, **needs)


def test_a_stage_asks_kubernetes_for_what_its_rule_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNERF_IMAGE", "here/radnerf:1")
    monkeypatch.setenv("RADNERF_VOLUME", "subjects:/radnerf")
    monkeypatch.setenv("RADNERF_RUN", "token")
    job = json.loads(json.dumps(_job(gpus=1)))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "8000M", "cpu": "8", "nvidia.com/gpu": "1"}
    assert container["volumeMounts"] == [{"name": "subjects", "mountPath": "/radnerf"}]
    assert (container["image"], container["command"]) == ("here/radnerf:1", ["bash", "/radnerf/job.sh"])
    assert {"name": "RADNERF_RUN", "value": "token"} in container["env"]
    assert job["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == os.getuid()
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    assert re.fullmatch(r"radnerf-head-[0-9a-f]{10}", job["metadata"]["name"])
    without = json.loads(json.dumps(_job(gpus=0)))
    assert "nvidia.com/gpu" not in json.dumps(without)
    monkeypatch.setenv("RADNERF_VOLUME", "subjects")
    with pytest.raises(BadInput, match="RADNERF_VOLUME"):
        _job(gpus=0)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({}, "running"),
        ({"active": 1}, "running"),
        ({"succeeded": 1}, "success"),
        ({"failed": 1}, "failed"),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}, "failed"),
        ({"conditions": [{"type": "Suspended", "status": "True"}]}, "running"),
    ],
)
def test_a_jobs_state_is_told_in_snakemakes_words(monkeypatch: pytest.MonkeyPatch, told: object, word: str) -> None:
    answer = subprocess.CompletedProcess([], 0, json.dumps({"status": told}), "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert kubernetes_jobs.status("radnerf-head-0") == word


def test_what_kubectl_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = subprocess.CompletedProcess([], 1, "", "error: forbidden\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(RadnerfError, match="kubectl get failed: error: forbidden"):
        kubernetes_jobs.status("radnerf-head-0")


def test_an_interrupted_run_deletes_its_own_jobs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert submits_to_kubernetes(read_profile("kubernetes"))
    assert not submits_to_kubernetes(read_profile("slurm"))
    asked: list[list[str]] = []

    def answer(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(subprocess, "run", answer)
    monkeypatch.setenv("RADNERF_IMAGE", "here/radnerf:1")
    monkeypatch.setenv("RADNERF_VOLUME", "subjects:/radnerf")
    monkeypatch.setenv("RADNERF_RUN", "token")
    kubernetes_jobs.delete_run("token")
    (words,) = asked
    assert "--wait=false" in words
    key, _, value = words[-1].partition("=")
    assert _job(gpus=0)["metadata"]["labels"][key] == value == "token"

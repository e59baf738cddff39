"""One stage as a Kubernetes job: what ``profiles/kubernetes`` lets Snakemake's cluster-generic executor call.

Snakemake's own kubernetes executor keeps files in an object store; the stages work on a subject's folder, so here every
pod mounts the same volume, as the machines of a Slurm cluster share a disk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from cli import lock
from stages.errors import BadInput, RadnerfError

_PASSED = ("PATH", "HOME", "XDG_DATA_HOME")
_KEPT_S = 3600
_RUN_LABEL = "radnerf-run"


def manifest(rule: str, script: str, *, memory_mb: int, cores: int, gpus: int, minutes: int) -> dict[str, Any]:
    """The job that runs a script.

    Args:
        rule: What to call it after.
        script: Path of Snakemake's job script, on the shared volume.
        memory_mb: That it may use.
        cores: That it may use.
        gpus: Of ``nvidia.com/gpu``.
        minutes: After which Kubernetes ends it.

    Raises:
        BadInput: ``RADNERF_IMAGE`` or ``RADNERF_VOLUME`` is not set, or is none.
    """
    image, volume = os.environ.get("RADNERF_IMAGE", ""), os.environ.get("RADNERF_VOLUME", "")
    claim, colon, mount = volume.partition(":")
    if not image or not (claim and colon and mount.startswith("/")):
        raise BadInput(
            "RADNERF_IMAGE and RADNERF_VOLUME do not say what pods run and mount",
            hint="set them to the image and to CLAIM:PATH, see docs/clusters.md",
        )
    limits = {"memory": f"{memory_mb}M", "cpu": str(cores)} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    names = [name for name in os.environ if name.startswith("RADNERF_") or name in _PASSED]
    container = {
        "name": "stage",
        "image": image,
        "command": ["bash", script],
        "workingDir": mount,
        "env": [{"name": name, "value": os.environ[name]} for name in sorted(names)],
        "resources": {"requests": limits, "limits": limits},
        "volumeMounts": [{"name": "subjects", "mountPath": mount}],
    }
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        # Files must stay readable and writable for whoever submitted the job.
        "securityContext": {"runAsUser": os.getuid(), "runAsGroup": os.getgid(), "fsGroup": os.getgid()},
        "volumes": [{"name": "subjects", "persistentVolumeClaim": {"claimName": claim}}],
    }
    labels = {"app": "radnerf"} | ({_RUN_LABEL: run} if (run := os.environ.get(lock.VARIABLE)) else {})
    plain = re.sub(r"[^a-z0-9]+", "-", rule.lower()).strip("-") or "stage"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"radnerf-{plain}-{uuid4().hex[:10]}", "labels": labels},
        "spec": {
            # Trying again is Snakemake's affair: it knows which files are whole.
            "backoffLimit": 0,
            "activeDeadlineSeconds": 60 * minutes,
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def submit(job: dict[str, Any]) -> str:
    """Hand a job to the cluster; returns its name.

    Raises:
        RadnerfError: kubectl refuses it.
    """
    _kubectl(["create", "-f", "-"], json.dumps(job))
    return str(job["metadata"]["name"])


def status(name: str) -> str:
    """``running``, ``success`` or ``failed``, as Snakemake asks for it.

    Raises:
        RadnerfError: kubectl cannot tell.
    """
    told = json.loads(_kubectl(["get", "job", name, "-o", "json"])).get("status", {})
    conditions = {one["type"] for one in told.get("conditions", []) if one.get("status") == "True"}
    # A job that ran past its minutes may have no failed pod to count: it was deleted.
    failed = told.get("failed") or "Failed" in conditions
    return "success" if told.get("succeeded") else "failed" if failed else "running"


def delete_run(token: str) -> None:
    """Delete every job of a run that was interrupted, without waiting until they are gone.

    Raises:
        RadnerfError: kubectl cannot.
    """
    _kubectl(["delete", "job", "--ignore-not-found", "--wait=false", "--selector", f"{_RUN_LABEL}={token}"])


def _kubectl(words: list[str], text: str | None = None) -> str:
    try:
        done = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RadnerfError("there is no kubectl on this machine", hint="install it and choose a context") from error
    if done.returncode != 0:
        raise RadnerfError(f"kubectl {words[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout


def main() -> int:
    """``python -m cli.kubernetes_jobs submit|status …``."""
    parser = argparse.ArgumentParser(prog="python -m cli.kubernetes_jobs")
    verbs = parser.add_subparsers(dest="verb", required=True)
    ask = verbs.add_parser("submit")
    for name in ("memory-mb", "cores", "gpus", "minutes"):
        ask.add_argument(f"--{name}", type=int, required=True)
    ask.add_argument("--rule", required=True)
    ask.add_argument("script", type=Path)
    verbs.add_parser("status").add_argument("name")
    asked = parser.parse_args()
    try:
        if asked.verb == "submit":
            needs = {key: getattr(asked, key) for key in ("memory_mb", "cores", "gpus", "minutes")}
            said = submit(manifest(asked.rule, str(asked.script.absolute()), **needs))
        else:
            said = status(asked.name)
    except RadnerfError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - Snakemake shows it
        return error.exit_code
    print(said)  # noqa: T201 - Snakemake reads it
    return 0


if __name__ == "__main__":
    sys.exit(main())

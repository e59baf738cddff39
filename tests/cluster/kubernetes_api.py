"""A Kubernetes of this machine alone, as far as kubectl sees one: it keeps jobs, and runs each as a process.

No schedulers, images or volumes: the pod's command runs here, with the pod's environment and nothing else of this
process's, in the folder that stands for the volume.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

JOBS = "/apis/batch/v1/namespaces/default/jobs"

_JOB_KIND = {"name": "jobs", "singularName": "job", "namespaced": True, "kind": "Job"}

_PATCH = {
    "x-kubernetes-group-version-kind": {"group": "batch", "version": "v1", "kind": "Job"},
    "parameters": [{"name": "fieldValidation", "in": "query"}],
    "responses": {},
}
"""How a cluster says that it checks fields itself, so that kubectl need not."""

_DISCOVERY: dict[str, dict[str, Any]] = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            {
                "name": "batch",
                "versions": [{"groupVersion": "batch/v1", "version": "v1"}],
                "preferredVersion": {"groupVersion": "batch/v1", "version": "v1"},
            }
        ],
    },
    "/apis/batch/v1": {
        "kind": "APIResourceList",
        "groupVersion": "batch/v1",
        "resources": [{**_JOB_KIND, "verbs": ["create", "delete", "get", "list", "watch"]}],
    },
    "/openapi/v3": {"paths": {"apis/batch/v1": {"serverRelativeURL": "/openapi/v3/apis/batch/v1"}}},
    "/openapi/v3/apis/batch/v1": {
        "openapi": "3.0.0",
        "info": {"title": "jobs", "version": "1"},
        "paths": {f"{JOBS.replace('default', '{namespace}')}/{{name}}": {"patch": _PATCH}},
    },
}


class LoopbackCluster:
    """Jobs by name, the process of each, and what was asked for.

    Attributes:
        jobs: Every job that was ever created, as it was sent.
        deleted: Names of those that were deleted.
    """

    def __init__(self) -> None:
        """No jobs yet; listens on a free port of loopback."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        cluster = self

        class Handler(_Handler):
            kept = cluster

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def kubeconfig(self, path: Path) -> Path:
        """Write the file by which kubectl finds this cluster."""
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "one", "cluster": {"server": address}}],
            "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
            "users": [{"name": "one", "user": {}}],
            "current-context": "one",
        }
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    def create(self, job: dict[str, Any]) -> None:
        """Keep a job and start its one container's command."""
        (container,) = job["spec"]["template"]["spec"]["containers"]
        name = job["metadata"]["name"]
        self.jobs[name] = job
        self._processes[name] = subprocess.Popen(
            container["command"],
            cwd=container["workingDir"],
            env={pair["name"]: pair["value"] for pair in container["env"]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def told(self, name: str) -> dict[str, Any]:
        """A job with its status, as a cluster words it."""
        code = self._processes[name].poll()
        status = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return {**self.jobs[name], "status": status}

    def delete(self, name: str) -> None:
        """End a job's process and forget it."""
        self.deleted.append(name)
        _end(self._processes.pop(name))

    def knows(self, name: str) -> bool:
        """Whether there is such a job."""
        return name in self._processes

    def labelled(self, selector: str) -> list[str]:
        """Names of the jobs with a label, ``key=value``."""
        key, _, value = selector.partition("=")
        return [name for name in self._processes if self.jobs[name]["metadata"]["labels"].get(key) == value]

    def close(self) -> None:
        """End the server and every process."""
        for process in self._processes.values():
            _end(process)
        self._server.shutdown()
        self._server.server_close()


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


class _Handler(BaseHTTPRequestHandler):
    kept: LoopbackCluster

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, told: dict[str, Any], code: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _missing(self) -> None:
        told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self._answer(told | {"message": f"{self.path} not found"}, 404)

    def _job(self) -> str | None:
        path = self.path.partition("?")[0]
        name = path.removeprefix(f"{JOBS}/")
        return name if path.startswith(f"{JOBS}/") and self.kept.knows(name) else None

    def do_GET(self) -> None:
        """Discovery, or one job."""
        path = self.path.partition("?")[0]
        if (name := self._job()) is not None:
            self._answer(self.kept.told(name))
        elif path == JOBS:
            asked = parse_qs(self.path.partition("?")[2]).get("labelSelector", [""])[0]
            found = [self.kept.told(name) for name in self.kept.labelled(asked)]
            self._answer({"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": found})
        elif path in _DISCOVERY:
            self._answer(_DISCOVERY[path])
        else:
            self._missing()

    def do_POST(self) -> None:
        """A new job."""
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.partition("?")[0] != JOBS:
            self._missing()
            return
        self.kept.create(job)
        self._answer(job, 201)

    def do_DELETE(self) -> None:
        """One job less."""
        if (name := self._job()) is None:
            self._missing()
            return
        told = self.kept.told(name)
        self.kept.delete(name)
        self._answer(told)

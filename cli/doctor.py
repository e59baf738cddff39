"""``radnerf doctor``: what this machine has, and what radnerf lacks on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import typer

from cli.console import Console, size, table
from cli.options import AsJson, Home, examples, read_home
from stages.errors import RadnerfError

EXAMPLES = examples(
    "radnerf doctor",
    "radnerf doctor --json",
    codes={0: "all that every subject needs is here", 1: "something of it is missing"},
)

LOW_DISK_BYTES = 5_000_000_000
"""Less room than this is worth a warning."""


def doctor(home: Home = Path(), as_json: AsJson = False) -> None:
    """Show what was found on this machine; exit code 1 when something is missing that every subject needs."""
    console = Console(json=as_json)
    checks = [
        _python(),
        _ffmpeg(),
        _torch(),
        *_kernels(),
        *_models(),
        _face_mesh(),
        _workflow(),
        _disk(read_home(home)),
    ]
    healthy = all(check["ok"] or not check["needed"] for check in checks)
    rows = [(_mark(check), check["what"], check["found"], check["hint"]) for check in checks]
    console.result({"healthy": healthy, "checks": checks}, table(rows, ("", "what", "found", "hint")))
    if not healthy:
        raise typer.Exit(1)


def _check(what: str, found: str, *, ok: bool, needed: bool, hint: str = "") -> dict[str, Any]:
    return {"what": what, "found": found, "ok": ok, "needed": needed, "hint": "" if ok else hint}


def _mark(check: dict[str, Any]) -> str:
    return "ok" if check["ok"] else "MISSING" if check["needed"] else "-"


def _python() -> dict[str, Any]:
    cores = os.cpu_count() or 1
    return _check("python", f"{platform.python_version()}, {cores} cores, {platform.machine()}", ok=True, needed=True)


def _ffmpeg() -> dict[str, Any]:
    from stages.media_info import ffmpeg_path

    hint = "install ffmpeg, or 'pip install imageio-ffmpeg'"
    try:
        path = ffmpeg_path()
        first = subprocess.run([path, "-version"], capture_output=True, text=True, check=True, timeout=20).stdout
        version = " ".join(first.split()[2:3])
    except (RadnerfError, OSError, subprocess.SubprocessError) as error:
        return _check("ffmpeg", " ".join(str(error).split()), ok=False, needed=True, hint=hint)
    return _check("ffmpeg", f"{version}, {path}", ok=True, needed=True)


def _torch() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = f"{torch.cuda.get_device_name()}, {size(free)} of {size(total)} free"
    else:
        name = f"no GPU, {torch.get_num_threads()} threads"
    return _check("torch", f"{torch.__version__}, {name}", ok=True, needed=True)


def _kernels() -> list[dict[str, Any]]:
    from radnerf import kernels
    from radnerf.devices import pick_device

    device = pick_device()
    chosen = kernels.get_backend("auto", device).name
    return [
        _check(
            f"kernels: {name}",
            f"{state}, taken by --backend auto on {device}" if name == chosen else state,
            ok=state == "ok",
            needed=name == "reference",
            hint="see docs/gpu.md",
        )
        for name, state in kernels.available().items()
    ]


def _models() -> list[dict[str, Any]]:
    from stages.vision import models

    checks = []
    for what, name in (
        ("landmarks: tasks", models.FACE_LANDMARKER),
        ("parsing: multiclass", models.MULTICLASS_SEGMENTER),
        ("LPIPS: AlexNet", models.ALEXNET_FEATURES),
    ):
        path = models.find_model(name)
        where = str(path) if path else f"no {name}"
        checks.append(_check(what, where, ok=path is not None, needed=False, hint=f"optional; {_models_hint()}"))
    return checks


def _models_hint() -> str:
    from stages.vision import models

    return f"put it into {models.model_folders()[-1]} or name its folder in RADNERF_MODELS"


def _face_mesh() -> dict[str, Any]:
    from stages.vision import models
    from stages.vision.face_mesh import brings_models, mediapipe_version

    version = mediapipe_version()
    if not version:
        return _check("mediapipe", "missing", ok=False, needed=True, hint="pip install 'mediapipe==0.10.21'")
    if brings_models():
        return _check("mediapipe", f"{version}, with bundled models", ok=True, needed=True)
    segmenters = (models.MULTICLASS_SEGMENTER, models.SELFIE_SEGMENTER)
    lacking = [] if models.find_model(models.FACE_LANDMARKER) else [models.FACE_LANDMARKER]
    if not any(map(models.find_model, segmenters)):
        lacking.append(" or ".join(segmenters))
    found = f"{version}, which brings no models" + (f" and finds no {', no '.join(lacking)}" if lacking else "")
    return _check("mediapipe", found, ok=not lacking, needed=True, hint="see 'radnerf models', or install 0.10.21")


def _workflow() -> dict[str, Any]:
    from cli.snakemake_call import workflow_file

    try:
        return _check(
            "snakemake",
            f"{importlib.metadata.version('snakemake')}, {workflow_file('Snakefile')}",
            ok=True,
            needed=True,
        )
    except (importlib.metadata.PackageNotFoundError, RadnerfError) as error:
        return _check("snakemake", str(error), ok=False, needed=True, hint="install radnerf again")


def _disk(home: Path) -> dict[str, Any]:
    there = next(parent for parent in (home, *home.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    return _check(
        "disk",
        f"{size(free)} free for {home / 'subjects'}",
        ok=free > LOW_DISK_BYTES,
        needed=False,
        hint="a clip of a minute takes about 1 GB",
    )

"""Measure rendering and training on this machine, every backend beside the baseline, in one run."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

from radnerf.devices import pick_device
from radnerf.errors import BackendUnavailable
from radnerf.kernels import available, get_backend
from radnerf.machine_rates import Rates, best_of, measure_rates
from stages import progress
from stages.bench_row import Job
from stages.bench_row import measure as measure_row
from stages.bench_subject import DrawnSettings, drawn_subject, quick_settings
from stages.errors import RadnerfError
from stages.provenance import radnerf_version
from stages.workspace import Workspace

Row = dict[str, Any]
Measure = Callable[[Job], Row]

SIZES = (128, 256, 512, 1024)
QUICK_SIZES = (128, 256)

_FAREWELL_S = 10.0


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        budget_s: For a row's timed frames; beyond it fewer rays of the frame are rendered.
        baseline_s: The same for the baseline at the smallest size.
        stream_s: For rendering into a video.
        training_s: For a backend's training steps.
        baseline_rays: Of one of the baseline's training steps.
        rates_s: For each shape of the machine's rates.
        quick: Whether this is the hurried measurement.
    """

    budget_s: float = 15.0
    baseline_s: float = 45.0
    stream_s: float = 8.0
    training_s: float = 6.0
    baseline_rays: int = 256
    rates_s: float = 0.1
    quick: bool = False


QUICK = Effort(budget_s=1.0, baseline_s=1.0, stream_s=1.0, training_s=1.0, baseline_rays=64, rates_s=0.03, quick=True)


@dataclass(frozen=True)
class Place:
    """A backend and where it runs."""

    backend: str
    device: str


def measure_in_child(job: Job) -> Row:
    """Measure a row in a process of its own, so that its memory and its first call are its own.

    Raises:
        RadnerfError: The row cannot be measured.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        # Importing torch takes longer than many a row: one process does that, and rows begin as its copies.
        context.set_forkserver_preload(["stages.bench_row"])
    receiver, sender = context.Pipe(duplex=False)
    # The types of both kinds of context are alike, but mypy knows of no common one.
    child = context.Process(target=_answer, args=(sender, job), daemon=True)  # type: ignore[attr-defined]
    child.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError as error:
        child.join()
        raise RadnerfError(
            f"measuring {job.backend}, {job.backbone} at {job.size_px} ended with {child.exitcode}",
            hint="leave that size or backend out with --sizes or --backend",
        ) from error
    finally:
        # It has said all that it will, or is not wanted any more.
        child.join(_FAREWELL_S if sys.exc_info()[0] is None else 0)
        child.kill()
        child.join()
        receiver.close()
    if isinstance(answer, RadnerfError):
        raise answer
    row: Row = answer
    return row


def _answer(sender: Connection, job: Job) -> None:
    """Measure and tell, in the child; what nobody has worded goes to standard error."""
    try:
        sender.send(measure_row(job))
    except RadnerfError as error:
        sender.send(error)


def places(backend: str, device: str) -> list[Place]:
    """Where what is to be measured runs, the fastest first.

    Args:
        backend: A backend's name; ``"auto"`` for each one that is here.
        device: As ``pick_device`` takes it. With ``"auto"`` a backend that does not serve the GPU runs on the CPU.

    Raises:
        BackendUnavailable: The backend or the device is not here.
    """
    first = str(pick_device(device))
    if backend != "auto":
        kernels = get_backend(backend, _served(backend, first) if device == "auto" else first)
        return [Place(kernels.name, _served(backend, first) if device == "auto" else first)]
    found = []
    for name, state in reversed(available().items()):
        if state != "ok":
            continue
        try:
            where = _served(name, first) if device == "auto" else first
            found.append(Place(get_backend(name, where).name, where))
        except BackendUnavailable:
            continue
    return found


def _served(backend: str, device: str) -> str:
    """The device, or the CPU where the backend does not serve it."""
    try:
        get_backend(backend, device)
    except BackendUnavailable:
        return "cpu"
    return device


def run(
    subject: Workspace | None,
    sizes: tuple[int, ...],
    effort: Effort,
    *,
    backend: str = "auto",
    device: str = "auto",
    measure: Measure = measure_in_child,
) -> dict[str, Any]:
    """Measure.

    Args:
        subject: A trained one; a drawn one when None.
        sizes: Sides of the frames, px.
        effort: How long to measure.
        backend: As for ``places``.
        device: As for ``places``.
        measure: What measures one row.

    Returns:
        ``{"machine": {…}, "rows": [{…}, …]}``; see docs/performance.md.

    Raises:
        BackendUnavailable: The backend or the device is not here.
        BadInput: The subject cannot be measured.
    """
    begin = time.monotonic()
    where = places(backend, device)
    devices = list(dict.fromkeys(place.device for place in where))
    name = "drawn" if subject is None else subject.root.name
    jobs = _jobs(where, devices, sorted(set(sizes)), effort)
    if subject is None:
        wanted, usual = quick_settings(), DrawnSettings()
        subject = drawn_subject(wanted, acceptable=(usual,)) if effort.quick else drawn_subject(usual)
    rates = {each: measure_rates(each, effort.rates_s) for each in devices}
    rows = []
    for done, job in enumerate(jobs):
        progress.report("measuring", done, len(jobs), f"{job.backend} {job.backbone} {job.size_px}²")
        rows.append(measure(dataclasses.replace(job, subject=str(subject.root))))
    progress.report("measuring", len(jobs), len(jobs))
    rates = {each: best_of(rates[each], measure_rates(each, effort.rates_s)) for each in devices}
    machine = _machine(rates) | {
        "subject": name,
        "quick": effort.quick,
        "seconds": round(time.monotonic() - begin, 1),
    }
    return {"machine": machine, "rows": [_rounded(row) for row in finish(rows, rates)]}


def _jobs(where: list[Place], devices: list[str], sizes: list[int], effort: Effort) -> list[Job]:
    """The rows in the order in which they are measured: each size's backends, then the baseline beside them."""
    jobs = []
    for size in sizes:
        smallest = size == sizes[0]
        training_s = effort.training_s if smallest else 0.0
        encoding = set()
        for place in where:
            encode = place.device not in encoding
            encoding.add(place.device)
            budget_s, stream_s = effort.budget_s, effort.stream_s
            jobs.append(
                Job("", place.backend, "radnerf", size, place.device, budget_s, stream_s, encode, training_s, None)
            )
        for device in devices:
            budget_s = effort.baseline_s if smallest else effort.budget_s
            fastest = get_backend("auto", device).name
            rays = effort.baseline_rays
            jobs.append(Job("", fastest, "nerf", size, device, budget_s, 0.0, False, training_s, rays))
    return jobs


def finish(rows: list[Row], rates: dict[str, Rates]) -> list[Row]:
    """Add to each row what needs the other rows or the machine.

    Args:
        rows: As measured.
        rates: Of each device.

    Returns:
        The rows by size, the baseline last, with ``ratio_to_nerf``, the floor, encoding and training filled in.
    """
    baseline = {(row["device"], row["size"]): row["ms"] for row in rows if row["backbone"] == "nerf"}
    encoding = {row["size"]: row["video_encode_ms"] for row in reversed(rows) if row["video_encode_ms"] is not None}
    training = {
        (row["device"], row["backend"], row["backbone"]): {key: row[key] for key in row if key.startswith("train_")}
        for row in rows
        if row["train_steps_per_s"] is not None
    }
    finished = []
    for row in rows:
        encode_ms = encoding.get(row["size"])
        trained = training.get((row["device"], row["backend"], row["backbone"]), {})
        floors = floor_ms(row, rates[row["device"]])
        floor, possible = max(floors.values()), row["possible_operations"]
        finished.append(
            row
            | trained
            | {
                "video_encode_ms": encode_ms,
                "fps_with_encode": None if encode_ms is None else 1e3 / (row["ms"] + encode_ms),
                "ratio_to_nerf": baseline[row["device"], row["size"]] / row["ms"],
                **floors,
                "floor_ms": floor,
                "floor_share": floor / row["ms"],
                "share_of_possible": None if possible is None else row["operations"] / possible,
            }
        )
    return finished


def floor_ms(row: Row, rates: Rates) -> dict[str, float]:
    """The least time that this machine needs for a frame's counted operations and bytes, each kind alone.

    Args:
        row: With ``operations``, ``asked_bytes`` and ``least_bytes``.
        rates: Of the row's device.

    Returns:
        Milliseconds for the arithmetic, for the bytes that it asks its caches for, and for those that have to pass
        through main memory. Nothing forbids that all three go on at once, so the floor is the largest.
    """
    return {
        "floor_matrix_ms": 1e-6 * row["operations"] / rates.matrix_gflops,
        "floor_cache_ms": 1e-6 * row["asked_bytes"] / rates.cache_gb_s,
        "floor_memory_ms": 1e-6 * row["least_bytes"] / rates.memory_gb_s,
    }


def _machine(rates: dict[str, Rates]) -> dict[str, Any]:
    """What was measured on."""
    versions = {"radnerf": radnerf_version(), "python": platform.python_version(), "torch": torch.__version__}
    states = available()
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_mb": round(psutil.virtual_memory().total / 1024**2),
        "system": f"{platform.system()} {platform.release()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
        "backends": states,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "rates": {
            device: {
                key: _significant(value) if isinstance(value, float) else value
                for key, value in dataclasses.asdict(found).items()
            }
            for device, found in rates.items()
        },
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _rounded(row: Row) -> Row:
    """The row with figures of four digits, which is more than a timing holds."""
    return {key: _rounded_value(value) for key, value in row.items()}


def _rounded_value(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        return _rounded(value)
    return _significant(value) if isinstance(value, float) else value


def _significant(value: float) -> float:
    return float(f"{value:.4g}")

"""Everything about a GPU in one run: ``python benchmarks/gpu.py [--video CLIP] [--subject FOLDER] > gpu.json``.

What it runs and what the figures mean stands in benchmarks/gpu.md. Progress goes to standard error. ``--try-on-cpu``
draws 16 × 16 pixels step by step through Triton's interpreter: it shows that this program works, and no speed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
SIZES = (128, 256, 512, 1024)
RUNS = 200
TESTS = ("test_triton_encode", "test_triton_rays", "test_triton_render", "test_triton_portrait", "test_tcnn")


def told(command: list[str], folder: Path | None = None) -> tuple[int, str, float]:
    """Run a program: exit code, standard output, seconds. Its standard error is passed on."""
    sys.stderr.write(f"$ {' '.join(command)}\n")
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder or ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout, time.monotonic() - started


def radnerf(*words: str) -> Row:
    """Run a radnerf command with ``--json``: its result, or how it failed, and the seconds that it took."""
    code, out, seconds = told([sys.executable, "-m", "cli.app", *words, "--json"])
    return {"seconds_in_all": seconds, **(json.loads(out) if code == 0 else {"failed": code})}


def kernel_tests() -> Row:
    """The kernels' tests, on the GPU since there is one."""
    files = [f"tests/{name}.py" for name in TESTS]
    code, out, seconds = told([sys.executable, "-m", "pytest", "-q", *files])
    return {"passed": code == 0, "seconds": seconds, "last_line": out.strip().splitlines()[-1] if out.strip() else ""}


def psnr_db(one: Any, other: Any) -> float:  # noqa: ANN401
    """Between two uint8 pictures; infinite where they are equal."""
    error = float(((one.astype(float) - other.astype(float)) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def pictures(folder: Path | None, sizes: tuple[int, ...], device: str) -> list[Row]:
    """A frame by each backend against the reference's on the CPU, and the time of painted ones."""
    import torch

    from radnerf.gpu_portrait import PortraitPainter
    from radnerf.kernels import available
    from stages.bench_scene import open_scene
    from stages.bench_subject import DrawnSettings, drawn_subject
    from stages.workspace import Workspace

    workspace = drawn_subject(DrawnSettings()) if folder is None else Workspace(folder)
    rows: list[Row] = []
    for size in sizes:
        scene = open_scene(workspace, "reference", "radnerf", size, torch.device("cpu"))
        code, mouth = scene.hear(1)
        truth = scene.picture(scene.condition(0, code, mouth))
        kernels = [name for name, state in available().items() if state == "ok" and name not in {"reference", "cpu"}]
        for name in kernels:
            there = open_scene(workspace, name, "radnerf", size, torch.device(device))
            drawn = there.picture(there.condition(0, *there.hear(1)))
            rows.append({"size": size, "backend": name, "psnr_to_reference_db": psnr_db(drawn, truth)})
        from radnerf.kernels.triton_backend import TritonBackend

        scene = open_scene(workspace, "auto", "radnerf", size, torch.device(device))
        for half in (True, False):
            parts = (scene.shown, scene.torso, TritonBackend(half=half), scene.camera, scene.background)
            painter, pose = PortraitPainter(*parts), scene.pose()
            condition = scene.condition(0, *scene.hear(1))
            drawn = painter.paint(pose, pose, condition)()
            row: Row = {"size": size, "backend": f"painted, {'half' if half else 'single'}"}
            row["psnr_to_reference_db"] = psnr_db(drawn, truth)
            if device == "cuda":
                row |= painted_ms(painter, scene, condition)
            rows.append(row)
    return rows


def painted_ms(painter: Any, scene: Any, condition: Any) -> Row:  # noqa: ANN401
    """Milliseconds of a painted frame: on the GPU alone, and from begun to fetched with others underway."""
    import torch

    pose = scene.pose()
    times_ms, events = [], []
    for _ in range(RUNS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        painter._draw()
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize()
    times_ms = [begin.elapsed_time(end) for begin, end in events]
    started, waiting = time.perf_counter(), []
    for _ in range(RUNS):
        waiting.append(painter.paint(pose, pose, condition))
        if len(waiting) > 2:
            waiting.pop(0)()
    for fetch in waiting:
        fetch()
    streamed_ms = 1e3 * (time.perf_counter() - started) / RUNS
    return {
        "gpu_ms": statistics.median(times_ms),
        "streamed_ms": streamed_ms,
        "fps": 1e3 / streamed_ms,
        "peak_device_mb": torch.cuda.max_memory_allocated() / 1e6,
    }


def training(video: Path, home: Path) -> Row:
    """Prepare a clip, train it with the preset ``full``, and evaluate it."""
    here = ["--home", str(home)]
    rows = {"prepare": radnerf("prepare", str(video), "--name", "gpu-bench", *here)}
    rows["train"] = radnerf("train", "gpu-bench", "--preset", "full", *here)
    rows["evaluate"] = radnerf("evaluate", "gpu-bench", *here)
    return rows


def main() -> int:
    """Run it all and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, help="a clip to train with the preset full; none: no training")
    parser.add_argument("--home", type=Path, default=Path(), help="where its subject goes")
    parser.add_argument("--subject", type=Path, help="a trained subject's folder; none: a drawn one")
    parser.add_argument("--try-on-cpu", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if options.try_on_cpu:
        os.environ["TRITON_INTERPRET"] = "1"
        sys.stdout.write(json.dumps(pictures(options.subject, (16,), "cpu"), indent=1) + "\n")
        return 0
    import torch

    if not torch.cuda.is_available():
        sys.stderr.write("torch sees no NVIDIA GPU here; --try-on-cpu shows whether this program works\n")
        return 2
    major, minor = torch.cuda.get_device_capability()
    _, sizes, _ = told([sys.executable, "-m", "tests.triton_compile", str(10 * major + minor)])
    found: Row = {"gpu": torch.cuda.get_device_name(), "capability": [major, minor], "torch": torch.__version__}
    found |= {"tests": kernel_tests(), "kernels": json.loads(sizes or "[]"), "doctor": radnerf("doctor")}
    found["pictures"] = pictures(options.subject, SIZES, "cuda")
    found["bench"] = radnerf("bench", "--device", "cuda")
    if options.video is not None:
        found["training"] = training(options.video, options.home)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

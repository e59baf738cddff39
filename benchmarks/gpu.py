"""Everything about a GPU: ``python benchmarks/gpu.py [--subject FOLDER] [--part NAME …] [--out gpu.json]``.

Each part ends within ten minutes and leaves its figures in the one file; without ``--part`` those that are missing
there are run. What they mean stands in benchmarks/gpu.md. Progress goes to standard error. ``--try-on-cpu`` does it all
tiny and without a GPU, Triton's kernels step by step: it shows that this program works, and no speed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
SIZES = (128, 256, 512, 1024)
EQUAL_SIZES = (128, 512)
RUNS = 200
UNDERWAY = 3
MARGIN_DB = 0.2
TESTS = (
    "test_triton_encode", "test_triton_rays", "test_triton_render", "test_triton_portrait", "test_tcnn",
    "test_gpu_training", "test_descent",
)  # fmt: skip
TINY_HEAD = {
    "size_px": 48, "levels": 4, "features_per_level": 2, "log2_entries": 10, "max_resolution": 32,
    "audio_base_resolution": 4, "audio_max_resolution": 8, "hidden_width": 16, "audio_code": 16,
    "occupancy_resolution": 16, "steps": 40, "lips_steps": 4, "rays": 128, "mouth_components": 3,
    "mouth_lesson_steps": 4, "lips_lpips_weight": 0.0,
}  # fmt: skip
TINY_TORSO = {
    "size_px": 48, "levels": 4, "features_per_level": 2, "log2_entries": 10, "max_resolution": 32, "steps": 20,
    "pixels": 256,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What the parts are given.

    Attributes:
        subject: A trained one's folder, or for ``train`` alone a prepared one's; None for a drawn one.
        home: Where ``train`` keeps what it has done so far.
        device: ``"cuda"``, or ``"cpu"`` for a try.
        minutes: After which ``train`` stops for this time.
        precision: Of the training's networks.
        changes: Of the preset ``full``, by stage.
    """

    subject: Path | None
    home: Path
    device: str
    minutes: float
    precision: str
    changes: dict[str, dict[str, Any]]

    @property
    def tiny(self) -> bool:
        """Whether this is a try without a GPU."""
        return self.device == "cpu"


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


def checks(job: Job) -> Row:
    """The kernels' sizes, their tests, which step of training waits for the GPU, and which backends are here."""
    import torch

    found: Row = {"doctor": radnerf("doctor")}
    if job.tiny:
        return found
    major, minor = torch.cuda.get_device_capability()
    _, sizes, _ = told([sys.executable, "-m", "tests.triton_compile", str(10 * major + minor)])
    files = [f"tests/{name}.py" for name in TESTS]
    code, out, seconds = told([sys.executable, "-m", "pytest", "-q", *files])
    last = out.strip().splitlines()[-1] if out.strip() else ""
    found["tests"] = {"passed": code == 0, "seconds": seconds, "last_line": last}
    return found | {"kernels": json.loads(sizes or "[]"), "capability": [major, minor]}


def psnr_db(one: Any, other: Any) -> float:  # noqa: ANN401
    """Between two uint8 pictures; 999 where they are equal, since JSON knows no infinity."""
    error = float(((one.astype(float) - other.astype(float)) ** 2).mean())
    return 999.0 if error == 0 else 10 * math.log10(255**2 / error)


def _workspace(job: Job) -> Any:  # noqa: ANN401
    from stages.bench_subject import DrawnSettings, drawn_subject, quick_settings
    from stages.workspace import Workspace

    if job.subject is not None:
        return Workspace(job.subject)
    return drawn_subject(quick_settings() if job.tiny else DrawnSettings())


def equal(job: Job) -> Row:
    """A frame by every backend against the reference's on the CPU."""
    import torch

    from radnerf.kernels import available
    from stages.bench_scene import open_scene

    workspace, rows = _workspace(job), []
    for size in (16,) if job.tiny else EQUAL_SIZES:
        scene = open_scene(workspace, "reference", "radnerf", size, torch.device("cpu"))
        truth = scene.picture(scene.condition(0, *scene.hear(1)))
        for name, state in available().items():
            where = "cpu" if name == "cpu" else job.device
            if state != "ok" or (name == "reference" and where == "cpu"):
                continue
            there = open_scene(workspace, name, "radnerf", size, torch.device(where))
            drawn = there.picture(there.condition(0, *there.hear(1)))
            rows.append({"size": size, "backend": name, "device": where, "psnr_db": psnr_db(drawn, truth)})
        for half in (True, False):
            scene, painter, condition = painted(workspace, size, job.device, half=half)
            drawn = painter.paint(scene.pose(), scene.pose(), condition)()
            name = f"painted, {'half' if half else 'single'} precision"
            rows.append({"size": size, "backend": name, "device": job.device, "psnr_db": psnr_db(drawn, truth)})
    return {"rows": rows, "least_psnr_db": min(row["psnr_db"] for row in rows)}


def painted(workspace: Any, size: int, device: str, *, half: bool) -> tuple[Any, Any, Any]:  # noqa: ANN401
    """A scene, its painter, and the measured frame's condition."""
    import torch

    from radnerf.gpu_portrait import PortraitPainter
    from radnerf.kernels.triton_backend import TritonBackend
    from stages.bench_scene import open_scene

    scene = open_scene(workspace, "auto", "radnerf", size, torch.device(device))
    parts = (scene.shown, scene.torso, TritonBackend(half=half), scene.camera, scene.background)
    return scene, PortraitPainter(*parts), scene.condition(0, *scene.hear(1))


def render(job: Job) -> Row:
    """Milliseconds of a painted frame: its drawing alone, and from frame to frame while others are underway."""
    import torch

    rows = []
    for size in (16,) if job.tiny else SIZES:
        scene, painter, condition = painted(_workspace(job), size, job.device, half=True)
        pose = scene.pose()
        painter.paint(pose, pose, condition)()
        row: Row = {"size": size}
        if not job.tiny:
            events = []
            for _ in range(RUNS):
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begin.record()
                painter.again()
                end.record()
                events.append((begin, end))
            torch.cuda.synchronize()
            row["draw_ms"] = statistics.median(begin.elapsed_time(end) for begin, end in events)
            row["peak_device_mb"] = torch.cuda.max_memory_allocated() / 1e6
        started, waiting = time.perf_counter(), []
        for _ in range(2 if job.tiny else RUNS):
            waiting.append(painter.paint(pose, pose, condition))
            if len(waiting) == UNDERWAY:
                waiting.pop(0)()
        for fetch in waiting:
            fetch()
        row["overlapped_ms"] = 1e3 * (time.perf_counter() - started) / (2 if job.tiny else RUNS)
        rows.append(row)
    return {"rows": rows}


def bench(job: Job) -> Row:
    """Every backend's frame and training steps beside the baseline's, split by stage."""
    words = ["bench", "--device", job.device, *(["--quick", "--sizes", "16"] if job.tiny else [])]
    return radnerf(*words)


def train(job: Job) -> Row:
    """Train head and torso with the preset ``full`` as far as the minutes go; the next call goes on from there."""
    from stages import head, torso
    from stages.settings_reading import resolve
    from stages.workspace import Workspace

    given, made = _workspace(job), Workspace(job.home / "gpu-train")
    for path in (made.head, made.head_history, made.torso, made.torso_history, made.head_state, made.torso_state):
        path.parent.mkdir(parents=True, exist_ok=True)
    settings = resolve("full", job.changes)
    seen = (given.layers, given.parsing, given.background, given.track, given.features)
    how = {"device": job.device, "precision": job.precision}
    moving = given.landmarks if given.landmarks.is_file() else None
    with stopping_after(job.minutes):
        if not made.head.is_file():
            outputs = head.Outputs(made.head, made.head_history, made.head_state, made.cache)
            head.run(head.Inputs(*seen, landmarks=moving), outputs, settings.head, **how)
        if not made.torso.is_file():
            under = torso.Outputs(made.torso, made.torso_history, made.torso_state, made.cache)
            torso.run(torso.Inputs(*seen, made.head), under, settings.torso, **how)
    found: Row = {"finished": made.torso.is_file(), "precision": job.precision}
    for name, model, history, state in (
        ("head", made.head, made.head_history, made.head_state),
        ("torso", made.torso, made.torso_history, made.torso_state),
    ):
        points = history_of(name, history, state)
        total = settings.head.steps if name == "head" else settings.torso.steps
        found[name] = {"finished": model.is_file(), **progress_of(points, total)}
    if made.head.is_file():
        found["held_out_psnr_db"] = held_out_psnr_db(given, made.head, job.device)
    return found


@contextlib.contextmanager
def stopping_after(minutes: float) -> Iterator[None]:
    """End a training in the block as Ctrl-C would, when its time is over; it keeps what it has.

    Only between its steps: what compiles kernels may not survive an interruption.
    """
    from stages import progress

    deadline, asked = time.monotonic() + 60 * minutes, []

    def look(seen: progress.Progress) -> None:
        if not asked and seen.label in {"head", "torso"} and time.monotonic() > deadline:
            asked.append(seen.done)
            signal.raise_signal(signal.SIGINT)

    # Who started this in the background may have left interruptions to be ignored.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with progress.listening(look):
            yield
    except KeyboardInterrupt:
        if not asked:
            raise
        sys.stderr.write("\nthe time is over; the next call goes on from here\n")
    finally:
        signal.signal(signal.SIGINT, former)


def history_of(name: str, history: Path, state: Path) -> list[Row]:
    """The points of a training, finished or not."""
    from stages.atomic_files import load_json
    from stages.checkpoint import load_checkpoint

    if history.is_file():
        return list(load_json(history)["points"])
    return list(load_checkpoint(state, f"{name}-state")[0]["history"]) if state.is_file() else []


def progress_of(points: list[Row], main_steps: int) -> Row:
    """How a training went: its curve over the main phase, and when it came near its end's PSNR for good.

    The PSNR is a running mean over the drawn pixels, so that a point's neighbours decide: a median over a hundredth of
    the phase. In the lips' phase whole mouths are drawn, so it says nothing beside the others there.
    """
    if not points:
        return {"steps": 0}
    told = [point for point in points if point["step"] <= main_steps and point.get("psnr_db") is not None]
    width = max(1, len(told) // 100)
    curve = [
        {
            "step": told[first]["step"],
            "minutes": told[first]["seconds"] / 60,
            "psnr_db": statistics.median(point["psnr_db"] for point in told[first : first + width]),
        }
        for first in range(0, len(told), width)
    ]
    last = points[-1]
    found: Row = {
        "steps": last["step"],
        "minutes": last["seconds"] / 60,
        "steps_per_s": last["step"] / max(last["seconds"], 1e-9),
        "skipped_steps": max((point.get("skipped", 0) for point in points), default=0),
        "went_back": sum("went_back_from" in point for point in points),
        "curve": curve,
    }
    if not curve or told[-1]["step"] < main_steps:
        return found
    final = curve[-1]["psnr_db"]
    far = [index for index, point in enumerate(curve) if point["psnr_db"] < final - MARGIN_DB]
    near = curve[far[-1] + 1] if far else curve[0]
    return found | {"final_psnr_db": final, "minutes_to_within_0.2_db": near["minutes"]}


def held_out_psnr_db(given: Any, head: Path, device: str) -> float:  # noqa: ANN401
    """Head over the true torso on a few frames that were not trained on, against the truth: the frame's mean PSNR."""
    import torch

    from radnerf.kernels import get_backend
    from radnerf.portrait import put_over, render_head
    from stages.formats import AudioFeatures, Track
    from stages.head_file import load_head
    from stages.tracked_moment import tracked_condition, tracked_pose
    from stages.training_data import LayerFiles, LayerReader, camera_of, first_held_out

    place = torch.device(device)
    model, header = load_head(head, "auto", place)
    track, size = Track.load(given.track), int(header["settings"]["size_px"])
    camera = camera_of(track).scaled(size)
    reader = LayerReader(LayerFiles(given.layers, given.parsing, given.background), size)
    heard = model.standardised(torch.from_numpy(AudioFeatures.load(given.features).values))
    first, count = first_held_out(len(track.rotation)), len(track.rotation)
    found = []
    for frame in range(first, count, max(1, (count - first) // 12)):
        code, mouth = model.hear(heard, torch.tensor([frame]))
        condition = tracked_condition(model, track, frame, code, mouth)
        layer = render_head(model, get_backend("auto", place), camera, tracked_pose(track, frame), condition)
        pictures = reader.read(frame)
        seen = put_over(layer, torch.from_numpy(pictures.behind).float() / 255)
        found.append(psnr_db((seen.clamp(0, 1) * 255).round().numpy(), pictures.truth))
    return statistics.mean(found)


PARTS = {"checks": checks, "equal": equal, "render": render, "bench": bench, "train": train}


def bars(found: Row) -> list[tuple[str, str]]:
    """The issue's bars, each with what was found; a dash where nothing was."""
    at = {row["size"]: row for row in found.get("render", {}).get("rows", [])}
    ms = {size: at.get(size, {}).get("overlapped_ms") for size in (512, 1024)}
    rows = found.get("bench", {}).get("rows", [])
    ratios = [row["ratio_to_nerf"] for row in rows if row["backend"] == "triton" and row["backbone"] == "radnerf"]
    head = found.get("train", {}).get("head", {})
    return [
        ("512², head and torso: 2 ms", _shown(ms[512], "ms")),
        ("1024²: 5 ms", _shown(ms[1024], "ms")),
        ("pictures of all backends: 45 dB or more", _shown(found.get("equal", {}).get("least_psnr_db"), "dB")),
        ("against backbone: nerf: 500 times", _shown(min(ratios, default=None), "times at least")),
        ("full, to within 0.2 dB of its final PSNR: 10 min", _shown(head.get("minutes_to_within_0.2_db"), "min")),
        ("steps left out", _shown(head.get("skipped_steps"), "")),
        ("kernels and steps as tested", str(found.get("checks", {}).get("tests", {}).get("last_line", "–"))),
    ]


def _shown(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.4g} {unit}".strip()


def main(typed: list[str] | None = None) -> int:
    """Run parts, and keep what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="again, even where its figures are there")
    parser.add_argument("--subject", type=Path, help="a trained, for train a prepared subject; none: a drawn one")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the figures of all parts lie")
    parser.add_argument("--home", type=Path, default=Path("gpu-bench"), help="where the training goes on from")
    parser.add_argument("--minutes", type=float, default=8.5, help="of one call's training")
    parser.add_argument("--precision", default="auto", help="of the training's networks")
    parser.add_argument("--try-on-cpu", action="store_true")
    options = parser.parse_args(typed)
    sys.path.insert(0, str(ROOT))
    if options.try_on_cpu:
        os.environ.setdefault("TRITON_INTERPRET", "1")
    import torch

    if not options.try_on_cpu and not torch.cuda.is_available():
        sys.stderr.write("torch sees no NVIDIA GPU here; --try-on-cpu shows whether this program works\n")
        return 2
    device = "cpu" if options.try_on_cpu else "cuda"
    changes = {"head": TINY_HEAD, "torso": TINY_TORSO} if options.try_on_cpu else {}
    job = Job(options.subject, options.home, device, options.minutes, options.precision, changes)
    found: Row = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    gpu = "none" if job.tiny else torch.cuda.get_device_name()
    wanted = options.part or [name for name in PARTS if name not in found or not found[name].get("finished", True)]
    for name in wanted:
        started = time.monotonic()
        found[name] = PARTS[name](job) | {"gpu": gpu, "torch": torch.__version__}
        found[name]["seconds_of_this_call"] = time.monotonic() - started
        options.out.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    width = max(len(bar) for bar, _ in bars(found))
    sys.stdout.write("".join(f"{bar:{width}}  {value}\n" for bar, value in bars(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

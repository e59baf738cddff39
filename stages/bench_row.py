"""Measure one row: one backend, one backbone, one size; meant for a process of its own, whose memory it reads."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radnerf.encoding import frequency_encode
from radnerf.frame_costs import Cost, blend_cost, head_cost, nerf_cost, torso_cost
from radnerf.head import Condition, HeadField
from radnerf.kernels.frozen import render_by_parts
from radnerf.machine_rates import matrix_rate, synchronise
from radnerf.nerf import COARSE_SAMPLES, DIRECTION_BANDS, FINE_SAMPLES, POSITION_BANDS, NerfField
from radnerf.timed_backend import TimedBackend
from stages.bench_scene import Scene, lattice, open_scene
from stages.bench_training import measure_training
from stages.formats import FPS
from stages.frame_queue import Frame, FrameQueue, Pending
from stages.media import VideoWriter
from stages.video_encoder import Encoder, choose_encoder
from stages.workspace import Workspace

RUNS = 3
"""Least number of timed runs of anything."""

_MOST_RUNS, _ENOUGH_S = 15, 1.0
_FIRST_RAYS, _TELLING_S = 64, 0.1
_PARTS_RAYS, _BASELINE_PARTS_RAYS = 1 << 16, 1 << 10
_TURNS = 9
_ENCODED_SHORT, _ENCODED_LONG = 12, 60
_SLOWEST_STREAM_S, _FEWEST_STREAMED, _MOST_STREAMED = 1.0, 12, 75
_UNDERWAY, _OVERLAPPED = 3, 60


@dataclass(frozen=True)
class Job:
    """What is to be measured.

    Attributes:
        subject: The subject's folder.
        backend: The kernels' name.
        backbone: ``"radnerf"`` or ``"nerf"``.
        size_px: Side of the frame.
        device: A torch device's name.
        budget_s: Time for the head's timed runs; where whole frames would take longer, fewer of their rays are
            rendered.
        stream_s: Time for rendering into a video; 0 to leave it out.
        encode: Whether encoding alone is to be timed.
        training_s: Time for training steps; 0 to leave them out.
        training_rays: Rays of a step; None for as many as the subject was trained with.
    """

    subject: str
    backend: str
    backbone: str
    size_px: int
    device: str
    budget_s: float
    stream_s: float
    encode: bool
    training_s: float
    training_rays: int | None


@torch.no_grad()
def measure(job: Job) -> dict[str, Any]:
    """Measure a row.

    The memory is read right after the frames, before anything is measured that a renderer never does.

    Args:
        job: What.

    Returns:
        The row without what needs other rows; see docs/performance.md for each key.
    """
    place = torch.device(job.device)
    workspace = Workspace(Path(job.subject))
    scene = open_scene(workspace, job.backend, job.backbone, job.size_px, place)
    ready_mb = _resident_mb()
    code, mouth = scene.hear(1)
    condition = scene.condition(0, code, mouth)
    row: dict[str, Any] = {
        "backend": scene.kernels.name,
        "backbone": job.backbone,
        "size": job.size_px,
        "device": job.device,
        "rays": job.size_px**2,
        **_frame(scene, condition, job.budget_s),
        "ready_mb": round(ready_mb, 1),
        "peak_mb": round(peak_mb(), 1),
        "peak_device_mb": _device_peak_mb(place),
        "sound_ms": _median_ms(lambda: scene.hear(FPS), place) / FPS,
    }
    parts, cost = _parts(scene, condition, row)
    row |= parts
    row |= {"operations": cost.operations, "asked_bytes": cost.asked_bytes, "least_bytes": cost.least_bytes}
    whole = row["rays_measured"] == row["rays"] and not scene.is_baseline
    row["fps_streamed"] = _streamed_fps(scene, row["ms"], job.stream_s) if whole else None
    row["video_encode_ms"] = _encode_ms(scene, condition) if whole and job.encode else None
    row["video_encoder"] = _encoder(scene) if row["video_encode_ms"] is not None else None
    with torch.enable_grad():
        row |= measure_training(workspace, scene, job.training_s, job.training_rays)
    return row


def _median_ms(call: Callable[[], object], place: torch.device, enough_s: float = _ENOUGH_S) -> float:
    """Median time of a call that has been called before: three runs, and more while they are short."""
    times_s: list[float] = []
    while len(times_s) < RUNS or (len(times_s) < _MOST_RUNS and sum(times_s) < enough_s):
        times_s.append(_seconds(call, place))
    return 1e3 * statistics.median(times_s)


def _seconds(call: Callable[[], object], place: torch.device) -> float:
    synchronise(place)
    begin = time.perf_counter()
    call()
    synchronise(place)
    return time.perf_counter() - begin


def _frame(scene: Scene, condition: Condition, budget_s: float) -> dict[str, Any]:
    """Times of the measured frame: whole, and its head, torso and blending."""
    place, size = scene.device, scene.camera.width_px
    pixels, first_s = _affordable(scene, condition, budget_s)
    rays = size * size
    measured = rays if pixels is None else len(pixels)
    torso_first_s = _seconds(scene.torso_layer, place)
    torso_ms = _median_ms(scene.torso_layer, place)
    blend_ms = 0.0
    if not scene.paints:
        torso = scene.torso_layer()
        scene.blend(torso, torso)
        blend_ms = _median_ms(lambda: scene.blend(torso, torso), place)
    if pixels is None and not scene.is_baseline:
        scene.picture(condition)
        ms = _median_ms(lambda: scene.picture(condition), place, min(_ENOUGH_S, budget_s))
        head_ms = max(ms - torso_ms - blend_ms, 0.0)
    else:
        head_ms = _median_ms(lambda: scene.head_rays(condition, pixels), place, 0.0) * rays / measured
        ms = head_ms + torso_ms + blend_ms
    return _painted(scene, condition) | {
        "rays_measured": measured,
        "possible_operations": _possible(scene, condition) if pixels is None and not scene.is_baseline else None,
        "ms": ms,
        "fps": 1e3 / ms,
        "first_call_ms": 1e3 * (first_s + torso_first_s),
        "head_ms": head_ms,
        "torso_ms": torso_ms,
        "blend_ms": blend_ms,
    }


def _possible(scene: Scene, condition: Condition) -> float | None:
    """Operations of matrix products that the machine could have done in a frame's time, just when it was rendered.

    Frames and products take turns, each as long as the other: whatever else the machine does slows both. None on a GPU,
    whose frame does not wait for its last one.
    """
    if scene.device.type != "cpu":
        return None
    possible = []
    for _ in range(_TURNS):
        taken_s = _seconds(lambda: scene.picture(condition), scene.device)
        possible.append(1e9 * taken_s * matrix_rate(scene.device, taken_s))
    return statistics.median(possible)


def _painted(scene: Scene, condition: Condition) -> dict[str, Any]:
    """What a GPU's painter takes: for the drawing alone, and from frame to frame while others are underway."""
    painter, place = scene.painter, scene.device
    if painter is None:
        return {"draw_ms": None, "overlapped_ms": None}
    scene.picture(condition)

    def stream() -> None:
        underway: list[Frame | Pending] = []
        for _ in range(_OVERLAPPED):
            underway.append(scene.begin(condition))
            if len(underway) == _UNDERWAY:
                _fetched(underway.pop(0))
        for frame in underway:
            _fetched(frame)

    stream()
    return {"draw_ms": _median_ms(painter.again, place), "overlapped_ms": _median_ms(stream, place) / _OVERLAPPED}


def _fetched(frame: Frame | Pending) -> Frame:
    return frame() if callable(frame) else frame


def _affordable(scene: Scene, condition: Condition, budget_s: float) -> tuple[Tensor | None, float]:
    """The pixels that can be rendered three times within a budget, None for all; and the very first call's seconds."""
    size, place = scene.camera.width_px, scene.device
    count = _FIRST_RAYS
    pixels = lattice(size, count)
    first_s = _seconds(lambda: scene.head_rays(condition, pixels), place)
    while True:
        some = pixels
        taken_s = _seconds(lambda: scene.head_rays(condition, some), place)  # noqa: B023 - called at once
        if pixels is None or taken_s >= _TELLING_S:
            break
        count *= 4
        pixels = lattice(size, count)
    measured = size * size if pixels is None else len(pixels)
    fitting = measured * budget_s / RUNS / max(taken_s, 1e-9)
    return (None if fitting >= size * size else lattice(size, max(int(fitting), _FIRST_RAYS))), first_s


def _parts(scene: Scene, condition: Condition, row: dict[str, Any]) -> tuple[dict[str, Any], Cost]:
    """The head step by step, scaled to the frame; how many samples it has; and the frame's cost on paper."""
    size = scene.camera.width_px
    baseline = scene.is_baseline
    pixels = lattice(size, min(row["rays_measured"], _BASELINE_PARTS_RAYS if baseline else _PARTS_RAYS))
    rays = size * size
    scale = rays / (rays if pixels is None else len(pixels))
    split = _baseline_split if baseline else _split
    runs = [split(scene, condition, pixels) for _ in range(RUNS)]
    parts = {f"{name}_ms": 1e3 * scale * statistics.median(run[0][name] for run in runs) for name in runs[0][0]}
    samples, needed = runs[0][1] * scale, runs[0][2] * scale
    cost = blend_cost(rays) + torso_cost(scene.torso, _torso_places(scene))
    if baseline:
        coarse, fine = _nerf_fields(scene)
        cost += nerf_cost(coarse, fine, rays * COARSE_SAMPLES, rays * (COARSE_SAMPLES + FINE_SAMPLES))
    else:
        cost += head_cost(_field(scene).frozen(condition), needed)
    told = {
        "samples_per_ray": samples / rays,
        "needed_samples_per_ray": needed / rays,
        "parts": parts,
        "parts_rays": rays if pixels is None else len(pixels),
    }
    return told, cost


def _split(scene: Scene, condition: Condition, pixels: Tensor | None) -> tuple[dict[str, float], int, int]:
    """Seconds in each part, samples, and needed ones, of the path that takes one step after the other."""
    timed = TimedBackend(scene.kernels, scene.device)
    region = scene.shown.region
    frozen = _field(scene).frozen(condition)
    origins, directions = scene.rays(pixels)
    total = _seconds(
        lambda: render_by_parts(
            timed, frozen, origins, directions, region.mask, region.max_samples, region.min_step_cm, 1e-4
        ),
        scene.device,
    )
    known = {name: timed.seconds[name] for name in ("march", "encode", "composite")}
    # Counting what is needed takes place between the kernels, outside of any of them.
    networks = max(total - timed.counting_seconds - sum(known.values()), 0.0)
    return {**known, "networks": networks}, timed.samples, timed.needed


def _baseline_split(scene: Scene, condition: Condition, pixels: Tensor | None) -> tuple[dict[str, float], int, int]:
    """The same of the baseline, where marching is drawing distances and encoding is sines and cosines."""
    timed = TimedBackend(scene.kernels, scene.device)
    fields: list[float] = []
    encoding: list[float] = []

    def begin(_: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        points, directions = given[0], given[1]
        encoding.append(
            _seconds(
                lambda: (frequency_encode(points, POSITION_BANDS), frequency_encode(directions, DIRECTION_BANDS)),
                scene.device,
            )
        )
        fields.append(-time.perf_counter())

    def end(*_: object) -> None:
        synchronise(scene.device)
        fields[-1] += time.perf_counter()

    hooks = [
        hook
        for field in _nerf_fields(scene)
        for hook in (field.register_forward_pre_hook(begin), field.register_forward_hook(end))
    ]
    total = _seconds(lambda: scene.head_rays(condition, pixels, timed), scene.device)
    for hook in hooks:
        hook.remove()
    encode, inside, composite = sum(encoding), sum(fields), timed.seconds["composite"]
    march = max(total - timed.counting_seconds - encode - inside - composite, 0.0)
    parts = {"march": march, "encode": encode, "composite": composite, "networks": max(inside - encode, 0.0)}
    return parts, timed.samples, timed.samples


def _field(scene: Scene) -> HeadField:
    field = scene.shown.fields[0]
    if not isinstance(field, HeadField):
        raise TypeError("the radnerf backbone has a HeadField")
    return field


def _nerf_fields(scene: Scene) -> tuple[NerfField, NerfField]:
    coarse, fine = scene.shown.fields
    if not (isinstance(coarse, NerfField) and isinstance(fine, NerfField)):
        raise TypeError("the nerf backbone has two NerfFields")
    return coarse, fine


def _torso_places(scene: Scene) -> int:
    """Places of the picture at which the torso is evaluated."""
    size, cells = scene.camera.width_px, scene.torso.mask
    per_cell = (torch.arange(size, device=cells.device) + 0.5) / size * len(cells)
    index = per_cell.long().clamp(0, len(cells) - 1)
    return int(cells[index][:, index].sum())


def _encoder(scene: Scene) -> Encoder:
    """What speaking writes the video with."""
    side = scene.camera.width_px
    return choose_encoder((side, side), on_gpu=scene.device.type == "cuda")


def _streamed_fps(scene: Scene, frame_ms: float, seconds: float) -> float | None:
    """Frames a second as speaking makes them: heard, rendered and encoded at once, the file finished."""
    count = min(int(seconds * 1e3 / frame_ms), _MOST_STREAMED)
    if frame_ms > 1e3 * _SLOWEST_STREAM_S or count < _FEWEST_STREAMED:
        return None
    side = scene.camera.width_px
    with tempfile.TemporaryDirectory(prefix="radnerf-bench-") as folder:
        begin = time.perf_counter()
        with (
            VideoWriter(Path(folder) / "video.mp4", (side, side), FPS, length=count, encoder=_encoder(scene)) as writer,
            FrameQueue(writer) as waiting,
        ):
            codes, mouths = scene.hear(count)
            for offset in range(count):
                one = slice(offset, offset + 1)
                waiting.put(scene.begin(scene.condition(offset, codes[one], mouths[one]), offset))
        return count / (time.perf_counter() - begin)


def _encode_ms(scene: Scene, condition: Condition) -> float:
    """Time to encode one frame of this size: what 48 more frames take, so that starting the encoder does not count."""
    frames = [scene.picture(condition, offset) for offset in range(4)]
    frames += frames[-2:0:-1]
    side = scene.camera.width_px

    def write(count: int) -> float:
        with tempfile.TemporaryDirectory(prefix="radnerf-bench-") as folder:
            begin = time.perf_counter()
            with VideoWriter(
                Path(folder) / "video.mp4", (side, side), FPS, length=count, encoder=_encoder(scene)
            ) as writer:
                for index in range(count):
                    writer.write(frames[index % len(frames)])
            return time.perf_counter() - begin

    more_s = statistics.median(write(_ENCODED_LONG) - write(_ENCODED_SHORT) for _ in range(RUNS))
    return max(1e3 * more_s / (_ENCODED_LONG - _ENCODED_SHORT), 0.0)


def peak_mb() -> float:
    """The most memory that this process has had, MB of 2^20 bytes.

    Linux hands a new process its parent's peak through ``getrusage``, but not through ``/proc``.
    """
    found = _status_mb("VmHWM")
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return found if found is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _resident_mb() -> float:
    """Memory of this process now, or its peak so far where the system does not tell."""
    found = _status_mb("VmRSS")
    return peak_mb() if found is None else found


def _status_mb(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) / 1024 if found else None


def _device_peak_mb(place: torch.device) -> float | None:
    return round(torch.cuda.max_memory_allocated(place) / 1024**2, 1) if place.type == "cuda" else None

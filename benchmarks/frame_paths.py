"""Time a frame's fused kernels beside the steps that they replace: ``python benchmarks/frame_paths.py SUBJECT``.

Both ways render the same frame of a trained subject in turn, in one process; a figure is the median over the turns, in
milliseconds, and pictures are compared. SUBJECT is the subject's folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from radnerf.head import HeadField
from radnerf.kernels.frozen import render_by_parts
from radnerf.kernels.protocol import MIN_TRANSMITTANCE
from radnerf.metrics import psnr
from radnerf.portrait import freeze_torso, put_over
from stages.bench_scene import Scene, open_scene
from stages.workspace import Workspace

Way = Callable[[], Tensor]


def in_turn(ways: list[Way], runs: int) -> list[float]:
    """Return each way's median milliseconds; the ways take turns, after one turn to warm up."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(runs + 1):
        for way, spent in zip(ways, times, strict=True):
            start = time.perf_counter()
            way()
            spent.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(spent[1:]) for spent in times]


def ways(scene: Scene) -> dict[str, tuple[Way, Way]]:
    """Return the old and the new way of each part of a frame."""
    kernels, head, torso, camera = scene.kernels, scene.shown, scene.torso, scene.camera
    field, region, pose = head.fields[0], head.region, scene.pose()
    if not isinstance(field, HeadField):
        raise TypeError("the baseline has one way only")
    code, mouth = scene.hear(1)
    condition = scene.condition(0, code, mouth)
    frozen = field.frozen(condition)
    rays = scene.rays(None)
    given = (frozen, *rays, region.mask, region.max_samples, region.min_step_cm)
    seen = kernels.render(*given)

    def blended() -> Tensor:
        layer = torso.render(camera, pose.rotation, pose.translation, pose.clip_frame)
        front = seen[:, :4].clamp(0, 1).reshape(camera.height_px, camera.width_px, 4)
        picture = put_over(front, put_over(layer, scene.background))
        return (picture.clamp(0, 1) * 255).round().to(torch.uint8)

    def painted() -> Tensor:
        return kernels.paint(seen, freeze_torso(torso, camera, pose), scene.background)  # type: ignore[attr-defined, no-any-return]

    return {
        "head: kernel after kernel, or fused": (
            lambda: render_by_parts(kernels, *given, MIN_TRANSMITTANCE),
            lambda: kernels.render(*given),
        ),
        "head, fused: all samples, or until opaque": (
            lambda: kernels.render(*given, 0.0),
            lambda: kernels.render(*given),
        ),
        "torso and blend: layers, or fused": (blended, painted),
    }


def floats(picture: Tensor) -> Tensor:
    """Return a picture's colours in [0, 1]."""
    return picture[..., :3] if picture.is_floating_point() else picture.float() / 255


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--sizes", default="128,256")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for size in map(int, options.sizes.split(",")):
        scene = open_scene(Workspace(options.subject), "cpu", "radnerf", size, torch.device("cpu"))
        for what, (old, new) in ways(scene).items():
            before, after = in_turn([old, new], options.runs)
            likeness = float(psnr(floats(new()), floats(old())))
            rows.append({"what": what, "size": size, "before_ms": before, "after_ms": after, "psnr_db": likeness})
    if options.json:
        sys.stdout.write(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n")
        return
    sys.stdout.write(f"{torch.get_num_threads()} threads; median of {options.runs}, ms\n")
    for row in rows:
        figures = f"{row['before_ms']:9.1f} {row['after_ms']:9.1f} {row['psnr_db']:7.1f} dB"
        sys.stdout.write(f"{row['what']:44} {row['size']:5} {figures}\n")


if __name__ == "__main__":
    main()

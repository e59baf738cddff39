"""Time the kernels of each backend on this machine: ``python benchmarks/kernels.py [--json] [--backend NAME]``.

The grid is the one of ``DESIGN`` 6's CPU table, 32,768 points on 16 levels of 2 features with 2^16 entries, and
8 levels of 4 features; rays as one training step draws them. Figures are the median and the best of the runs,
in milliseconds, forward and backward apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from radnerf.grid import GridSpec
from radnerf.kernels import BACKENDS, available, get_backend
from radnerf.rays import intersect_aabb

POINTS = 32_768
RAYS = 2_048
OCCUPANCY = 64
GRIDS = {
    "3-D, 16 levels x 2": GridSpec(3, 16, 2, 16, 2048, 16),
    "3-D, 8 levels x 4": GridSpec(3, 8, 4, 16, 2048, 16),
    "2-D, 16 levels x 2": GridSpec(2, 16, 2, 16, 2048, 16),
}
Row = dict[str, float | str]


def timed(run: Callable[[], object], runs: int) -> tuple[float, float]:
    """Return the median and the best time of a call in milliseconds, after one call to warm up."""
    run()
    times_ms = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times_ms.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times_ms), min(times_ms)


def row(backend: str, what: str, times_ms: tuple[float, float]) -> Row:
    """Return one line of the table."""
    return {"backend": backend, "what": what, "median_ms": times_ms[0], "best_ms": times_ms[1]}


def time_encode(name: str, runs: int) -> list[Row]:
    """Time encoding, the table's gradient, and the points' gradient."""
    generator = torch.Generator().manual_seed(0)
    kernels = get_backend(name)
    rows = []
    for label, spec in GRIDS.items():
        x = torch.rand(POINTS, spec.dim, generator=generator)
        table = torch.rand(spec.total_entries, spec.features_per_level, generator=generator)
        grad = torch.rand(POINTS, spec.output_width, generator=generator)
        # A kernel with two leaves that want a gradient reckons both, whichever is asked for: one leaf each.
        x_leaf, table_leaf = x.clone().requires_grad_(), table.clone().requires_grad_()
        to_x, to_table = kernels.encode(x_leaf, table, spec), kernels.encode(x, table_leaf, spec)

        def backward(out: Tensor, leaf: Tensor, grad: Tensor = grad) -> object:
            return torch.autograd.grad(out, leaf, grad, retain_graph=True)

        forward = partial(kernels.encode, x, table, spec)
        rows.append(row(name, f"encode {label}: forward", timed(forward, runs)))
        rows.append(row(name, f"encode {label}: table", timed(partial(backward, to_table, table_leaf), runs)))
        rows.append(row(name, f"encode {label}: points", timed(partial(backward, to_x, x_leaf), runs)))
    return rows


def time_rays(name: str, runs: int) -> list[Row]:
    """Time marching through a ball and compositing what comes out of it."""
    generator = torch.Generator().manual_seed(0)
    kernels = get_backend(name)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    steps = (torch.arange(OCCUPANCY) + 0.5) / OCCUPANCY * 2 - 1
    ball = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).norm(dim=0) < 0.7
    rays_o = torch.tensor([[0.0, 0.0, -4.0]]).repeat(RAYS, 1)
    target = torch.rand(RAYS, 3, generator=generator) * 2 - 1
    rays_d = torch.nn.functional.normalize(target - rays_o, dim=1)
    near, far = intersect_aabb(rays_o, rays_d, box)
    jitter = torch.rand(RAYS, generator=generator)

    def march() -> object:
        return kernels.march(rays_o, rays_d, near, far, ball, box, 16, 0.02, jitter)

    samples = kernels.march(rays_o, rays_d, near, far, ball, box, 16, 0.02, jitter)
    sigma = (torch.rand(samples.count, generator=generator) * 20).requires_grad_()
    rgb = torch.rand(samples.count, 3, generator=generator).requires_grad_()

    def composite() -> object:
        out = kernels.composite(sigma, rgb, samples.t, samples.dt, samples.offsets)
        return torch.autograd.grad(out.image.sum() + out.alpha.sum(), (sigma, rgb))

    return [
        row(name, f"march {RAYS} rays, {samples.count} samples", timed(march, runs)),
        row(name, "composite: forward and backward", timed(composite, runs)),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--backend", choices=BACKENDS[1:], help="time this one only")
    options = parser.parse_args()
    rows = []
    for name, state in available().items():
        if state == "ok" and options.backend in {None, name}:
            rows += time_encode(name, options.runs) + time_rays(name, options.runs)
    if options.json:
        sys.stdout.write(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n")
        return
    sys.stdout.write(f"{torch.get_num_threads()} threads; median and best of {options.runs}, ms\n")
    for each in rows:
        sys.stdout.write(f"{each['backend']:10} {each['what']:40} {each['median_ms']:9.2f} {each['best_ms']:9.2f}\n")


if __name__ == "__main__":
    main()

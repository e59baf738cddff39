"""Compile the Triton kernels for NVIDIA GPUs on a machine without one.

``python -m tests.triton_compile [--small] [90 …]`` prints a JSON list: kernel, compute capability, registers a thread,
bytes that spill from them, bytes of shared memory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from radnerf.kernels import triton_composite, triton_encode, triton_march, triton_shade, triton_torso, triton_trace

Numbers = dict[str, int | bool]
Job = tuple[str, Any, dict[str, str], Numbers, dict[str, int | bool]]

GRID = {"LEVELS": 16, "DIM": 3, "F": 2, "BLOCK": 256}
SHADE = {
    "SPACE_LEVELS": 16,
    "SPACE_PADDED": 16,
    "SPACE_F": 2,
    "PLANE_LEVELS": 16,
    "PLANE_PADDED": 16,
    "PLANE_F": 2,
    "W": 64,
    "RAW": 32,
    "ACROSS": 64,
    "UP": 72,
    "BLOCK": 64,
}


def jobs() -> Iterator[Job]:
    """Each kernel with its arguments' types, its constants and its options, as a ``full`` subject on a GPU calls it."""
    f32, f16, f64, i64, i32, i8 = "*fp32", "*fp16", "*fp64", "*i64", "*i32", "*i8"
    levels = {"scales": f32, "layout": i32}
    for dim in (2, 3):
        grid: Numbers = {**GRID, "DIM": dim}
        points = {"points": f32, "count": "i32", **levels}
        names = f"encode {dim}-D"
        yield f"{names} forward", triton_encode._forward, {**points, "table": f32, "out": f32}, grid, {}
        some = {**points, "grad": f32, "grad_table": f32}
        yield f"{names} to table", triton_encode._table_gradient, some, grid, {}
        some = {**points, "grad": f32, "table": f32, "grad_points": f32}
        yield f"{names} to points", triton_encode._point_gradient, some, grid, {}
    half = {"points": f16, "count": "i32", **levels, "table": f16, "out": f16}
    yield "encode 3-D forward, half", triton_encode._forward, half, {**GRID, "F": 4, "LEVELS": 8}, {}
    rays = {"origins": f32, "directions": f32, "occupancy": i8, "aabb": f32, "rays": "i32", "size": "i32"}
    walk = {**rays, "near": f32, "far": f32, "jitter": f32, "lengths": f64, "counts": i64, "offsets": i64}
    walk |= {"t_out": f32, "dt_out": f32, "ray_out": i64, "max_samples": "i32", "numbers": f64}
    for place in (False, True):
        what = "place" if place else "measure"
        exact = {"num_warps": 1, "enable_fp_fusion": False}
        yield f"march: {what}", triton_march._walk, walk, {"PLACE": place, "BLOCK": 32}, exact
    trace = {**rays, "times": f32, "steps": f32, "counts": i32, "listed": i32, "alive": i32, "max_samples": "i32"}
    yield "trace", triton_trace._trace, {**trace, "min_step": "fp32"}, {"BLOCK": 32}, {"num_warps": 1}
    samples = {"rgb": f32, "t": f32, "dt": f32, "offsets": i64, "weights": f32, "after": f32, "rays": "i32"}
    forward = {**samples, "sigma": f32, "out": f32, "limit": "fp32"}
    yield "composite forward", triton_composite._forward, forward, {"BLOCK": 64}, {"num_warps": 2}
    backward = {**samples, "grad_out": f32, "grad_weights": f32, "grad_sigma": f32, "grad_rgb": f32}
    yield "composite backward", triton_composite._backward, backward, {"BLOCK": 64}, {"num_warps": 2}
    for half_ in (True, False):
        numbers = f16 if half_ else f32
        shade = {"origins": f32, "directions": f32, "times": f32, "steps": f32, "counts": i32, "listed": i32}
        shade |= {"alive": i32, "aabb": f32, "space": numbers, "space_scales": f32, "space_layout": i32}
        shade |= {"plane": numbers, "plane_scales": f32, "plane_layout": i32, "weights": numbers, "biases": f32}
        shade |= {"warp": f32, "warp_box": f32}
        shade |= {"out": f32, "rays": "i32", "limit": "fp32", "density_shift": "fp32", "max_log_density": "fp32"}
        yield f"shade, {'half' if half_ else 'single'}", triton_shade._shade, shade, {**SHADE, "HALF": half_}, {}

    paint = {"head": f32, "background": f32, "mask": i8, "sway": f32, "plane": f16, **levels, "weights": f16}
    paint |= {"biases": f32, "out": "*u8", "pixels": "i32", "width_px": "i32", "cells": "i32", "max_offset": "fp32"}
    sizes: Numbers = {"BANDS": 6, "PLACE": 32, "LEVELS": 16, "PADDED": 16, "F": 2, "W": 64, "HALF": True, "BLOCK": 64}
    yield "torso and blend", triton_torso._paint, paint, sizes, {}


def compiled(job: Job, capability: int) -> dict[str, Any]:
    """Compile one kernel and read what it takes."""
    name, function, types, numbers, options = job
    signature = {each: types.get(each, "constexpr") for each in function.arg_names}
    # What the launcher tells of arguments: pointers lie at multiples of 16 bytes.
    aligned = {(i,): [["tt.divisibility", 16]] for i, t in enumerate(signature.values()) if t.startswith("*")}
    source = ASTSource(function, signature, constexprs=dict(numbers), attrs=aligned)
    result = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(options))
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(result.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        told = subprocess.run([tool, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
    usage = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", told)}
    return {
        "kernel": name,
        "capability": capability,
        "registers": usage["REG"],
        "spilled": usage["STACK"],
        "shared": result.metadata.shared,
    }


def small() -> Iterator[Job]:
    """One kernel of each kind, for fewer and narrower levels and networks: compiles sooner."""
    least: Numbers = {
        "LEVELS": 4,
        "SPACE_LEVELS": 4,
        "SPACE_PADDED": 8,
        "PLANE_LEVELS": 4,
        "PLANE_PADDED": 8,
        "PADDED": 8,
    }
    least |= {"W": 16, "RAW": 16}
    for name, function, types, numbers, options in jobs():
        if "2-D" not in name and "single" not in name:
            yield name, function, types, {key: least.get(key, value) for key, value in numbers.items()}, options


def main() -> None:
    """Print what every kernel takes on each compute capability asked for."""
    arguments = sys.argv[1:]
    capabilities = [int(each) for each in arguments if each.isdigit()] or [90]
    chosen = list(small() if "--small" in arguments else jobs())
    rows = [compiled(job, capability) for capability in capabilities for job in chosen]
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

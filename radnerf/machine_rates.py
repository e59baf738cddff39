"""How fast this machine is at best: matrix products, copies within its caches, copies through main memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

# Square ones, which reach the peak, and tall ones as a field's networks are.
MATRIX_SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (16_384, 256, 256), (65_536, 64, 64))
CACHE_BYTES = (1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21)
MEMORY_BYTES = (1 << 27, 1 << 28)


@dataclass(frozen=True)
class Rates:
    """The best that was seen.

    Attributes:
        matrix_gflops: 10^9 operations a second in matrix products; a multiply-add counts as two.
        matrix_shape: ``"1024x1024x1024"``, the shape that reached it.
        matrix_dtype: ``"float32"``, or on a GPU a half type where that is faster.
        cache_gb_s: 10^9 bytes a second, read and written together, in a copy of small buffers.
        memory_gb_s: The same for buffers that fit no cache.
    """

    matrix_gflops: float
    matrix_shape: str
    matrix_dtype: str
    cache_gb_s: float
    memory_gb_s: float


def best_of(first: Rates, second: Rates) -> Rates:
    """The better of two measurements, figure by figure: whatever disturbs a machine makes it slower only."""
    faster = first if first.matrix_gflops >= second.matrix_gflops else second
    return Rates(
        faster.matrix_gflops,
        faster.matrix_shape,
        faster.matrix_dtype,
        max(first.cache_gb_s, second.cache_gb_s),
        max(first.memory_gb_s, second.memory_gb_s),
    )


@torch.no_grad()
def measure_rates(device: torch.device | str = "cpu", seconds: float = 0.1) -> Rates:
    """Measure, with all of torch's threads.

    Args:
        device: What is measured.
        seconds: Spent on each shape.

    Returns:
        The best rate over all shapes and runs of each kind.
    """
    place = torch.device(device)
    half = (torch.float16, torch.bfloat16) if place.type == "cuda" else ()
    matrix_gflops, shape, kind = 0.0, "", ""
    for dtype in (torch.float32, *half):
        for rows, inner, columns in MATRIX_SHAPES:
            left = torch.ones(rows, inner, device=place, dtype=dtype)
            right = torch.ones(inner, columns, device=place, dtype=dtype)
            out = torch.empty(rows, columns, device=place, dtype=dtype)
            taken = _best_seconds(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), place, seconds)  # type: ignore[misc]
            found = 2e-9 * rows * inner * columns / taken
            if found > matrix_gflops:
                matrix_gflops, shape, kind = found, f"{rows}x{inner}x{columns}", str(dtype).removeprefix("torch.")
    return Rates(
        matrix_gflops,
        shape,
        kind,
        max(_copy_gb_s(size, place, seconds) for size in CACHE_BYTES),
        max(_copy_gb_s(size, place, seconds) for size in MEMORY_BYTES),
    )


def _copy_gb_s(size_bytes: int, place: torch.device, seconds: float) -> float:
    """Rate of copying so many bytes, each read once and written once."""
    source = torch.ones(size_bytes // 4, device=place)
    target = torch.empty_like(source)
    return 2e-9 * size_bytes / _best_seconds(lambda: target.copy_(source), place, seconds)


def _best_seconds(call: Callable[[], object], place: torch.device, seconds: float) -> float:
    """The shortest time of a call, over as many as fit into the time, three at least."""

    def timed() -> float:
        synchronise(place)
        begin = time.perf_counter()
        call()
        synchronise(place)
        return time.perf_counter() - begin

    timed()
    best, end, runs = timed(), time.perf_counter() + seconds, 1
    while runs < 3 or time.perf_counter() < end:
        best, runs = min(best, timed()), runs + 1
    return max(best, 1e-9)


@torch.no_grad()
def matrix_rate(place: torch.device, seconds: float) -> float:
    """How fast products of ``MATRIX_SHAPES``'s first shape are just now, on the average and not at best.

    Args:
        place: What is measured.
        seconds: For how long, about.

    Returns:
        10^9 operations a second, float32.
    """
    rows, inner, columns = MATRIX_SHAPES[0]
    left, right = torch.ones(rows, inner, device=place), torch.ones(inner, columns, device=place)
    out = torch.empty(rows, columns, device=place)
    synchronise(place)
    begin, runs = time.perf_counter(), 0
    while runs < 1 or time.perf_counter() - begin < seconds:
        torch.mm(left, right, out=out)
        synchronise(place)
        runs += 1
    return 2e-9 * rows * inner * columns * runs / (time.perf_counter() - begin)


def synchronise(place: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)

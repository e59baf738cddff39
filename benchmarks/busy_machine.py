"""What a busy program beside it costs a portrait, with threads that sleep while they wait, and with threads that spin.

    python benchmarks/busy_machine.py subjects/anchor
    python benchmarks/busy_machine.py subjects/anchor --busy 2 --rounds 5 --json

Each measurement is a process of its own, with ``OMP_WAIT_POLICY`` passive (radnerf's choice) or active, and nothing or
so many processes that only count beside it; they take turns. Figures are medians over the rounds, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stages.bench_scene import open_scene
from stages.workspace import Workspace

POLICIES = ("passive", "active")
FRAMES = 40


@torch.no_grad()
def measure(folder: Path, size_px: int) -> dict[str, float]:
    """Milliseconds of drawing a frame and of hearing one, medians."""
    scene = open_scene(Workspace(folder), "cpu", "radnerf", size_px, torch.device("cpu"))
    condition = scene.condition(0, *scene.hear(1))
    return {
        "draw_ms": _median_ms(lambda: scene.picture(condition)),
        "hear_ms": _median_ms(lambda: scene.hear(1)),
    }


def _median_ms(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(FRAMES + 3):
        start = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - start))
    return statistics.median(spent[3:])


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that only count, for as long as the block lasts."""
    counting = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


def main() -> None:
    """Measure in turns, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("subject", type=Path, help="a trained subject's folder")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--busy", type=int, default=1, help="busy programs beside it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", action="store_true", help="measure once, in this process")
    options = parser.parse_args()
    if options.measure:
        sys.stdout.write(json.dumps(measure(options.subject, options.size)))
        return
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for beside in (0, options.busy):
            for policy in POLICIES:
                with busy(beside):
                    found.setdefault((beside, policy), []).append(_in_process(options.subject, options.size, policy))
    rows = [
        {"busy": beside, "policy": policy} | {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for (beside, policy), rows in found.items()
    ]
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    sys.stdout.write("busy beside   policy    draw, ms   hear, ms\n")
    for row in rows:
        sys.stdout.write(f"{row['busy']:11}   {row['policy']:8} {row['draw_ms']:9.1f}  {row['hear_ms']:9.1f}\n")


def _in_process(subject: Path, size_px: int, policy: str) -> dict[str, float]:
    command = [sys.executable, __file__, str(subject), "--size", str(size_px), "--measure"]
    told = subprocess.run(
        command, env={**os.environ, "OMP_WAIT_POLICY": policy}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    figures: dict[str, float] = json.loads(told)
    return figures


if __name__ == "__main__":
    main()

"""How much memory training takes for a clip, and for the clip six times over: ``python benchmarks/training_memory.py``.

The clip is the drawn subject's frames again and again, written to disk as a prepared subject has them. Each length is
trained in a process of its own by the head stage itself; the figures are described in docs/performance.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import tempfile
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stages import head
from stages.archive import Archive, ArchiveWriter, frame_name
from stages.bench_subject import drawn_subject, quick_settings
from stages.formats import AudioFeatures, Landmarks, Track
from stages.progress import Progress, listening
from stages.settings import HeadSettings
from stages.workspace import Workspace

Bundle = TypeVar("Bundle", Track, AudioFeatures, Landmarks)
_SUFFIXES = (".truth.jpg", ".torso.jpg", ".torso.png")
_WATCH_S = 0.02


def lengthen(short: Workspace, root: Path, frames: int) -> Workspace:
    """Write a subject whose clip has so many frames: those of another one, again and again."""
    long = Workspace(root)
    for path in (long.layers, long.parsing, long.track, long.features, long.landmarks):
        path.parent.mkdir(parents=True, exist_ok=True)
    long.background.write_bytes(short.background.read_bytes())
    track, features = Track.load(short.track), AudioFeatures.load(short.features)
    count = len(track.rotation)
    with (
        Archive(short.layers) as layers_from,
        Archive(short.parsing) as parsing_from,
        ArchiveWriter(long.layers) as layers,
        ArchiveWriter(long.parsing) as parsing,
    ):
        for index in range(frames):
            for suffix in _SUFFIXES:
                layers.add(frame_name(index, suffix), layers_from.read(frame_name(index % count, suffix)))
            parsing.add(frame_name(index, ".png"), parsing_from.read(frame_name(index % count, ".png")))
    places = {"N": np.arange(frames) % count, "T": np.arange(2 * frames) % len(features.values)}
    _repeated(track, places).save(long.track)
    _repeated(features, places).save(long.features)
    _repeated(Landmarks.load(short.landmarks), places).save(long.landmarks)
    return long


def _repeated(bundle: Bundle, places: dict[str, NDArray[np.int64]]) -> Bundle:
    """A bundle whose arrays have the rows at these places of each kind of first axis."""
    rows = {
        name: getattr(bundle, name)[places[shape[0]]]
        for name, (_, shape) in bundle.SCHEMA.items()
        if shape[0] in places
    }
    return dataclasses.replace(bundle, **rows)


class Watch:
    """Reads this process's memory again and again in a thread, and keeps the most of each kind."""

    def __init__(self) -> None:
        """Begin."""
        self.training = False
        self.most: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """End, and return the most of each kind in MB of 2^20 bytes."""
        self._done.set()
        self._thread.join()
        return self.most

    def _work(self) -> None:
        while not self._done.wait(_WATCH_S):
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            mb = {parts[0]: int(parts[1]) / 1024 for line in lines if (parts := line.split())[-1] == "kB"}
            own, mapped = mb["RssAnon:"], mb["RssFile:"] + mb["RssShmem:"]
            kinds = {"rss_mb": own + mapped, "mapped_mb": mapped, "own_mb" if self.training else "build_own_mb": own}
            for name, value in kinds.items():
                self.most[name] = max(value, self.most.get(name, 0.0))


def train(sender: Connection, workspace: Workspace, settings: HeadSettings) -> None:
    """Train, and send the most memory of each kind."""
    watch = Watch()

    def hear(progress: Progress) -> None:
        watch.training = watch.training or progress.label == "head"

    with listening(hear):
        head.run(
            head.Inputs(workspace.layers, workspace.parsing, workspace.background, workspace.track, workspace.features),
            head.Outputs(workspace.head, workspace.head_history, workspace.head_state, workspace.cache),
            settings,
        )
    sender.send(watch.stop())


def measure(short: Workspace, frames: int, settings: HeadSettings) -> dict[str, float]:
    """Figures of one length."""
    with tempfile.TemporaryDirectory(prefix="radnerf-memory-") as folder:
        workspace = lengthen(short, Path(folder), frames)
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=train, args=(sender, workspace, settings))
        child.start()
        sender.close()
        most = receiver.recv()
        child.join()
        pictures = sum(path.stat().st_size for path in workspace.cache.rglob("*.npy")) / 1024**2
    return {"frames": frames, "pictures_mb": round(pictures, 1), **{key: round(most[key], 1) for key in sorted(most)}}


def main() -> None:
    """Print both lengths' figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300, help="frames of the short clip, at least 60")
    parser.add_argument("--size", type=int, default=128, help="side of the training pictures, px")
    parser.add_argument("--steps", type=int, default=100, help="training steps")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not Path("/proc/self/status").is_file():
        sys.exit("error: this system does not tell own and mapped memory apart (Linux does)")
    short = drawn_subject(quick_settings())
    settings = HeadSettings(size_px=options.size, steps=options.steps, lips_steps=0, mouth_lesson_steps=2)
    rows = [measure(short, length * options.frames, settings) for length in (1, 6)]
    if options.json:
        sys.stdout.write(json.dumps({"rows": rows}, indent=1) + "\n")
        return
    for key in rows[0]:
        sys.stdout.write(f"{key:14}" + "".join(f"{row[key]:12,.1f}" for row in rows) + "\n")


if __name__ == "__main__":
    main()

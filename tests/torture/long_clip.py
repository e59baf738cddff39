"""A training clip of two hours: the memory that training takes beside what it maps from the disk.

By hand: ``python -m tests.torture.long_clip --minutes 120 --folder DIR``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from stages.atomic_files import save_json
from stages.formats import FPS, AudioFeatures
from stages.settings import HeadSettings
from stages.settings_reading import from_mapping
from stages.training_data import LayerFiles, _stamp
from stages.workspace import Workspace
from tests.synthetic import ball
from tests.tiny_subject import make_features, make_track
from tests.torture.trainable import CHANGES

SIZE_PX = 16

MB_A_MINUTE = 4.5
"""What training may take for a minute of clip: everything of a frame but its picture, at 3 kB a frame."""


def make_clip(root: Path, frames: int) -> Workspace:
    """A prepared clip of so many frames, its pictures in the cache already."""
    workspace = Workspace(root)
    for path in (workspace.layers, workspace.parsing, workspace.track, workspace.features, workspace.head):
        path.parent.mkdir(parents=True, exist_ok=True)
    for path in (workspace.layers, workspace.parsing, workspace.background):
        path.write_bytes(b"in the cache")
    track = make_track(frames=frames)
    wave = np.sin(np.arange(frames) / 3.0).astype(np.float32)
    shape = wave[:, None, None] * np.linspace(0, 0.5, 80, dtype=np.float32).reshape(40, 2)
    fields = {**track.__dict__, "mouth_open": 0.2 + 0.1 * wave, "mouth_shape": shape, "mouth_wide": 1 + 0.1 * wave}
    type(track)(**fields).save(workspace.track)
    features: AudioFeatures = make_features(2 * frames)
    features.save(workspace.features)
    folder = workspace.cache / f"pictures-{SIZE_PX}"
    folder.mkdir(parents=True)
    subject, step = ball(), ball().truth.shape[1] // SIZE_PX
    for name in ("truth", "behind", "torso", "head"):
        some = getattr(subject, name)[:, ::step, ::step][:, :SIZE_PX, :SIZE_PX].reshape(66, SIZE_PX, SIZE_PX, -1)
        stored = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=(frames, *some.shape[1:])
        )
        for first in range(0, frames, 66):
            stored[first : first + 66] = some[: frames - first]
        stored.flush()
    stamp = _stamp(LayerFiles(workspace.layers, workspace.parsing, workspace.background), frames)
    save_json(folder / "stamp.json", stamp)
    return workspace


def train_and_measure(root: Path) -> dict[str, float]:
    """Train a few steps; the most anonymous memory of this process, MB: what is mapped from files does not count."""
    from stages import head

    most, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            most[0] = max(most[0], next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    ws = Workspace(root)
    changes = {**CHANGES["head"], "size_px": SIZE_PX, "steps": 30, "lips_steps": 2, "checkpoint_every_s": 60.0}
    inputs = head.Inputs(ws.layers, ws.parsing, ws.background, ws.track, ws.features)
    outputs = head.Outputs(ws.head, ws.head_history, ws.head_state, ws.cache)
    head.run(inputs, outputs, from_mapping(HeadSettings, changes, "head"))
    ended.set()
    watching.join()
    return {"anonymous_mb": most[0]}


def anonymous_mb(folder: Path, minutes: float) -> float:
    """Memory of training on a clip of so many minutes, in a process of its own."""
    root = folder / f"clip-{minutes:g}"
    make_clip(root, round(60 * FPS * minutes))
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.long_clip", "--train", root],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1])["anonymous_mb"])


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--train", type=Path, help="train on a clip that is there, and say what it took")
    asked = parser.parse_args()
    if asked.train is not None:
        print(json.dumps(train_and_measure(asked.train)))
        return 0
    short, long = (anonymous_mb(asked.folder, minutes) for minutes in (2.0, asked.minutes))
    print(f"{'training memory, 2 min':40}{short:.0f} MB")
    print(f"{f'training memory, {asked.minutes:g} min':40}{long:.0f} MB")
    # What is kept for each frame besides its picture: pose, mouth, sound, its code; about 2.5 kB.
    return 0 if long < short + MB_A_MINUTE * (asked.minutes - 2) + 40 else 1


if __name__ == "__main__":
    sys.exit(main())

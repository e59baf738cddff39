"""Measure tracking, parsing and rendered lips against the truth of the drawn demo subject.

    python benchmarks/demo_truth.py                   make the clip, prepare it, compare (about 6 min on two cores)
    python benchmarks/demo_truth.py --train draft     train it as well, and compare the held-out frames' lips
    python benchmarks/demo_truth.py --home DIR        keep everything there, and use again what is there already

Prints a table and, with --json FILE, writes the figures. The bars are those of docs/quality.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from radnerf.metrics import amplitude_gain, correlation
from stages.archive import Archive
from stages.atomic_files import load_json
from stages.demo.make import DemoSettings, make_demo_video
from stages.demo.truth import Truth, boundary_distances_px, cropped, overlap, rotation_errors_deg
from stages.evaluation_measures import LEAST_READING_PX, FaceReader
from stages.formats import HEAD, NECK, TORSO, Track
from stages.vision.canonical_face import vertices_cm
from stages.vision.clip import load_grey
from stages.vision.face_measures import (
    brow_raise_mm,
    compare_blinks,
    eye_openness,
    find_blinks,
    measure_mouth,
    open_eye_ratio,
)
from stages.vision.images import decode_rgb
from stages.vision.reprojection import Pinhole
from stages.workspace import Workspace

BARS = {
    "rotation_error_deg": (0.5, "most"),
    "head_iou": (0.95, "least"),
    "lip_opening_r_tracked": (0.8, "least"),
    "lip_width_r_tracked": (0.8, "least"),
    "blinks_missed": (0, "most"),
    "blinks_invented": (0, "most"),
    "blinks_missed_rendered": (0, "most"),
    "blinks_invented_rendered": (0, "most"),
    "eye_r_rendered": (0.8, "least"),
    "lip_opening_r_rendered": (0.8, "least"),
    "lip_width_r_rendered": (0.8, "least"),
}
"""What each figure must reach; figures without a bar are only told."""


def main() -> None:
    """Make, prepare, compare, print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="radnerf-truth-") as scratch:
        home = arguments.home or Path(scratch)
        name = f"truth-{arguments.seconds:g}-{arguments.size}-{arguments.seed}"
        video = home / f"{name}.mp4"
        settings = DemoSettings(duration_s=arguments.seconds, size=arguments.size, seed=arguments.seed)
        if not video.is_file():
            home.mkdir(parents=True, exist_ok=True)
            make_demo_video(video, video.with_suffix(".npz"), settings)
        truth = Truth.load(video.with_suffix(".npz"))
        workspace = Workspace(home / "subjects" / name)
        _radnerf("prepare", str(video), "--name", name, "--consent", "a drawn head", "--home", str(home))
        figures = tracked_figures(workspace, truth)
        if arguments.train:
            _radnerf("train", name, "--preset", arguments.train, "--home", str(home))
        if workspace.torso.is_file():
            figures |= rendered_figures(workspace, truth, home, name)
    print(table(figures))  # noqa: T201 - a script's answer
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def tracked_figures(workspace: Workspace, truth: Truth) -> dict[str, float]:
    """Compare what the prepare stages found with the truth.

    Args:
        workspace: The prepared demo subject.
        truth: Of its video.
    """
    track, info = Track.load(workspace.track), load_json(workspace.frames_info)
    count = min(len(track.tracked), len(truth.rotation))
    known = np.flatnonzero(track.tracked[:count])
    errors = rotation_errors_deg(track.rotation[known], truth.rotation[known])
    missed, invented = compare_blinks(track.blinks, truth.blink_frames)
    crop = tuple(info["crop"])
    ious: dict[str, list[float]] = {"head": [], "body": []}
    edges, changed, before = [], [], None
    with Archive(workspace.parsing) as parsing:
        for index, whole in zip(range(count), truth.class_maps(), strict=False):
            ours = load_grey(parsing, index)
            true = cropped(whole, crop, len(ours))
            ious["head"].append(overlap(ours == HEAD, true == HEAD))
            ious["body"].append(overlap((ours == TORSO) | (ours == NECK), (true == TORSO) | (true == NECK)))
            edges.append(boundary_distances_px(ours == HEAD, true == HEAD))
            changed.append(0.0 if before is None else float(((ours != before[0]) & (true == before[1])).mean()))
            before = ours, true
    edge = np.concatenate(edges)
    return {
        "rotation_error_deg": float(np.sqrt(np.mean(errors**2))),
        "rotation_error_worst_deg": float(errors.max()),
        "reprojection_rms_px": track.reprojection_rms_px,
        "head_iou": float(np.mean(ious["head"])),
        "head_iou_worst": float(np.min(ious["head"])),
        "body_iou": float(np.mean(ious["body"])),
        "head_edge_median_px": float(np.median(edge)),
        "head_edge_90_percent_px": float(np.percentile(edge, 90)),
        "falsely_changed_percent": 100 * float(np.mean(changed)),
        "lip_opening_r_tracked": correlation(track.mouth_open[known], truth.lip_opening_cm[known]),
        "lip_width_r_tracked": correlation(track.mouth_wide[known], truth.lip_width_cm[known]),
        "eye_r_tracked": correlation(track.eye_open[known], truth.eye_openness[known]),
        "brow_r_tracked": correlation(track.brow_mm[known], truth.brow[known]),
        "blinks_missed": missed,
        "blinks_invented": invented,
    }


def rendered_figures(workspace: Workspace, truth: Truth, home: Path, name: str) -> dict[str, float]:
    """Compare lips and eyes of rendered held-out frames with the truth.

    Args:
        workspace: The trained demo subject.
        truth: Of its video.
        home: Where its folder of subjects lies.
        name: Its name.
    """
    track = Track.load(workspace.track)
    with tempfile.TemporaryDirectory(prefix="radnerf-truth-") as folder, FaceReader() as faces:
        frames = Path(folder)
        _radnerf("evaluate", name, "--home", str(home), "--size", str(LEAST_READING_PX), "--save-frames", folder)
        for path in sorted((frames / "composite").glob("*.png")):
            faces.look("composite", int(path.stem), decode_rgb(path.read_bytes(), path))
        reading = faces.reading("composite")
    scale = LEAST_READING_PX / track.size_px
    pinhole = Pinhole(track.focal_px * scale, track.centre_x_px * scale, track.centre_y_px * scale)
    face_cm = vertices_cm + track.shape_offset_cm
    placed = track.rotation[reading.frames], track.translation[reading.frames], pinhole, face_cm
    mouth = measure_mouth(reading.points, *placed)
    openness = eye_openness(reading.points, open_eye_ratio(reading.points))
    true_blinks = truth.blink_frames[np.isin(truth.blink_frames, reading.frames)]
    missed, invented = compare_blinks(reading.frames[find_blinks(openness)], true_blinks)
    return {
        "blinks_held_out": len(true_blinks),
        "blinks_missed_rendered": missed,
        "blinks_invented_rendered": invented,
        "eye_r_rendered": correlation(openness, truth.eye_openness[reading.frames]),
        "brow_r_rendered": correlation(brow_raise_mm(reading.points, *placed), truth.brow[reading.frames]),
        "lip_opening_r_rendered": correlation(mouth.opening, truth.lip_opening_cm[reading.frames]),
        "lip_width_r_rendered": correlation(mouth.width, truth.lip_width_cm[reading.frames]),
        "lip_opening_gain_rendered": amplitude_gain(mouth.opening, track.mouth_open[reading.frames]),
        "frames_rendered": len(reading.frames),
    }


def table(figures: dict[str, float]) -> str:
    """Figures and bars, a line each."""
    lines = []
    for name, value in figures.items():
        said = ""
        if name in BARS:
            bar, kind = BARS[name]
            held = value <= bar if kind == "most" else value >= bar
            said = f"  at {kind} {bar:g}: {'held' if held else 'MISSED'}"
        lines.append(f"{name:28} {value:9.4g}{said}")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the drawn demo subject with its truth.")
    parser.add_argument("--home", type=Path, help="keep the clip and the subject here")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", metavar="PRESET", help="train as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


def _radnerf(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cli.app", *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()

"""A tiny evaluated subject with everything that a report reads, faces made up."""

from __future__ import annotations

import json
import math
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import evaluate, report
from stages.archive import ArchiveWriter, frame_name
from stages.atomic_files import load_json, save_json
from stages.evaluation_series import load_series
from stages.formats import SAMPLE_RATE_HZ
from stages.settings import EvaluateSettings, ReportSettings
from stages.vision.images import encode_jpeg
from stages.workspace import Workspace
from tests.tiny_subject import FRAMES, SIZE_PX, make_subject

RECORD = """\
format: 1
name: tiny
created: '2026-05-03T10:00:00+00:00'
source: {name: '</script><b>.mp4', sha256: 0123abcd, size_bytes: 5}
consent: Anna, <by> & mail
preset: draft
settings:
  head: {steps: 30}
"""


def make_reported_subject(root: Path, *, evaluated: bool = True) -> Workspace:
    """Write a subject, and evaluate it at the size of its pictures, in which no face is found.

    Args:
        root: Its folder.
        evaluated: Whether it is evaluated.
    """
    workspace = make_subject(root)
    workspace.subject.write_text(RECORD, encoding="utf-8")
    _write_clip(workspace)
    _write_trainings(workspace)
    if evaluated:
        inputs = evaluate.Inputs(**{name: getattr(workspace, name) for name in evaluate.Inputs.__annotations__})
        outputs = evaluate.Outputs(
            workspace.evaluation,
            workspace.preview,
            series=workspace.evaluation_series,
            pictures=workspace.evaluation_pictures,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluate, "LEAST_READING_PX", 16)
            evaluate.run(inputs, outputs, EvaluateSettings(), backend="reference")
    return workspace


def _write_clip(workspace: Workspace) -> None:
    workspace.frames.parent.mkdir(parents=True, exist_ok=True)
    with ArchiveWriter(workspace.frames) as archive:
        for frame in range(FRAMES):
            ramp = np.roll(np.linspace(0, 255, SIZE_PX).astype(np.uint8), 7 * frame)
            picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(5 * frame)), axis=2)
            archive.add(frame_name(frame, ".jpg"), encode_jpeg(picture))
    source = {"width": 640, "height": 480, "fps": 30.0}
    save_json(workspace.frames_info, {"frames": FRAMES, "fps": 25, "size_px": SIZE_PX, "source": source})
    with wave.open(str(workspace.audio), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(SAMPLE_RATE_HZ)
        seconds = np.arange(SAMPLE_RATE_HZ * FRAMES // 25) / SAMPLE_RATE_HZ
        stream.writeframes((9000 * np.sin(2 * np.pi * 220 * seconds) * np.sin(7 * seconds)).astype(np.int16).tobytes())


def _write_trainings(workspace: Workspace) -> None:
    points = [
        {"step": step, "seconds": step * 0.1, "loss": 0.1 / step, "psnr_db": 20 + step / 10, "rate": 0.01 * 0.9**step}
        for step in range(10, 50, 10)
    ]
    for path in (workspace.head_history, workspace.torso_history):
        save_json(path, {"steps": 40, "seconds": 4.0, "points": points})
    save_json(workspace.settings("head"), {"steps": 30, "lips_steps": 10, "size_px": SIZE_PX})
    save_json(workspace.settings("audio"), {"front_end": "logmel", "model": ""})
    folder = workspace.benchmark("head").parent
    folder.mkdir()
    for name, seconds in (("head", 125.2), ("render-hello", 3.0)):
        workspace.benchmark(name).write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:02:05\t700.5\n", encoding="utf-8")


def invent_faces(workspace: Workspace) -> None:
    """Give the series lips and eyes, with a gap in the middle frame of the rendered ones."""
    series = load_series(workspace.evaluation_series)
    for place, name in enumerate(("truth", "head", "composite")):
        for key, base in (("lip_opening", 0.1), ("lip_width", 0.6), ("eye_open", 1.0)):
            values: list[float | None] = [base + 0.02 * math.sin(step + place) for step in range(3)]
            if place:
                values[1] = None
            series[name][key] = values
    save_json(workspace.evaluation_series, series)
    figures = load_json(workspace.evaluation)
    save_json(workspace.evaluation, {**figures, "faces_missed": {"truth": 0, "head": 1, "composite": 1}})


def report_inputs(workspace: Workspace) -> report.Inputs:
    """What the report's stage reads."""
    return report.Inputs(
        subject=workspace.subject,
        frames=workspace.frames,
        info=workspace.frames_info,
        audio=workspace.audio,
        parsing=workspace.parsing,
        track=workspace.track,
        head=workspace.head,
        torso=workspace.torso,
        head_history=workspace.head_history,
        torso_history=workspace.torso_history,
        evaluation=workspace.evaluation,
        series=workspace.evaluation_series,
        pictures=workspace.evaluation_pictures,
        benchmarks=workspace.benchmark("head").parent,
        settings=workspace.settings("head").parent,
    )


def write_page(workspace: Workspace, settings: ReportSettings | None = None) -> str:
    """Make the page, unsigned unless asked; its text."""
    report.run(report_inputs(workspace), report.Outputs(workspace.report), settings or ReportSettings(sign=False))
    return workspace.report.read_text(encoding="utf-8")


def page_data(page: str) -> dict[str, Any]:
    """What the page's script draws."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data

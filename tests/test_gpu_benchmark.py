"""``benchmarks/gpu.py``: its curve, its training that goes on from call to call, and its one file of figures."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from stages import bench_row, bench_scene
from stages.bench_row import Job, measure
from tests import tiny_subject
from tests.synthetic import write_subject

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    path = ROOT / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("gpu_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _points(psnr_db: list[float], *, skipped: int = 0) -> list[dict[str, Any]]:
    points = [{"step": 10 * n, "seconds": 6.0 * n, "psnr_db": value} for n, value in enumerate(psnr_db, start=1)]
    points[-1] |= {"skipped": skipped} if skipped else {}
    return points


def test_the_minutes_are_those_after_which_the_error_never_was_worse_again(gpu: ModuleType) -> None:
    # Near the end's value for a moment, lost again, and reached for good at the fifth point.
    found = gpu.progress_of(_points([20.0, 29.9, 25.0, 29.7, 29.85, 29.95, 30.0, 30.0], skipped=3), 80)
    assert found["final_psnr_db"] == 30.0
    assert found["minutes_to_within_0.2_db"] == pytest.approx(0.5)
    assert (found["steps"], found["skipped_steps"]) == (80, 3)
    assert found["steps_per_s"] == pytest.approx(10 / 6)
    assert [point["step"] for point in found["curve"]] == list(range(10, 90, 10))


def test_an_unfinished_phase_has_no_end_to_compare_with_and_the_lips_do_not_count(gpu: ModuleType) -> None:
    assert "final_psnr_db" not in gpu.progress_of(_points([20.0, 25.0, 30.0]), 40)
    found = gpu.progress_of(_points([20.0, 25.0, 30.0, 10.0]), 30)
    assert found["final_psnr_db"] == 30.0
    assert found["steps"] == 40
    assert gpu.progress_of([], 40) == {"steps": 0}


def test_a_long_curve_is_thinned_by_medians(gpu: ModuleType) -> None:
    values = [30.0 - 10 / (n + 1) for n in range(1000)]
    values[500] = 0.0
    found = gpu.progress_of(_points(values), 10_000)
    assert len(found["curve"]) == 100
    assert min(point["psnr_db"] for point in found["curve"]) > 20


def test_a_training_goes_on_from_call_to_call_and_its_figures_come_together(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = write_subject(tmp_path / "prepared")
    before = {path for path in workspace.root.rglob("*") if path.is_file()}
    out = tmp_path / "gpu.json"
    words = ["--try-on-cpu", "--part", "train", "--subject", str(workspace.root), "--home", str(tmp_path / "home")]
    words += ["--out", str(out), "--precision", "bfloat16"]
    assert gpu.main([*words, "--minutes", "0.001"]) == 0
    first = json.loads(out.read_text())["train"]
    assert not first["finished"]
    assert "held_out_psnr_db" not in first
    assert gpu.main(words) == 0
    second = json.loads(out.read_text())["train"]
    assert second["finished"]
    assert second["precision"] == "bfloat16"
    assert second["head"]["steps"] == 44
    assert second["torso"]["steps"] == 20
    assert second["head"]["skipped_steps"] == 0
    assert second["head"]["final_psnr_db"] > 5
    assert 5 < second["held_out_psnr_db"] < 60
    assert {path for path in workspace.root.rglob("*") if path.is_file()} == before
    assert "full, to within 0.2 dB of its final PSNR: 10 min" in capsys.readouterr().out


def test_the_bars_say_what_is_missing_and_what_was_found(gpu: ModuleType) -> None:
    assert {value for _, value in gpu.bars({})} == {"–"}
    found = {
        "render": {"rows": [{"size": 512, "overlapped_ms": 1.25}]},
        "equal": {"least_psnr_db": 55.5},
        "bench": {"rows": [{"backend": "triton", "backbone": "radnerf", "ratio_to_nerf": 4321.0}]},
        "train": {"head": {"minutes_to_within_0.2_db": 7.5, "skipped_steps": 2}},
    }
    said = dict(gpu.bars(found))
    assert said["512², head and torso: 2 ms"] == "1.25 ms"
    assert said["1024²: 5 ms"] == "–"
    assert said["against backbone: nerf: 500 times"] == "4321 times at least"
    assert said["full, to within 0.2 dB of its final PSNR: 10 min"] == "7.5 min"


class _Painter:
    """Draws nothing, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.underway = self.most_underway = self.drawn = self.again_drawn = 0

    def paint(self, *_: object) -> Any:
        self.drawn += 1
        self.underway += 1
        self.most_underway = max(self.most_underway, self.underway)

        def fetch() -> Any:
            import numpy as np

            self.underway -= 1
            return np.zeros((16, 16, 3), np.uint8)

        return fetch

    def again(self) -> None:
        self.again_drawn += 1

    def torso_alone(self, _: object) -> None:
        return None


def test_where_a_gpu_paints_its_frames_are_those_that_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, painter = tiny_subject.make_subject(tmp_path / "tiny"), _Painter()
    monkeypatch.setattr(bench_scene, "painter_for", lambda *_: painter)
    monkeypatch.setattr(bench_row, "_FEWEST_STREAMED", 2)
    # Fewer than are underway elsewhere: how far the encoder is behind depends on the machine.
    monkeypatch.setattr(bench_row, "_MOST_STREAMED", 2)
    job = Job(str(subject.root), "cpu", "radnerf", 16, "cpu", 5.0, 60.0, False, 0.0, None)
    row = measure(job)
    assert painter.underway == 0
    assert painter.most_underway == bench_row._UNDERWAY
    assert painter.again_drawn >= bench_row.RUNS
    assert row["blend_ms"] == 0
    assert row["ms"] > 0
    assert row["draw_ms"] >= 0
    assert row["overlapped_ms"] > 0
    assert row["fps_streamed"] > 0


def test_where_nobody_paints_there_is_nothing_to_say_about_it() -> None:
    scene: Any = SimpleNamespace(painter=None, device="cpu")
    nothing: Any = None
    assert bench_row._painted(scene, nothing) == {"draw_ms": None, "overlapped_ms": None}

"""``radnerf bench``: what its rows hold, how they fit together, and what it refuses. Nothing timed is judged."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cli.bench import read_sizes, words
from radnerf.machine_rates import Rates
from stages import bench, bench_row, bench_subject
from stages.bench import Effort, finish, floor_ms, measure_in_child, places
from stages.bench_row import Job, measure
from stages.bench_scene import lattice, open_scene
from stages.bench_subject import DrawnSettings, babble, drawn_subject, quick_settings
from stages.errors import BadInput, RadnerfError
from stages.settings import HeadSettings, TorsoSettings
from stages.workspace import Workspace
from tests import tiny_subject
from tests.cli_harness import Shell, fabricate, shell

__all__ = ["shell"]

RATES = Rates(100.0, "8x8x8", "float32", 50.0, 10.0)
HURRIED = Effort(budget_s=0.01, baseline_s=0.01, stream_s=0.0, training_s=0.01, baseline_rays=16, rates_s=0.0)
PROMISED = {
    "backend", "backbone", "size", "ms", "fps", "samples_per_ray", "peak_mb", "ratio_to_nerf", "rays", "rays_measured",
    "first_call_ms", "head_ms", "torso_ms", "blend_ms", "video_encode_ms", "fps_with_encode", "fps_streamed", "parts",
    "train_steps_per_s", "train_rays_per_s", "floor_ms", "floor_share", "operations", "asked_bytes", "least_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return tiny_subject.make_subject(tmp_path_factory.mktemp("bench") / "subjects" / "tiny")


@pytest.fixture(scope="module")
def found(subject: Workspace) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bench, "measure_rates", lambda *_: RATES)
        patched.setattr(bench_row, "_FIRST_RAYS", 16)
        return bench.run(subject, (16,), HURRIED, device="cpu", measure=measure)


def job(subject: Workspace, **changes: Any) -> Job:
    usual = Job(str(subject.root), "cpu", "radnerf", 16, "cpu", 5.0, 0.0, False, 0.0, None)
    return dataclasses.replace(usual, **changes)


def test_the_answer_is_a_machine_and_rows_that_hold_what_is_promised(found: dict[str, Any]) -> None:
    assert set(found) == {"machine", "rows"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [(row["backend"], row["backbone"]) for row in found["rows"]] == [
        ("cpu", "radnerf"), ("reference", "radnerf"), ("cpu", "nerf"),
    ]  # fmt: skip
    for row in found["rows"]:
        assert set(row) >= PROMISED
        assert set(row["parts"]) == {"march_ms", "encode_ms", "networks_ms", "composite_ms"}
        assert all(row[key] > 0 for key in ("ms", "fps", "peak_mb", "ratio_to_nerf", "train_rays_per_s", "floor_ms"))


def test_figures_of_a_row_fit_together(found: dict[str, Any]) -> None:
    baseline = next(row for row in found["rows"] if row["backbone"] == "nerf")
    assert baseline["ratio_to_nerf"] == 1.0
    assert baseline["samples_per_ray"] == 64 + 192
    for row in found["rows"]:
        assert row["fps"] == pytest.approx(1000 / row["ms"], rel=2e-3)
        assert row["ratio_to_nerf"] == pytest.approx(baseline["ms"] / row["ms"], rel=2e-3)
        assert row["rays"] == 16**2 >= row["rays_measured"] > 0
        assert 0 < row["needed_samples_per_ray"] <= row["samples_per_ray"]
        assert row["floor_ms"] == max(row[f"floor_{kind}_ms"] for kind in ("matrix", "cache", "memory"))
        assert row["floor_share"] == pytest.approx(row["floor_ms"] / row["ms"], rel=2e-3)
        if row["possible_operations"] is not None:
            share = row["operations"] / row["possible_operations"]
            assert row["share_of_possible"] == pytest.approx(share, rel=2e-3)


def test_backends_have_the_same_samples_and_so_the_same_cost(subject: Workspace) -> None:
    cpu, reference = (measure(job(subject, backend=name, budget_s=1e4)) for name in ("cpu", "reference"))
    assert reference["rays_measured"] == reference["rays"]
    for key in ("samples_per_ray", "needed_samples_per_ray", "operations", "asked_bytes", "least_bytes"):
        assert cpu[key] == reference[key]


def test_a_frame_beyond_the_budget_is_measured_on_an_even_share_of_its_rays(subject: Workspace) -> None:
    whole = measure(job(subject, size_px=32))
    assert whole["rays_measured"] == whole["rays"] == 1024
    some = measure(job(subject, size_px=32, backend="reference", budget_s=0.0))
    assert some["rays_measured"] == some["parts_rays"] == 64
    assert some["samples_per_ray"] == pytest.approx(whole["samples_per_ray"], rel=0.2)
    assert some["fps_streamed"] is some["possible_operations"] is None
    assert 0 < whole["operations"] < whole["possible_operations"]


def test_video_is_measured_where_it_is_asked_for(subject: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_row, "_ENCODED_LONG", 16)
    monkeypatch.setattr(bench_row, "_MOST_STREAMED", 12)
    row = measure(job(subject, encode=True, stream_s=60.0))
    assert row["video_encode_ms"] >= 0
    assert row["fps_streamed"] > 0
    assert row["train_steps_per_s"] is None


def test_a_row_is_measured_in_a_process_of_its_own(subject: Workspace) -> None:
    row = measure_in_child(job(subject))
    assert row["backend"] == "cpu"
    assert 0 < row["ready_mb"] <= row["peak_mb"]


def test_what_a_row_refuses_is_said_by_the_parent(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is missing"):
        measure_in_child(job(Workspace(tmp_path)))


def test_a_row_whose_process_dies_names_the_row(subject: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_answer", _die)
    with pytest.raises(RadnerfError, match=r"measuring cpu, radnerf at 16 ended with 3"):
        measure_in_child(job(subject))


def _die(*_: object) -> None:
    raise SystemExit(3)


def test_training_leaves_the_prepared_subject_alone(subject: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in subject.root.rglob("*")}
    assert measure(job(subject, training_s=0.01, training_rays=32))["train_rays_per_step"] == 32
    assert {path: path.stat().st_mtime_ns for path in subject.root.rglob("*")} == before


def row(backend: str, backbone: str, size: int, ms: float, **more: Any) -> dict[str, Any]:
    return {
        "backend": backend, "backbone": backbone, "size": size, "ms": ms, "device": "cpu", "video_encode_ms": None,
        "train_steps_per_s": None, "train_size": None, "operations": 2e9, "asked_bytes": 1e8, "least_bytes": 1e7,
        "possible_operations": None, **more,
    }  # fmt: skip


def test_ratios_and_floors_come_from_the_same_size_and_training_from_the_same_backend() -> None:
    rows = [
        row(
            "cpu",
            "radnerf",
            128,
            50.0,
            video_encode_ms=10.0,
            train_steps_per_s=12.0,
            train_size=128,
            possible_operations=4e9,
        ),
        row("cpu", "nerf", 128, 50_000.0),
        row("cpu", "radnerf", 256, 200.0),
        row("cpu", "nerf", 256, 240_000.0),
    ]
    done = finish(rows, {"cpu": RATES})
    assert [each["ratio_to_nerf"] for each in done] == [1000.0, 1.0, 1200.0, 1.0]
    assert [each["video_encode_ms"] for each in done] == [10.0, 10.0, None, None]
    assert done[0]["fps_with_encode"] == pytest.approx(1000 / 60)
    assert [each["train_steps_per_s"] for each in done] == [12.0, None, 12.0, None]
    # 2e9 operations at 100 GFLOP/s; 1e8 bytes at 50 GB/s; 1e7 at 10 GB/s.
    assert floor_ms(rows[0], RATES) == pytest.approx(
        {"floor_matrix_ms": 20.0, "floor_cache_ms": 2.0, "floor_memory_ms": 1.0}
    )
    assert done[0]["floor_share"] == pytest.approx(0.4)
    assert [each["share_of_possible"] for each in done] == [0.5, None, None, None]


@pytest.mark.parametrize(("size", "most"), [(128, 256), (128, 64), (100, 99), (48, 1000), (16, 1)])
def test_an_even_share_of_the_pixels_lies_evenly(size: int, most: int) -> None:
    pixels = lattice(size, most)
    assert pixels is not None
    assert len(pixels) <= most
    assert len(pixels.unique(dim=0)) == len(pixels)
    assert pixels.min() >= 0
    assert pixels.max() < size
    for axis in (0, 1):
        steps = torch.diff(pixels[:, axis].unique())
        assert len(steps.unique()) <= 1


def test_few_enough_pixels_are_all_taken() -> None:
    assert lattice(16, 256) is None


def test_every_backend_that_is_here_is_measured_and_a_named_one_alone() -> None:
    assert [place.backend for place in places("auto", "cpu")] == ["cpu", "reference"]
    assert [place.backend for place in places("reference", "cpu")] == ["reference"]
    with pytest.raises(BadInput, match="triton"):
        places("triton", "cpu")


def test_the_baseline_s_own_subject_is_refused(subject: Workspace, tmp_path: Path) -> None:
    from radnerf.model import HeadModel
    from stages.head_file import load_head, save_head

    head, _ = load_head(subject.head)
    baseline = HeadModel(dataclasses.replace(head.shape, backbone="nerf"), head.aabb)
    other = tiny_subject.make_subject(tmp_path / "nerf")
    save_head(other.head, baseline, HeadSettings(backbone="nerf"), tiny_subject.make_features(2))
    with pytest.raises(BadInput, match="baseline's backbone"):
        open_scene(other, "cpu", "radnerf", 16, torch.device("cpu"))


def test_a_drawn_subject_is_made_once_and_again_when_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make(workspace: Workspace, settings: DrawnSettings) -> None:
        made.append(settings)
        tiny_subject.make_subject(workspace.root)

    monkeypatch.setattr(bench_subject, "_make", make)
    usual, quick = DrawnSettings(), quick_settings()
    first = drawn_subject(usual)
    assert drawn_subject(usual).root == first.root
    assert drawn_subject(quick, acceptable=(usual,)).root == first.root
    assert drawn_subject(quick).root != first.root
    assert made == [usual, quick]
    first.torso.write_bytes(b"half")
    assert drawn_subject(usual).root == first.root
    assert made == [usual, quick, usual]
    assert sorted(path.name for path in first.root.parent.iterdir()) == sorted(
        [first.root.name, drawn_subject(quick).root.name]
    )


def test_a_drawn_subject_is_a_trained_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bench_subject, "SIZE_PX", 64)
    settings = DrawnSettings(
        frames=60,
        head=HeadSettings(size_px=32, steps=2, lips_steps=0, rays=64, mouth_lesson_steps=1, levels=2),
        torso=TorsoSettings(size_px=32, steps=2, pixels=64, levels=2),
    )
    workspace = drawn_subject(settings)
    assert measure(job(workspace))["samples_per_ray"] > 0
    assert not workspace.head_state.exists()
    assert not workspace.cache.exists()


def test_babble_needs_no_voice_and_fills_its_time() -> None:
    speech = babble(1.0)
    assert speech.duration_s == pytest.approx(1.0)
    assert speech.phonemes[-1].end_s == pytest.approx(1.0)
    assert 0.05 < np.abs(speech.samples).max() <= 1


def test_the_tables_show_every_row_and_what_was_sampled(found: dict[str, Any]) -> None:
    text = words(found)
    for name in ("cpu", "reference", "nerf"):
        assert text.count(f"\n   {name}") + text.count(f"\n  {name}") >= 3, text
    assert "16²" in text
    assert ("even sample" in text) == any(each["rays_measured"] < each["rays"] for each in found["rows"])


@pytest.mark.parametrize("text", ["", "128,", "8", "5000", "128;256", "-128", "1.5", "²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--sizes"):
        read_sizes(text)


def test_sizes_are_sorted_and_taken_once() -> None:
    assert read_sizes("256, 128,256") == (128, 256)


def test_the_command_measures_a_subject_and_prints_one_object(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_subject.make_subject(shell.home / "subjects" / "tiny")
    seen: dict[str, Any] = {}
    finite = {"machine": {"x": 1.0}, "rows": []}

    def run(subject: Workspace | None, sizes: tuple[int, ...], effort: Effort, **rest: Any) -> dict[str, Any]:
        seen.update(subject=subject, sizes=sizes, effort=effort, **rest)
        return finite

    monkeypatch.setattr(bench, "run", run)
    answer = shell("bench", "tiny", "--json", "--sizes", "64", "--backend", "cpu", "--device", "cpu")
    assert (answer.code, json.loads(answer.out)) == (0, finite)
    assert seen["subject"].root.name == "tiny"
    assert (seen["sizes"], seen["backend"], seen["device"]) == ((64,), "cpu", "cpu")
    assert seen["effort"] == Effort()
    assert shell("bench", "--quick", "--json").code == 0
    assert (seen["subject"], seen["sizes"], seen["effort"]) == (None, bench.QUICK_SIZES, bench.QUICK)
    assert bench.QUICK.quick


def test_the_command_prints_tables(shell: Shell, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> None:
    monkeypatch.setattr(bench, "run", lambda *_, **__: found)
    answer = shell("bench")
    assert answer.code == 0
    assert "samples/ray" in answer.out
    assert "steps/s" in answer.out


@pytest.mark.parametrize(
    ("words_typed", "said"),
    [
        (("--backend", "abacus"), "'abacus' is no backend"),
        (("--backend", "tcnn"), "backend tcnn"),
        (("--sizes", "many"), "--sizes is 'many'"),
        (("nobody",), "no subject 'nobody'"),
        (("raw",), "'raw' is not trained yet"),
    ],
)
def test_what_cannot_be_measured_is_one_line(shell: Shell, words_typed: tuple[str, ...], said: str) -> None:
    fabricate(shell.home, "raw", trained=False)
    answer = shell("bench", *words_typed, "--quick")
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert answer.out == ""


def test_rounding_keeps_four_digits() -> None:
    assert bench._rounded({"a": 1.23456, "b": {"c": 123456.0}, "d": None, "e": 3}) == {
        "a": 1.235, "b": {"c": 123500.0}, "d": None, "e": 3,
    }  # fmt: skip
    assert math.isfinite(bench._significant(0.0))

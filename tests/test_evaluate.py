"""Evaluation: the frames that it looks at, the figures that it reports, and how faces are compared."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from radnerf.camera import Camera
from radnerf.metrics import psnr, ssim
from stages import evaluate
from stages.contact_sheet import ContactSheet, spread
from stages.errors import BadInput
from stages.evaluation_measures import NOSE, FaceReader, Reading, face_figures
from stages.formats import Track
from stages.media import probe, read_video
from stages.settings import EvaluateSettings
from stages.training_data import camera_of, first_held_out
from stages.vision.canonical_face import vertices_cm
from stages.vision.face_measures import LEFT_EYE, LIP_INDICES, RIGHT_EYE
from stages.workspace import Workspace
from tests.tiny_subject import FRAMES, SIZE_PX, make_features, make_subject, make_track

KEYS = {
    "psnr_full", "psnr_head", "psnr_mouth", "ssim_full", "lpips_full", "lmd_px", "lip_opening_r", "lip_opening_gain",
    "lip_width_r", "lip_width_gain", "blink_r", "blinks_missed", "blinks_invented", "brow_r", "brow_gain",
    "jitter_ratio",
}  # fmt: skip


def _inputs(workspace: Workspace) -> evaluate.Inputs:
    return evaluate.Inputs(
        workspace.layers,
        workspace.parsing,
        workspace.background,
        workspace.track,
        workspace.features,
        workspace.head,
        workspace.torso,
    )


def _run(workspace: Workspace, saved: Path | None = None, size_px: int = 0) -> dict[str, Any]:
    outputs = evaluate.Outputs(workspace.evaluation, workspace.preview, saved)
    evaluate.run(_inputs(workspace), outputs, EvaluateSettings(size_px), backend="reference")
    figures: dict[str, Any] = json.loads(workspace.evaluation.read_text())
    return figures


def _picture(path: Path) -> torch.Tensor:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None
    return torch.from_numpy(picture[..., ::-1].copy()).float() / 255


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any], Path]:
    """A tiny subject, what its evaluation says, and the frames that it saved."""
    workspace = make_subject(tmp_path_factory.mktemp("subjects") / "tiny")
    saved = workspace.root.parent / "saved"
    return workspace, _run(workspace, saved), saved


def test_the_report_has_the_agreed_keys(evaluated: tuple[Workspace, dict[str, Any], Path]) -> None:
    _, figures, _ = evaluated
    assert figures["subject"] == "tiny"
    assert figures["preset"] == "draft"
    assert figures["backbone"] == "radnerf"
    assert figures["frames"] == [first_held_out(FRAMES), FRAMES - 1] == [30, 32]
    assert figures["size_px"] == SIZE_PX
    assert figures["reading_size_px"] == 256
    for mode in ("head", "composite"):
        assert set(figures[mode]) == KEYS


def test_the_figures_are_those_of_the_saved_frames(evaluated: tuple[Workspace, dict[str, Any], Path]) -> None:
    _, figures, saved = evaluated
    names = [f"{frame:06d}.png" for frame in range(30, 33)]
    for series in ("truth", "head", "composite"):
        assert sorted(path.name for path in (saved / series).iterdir()) == names
    for mode in ("head", "composite"):
        pairs = [(_picture(saved / mode / name), _picture(saved / "truth" / name)) for name in names]
        assert figures[mode]["psnr_full"] == pytest.approx(np.mean([psnr(*pair) for pair in pairs]), abs=1e-3)
        assert figures[mode]["ssim_full"] == pytest.approx(np.mean([ssim(*pair) for pair in pairs]), abs=1e-3)


def test_head_mode_shows_the_true_torso_and_the_composite_the_learnt_one(
    evaluated: tuple[Workspace, dict[str, Any], Path],
) -> None:
    _, _, saved = evaluated
    # The untrained head lets nearly all through, so the torso's rows tell which torso lies behind.
    truth = _picture(saved / "truth" / "000031.png")[44:]
    assert psnr(_picture(saved / "head" / "000031.png")[44:], truth) > 25
    assert psnr(_picture(saved / "composite" / "000031.png")[44:], truth) < 25


def test_pictures_without_a_face_are_counted_and_give_no_lip_figures(
    evaluated: tuple[Workspace, dict[str, Any], Path],
) -> None:
    _, figures, _ = evaluated
    assert figures["faces_missed"] == {"truth": 3, "head": 3, "composite": 3}
    assert "no face" in figures["notes"]["faces"]
    assert figures["head"]["lip_opening_r"] is None
    assert figures["head"]["lmd_px"] is None


def test_a_contact_sheet_is_left(evaluated: tuple[Workspace, dict[str, Any], Path]) -> None:
    workspace, _, _ = evaluated
    height, width = _picture(workspace.preview).shape[:2]
    assert height > 3 * 256
    assert width > 3 * 256


@pytest.fixture
def small_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces are read at the size of comparison: these tests look at none, and are quicker for it."""
    monkeypatch.setattr(evaluate, "LEAST_READING_PX", 16)


@pytest.mark.usefixtures("small_reading")
def test_absent_perceptual_weights_give_null_and_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "load_perceptual", lambda: None)
    figures = _run(make_subject(tmp_path / "tiny"))
    assert figures["head"]["lpips_full"] is None
    assert "not on this machine" in figures["notes"]["lpips"]


@pytest.mark.usefixtures("small_reading")
def test_any_size_can_be_compared(tmp_path: Path) -> None:
    figures = _run(make_subject(tmp_path / "tiny"), tmp_path / "saved", size_px=24)
    assert figures["size_px"] == 24
    assert _picture(tmp_path / "saved" / "truth" / "000030.png").shape == (24, 24, 3)
    assert figures["head"]["lpips_full"] is None


@pytest.mark.usefixtures("small_reading")
def test_held_out_frames_without_a_pose_are_left_out_and_told(tmp_path: Path) -> None:
    workspace = make_subject(tmp_path / "tiny")
    track = Track.load(workspace.track)
    track.tracked[31] = False
    track.save(workspace.track)
    figures = _run(workspace, tmp_path / "saved")
    assert figures["frames_compared"] == 2
    assert figures["frames"] == [30, 32]
    assert "1 held-out" in figures["notes"]["frames"]
    assert not (tmp_path / "saved" / "head" / "000031.png").exists()


@pytest.mark.usefixtures("small_reading")
def test_sound_alone_decides_the_mouth(tmp_path: Path) -> None:
    workspace = make_subject(tmp_path / "tiny")
    _run(workspace, tmp_path / "first")
    track = Track.load(workspace.track)
    dataclasses.replace(track, mouth_open=track.mouth_open + 1, mouth_shape=track.mouth_shape + 1).save(workspace.track)
    _run(workspace, tmp_path / "second")
    first, second = (_picture(tmp_path / name / "head" / "000030.png") for name in ("first", "second"))
    assert torch.equal(first, second)


def test_another_front_end_is_refused(tmp_path: Path) -> None:
    workspace = make_subject(tmp_path / "tiny")
    make_features(2 * FRAMES, front_end="whisper").save(workspace.features)
    with pytest.raises(BadInput, match="whisper"):
        _run(workspace)
    assert not workspace.evaluation.exists()


def test_a_clip_whose_end_shows_no_face_is_refused(tmp_path: Path) -> None:
    workspace = make_subject(tmp_path / "tiny")
    track = Track.load(workspace.track)
    track.tracked[30:] = False
    track.save(workspace.track)
    with pytest.raises(BadInput, match="30 to 32"):
        _run(workspace)


def _speaking(opening_cm: NDArray[np.float64], track: Track, camera: Camera) -> Reading:
    """Landmarks of a face whose lower lip goes down by so much, as the camera sees them."""
    frames = np.arange(len(opening_cm))
    face = np.repeat(vertices_cm[None], len(frames), axis=0).astype(np.float64)
    lower = [landmark for landmark in LIP_INDICES.tolist() if face[0, landmark, 1] < face[0, 13, 1] - 0.2]
    face[:, lower, 1] -= opening_cm[:, None]
    rotation, translation = torch.from_numpy(track.rotation), torch.from_numpy(track.translation)
    pixels = [
        camera.project(torch.from_numpy(points).float(), rotation[frame], translation[frame]).numpy()
        for frame, points in enumerate(face)
    ]
    points = np.concatenate([np.stack(pixels), np.zeros((len(frames), 10, 2), np.float32)], axis=1)
    return Reading(frames, points, np.zeros(0, np.int64))


def _curve(frames: int = FRAMES) -> NDArray[np.float64]:
    curve: NDArray[np.float64] = 0.5 + 0.5 * np.sin(np.arange(frames) / 2)
    return curve


def test_the_same_face_is_a_perfect_match() -> None:
    track = make_track()
    camera = camera_of(track).scaled(256)
    reading = _speaking(_curve(), track, camera)
    figures = face_figures(reading, reading, track, camera)
    assert figures["lmd_px"] == 0
    assert figures["lip_opening_r"] == pytest.approx(1)
    assert figures["lip_opening_gain"] == pytest.approx(1)
    assert figures["jitter_ratio"] == pytest.approx(1)


def test_half_the_movement_is_half_the_gain_at_full_correlation() -> None:
    track = make_track()
    camera = camera_of(track).scaled(256)
    truth = _speaking(_curve(), track, camera)
    figures = face_figures(_speaking(0.5 * _curve(), track, camera), truth, track, camera)
    assert figures["lip_opening_r"] == pytest.approx(1, abs=0.01)
    assert figures["lip_opening_gain"] == pytest.approx(0.5, abs=0.02)
    assert figures["lmd_px"] > 0.1


def test_lips_are_compared_on_frames_found_in_both() -> None:
    track = make_track()
    camera = camera_of(track).scaled(256)
    truth = _speaking(_curve(), track, camera)
    kept = np.delete(np.arange(FRAMES), [4, 5, 20])
    wrong = truth.points.copy()
    wrong[[4, 5, 20]] = 0
    rendered = Reading(kept, wrong[kept], np.array([4, 5, 20]))
    figures = face_figures(rendered, truth, track, camera)
    assert figures["lip_opening_r"] == pytest.approx(1)
    assert figures["lmd_px"] == 0


def test_a_trembling_head_has_a_jitter_above_one() -> None:
    track = make_track()
    camera = camera_of(track).scaled(256)
    truth = _speaking(_curve(), track, camera)
    shaken = truth.points.copy()
    shaken[:, NOSE] += np.random.default_rng(0).normal(size=(FRAMES, 1, 2)) * 3
    figures = face_figures(Reading(truth.frames, shaken, truth.missed), truth, track, camera)
    assert figures["jitter_ratio"] > 3


def test_a_stare_misses_a_blink_and_a_twitch_invents_one() -> None:
    track = make_track()
    camera = camera_of(track).scaled(256)
    still = _speaking(_curve(), track, camera)
    blinking = still.points.copy()
    for frame, share in ((10, 0.5), (11, 0.05), (12, 0.05), (13, 0.5)):
        for eye in (LEFT_EYE, RIGHT_EYE):
            level = blinking[frame, eye, 1].mean()
            blinking[frame, eye, 1] = level + share * (blinking[frame, eye, 1] - level)
    winking = Reading(still.frames, blinking, still.missed)
    counts = {
        name: [face_figures(*pair, track, camera)[key] for key in ("blinks_missed", "blinks_invented")]
        for name, pair in (("stare", (still, winking)), ("twitch", (winking, still)), ("same", (winking, winking)))
    }
    assert counts == {"stare": [1, 0], "twitch": [0, 1], "same": [0, 0]}


def test_no_face_at_all_gives_nan() -> None:
    track = make_track()
    nobody = Reading(np.zeros(0, np.int64), np.zeros((0, 478, 2), np.float32), np.arange(FRAMES))
    camera = camera_of(track)
    assert all(map(math.isnan, face_figures(nobody, nobody, track, camera).values()))


def test_faces_are_read_the_same_whichever_series_they_belong_to(german: Path) -> None:
    pictures = list(read_video(probe(german), [], (256, 256), max_frames=3))
    with FaceReader() as reader:
        for frame, picture in enumerate(pictures):
            reader.look("truth", frame, picture)
        reader.look("other", 7, pictures[1])
        reader.look("other", 8, np.zeros_like(pictures[0]))
        truth, other = reader.reading("truth"), reader.reading("other")
    assert truth.frames.tolist() == [0, 1, 2]
    assert other.frames.tolist() == [7]
    assert other.missed.tolist() == [8]
    np.testing.assert_array_equal(other.points[0], truth.points[1])


def test_a_sheet_shows_each_picture_in_its_cell() -> None:
    sheet = ContactSheet(("truth", "head"), (3, 9), cell_px=32)
    for frame in (3, 5, 9):
        sheet.add(frame, {"truth": np.full((16, 16, 3), 10 * frame, np.uint8), "head": np.zeros((64, 64, 3), np.uint8)})
    picture = sheet.picture()
    assert (picture[30:50, -30:-4] == 90).all()
    assert (picture == 30).all(axis=-1).sum() >= 32 * 32
    assert (picture == 50).all(axis=-1).sum() < 32 * 32


@pytest.mark.parametrize(("length", "count"), [(1, 8), (5, 8), (8, 8), (45, 8), (100, 8)])
def test_spread_takes_both_ends_and_nothing_twice(length: int, count: int) -> None:
    frames = list(range(100, 100 + length))
    some = spread(frames, count)
    assert len(some) == min(length, count) == len(set(some))
    assert some == sorted(some)
    assert (some[0], some[-1]) == (frames[0], frames[-1])

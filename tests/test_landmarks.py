"""Landmarks of every frame, gaps, and the choice of model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages import landmarks, media
from stages.archive import ArchiveWriter, frame_name
from stages.errors import BadInput
from stages.formats import Landmarks
from stages.progress import Progress, listening
from stages.settings import LandmarksSettings
from stages.vision import models
from stages.vision.face_mesh import FaceMesh
from stages.vision.images import Rgb, decode_grey, decode_rgb, encode_jpeg, encode_png

LEFT_EYE, RIGHT_EYE, CHIN, LIPS = 33, 263, 152, (13, 14)


@pytest.fixture(scope="session")
def pictures(german: Path) -> list[Rgb]:
    """130 frames of the news anchor at 256 px."""
    return list(media.read_video(media.probe(german), [("scale", {"w": 256, "h": 256})], (256, 256), max_frames=130))


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch, assets: Path) -> None:
    monkeypatch.setenv("RADNERF_MODELS", str(assets / "models"))


def archive(folder: Path, pictures: list[Rgb]) -> Path:
    path = folder / "frames.zip"
    with ArchiveWriter(path) as writer:
        for index, picture in enumerate(pictures):
            writer.add(frame_name(index, ".jpg"), encode_jpeg(picture))
    return path


def found_in(folder: Path, pictures: list[Rgb], settings: LandmarksSettings | None = None) -> Landmarks:
    output = folder / "landmarks.npz"
    inputs = landmarks.Inputs(archive(folder, pictures))
    landmarks.run(inputs, landmarks.Outputs(output), settings or LandmarksSettings())
    return Landmarks.load(output)


@pytest.mark.parametrize("model", ["tasks", "mesh"])
def test_both_models_find_the_same_face(tmp_path: Path, pictures: list[Rgb], model: str) -> None:
    settings = LandmarksSettings(model=model)  # type: ignore[arg-type]
    result = found_in(tmp_path, pictures[:12], settings)
    assert (result.model, result.size_px, bool(result.found.all())) == (model, 256, True)
    eyes = result.points[:, [LEFT_EYE, RIGHT_EYE], :2].mean(axis=1)
    assert np.abs(eyes - (136, 118)).max() < 12
    assert np.abs(result.points[:, CHIN, :2] - (135, 202)).max() < 12
    # The nose is nearer to the viewer than the ears.
    assert (result.points[:, 1, 2] < result.points[:, [127, 356], 2].min(axis=1) - 20).all()


def test_models_agree_within_pixels(pictures: list[Rgb]) -> None:
    with FaceMesh("tasks") as tasks, FaceMesh("mesh") as mesh:
        one, other = tasks.detect(pictures[0]), mesh.detect(pictures[0])
    assert one is not None
    assert other is not None
    assert np.linalg.norm(one[:468, :2] - other[:468, :2], axis=1).mean() < 4


def test_tracking_does_not_smooth_the_lips(pictures: list[Rgb]) -> None:
    """One frame with another mouth is seen at once, whatever came before."""
    with FaceMesh("tasks", video=True) as mesh:
        tracked = [mesh.detect(picture) for picture in pictures[:60]]
    with FaceMesh("tasks") as mesh:
        alone = [mesh.detect(picture) for picture in pictures[:60]]
    gaps = [
        np.array([np.linalg.norm(p[LIPS[0], :2] - p[LIPS[1], :2]) for p in points if p is not None])
        for points in (tracked, alone)
    ]
    assert len(gaps[0]) == len(gaps[1]) == 60
    assert gaps[0].std() > 0.93 * gaps[1].std()


def test_two_processes_find_what_one_finds(tmp_path: Path, pictures: list[Rgb]) -> None:
    path = archive(tmp_path, pictures)
    told: list[Progress] = []
    with listening(told.append):
        points, found = landmarks.track_faces(path, len(pictures), "mesh")
    alone, _ = landmarks._track_part(path, 0, len(pictures), "mesh")
    assert found.all()
    distance = np.linalg.norm(points[:, :468, :2] - alone[:, :468, :2], axis=2).mean(axis=1)
    assert distance[:60].max() < 0.01
    assert distance.max() < 1.0
    assert (told[-1].done, told[-1].total) == (130, 130)


def test_short_gap_is_recorded(tmp_path: Path, pictures: list[Rgb]) -> None:
    grey = np.full_like(pictures[0], 128)
    result = found_in(tmp_path, [*pictures[:45], grey, grey, *pictures[45:60]], LandmarksSettings(model="mesh"))
    assert np.flatnonzero(~result.found).tolist() == [45, 46]
    assert not result.points[45:47].any()


def test_long_gap_is_an_error_that_names_the_times(tmp_path: Path, pictures: list[Rgb]) -> None:
    grey = np.full_like(pictures[0], 128)
    shown = [*pictures[:20], *[grey] * 15, *pictures[20:40]]
    with pytest.raises(BadInput, match=r"no face from 0\.8 s to 1\.4 s"):
        found_in(tmp_path, shown, LandmarksSettings(model="mesh"))
    assert not (tmp_path / "landmarks.npz").exists()


def test_many_short_gaps_are_an_error() -> None:
    found = np.ones(100, np.bool_)
    found[::8] = False
    with pytest.raises(BadInput, match=r"and 8 times more \(13% of the clip\)"):
        landmarks.require_faces(found, 0.4)
    found[8:] = True
    landmarks.require_faces(found, 0.4)


def test_gap_just_as_long_as_allowed_passes() -> None:
    found = np.ones(500, np.bool_)
    found[100:110] = False
    landmarks.require_faces(found, 0.4)
    found[110] = False
    with pytest.raises(BadInput, match=r"from 4\.0 s to 4\.4 s"):
        landmarks.require_faces(found, 0.4)


def test_missing_stretches_at_both_ends() -> None:
    found = np.array([False, True, True, False, False, True, False])
    assert landmarks.missing_stretches(found) == [(0, 1), (3, 5), (6, 7)]
    assert landmarks.missing_stretches(np.ones(4, np.bool_)) == []


def test_nearest_face_goes_on() -> None:
    base = np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32)
    near, far = base * 10 + 100, base * 20 + 300
    faces = np.stack([far, near])
    chosen = landmarks.nearest_face(faces, near + 5)
    assert chosen is not None
    np.testing.assert_array_equal(chosen, near)
    first = landmarks.nearest_face(faces, None)
    assert first is not None
    np.testing.assert_array_equal(first, far)
    assert landmarks.nearest_face(faces[:0], near) is None


def test_second_face_does_not_take_over(tmp_path: Path, pictures: list[Rgb]) -> None:
    other = np.ascontiguousarray(pictures[0][:, ::-1])
    pair = [np.hstack([picture, np.full_like(picture, 90)]) for picture in pictures[:8]]
    pair += [np.hstack([picture, other]) for picture in pictures[8:24]]
    square = [np.pad(picture, ((128, 128), (0, 0), (0, 0))) for picture in pair]
    result = found_in(tmp_path, square, LandmarksSettings(model="mesh"))
    assert result.found.all()
    assert (result.points[:, :, 0].mean(axis=1) < 256).all()


def test_no_face_in_a_single_picture(pictures: list[Rgb]) -> None:
    with FaceMesh("auto") as mesh:
        assert mesh.model == "tasks"
        assert mesh.detect(np.full((128, 128, 3), 77, np.uint8)) is None
        assert mesh.detect(pictures[3]) is not None
        assert mesh.detect_all(np.zeros((64, 96, 3), np.uint8)).shape == (0, 478, 3)


def test_native_code_is_silent(pictures: list[Rgb], capfd: pytest.CaptureFixture[str]) -> None:
    with FaceMesh("auto", video=True) as mesh:
        for picture in pictures[:3]:
            mesh.detect(picture)
    assert capfd.readouterr().err == ""


def test_models_are_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, data = tmp_path / "own", tmp_path / "data" / "radnerf" / "models"
    own.mkdir()
    data.mkdir(parents=True)
    (data / models.FACE_LANDMARKER).write_bytes(b"x")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("RADNERF_MODELS", str(own))
    assert models.find_model(models.FACE_LANDMARKER) == data / models.FACE_LANDMARKER
    (own / models.FACE_LANDMARKER).write_bytes(b"x")
    assert models.find_model(models.FACE_LANDMARKER) == own / models.FACE_LANDMARKER
    assert models.find_model(models.ALEXNET_FEATURES) is None


def test_missing_model_falls_back_or_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("RADNERF_MODELS")
    with FaceMesh("auto") as mesh:
        assert mesh.model == "mesh"
    with pytest.raises(BadInput, match=r"no face_landmarker\.task"):
        FaceMesh("tasks")


def test_pictures_survive_png_and_jpeg() -> None:
    rng = np.random.default_rng(1)
    rgb = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    source = Path("frames.zip")
    np.testing.assert_array_equal(decode_rgb(encode_png(rgb), source), rgb)
    np.testing.assert_array_equal(decode_grey(encode_png(rgb[..., 0]), source), rgb[..., 0])
    assert np.abs(decode_rgb(encode_jpeg(rgb), source).astype(int) - rgb).mean() < 2
    with pytest.raises(BadInput, match=r"frames\.zip holds a damaged picture"):
        decode_rgb(b"no picture", source)

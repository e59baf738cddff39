"""Data folders of other programs: cameras mean the same in both directions, and nothing else is lost on the way."""

from __future__ import annotations

import json
import os
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from cli import peers
from cli.plan import stale_steps, subject_steps
from cli.subject import load_record
from stages import formats
from stages.archive import Archive, ArchiveWriter, frame_name
from stages.errors import BadInput
from stages.formats import AudioFeatures, Landmarks, Track
from stages.peer_camera import from_euler, from_matrices, to_euler, to_matrices
from stages.peer_export import write_peer_folder
from stages.peer_files import CLASS_COLOURS, LANDMARKS_68, PeerFolder, paint_classes, read_classes, rows_of, windows_of
from stages.peer_import import read_poses
from stages.vision.canonical_face import vertices_cm
from stages.vision.reprojection import Pinhole, project
from stages.workspace import Workspace, open_subject
from tests.cli_harness import Shell, shell
from tests.synthetic import FRAMES, write_subject
from tests.test_training_stages import _write_landmarks

__all__ = ["shell"]

CAMERA = Pinhole(1100.0, 256.0, 250.0)


def random_poses(count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Heads that look anywhere near the camera."""
    generator = np.random.default_rng(3)
    euler = generator.uniform(-0.5, 0.5, (count, 3))
    trans = generator.uniform([-1, -1, -8], [1, 1, -6], (count, 3))
    return from_euler(euler, trans)


def test_a_point_falls_on_the_same_pixel_in_both_conventions() -> None:
    rotation, translation = random_poses()
    point = np.array([3.0, -2.0, 5.0])
    ours = project(point[None], rotation, translation, CAMERA)[:, 0]
    for pixel, matrix in zip(ours, to_matrices(rotation, translation), strict=True):
        # OpenGL's camera, as their ray generator has it: x right, y up, looking along -z; metres.
        x, y, z, _ = np.linalg.inv(matrix) @ [*point / 100, 1]
        assert z < 0
        theirs = [CAMERA.centre_x_px + CAMERA.focal_px * x / -z, CAMERA.centre_y_px - CAMERA.focal_px * y / -z]
        np.testing.assert_allclose(pixel, theirs, atol=1e-9)
    for one, other in zip((rotation, translation), from_matrices(to_matrices(rotation, translation)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_their_trackers_angles_mean_the_same_pose() -> None:
    rotation, translation = random_poses()
    euler, trans = to_euler(rotation, translation)
    for one, other in zip((rotation, translation), from_euler(euler, trans), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    point = np.array([3.0, -2.0, 5.0])
    ours = project(point[None], rotation, translation, CAMERA)[:, 0]
    (a, b, c), (d, e, f) = np.cos(euler).T, np.sin(euler).T
    for i in range(len(euler)):
        about_x = np.array([[1, 0, 0], [0, a[i], d[i]], [0, -d[i], a[i]]])
        about_y = np.array([[b[i], 0, -e[i]], [0, 1, 0], [e[i], 0, b[i]]])
        about_z = np.array([[c[i], -f[i], 0], [f[i], c[i], 0], [0, 0, 1]])
        x, y, z = about_x @ about_y @ about_z @ (point / 10) + trans[i]
        pixel = [-CAMERA.focal_px * x / z + CAMERA.centre_x_px, CAMERA.focal_px * y / z + CAMERA.centre_y_px]
        np.testing.assert_allclose(ours[i], pixel, atol=1e-9)


def test_class_maps_and_feature_windows_come_back() -> None:
    classes = np.random.default_rng(0).integers(0, 4, (9, 11)).astype(np.uint8)
    np.testing.assert_array_equal(read_classes(paint_classes(classes)), classes)
    assert CLASS_COLOURS[formats.HEAD] == (0, 0, 255)
    with pytest.raises(ValueError, match="none of the four colours"):
        read_classes(np.full((2, 2, 3), 128, np.uint8))
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    windows = windows_of(values, 10)
    assert windows.shape == (10, 16, 2)
    np.testing.assert_array_equal(windows[4], values[0:16])
    np.testing.assert_array_equal(rows_of(windows), values)
    assert len(set(LANDMARKS_68)) == 68


def prepared(root: Path) -> Workspace:
    """A synthetic subject with every file that preparation makes."""
    workspace = write_subject(root)
    with Archive(workspace.layers) as layers:
        workspace.frames.parent.mkdir(parents=True)
        with ArchiveWriter(workspace.frames) as frames:
            for index in range(FRAMES):
                frames.add(frame_name(index, ".jpg"), layers.read(frame_name(index, ".truth.jpg")))
    with wave.open(str(workspace.audio), "wb") as stream:
        stream.setparams((1, 2, 16_000, 0, "NONE", ""))
        noise = np.random.default_rng(0).integers(-9000, 9000, FRAMES * 640).astype("<i2")
        stream.writeframes(noise.tobytes())
    workspace.landmarks.parent.mkdir(parents=True, exist_ok=True)
    _write_landmarks(workspace)
    return workspace


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Workspace, PeerFolder]:
    """A subject, and the folder that it was exported to."""
    workspace = prepared(tmp_path / "original" / "subjects" / "ball")
    (tmp_path / "data").mkdir()
    remarks = write_peer_folder(workspace, tmp_path / "data")
    assert remarks == ["extract their audio features from aud.wav with their own script before training"]
    return workspace, PeerFolder(tmp_path / "data")


def test_an_exported_folder_has_what_their_loaders_open(exported: tuple[Workspace, PeerFolder]) -> None:
    _, peer = exported
    train, val = (json.loads(peer.transforms(split).read_text()) for split in ("train", "val"))
    assert [frame["img_id"] for frame in train["frames"] + val["frames"]] == list(range(FRAMES))
    assert len(train["frames"]) == FRAMES * 10 // 11
    for number in (0, FRAMES - 1):
        for kind in ("ori_imgs", "gt_imgs", "torso_imgs", "parsing"):
            assert peer.picture(kind, number).is_file()
        assert np.loadtxt(peer.landmarks(number)).shape == (68, 2)
    assert peer.action_units.read_text().splitlines()[0].split(",")[-1] == " AU45_r"
    assert set(torch.load(peer.track, weights_only=True)) == {"euler", "trans", "focal"}


def _import(shell: Shell, monkeypatch: pytest.MonkeyPatch, original: Workspace, folder: Path, *words: str) -> Workspace:
    """Import with the landmarks that the original subject has."""
    monkeypatch.setattr(peers, "_find_landmarks", lambda _, found: _copy(original.landmarks, found))
    answer = shell("import", str(folder), "--name", "again", "--preset", "draft", "--consent", "nobody", *words)
    assert answer.code == 0, answer.err
    return open_subject(shell.home, "again")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def test_a_round_trip_keeps_cameras_pictures_and_blinks(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, exported: tuple[Workspace, PeerFolder]
) -> None:
    original, peer = exported
    again = _import(shell, monkeypatch, original, peer.root)
    before, after = Track.load(original.track), Track.load(again.track)
    assert (after.focal_px, after.size_px) == (before.focal_px, before.size_px)
    np.testing.assert_allclose(after.rotation, before.rotation, atol=2e-3)
    np.testing.assert_allclose(after.translation, before.translation, atol=0.1)
    np.testing.assert_allclose(after.eye_open, before.eye_open.clip(0, 1), atol=1e-3)
    assert after.reprojection_rms_px < 0.1
    for path in ("frames", "audio"):
        assert getattr(again, path).read_bytes() == getattr(original, path).read_bytes()
    with Archive(original.layers) as one, Archive(again.layers) as other, Archive(again.parsing) as classes:
        for suffix in (".truth.jpg", ".torso.png"):
            assert other.read(frame_name(7, suffix)) == one.read(frame_name(7, suffix))
        assert len(classes.names) == FRAMES
    assert list(stale_steps(subject_steps(again)))[:3] == ["audio", "head", "torso"]
    record = load_record(again.subject)
    assert (record.consent, record.source.name) == ("nobody", "data")


def test_another_head_frame_is_brought_into_ours(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, exported: tuple[Workspace, PeerFolder]
) -> None:
    original, peer = exported
    turn, _ = random_poses(1)
    ours = np.eye(4)
    ours[:3, :3] = np.diag([1, -1, -1]) @ turn[0]
    ours[:3, 3] = [0.01, -0.03, 0.02]
    for split in ("train", "val"):
        told = json.loads(peer.transforms(split).read_text())
        for frame in told["frames"]:
            matrix = ours @ np.array(frame["transform_matrix"])
            matrix[:3, 3] *= 1.2
            frame["transform_matrix"] = matrix.tolist()
        peer.transforms(split).write_text(json.dumps(told))
    again = _import(shell, monkeypatch, original, peer.root)
    before, after = Track.load(original.track), Track.load(again.track)
    face = vertices_cm[::7].astype(np.float64)
    camera = Pinhole(before.focal_px, before.centre_x_px, before.centre_y_px)
    seen = [project(face, one.rotation, one.translation, camera) for one in (before, after)]
    np.testing.assert_allclose(*seen, atol=0.1)
    np.testing.assert_allclose(after.translation, before.translation, atol=0.5)


def test_their_deepspeech_features_can_be_taken_over(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, exported: tuple[Workspace, PeerFolder]
) -> None:
    original, peer = exported
    windows = np.random.default_rng(1).normal(size=(FRAMES, 16, 29)).astype(np.float32)
    np.save(peer.root / "aud_ds.npy", windows)
    again = _import(shell, monkeypatch, original, peer.root, "--front-end", "deepspeech")
    features = AudioFeatures.load(again.features)
    np.testing.assert_array_equal(features.values, rows_of(windows))
    assert "audio" not in subject_steps(again)


def test_poses_are_read_from_the_tracker_where_there_is_nothing_else(exported: tuple[Workspace, PeerFolder]) -> None:
    original, peer = exported
    before = read_poses(peer)
    for split in ("train", "val"):
        peer.transforms(split).unlink()
    after = read_poses(peer)
    np.testing.assert_allclose(after.rotation, before.rotation, atol=1e-5)
    np.testing.assert_allclose(after.translation, before.translation, atol=1e-3)
    assert after.camera.focal_px == pytest.approx(Track.load(original.track).focal_px)


class _Evil:
    """What a torch file from a stranger may hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Be a command when unpickled."""
        return os.system, ("touch pwned",)


def test_a_program_in_a_torch_file_is_not_run(shell: Shell, exported: tuple[Workspace, PeerFolder]) -> None:
    _, peer = exported
    for split in ("train", "val"):
        peer.transforms(split).unlink()
    torch.save({"euler": _Evil()}, peer.track)
    with pytest.raises(BadInput, match="cannot be read safely"):
        read_poses(peer)
    assert shell("import", str(peer.root), "--quiet").code == 2
    assert not Path("pwned").exists()
    assert not (shell.home / "subjects").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda peer: peer.transforms("train").write_text("{"), "transforms_train.json is damaged"),
        (lambda peer: peer.background.unlink(), "bc.jpg cannot be read"),
        (lambda peer: peer.sound.unlink(), "aud.wav is missing"),
        (lambda peer: peer.picture("parsing", 5).write_bytes(b"x"), "5.png holds a damaged picture"),
        (lambda peer: peer.picture("ori_imgs", 9).unlink(), "9.jpg cannot be read"),
        (lambda peer: peer.action_units.write_text("a,b\n1,2\n"), "has no usable column AU45_r"),
    ],
)
def test_a_folder_that_lacks_something_leaves_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, exported: tuple[Workspace, PeerFolder], damage: object, said: str
) -> None:
    original, peer = exported
    damage(peer)  # type: ignore[operator]
    monkeypatch.setattr(peers, "_find_landmarks", lambda _, found: _copy(original.landmarks, found))
    answer = shell("import", str(peer.root), "--quiet")
    assert answer.code == 2
    assert said in answer.err
    assert not (shell.home / "subjects").exists()


def test_poses_of_other_pictures_are_refused(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, exported: tuple[Workspace, PeerFolder]
) -> None:
    original, peer = exported
    landmarks = Landmarks.load(original.landmarks)
    strange = np.random.default_rng(0).uniform(0, landmarks.size_px, landmarks.points.shape).astype(np.float32)

    def elsewhere(_: Path, found: Path) -> None:
        found.parent.mkdir(parents=True, exist_ok=True)
        Landmarks(strange, landmarks.found, landmarks.model, landmarks.size_px).save(found)

    monkeypatch.setattr(peers, "_find_landmarks", elsewhere)
    answer = shell("import", str(peer.root), "--quiet")
    assert answer.code == 2
    assert "pictures and poses do not belong together" in answer.err
    again = shell("import", str(peer.root), "--quiet", "--solve-poses", "--name", "again")
    assert again.code == 0
    assert "pose" in stale_steps(subject_steps(open_subject(shell.home, "again")))

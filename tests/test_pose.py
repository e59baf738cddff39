"""Bundle adjustment, smoothing and the pose stage, against heads whose movement is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stages import pose
from stages.errors import BadInput
from stages.formats import Landmarks, Track
from stages.settings import PoseSettings
from stages.vision import canonical_face
from stages.vision.bundle_adjustment import (
    RIGID_LANDMARKS,
    Adjustment,
    adjust,
    find_jumps,
    initial_poses,
    solve_each_pose,
)
from stages.vision.reprojection import Pinhole, project, project_with_derivatives, turn
from stages.vision.smoothing import fill_gaps, first_differences, smoothness_for, solve_poses

SIZE_PX = 512
CAMERA = Pinhole(2.0 * SIZE_PX, SIZE_PX / 2, SIZE_PX / 2)
FLIP = np.diag([1.0, -1.0, -1.0])
CANONICAL = canonical_face.vertices_cm.astype(np.float64)


@dataclass(frozen=True)
class Clip:
    """A synthetic clip with its truth."""

    points: NDArray[np.float32]
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    face: NDArray[np.float64]

    @property
    def all_found(self) -> NDArray[np.bool_]:
        return np.ones(len(self.points), dtype=bool)


def smooth_noise(rng: np.random.Generator, frames: int, columns: int, period: float = 40.0) -> NDArray[np.float64]:
    """Sums of slow sines, of about unit size."""
    time = np.arange(frames)[:, None]
    total = np.zeros((frames, columns))
    for _ in range(4):
        speed = 2 * np.pi / (period * rng.uniform(0.7, 2.5, columns))
        total += 0.5 * np.sin(speed * time + rng.uniform(0, 2 * np.pi, columns))
    return total


def make_clip(frames: int = 150, noise_px: float = 0.5, seed: int = 0) -> Clip:
    """A face that is not the canonical one, moving as an anchor does, its landmarks seen with noise."""
    rng = np.random.default_rng(seed)
    face = CANONICAL * (1.02, 0.96, 1.03) + rng.normal(0, 0.15, CANONICAL.shape)
    angles = smooth_noise(rng, frames, 3) * (9.0, 6.0, 4.0)
    rotation = FLIP @ Rotation.from_euler("yxz", angles, degrees=True).as_matrix()
    translation = (0.0, 1.0, 62.0) + smooth_noise(rng, frames, 3) * (1.5, 1.0, 1.5)
    points = np.zeros((frames, 478, 3), dtype=np.float32)
    points[:, :468, :2] = project(face, rotation, translation, CAMERA)
    depth = (face @ rotation.transpose(0, 2, 1))[..., 2] * CAMERA.focal_px / translation[:, None, 2]
    points[:, :468, 2] = depth
    points[:, :468] += rng.normal(0, noise_px, (frames, 468, 3)) * (1, 1, 5)
    return Clip(points, rotation, translation, face)


def solve(clip: Clip, found: NDArray[np.bool_] | None = None, smoothing: float = 1.0) -> Adjustment:
    return adjust(clip.points, clip.all_found if found is None else found, SIZE_PX, 2.0, 0.25, smoothing)


def relative_rotation_error_deg(estimate: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) angles left when the one rotation between both heads' frames, which nobody can know, is removed."""
    between = Rotation.from_matrix(estimate.transpose(0, 2, 1) @ truth)
    rest = between * between.mean().inv()
    return np.degrees(rest.magnitude())


def acceleration(rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6,) mean absolute second difference."""
    return np.abs(np.diff(first_differences(rotation, translation), axis=0)).mean(axis=0)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return make_clip()


@pytest.fixture(scope="module")
def solved(clip: Clip) -> Adjustment:
    return solve(clip)


def test_derivatives_match_finite_differences() -> None:
    rng = np.random.default_rng(1)
    shape = CANONICAL[RIGID_LANDMARKS]
    rotation = FLIP @ Rotation.from_rotvec(rng.normal(0, 0.4, (3, 3))).as_matrix()
    translation = rng.normal((0, 0, 60), 4, (3, 3))
    pixels, by_pose, by_point = project_with_derivatives(shape, rotation, translation, CAMERA)
    np.testing.assert_allclose(pixels, project(shape, rotation, translation, CAMERA))
    step = 1e-5
    for axis in range(3):
        nudge = np.eye(3)[axis] * step
        moved = [
            [project(shape, turn(rotation, np.tile(sign * nudge, (3, 1))), translation, CAMERA) for sign in (1, -1)],
            [project(shape, rotation, translation + sign * nudge, CAMERA) for sign in (1, -1)],
            [project(shape + sign * nudge, rotation, translation, CAMERA) for sign in (1, -1)],
        ]
        by_turn, by_shift, by_shape = ((plus - minus) / (2 * step) for plus, minus in moved)
        np.testing.assert_allclose(by_pose[..., axis], by_turn, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(by_pose[..., 3 + axis], by_shift, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(by_point[..., axis], by_shape, rtol=1e-4, atol=1e-3)


def test_rotation_is_found_within_a_tenth_of_a_degree(clip: Clip, solved: Adjustment) -> None:
    errors = relative_rotation_error_deg(solved.rotation, clip.rotation)
    assert np.sqrt(np.mean(errors**2)) <= 0.15
    assert solved.tracked.all()


def test_reprojection_error_is_that_of_the_noise(clip: Clip, solved: Adjustment) -> None:
    expected = 0.5 * np.sqrt(2)
    assert solved.raw_rms_px == pytest.approx(expected, rel=0.1)
    assert solved.rms_px == pytest.approx(expected, rel=0.15)
    face = CANONICAL + solved.shape_offset_cm
    seen = project(face, solved.rotation, solved.translation, solved.camera)
    truth = project(clip.face, clip.rotation, clip.translation, CAMERA)
    assert np.sqrt(np.mean((seen - truth)[:, RIGID_LANDMARKS] ** 2)) < 0.3


def test_rotations_are_rotations(solved: Adjustment) -> None:
    np.testing.assert_allclose(
        solved.rotation @ solved.rotation.transpose(0, 2, 1), np.tile(np.eye(3), (150, 1, 1)), atol=1e-9
    )
    assert np.linalg.det(solved.rotation).min() > 0


def test_smoothing_lowers_jitter_and_error(clip: Clip, solved: Adjustment) -> None:
    raw = acceleration(solved.raw_rotation, solved.raw_translation)
    smooth = acceleration(solved.rotation, solved.translation)
    true = acceleration(clip.rotation, clip.translation)
    assert (smooth < raw).all()
    assert (np.abs(smooth - true) < 0.4 * (raw - true)).all()
    raw_error = relative_rotation_error_deg(solved.raw_rotation, clip.rotation)
    assert relative_rotation_error_deg(solved.rotation, clip.rotation).mean() < raw_error.mean()


def test_a_quick_nod_is_not_flattened() -> None:
    clip = make_clip(frames=80, noise_px=0.3, seed=3)
    angle = np.zeros((80, 3))
    angle[40:48, 0] = 6.0 * np.sin(np.linspace(0, np.pi, 8))
    nodding = clip.rotation @ Rotation.from_euler("xyz", angle, degrees=True).as_matrix()
    points = clip.points.copy()
    still = project(clip.face, clip.rotation, clip.translation, CAMERA)
    points[:, :468, :2] += project(clip.face, nodding, clip.translation, CAMERA) - still
    adjustment = solve(Clip(points, nodding, clip.translation, clip.face))
    assert adjustment.tracked.all()
    assert relative_rotation_error_deg(adjustment.rotation, nodding)[38:50].max() < 1.0


def test_weight_zero_leaves_the_poses_raw(clip: Clip) -> None:
    adjustment = solve(clip, smoothing=0.0)
    assert adjustment.rms_px == pytest.approx(adjustment.raw_rms_px, abs=1e-3)
    assert relative_rotation_error_deg(adjustment.rotation, adjustment.raw_rotation).max() < 0.02


def test_gaps_are_bridged_smoothly(clip: Clip) -> None:
    found = clip.all_found
    found[60:68] = False
    found[:4] = False
    found[-5:] = False
    blind = Clip(np.where(found[:, None, None], clip.points, 0), clip.rotation, clip.translation, clip.face)
    adjustment = solve(blind, found)
    np.testing.assert_array_equal(adjustment.tracked, found)
    errors = relative_rotation_error_deg(adjustment.rotation, clip.rotation)
    assert errors[found].max() < 0.5
    assert errors[60:68].max() < 2.0
    assert max(errors[:4].max(), errors[-5:].max()) < 6.0
    truth = project(clip.face[RIGID_LANDMARKS], clip.rotation, clip.translation, CAMERA)
    face = (CANONICAL + adjustment.shape_offset_cm)[RIGID_LANDMARKS]
    seen = project(face, adjustment.rotation, adjustment.translation, CAMERA)
    assert np.linalg.norm(seen - truth, axis=-1)[60:68].mean() < 6.0


@pytest.mark.parametrize("length", [1, 2, 4])
def test_frames_that_jump_away_are_bridged(clip: Clip, length: int) -> None:
    points = clip.points.copy()
    points[50 : 50 + length, :, 0] += 90.0
    points[100, :, :2] = 256 + 1.3 * (points[100, :, :2] - 256)
    adjustment = solve(Clip(points, clip.rotation, clip.translation, clip.face))
    assert np.flatnonzero(~adjustment.tracked).tolist() == [*range(50, 50 + length), 100]
    assert relative_rotation_error_deg(adjustment.rotation, clip.rotation).max() < 1.0


def test_smooth_motion_holds_no_jumps(clip: Clip) -> None:
    fast = clip.points[::3, RIGID_LANDMARKS, :2].astype(np.float64)
    assert not find_jumps(fast, np.ones(len(fast), dtype=bool), 6.0).any()


def test_wild_landmarks_hardly_move_a_pose(clip: Clip, solved: Adjustment) -> None:
    shape = (CANONICAL + solved.shape_offset_cm)[RIGID_LANDMARKS]
    seen = clip.points[:20, RIGID_LANDMARKS].astype(np.float64)
    wild = seen.copy()
    wild[:, ::10, :2] += 25.0
    begin = initial_poses(wild, shape, CAMERA)
    clean = solve_each_pose(seen[..., :2], shape, begin, CAMERA, 1.0)
    robust = solve_each_pose(wild[..., :2], shape, begin, CAMERA, 1.0)
    squares = solve_each_pose(wild[..., :2], shape, begin, CAMERA, 1e6)

    def moved(other: tuple[NDArray[np.float64], NDArray[np.float64]]) -> float:
        places = (project(shape, *pose, CAMERA) for pose in (clean, other))
        return float(np.linalg.norm(np.subtract(*places), axis=-1).mean())

    assert moved(robust) < 0.7
    assert moved(squares) > 3 * moved(robust)


def test_the_same_landmarks_give_the_same_poses(clip: Clip, solved: Adjustment) -> None:
    again = solve(clip)
    np.testing.assert_array_equal(again.rotation, solved.rotation)
    np.testing.assert_array_equal(again.translation, solved.translation)
    np.testing.assert_array_equal(again.shape_offset_cm, solved.shape_offset_cm)


def test_the_focal_length_hardly_matters(clip: Clip, solved: Adjustment) -> None:
    other = adjust(clip.points, clip.all_found, SIZE_PX, 3.0, 0.25, 1.0)
    assert other.rms_px < 1.15 * solved.rms_px
    assert relative_rotation_error_deg(other.rotation, clip.rotation).mean() < 0.5


def test_scaling_the_picture_leaves_the_pose(clip: Clip, solved: Adjustment) -> None:
    small = adjust(clip.points / 2, clip.all_found, SIZE_PX // 2, 2.0, 0.25, 1.0)
    np.testing.assert_allclose(small.rotation, solved.rotation, atol=1e-4)
    np.testing.assert_allclose(small.translation, solved.translation, atol=1e-2)
    assert small.rms_px == pytest.approx(solved.rms_px / 2, rel=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
def test_very_short_clips_are_solved(frames: int) -> None:
    clip = make_clip(frames=frames, seed=5)
    adjustment = solve(clip)
    assert adjustment.rms_px < 1.5
    assert np.isfinite(adjustment.rotation).all()


def test_the_banded_solution_is_a_minimum(clip: Clip, solved: Adjustment) -> None:
    # Halving the tolerance's room: a solution begun elsewhere ends in the same place.
    shape = (CANONICAL + solved.shape_offset_cm)[RIGID_LANDMARKS]
    seen = clip.points[:60, RIGID_LANDMARKS, :2].astype(np.float64)
    known = np.ones(60, dtype=bool)
    smoothness = smoothness_for(shape, clip.translation[:60], CAMERA, 1.0, 0.25)
    begin = initial_poses(clip.points[:60, RIGID_LANDMARKS].astype(np.float64), shape, CAMERA)
    shifted = turn(begin[0], np.full((60, 3), 0.05)), begin[1] + 0.5
    one = solve_poses(seen, known, shape, begin, CAMERA, 1.0, smoothness)
    two = solve_poses(seen, known, shape, shifted, CAMERA, 1.0, smoothness)
    np.testing.assert_allclose(one[0], two[0], atol=1e-3)
    np.testing.assert_allclose(one[1][:, :2], two[1][:, :2], atol=1e-2)


def test_filling_gaps_keeps_known_poses_and_goes_between() -> None:
    rotation = FLIP @ Rotation.from_euler("y", [[0.0], [77.0], [20.0]], degrees=True).as_matrix()
    translation = np.array([[0.0, 0, 50], [9, 9, 9], [2, 0, 52]])
    filled_r, filled_t = fill_gaps(rotation, translation, np.array([True, False, True]))
    np.testing.assert_allclose(filled_r[[0, 2]], rotation[[0, 2]], atol=1e-12)
    between = Rotation.from_matrix(FLIP @ filled_r[1]).as_euler("yxz", degrees=True)
    np.testing.assert_allclose(between, [10, 0, 0], atol=1e-9)
    np.testing.assert_allclose(filled_t[1], [1, 0, 51])


def write_landmarks(path: Path, points: NDArray[np.float32], found: NDArray[np.bool_]) -> Path:
    Landmarks(points=points, found=found, model="mesh", size_px=SIZE_PX).save(path)
    return path


def test_the_stage_writes_a_track_that_loads(clip: Clip, tmp_path: Path) -> None:
    found = clip.all_found
    found[70:74] = False
    path = write_landmarks(tmp_path / "landmarks.npz", clip.points, found)
    pose.run(pose.Inputs(path), pose.Outputs(tmp_path / "pose" / "track.npz"), PoseSettings())
    track = Track.load(tmp_path / "pose" / "track.npz")
    np.testing.assert_array_equal(track.tracked, found)
    assert track.reprojection_rms_px < 0.8
    assert (track.focal_px, track.centre_x_px, track.centre_y_px) == (1024.0, 256.0, 256.0)
    assert relative_rotation_error_deg(track.rotation, clip.rotation)[found].max() < 0.5
    assert track.blinks.tolist() == []
    assert np.ptp(track.mouth_wide) < 0.06


def test_no_face_at_all_is_refused(clip: Clip, tmp_path: Path) -> None:
    path = write_landmarks(tmp_path / "landmarks.npz", clip.points, ~clip.all_found)
    with pytest.raises(BadInput, match="no face"):
        pose.run(pose.Inputs(path), pose.Outputs(tmp_path / "track.npz"), PoseSettings())
    assert not (tmp_path / "track.npz").exists()


def test_hopeless_landmarks_are_refused_with_the_figure(clip: Clip, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = clip.points + rng.normal(0, 4.0, clip.points.shape).astype(np.float32)
    path = write_landmarks(tmp_path / "landmarks.npz", points, clip.all_found)
    with pytest.raises(BadInput, match=r"[5-9]\.\d px.*3\.0 px") as caught:
        pose.run(pose.Inputs(path), pose.Outputs(tmp_path / "track.npz"), PoseSettings())
    assert caught.value.hint


def test_frames_that_fit_no_head_are_named_by_time(clip: Clip, tmp_path: Path) -> None:
    points = clip.points.copy()
    points[50:100] += np.random.default_rng(0).normal(0, 20.0, points[50:100].shape)
    path = write_landmarks(tmp_path / "landmarks.npz", points, clip.all_found)
    with pytest.raises(BadInput, match=r"50 of 150 frames.*2\.0-4\.0 s"):
        pose.run(pose.Inputs(path), pose.Outputs(tmp_path / "track.npz"), PoseSettings())


def test_a_face_that_flickers_between_two_places_is_refused(clip: Clip, tmp_path: Path) -> None:
    points = clip.points.copy()
    points[::3, :, 0] += 120.0
    path = write_landmarks(tmp_path / "landmarks.npz", points, clip.all_found)
    with pytest.raises(BadInput):
        pose.run(pose.Inputs(path), pose.Outputs(tmp_path / "track.npz"), PoseSettings())


def real_landmarks(clip: Path, every: int, folder: Path) -> Landmarks:
    """Landmarks of every few frames of a real clip, by the bundled face mesh."""
    import cv2

    from stages.vision.face_mesh import mediapipe, silenced

    points = []
    capture = cv2.VideoCapture(os.fspath(clip))
    with silenced(), mediapipe().solutions.face_mesh.FaceMesh(refine_landmarks=True, static_image_mode=True) as mesh:
        index = 0
        while capture.grab():
            if index % every == 0:
                image = cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
                marks = mesh.process(image).multi_face_landmarks[0].landmark
                points.append([(mark.x * SIZE_PX, mark.y * SIZE_PX, mark.z * SIZE_PX) for mark in marks])
            index += 1
    found = np.ones(len(points), dtype=bool)
    write_landmarks(folder / "landmarks.npz", np.array(points, dtype=np.float32), found)
    return Landmarks.load(folder / "landmarks.npz")


def test_a_real_clip_is_fitted_within_a_pixel(german: Path, tmp_path: Path) -> None:
    landmarks = real_landmarks(german, every=10, folder=tmp_path)
    track = pose.solve_track(landmarks, PoseSettings(smoothing=0.0))
    assert track.reprojection_rms_px <= 0.8
    assert np.degrees(Rotation.from_matrix(FLIP @ track.rotation).magnitude()).max() < 25
    assert np.all((track.translation[:, 2] > 50) & (track.translation[:, 2] < 100))

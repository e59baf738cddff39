"""What eyes and mouth do, on drawn curves, on the canonical face and on real frames."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stages.vision import canonical_face
from stages.vision.face_measures import (
    FACE_OVAL,
    INNER_LIP,
    LEFT_EYE,
    LIP_GAPS,
    LIP_INDICES,
    MOUTH_CORNERS,
    OUTER_LIP,
    RIGHT_EYE,
    compare_blinks,
    eye_aspect_ratio,
    eye_openness,
    face_box,
    find_blinks,
    lift,
    measure_mouth,
    mouth_box,
    open_eye_ratio,
)
from stages.vision.reprojection import Pinhole, project

CAMERA = Pinhole(1024.0, 256.0, 256.0)
FLIP = np.diag([1.0, -1.0, -1.0])
CANONICAL = canonical_face.vertices_cm.astype(np.float64)


def poses(angles_deg: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotations and translations for (N, 3) yaw, pitch, roll."""
    rotation = FLIP @ Rotation.from_euler("yxz", angles_deg, degrees=True).as_matrix()
    return rotation, np.tile((0.5, 1.0, 60.0), (len(angles_deg), 1))


def landmarks_of(face: NDArray[np.float64], angles_deg: NDArray[np.float64]) -> NDArray[np.float32]:
    points = np.zeros((len(angles_deg), 478, 3), dtype=np.float32)
    points[:, :468, :2] = project(face, *poses(angles_deg), CAMERA)
    return points


def dip(frames: int, centres: list[int], depth: float, half_width: float) -> NDArray[np.float64]:
    """Openness 1 with a bell-shaped dip at each centre."""
    time = np.arange(frames)
    return 1.0 - depth * sum(np.exp(-(((time - centre) / half_width) ** 2)) for centre in centres)


def test_index_lists_hold_what_their_names_say() -> None:
    assert len(set(LIP_INDICES.tolist())) == 40
    assert len(set(FACE_OVAL.tolist())) == 36
    x, y, _ = CANONICAL.T
    assert (x[RIGHT_EYE] < 0).all()
    assert (x[LEFT_EYE] > 0).all()
    np.testing.assert_allclose(x[LEFT_EYE], -x[RIGHT_EYE], atol=1e-3)
    assert (y[LIP_GAPS[:, 0]] >= y[LIP_GAPS[:, 1]]).all()
    assert set(LIP_GAPS.ravel().tolist()) <= set(INNER_LIP.tolist())
    assert x[MOUTH_CORNERS[0]] == x[OUTER_LIP].min()
    assert x[MOUTH_CORNERS[1]] == x[OUTER_LIP].max()
    # Both edges run in the same direction, and the inner one lies inside.
    assert np.abs(CANONICAL[OUTER_LIP, :2] - CANONICAL[INNER_LIP, :2]).max() < 1.0


def test_a_shut_eye_has_no_height() -> None:
    face = CANONICAL.copy()
    for eye in (RIGHT_EYE, LEFT_EYE):
        face[eye[[5, 4]]] = face[eye[[1, 2]]]
    angles = np.zeros((1, 3))
    assert eye_aspect_ratio(landmarks_of(face, angles)).max() < 1e-6
    assert eye_aspect_ratio(landmarks_of(CANONICAL, angles)).min() > 0.15


def test_one_shut_eye_is_told_from_the_other() -> None:
    face = CANONICAL.copy()
    face[RIGHT_EYE[[5, 4]]] = face[RIGHT_EYE[[1, 2]]]
    right, left = eye_aspect_ratio(landmarks_of(face, np.zeros((1, 3))))[0]
    assert right < 0.01 < 0.15 < left


def test_openness_is_one_where_the_clip_is_open_and_ignores_scale() -> None:
    points = landmarks_of(CANONICAL, np.zeros((10, 3)))
    ratio = open_eye_ratio(points)
    np.testing.assert_allclose(eye_openness(points, ratio), 1.0)
    np.testing.assert_allclose(eye_openness(points * 0.25, ratio), 1.0, rtol=1e-5)
    assert eye_openness(np.zeros((2, 478, 3), dtype=np.float32), ratio).tolist() == [0.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(
    centres=st.lists(st.integers(3, 295), max_size=5, unique=True),
    depth=st.floats(0.55, 1.0),
    half_width=st.floats(1.2, 4.0),
    level=st.floats(0.3, 1.2),
    seed=st.integers(0, 1000),
)
def test_every_blink_is_found_where_it_is_deepest(
    centres: list[int], depth: float, half_width: float, level: float, seed: int
) -> None:
    centres = [c for i, c in enumerate(sorted(centres)) if i == 0 or c - sorted(centres)[i - 1] > 5 * half_width]
    noise = np.random.default_rng(seed).normal(0, 0.03, 300)
    found = find_blinks(level * (dip(300, centres, depth, half_width) + noise))
    assert len(found) == len(centres)
    assert all(abs(a - b) <= 2 for a, b in zip(found, centres, strict=True))


def test_blinks_are_the_same_within_three_frames() -> None:
    assert compare_blinks(np.array([10, 52, 90]), np.array([12, 50, 70])) == (1, 1)
    assert compare_blinks(np.array([], np.int64), np.array([12])) == (1, 0)
    assert compare_blinks(np.array([5]), np.array([], np.int64)) == (0, 1)


@pytest.mark.parametrize("noise", [0.02, 0.06, 0.1])
def test_noise_alone_holds_no_blink(noise: float) -> None:
    for seed in range(20):
        openness = 1.0 + np.random.default_rng(seed).normal(0, noise, 500)
        assert find_blinks(openness).tolist() == []


def test_slow_and_shallow_dips_are_no_blinks() -> None:
    time = np.arange(500)
    assert find_blinks(1.0 - 0.4 * np.sin(time / 60.0) ** 2).tolist() == []
    assert find_blinks(dip(300, [100, 200], 0.2, 3.0)).tolist() == []
    looking_down = np.where((time > 100) & (time < 180), 0.5, 1.0)
    assert find_blinks(looking_down).tolist() == []


def test_a_double_blink_is_two_and_a_long_one_is_one() -> None:
    openness = dip(200, [80, 90], 0.8, 2.5)
    assert find_blinks(openness).tolist() == [80, 90]
    held = np.ones(200)
    held[100:108] = 0.1
    held[100:108] += np.random.default_rng(0).normal(0, 0.03, 8)
    found = find_blinks(held)
    assert len(found) == 1
    assert 100 <= found[0] < 108


def test_a_blink_at_either_end_counts() -> None:
    openness = np.ones(100)
    openness[:3] = (0.1, 0.3, 0.7)
    openness[-3:] = (0.8, 0.4, 0.1)
    assert find_blinks(openness).tolist() == [0, 99]


def test_clips_too_short_to_tell_hold_no_blink() -> None:
    assert find_blinks(np.ones(0)).tolist() == []
    assert find_blinks(np.ones(4)).tolist() == []
    assert find_blinks(np.ones(7)).tolist() == []


def test_lifting_undoes_projecting() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(-30, 30, (6, 3))
    rotation, translation = poses(angles)
    pixels = project(CANONICAL, rotation, translation, CAMERA)
    lifted = lift(pixels, CANONICAL[:, 2], rotation, translation, CAMERA)
    np.testing.assert_allclose(lifted, np.broadcast_to(CANONICAL[:, :2], lifted.shape), atol=1e-6)


def open_mouth(gap_cm: float, wider_cm: float) -> NDArray[np.float64]:
    """The canonical face with its lower lip lowered and its mouth's corners apart."""
    face = CANONICAL.copy()
    lower = np.concatenate((OUTER_LIP[11:], INNER_LIP[11:]))
    face[lower, 1] -= gap_cm
    face[[61, 78], 0] -= wider_cm / 2
    face[[291, 308], 0] += wider_cm / 2
    return face


@pytest.mark.parametrize(("gap_cm", "wider_cm"), [(0.0, 0.0), (1.0, 0.0), (0.4, 0.8)])
def test_the_mouth_reads_the_same_however_the_head_is_turned(gap_cm: float, wider_cm: float) -> None:
    angles = np.array([[0.0, 0, 0], [25, 0, 0], [-25, 10, 5], [0, 20, -10], [15, -20, 3]])
    face = open_mouth(gap_cm, wider_cm)
    mouth = measure_mouth(landmarks_of(face, angles), *poses(angles), CAMERA, face)
    unit = np.linalg.norm(CANONICAL[33, :2] - CANONICAL[263, :2])
    still = np.mean(CANONICAL[LIP_GAPS[:, 0], 1] - CANONICAL[LIP_GAPS[:, 1], 1])
    np.testing.assert_allclose(mouth.opening, (still + gap_cm) / unit, atol=2e-3)
    width = np.linalg.norm(CANONICAL[61, :2] - CANONICAL[291, :2]) + wider_cm
    np.testing.assert_allclose(mouth.width, width / unit, atol=1e-3)
    expected = np.broadcast_to(face[LIP_INDICES, :2], mouth.shape.shape)
    np.testing.assert_allclose(mouth.shape, expected, atol=1e-3)


def test_one_frame_alone_measures_as_it_does_in_the_clip() -> None:
    angles = np.array([[0.0, 0, 0], [20, 5, 2], [-10, 10, 0]])
    points, (rotation, translation) = landmarks_of(open_mouth(0.5, 0.3), angles), poses(angles)
    whole = measure_mouth(points, rotation, translation, CAMERA, CANONICAL)
    alone = measure_mouth(points[1:2], rotation[1:2], translation[1:2], CAMERA, CANONICAL)
    assert alone.opening[0] == whole.opening[1]
    assert alone.width[0] == whole.width[1]
    np.testing.assert_array_equal(alone.shape[0], whole.shape[1])


@pytest.mark.parametrize("box_of", [mouth_box, face_box])
def test_boxes_hold_their_points_and_stay_in_the_picture(box_of: object) -> None:
    assert callable(box_of)
    for shift in (0, -200, 230, -2000, 2000):
        points = landmarks_of(CANONICAL, np.zeros((1, 3)))[0] + np.float32(shift)
        x0, y0, x1, y1 = box_of(points, 512)
        assert 0 <= x0 < x1 <= 512
        assert 0 <= y0 < y1 <= 512
        inside = points[LIP_INDICES, :2]
        inside = inside[((inside >= 0) & (inside < 512)).all(axis=1)]
        assert ((inside >= (x0, y0)) & (inside <= (x1, y1))).all()


def test_the_mouth_box_lies_in_the_face_box() -> None:
    points = landmarks_of(CANONICAL, np.zeros((1, 3)))[0]
    mouth, face = mouth_box(points, 512), face_box(points, 512)
    assert face[0] < mouth[0] < mouth[2] < face[2]
    assert face[1] < mouth[1] < mouth[3] < face[3]


def read_landmarks(clip: Path, wanted: range, size_px: int = 512) -> NDArray[np.float32]:
    """The bundled face mesh's landmarks of consecutive frames."""
    import cv2

    from stages.vision.face_mesh import mediapipe, silenced

    points = []
    capture = cv2.VideoCapture(os.fspath(clip))
    with silenced(), mediapipe().solutions.face_mesh.FaceMesh(refine_landmarks=True) as mesh:
        for index in range(wanted.stop):
            capture.grab()
            if index in wanted:
                image = cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
                marks = mesh.process(image).multi_face_landmarks[0].landmark
                points.append([(mark.x * size_px, mark.y * size_px, mark.z * size_px) for mark in marks])
    return np.array(points, dtype=np.float32)


@pytest.mark.parametrize(("wanted", "blink"), [(range(120, 170), 145), (range(415, 465), 440)])
def test_the_anchor_blinks_once_in_each_stretch(german: Path, wanted: range, blink: int) -> None:
    points = read_landmarks(german, wanted)
    found = find_blinks(eye_openness(points, open_eye_ratio(points))) + wanted.start
    assert len(found) == 1
    assert abs(found[0] - blink) <= 2


def test_frontalising_takes_the_turn_of_a_real_head_out_of_the_mouth(katie: Path) -> None:
    from stages.vision.bundle_adjustment import adjust

    points = read_landmarks(katie, range(80))
    track = adjust(points, np.ones(80, dtype=bool), 512, 2.0, 0.25, 1.0)
    face = CANONICAL + track.shape_offset_cm
    mouth = measure_mouth(points, track.rotation, track.translation, track.camera, face)
    yaw_deg = Rotation.from_matrix(FLIP @ track.rotation).as_euler("yxz", degrees=True)[:, 0]
    assert np.ptp(yaw_deg) > 15

    def lopsided(shape: NDArray[np.floating]) -> NDArray[np.float64]:
        """How much longer the mouth's left half is than its right half."""
        rows = {int(landmark): row for row, landmark in enumerate(LIP_INDICES)}
        right = np.linalg.norm(shape[:, rows[61]] - shape[:, rows[0]], axis=-1)
        left = np.linalg.norm(shape[:, rows[291]] - shape[:, rows[0]], axis=-1)
        return (left - right) / (left + right)

    def slope(values: NDArray[np.float64]) -> float:
        return abs(float(np.polyfit(yaw_deg, values, 1)[0]))

    in_picture, from_front = lopsided(points[:, LIP_INDICES, :2]), lopsided(mouth.shape)
    assert slope(from_front) < 0.4 * slope(in_picture)

"""Brows: measured whatever the head does, learnt as the face's motion, played in new speech."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from radnerf.grid import GridSpec
from radnerf.head import Condition, HeadField
from radnerf.kernels import get_backend
from radnerf.model import HeadModel
from radnerf.pose_correction import pose_correction
from radnerf.torso import TorsoModel, TorsoShape
from stages.cutout import Figure
from stages.formats import Landmarks, Track
from stages.motion import borrowed_motion, own_motion, perform
from stages.scene import Scene
from stages.tracked_moment import tracked_condition, tracked_pose
from stages.training_data import camera_of
from stages.vision import canonical_face
from stages.vision.face_measures import BROWS, LEFT_EYE, RIGHT_EYE, brow_raise_mm
from stages.vision.face_motion import face_motion
from stages.vision.reprojection import Pinhole, project
from tests.synthetic import AABB, head_clip, head_model
from tests.test_head_field import SHAPE
from tests.tiny_subject import make_track

CAMERA = Pinhole(1024.0, 256.0, 256.0)
CANONICAL = canonical_face.vertices_cm.astype(np.float64)
FRAMES = 120
NOSE_TIP, FOREHEAD = 1, 151


def raising() -> NDArray[np.float64]:
    """(FRAMES,) mm: brows that are mostly where they usually are, and go up now and then."""
    return 4.0 * np.maximum(0.0, np.sin(np.arange(FRAMES) / 6.0) - 0.4)


def poses() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A head that looks about and nods."""
    time = np.arange(FRAMES)
    angles = np.stack([12 * np.sin(time / 9), 8 * np.sin(time / 7), 4 * np.sin(time / 11)], axis=1)
    rotation = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_euler("yxz", angles, degrees=True).as_matrix()
    return rotation, np.stack([np.cos(time / 8), np.ones(FRAMES), np.full(FRAMES, 60.0)], axis=1)


def points(raised_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Landmarks of a face whose brows rise, and the forehead half as far."""
    faces = np.tile(CANONICAL, (FRAMES, 1, 1))
    faces[:, list(BROWS), 1] += 0.1 * raised_mm[:, None]
    faces[:, FOREHEAD, 1] += 0.05 * raised_mm
    seen = np.zeros((FRAMES, 478, 3), np.float32)
    for frame, (face, rotation, translation) in enumerate(zip(faces, *poses(), strict=True)):
        seen[frame, :468, :2] = project(face, rotation[None], translation[None], CAMERA)[0]
    return seen


def track() -> Track:
    """The track of those landmarks."""
    rotation, translation = poses()
    measured = brow_raise_mm(points(raising()), rotation, translation, CAMERA, CANONICAL)
    return dataclasses.replace(
        make_track(frames=FRAMES),
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        brow_mm=measured,
    )


def test_brows_are_measured_in_mm_however_the_head_is_turned() -> None:
    raised = raising()
    found = brow_raise_mm(points(raised), *poses(), CAMERA, CANONICAL)
    np.testing.assert_allclose(found, raised - np.median(raised), atol=0.1)
    assert found.max() > 2


def test_a_turning_head_raises_no_brow() -> None:
    np.testing.assert_allclose(brow_raise_mm(points(np.zeros(FRAMES)), *poses(), CAMERA, CANONICAL), 0, atol=0.02)


def test_lost_landmarks_raise_brows_no_further_than_a_face_can() -> None:
    seen = points(raising())
    seen[7] = 0
    assert abs(brow_raise_mm(seen, *poses(), CAMERA, CANONICAL)[7]) <= 15


def test_a_track_from_before_brows_were_measured_never_raises_them(tmp_path: Path) -> None:
    new, old = tmp_path / "new.npz", tmp_path / "old.npz"
    track().save(new)
    assert Track.load(new).brow_mm.max() > 2
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            if name != "brow_mm.npy":
                target.writestr(name, source.read(name))
    np.testing.assert_array_equal(Track.load(old).brow_mm, np.zeros(FRAMES))


def test_what_rises_with_the_brows_is_the_face_above_the_eyes() -> None:
    measured = track()
    landmarks = Landmarks(points=points(raising()), found=np.ones(FRAMES, bool), model="mesh", size_px=512)
    anchors, basis, rest, _ = face_motion(landmarks, measured, CAMERA, torch.zeros(FRAMES, 2), torch.arange(FRAMES))
    per_mm = basis[-1]
    torch.testing.assert_close(per_mm[list(BROWS), 1], torch.full((len(BROWS),), 0.1), rtol=0, atol=0.01)
    assert float(per_mm[FOREHEAD, 1]) == pytest.approx(0.05, abs=0.012)
    assert not per_mm[[NOSE_TIP, *LEFT_EYE, *RIGHT_EYE]].any()
    assert not per_mm[anchors[:, 1] < anchors[list(RIGHT_EYE), 1].min()].any()
    assert abs(float(rest[-1])) < 0.3


def moved_by_brows(*, brows: bool) -> tuple[HeadField, Condition]:
    """A field whose warp knows what each mm of the brows lifts, and a condition in which they are raised."""
    torch.manual_seed(0)
    field = HeadField(dataclasses.replace(SHAPE, mouth=2, anchors=468, brows=brows), AABB)
    with torch.no_grad():
        field.space.table.uniform_(-1, 1)
    basis = torch.zeros(3 + brows, 468, 2)
    basis[-1, list(BROWS), 1] = 0.1
    assert field.warp is not None
    field.warp.fit(torch.from_numpy(CANONICAL[:, :2]).float(), basis, torch.zeros(3 + brows), torch.zeros(468))
    return field, Condition(torch.zeros(1, 6), torch.zeros(1, 1), torch.zeros(1, 4), torch.full((1, 1), 3.0))


def test_raised_brows_move_what_the_field_is_asked_there_and_nowhere_else() -> None:
    field, raised = moved_by_brows(brows=True)
    still = dataclasses.replace(raised, brow=torch.zeros(1, 1))
    brow, chin = torch.from_numpy(CANONICAL[[BROWS[0]]]).float(), torch.from_numpy(CANONICAL[[152]]).float()
    lifted = brow + torch.tensor([[0.0, 0.3, 0.0]])
    torch.testing.assert_close(
        field.density(lifted, raised, None)[0], field.density(brow, still, None)[0], rtol=0.05, atol=0
    )
    assert not torch.equal(field.density(lifted, still, None)[0], field.density(brow, still, None)[0])
    assert torch.equal(field.density(chin, raised, None)[0], field.density(chin, still, None)[0])


def test_heads_that_know_no_brows_are_driven_as_before() -> None:
    field, raised = moved_by_brows(brows=False)
    still = dataclasses.replace(raised, brow=torch.zeros(1, 1))
    where = torch.from_numpy(CANONICAL).float()
    assert torch.equal(field.density(where, raised, None)[0], field.density(where, still, None)[0])


def test_a_raised_brow_is_not_learnt_as_a_nod() -> None:
    clip = head_clip()
    clip = dataclasses.replace(clip, brow=torch.sin(torch.arange(len(clip.eye)) / 3.0))
    corrections = pose_correction(clip, clip.mouth.shape[1])
    with torch.no_grad():
        corrections.shift[:, 0] = clip.brow
    assert corrections.of(clip.train).abs().max() < 1e-4


def test_new_speech_plays_the_clips_brows_along_with_its_poses() -> None:
    own = track()
    motion = own_motion(own)
    assert motion.pose(10.0).brow_mm == pytest.approx(float(own.brow_mm[10]), abs=0.3)
    halfway = (motion.pose(6.0).brow_mm + motion.pose(7.0).brow_mm) / 2
    assert motion.pose(6.5).brow_mm == pytest.approx(halfway)
    assert borrowed_motion(make_track(frames=FRAMES), own).pose(10.0).brow_mm > 1


def test_a_tracked_frame_is_rendered_with_its_own_brows() -> None:
    measured = track()
    frame = int(measured.brow_mm.argmax())
    pose = tracked_pose(measured, frame)
    assert pose.brow_mm == float(measured.brow_mm[frame])
    np.testing.assert_array_equal(pose.rotation, measured.rotation[frame])
    assert pose.clip_frame == frame
    head = head_model()
    condition = tracked_condition(head, measured, frame, *said(head))
    assert condition.brow.tolist() == [[measured.brow_mm[frame]]]
    assert condition.eye.tolist() == [[measured.eye_open[frame]]]


@pytest.fixture(scope="module")
def expressive() -> tuple[HeadModel, TorsoModel]:
    """A head that knows what its brows lift, and a torso."""
    torch.manual_seed(0)
    head = HeadModel(dataclasses.replace(head_model().shape, warp_anchors=468, warp_brows=True), AABB)
    field = head.fields[0]
    assert isinstance(field, HeadField)
    assert field.warp is not None
    with torch.no_grad():
        field.space.table.uniform_(-2, 2)
    drives = head.shape.mouth + 2
    basis = torch.zeros(drives, 468, 2)
    basis[-1, list(BROWS), 1] = 0.1
    field.warp.fit(torch.from_numpy(CANONICAL[:, :2]).float(), basis, torch.zeros(drives), torch.zeros(468))
    return head, TorsoModel(TorsoShape(GridSpec(2, 2, 2, 4, 8, 8), 16, 4, 30, 3, 16, FRAMES))


def said(head: HeadModel) -> tuple[torch.Tensor, torch.Tensor]:
    """A code and a mouth that say nothing."""
    return torch.zeros(1, head.shape.audio_code), torch.zeros(1, head.shape.mouth)


def test_brows_are_seen_in_a_frame_over_a_background(expressive: tuple[HeadModel, TorsoModel]) -> None:
    head, torso = expressive
    camera = camera_of(make_track(frames=9)).scaled(64)
    scene = Scene(
        head=head, torso=torso, kernels=get_backend("reference"), camera=camera, background=torch.zeros(64, 64, 3)
    )
    still = tracked_pose(make_track(frames=9), 0)
    pictures = [
        scene.picture(dataclasses.replace(still, brow_mm=raised), torch.eye(3), 1.0, *said(head))
        for raised in (0.0, 0.0, 5.0)
    ]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_brows_are_seen_in_a_cutout(expressive: tuple[HeadModel, TorsoModel]) -> None:
    head, torso = expressive
    still = make_track(frames=FRAMES)
    layers = []
    for raised in (0.0, 0.0, 5.0):
        moving = dataclasses.replace(still, brow_mm=np.full(FRAMES, raised, np.float32))
        performance = perform(own_motion(moving), 3, eyes=1.0)
        camera = camera_of(still).scaled(64)
        figure = Figure(head, torso, get_backend("reference"), camera, performance, torch.eye(3))
        with torch.no_grad():
            layers.append(figure.layer(0, *said(head)))
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])

"""What bent in the clip bends in new speech, along with the clip's poses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.frame_bend import NODES as BENDS
from radnerf.head import HeadField
from radnerf.head_training import HeadTrainer
from radnerf.joint_lattice import JointLattice
from radnerf.kernels import get_backend
from radnerf.model import HeadModel
from radnerf.warp import NODES, bend
from stages.checkpoint import load_checkpoint, save_checkpoint
from stages.cutout import Figure
from stages.formats import AudioFeatures
from stages.head_file import load_head, save_head
from stages.motion import borrowed_motion, own_motion, perform
from stages.scene import Scene
from stages.settings import HeadSettings
from stages.tracked_moment import tracked_condition, tracked_pose
from stages.training_data import camera_of
from stages.vision.canonical_face import vertices_cm
from tests.synthetic import AABB, FRAMES, head_clip, head_model, head_schedule, torso_model, train_frames
from tests.tiny_subject import make_track

FACE_BOX = torch.tensor([[-6.0, -7.0], [5.0, 8.0]])
HEAD_BOX = torch.tensor([[-10.3, -9.0], [4.0, 12.0]])


@pytest.fixture(scope="module")
def trained() -> HeadTrainer:
    """A training at its end whose moments are bent."""
    clip = head_clip()
    shape = dataclasses.replace(head_model().shape, warp_anchors=468, warp_brows=True, bent_frames=FRAMES)
    torch.manual_seed(0)
    model = HeadModel(shape, AABB)
    field = model.fields[0]
    assert isinstance(field, HeadField)
    assert field.warp is not None
    anchors = torch.tensor(vertices_cm[:, :2]).float()
    drives = shape.mouth + 2
    basis = 0.05 * torch.randn(drives, 1, 2).expand(-1, len(anchors), -1)
    field.warp.fit(anchors, basis, torch.zeros(drives), torch.zeros(len(anchors)))
    schedule = dataclasses.replace(head_schedule(), bend_rate=5e-3)
    trainer = HeadTrainer(model, clip, schedule, get_backend("auto"), torch.ones_like(model.mask), None, 0)
    assert trainer.bend is not None
    with torch.no_grad():
        field.space.table.uniform_(-2, 2)
        field.audio_plane.table.uniform_(-2, 2)
        trainer.average.values[:] = [value.detach().clone() for value in trainer.average.parameters]
        trainer.bend.shift[: len(train_frames()) // 2].normal_(std=0.4)
    trainer.finish()
    model.requires_grad_(requires_grad=False)
    return trainer


def said(head: HeadModel) -> tuple[Tensor, Tensor]:
    """A code and a mouth that say nothing."""
    return torch.zeros(1, head.shape.audio_code), torch.zeros(1, head.shape.mouth)


def _unbent(head: HeadModel) -> HeadModel:
    """The same head, from before bends were kept."""
    model = HeadModel(dataclasses.replace(head.shape, bent_frames=0), AABB)
    model.load_state_dict(head.state_dict() | {"bends": model.bends})
    return model.requires_grad_(requires_grad=False)


def test_a_training_frame_is_rendered_as_bent_as_it_was_trained(trained: HeadTrainer) -> None:
    assert trained.bend is not None
    track = make_track(frames=FRAMES)
    for frame in (0, 7, 30):
        condition = tracked_condition(trained.model, track, frame, *said(trained.model))
        assert condition.bend is not None
        learnt = trained.bend(torch.tensor([frame]))[0].detach()
        assert learnt.abs().max() > 0.1
        torch.testing.assert_close(condition.bend, learnt)


def test_a_frame_that_training_never_saw_bends_nothing(trained: HeadTrainer) -> None:
    track = make_track(frames=FRAMES)
    condition = tracked_condition(trained.model, track, FRAMES - 1, *said(trained.model))
    assert condition.bend is not None
    assert not condition.bend.any()


def test_a_place_between_two_moments_is_bent_in_between(trained: HeadTrainer) -> None:
    # 33 moments over 66 frames.
    places = [step * (FRAMES - 1) / 32 for step in (5, 5.25, 6)]
    first, between, last = (
        trained.model.condition(*said(trained.model), torch.ones(1), clip_frame=place).bend for place in places
    )
    assert first is not None
    assert between is not None
    assert last is not None
    torch.testing.assert_close(between, torch.lerp(first, last, 0.25), rtol=0, atol=1e-4)


def test_another_ones_poses_bring_no_bend(trained: HeadTrainer) -> None:
    track = make_track(frames=FRAMES)
    assert own_motion(track).pose(8.5).clip_frame == 8.5
    assert borrowed_motion(track, track).pose(8.5).clip_frame is None
    condition = trained.model.condition(*said(trained.model), torch.ones(1))
    assert condition.bend is not None
    assert not condition.bend.any()


@pytest.mark.parametrize("warped", [True, False])
def test_a_bent_frozen_head_renders_what_the_bent_head_renders(trained: HeadTrainer, *, warped: bool) -> None:
    model = trained.model if warped else HeadModel(dataclasses.replace(trained.model.shape, warp_anchors=0), AABB)
    if not warped:
        left_out = {name: value for name, value in trained.model.state_dict().items() if ".warp." not in name}
        model.load_state_dict(left_out)
    camera = camera_of(make_track(frames=9)).scaled(24)
    pose = tracked_pose(make_track(frames=9), 0)
    rays, kernels = camera.rays(pose.rotation, pose.translation), get_backend("reference")
    pictures = []
    for place in (None, 10.0):
        condition = model.condition(*said(model), torch.ones(1), clip_frame=place)
        with torch.no_grad():
            live = model.render(kernels, rays, condition)[-1].image
        image, _, _ = model.render_image(kernels, rays, condition)
        pictures.append((image, live))
    (still, still_live), (bent, bent_live) = pictures
    torch.testing.assert_close(still, still_live, rtol=1e-3, atol=1e-5)
    # What lies between the joint lattice's places is bilinear, the two displacements one after the other are not.
    assert (bent - bent_live).abs().mean() < 0.1 * (bent - still).abs().mean()


def test_joined_with_nothing_the_fine_lattice_stays_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    fine = torch.randn(1, *NODES, 2, generator=generator)
    # As a face's displacement has faded where its lattice ends.
    fine[:, [0, -1]] = fine[:, :, [0, -1]] = 0
    joint = JointLattice(FACE_BOX, NODES, HEAD_BOX)
    both = joint.join(torch.zeros(1, *BENDS, 2), fine)
    points = torch.rand(500, 3, generator=generator) * 14 - 7
    torch.testing.assert_close(bend(points, both[None], joint.box), bend(points, fine, FACE_BOX), rtol=0, atol=1e-4)


def test_joined_displacements_lead_where_one_after_the_other_leads() -> None:
    generator = torch.Generator().manual_seed(1)
    coarse = 0.3 * torch.randn(1, *BENDS, 2, generator=generator)
    # As smooth as a face's: neighbours half a centimetre apart differ little.
    across = torch.linspace(0, 3, NODES[0])[:, None].sin() * torch.linspace(0, 3, NODES[1]).sin()
    fine = 0.5 * across[None, ..., None].expand(-1, -1, -1, 2)
    joint = JointLattice(FACE_BOX, NODES, HEAD_BOX)
    inside = HEAD_BOX[0] + torch.rand(500, 2, generator=generator) * (HEAD_BOX[1] - HEAD_BOX[0])
    points = torch.cat([inside, torch.zeros(500, 1)], dim=1)
    stepwise = bend(bend(points, coarse, HEAD_BOX), fine, FACE_BOX)
    at_once = bend(points, joint.join(coarse, fine)[None], joint.box)
    assert (stepwise - points).abs().max() > 0.5
    assert (at_once - stepwise).abs().mean() < 0.01
    assert ((HEAD_BOX[0] >= joint.box[0]) & (HEAD_BOX[1] <= joint.box[1])).all()


def test_bends_are_seen_in_a_speech_and_in_a_cutout(trained: HeadTrainer) -> None:
    head, torso = trained.model, torso_model()
    track = make_track(frames=FRAMES)
    camera = camera_of(track).scaled(48)
    kernels = get_backend("reference")
    pose = dataclasses.replace(tracked_pose(track, 0), brow_mm=0.0)
    layers, pictures = [], []
    for model in (head, _unbent(head)):
        scene = Scene(head=model, torso=torso, kernels=kernels, camera=camera, background=torch.zeros(48, 48, 3))
        pictures.append(scene.picture(pose, torch.eye(3), 1.0, *said(head)))
        figure = Figure(model, torso, kernels, camera, perform(own_motion(track), 3, eyes=1.0), torch.eye(3))
        with torch.no_grad():
            layers.append(figure.layer(0, *said(head)))
    assert (np.asarray(pictures[0]) != np.asarray(pictures[1])).any()
    assert not torch.equal(layers[0], layers[1])


def test_bends_are_kept_on_disk(trained: HeadTrainer, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, trained.model, HeadSettings(), _silence())
    assert torch.equal(load_head(path)[0].bends, trained.model.bends)


def test_a_head_from_before_bends_were_kept_is_read_and_bends_nothing(trained: HeadTrainer, tmp_path: Path) -> None:
    older, path = _unbent(trained.model), tmp_path / "older.safetensors"
    save_head(path, older, HeadSettings(), _silence())
    header, tensors = load_checkpoint(path, "head")
    del tensors["bends"], header["shape"]["bent_frames"]
    save_checkpoint(path, "head", header, tensors)
    read, _ = load_head(path)
    assert tracked_condition(read, make_track(frames=9), 3, *said(read)).bend is None


def _silence() -> AudioFeatures:
    return AudioFeatures(np.zeros((4, 8), np.float32), np.zeros(4, np.float32), "logmel", "")

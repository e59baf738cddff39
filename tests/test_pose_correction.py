"""Corrections of the training frames' poses."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import torch
from torch import Tensor

from radnerf.head_training import HeadTrainer
from radnerf.kernels import get_backend
from radnerf.pose_correction import PoseCorrection
from tests.synthetic import head_clip, head_model, head_schedule, train_frames

STEPS = 300


def test_no_correction_leaves_poses_as_they_are() -> None:
    clip = head_clip()
    frames = torch.tensor([3, 9])
    corrections = PoseCorrection(clip.train, clip.mouth)
    rotation, translation, penalty = corrections(frames, clip.rotation[frames], clip.translation[frames])
    torch.testing.assert_close(rotation, clip.rotation[frames])
    torch.testing.assert_close(translation, clip.translation[frames])
    assert penalty.item() == 0


def test_what_goes_along_with_the_mouth_is_no_correction() -> None:
    clip = head_clip()
    corrections = PoseCorrection(clip.train, clip.mouth)
    noise = torch.randn(len(clip.mouth), 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        corrections.shift.copy_(clip.mouth[:, :1] * torch.arange(1.0, 7) + 3.0)
        assert corrections.of(clip.train).abs().max() < 1e-4
        corrections.shift.add_(noise)
    left = corrections.of(clip.train)
    assert (left.T @ clip.mouth[clip.train]).abs().max() < 1e-3
    assert left.square().mean() > 0.8 * noise[clip.train].square().mean()


def test_drives_that_say_the_same_or_nothing_count_once() -> None:
    clip = head_clip()
    same = torch.cat([clip.mouth, clip.mouth, torch.ones(len(clip.mouth), 2)], dim=1)
    assert PoseCorrection(clip.train, same).basis.shape == PoseCorrection(clip.train, clip.mouth).basis.shape
    assert PoseCorrection(clip.train, clip.mouth[:, :0]).basis.shape[1] == 1


def test_corrections_turn_and_move_and_cancel_out_over_the_training_frames() -> None:
    clip = head_clip()
    corrections = PoseCorrection(clip.train, clip.mouth)
    with torch.no_grad():
        corrections.shift.normal_(std=0.01, generator=torch.Generator().manual_seed(0)).add_(0.02)
    rotation, translation, penalty = corrections(clip.train, clip.rotation[clip.train], clip.translation[clip.train])
    torch.testing.assert_close(
        rotation @ rotation.transpose(1, 2), torch.eye(3).expand(len(rotation), 3, 3), atol=1e-5, rtol=0
    )
    turned = (clip.rotation[clip.train].transpose(1, 2) @ rotation).diagonal(dim1=1, dim2=2).sum(1)
    angles = torch.acos(((turned - 1) / 2).clamp(-1, 1))
    torch.testing.assert_close(angles, corrections.of(clip.train)[:, :3].norm(dim=1), atol=1e-3, rtol=0)
    torch.testing.assert_close((translation - clip.translation[clip.train]).mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    assert penalty.item() > 0


@lru_cache(maxsize=2)
def _after_wrong_poses(pose_rate: float) -> tuple[float, float, HeadTrainer]:
    """Left-over misplacement across and down, cm, the one at the start, and the training."""
    clip, frames = head_clip(), train_frames()
    wrong = torch.zeros_like(clip.translation)
    wrong[frames, :2] = 0.8 * torch.randn(len(frames), 2, generator=torch.Generator().manual_seed(5))
    wrong[frames] -= wrong[frames].mean(0)
    misplaced = dataclasses.replace(clip, translation=clip.translation + wrong)
    model = head_model()
    schedule = dataclasses.replace(head_schedule(STEPS), rays=512, pose_rate=pose_rate)
    hull = torch.ones_like(model.mask)
    trainer = HeadTrainer(model, misplaced, schedule, get_backend("auto"), hull, None, 0)
    for _ in range(STEPS):
        trainer.step()
    found = _misplacement(trainer, clip.translation[frames])
    return found, float(wrong[frames, :2].square().mean().sqrt()), trainer


@torch.no_grad()
def _misplacement(trainer: HeadTrainer, truth: Tensor) -> float:
    """How far heads are from where they should be, cm."""
    _, translation, _ = trainer._poses(train_frames())
    left = (translation - truth)[:, :2]
    return float((left - left.mean(0)).square().mean().sqrt())


def test_misplaced_heads_are_brought_back() -> None:
    left, before, _ = _after_wrong_poses(2e-3)
    assert left < 0.75 * before


def test_without_a_rate_poses_stay_as_measured() -> None:
    left, before, trainer = _after_wrong_poses(0.0)
    assert trainer.corrections is None
    assert abs(left - before) < 1e-5

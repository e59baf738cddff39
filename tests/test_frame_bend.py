"""What moves in single training frames and nothing measured explains."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from radnerf.frame_bend import NODES, FrameBend
from radnerf.head_training import HeadTrainer
from radnerf.kernels import get_backend
from tests.synthetic import head_clip, head_model, head_schedule, train_frames

STEPS = 300


def bent(train: Tensor, drives: Tensor, seed: int = 0) -> FrameBend:
    """Displacements of about 1 cm everywhere, which know nothing of the drives."""
    bend = FrameBend(train, drives)
    with torch.no_grad():
        bend.shift.normal_(generator=torch.Generator().manual_seed(seed))
    return bend


def test_nothing_bends_at_first() -> None:
    clip = head_clip()
    lattice, penalty = FrameBend(clip.train, clip.drives(2))(torch.tensor([3, 9]))
    assert lattice.shape == (2, *NODES, 2)
    assert not lattice.any()
    assert penalty.item() == 0


def test_bends_cancel_out_and_do_not_go_along_with_the_face() -> None:
    train, drives = torch.arange(5, 170), torch.sin(torch.arange(200.0)[:, None] / torch.tensor([3.0, 11.0]))
    bend = bent(train, drives)
    with torch.no_grad():
        left = bend(train)[0].flatten(1)
        assert left.std() > 0.4
        torch.testing.assert_close(left.mean(0), torch.zeros(left.shape[1]), rtol=0, atol=1e-4)
        assert (left.T @ drives[train] / len(train)).abs().max() < 1e-4


def test_what_the_mouth_does_cannot_be_learnt_as_a_bend() -> None:
    train, drives = torch.arange(200), torch.sin(torch.arange(200.0)[:, None] / 20)
    bend = FrameBend(train, drives)
    with torch.no_grad():
        bend.shift.copy_(drives[::2, :, None, None].expand(-1, *NODES, 2) + 3.0)
        assert bend(train)[0].square().mean().sqrt() < 0.03 * bend.shift.square().mean().sqrt()


def test_between_two_moments_a_frame_bends_as_far_as_it_is_on_the_way() -> None:
    bend = bent(torch.arange(401), torch.zeros(401, 1))
    with torch.no_grad():
        a, middle, b = bend(torch.tensor([200, 201, 202]))[0]
    # 201 moments over 401 frames: each even frame is one.
    torch.testing.assert_close(middle, (a + b) / 2, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("frames", "moments"), [(2, 2), (3, 2), (200, 100), (7500, 1000)])
def test_a_long_clip_takes_no_more_memory(frames: int, moments: int) -> None:
    bend = bent(torch.arange(frames), torch.randn(frames, 3))
    assert len(bend.shift) == moments
    lattice, penalty = bend(torch.tensor([0, frames - 1]))
    assert torch.isfinite(lattice).all()
    penalty.backward()
    assert torch.isfinite(bend.shift.grad).all()


def test_a_rough_bend_is_penalised_more_than_a_smooth_one() -> None:
    bend = FrameBend(torch.arange(100), torch.zeros(100, 1))
    rough = (-1.0) ** torch.arange(NODES[0])[:, None, None]
    penalties = []
    for shape in (rough, torch.ones(1, 1, 1)):
        with torch.no_grad():
            bend.shift.copy_(torch.sin(torch.arange(50.0))[:, None, None, None] * shape)
            penalties.append(bend(torch.arange(100))[1].item())
    assert penalties[0] > 5 * penalties[1] > 0


@lru_cache(maxsize=2)
def _after_swaying(bend_rate: float) -> tuple[float, HeadTrainer]:
    """PSNR of the last training steps with a head that sways where poses stand still, dB, and the training."""
    clip = head_clip()
    sway = 0.8 * torch.sin(torch.arange(len(clip.eye)) / 2.3)
    poses = clip.translation.clone()
    poses[:, 0] += sway
    model = head_model()
    schedule = dataclasses.replace(head_schedule(STEPS), rays=512, bend_rate=bend_rate)
    swaying = dataclasses.replace(clip, translation=poses)
    trainer = HeadTrainer(model, swaying, schedule, get_backend("auto"), torch.ones_like(model.mask), None, 0)
    errors = [float(trainer.step().figures[1]) for _ in range(STEPS)]
    return -10 * math.log10(sum(errors[-50:]) / 50), trainer


def test_a_head_that_sways_is_learnt_sharper_when_frames_may_bend() -> None:
    still, trainer = _after_swaying(0.0)
    assert trainer.bend is None
    free, trainer = _after_swaying(0.02)
    assert trainer.bend is not None
    assert free > still + 0.5
    learnt = trainer.bend(train_frames())[0].detach()[:, :, :, 0].mean((1, 2))
    sway = torch.sin(train_frames() / 2.3)
    assert torch.corrcoef(torch.stack([learnt, sway]))[0, 1].abs() > 0.5

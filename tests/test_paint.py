"""Finished frames: the fused torso and blend against their parts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from radnerf.camera import Camera
from radnerf.grid import GridSpec
from radnerf.kernels import get_backend
from radnerf.kernels.protocol import Painter
from radnerf.portrait import Pose, freeze_torso, paint_portrait, put_over
from radnerf.torso import TorsoModel, TorsoShape
from tests.synthetic import head_model

pytest.importorskip("numba")

POSE = Pose(torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor([0.5, 1.0, 60.0]), 2)


def make_torso(hidden: int = 32, features: int = 4, seed: int = 3) -> TorsoModel:
    """A torso with much to see."""
    torch.manual_seed(seed)
    shape = TorsoShape(GridSpec(2, 4, features, 4, 40, 8), hidden, 8, 5, 3, 16, 6)
    torso = TorsoModel(shape)
    with torch.no_grad():
        torso.plane.table.copy_(torch.randn_like(torso.plane.table))
        torso.sway.copy_(0.02 * torch.randn_like(torso.sway))
        torso.mask.copy_(torch.rand(16, 16) < 0.6)
    return torso


def camera(width_px: int, height_px: int) -> Camera:
    return Camera(2.0 * width_px, width_px / 2, height_px / 2, width_px, height_px)


def by_parts(seen: Tensor, torso: TorsoModel, view: Camera, background: Tensor) -> Tensor:
    layer = torso.render(view, POSE.rotation, POSE.translation, POSE.clip_frame)
    head = seen[:, :4].clamp(0, 1).reshape(view.height_px, view.width_px, 4)
    return (put_over(head, put_over(layer, background)).clamp(0, 1) * 255).round().to(torch.uint8)


def some_head(pixels: int) -> Tensor:
    """A head layer in patches."""
    seen = torch.rand(pixels, 5)
    seen[:, :3] *= seen[:, 3:4]
    seen[torch.rand(pixels) < 0.5] = 0
    return seen


@pytest.mark.parametrize(("hidden", "features"), [(16, 2), (32, 4), (64, 4)])
@pytest.mark.parametrize("size", [(48, 48), (37, 21), (65, 65)])
def test_painting_is_torso_and_blend_to_a_level(hidden: int, features: int, size: tuple[int, int]) -> None:
    torso, view = make_torso(hidden, features), camera(*size)
    background, seen = torch.rand(size[1], size[0], 3), some_head(size[0] * size[1])
    kernels = get_backend("cpu")
    assert isinstance(kernels, Painter)
    painted = kernels.paint(seen, freeze_torso(torso, view, POSE), background)
    wanted = by_parts(seen, torso, view, background)
    apart = (painted.int() - wanted.int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 0.01
    assert wanted.float().std() > 30


def test_without_a_torso_the_background_shows_through() -> None:
    torso, view = make_torso(), camera(40, 40)
    torso.mask.zero_()
    background = torch.rand(40, 40, 3)
    kernels = get_backend("cpu")
    assert isinstance(kernels, Painter)
    painted = kernels.paint(torch.zeros(1600, 5), freeze_torso(torso, view, POSE), background)
    assert torch.equal(painted, (background * 255).round().to(torch.uint8))


def test_both_ways_paint_the_same_portrait() -> None:
    head, torso, view = head_model(), make_torso(), camera(32, 32)
    features = torch.randn(60, head.shape.features)
    condition = head.condition(*head.hear(features, torch.tensor([9])), torch.ones(1))
    turned = dataclasses.replace(POSE, rotation=POSE.rotation @ torch.linalg.matrix_exp(torch.zeros(3, 3)))
    background = torch.rand(32, 32, 3)
    pictures = [
        paint_portrait(head, torso, get_backend(name), view, turned, POSE, condition, background)
        for name in ("cpu", "reference")
    ]
    assert (pictures[0].int() - pictures[1].int()).abs().max() <= 1

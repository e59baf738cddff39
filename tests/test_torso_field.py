"""The torso's layer: it follows the pose, keeps its range and its mask, and is the same at any size."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from radnerf.camera import Camera, yaw_pitch_rotation
from radnerf.grid import GridSpec
from radnerf.kernels import get_backend
from radnerf.portrait import Pose, put_over, render_head, render_portrait
from radnerf.torso import TorsoModel, TorsoShape
from radnerf.torso_training import torso_mask
from tests.synthetic import head_model

CAMERA = Camera(64.0, 16.0, 16.0, 32, 32)
FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
SHIFT = torch.tensor([0.0, 0.0, 60.0])


def _model(seed: int = 0) -> TorsoModel:
    """A torso whose grid says something, as after training."""
    torch.manual_seed(seed)
    model = TorsoModel(TorsoShape(GridSpec(2, 4, 2, 4, 32, 10), 16, 4, 9, 3, 8, 9))
    with torch.no_grad():
        model.plane.table.uniform_(-2, 2)
    return model


@torch.no_grad()
def _codes(model: TorsoModel, camera: Camera, rotation: Tensor, translation: Tensor) -> Tensor:
    return model.pose_code(camera, rotation, translation)


def test_the_pose_code_moves_with_the_pose_and_not_with_the_size() -> None:
    model = _model()
    turned = FACING @ yaw_pitch_rotation(5, 0)
    rotation, translation = torch.stack([FACING, turned, FACING]), torch.stack([SHIFT, SHIFT, SHIFT + 1])
    codes = _codes(model, CAMERA, rotation, translation)
    assert codes.shape == (3, 2 * 3 * 7)
    assert (codes[0] - codes[1]).abs().max() > 0.01
    assert (codes[0] - codes[2]).abs().max() > 0.01
    alone = torch.cat([_codes(model, CAMERA, rotation[i : i + 1], translation[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(codes, alone)
    torch.testing.assert_close(codes, _codes(model, CAMERA.scaled(200), rotation, translation), rtol=1e-4, atol=1e-4)


def test_the_anchors_learn() -> None:
    model = _model()
    pose = model.pose_code(CAMERA, FACING[None], SHIFT[None])
    rgb, alpha = model(torch.rand(40, 2), pose, model.code(None, 1), None)
    (rgb.sum() + alpha.sum()).backward()
    for value in model.parameters():
        assert value.grad is not None
        assert bool(torch.isfinite(value.grad).all())
    assert model.anchors.grad is not None
    assert model.anchors.grad.abs().max() > 0


def test_the_layer_follows_the_pose() -> None:
    model = _model()
    layer = model.render(CAMERA, FACING, SHIFT)
    moved = model.render(CAMERA, FACING, SHIFT + torch.tensor([2.0, 0.0, 0.0]))
    assert (layer - moved).abs().max() > 1e-3


def test_the_sway_of_a_place_between_frames_lies_between() -> None:
    model = _model()
    model.sway.copy_(torch.linspace(0, 0.1, 9)[:, None, None, None].expand_as(model.sway))
    torch.testing.assert_close(model.sway_at(2.5), (model.sway[2] + model.sway[3]) / 2)
    assert torch.equal(model.sway_at(8), model.sway[8])
    assert torch.equal(model.sway_at(8.0), model.sway[8])
    torch.testing.assert_close(model.sway_at(None), model.sway.mean(0))
    layers = [model.render(CAMERA, FACING, SHIFT, place) for place in (2, 2.5, 3, None)]
    assert all((layers[1] - layer).abs().max() > 1e-3 for layer in (layers[0], layers[2], layers[3]))


@pytest.mark.parametrize("distance_cm", [1.0, 60.0, 1e4])
def test_the_layer_is_premultiplied_and_in_range(distance_cm: float) -> None:
    layer = _model().render(CAMERA, FACING, torch.tensor([0.0, 0.0, distance_cm]))
    assert layer.shape == (32, 32, 4)
    assert bool(torch.isfinite(layer).all())
    assert layer.min() >= 0
    assert layer.max() <= 1
    assert bool((layer[..., :3] <= layer[..., 3:]).all())


def test_nothing_is_rendered_outside_the_mask() -> None:
    model = _model()
    model.mask.fill_(value=False)
    assert model.render(CAMERA, FACING, SHIFT).abs().max() == 0
    model.mask[6, 1] = True  # row, column: of 4 x 4 pixels
    layer = model.render(CAMERA, FACING, SHIFT)
    assert bool((layer[24:28, 4:8, 3] > 0).all())
    layer[24:28, 4:8] = 0
    assert layer.abs().max() == 0


def test_a_layer_is_the_same_at_another_size() -> None:
    model = _model()
    with torch.no_grad():
        # Finer levels hold what a small picture cannot show.
        last = model.plane.spec.level_layout()[2].offset
        model.plane.table[last:] = 0
    small = model.render(CAMERA, FACING, SHIFT)
    large = model.render(CAMERA.scaled(96), FACING, SHIFT)
    # Pixel centres of the small picture are centres of every third pixel of the large one.
    torch.testing.assert_close(large[1::3, 1::3], small, rtol=1e-3, atol=1e-4)
    shrunk = functional.avg_pool2d(large.permute(2, 0, 1), 3).permute(1, 2, 0)
    assert (shrunk - small).abs().mean() < 0.01


def test_the_torsos_mask_covers_every_frame_and_a_margin() -> None:
    torso = torch.zeros(3, 64, 64, 4, dtype=torch.uint8)
    torso[0, 40:48, 8:16, 3] = 255
    torso[1, 16:20, 40:44, 3] = 200
    torso[2, :8, :8, 3] = 255
    mask = torso_mask(torso, torch.tensor([0, 1]), 16)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[8:14, 0:6] = True
    expected[2:7, 8:13] = True
    assert torch.equal(mask, expected)
    assert torso_mask(torso, torch.tensor([0]), 128).shape == (128, 128)


def test_a_new_frame_takes_the_mean_code() -> None:
    model = _model()
    torch.testing.assert_close(model.code(None, 2), model.appearance.mean(0).expand(2, -1))
    assert torch.equal(model.code(torch.tensor([3, 0]), 2), model.appearance[[3, 0]])


def test_more_anchors_than_first_places_are_all_different() -> None:
    torch.manual_seed(0)
    shape = dataclasses.replace(_model().shape, anchors=8)
    anchors = TorsoModel(shape).anchors.detach()
    assert anchors.shape == (8, 3)
    assert torch.pdist(anchors).min() > 0


def test_layers_are_put_over_one_another() -> None:
    layer = torch.tensor([0.2, 0.1, 0.0, 0.5]).expand(1, 1, 4)
    behind = torch.tensor([1.0, 0.0, 0.5]).expand(1, 1, 3)
    torch.testing.assert_close(put_over(layer, behind)[0, 0], torch.tensor([0.7, 0.1, 0.25]))
    assert torch.equal(put_over(torch.zeros(1, 1, 4), behind), behind)


def test_a_portrait_is_head_over_torso_over_background() -> None:
    head, torso, kernels = head_model(), _model(), get_backend("reference")
    head.use_backend("reference")
    with torch.no_grad():
        head.fields[0].space.table.uniform_(-3, 3)
        code, mouth = head.hear(torch.randn(40, head.shape.features), torch.tensor([3]))
        condition = head.condition(code, mouth, torch.ones(1))
    pose, background = Pose(FACING, SHIFT), torch.rand(32, 32, 3)
    picture = render_portrait(head, torso, kernels, CAMERA, pose, condition, background)
    front, middle = render_head(head, kernels, CAMERA, pose, condition), torso.render(CAMERA, FACING, SHIFT)
    assert front[..., 3].max() > 0.05
    behind = middle[..., :3] + (1 - middle[..., 3:]) * background
    torch.testing.assert_close(picture, front[..., :3] + (1 - front[..., 3:]) * behind)
    assert 0 <= picture.min() <= picture.max() <= 1

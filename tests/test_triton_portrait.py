"""A whole frame by fused kernels against the portrait that the reference makes, and frames fetched late."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radnerf.camera import Camera
from radnerf.gpu_portrait import BUFFERS, PortraitPainter, painter_for
from radnerf.grid import GridSpec
from radnerf.head import Condition
from radnerf.kernels import get_backend
from radnerf.model import HeadModel
from radnerf.portrait import Pose, render_portrait
from radnerf.torso import TorsoModel, TorsoShape
from tests.synthetic import head_model
from tests.triton_harness import DEVICE, HALF, SINGLE

CAMERA = Camera(2.0 * 11, 5.5, 5.0, 11, 10)
Scene = tuple[HeadModel, TorsoModel, Tensor]


def _scene() -> Scene:
    """A head that says something, a torso with a hole in its mask, a background."""
    head = head_model()
    torch.manual_seed(1)
    torso = TorsoModel(TorsoShape(GridSpec(2, 3, 2, 4, 20, 7), 16, 4, 5, 3, 8, 4))
    with torch.no_grad():
        head.fields[0].space.table.uniform_(-2, 2)
        torso.plane.table.uniform_(-2, 2)
        torso.sway.uniform_(-0.05, 0.05)
        torso.mask[:4, :4] = False
    return head, torso, torch.rand(10, 11, 3)


def _pose(turn: float, frame: int | None) -> Pose:
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    return Pose(rotation, torch.tensor([turn, 0.0, 60.0]), frame)


def _condition(head: HeadModel, seed: int) -> Condition:
    features = torch.randn(60, head.shape.features, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return head.condition(*head.hear(features, torch.tensor([9])), torch.tensor([0.7]))


def _wanted(scene: Scene, pose: Pose, seed: int) -> Tensor:
    head, torso, background = scene
    kernels = get_backend("reference")
    seen = render_portrait(head, torso, kernels, CAMERA, pose, _condition(head, seed), background)
    return (seen.clamp(0, 1) * 255).round()


def test_a_painted_frame_is_the_portrait_and_later_ones_follow_their_inputs() -> None:
    scene = _scene()
    jobs = [(_pose(0.0, 2), 0), (_pose(3.0, None), 1)]
    wanted = [_wanted(scene, *job) for job in jobs]
    head, torso, background = scene
    head, torso = head.to(DEVICE), torso.to(DEVICE)
    painter = PortraitPainter(head, torso, SINGLE, CAMERA, background)
    # Both are begun before the first one is fetched.
    fetches = [painter.paint(pose, pose, _condition(head, seed)) for pose, seed in jobs]
    pictures = [torch.from_numpy(fetch()).float() for fetch in fetches]
    for picture, want in zip(pictures, wanted, strict=True):
        assert float((picture - want).abs().max()) <= 1
        assert float((picture != want).float().mean()) < 0.02
    assert float((pictures[0] - pictures[1]).abs().max()) > 20


def test_half_precision_paints_within_two_levels() -> None:
    scene = _scene()
    want = _wanted(scene, _pose(1.0, 1), 2)
    head, torso, background = scene
    painter = PortraitPainter(head.to(DEVICE), torso.to(DEVICE), HALF, CAMERA, background)
    picture = torch.from_numpy(painter.paint(_pose(1.0, 1), _pose(1.0, 1), _condition(head, 2))())
    assert float((picture - want).abs().max()) <= 2


def test_buffers_come_back_when_a_frame_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    head, torso, background = _scene()
    painter = PortraitPainter(head.to(DEVICE), torso.to(DEVICE), SINGLE, CAMERA, background)
    picture = torch.zeros(10, 11, 3, dtype=torch.uint8, device=DEVICE)
    monkeypatch.setattr(painter, "_recorded", lambda *_: lambda: picture)
    for number in range(BUFFERS + 3):
        picture.fill_(number)
        fetch = painter.paint(_pose(0.0, 0), _pose(0.0, 0), _condition(head, 0))
        assert int(fetch()[0, 0, 0]) == number


def test_there_is_a_painter_only_for_fused_kernels_on_a_gpu() -> None:
    head, torso, background = _scene()
    assert painter_for(head, torso, get_backend("reference"), CAMERA, background) is None
    assert painter_for(head, torso, SINGLE, CAMERA, background) is None

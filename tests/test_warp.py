"""The face's measured motion, taken away."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.warp import FaceWarp, bend, fit_basis


def grid_of_landmarks() -> Tensor:
    """Landmarks 1 cm apart over a face."""
    axis = torch.arange(-6.0, 7.0)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)


def falling_jaw(anchors: Tensor) -> Tensor:
    """One driving number lets everything below y = 0 fall, the further down the more."""
    basis = torch.zeros(1, len(anchors), 2)
    basis[0, :, 1] = anchors[:, 1].clamp(max=0) / 6
    return basis


def make_warp() -> FaceWarp:
    anchors = grid_of_landmarks()
    warp = FaceWarp(len(anchors), 1)
    warp.fit(anchors, falling_jaw(anchors), torch.tensor([0.5]), torch.zeros(len(anchors)))
    return warp


def seen_at_rest(warp: FaceWarp, points: Tensor, drive: float) -> Tensor:
    return bend(points, warp.lattice(torch.tensor([[drive]])), warp.box)


def test_a_face_at_rest_is_not_moved() -> None:
    points = torch.rand(50, 3) * 10 - 5
    assert torch.equal(seen_at_rest(make_warp(), points, 0.5), points)


def test_a_moved_landmark_is_found_at_its_place_at_rest() -> None:
    warp = make_warp()
    anchors = warp.anchors
    moved = anchors + falling_jaw(anchors)[0] * 0.8
    points = torch.cat([moved, torch.full((len(moved), 1), 3.0)], dim=1)
    found = seen_at_rest(warp, points, 1.3)
    inner = (anchors.abs() < 5.5).all(1)
    torch.testing.assert_close(found[inner, :2], anchors[inner], atol=0.06, rtol=0)
    assert torch.equal(found[:, 2], points[:, 2])
    assert (moved - anchors)[inner].norm(dim=1).max() > 0.5


def lids() -> tuple[Tensor, Tensor, Tensor]:
    """Landmarks and motion of an eye 1.2 cm high whose upper lid comes down by the driving number; and their sides."""
    along = torch.arange(-1.5, 1.6, 0.5)
    rows = torch.tensor([-1.5, 0.0, 1.2, 3.0])
    anchors = torch.cartesian_prod(along, rows)
    basis = torch.zeros(1, len(anchors), 2)
    basis[0, anchors[:, 1] == 1.2, 1] = -1.2
    side = (anchors[:, 1] == 1.2).float() - (anchors[:, 1] == 0.0).float()
    return anchors, basis, side


def share_of_the_eye_that_is_seen(side: Tensor, drive: float) -> float:
    """Of a line down the middle of the eye."""
    anchors, basis, _ = lids()
    warp = FaceWarp(len(anchors), 1)
    warp.fit(anchors, basis, torch.zeros(1), side)
    line = torch.stack([torch.zeros(200), torch.linspace(-0.6, 1.4, 200), torch.zeros(200)], dim=1)
    found = seen_at_rest(warp, line, drive)[:, 1]
    return float(((found > 0.05) & (found < 1.15)).float().mean() * 2.0 / 1.1)


def test_lids_that_meet_hide_the_eye() -> None:
    side = lids()[2]
    assert share_of_the_eye_that_is_seen(side, 0.0) > 0.95
    assert share_of_the_eye_that_is_seen(side, 1.0) < 0.3
    assert share_of_the_eye_that_is_seen(torch.zeros_like(side), 1.0) > 0.5


def test_far_from_the_face_nothing_moves() -> None:
    points = torch.tensor([[0.0, -9.9, 0.0], [0.0, -30.0, 0.0], [30.0, 0.0, 0.0], [9.9, -9.9, 0.0]])
    found = seen_at_rest(make_warp(), points, 1.2)
    torch.testing.assert_close(found, points, atol=0.02, rtol=0)


def test_each_point_takes_its_own_frames_lattice() -> None:
    warp = make_warp()
    lattice = warp.lattice(torch.tensor([[0.5], [1.5]]))
    points = torch.tensor([[0.0, -4.0, 1.0], [0.0, -4.0, 1.0]])
    found = bend(points, lattice, warp.box, torch.tensor([0, 1]))
    assert torch.equal(found[0], points[0])
    torch.testing.assert_close(found[1:], bend(points[1:], lattice[1:], warp.box))
    assert found[1, 1] > -3.8


def test_interpolation_is_exact_on_a_linear_displacement() -> None:
    axes = [torch.linspace(-1.0, 2.0, 5), torch.linspace(0.0, 3.0, 7)]
    x, y = torch.meshgrid(*axes, indexing="ij")
    lattice = torch.stack([0.3 * x + 0.1 * y, 0.2 - 0.4 * x], dim=-1)[None]
    points = torch.rand(100, 3) * 3 - torch.tensor([1.0, 0.0, 0.0])
    found = bend(points, lattice, torch.tensor([[-1.0, 0.0], [2.0, 3.0]]))
    x, y = points[:, 0], points[:, 1]
    wanted = torch.stack([x + 0.3 * x + 0.1 * y, y + 0.2 - 0.4 * x, points[:, 2]], dim=1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_basis_is_found_where_frames_tell_it_and_expected_where_not() -> None:
    generator = torch.Generator().manual_seed(0)
    true, prior = torch.randn(2, 5, 2, generator=generator), torch.randn(2, 5, 2, generator=generator)
    drive = torch.randn(400, 2, generator=generator)
    drive[:, 1] = 0  # never seen
    found = fit_basis(torch.einsum("fk,kvc->fvc", drive, true), drive, prior, torch.ones(2))
    torch.testing.assert_close(found[0], true[0], atol=0.02, rtol=0)
    torch.testing.assert_close(found[1], prior[1])

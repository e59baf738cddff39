"""The displacement that tells how a body sways."""

from __future__ import annotations

import torch

from radnerf.sway import as_powers, displacement, influence


def test_the_influence_of_all_control_points_adds_up_to_one() -> None:
    places = torch.rand(200, 2)
    torch.testing.assert_close(influence(places).sum(-1), torch.ones(200))
    assert influence(places).min() >= 0


def test_equal_control_points_shift_the_whole_picture() -> None:
    shift = torch.tensor([0.03, -0.01])
    moved = displacement(shift.expand(3, 3, 2), torch.rand(50, 2))
    torch.testing.assert_close(moved, shift.expand(50, 2))


def test_corners_move_as_their_own_control_points() -> None:
    control = torch.randn(4, 3, 3, 2)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    moved = displacement(control, corners.expand(4, 4, 2))
    torch.testing.assert_close(moved, control[:, ::2, ::2].reshape(4, 4, 2))


def test_the_polynomial_is_the_displacement() -> None:
    control, places = torch.randn(3, 3, 2, dtype=torch.float64), torch.rand(100, 2, dtype=torch.float64)
    powers = as_powers(control)
    x, y = places[:, :1], places[:, 1:]
    by_powers = sum(powers[j, i] * y**j * x**i for j in range(3) for i in range(3))
    torch.testing.assert_close(displacement(control, places), by_powers)

"""Which cells were ever seen."""

from __future__ import annotations

import torch

from radnerf.visibility import VisibilityGrid

AABB = torch.tensor([[-2.0, 0.0, 10.0], [2.0, 8.0, 12.0]])


def _grid(start: float = 0.0) -> VisibilityGrid:
    return VisibilityGrid(AABB, 4, start)


def test_a_cell_keeps_the_greatest_weight_seen_in_it() -> None:
    grid = _grid()
    points = torch.tensor([[-1.5, 1.0, 10.1], [-1.2, 1.9, 10.4], [1.5, 7.0, 11.9]])
    grid.observe(points, torch.tensor([0.2, 0.7, 0.4]))
    assert grid.weight[0, 0, 0] == 0.7
    assert grid.weight[3, 3, 3] == 0.4
    assert int((grid.weight > 0).sum()) == 2
    grid.observe(points, torch.tensor([0.1, 0.3, 0.5]))
    assert grid.weight[0, 0, 0] == 0.7
    assert grid.weight[3, 3, 3] == 0.5


def test_axes_are_indexed_x_y_z() -> None:
    grid = _grid()
    grid.observe(torch.tensor([[-0.5, 7.9, 10.1]]), torch.tensor([1.0]))
    assert grid.weight[1, 3, 0] == 1


def test_points_on_the_boxs_surface_belong_to_its_outer_cells() -> None:
    grid = _grid()
    grid.observe(AABB, torch.tensor([0.5, 0.6]))
    assert grid.weight[0, 0, 0] == 0.5
    assert grid.weight[3, 3, 3] == torch.tensor(0.6)


def test_what_is_not_seen_again_is_forgotten() -> None:
    grid = _grid(start=1.0)
    assert bool(grid.mask(0.02).all())
    steps = 0
    while bool(grid.mask(0.02).any()):
        grid.fade(0.7)
        steps += 1
    assert steps == 11
    grid.observe(torch.tensor([[1.9, 0.1, 11.9]]), torch.tensor([0.9]))
    assert grid.mask(0.02)[3, 0, 3]


def test_the_mask_reaches_one_cell_beyond_what_was_seen() -> None:
    grid = VisibilityGrid(AABB, 8, 0.0)
    grid.weight[4, 2, 0] = 0.5
    mask = grid.mask(0.1)
    expected = torch.zeros(8, 8, 8, dtype=torch.bool)
    expected[3:6, 1:4, 0:2] = True
    assert torch.equal(mask, expected)
    assert not bool(grid.mask(0.5).any())


def test_no_samples_change_nothing() -> None:
    grid = _grid(start=0.3)
    grid.observe(torch.zeros(0, 3), torch.zeros(0))
    assert torch.equal(grid.weight, torch.full((4, 4, 4), 0.3))


def test_a_state_resumes_exactly() -> None:
    grid, other = _grid(), _grid(start=1.0)
    grid.observe(torch.tensor([[0.1, 4.0, 11.0]]), torch.tensor([0.123]))
    other.load_state_dict(grid.state_dict())
    assert torch.equal(grid.weight, other.weight)

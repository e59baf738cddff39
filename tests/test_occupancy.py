"""The occupancy grid finds what is there, forgets what is gone, and resumes exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radnerf.errors import BadInput, Diverged
from radnerf.occupancy import OccupancyGrid

BOX = torch.tensor([[-2.0, -2.0, -2.0], [2.0, 2.0, 6.0]])
CENTRE = torch.tensor([0.5, -0.5, 3.0])
RADIUS = 1.0


def ball(points: Tensor) -> Tensor:
    return 50.0 * ((points - CENTRE).norm(dim=1) < RADIUS)


def nothing(points: Tensor) -> Tensor:
    return torch.zeros(len(points))


def elsewhere(points: Tensor) -> Tensor:
    return 50.0 * (points[:, 1] < -1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centres(grid: OccupancyGrid) -> Tensor:
    """World centres of all cells, (G, G, G, 3)."""
    size = grid.resolution
    steps = (torch.arange(size) + 0.5) / size
    unit = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1)
    return BOX[0] + unit * (BOX[1] - BOX[0])


def test_everything_is_occupied_before_the_first_look() -> None:
    grid = OccupancyGrid(BOX, resolution=8)
    assert bool(grid.mask.all())
    assert grid.occupied_fraction == 1.0


def test_a_ball_is_found_with_one_cell_around_it_and_little_more() -> None:
    grid = OccupancyGrid(BOX, resolution=32)
    generator = seeded()
    for _ in range(8):
        grid.update(ball, threshold=1.0, generator=generator)
    distance = (centres(grid) - CENTRE).norm(dim=-1)
    width = float(((BOX[1] - BOX[0]) / 32).norm())
    assert bool(grid.mask[distance < RADIUS].all())
    assert not bool(grid.mask[distance > RADIUS + 2 * width].any())


def test_occupied_cells_and_their_26_neighbours_are_in_the_mask() -> None:
    grid = OccupancyGrid(BOX, resolution=8)
    cell = (BOX[1] - BOX[0]) / 8
    low = BOX[0] + torch.tensor([3, 0, 7]) * cell

    def one_cell(points: Tensor) -> Tensor:
        return ((points >= low) & (points < low + cell)).all(dim=1).float()

    grid.update(one_cell, threshold=0.5, generator=seeded())
    expected = torch.zeros(8, 8, 8, dtype=torch.bool)
    expected[2:5, 0:2, 6:8] = True
    assert torch.equal(grid.mask, expected)
    assert int((grid.density > 0).sum()) == 1


def test_what_is_gone_decays_until_it_is_forgotten() -> None:
    grid = OccupancyGrid(BOX, resolution=16)
    generator = seeded()
    grid.update(ball, threshold=1e-2, generator=generator)
    before = grid.density.clone()
    grid.update(nothing, threshold=1e-2, generator=generator, decay=0.5)
    torch.testing.assert_close(grid.density, before * 0.5)
    assert grid.occupied_fraction > 0
    for _ in range(20):
        grid.update(elsewhere, threshold=1e-2, generator=generator, decay=0.5)
    assert not bool(grid.mask[:, 5:].any())
    assert bool(grid.mask[:, :4].all())


def test_the_maximum_over_looks_is_kept() -> None:
    grid = OccupancyGrid(BOX, resolution=8)
    for value in (1.0, 5.0, 2.0):
        grid.update(
            lambda points, value=value: torch.full((len(points),), value),  # type: ignore[misc]
            threshold=1.0,
            generator=seeded(),
            decay=0.9,
        )
    torch.testing.assert_close(grid.density, torch.full((8, 8, 8), 4.5))


def test_threshold_is_the_smaller_of_mean_and_given() -> None:
    def halves(points: Tensor) -> Tensor:
        return torch.where(points[:, 0] < 0, 0.2, 0.4)

    sparse = OccupancyGrid(BOX, resolution=8)
    sparse.update(halves, threshold=10.0, generator=seeded())
    assert bool(sparse.mask[3:].all())
    assert not bool(sparse.mask[:3].any())
    full = OccupancyGrid(BOX, resolution=8)
    full.update(halves, threshold=0.1, generator=seeded())
    assert bool(full.mask.all())


def test_each_cell_is_looked_at_inside_itself() -> None:
    grid = OccupancyGrid(BOX, resolution=8)
    seen: list[Tensor] = []

    def record(points: Tensor) -> Tensor:
        seen.append(points)
        return torch.ones(len(points))

    grid.update(record, threshold=1.0, generator=seeded(), points_at_once=100)
    assert max(len(points) for points in seen) == 100
    offset = torch.cat(seen).view(8, 8, 8, 3) - centres(grid)
    half = (BOX[1] - BOX[0]) / 16
    assert bool((offset.abs() <= half * 1.001).all())
    assert float(offset.std()) > 0.1 * float(half.min())


def test_partial_updates_look_at_fewer_cells_and_find_the_ball_all_the_same() -> None:
    grid = OccupancyGrid(BOX, resolution=16)
    generator = seeded()
    looked = [0]

    def counted(points: Tensor) -> Tensor:
        looked.append(len(points))
        return ball(points)

    grid.mask.zero_()
    for _ in range(60):
        grid.update(counted, threshold=1.0, generator=generator, random_cells=300)
    assert looked[1] <= 300
    distance = (centres(grid) - CENTRE).norm(dim=-1)
    assert bool(grid.mask[distance < RADIUS].all())
    # All occupied cells are looked at besides the random ones, so that what goes away decays at once.
    assert looked[-1] >= int((grid.density > 1).sum())
    before = grid.density.clone()
    grid.update(nothing, threshold=1.0, generator=generator, decay=0.5, random_cells=10)
    found = before > 0
    torch.testing.assert_close(grid.density[found], before[found] * 0.5)


def test_resume_is_exact() -> None:
    first = OccupancyGrid(BOX, resolution=16)
    generator = seeded(3)
    first.update(ball, threshold=1.0, generator=generator)
    second = OccupancyGrid(torch.tensor([[0.0] * 3, [1.0] * 3]), resolution=16)
    second.load_state_dict(first.state_dict())
    resumed = torch.Generator()
    resumed.set_state(generator.get_state())
    for grid, draws in ((first, generator), (second, resumed)):
        grid.update(ball, threshold=1.0, generator=draws, random_cells=500)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_density_that_is_not_finite_stops_the_run() -> None:
    grid = OccupancyGrid(BOX, resolution=8)
    with pytest.raises(Diverged, match="not finite"):
        grid.update(lambda points: torch.full((len(points),), torch.nan), threshold=1.0, generator=seeded())


def test_wrong_boxes_are_refused() -> None:
    with pytest.raises(BadInput, match="room in it"):
        OccupancyGrid(BOX.flip(0))
    with pytest.raises(BadInput, match="resolution 1"):
        OccupancyGrid(BOX, resolution=1)

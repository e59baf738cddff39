"""Counted operations and bytes against numbers worked out by hand, and what counts as a needed sample."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from radnerf import frame_costs, machine_rates
from radnerf.frame_costs import Cost, blend_cost, head_cost, needed_samples, nerf_cost, torso_cost
from radnerf.grid import GridSpec
from radnerf.head import Condition, HeadField, HeadShape
from radnerf.kernels import get_backend
from radnerf.kernels.frozen import render_by_parts
from radnerf.machine_rates import best_of, measure_rates
from radnerf.mlp import ConditionedMLP
from radnerf.nerf import NerfField
from radnerf.timed_backend import TimedBackend
from radnerf.torso import TorsoModel, TorsoShape

SPACE = GridSpec(3, 2, 2, 4, 8, 8)
PLANE = GridSpec(2, 2, 2, 4, 8, 8)
BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


def small_head() -> tuple[HeadField, Condition]:
    torch.manual_seed(0)
    field = HeadField(HeadShape(SPACE, PLANE, 16, 5, 4), BOX)
    return field, Condition(torch.randn(1, 5), torch.ones(1, 1), torch.zeros(1, 4), torch.zeros(1, 1))


def test_interpolating_a_cube_is_counted_corner_by_corner() -> None:
    # A level: 3 axes x 3, 8 corners x 2 products of weights, 8 corners x 2 features x (product + sum).
    assert frame_costs.encode_operations(SPACE) == 2 * (9 + 16 + 32)
    assert frame_costs.encode_operations(PLANE) == 2 * (6 + 4 + 16)
    assert frame_costs.encode_bytes(SPACE) == 2 * 8 * 2 * 4
    assert frame_costs.encode_bytes(PLANE, element_bytes=2) == 2 * 4 * 2 * 2


def test_a_table_is_as_large_as_its_rows() -> None:
    # 5^3 vertices fit 128 rows, 8^3 = 512 vertices and more are hashed into 2^8.
    rows = sum(level.entries for level in SPACE.level_layout())
    assert frame_costs.table_bytes(SPACE) == rows * 2 * 4


def test_a_network_costs_two_operations_a_weight_that_a_row_meets() -> None:
    network = ConditionedMLP(10, 7, 16, 3, layers=3)
    assert frame_costs.mlp_operations(network) == 2 * (10 * 16 + 16 * 16 + 16 * 3)


def test_a_head_costs_its_networks_and_grids_for_each_sample() -> None:
    field, condition = small_head()
    networks = 2 * ((4 * 16 + 16 * 16 + 16 * 2) + (8 * 16 + 16 * 16 + 16 * 8) + ((16 + 7) * 16 + 16 * 3))
    grids = 114 + 52
    found = head_cost(field.frozen(condition), 1000)
    assert found.operations == 1000 * (networks + grids + 14)
    assert found.asked_bytes == 1000 * (128 + 64)
    tables = frame_costs.table_bytes(SPACE) + frame_costs.table_bytes(PLANE)
    assert found.least_bytes == tables


def test_a_warp_costs_an_interpolation_for_each_sample() -> None:
    field, condition = small_head()
    plain = field.frozen(condition)
    warped = dataclasses.replace(plain, warp=torch.zeros(4, 5, 2), warp_box=torch.zeros(2, 2))
    more, less = head_cost(warped, 1000), head_cost(plain, 1000)
    assert more.operations - less.operations == 1000 * 26
    assert more.asked_bytes - less.asked_bytes == 1000 * 4 * 2 * 4
    assert more.least_bytes - less.least_bytes == 4 * 5 * 2 * 4


def test_less_of_a_table_is_read_where_less_is_asked_for() -> None:
    field, condition = small_head()
    assert head_cost(field.frozen(condition), 1).least_bytes == 128 + 64


def test_the_baseline_costs_what_its_paper_s_layers_say() -> None:
    field = NerfField(BOX, 5, 4)
    width, position, direction = 256, 63, 27
    before = position * width + 4 * width * width
    after = (position + width) * width + 2 * width * width
    rest = width + width * width + (width + direction) * 128 + 128 * 3
    row = 2 * (before + after + rest) + 14
    assert nerf_cost(field, field, 10, 20).operations == 30 * row


def test_a_torso_costs_its_networks_and_grid_for_each_place() -> None:
    torso = TorsoModel(TorsoShape(PLANE, 16, 4, 3, 3, 8, 3))
    offset = 2 * (26 * 16 + 16 * 16 + 16 * 2)
    colour = 2 * (4 * 16 + 16 * 16 + 16 * 4)
    assert torso_cost(torso, 10).operations == 10 * (offset + colour + 52)


def test_blending_reads_the_background_and_writes_the_picture() -> None:
    assert blend_cost(100) == Cost(1400, 1500, 1500)


def test_samples_behind_an_opaque_one_are_not_needed() -> None:
    # Two rays; e^-9.21 is the limit. The first turns opaque at its second sample, the other never.
    sigma = torch.tensor([1.0, 20.0, 1.0, 1.0, 1.0, 1.0])
    offsets = torch.tensor([0, 4, 4, 6])
    assert needed_samples(sigma, torch.ones(6), offsets, 1e-4) == 4
    assert needed_samples(sigma, torch.ones(6), offsets, 0.0) == 6
    assert needed_samples(torch.zeros(0), torch.zeros(0), torch.zeros(3, dtype=torch.int64), 1e-4) == 0


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_a_timed_backend_gives_the_same_picture_and_counts_every_sample(name: str) -> None:
    field, condition = small_head()
    kernels = get_backend(name)
    timed = TimedBackend(kernels, torch.device("cpu"))
    origins = torch.tensor([[0.0, 0.0, 4.0]]).repeat(50, 1)
    directions = torch.nn.functional.normalize(torch.randn(50, 3) * 0.1 + torch.tensor([0.0, 0.0, -1.0]), dim=1)
    mask = torch.ones(4, 4, 4, dtype=torch.bool)
    frozen = field.frozen(condition)
    plain = render_by_parts(kernels, frozen, origins, directions, mask, 8, 0.1, 1e-4)
    assert torch.equal(render_by_parts(timed, frozen, origins, directions, mask, 8, 0.1, 1e-4), plain)
    hitting = int((plain[:, 3] > 0).sum())
    assert timed.samples == 8 * hitting
    assert timed.needed == timed.samples  # an untrained field is thin
    assert timed.name == name
    assert set(timed.seconds) == {"march", "encode", "composite"}
    timed.render(frozen, origins, directions, mask, 8, 0.1)
    assert timed.seconds["render"] > 0


def test_rates_are_of_this_machine_and_the_better_of_two_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_rates, "MATRIX_SHAPES", ((64, 64, 64), (128, 16, 32)))
    monkeypatch.setattr(machine_rates, "MEMORY_BYTES", (1 << 20,))
    found = measure_rates("cpu", 0.0)
    assert found.matrix_gflops > 0
    assert found.memory_gb_s > 0
    worse = dataclasses.replace(found, matrix_gflops=0.5 * found.matrix_gflops, matrix_shape="", cache_gb_s=1e9)
    assert best_of(found, worse) == best_of(worse, found) == dataclasses.replace(found, cache_gb_s=1e9)
    assert found.matrix_shape in ("64x64x64", "128x16x32")

"""Ray and box, and samples along the occupied part of rays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.errors import BadInput
from radnerf.kernels import get_backend
from radnerf.kernels.protocol import Samples
from radnerf.rays import intersect_aabb

NAMES = ["reference", "cpu"]
BOX = torch.tensor([[-1.0, -0.5, -2.0], [1.0, 0.7, 2.0]])
SIZE = 12


def some_rays(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rays from outside and inside towards the box: oblique, along axes, in faces of cells, missing."""
    generator = torch.Generator().manual_seed(seed)
    rays_o = torch.randn(count, 3, generator=generator) * 3
    target = torch.rand(count, 3, generator=generator) * (BOX[1] - BOX[0]) + BOX[0]
    rays_d = target - rays_o
    rays_o[::9] = target[::9]
    rays_d[::7, 0] = 0
    rays_d[::11, 1] = 0
    cell = (BOX[1] - BOX[0]) / SIZE
    rays_o[::5] = BOX[0] + torch.round((rays_o[::5] - BOX[0]) / cell) * cell
    rays_d[rays_d.abs().sum(dim=1) == 0] = torch.tensor([0.0, 0.0, 1.0])
    return rays_o, torch.nn.functional.normalize(rays_d, dim=1)


def march(
    name: str, occupancy: Tensor, *, count: int = 200, max_samples: int = 16, min_step: float = 0.05
) -> tuple[Tensor, Tensor, Samples]:
    rays_o, rays_d = some_rays(count)
    near, far = intersect_aabb(rays_o, rays_d, BOX)
    jitter = torch.rand(count, generator=torch.Generator().manual_seed(5))
    samples = get_backend(name).march(rays_o, rays_d, near, far, occupancy, BOX, max_samples, min_step, jitter)
    return rays_o, rays_d, samples


def random_occupancy(share: float, seed: int = 3) -> Tensor:
    return torch.rand(SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) < share


def occupied_lengths(rays_o: Tensor, rays_d: Tensor, occupancy: Tensor) -> np.ndarray:
    """The occupied length by clipping the ray against every occupied cell, one by one."""
    o, d, box = rays_o.double().numpy(), rays_d.double().numpy(), BOX.double().numpy()
    cell = (box[1] - box[0]) / SIZE
    lengths = np.zeros(len(o))
    for index in occupancy.nonzero().numpy():
        low, high = box[0] + index * cell, box[0] + (index + 1) * cell
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = (low - o) / d, (high - o) / d
        near, far = np.minimum(first, second), np.maximum(first, second)
        # A ray along an axis is in the slab for ever or never; faces belong to the cell above them.
        still = d == 0
        within = (low <= o) & (o < high)
        near = np.where(still, np.where(within, -np.inf, np.inf), near).max(axis=1)
        far = np.where(still, np.where(within, np.inf, -np.inf), far).min(axis=1)
        lengths += np.clip(far - np.clip(near, 0, None), 0, None)
    return lengths


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_samples_stand_for_the_whole_occupied_length(name: str, share: float) -> None:
    occupancy = random_occupancy(share)
    rays_o, rays_d, samples = march(name, occupancy)
    total = torch.zeros(200).index_add(0, samples.ray, samples.dt)
    np.testing.assert_allclose(total.numpy(), occupied_lengths(rays_o, rays_d, occupancy), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("max_samples", [1, 5, 16, 200])
def test_counts_follow_length_and_limits(name: str, max_samples: int) -> None:
    occupancy = random_occupancy(0.4)
    rays_o, rays_d, samples = march(name, occupancy, max_samples=max_samples)
    counts = samples.offsets.diff()
    lengths = occupied_lengths(rays_o, rays_d, occupancy)
    assert samples.count == int(counts.sum()) == len(samples.dt) == len(samples.ray)
    assert torch.equal(samples.ray, torch.repeat_interleave(torch.arange(200), counts))
    expected = np.minimum(np.ceil(lengths / 0.05 - 1e-4), max_samples)
    whole = np.abs(lengths / 0.05 - np.round(lengths / 0.05)) < 1e-3
    assert np.array_equal(counts.numpy()[~whole], expected[~whole])
    assert int(counts.max()) <= max_samples


@pytest.mark.parametrize("name", NAMES)
def test_samples_lie_in_occupied_cells_in_order(name: str) -> None:
    occupancy = random_occupancy(0.3)
    rays_o, rays_d, samples = march(name, occupancy, min_step=0.01, max_samples=64)
    assert samples.count > 1000
    points = rays_o[samples.ray].double() + samples.t[:, None].double() * rays_d[samples.ray].double()
    place = (points - BOX[0]) / (BOX[1] - BOX[0]) * SIZE
    # Rounding t to float32 may move a point across a face by 1e-5 cells: look on both sides.
    seen = torch.zeros(samples.count, dtype=torch.bool)
    for nudge in (-1e-4, 0.0, 1e-4):
        for axis in range(3):
            moved = place.clone()
            moved[:, axis] += nudge
            x, y, z = moved.floor().long().clamp(0, SIZE - 1).unbind(1)
            seen |= occupancy[x, y, z]
    assert bool(seen.all())
    same_ray = samples.ray[1:] == samples.ray[:-1]
    assert bool((samples.t[1:] > samples.t[:-1])[same_ray].all())
    assert bool((samples.dt > 0).all())


@pytest.mark.parametrize(("share", "max_samples", "min_step"), [(0.02, 16, 0.05), (0.4, 64, 0.01), (1.0, 3, 1.0)])
def test_cpu_equals_reference_bit_for_bit(share: float, max_samples: int, min_step: float) -> None:
    occupancy = random_occupancy(share)
    ours, theirs = (
        march(name, occupancy, count=1500, max_samples=max_samples, min_step=min_step)[2]
        for name in ("cpu", "reference")
    )
    assert ours.count > 0
    for field in ("offsets", "t", "dt", "ray"):
        assert torch.equal(getattr(ours, field), getattr(theirs, field)), field


@pytest.mark.parametrize("name", NAMES)
def test_an_axis_parallel_ray_samples_the_middles_of_its_shares(name: str) -> None:
    occupancy = torch.zeros(4, 4, 4, dtype=torch.bool)
    occupancy[:, 1, 2] = torch.tensor([True, False, False, True])
    box = torch.tensor([[0.0, 0.0, 0.0], [4.0, 4.0, 4.0]])
    samples = get_backend(name).march(
        torch.tensor([[-3.0, 1.5, 2.5]]),
        torch.tensor([[1.0, 0.0, 0.0]]),
        torch.tensor([3.0]),
        torch.tensor([7.0]),
        occupancy,
        box,
        16,
        0.5,
        torch.tensor([0.5]),
    )
    assert samples.t.tolist() == pytest.approx([3.25, 3.75, 6.25, 6.75], abs=1e-4)
    assert samples.dt.tolist() == [0.5] * 4
    assert samples.offsets.tolist() == [0, 4]


@pytest.mark.parametrize("name", NAMES)
def test_near_and_far_bound_the_samples(name: str) -> None:
    samples = get_backend(name).march(
        torch.tensor([[-3.0, 0.1, 0.1]]).expand(3, 3),
        torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3),
        torch.tensor([2.5, 0.0, 3.0]),
        torch.tensor([3.0, 100.0, 3.0]),
        torch.ones(SIZE, SIZE, SIZE, dtype=torch.bool),
        BOX,
        8,
        0.01,
        torch.tensor([0.5, 0.5, 0.5]),
    )
    assert samples.offsets.tolist() == [0, 8, 16, 16]
    first, second = samples.t[:8], samples.t[8:]
    assert 2.5 < float(first.min()) < float(first.max()) < 3.0
    assert 2.0 < float(second.min()) < float(second.max()) < 4.0


@pytest.mark.parametrize("name", NAMES)
def test_empty_space_and_no_rays_give_no_samples(name: str) -> None:
    _, _, samples = march(name, torch.zeros(SIZE, SIZE, SIZE, dtype=torch.bool))
    assert samples.count == 0
    assert samples.offsets.tolist() == [0] * 201
    none = torch.zeros(0, 3)
    flat = torch.zeros(0)
    samples = get_backend(name).march(none, none, flat, flat, random_occupancy(1), BOX, 16, 0.1, flat)
    assert samples.offsets.tolist() == [0]


@pytest.mark.parametrize("name", NAMES)
def test_non_finite_rays_end_without_samples(name: str) -> None:
    rays_o, rays_d = some_rays(4)
    rays_o[0] = torch.nan
    rays_d[1] = torch.nan
    near, far = intersect_aabb(rays_o, rays_d, BOX)
    near[2] = torch.nan
    samples = get_backend(name).march(rays_o, rays_d, near, far, random_occupancy(1), BOX, 16, 0.1, torch.zeros(4))
    assert samples.offsets.diff()[:3].tolist() == [0, 0, 0]


def test_wrong_input_is_named() -> None:
    rays_o, rays_d = some_rays(4)
    near, far = intersect_aabb(rays_o, rays_d, BOX)
    jitter, occupancy, cpu = torch.zeros(4), random_occupancy(1), get_backend("cpu")
    with pytest.raises(BadInput, match="near has shape"):
        cpu.march(rays_o, rays_d, near[:3], far, occupancy, BOX, 16, 0.1, jitter)
    with pytest.raises(BadInput, match="occupancy is"):
        cpu.march(rays_o, rays_d, near, far, occupancy.float(), BOX, 16, 0.1, jitter)
    with pytest.raises(BadInput, match="max_samples = 0"):
        cpu.march(rays_o, rays_d, near, far, occupancy, BOX, 0, 0.1, jitter)
    with pytest.raises(BadInput, match="min_step = 0"):
        cpu.march(rays_o, rays_d, near, far, occupancy, BOX, 16, 0.0, jitter)
    with pytest.raises(BadInput, match="and jitter is"):
        cpu.march(rays_o, rays_d, near, far, occupancy, BOX, 16, 0.1, jitter.double())


def test_intersect_finds_entry_and_exit() -> None:
    rays_o = torch.tensor([[-3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [3.0, 3.0, 0.0]])
    rays_d = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    near, far = intersect_aabb(rays_o, rays_d, BOX)
    torch.testing.assert_close(near[:2], torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(far[:2], torch.tensor([4.0, 2.0]))
    assert bool((near[2:] >= far[2:]).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_intersect_of_rays_in_the_planes_of_faces_is_never_nan(dtype: torch.dtype) -> None:
    corners = torch.cartesian_prod(*BOX.T).to(dtype)
    axes = torch.cat([torch.eye(3), -torch.eye(3), -0.0 * torch.eye(3) + torch.eye(3)]).to(dtype)
    rays_o = corners.repeat_interleave(len(axes), 0)
    rays_d = axes.repeat(len(corners), 1)
    near, far = intersect_aabb(rays_o, rays_d, BOX.to(dtype))
    assert not bool(near.isnan().any() | far.isnan().any())

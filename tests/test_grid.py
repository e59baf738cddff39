"""The hash grid against a brute-force loop, and the CPU kernels against the reference."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.errors import BackendUnavailable, BadInput
from radnerf.grid import GridSpec, HashGrid
from radnerf.kernels import BACKENDS, available, get_backend

# Each has dense levels whose size is and is not a power of two, and hashed ones.
SPECS = [
    GridSpec(2, levels=6, features_per_level=2, base_resolution=4, max_resolution=300, log2_entries=9),
    GridSpec(3, levels=6, features_per_level=2, base_resolution=4, max_resolution=300, log2_entries=11),
    GridSpec(2, levels=3, features_per_level=4, base_resolution=16, max_resolution=64, log2_entries=10),
    GridSpec(3, levels=4, features_per_level=4, base_resolution=5, max_resolution=40, log2_entries=10),
]
NAMES = ["reference", "cpu"]


def brute_force(x: np.ndarray, table: np.ndarray, spec: GridSpec) -> np.ndarray:
    """Encode point by point with uint32 arithmetic, written from tiny-cuda-nn's description."""
    primes = [1, 2654435761, 805459861]
    out = np.zeros((len(x), spec.levels * spec.features_per_level))
    log2_growth = np.float32(np.log2(spec.per_level_scale))
    for n, point in enumerate(x):
        offset = 0
        for level in range(spec.levels):
            # numpy's own float32 exp2 is off by a unit in the last place for a third of all levels.
            growth = np.float32(2.0 ** float(np.float32(level) * log2_growth))
            scale = growth * np.float32(spec.base_resolution) - np.float32(1)
            resolution = int(np.ceil(scale)) + 1
            size = min(math.ceil(resolution**spec.dim / 8) * 8, 2**spec.log2_entries)
            place = [np.float32(np.float64(c) * np.float64(scale) + 0.5) for c in point]
            total = np.zeros(spec.features_per_level)
            for corner in product((0, 1), repeat=spec.dim):
                weight, hashed, dense = 1.0, 0, 0
                for axis, (p, step) in enumerate(zip(place, corner, strict=True)):
                    fraction = float(p - np.floor(p))
                    weight *= fraction if step else 1 - fraction
                    vertex = int(np.floor(p)) + step
                    hashed ^= (vertex * primes[axis]) % 2**32
                    dense += vertex * resolution**axis
                index = hashed if size < resolution**spec.dim else dense
                total += weight * table[offset + index % size].astype(np.float64)
            out[n, level * spec.features_per_level : (level + 1) * spec.features_per_level] = total
            offset += size
    return out


def points(spec: GridSpec, count: int = 37) -> Tensor:
    """Random points, the box's two extreme corners and its middle."""
    x = torch.rand(count, spec.dim, generator=torch.Generator().manual_seed(1))
    x[0], x[1], x[2] = 0.0, 1.0, 0.5
    x[3, 0], x[3, 1] = 1.0, 0.0
    return x


def table_of(spec: GridSpec) -> Tensor:
    shape = (spec.total_entries, spec.features_per_level)
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) - 0.5


@pytest.mark.parametrize("spec", SPECS)
def test_specs_hold_dense_and_hashed_levels(spec: GridSpec) -> None:
    hashed = [level.hashed for level in spec.level_layout()]
    assert not hashed[0]
    assert hashed[-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spec", SPECS)
def test_encode_matches_brute_force(spec: GridSpec, name: str) -> None:
    x, table = points(spec), table_of(spec)
    encoded = get_backend(name).encode(x, table, spec)
    assert encoded.shape == (37, spec.output_width)
    np.testing.assert_allclose(encoded.numpy(), brute_force(x.numpy(), table.numpy(), spec), atol=1e-6)


def test_layout_of_the_published_grid() -> None:
    spec = GridSpec(3, 16, 2, 16, 2048, 16)
    layout = spec.level_layout()
    assert [level.resolution for level in layout[:4]] == [16, 23, 31, 43]
    assert [level.entries for level in layout[:4]] == [4096, 12168, 29792, 65536]
    assert [level.hashed for level in layout[:4]] == [False, False, False, True]
    assert layout[-1].resolution == 2048
    assert spec.output_width == 32
    offsets = np.cumsum([0, *(level.entries for level in layout)])
    assert [level.offset for level in layout] == offsets[:-1].tolist()
    assert spec.total_entries == offsets[-1]


def test_level_that_exactly_fits_is_dense() -> None:
    layout = GridSpec(3, 2, 2, 16, 17, 12).level_layout()
    assert (layout[0].entries, layout[0].hashed) == (4096, False)
    assert (layout[1].entries, layout[1].hashed) == (4096, True)


@pytest.mark.parametrize("name", NAMES)
def test_no_points_encode_to_no_features(name: str) -> None:
    spec = SPECS[1]
    x = torch.zeros(0, 3, requires_grad=True)
    table = table_of(spec).requires_grad_()
    encoded = get_backend(name).encode(x, table, spec)
    assert encoded.shape == (0, spec.output_width)
    encoded.sum().backward()
    assert table.grad is not None
    assert not table.grad.any()


@pytest.mark.parametrize("spec", [SPECS[2], SPECS[3]])
def test_reference_gradients_are_right(spec: GridSpec) -> None:
    reference = get_backend("reference")
    # Away from cell borders, where the interpolation has kinks.
    x = points(spec, 9)[4:].double().requires_grad_()
    table = table_of(spec).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, table: reference.encode(x, table, spec), (x, table), eps=1e-6, fast_mode=True
    )


@pytest.mark.parametrize("spec", SPECS)
def test_cpu_agrees_with_reference_forward_and_backward(spec: GridSpec) -> None:
    results = []
    for name in NAMES:
        x, table = points(spec, 2500).requires_grad_(), table_of(spec).requires_grad_()
        encoded = get_backend(name).encode(x, table, spec)
        target = torch.rand(encoded.shape, generator=torch.Generator().manual_seed(3))
        (encoded * target).sum().backward()
        assert x.grad is not None
        assert table.grad is not None
        results.append((encoded.detach(), x.grad, table.grad))
    for ours, theirs in zip(results[1], results[0], strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, atol=1e-5 * max(scale, 1), rtol=1e-5)


def test_cpu_takes_strided_points_and_gradients() -> None:
    spec = SPECS[0]
    wide = torch.rand(50, 5, generator=torch.Generator().manual_seed(4))
    table = table_of(spec).requires_grad_()
    encoded = get_backend("cpu").encode(wide[:, 1:3], table, spec)
    packed = get_backend("cpu").encode(wide[:, 1:3].contiguous(), table, spec)
    assert torch.equal(encoded, packed)
    encoded.sum().backward()
    assert table.grad is not None
    torch.testing.assert_close(table.grad.sum(), torch.tensor(float(encoded.numel())))


@pytest.mark.parametrize("name", NAMES)
def test_points_outside_the_box_wrap_instead_of_reading_elsewhere(name: str) -> None:
    spec = SPECS[1]
    x = torch.tensor([[-3.0, 0.5, 7.0], [1e6, -1e6, 0.0]])
    table = torch.ones(spec.total_entries, spec.features_per_level)
    torch.testing.assert_close(
        get_backend(name).encode(x, table, spec), torch.ones(2, spec.output_width), atol=1e-5, rtol=0
    )


def test_thread_count_does_not_change_the_result() -> None:
    spec = SPECS[1]
    before = torch.get_num_threads()
    gradients = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            table = table_of(spec).requires_grad_()
            get_backend("cpu").encode(points(spec, 3000), table, spec).square().sum().backward()
            gradients.append(table.grad)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(gradients[0], gradients[1])


def test_hash_grid_starts_small_and_learns() -> None:
    spec = SPECS[1]
    grid = HashGrid(spec, generator=torch.Generator().manual_seed(0))
    assert float(grid.table.detach().abs().max()) <= 1e-4
    assert torch.equal(grid.table, HashGrid(spec, generator=torch.Generator().manual_seed(0)).table)
    x = points(spec)
    before = grid(x).sum()
    before.backward()
    with torch.no_grad():
        assert grid.table.grad is not None
        grid.table -= 1e-3 * grid.table.grad
        assert float(grid(x, get_backend("reference")).sum()) < float(before.detach())


def test_wrong_input_is_named() -> None:
    spec, cpu = SPECS[1], get_backend("cpu")
    table = table_of(spec)
    with pytest.raises(BadInput, match=r"x has shape \(4, 2\)"):
        cpu.encode(torch.rand(4, 2), table, spec)
    with pytest.raises(BadInput, match="other settings"):
        cpu.encode(torch.rand(4, 3), table[:-1], spec)
    with pytest.raises(BadInput, match="float64"):
        cpu.encode(torch.rand(4, 3).double(), table, spec)
    with pytest.raises(BadInput, match="use float32"):
        cpu.encode(torch.rand(4, 3).double(), table.double(), spec)
    with pytest.raises(BadInput, match="lies on cpu and table on meta"):
        cpu.encode(torch.rand(4, 3), table.to("meta"), spec)
    with pytest.raises(BackendUnavailable, match="tensors on meta"):
        cpu.encode(torch.rand(4, 3, device="meta"), table.to("meta"), spec)
    with pytest.raises(BadInput, match="levels = 0"):
        GridSpec(3, 0, 2, 16, 64, 10)
    with pytest.raises(BadInput, match="features_per_level = 3"):
        GridSpec(3, 4, 3, 16, 64, 10)
    with pytest.raises(BadInput, match="max_resolution = 8"):
        GridSpec(3, 4, 2, 16, 8, 10)


def test_the_door_says_what_is_here() -> None:
    states = available()
    assert states["reference"] == states["cpu"] == "ok"
    assert set(states) == set(BACKENDS) - {"auto"}
    assert get_backend().name == "cpu"
    assert get_backend("auto", "cuda").name in {"reference", "triton", "tcnn"}
    with pytest.raises(BackendUnavailable, match="no backend 'gpu'") as wrong:
        get_backend("gpu")
    assert "reference" in wrong.value.hint
    with pytest.raises(BackendUnavailable, match="cpu runs on cpu, and the tensors lie on cuda"):
        get_backend("cpu", "cuda:0")

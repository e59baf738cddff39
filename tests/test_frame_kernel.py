"""The fused frame against the kernels it is made of."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from radnerf.errors import BadInput
from radnerf.grid import GridSpec
from radnerf.kernels import get_backend
from radnerf.kernels.frozen import render_by_parts
from radnerf.kernels.protocol import MIN_TRANSMITTANCE, FrozenHead

pytest.importorskip("numba")

BOX = torch.tensor([[-5.0, -4.0, -3.0], [4.0, 6.0, 5.0]])


def frozen_head(hidden: int = 16, features: int = 2, seed: int = 0, density: float = 0.0) -> FrozenHead:
    """A random head whose density varies from point to point."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    space, plane = GridSpec(3, 4, features, 4, 40, 9), GridSpec(2, 3, features, 2, 16, 6)
    width, deformed = space.output_width, plane.output_width

    def matrix(rows: int, columns: int) -> Tensor:
        return draw(rows, columns) / columns**0.5

    return FrozenHead(
        aabb=BOX,
        space=draw(space.total_entries, features),
        space_spec=space,
        plane=draw(plane.total_entries, features),
        plane_spec=plane,
        motion=(matrix(hidden, width), matrix(hidden, hidden), matrix(2, hidden)),
        motion_bias=draw(hidden),
        density=(matrix(hidden, width + deformed), matrix(hidden, hidden), 2 * matrix(hidden // 2, hidden)),
        density_bias=draw(hidden),
        colour=(matrix(hidden, 16 + hidden // 2 - 1), matrix(3, hidden)),
        colour_bias=draw(hidden),
        density_shift=density,
        max_log_density=7.0,
    )


def rays_at_the_box(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Rays from one eye, most of which meet the box."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.tensor([[1.0, 2.0, 30.0]]).repeat(count, 1)
    targets = BOX[0] - 1 + torch.rand(count, 3, generator=generator) * (BOX[1] - BOX[0] + 2)
    return origins, torch.nn.functional.normalize(targets - origins, dim=1)


def cells(share: float, size: int = 12) -> Tensor:
    """Random occupied cells."""
    return torch.rand(size, size, size, generator=torch.Generator().manual_seed(2)) < share


def compare(
    head: FrozenHead,
    rays: tuple[Tensor, Tensor],
    occupancy: Tensor,
    samples: int = 7,
    least: float = MIN_TRANSMITTANCE,
) -> Tensor:
    """Assert that fused and by parts agree; return the fused picture."""
    fused = get_backend("cpu").render(head, *rays, occupancy, samples, 0.4, least)
    parts = render_by_parts(get_backend("reference"), head, *rays, occupancy, samples, 0.4, least)
    torch.testing.assert_close(fused[:, :4], parts[:, :4], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(fused[:, 4], parts[:, 4], rtol=1e-4, atol=2e-3)
    return fused


@pytest.mark.parametrize(("hidden", "features"), [(16, 2), (32, 4), (64, 2), (48, 4)])
def test_fused_frame_matches_its_parts(hidden: int, features: int) -> None:
    seen = compare(frozen_head(hidden, features), rays_at_the_box(700), cells(0.4))
    assert seen[:, 3].std() > 0.1  # a picture with something in it


@pytest.mark.parametrize("count", [0, 1, 31, 512, 513, 1100])
def test_any_number_of_rays(count: int) -> None:
    assert compare(frozen_head(), rays_at_the_box(count), cells(0.4)).shape == (count, 5)


@pytest.mark.parametrize("density", [-3.0, 3.0])
def test_thin_and_opaque_heads(density: float) -> None:
    seen = compare(frozen_head(density=density), rays_at_the_box(400), cells(0.6))
    assert (seen[:, 3] > 0.99).any() == (density > 0)


def test_an_opaque_ray_ends_where_the_threshold_says() -> None:
    head, rays = frozen_head(density=1.0), rays_at_the_box(300)
    whole = compare(head, rays, cells(0.7), samples=16, least=0.0)
    short = compare(head, rays, cells(0.7), samples=16, least=0.3)
    assert not torch.allclose(whole, short, atol=1e-3)


def test_a_warped_head() -> None:
    lattice = 0.5 * torch.randn(9, 7, 2, generator=torch.Generator().manual_seed(5))
    still, rays = frozen_head(32), rays_at_the_box(600)
    warped = dataclasses.replace(still, warp=lattice, warp_box=torch.tensor([[-3.0, -3.0], [3.5, 4.0]]))
    assert not torch.allclose(compare(warped, rays, cells(0.5)), compare(still, rays, cells(0.5)), atol=1e-2)


def test_an_empty_box_is_seen_through() -> None:
    assert not compare(frozen_head(), rays_at_the_box(100), cells(0.0)).any()


def test_a_full_box() -> None:
    compare(frozen_head(), rays_at_the_box(300), cells(1.0), samples=16)


@pytest.mark.parametrize("size", [13, 16, 40])
def test_a_few_cells_far_apart(size: int) -> None:
    seen = compare(frozen_head(), rays_at_the_box(900), cells(0.003, size))
    assert 0 < (seen[:, 3] > 0).float().mean() < 0.5


def test_rays_along_axes_and_from_inside() -> None:
    origins = torch.tensor([[0.3, 0.2, 20.0], [0.3, 20.0, 0.1], [-20.0, 0.2, 0.1], [0.3, 0.2, 0.1], [20.0, 20.0, 20.0]])
    directions = torch.tensor([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    seen = compare(frozen_head(), (origins, directions), cells(0.9))
    assert (seen[:4, 3] > 0).all()
    assert seen[4, 3] == 0


def test_a_picture_does_not_depend_on_the_threads() -> None:
    head, rays, occupancy = frozen_head(32), rays_at_the_box(1500), cells(0.5)
    threads = torch.get_num_threads()
    pictures = []
    for count in (1, 2):
        torch.set_num_threads(count)
        try:
            pictures.append(get_backend("cpu").render(head, *rays, occupancy, 7, 0.4))
        finally:
            torch.set_num_threads(threads)
    assert torch.equal(*pictures)


def test_wrong_arguments_are_told() -> None:
    head, rays = frozen_head(), rays_at_the_box(8)
    with pytest.raises(BadInput, match="max_samples = 0"):
        get_backend("cpu").render(head, *rays, cells(0.5), 0, 0.4)
    wide = dataclasses.replace(head, aabb=BOX.double())
    with pytest.raises(BadInput, match="float32"):
        get_backend("cpu").render(wide, rays[0].double(), rays[1].double(), cells(0.5), 4, 0.4)

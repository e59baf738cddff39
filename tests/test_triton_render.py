"""The fused head against the reference, in single and half precision."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from radnerf.errors import BadInput
from radnerf.grid import GridSpec
from radnerf.kernels import get_backend
from radnerf.kernels.protocol import FrozenHead
from tests.triton_harness import CLOSE, DEVICE, HALF, SINGLE, Halves

BOX = torch.tensor([[-9.0, -10.0, -8.0], [9.0, 10.0, 8.0]])
# Those that see anything fill one block of 64 and begin a second.
MANY = 90
FEW = 30


def _head(space: GridSpec, plane: GridSpec, width: int) -> FrozenHead:
    """A head whose every part says something; opaque after a few centimetres."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, size: float = 1.0) -> Tensor:
        return (torch.rand(*shape, generator=generator) - 0.5) * 2 * size

    e3, e2 = space.output_width, plane.output_width
    return FrozenHead(
        aabb=BOX,
        space=draw(space.total_entries, space.features_per_level),
        space_spec=space,
        plane=draw(plane.total_entries, plane.features_per_level),
        plane_spec=plane,
        motion=(draw(width, e3, size=0.4), draw(width, width, size=0.4), draw(2, width, size=0.4)),
        motion_bias=draw(width, size=0.3),
        density=(draw(width, e3 + e2, size=0.4), draw(width, width, size=0.4), draw(width // 2, width, size=1.2)),
        density_bias=draw(width, size=0.3),
        colour=(draw(width, 16 + width // 2 - 1, size=0.5), draw(3, width, size=0.5)),
        colour_bias=draw(width, size=0.3),
        density_shift=-1.0,
        max_log_density=7.0,
    )


HEAD = _head(GridSpec(3, 3, 2, 4, 40, 8), GridSpec(2, 2, 4, 4, 30, 7), 16)


def _rays(count: int) -> tuple[Tensor, Tensor]:
    """Rays into the box from in front and from inside; the last ones miss."""
    generator = torch.Generator().manual_seed(4)
    origins = torch.tensor([[1.0, 2.0, 60.0]]).repeat(count, 1)
    targets = (torch.rand(count, 3, generator=generator) - 0.5) * torch.tensor([16.0, 18.0, 14.0])
    origins[:5] = targets[:5] * 0.5
    targets[-5:, 0] += 100
    return origins, torch.nn.functional.normalize(targets - origins, dim=1)


def _mask() -> Tensor:
    return torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(6)) > 0.4


def _moved(head: FrozenHead) -> FrozenHead:
    def there(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(there(each) for each in value)
        return value.to(DEVICE) if isinstance(value, Tensor) else value

    return dataclasses.replace(head, **{f.name: there(getattr(head, f.name)) for f in dataclasses.fields(head)})


def _both(kernels: object, head: FrozenHead, limit: float = 1e-4, count: int = FEW) -> tuple[Tensor, Tensor]:
    rays, mask = _rays(count), _mask()
    ours = kernels.render(_moved(head), *(each.to(DEVICE) for each in rays), mask.to(DEVICE), 4, 1.3, limit)  # type: ignore[attr-defined]
    return ours.cpu(), get_backend("reference").render(head, *rays, mask, 4, 1.3, limit)


def test_the_fused_head_draws_the_references_picture() -> None:
    ours, theirs = _both(SINGLE, HEAD, count=MANY)
    assert int((theirs[:, 3] > 0).sum()) > 64
    assert 0.2 < float(theirs[:-5, 3].mean()) < 0.95
    assert float(theirs[:, :3].std()) > 0.05
    torch.testing.assert_close(ours[:, :4], theirs[:, :4], rtol=1e-4, atol=CLOSE)
    torch.testing.assert_close(ours[:, 4], theirs[:, 4], rtol=1e-4, atol=100 * CLOSE)
    assert not ours[-5:].any()


def test_half_precision_is_off_by_less_than_a_level_of_grey() -> None:
    ours, theirs = _both(HALF, HEAD)
    assert float((ours[:, :4] - theirs[:, :4]).abs().max()) < 1 / 255
    assert float((ours[:, :4] - theirs[:, :4]).abs().max()) > 1e-5


def test_opaque_rays_end_early_and_the_limit_decides_when() -> None:
    dense = dataclasses.replace(HEAD, density_shift=2.0)
    ours, theirs = _both(SINGLE, dense, 0.5)
    torch.testing.assert_close(ours[:, :4], theirs[:, :4], rtol=1e-4, atol=CLOSE)
    whole = get_backend("reference").render(dense, *_rays(FEW), _mask(), 4, 1.3, 0.0)
    assert float((whole - ours)[:, 3].max()) > 1e-3


def test_a_warp_moves_what_is_seen_as_in_the_reference() -> None:
    # A lattice over a part of the box: some samples lie beyond it.
    warp = (torch.rand(5, 6, 2, generator=torch.Generator().manual_seed(8)) - 0.5) * 3
    warped = dataclasses.replace(HEAD, warp=warp, warp_box=torch.tensor([[-4.0, -5.0], [6.0, 4.0]]))
    ours, theirs = _both(SINGLE, warped)
    torch.testing.assert_close(ours[:, :4], theirs[:, :4], rtol=1e-4, atol=CLOSE)
    still = get_backend("reference").render(HEAD, *_rays(FEW), _mask(), 4, 1.3)
    assert float((theirs - still)[:, :4].abs().max()) > 1e-2


def test_an_empty_box_and_no_rays_draw_nothing() -> None:
    head, rays = _moved(HEAD), tuple(each.to(DEVICE) for each in _rays(FEW))
    nothing = torch.zeros(8, 8, 8, dtype=torch.bool, device=DEVICE)
    assert not SINGLE.render(head, *rays, nothing, 4, 1.3).any()
    assert SINGLE.render(head, rays[0][:0], rays[1][:0], nothing, 4, 1.3).shape == (0, 5)


def test_wrong_input_is_named() -> None:
    head, (origins, directions) = _moved(HEAD), tuple(each.to(DEVICE) for each in _rays(FEW))
    mask = _mask().to(DEVICE)
    with pytest.raises(BadInput, match="rays_d has shape"):
        SINGLE.render(head, origins, directions[:-1], mask, 4, 1.3)
    with pytest.raises(BadInput, match="render: max_samples = 0"):
        SINGLE.render(head, origins, directions, mask, 0, 1.3)
    with pytest.raises(BadInput, match="occupancy is"):
        SINGLE.render(head, origins, directions, mask.float(), 4, 1.3)


def test_halves_are_made_once_and_anew_after_a_change() -> None:
    halves, tables = Halves(), [torch.rand(4, 2) for _ in range(6)]
    first = halves.of(tables[0])
    assert first.dtype == torch.float16
    assert halves.of(tables[0].detach()) is first
    tables[0].add_(1)
    changed = halves.of(tables[0])
    assert torch.equal(changed, tables[0].half())
    assert all(torch.equal(halves.of(table), table.half()) for table in tables)
    assert len(halves._kept) <= 4

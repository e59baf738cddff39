"""Triton's marching and compositing against the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radnerf.kernels import get_backend
from radnerf.kernels.protocol import Samples
from radnerf.rays import intersect_aabb
from tests import test_composite, test_march
from tests.triton_harness import CLOSE, DEVICE, SINGLE, march_into, trace

# One block of 32 and a part of the next; where that does not matter, a part of one.
COUNT = 40
FEW = 20
FIELDS = ("offsets", "t", "dt", "ray")


def _given(occupancy: Tensor, max_samples: int, min_step: float, count: int = FEW) -> tuple[Tensor | int | float, ...]:
    rays_o, rays_d = test_march.some_rays(count)
    near, far = intersect_aabb(rays_o, rays_d, test_march.BOX)
    jitter = torch.rand(count, generator=torch.Generator().manual_seed(5))
    return rays_o, rays_d, near, far, occupancy, test_march.BOX, max_samples, min_step, jitter


def _there(given: tuple[Tensor | int | float, ...]) -> tuple[Tensor | int | float, ...]:
    return tuple(each.to(DEVICE) if isinstance(each, Tensor) else each for each in given)


def _same(ours: Samples, theirs: Samples) -> None:
    for field in FIELDS:
        assert torch.equal(getattr(ours, field).cpu(), getattr(theirs, field)), field


@pytest.mark.parametrize(("share", "max_samples", "count"), [(0.02, 16, FEW), (0.4, 7, COUNT), (1.0, 3, FEW)])
def test_march_equals_the_reference_bit_for_bit(share: float, max_samples: int, count: int) -> None:
    given = _given(test_march.random_occupancy(share), max_samples, 0.1, count)
    theirs = get_backend("reference").march(*given)
    assert theirs.count > 0
    _same(SINGLE.march(*_there(given)), theirs)


def test_nothing_to_march_through_gives_no_samples() -> None:
    given = _given(torch.zeros(4, 4, 4, dtype=torch.bool), 16, 0.1)
    _same(SINGLE.march(*_there(given)), get_backend("reference").march(*given))
    rays, flat = torch.zeros(0, 3), torch.zeros(0)
    none = (rays, rays, flat, flat, test_march.random_occupancy(1), test_march.BOX, 16, 0.1, flat)
    assert SINGLE.march(*_there(none)).offsets.tolist() == [0]


def test_non_finite_rays_end_without_samples() -> None:
    given = _given(test_march.random_occupancy(1), 16, 0.1)
    rays_o, rays_d, near = (each.clone() for each in given[:3])
    rays_o[0], rays_d[1], near[2] = torch.nan, torch.nan, torch.nan
    samples = SINGLE.march(*_there((rays_o, rays_d, near, *given[3:])))
    assert samples.offsets.diff()[:3].tolist() == [0, 0, 0]
    assert samples.count > 0


def test_a_capacity_keeps_the_first_rays_whole_and_leaves_the_rest_out() -> None:
    given = _there(_given(test_march.random_occupancy(0.4), 7, 0.1))
    whole = SINGLE.march(*given)
    roomy = march_into(*given, capacity=whole.count + 10)
    for field in FIELDS[1:]:
        assert torch.equal(getattr(roomy, field)[: whole.count], getattr(whole, field))
        assert not getattr(roomy, field)[whole.count :].any()
    assert torch.equal(roomy.offsets, whole.offsets)
    room = int(whole.offsets[FEW // 2]) + 1
    tight = march_into(*given, capacity=room)
    kept = whole.offsets <= room
    last = int(whole.offsets[kept].max())
    assert tight.count == room
    assert torch.equal(tight.offsets, torch.where(kept, whole.offsets, last))
    assert torch.equal(tight.t[:last], whole.t[:last])
    assert not tight.t[last:].any()


def test_tracing_for_pictures_places_the_same_samples() -> None:
    occupancy = test_march.random_occupancy(0.4)
    rays_o, rays_d = test_march.some_rays(COUNT)
    near, far = intersect_aabb(rays_o, rays_d, test_march.BOX)
    middle = torch.full((COUNT,), 0.5)
    theirs = get_backend("reference").march(rays_o, rays_d, near, far, occupancy, test_march.BOX, 7, 0.0999, middle)
    given = (rays_o, rays_d, occupancy, test_march.BOX)
    ours = trace(*(each.contiguous().to(DEVICE) for each in given), 7, 0.0999)
    counts = ours.counts.cpu().long()
    assert torch.equal(counts, theirs.offsets.diff())
    number = torch.arange(theirs.count) - theirs.offsets[theirs.ray]
    torch.testing.assert_close(ours.times.cpu()[number, theirs.ray], theirs.t, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(ours.steps.cpu()[theirs.ray], theirs.dt, rtol=1e-4, atol=2e-5)
    listed = ours.listed[: int(ours.alive)].cpu().long()
    assert torch.equal(listed.sort().values, counts.nonzero().squeeze(1))


@pytest.mark.parametrize("limit", [0.0, 0.3])
def test_composite_equals_the_reference_forward_and_backward(limit: float) -> None:
    samples = test_composite.samples(densest=40.0)
    results = []
    for kernels, device in ((SINGLE, DEVICE), (get_backend("reference"), torch.device("cpu"))):
        sigma, rgb, *rest = (each.clone().to(device) for each in samples)
        leaves = (sigma.requires_grad_(), rgb.requires_grad_())
        seen = kernels.composite(*leaves, *rest, limit)
        loss = test_composite.loss(type(seen)(*(part.cpu() for part in seen)))
        results.append([*seen, *torch.autograd.grad(loss, leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=CLOSE, atol=CLOSE / 10)
    assert torch.equal(results[0][3].cpu() == 0, results[1][3] == 0)


def test_alpha_stays_within_0_and_1_even_when_density_overflows() -> None:
    sigma, rgb, t, dt, offsets = (each.to(DEVICE) for each in test_composite.samples())
    sigma[::3], sigma[1::5], sigma[2::5] = 1e30, torch.inf, 0
    leaf = sigma.requires_grad_()
    seen = SINGLE.composite(leaf, rgb, t, dt.clamp(min=1e-3), offsets)
    assert bool(((seen.alpha >= 0) & (seen.alpha <= 1)).all())
    (gradient,) = torch.autograd.grad(seen.image.sum() + seen.depth.sum(), leaf)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("rays", [0, 3])
def test_rays_without_samples_are_empty(rays: int) -> None:
    none = torch.zeros(0, device=DEVICE, requires_grad=True)
    flat = torch.zeros(0, device=DEVICE)
    offsets = torch.zeros(rays + 1, dtype=torch.int64, device=DEVICE)
    seen = SINGLE.composite(none, torch.zeros(0, 3, device=DEVICE), flat, flat, offsets)
    assert not seen.image.any()
    assert seen.alpha.shape == (rays,)
    (gradient,) = torch.autograd.grad(seen.image.sum() + seen.alpha.sum(), none)
    assert gradient.shape == (0,)

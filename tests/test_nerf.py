"""The baseline without grids: hierarchical sampling and what it renders."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from radnerf.camera import Camera
from radnerf.head import Condition
from radnerf.kernels import get_backend
from radnerf.nerf import COARSE_SAMPLES, FINE_SAMPLES, NerfField, render_rays_hierarchical, sample_fine
from tests.synthetic import AABB

CAMERA = Camera(8.0, 2.0, 2.0, 4, 4)
FRONTAL = torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor([0.0, 0.0, 60.0])


def test_fine_samples_follow_the_coarse_weights() -> None:
    edges = torch.tensor([[0.0, 1.0, 3.0, 4.0, 8.0]]).double()
    weights = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).double()
    places = ((torch.arange(20_000) + 0.5) / 20_000)[None].double()
    drawn = sample_fine(edges, weights, places)[0]
    counts = torch.histogram(drawn, bins=edges[0]).hist / len(drawn)
    torch.testing.assert_close(counts, weights[0], rtol=0, atol=1e-4)
    # Even within an interval: the quartiles of the last one lie at 5, 6 and 7.
    last = drawn[drawn >= 4]
    quartiles = torch.quantile(last, torch.tensor([0.25, 0.5, 0.75]).double())
    torch.testing.assert_close(quartiles, torch.tensor([5.0, 6.0, 7.0]).double(), rtol=0, atol=1e-2)


def test_fine_samples_are_monotone_and_within_the_edges() -> None:
    generator = torch.Generator().manual_seed(0)
    edges = torch.rand(50, 65, generator=generator).sort(dim=1).values * 30
    weights = torch.rand(50, 64, generator=generator) ** 8
    places = torch.rand(50, 128, generator=generator).sort(dim=1).values
    places[:, 0] = 0
    places[:, -1] = 1 - 2**-24
    drawn = sample_fine(edges, weights, places)
    assert bool((drawn.diff(dim=1) >= 0).all())
    assert bool((drawn >= edges[:, :1]).all())
    assert bool((drawn <= edges[:, -1:]).all())


def test_a_ray_that_met_nothing_is_sampled_evenly() -> None:
    edges = torch.linspace(2, 6, 9)[None]
    places = torch.tensor([[0.0, 0.25, 0.5, 0.75]])
    torch.testing.assert_close(sample_fine(edges, torch.zeros(1, 8), places), torch.tensor([[2.0, 3.0, 4.0, 5.0]]))


def _fields(seed: int = 0) -> list[NerfField]:
    torch.manual_seed(seed)
    return [NerfField(AABB, 6, 4) for _ in range(2)]


def _condition(frames: int = 1) -> Condition:
    return Condition(torch.randn(frames, 6), torch.ones(frames, 1), torch.zeros(frames, 4), torch.zeros(frames, 1))


def test_the_field_has_no_audio_coordinate_and_keeps_its_ranges() -> None:
    field = _fields()[0]
    sample = field(torch.randn(30, 3) * 5, torch.nn.functional.normalize(torch.randn(30, 3), dim=1), _condition(), None)
    assert sample.motion.shape == (30, 0)
    assert bool((sample.sigma > 0).all())
    assert 0 <= sample.rgb.min().item() <= sample.rgb.max().item() <= 1


@pytest.mark.parametrize("jittered", [False, True])
def test_hierarchical_rendering_is_finite_and_trains_both_networks(jittered: bool) -> None:
    coarse, fine = _fields()
    origins, directions = CAMERA.rays(*FRONTAL)
    # One ray looks away from the box, one lies in a face's plane.
    directions = directions.clone()
    directions[0] = torch.tensor([0.0, 0.0, 1.0])
    origins = origins.clone()
    origins[1], directions[1] = torch.tensor([10.0, 0.0, 60.0]), torch.tensor([0.0, 0.0, -1.0])
    jitter = torch.rand(16, generator=torch.Generator().manual_seed(0)) if jittered else None
    membership = torch.eye(2)[torch.arange(16) % 2]
    seen = render_rays_hierarchical(
        coarse, fine, get_backend("reference"), (origins, directions), _condition(2), membership, jitter
    )
    assert [len(one.weights) for one in seen] == [16 * COARSE_SAMPLES, 16 * (COARSE_SAMPLES + FINE_SAMPLES)]
    for one in seen:
        assert bool(torch.isfinite(one.image).all())
        assert one.alpha.min().item() >= 0
        assert one.alpha.max().item() <= 1 + 1e-6
        assert one.alpha[0] == 0
    torch.stack([one.image.sum() for one in seen]).sum().backward()
    for field in (coarse, fine):
        for value in field.parameters():
            assert value.grad is not None
            assert bool(torch.isfinite(value.grad).all())


def test_each_ray_sees_its_own_frame() -> None:
    coarse, fine = _fields()
    rays, kernels, condition = CAMERA.rays(*FRONTAL), get_backend("reference"), _condition(2)
    which = torch.arange(16) % 2
    with torch.no_grad():
        together = render_rays_hierarchical(coarse, fine, kernels, rays, condition, torch.eye(2)[which])[1]
        for frame in range(2):
            own = Condition(*(part[frame][None] for part in dataclasses.astuple(condition)[:4]))
            alone = render_rays_hierarchical(coarse, fine, kernels, rays, own, None)[1]
            mine = which == frame
            torch.testing.assert_close(together.image[mine], alone.image[mine], rtol=1e-3, atol=1e-5)

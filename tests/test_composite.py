"""Volume rendering against a loop, and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.errors import BadInput
from radnerf.kernels import get_backend
from radnerf.kernels.protocol import Backend, Composite
from radnerf.volume import over

NAMES = ["reference", "cpu"]
COUNTS = [0, 1, 16, 3, 0, 7, 16, 2, 0]


def samples(seed: int = 0, *, densest: float = 8.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Random (sigma, rgb, t, dt, offsets) on rays with COUNTS samples."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *np.cumsum(COUNTS)])
    count = int(offsets[-1])
    sigma = torch.rand(count, generator=generator) ** 3 * densest
    rgb = torch.rand(count, 3, generator=generator)
    dt = torch.rand(count, generator=generator) * 0.3
    t = torch.rand(count, generator=generator) + torch.arange(count)
    return sigma, rgb, t, dt, offsets


def plain(sigma: Tensor, rgb: Tensor, t: Tensor, dt: Tensor, offsets: Tensor, limit: float) -> Composite:
    """The definition, ray by ray and sample by sample, differentiable."""
    images, alphas, depths, weights = [], [], [], []
    for r in range(len(offsets) - 1):
        through = torch.ones((), dtype=sigma.dtype)
        image, alpha, depth = torch.zeros(3, dtype=sigma.dtype), through * 0, through * 0
        for s in range(int(offsets[r]), int(offsets[r + 1])):
            opacity = 1 - torch.exp(-sigma[s] * dt[s])
            weight = through * opacity if float(through.detach()) >= limit else through * 0
            image = image + weight * rgb[s]
            alpha, depth = alpha + weight, depth + weight * t[s]
            weights.append(weight)
            through = through * (1 - opacity)
        images.append(image)
        alphas.append(alpha)
        depths.append(depth)
    return Composite(*(torch.stack(each) for each in (images, alphas, depths, weights)))


def loss(result: Composite) -> Tensor:
    """A number in which every output counts differently."""
    generator = torch.Generator().manual_seed(9)
    total = torch.zeros((), dtype=result.image.dtype)
    for part in result:
        total = total + (part * torch.rand(part.shape, generator=generator).to(part.dtype)).sum()
    return total


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [0.0, 1e-4, 0.3])
def test_composite_and_gradients_match_brute_force(name: str, limit: float) -> None:
    sigma, rgb, t, dt, offsets = samples(densest=40.0)
    backend = get_backend(name)
    gradients = []
    results = []
    for run in (backend.composite, plain):
        leaves = (sigma.clone().requires_grad_(), rgb.clone().requires_grad_())
        result = run(*leaves, t, dt, offsets, limit)
        results.append(result)
        gradients.append(torch.autograd.grad(loss(result), leaves))
    for ours, theirs in zip((*results[0], *gradients[0]), (*results[1], *gradients[1]), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_limit_cuts_samples_that_count_without_it() -> None:
    sigma, rgb, t, dt, offsets = samples(densest=40.0)
    cut = get_backend("cpu").composite(sigma, rgb, t, dt, offsets, 0.3).weights
    whole = get_backend("cpu").composite(sigma, rgb, t, dt, offsets, 0.0).weights
    assert bool(((cut == 0) & (whole > 1e-3)).any())


def test_reference_gradients_are_right() -> None:
    sigma, rgb, t, dt, offsets = (x.double() if x.is_floating_point() else x for x in samples())
    reference = get_backend("reference")
    assert torch.autograd.gradcheck(
        lambda sigma, rgb: tuple(reference.composite(sigma, rgb, t, dt, offsets)),
        (sigma.requires_grad_(), rgb.requires_grad_()),
        fast_mode=True,
    )


@pytest.mark.parametrize("name", NAMES)
def test_alpha_stays_within_0_and_1_even_when_density_overflows(name: str) -> None:
    sigma, rgb, t, dt, offsets = samples()
    sigma[::3] = 1e30
    sigma[1::5] = torch.inf
    sigma[2::5] = 0
    dt = dt.clamp(min=1e-3)
    leaf = sigma.requires_grad_()
    result = get_backend(name).composite(leaf, rgb, t, dt, offsets)
    assert bool(((result.alpha >= 0) & (result.alpha <= 1)).all())
    assert bool(((result.weights >= 0) & (result.weights <= 1)).all())
    (gradient,) = torch.autograd.grad(loss(result), leaf)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_thin_uniform_medium_follows_beer_and_lambert(name: str) -> None:
    steps, density, length = 50, 1.7, 0.8
    offsets = torch.tensor([0, steps])
    dt = torch.full((steps,), length / steps)
    t = (torch.arange(steps) + 0.5) * length / steps
    result = get_backend(name).composite(torch.full((steps,), density), torch.ones(steps, 3), t, dt, offsets)
    expected = 1 - math.exp(-density * length)
    assert float(result.alpha) == pytest.approx(expected, abs=1e-6)
    assert result.image[0].tolist() == pytest.approx([expected] * 3, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rays", [0, 3])
def test_rays_without_samples_are_empty(name: str, rays: int) -> None:
    sigma = torch.zeros(0, requires_grad=True)
    result = get_backend(name).composite(
        sigma, torch.zeros(0, 3), torch.zeros(0), torch.zeros(0), torch.zeros(rays + 1, dtype=torch.int64)
    )
    assert torch.equal(result.image, torch.zeros(rays, 3))
    assert torch.equal(result.alpha, torch.zeros(rays))
    assert result.weights.shape == (0,)
    (gradient,) = torch.autograd.grad(result.image.sum() + result.alpha.sum(), sigma)
    assert gradient.shape == (0,)


def test_cpu_stops_at_the_samples_at_which_the_reference_stops() -> None:
    backends: list[Backend] = [get_backend(name) for name in NAMES]
    for seed in range(30):
        results = [backend.composite(*samples(seed, densest=120.0), 1e-2) for backend in backends]
        assert torch.equal(results[0].weights == 0, results[1].weights == 0)


def test_wrong_input_is_named() -> None:
    sigma, rgb, t, dt, offsets = samples()
    cpu = get_backend("cpu")
    with pytest.raises(BadInput, match="rgb has shape"):
        cpu.composite(sigma, rgb[:, :2], t, dt, offsets)
    with pytest.raises(BadInput, match="offsets do not rise"):
        cpu.composite(sigma, rgb, t, dt, offsets[:-2])
    with pytest.raises(BadInput, match="offsets do not rise"):
        cpu.composite(sigma, rgb, t, dt, torch.tensor([0, 1000, len(sigma)]))
    with pytest.raises(BadInput, match="int64"):
        cpu.composite(sigma, rgb, t, dt, offsets.int())


def test_over_puts_a_premultiplied_layer_on_a_background() -> None:
    image = torch.tensor([[0.2, 0.1, 0.0], [0.0, 0.0, 0.0]])
    blended = over(image, torch.tensor([0.25, 0.0]), torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(blended, torch.tensor([[0.95, 0.1, 0.375], [1.0, 0.0, 0.5]]))

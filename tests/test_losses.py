"""What training minimises: known values, and gradients that stay finite at the edges."""

from __future__ import annotations

import pytest
import torch

from radnerf.losses import alpha_entropy, still_motion, structural_loss


def test_entropy_has_its_known_values() -> None:
    assert alpha_entropy(torch.tensor([0.5, 0.5])).item() == pytest.approx(1)
    assert alpha_entropy(torch.tensor([0.25])).item() == pytest.approx(0.8112781)
    assert alpha_entropy(torch.tensor([0.0, 1.0])).item() < 1e-3
    assert alpha_entropy(torch.tensor([0.1, 0.5])).item() == pytest.approx((0.4689956 + 1) / 2)


def test_entropy_has_finite_gradients_at_both_ends() -> None:
    alpha = torch.tensor([0.0, 1.0, 0.3, 0.7, 1e-30], requires_grad=True)
    alpha_entropy(alpha).backward()
    assert alpha.grad is not None
    assert bool(torch.isfinite(alpha.grad).all())
    # Downhill leads away from the middle.
    assert alpha.grad[2] > 0 > alpha.grad[3]


def test_still_motion_is_the_mean_over_the_still_samples() -> None:
    motion = torch.tensor([[0.5, -0.5], [1.0, 1.0], [0.2, 0.0]], requires_grad=True)
    weights, still = torch.tensor([0.5, 0.9, 0.25], requires_grad=True), torch.tensor([1.0, 0.0, 1.0])
    loss = still_motion(motion, weights, still)
    assert loss.item() == pytest.approx((0.5 * 1.0 + 0.25 * 0.2) / 0.75)
    loss.backward()
    # A sample that may move is left alone, and density is not what makes a sample still.
    assert motion.grad is not None
    assert motion.grad[1].tolist() == [0, 0]
    assert weights.grad is None


def test_still_motion_is_zero_where_nothing_is_still() -> None:
    motion = torch.ones(3, 2, requires_grad=True)
    loss = still_motion(motion, torch.ones(3), torch.zeros(3))
    loss.backward()
    assert loss.item() == 0
    assert motion.grad is not None
    assert bool(torch.isfinite(motion.grad).all())
    assert still_motion(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0)).item() == 0


def test_structural_loss_is_zero_for_equal_pictures_and_grows_with_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 24, 20, generator=generator)
    assert structural_loss(truth, truth).item() == pytest.approx(0, abs=1e-5)
    assert structural_loss(torch.zeros(3, 9, 9), torch.zeros(3, 9, 9)).item() == pytest.approx(0, abs=1e-6)
    noise = torch.randn(3, 24, 20, generator=generator)
    losses = [structural_loss((truth + share * noise).clamp(0, 1), truth).item() for share in (0.02, 0.1, 0.4)]
    assert 0 < losses[0] < losses[1] < losses[2] <= 2


def test_structural_loss_of_one_window_matches_the_formula() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = torch.rand(2, 1, 7, 7, generator=generator).double()
    x, y = first.flatten(), second.flatten()
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    top = (2 * x.mean() * y.mean() + 0.01**2) * (2 * covariance + 0.03**2)
    bottom = (x.mean() ** 2 + y.mean() ** 2 + 0.01**2) * (x.var(correction=0) + y.var(correction=0) + 0.03**2)
    assert structural_loss(first, second).item() == pytest.approx(1 - (top / bottom).item())


def test_structural_loss_has_finite_gradients_on_flat_pictures() -> None:
    flat = torch.full((3, 12, 12), 0.4, requires_grad=True)
    structural_loss(flat, torch.full((3, 12, 12), 0.6)).backward()
    assert flat.grad is not None
    assert bool(torch.isfinite(flat.grad).all())

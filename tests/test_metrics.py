"""Figures of comparison: held to their definitions, to brute force and to what they must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radnerf.metrics import (
    MOST_PSNR_DB,
    amplitude_gain,
    correlation,
    jitter_ratio,
    landmark_distance,
    psnr,
    ssim,
)


def _picture(seed: int, height: int = 24, width: int = 20) -> torch.Tensor:
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error() -> None:
    truth = torch.full((4, 4, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)


def test_psnr_of_equal_pictures_is_finite() -> None:
    assert psnr(_picture(0), _picture(0)) == MOST_PSNR_DB


def test_psnr_within_a_mask_sees_nothing_else() -> None:
    truth = _picture(1)
    mask = torch.zeros(24, 20, dtype=torch.bool)
    mask[3:7, 5:9] = True
    rendered = truth.clone()
    rendered[~mask] = 1 - rendered[~mask]
    assert psnr(rendered, truth, mask) == MOST_PSNR_DB
    assert psnr(rendered, truth) < 20
    rendered[3:7, 5:9] = truth[3:7, 5:9] + 0.01
    assert psnr(rendered, truth, mask) == pytest.approx(40.0, abs=1e-3)


def test_psnr_without_pixels_is_nan() -> None:
    assert math.isnan(psnr(_picture(0), _picture(1), torch.zeros(24, 20, dtype=torch.bool)))


def test_ssim_matches_brute_force() -> None:
    first, second = _picture(2, 13, 14), _picture(3, 13, 14)
    second = 0.7 * first + 0.3 * second
    along = np.arange(11) - 5
    weights = np.exp(-(along[:, None] ** 2 + along[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    x, y = first.double().numpy(), second.double().numpy()
    values = []
    for top in range(3):
        for left in range(4):
            for channel in range(3):
                a, b = x[top : top + 11, left : left + 11, channel], y[top : top + 11, left : left + 11, channel]
                ma, mb = (weights * a).sum(), (weights * b).sum()
                va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
                vab = (weights * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + 1e-4) * (2 * vab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    assert ssim(first, second) == pytest.approx(float(np.mean(values)), abs=1e-9)


def test_ssim_of_two_flat_greys_is_the_luminance_term() -> None:
    dark, light = torch.full((12, 12, 1), 0.2), torch.full((12, 12, 1), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(dark, light) == pytest.approx(expected, abs=1e-6)


def test_ssim_is_one_only_for_equal_pictures_and_symmetric() -> None:
    first, second = _picture(4), _picture(5)
    assert ssim(first, first) == pytest.approx(1.0, abs=1e-12)
    assert ssim(first, second) < 0.5
    assert ssim(first, second) == pytest.approx(ssim(second, first), abs=1e-12)


def test_ssim_refuses_pictures_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11 px"):
        ssim(_picture(0, 10, 30), _picture(1, 10, 30))


@given(
    seed=st.integers(0, 1000),
    scale=st.floats(0.01, 100),
    offset=st.floats(-10, 10),
)
def test_correlation_ignores_scale_and_offset_and_gain_is_the_scale(seed: int, scale: float, offset: float) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=40)
    noisy = truth + generator.normal(size=40)
    assert correlation(scale * noisy + offset, truth) == pytest.approx(np.corrcoef(noisy, truth)[0, 1], abs=1e-6)
    assert correlation(-scale * truth + offset, truth) == pytest.approx(-1.0, abs=1e-6)
    assert amplitude_gain(scale * truth + offset, truth) == pytest.approx(scale, rel=1e-6)


def test_a_still_curve_has_no_correlation() -> None:
    moving = np.sin(np.arange(20.0))
    assert math.isnan(correlation(np.full(20, 0.3), moving))
    assert math.isnan(correlation(moving, np.full(20, 0.3)))
    assert math.isnan(amplitude_gain(moving, np.full(20, 0.3)))
    assert amplitude_gain(np.full(20, 0.3), moving) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(correlation(moving[:2], moving[:2]))


def test_landmark_distance_ignores_where_the_mouth_is() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(5, 40, 2))
    moved = truth + generator.normal(size=(5, 1, 2)) * 100
    assert landmark_distance(moved, truth) == pytest.approx(0.0, abs=1e-9)
    wider = truth.copy()
    wider[:, 0] += (3.0, 4.0)
    # One of L landmarks moves by d: its distance is d (L - 1) / L, that of each other one d / L.
    assert landmark_distance(wider, truth) == pytest.approx(2 * 5.0 * 39 / 40 / 40, abs=1e-9)
    assert math.isnan(landmark_distance(truth[:0], truth[:0]))


def test_jitter_of_a_path_twice_as_rough_is_two() -> None:
    path = np.random.default_rng(1).normal(size=(30, 2))
    line = np.arange(30.0)[:, None] * (3.0, -1.0)
    frames = np.arange(100, 130)
    assert jitter_ratio(2 * path + line, path, frames) == pytest.approx(2.0)
    assert jitter_ratio(line, path, frames) == pytest.approx(0.0, abs=1e-9)


def test_jitter_leaves_gaps_out() -> None:
    path = np.random.default_rng(2).normal(size=(20, 2))
    rendered = path.copy()
    rendered[10:] += 50.0
    frames = np.concatenate([np.arange(10), np.arange(15, 25)])
    assert jitter_ratio(rendered, path, frames) == pytest.approx(1.0)
    assert jitter_ratio(rendered, path, np.arange(20)) > 2
    assert math.isnan(jitter_ratio(path, path, 2 * np.arange(20)))

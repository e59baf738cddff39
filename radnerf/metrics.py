"""Figures by which rendered frames are compared with true ones."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MOST_PSNR_DB = 100.0
"""What equal pictures get, where the formula gives infinity."""

SSIM_WINDOW = 11
"""Side of the structural similarity's window, px."""

_SSIM_SIGMA = 1.5
_SSIM_K1, _SSIM_K2 = 0.01, 0.03

Reals = NDArray[np.float32] | NDArray[np.float64]


def psnr(rendered: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio.

    Args:
        rendered: (H, W, C) float in [0, 1].
        truth: The same.
        mask: (H, W) bool, the pixels that count; all of them when None.

    Returns:
        dB, ``MOST_PSNR_DB`` at most; NaN when the mask leaves no pixel.
    """
    difference = (rendered - truth).square()
    if mask is not None:
        difference = difference[mask]
    mse = float(difference.double().mean())
    if math.isnan(mse):
        return math.nan
    return min(MOST_PSNR_DB, -10.0 * math.log10(max(mse, 1e-12)))


def ssim(rendered: Tensor, truth: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004, "Image Quality Assessment", eq. 13).

    Gaussian window of 11 x 11 px with sigma 1.5, K1 = 0.01, K2 = 0.03, where the window lies wholly within the
    picture, as in the authors' own code; of each channel on its own.

    Args:
        rendered: (H, W, C) float in [0, 1]; H and W at least 11.
        truth: The same.

    Returns:
        The mean over places and channels, in [-1, 1].

    Raises:
        ValueError: The pictures are smaller than the window.
    """
    if min(rendered.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} px a side, the picture is {tuple(rendered.shape)}")
    x, y = rendered.double().permute(2, 0, 1), truth.double().permute(2, 0, 1)
    blurred = _gaussian_means(torch.cat([x, y, x * x, y * y, x * y]))
    mean_x, mean_y, xx, yy, xy = blurred.chunk(5)
    variance_x, variance_y = xx - mean_x.square(), yy - mean_y.square()
    covariance = xy - mean_x * mean_y
    c1, c2 = _SSIM_K1**2, _SSIM_K2**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    spread = (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    return float((likeness / spread).mean())


def _gaussian_means(channels: Tensor) -> Tensor:
    """Gaussian means of (C, H, W) channels over every window that lies wholly within them."""
    along = torch.arange(SSIM_WINDOW, dtype=channels.dtype) - SSIM_WINDOW // 2
    weights = torch.exp(-along.square() / (2 * _SSIM_SIGMA**2))
    weights = weights / weights.sum()
    rows = functional.conv2d(channels[:, None], weights[None, None, :, None])
    return functional.conv2d(rows, weights[None, None, None, :])[:, 0]


def correlation(rendered: Reals, truth: Reals) -> float:
    """Pearson's correlation of two curves.

    Args:
        rendered: (N,).
        truth: (N,).

    Returns:
        In [-1, 1]; NaN for fewer than three values or where one of them does not change.
    """
    if len(rendered) < 3:
        return math.nan
    x = np.asarray(rendered, np.float64) - np.mean(rendered, dtype=np.float64)
    y = np.asarray(truth, np.float64) - np.mean(truth, dtype=np.float64)
    scale = math.sqrt(float(x @ x) * float(y @ y))
    still = 1e-9 * max(float(np.abs(rendered).max()), float(np.abs(truth).max()), 1e-30)
    if np.abs(x).max() <= still or np.abs(y).max() <= still or scale == 0.0:
        return math.nan
    return float(np.clip(float(x @ y) / scale, -1.0, 1.0))


def amplitude_gain(rendered: Reals, truth: Reals) -> float:
    """How far a rendered curve moves over how far the true one does: the ratio of their standard deviations.

    Args:
        rendered: (N,).
        truth: (N,).

    Returns:
        1 when they move as far as each other; NaN for fewer than three values or where the truth does not change.
    """
    if len(rendered) < 3:
        return math.nan
    spread = float(np.std(truth, dtype=np.float64))
    if spread <= 1e-9 * max(float(np.abs(truth).max()), 1e-30):
        return math.nan
    return float(np.std(rendered, dtype=np.float64)) / spread


def landmark_distance(rendered: Reals, truth: Reals) -> float:
    """Landmark distance (LMD; Chen et al. 2018, arXiv 1803.10404): how differently the landmarks lie to each other.

    Each frame's landmarks are taken relative to their own mean, so that the head's place does not count.

    Args:
        rendered: (N, L, 2) px.
        truth: (N, L, 2) px.

    Returns:
        Mean Euclidean distance, px; NaN without frames.
    """
    if len(rendered) == 0:
        return math.nan
    x = rendered[..., :2] - rendered[..., :2].mean(axis=1, keepdims=True)
    y = truth[..., :2] - truth[..., :2].mean(axis=1, keepdims=True)
    return float(np.linalg.norm(x - y, axis=-1).mean())


def jitter_ratio(rendered: Reals, truth: Reals, frames: NDArray[np.int64]) -> float:
    """How much a rendered point trembles over how much the true one does.

    Args:
        rendered: (N, 2) px, a point's path.
        truth: (N, 2) px.
        frames: (N,) frame numbers, ascending; only runs of three consecutive ones count.

    Returns:
        Ratio of the mean lengths of the second differences; NaN without such a run, or where the truth moves
        evenly.
    """
    inner = (frames[1:-1] - frames[:-2] == 1) & (frames[2:] - frames[1:-1] == 1)
    if not inner.any():
        return math.nan

    def trembling(path: Reals) -> float:
        second = path[2:].astype(np.float64) - 2 * path[1:-1].astype(np.float64) + path[:-2].astype(np.float64)
        return float(np.linalg.norm(second[inner], axis=-1).mean())

    true = trembling(truth)
    return trembling(rendered) / true if true > 1e-9 else math.nan

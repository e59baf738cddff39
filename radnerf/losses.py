"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def alpha_entropy(alpha: Tensor) -> Tensor:
    """Mean binary entropy of the accumulated alpha, which pushes rays to be opaque or empty.

    arXiv 2211.12368, equation 9.

    Args:
        alpha: (R,) float in [0, 1].

    Returns:
        Scalar in [0, 1] (bits).
    """
    # At 0 and 1 the entropy is 0 but its derivative is infinite: keep a little away from both.
    inside = alpha.clamp(1e-5, 1 - 1e-5)
    return -(inside * torch.log2(inside) + (1 - inside) * torch.log2(1 - inside)).mean()


def still_motion(motion: Tensor, weights: Tensor, still: Tensor) -> Tensor:
    """Magnitude of the audio coordinate where sound should move nothing (arXiv 2211.12368, section 3.4).

    Args:
        motion: (S, 2) float in [-1, 1].
        weights: (S,) float in [0, 1], the samples' shares in their rays; not differentiated.
        still: (S,) float in [0, 1], how still the sample's pixel is: 0 on the lower face.

    Returns:
        Scalar >= 0, mean over the weighted samples.
    """
    share = weights.detach() * still
    # The sum of shares is 0 when no sample is still; the loss is then 0, not 0 / 0.
    return (motion.abs().sum(-1) * share).sum() / share.sum().clamp(min=1e-6)


def structural_loss(rendered: Tensor, truth: Tensor) -> Tensor:
    """1 - SSIM over a patch (Wang et al. 2004), for where no perceptual weights are at hand.

    Args:
        rendered: (3, H, W) float in [0, 1].
        truth: (3, H, W) float in [0, 1].

    Returns:
        Scalar in [0, 2].
    """
    window = 7
    pair = torch.stack([rendered, truth])
    mean = functional.avg_pool2d(pair, window, stride=1)
    square = functional.avg_pool2d(pair * pair, window, stride=1)
    product = functional.avg_pool2d((rendered * truth)[None], window, stride=1)[0]
    # Rounding can make a flat window's variance slightly negative.
    variance = (square - mean * mean).clamp(min=0)
    covariance = product - mean[0] * mean[1]
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean[0] * mean[1] + c1) * (2 * covariance + c2)) / (
        (mean[0] ** 2 + mean[1] ** 2 + c1) * (variance[0] + variance[1] + c2)
    )
    return 1 - ssim.mean()

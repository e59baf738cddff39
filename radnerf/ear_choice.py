"""Which ear to believe: what each foretells of speech that it has not learnt from decides."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.agreement import correlation_within
from radnerf.kernel_ear import RIDGES as KERNEL_RIDGES
from radnerf.kernel_ear import WIDTHS, KernelEar
from radnerf.linear_ear import LinearEar
from radnerf.mouth import folds_of

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Penalties of the linear ear that are tried."""

CLEARLY_BETTER = 0.03
"""Correlation by which a share must beat the half to be taken."""


def fit_ear(ear: LinearEar, features: Tensor, mouth: Tensor, frames: Tensor, folds: int, leading: int) -> Tensor:
    """Fit the linear ear as it foretells unheard frames best: which penalty, and whether to hear all columns.

    Args:
        ear: Is fitted to all frames, in place.
        features: (T, C) float, standardised.
        mouth: (N, M) float, standardised components.
        frames: (F,) int64, the training frames, ascending.
        folds: As in ``foretell_unheard``.
        leading: The first columns, which come from a front end of their own; C when there is but one.

    Returns:
        (F, M) float, what was foretold of ``mouth[frames]`` unheard.
    """
    truth = mouth[frames]
    tried = [(ridge, weights) for weights in _hearing(features, leading) for ridge in RIDGES]
    foretold = torch.zeros(len(tried), *truth.shape)
    for fold in folds_of(frames, folds):
        for start in range(0, len(tried), len(RIDGES)):
            fits = ear.fits(features, mouth, fold.kept, RIDGES, tried[start][1])
            for number, _ in enumerate(fits, start):
                foretold[number, fold.held] = ear(features, frames[fold.held])
    # Opening and width are what is seen first.
    best = int((foretold - truth)[..., :2].square().mean((1, 2)).argmin())
    ear.fit(features, mouth, frames, *tried[best])
    return foretold[best]


def fit_kernel_ear(ear: KernelEar, features: Tensor, mouth: Tensor, frames: Tensor, folds: int) -> Tensor:
    """Fit the kernel ear as it foretells unheard frames best: which width and which penalty.

    Args:
        ear: Is fitted to all frames, in place.
        features: (T, C or more) float, standardised.
        mouth: (N, M) float, standardised components.
        frames: (F,) int64, the training frames, ascending.
        folds: As in ``foretell_unheard``.

    Returns:
        (F, M) float, what was foretold of ``mouth[frames]`` unheard.
    """
    truth, count = mouth[frames], mouth.shape[1]
    tried = [(width, ridge) for width in WIDTHS for ridge in KERNEL_RIDGES]
    foretold = torch.zeros(len(tried), *truth.shape)
    for fold in folds_of(frames, folds):
        for number, (width, ridge) in enumerate(tried):
            ear.fit(features, mouth, fold.kept, torch.full((count,), width), torch.full((count,), ridge))
            foretold[number, fold.held] = ear(features, frames[fold.held])
    best = torch.stack([correlation_within(one, truth) for one in foretold]).argmax(0)
    choices = torch.tensor(tried)[best]
    ear.fit(features, mouth, frames, choices[:, 0], choices[:, 1])
    return foretold[best, :, torch.arange(count)].T


def _hearing(features: Tensor, leading: int) -> list[Tensor]:
    """Weights of columns to try, (C,) each: both front ends as much as each other, or the first alone."""
    columns = features.shape[1]
    together = torch.ones(columns)
    if leading >= columns:
        return [together]
    together[:leading] = ((columns - leading) / leading) ** 0.5
    alone = torch.ones(columns)
    alone[leading:] = 0
    return [together, alone]


def ear_share(net: Tensor, ear: Tensor, truth: Tensor) -> Tensor:
    """How much of the linear ear to take, and the rest of the audio net, component by component.

    Args:
        net: (F, M) float, what the audio net foretold of frames that it had not learnt from.
        ear: (F, M) float, what the linear ear did.
        truth: (F, M) float.

    Returns:
        (M,) float in {0, 0.25, 0.5, 0.75, 1}: a half, unless another share correlates clearly better with the truth.
        Two opinions are steadier than one, and the net gains more from the frames that were held back here.
    """
    choices = torch.tensor([0.5, 0.25, 0.75, 0.0, 1.0])
    agreement = torch.stack([correlation_within(share * ear + (1 - share) * net, truth) for share in choices])
    agreement[0] += CLEARLY_BETTER
    return choices[agreement.argmax(0)]

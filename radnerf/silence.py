"""When the mouth rests: from where somebody speaks to how far the lips follow the sound, frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor

GAP_ROWS = 10
"""Pauses up to this long (0.2 s) lie inside a word or between two: the mouth does not close for them."""

BURST_ROWS = 2
"""Sounds up to this long (0.04 s) are clicks."""

LEAD_S = 0.04
"""How long before the sound the lips begin to part."""

ATTACK_S = 0.12
"""How long they take to."""

HOLD_S = 0.06
"""How long after the sound they go on."""

RELEASE_S = 0.18
"""How long they take to come to rest."""


def mouth_gate(voiced: Tensor, frames: int) -> Tensor:
    """How far the lips follow the sound.

    Args:
        voiced: (T,) float in [0, 1], whether somebody speaks, 50 rows a second.
        frames: How many frames, F, at 25 a second; frame i is the picture at i/25 s.

    Returns:
        (F,) float32 in [0, 1]: 0 where the mouth rests, 1 where it speaks, raised cosines between.
    """
    begins, ends = _runs(voiced)
    gate = torch.zeros(frames)
    if not len(begins):
        return gate
    times = torch.arange(frames, dtype=torch.float64) / 25
    last = torch.searchsorted(begins, times, right=True) - 1
    # Only the utterance that is going on, the one before it and the next one can open the mouth.
    for shift in (-1, 0, 1):
        which = last + shift
        there = (which >= 0) & (which < len(begins))
        which = which.clamp(0, len(begins) - 1)
        rise = _eased((times - begins[which] + LEAD_S) / ATTACK_S)
        fall = _eased(1 - (times - ends[which] - HOLD_S) / RELEASE_S)
        gate = torch.maximum(gate, torch.where(there, rise * fall, 0).float())
    return gate


def _runs(voiced: Tensor) -> tuple[Tensor, Tensor]:
    """Beginnings and ends of utterances, s, (R,) float64 each; short gaps filled, clicks left out."""
    spoken = (voiced.float() > 0.5).float()
    spoken = -_grown(-_grown(spoken, GAP_ROWS // 2), GAP_ROWS // 2)
    spoken = _grown(-_grown(-spoken, BURST_ROWS // 2), BURST_ROWS // 2)
    edges = torch.diff(spoken, prepend=spoken.new_zeros(1), append=spoken.new_zeros(1))
    return torch.nonzero(edges > 0)[:, 0].double() / 50, torch.nonzero(edges < 0)[:, 0].double() / 50


def _grown(rows: Tensor, reach: int) -> Tensor:
    """Each row's greatest neighbour within reach; the sound's ends have no neighbours beyond."""
    return torch.nn.functional.max_pool1d(rows[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0]


def _eased(progress: Tensor) -> Tensor:
    """A raised cosine from 0 at 0 to 1 at 1."""
    return 0.5 - 0.5 * torch.cos(torch.pi * progress.clamp(0, 1))

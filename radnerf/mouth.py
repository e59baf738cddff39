"""The mouth's shape in a few numbers, and the audio net's lesson in foretelling them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from radnerf.audio_net import AudioNet
from radnerf.errors import Diverged


def mouth_components(opening: Tensor, width: Tensor, shape: Tensor, known: Tensor, components: int) -> Tensor:
    """Opening, width, and the leading principal components of what they leave unexplained of the lips.

    Args:
        opening: (N,) float >= 0, gap between the inner lips.
        width: (N,) float > 0, distance between the mouth's corners.
        shape: (N, L, 2) float, lip landmarks in the head frame, cm.
        known: (N,) bool, the frames that means, spreads and components are taken from.
        components: Numbers a frame, M, at least 2.

    Returns:
        (N, M) float, each column with mean 0 and standard deviation 1 over the known frames; columns beyond what
        the frames tell are 0. Rounded, since the last bits of a decomposition differ from run to run.
    """
    plain = torch.stack([opening, width], dim=1).double()
    plain = (plain - plain[known].mean(0)) / plain[known].std(0).clamp(min=1e-8)
    lips = shape.flatten(1).double()
    lips = lips - lips[known].mean(0)
    explained = torch.linalg.lstsq(plain[known], lips[known]).solution
    rest = lips - plain @ explained
    result = torch.zeros(len(plain), components, dtype=plain.dtype)
    result[:, :2] = plain
    if components > 2:
        _, _, axes = torch.linalg.svd(rest[known], full_matrices=False)
        axes = axes[: components - 2]
        # The sign of a principal axis is arbitrary: fix it, so that equal clips make equal codes everywhere.
        largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
        scores = rest @ (axes * torch.sign(largest)).T
        result[:, 2 : 2 + len(axes)] = scores / scores[known].std(0).clamp(min=1e-8)
    return (result.float() * 1e4).round() / 1e4


@dataclass(frozen=True)
class MouthLesson:
    """How the audio net learns to foretell the mouth before the field learns to follow it.

    Attributes:
        steps: Of the optimiser.
        runs: Stretches of neighbouring frames in a step; neighbours share the windows that cost the time.
        run_frames: Frames in a stretch.
        rate: Adam's learning rate at the start; it falls to a tenth.
        weight_decay: AdamW's.
        noise: Standard deviation of the noise on standardised features.
        mask_rows: Longest stretch of feature rows that is blanked in a pass.
        mask_columns: Most feature columns that are blanked in a pass.
        folds: Parts of the training frames that are foretold by a net that has not heard them.
    """

    steps: int = 300
    runs: int = 3
    run_frames: int = 40
    rate: float = 4e-3
    weight_decay: float = 1e-2
    noise: float = 0.3
    mask_rows: int = 6
    mask_columns: int = 6
    folds: int = 2


def _disturbed(features: Tensor, lesson: MouthLesson, generator: torch.Generator) -> Tensor:
    """Features with noise, blanked stretches of time and blanked bands (SpecAugment, arXiv 1904.08779)."""
    rows, columns = features.shape
    noisy = features + lesson.noise * torch.randn(features.shape, generator=generator)
    for _ in range(max(1, rows // 100)):
        length = int(torch.randint(lesson.mask_rows + 1, (1,), generator=generator))
        start = int(torch.randint(rows, (1,), generator=generator))
        noisy[start : start + length] = 0
    count = int(torch.randint(lesson.mask_columns + 1, (1,), generator=generator))
    if columns > count:
        start = int(torch.randint(columns - count + 1, (1,), generator=generator))
        noisy[:, start : start + count] = 0
    return noisy


def teach_mouth(
    net: AudioNet,
    features: Tensor,
    mouth: Tensor,
    frames: Tensor,
    lesson: MouthLesson,
    generator: torch.Generator,
    on_step: Callable[[int], None] = lambda _: None,
) -> None:
    """Train the audio net to foretell the mouth's components from sound, in place.

    Args:
        net: The net.
        features: (T, C) float, standardised.
        mouth: (N, M) float, standardised components, frame i at feature row 2i.
        frames: (F,) int64, the frames to learn from.
        lesson: How.
        generator: Of every random choice.
        on_step: Called with the number of finished steps.

    Raises:
        Diverged: The loss is not finite.
    """
    optimiser = torch.optim.AdamW(net.parameters(), lr=lesson.rate, weight_decay=lesson.weight_decay)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.1 ** (step / max(1, lesson.steps)))
    for step in range(lesson.steps):
        starts = torch.randint(max(1, len(frames) - lesson.run_frames + 1), (lesson.runs, 1), generator=generator)
        chosen = frames[(starts + torch.arange(lesson.run_frames)).clamp(max=len(frames) - 1).flatten()]
        _, foretold = net(_disturbed(features, lesson, generator), chosen)
        loss = nn.functional.smooth_l1_loss(foretold, mouth[chosen])
        if not torch.isfinite(loss):
            raise Diverged(f"the audio net's loss is {loss.item()}", hint="lower head.network_rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        falling.step()
        on_step(step + 1)


def foretell_unheard(
    make_net: Callable[[], AudioNet],
    features: Tensor,
    mouth: Tensor,
    frames: Tensor,
    lesson: MouthLesson,
    generator: torch.Generator,
    on_step: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Foretell each training frame by a net that has not learnt from it or from its neighbourhood.

    Args:
        make_net: Makes a fresh net.
        features: (T, C) float, standardised.
        mouth: (N, M) float, standardised components.
        frames: (F,) int64, the training frames, ascending.
        lesson: How a net is taught.
        generator: Of every random choice.
        on_step: Called with the number of finished steps over all folds.

    Returns:
        (F, M) float, what was foretold of ``mouth[frames]``.
    """
    guard = 12  # frames: neither a window nor the attention reaches from a kept frame into the fold
    foretold = torch.zeros(len(frames), mouth.shape[1])
    for fold, held in enumerate(torch.arange(len(frames)).chunk(lesson.folds)):
        first, last = int(frames[held[0]]), int(frames[held[-1]])
        kept = frames[(frames < first - guard) | (frames > last + guard)]
        net = make_net()
        done = fold * lesson.steps
        teach_mouth(net, features, mouth, kept, lesson, generator, lambda step, done=done: on_step(done + step))  # type: ignore[misc]
        with torch.no_grad():
            foretold[held] = net(features, frames[held])[1]
    return foretold


def amplitude_gain(foretold: Tensor, truth: Tensor, most: float = 2.0) -> Tensor:
    """By how much to amplify what is foretold, so that its spread is the true one.

    What is foretold of unheard speech keeps to the mean; lips that follow it would mumble.

    Args:
        foretold: (F, M) float, of frames that were not learnt from.
        truth: (F, M) float.
        most: Largest gain.

    Returns:
        (M,) float in [1, most]; 1 where what is foretold has nothing to do with the truth.
    """
    centred = foretold - foretold.mean(0)
    target = truth - truth.mean(0)
    spread = centred.std(0).clamp(min=1e-6)
    agreement = (centred * target).mean(0) / (spread * target.std(0).clamp(min=1e-6))
    gain = (target.std(0) / spread).clamp(1.0, most)
    # Amplifying noise is worse than a small mouth: take the gain in as far as the two agree.
    return 1 + (gain - 1) * agreement.clamp(0, 1)

"""The mouth's shape in a few numbers, and the audio net's lesson in foretelling them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from radnerf.audio_net import AudioNet
from radnerf.errors import Diverged

_TRUSTED_AGREEMENT = 0.4
_SILENT_FRAMES = 8
_CLOSED_QUANTILE = 0.25
_BLOCK_FRAMES = 1 << 13


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
    result = torch.zeros(len(plain), components, dtype=plain.dtype)
    result[:, :2] = plain
    if components == 2:
        return _rounded(result)
    lips, learnt = shape.flatten(1), torch.nonzero(known)[:, 0]
    # Block by block: a clip of hours has more landmarks than should be held twice.
    middle = sum(lips[some].double().sum(0) for some in torch.split(learnt, _BLOCK_FRAMES)) / len(learnt)
    squares = torch.zeros(lips.shape[1] + 2, lips.shape[1] + 2, dtype=plain.dtype)
    for some in torch.split(learnt, _BLOCK_FRAMES):
        both = torch.cat([plain[some], lips[some].double() - middle], dim=1)
        squares += both.T @ both
    explained = torch.linalg.lstsq(squares[:2, :2], squares[:2, 2:]).solution
    # The eigenvectors of what is left of the lips' covariance, the greatest first.
    axes = torch.linalg.eigh(squares[2:, 2:] - squares[2:, :2] @ explained).eigenvectors.T.flip(0)[: components - 2]
    # The sign of a principal axis is arbitrary: fix it, so that equal clips make equal codes everywhere.
    axes = axes * torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))
    for some in torch.split(torch.arange(len(plain)), _BLOCK_FRAMES):
        rest = lips[some].double() - middle - plain[some] @ explained
        result[some, 2 : 2 + len(axes)] = rest @ axes.T
    result[:, 2:] /= result[known, 2:].std(0).clamp(min=1e-8)
    return _rounded(result)


def _rounded(components: Tensor) -> Tensor:
    """To four digits, as float32."""
    return (components.float() * 1e4).round() / 1e4


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
        level: Standard deviation of a stretch's offset, the same in all columns: another loudness.
        mixing: Most of another stretch of the clip that is heard behind.
        speed: Most by which a stretch is spoken faster or slower, as a share.
        mask_rows: Longest stretch of feature rows that is blanked in a pass.
        mask_columns: Most feature columns that are blanked in a pass.
        folds: Parts of the training frames that are foretold by a net that has not heard them.
    """

    steps: int = 300
    runs: int = 3
    run_frames: int = 40
    rate: float = 4e-3
    weight_decay: float = 0.1
    noise: float = 0.3
    level: float = 0.2
    mixing: float = 0.2
    speed: float = 0.1
    mask_rows: int = 6
    mask_columns: int = 6
    folds: int = 4


_MARGIN_FRAMES = 12
"""Neither a window nor the attention reaches further from a frame than this."""


def _between(values: Tensor, places: Tensor) -> Tensor:
    """Rows of (T, C) values at fractional places, linearly interpolated, held at the ends."""
    places = places.clamp(0, len(values) - 1)
    before = places.long().clamp(max=max(0, len(values) - 2))
    share = (places - before).to(values.dtype)[:, None]
    return values[before] * (1 - share) + values[(before + 1).clamp(max=len(values) - 1)] * share


def _uniform(generator: torch.Generator) -> float:
    """A number in [-1, 1)."""
    return 2 * float(torch.rand(1, generator=generator)) - 1


def _disturbed(rows: Tensor, features: Tensor, lesson: MouthLesson, generator: torch.Generator) -> Tensor:
    """A stretch of features at another level, with other speech behind, noise, and blanks in time and in columns.

    Blanking is SpecAugment's (arXiv 1904.08779).
    """
    count, columns = rows.shape
    other = int(torch.randint(max(1, len(features) - count + 1), (1,), generator=generator))
    behind = _between(features, other + torch.arange(count, dtype=rows.dtype))
    rows = rows + lesson.mixing * float(torch.rand(1, generator=generator)) * behind
    rows = rows + lesson.level * torch.randn(1, generator=generator)
    rows = rows + lesson.noise * torch.randn(rows.shape, generator=generator)
    length = int(torch.randint(lesson.mask_rows + 1, (1,), generator=generator))
    start = int(torch.randint(count, (1,), generator=generator))
    rows[start : start + length] = 0
    blanked = int(torch.randint(lesson.mask_columns + 1, (1,), generator=generator))
    if columns > blanked:
        start = int(torch.randint(columns - blanked + 1, (1,), generator=generator))
        rows[:, start : start + blanked] = 0
    return rows


def _stretches(
    features: Tensor, mouth: Tensor, frames: Tensor, lesson: MouthLesson, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Disturbed stretches of the clip, one behind the other, each with a margin before and after.

    Returns:
        rows: (R, C) float, features.
        places: (B,) int64, frames in them.
        truth: (B, M) float, the mouth in those frames; NaN where it is not to be learnt from.
    """
    known = torch.full_like(mouth, torch.nan)
    known[frames] = mouth[frames]
    span = lesson.run_frames + 2 * _MARGIN_FRAMES
    rows, places, truth = [], [], []
    for run in range(lesson.runs):
        start = int(frames[torch.randint(max(1, len(frames) - lesson.run_frames + 1), (1,), generator=generator)])
        pace = 1 + lesson.speed * _uniform(generator)
        middle = start + lesson.run_frames / 2
        heard = 2 * middle + (torch.arange(2 * span, dtype=features.dtype) - span) * pace
        rows.append(_disturbed(_between(features, heard), features, lesson, generator))
        shown = torch.arange(lesson.run_frames)
        places.append(run * span + _MARGIN_FRAMES + shown)
        seen = middle + (shown - lesson.run_frames / 2) * pace
        within = (seen >= 0) & (seen <= len(mouth) - 1)
        truth.append(torch.where(within[:, None], _between(known, seen), torch.nan))
    return torch.cat(rows), torch.cat(places), torch.cat(truth)


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
    optimiser = torch.optim.AdamW(net.parameters(), lr=lesson.rate, weight_decay=lesson.weight_decay, fused=True)
    falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.1 ** (step / max(1, lesson.steps)))
    for step in range(lesson.steps):
        rows, places, truth = _stretches(features, mouth, frames, lesson, generator)
        learnt = torch.isfinite(truth[:, 0])
        if not learnt.any():
            # Only gaps: frames in which no face was tracked.
            on_step(step + 1)
            continue
        _, foretold = net(rows, places)
        loss = nn.functional.smooth_l1_loss(foretold[learnt], truth[learnt])
        if not torch.isfinite(loss):
            raise Diverged(f"the audio net's loss is {loss.item()}", hint="lower head.network_rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        falling.step()
        on_step(step + 1)


@dataclass(frozen=True)
class Fold:
    """A part of the training frames, and what may be learnt from when it is to be foretold unheard.

    Attributes:
        held: (H,) int64, places in the list of training frames.
        kept: (K,) int64, frames.
    """

    held: Tensor
    kept: Tensor


def folds_of(frames: Tensor, count: int) -> list[Fold]:
    """Part the training frames; no window reaches from a kept frame into the part that is held back.

    Args:
        frames: (F,) int64, the training frames, ascending.
        count: Parts.
    """
    folds = []
    for held in torch.arange(len(frames)).chunk(count):
        first, last = int(frames[held[0]]), int(frames[held[-1]])
        folds.append(Fold(held, frames[(frames < first - _MARGIN_FRAMES) | (frames > last + _MARGIN_FRAMES)]))
    return folds


def foretell_unheard(
    make_net: Callable[[], AudioNet],
    features: Tensor,
    mouth: Tensor,
    frames: Tensor,
    lesson: MouthLesson,
    generator: torch.Generator,
    on_step: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, list[AudioNet]]:
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
        foretold: (F, M) float, of ``mouth[frames]``.
        nets: One a fold.
    """
    foretold, nets = torch.zeros(len(frames), mouth.shape[1]), []
    for number, fold in enumerate(folds_of(frames, lesson.folds)):
        net = make_net()
        nets.append(net)
        done = number * lesson.steps
        teach_mouth(net, features, mouth, fold.kept, lesson, generator, lambda step, done=done: on_step(done + step))  # type: ignore[misc]
        with torch.no_grad():
            foretold[fold.held] = net(features, frames[fold.held])[1]
    return foretold, nets


def closed_frames(opening: Tensor, gate: Tensor) -> Tensor:
    """The frames that show how this person's mouth rests.

    Args:
        opening: (F,) float, of the training frames.
        gate: (F,) float in [0, 1], how far the lips follow the sound there.

    Returns:
        (K,) int64, places in the list of training frames, K >= 1: of those in which nobody speaks the more closed
        half, when they last a third of a second and that half is no more open than the mouth usually is; else the
        tenth of all frames with the smallest opening.
    """
    silent = torch.nonzero(gate <= 0)[:, 0]
    if len(silent) >= _SILENT_FRAMES:
        rest = silent[opening[silent] <= opening[silent].median()]
        if opening[rest].mean() <= opening.quantile(_CLOSED_QUANTILE):
            return rest
    return torch.nonzero(opening <= opening.quantile(0.1))[:, 0]


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
    # Amplifying noise is worse than a small mouth: what hardly agrees with the truth is taken back.
    return 1 + (gain - 1) * (agreement / _TRUSTED_AGREEMENT).clamp(0, 1)

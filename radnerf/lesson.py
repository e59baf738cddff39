"""The whole lesson of a head's ears, from clip to what new speech is heard with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from radnerf.agreement import correlation
from radnerf.ear_choice import ear_share, fit_ear, fit_kernel_ear
from radnerf.model import HeadModel
from radnerf.mouth import MouthLesson, amplitude_gain, closed_frames, foretell_unheard, teach_mouth
from radnerf.silence import mouth_gate
from radnerf.voice import VoiceMeter


@dataclass(frozen=True)
class Speech:
    """What the lesson is taught from.

    Attributes:
        features: (T, C) float, standardised, 50 rows a second.
        voiced: (T,) float in [0, 1], whether somebody speaks.
        mouth: (N, M) float, the measured mouth's standardised components, frame i at feature row 2 i.
        frames: (F,) int64, the training frames, ascending.
    """

    features: Tensor
    voiced: Tensor
    mouth: Tensor
    frames: Tensor


def learn_voice(model: HeadModel, features: Tensor, voiced: Tensor) -> None:
    """Keep the statistics of the training clip's speech, in place; other voices are brought to them.

    Args:
        model: The head.
        features: (T, C) float, of the training part, not standardised.
        voiced: (T,) float in [0, 1].
    """
    meter = VoiceMeter(features.shape[1])
    # A clip in which no voice was found is taken as speech throughout.
    meter.hear(features, voiced if bool((voiced > 0.5).sum() >= 50) else torch.ones_like(voiced))
    voice = meter.voice()
    model.voice_mean.copy_(voice.mean)
    model.voice_std.copy_(voice.std.clamp(min=1e-3))


def learn_mouth(
    model: HeadModel,
    speech: Speech,
    lesson: MouthLesson,
    generator: torch.Generator,
    on_step: Callable[[int, int], None] = lambda _, __: None,
) -> Tensor:
    """Teach the audio net and the two ears beside it to foretell the mouth, and measure how the mouth rests, in place.

    Args:
        model: The head; its audio net on the CPU.
        speech: What to learn from.
        lesson: How.
        generator: Of every random choice.
        on_step: Called with the number of finished steps and that of all steps.

    Returns:
        (M,) float, correlation with the truth of what is foretold of training frames that were not learnt from.

    Raises:
        Diverged: The loss is not finite.
    """
    features, mouth, frames = speech.features, speech.mouth, speech.frames
    total = (lesson.folds + 1) * lesson.steps

    columns = model.shape.net_features or model.shape.features
    for_net = features[:, :columns].contiguous()
    by_net, nets = foretell_unheard(
        model.fresh_net, for_net, mouth, frames, lesson, generator, lambda step: on_step(step, total)
    )
    # They have heard three quarters of the clip each. What they agree on is steadier than what one of them says.
    for kept, net in zip(model.further_nets, nets, strict=False):
        kept.load_state_dict(net.state_dict())
    by_ear = fit_ear(model.linear_ear, features, mouth, frames, lesson.folds, columns)
    if model.shape.kernel_frames:
        by_ear = 0.5 * (by_ear + fit_kernel_ear(model.kernel_ear, features, mouth, frames, lesson.folds))
    truth = mouth[frames]
    share = ear_share(by_net, by_ear, truth)
    unheard = share * by_ear + (1 - share) * by_net
    model.ear_share.copy_(share)
    model.mouth_gain.copy_(amplitude_gain(unheard, truth))
    before = lesson.folds * lesson.steps
    teach_mouth(model.audio_net, for_net, mouth, frames, lesson, generator, lambda step: on_step(before + step, total))
    gate = mouth_gate(speech.voiced, len(mouth))[frames]
    rest = closed_frames(truth[:, 0], gate)
    with torch.no_grad():
        code, _ = model.audio_net(for_net, frames[rest])
    model.closed_mouth.copy_(truth[rest].mean(0))
    model.closed_code.copy_(code.mean(0))
    return correlation(unheard, truth)

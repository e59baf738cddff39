"""How much more speech helps: the lips that are foretold of held-out speech after learning from so many seconds.

    python benchmarks/learning_curve.py subjects/german
    python benchmarks/learning_curve.py subjects/demo --seconds 5,10,18,60,180 --seeds 3

Only hearing is learnt, not the picture, so that a point takes seconds. What is learnt from are the last seconds before
the held-out part, which stays the same. Prints correlation and amplitude of opening and width, mean and spread over
seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from radnerf.agreement import correlation
from radnerf.grid import GridSpec
from radnerf.kernel_ear import kept_frames
from radnerf.lesson import Speech, learn_mouth, learn_voice
from radnerf.model import HeadModel, ModelShape
from radnerf.mouth import MouthLesson, mouth_components
from stages.formats import FPS, AudioFeatures, Track
from stages.hearing import net_features
from stages.settings import HeadSettings
from stages.training_data import first_held_out
from stages.workspace import Workspace


def main() -> None:
    """Learn, foretell, print."""
    arguments = _arguments()
    workspace = Workspace(arguments.subject)
    track, features = Track.load(workspace.track), AudioFeatures.load(workspace.features)
    torch.set_num_threads(1)
    first = first_held_out(len(track.tracked))
    held_out = first + torch.from_numpy(np.flatnonzero(track.tracked[first:]))
    known = torch.from_numpy(np.flatnonzero(track.tracked[:first]))
    print(f"front end {features.front_end} {features.model}, {len(held_out)} held-out frames")  # noqa: T201
    print("seconds  opening r      width r        opening gain   width gain")  # noqa: T201
    for seconds in arguments.seconds:
        frames = known[-round(seconds * FPS) :]
        if len(frames) < round(seconds * FPS):
            print(f"{seconds:7g}  the clip has {len(known) / FPS:.1f} s to learn from")  # noqa: T201
            continue
        found = torch.stack([foretold(track, features, frames, held_out, seed) for seed in range(arguments.seeds)])
        spread = found.std(0) if arguments.seeds > 1 else torch.zeros(4)
        said = (f"{mean:.2f} +- {by:.2f}" for mean, by in zip(found.mean(0).tolist(), spread.tolist(), strict=True))
        print(f"{seconds:7g}  " + "   ".join(said), flush=True)  # noqa: T201


def foretold(track: Track, features: AudioFeatures, frames: Tensor, held_out: Tensor, seed: int) -> Tensor:
    """Learn to hear from some frames and foretell others.

    Args:
        track: The measured mouth.
        features: The sound.
        frames: (F,) int64, to learn from.
        held_out: (H,) int64, to foretell.
        seed: Of the lesson.

    Returns:
        (4,) float: correlations of opening and width with the truth, then their spreads over the true ones.
    """
    head, mouth = lesson(track, features, frames, seed)
    with torch.no_grad():
        said = head.hear(head.standardised(torch.from_numpy(features.values)), held_out)[1][:, :2]
    truth = mouth[held_out, :2]
    return torch.cat([correlation(said, truth), said.std(0) / truth.std(0).clamp(min=1e-6)])


def measured_mouth(track: Track, frames: Tensor) -> Tensor:
    """The measured mouth of every frame, (N, M) float32, in the components of the frames (F,) that are learnt from."""
    learnt = torch.zeros(len(track.tracked), dtype=torch.bool)
    learnt[frames] = True
    shapes = (torch.from_numpy(part) for part in (track.mouth_open, track.mouth_wide, track.mouth_shape))
    return mouth_components(*shapes, learnt, HeadSettings().mouth_components)


def lesson(track: Track, features: AudioFeatures, frames: Tensor, seed: int) -> tuple[HeadModel, Tensor]:
    """Learn to hear from some frames, as the head's training does, with a field of the least size.

    Args:
        track: The measured mouth.
        features: The sound.
        frames: (F,) int64, to learn from.
        seed: Of the lesson.

    Returns:
        head: What hears.
        mouth: (N, M) float32, the measured mouth of every frame.
    """
    settings, mouth = HeadSettings(), measured_mouth(track, frames)
    torch.manual_seed(seed)
    taught = MouthLesson(steps=settings.mouth_lesson_steps)
    shape = ModelShape(
        backbone="radnerf",
        features=features.values.shape[1],
        net_features=net_features(features),
        kernel_frames=len(kept_frames(frames)),
        further_nets=taught.folds,
        frames=1,
        mouth=settings.mouth_components,
        audio_code=settings.audio_code,
        appearance_code=1,
        hidden_width=16,
        space=GridSpec(3, 1, 2, 2, 2, 3),
        audio_plane=GridSpec(2, 1, 2, 2, 2, 3),
        occupancy_resolution=2,
        samples_per_ray=1,
        min_step_cm=1.0,
    )
    head = HeadModel(shape, torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    rows = slice(2 * int(frames[0]), 2 * (int(frames[-1]) + 1))
    part, voiced = torch.from_numpy(features.values[rows]), torch.from_numpy(features.voiced)
    learn_voice(head, part, voiced[rows])
    head.feature_mean.copy_(part.mean(0))
    head.feature_std.copy_(part.std(0).clamp(min=1e-3))
    heard = head.standardised(torch.from_numpy(features.values))
    learn_mouth(head, Speech(heard, voiced, mouth, frames), taught, torch.Generator().manual_seed(seed))
    return head, mouth


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How much more speech helps.")
    parser.add_argument("subject", type=Path, help="a prepared subject's folder")
    parser.add_argument("--seconds", type=_numbers, default=[5.0, 10.0, 18.0], help="comma-separated; default 5,10,18")
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    main()

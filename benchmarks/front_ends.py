"""Compare front ends on rendered lips: the same trained head speaks its held-out part as each of them hears it.

    python benchmarks/front_ends.py subjects/german
    python benchmarks/front_ends.py subjects/demo --front-ends logmel,both:base --seeds 1

For each front end and seed, hearing is learnt anew from the training part; the field stays as trained, its audio code
hidden, as it is in a share of the training's steps, so that the foretold mouth alone drives it. Held-out frames are
rendered at 256 px over the true torso, and lips read in them as ``radnerf evaluate`` does. The last rows are the
measured mouth, which is what the field could do with perfect hearing, and the portrait as trained, its code heard.
Front ends whose packages or weights are missing are named and left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from learning_curve import lesson, measured_mouth
from torch import Tensor

from radnerf.kernels import get_backend
from radnerf.model import HeadModel
from radnerf.portrait import put_over, render_head
from stages import audio
from stages.errors import BadInput
from stages.evaluation_measures import LEAST_READING_PX, FaceReader, Reading, face_figures
from stages.formats import AudioFeatures, Track
from stages.head_file import load_head
from stages.hearing import hear, open_features
from stages.settings import AudioSettings, HeadSettings
from stages.tracked_moment import tracked_condition, tracked_pose
from stages.training_data import LayerFiles, LayerReader, Pictures, camera_of, first_held_out
from stages.vision.images import Rgb
from stages.workspace import Workspace

FIGURES = ("lip_opening_r", "lip_opening_gain", "lip_width_r", "lip_width_gain", "lmd_px")


@dataclass(frozen=True)
class HeldOut:
    """A trained head and the held-out frames that it speaks.

    Attributes:
        head: As trained.
        track: The measured poses, eyes and mouth.
        files: The true pictures.
        frames: (H,) int64, held-out frames whose pose was measured.
        truth: What is read in the true pictures.
    """

    head: HeadModel
    track: Track
    files: LayerFiles
    frames: Tensor
    truth: Reading

    def figures(self, code: Tensor, mouth: Tensor) -> list[float]:
        """Render every held-out frame and read its lips.

        Args:
            code: (H, A) float, audio codes.
            mouth: (H, M) float, what drives the lips.

        Returns:
            ``FIGURES``.
        """
        kernels, camera = get_backend("auto"), camera_of(self.track).scaled(LEAST_READING_PX)

        def rendered(place: int, true: Pictures) -> Rgb:
            frame, one = int(self.frames[place]), slice(place, place + 1)
            condition = tracked_condition(self.head, self.track, frame, code[one], mouth[one])
            layer = render_head(self.head, kernels, camera, tracked_pose(self.track, frame), condition)
            whole = put_over(layer, torch.from_numpy(true.behind).float() / 255)
            return (whole.clamp(0, 1) * 255).round().to(torch.uint8).numpy()

        found = face_figures(read(self.files, self.frames, rendered), self.truth, self.track, camera)
        return [found[name] for name in FIGURES]


def main() -> None:
    """Learn, render, read, print."""
    arguments = _arguments()
    torch.set_num_threads(1)  # the lesson's matrices are small
    workspace = Workspace(arguments.subject)
    held_out = _held_out(workspace)
    say(f"{len(held_out.frames)} held-out frames, read at {LEAST_READING_PX} px")
    say(f"{'':18}opening r     amplitude     width r       amplitude     lips off, px")
    hidden = torch.zeros(len(held_out.frames), held_out.head.shape.audio_code)
    with tempfile.TemporaryDirectory(prefix="radnerf-front-ends-") as folder:
        for name in arguments.front_ends:
            path = Path(folder) / f"{name.replace(':', '-')}.npz"
            front_end, _, model = name.partition(":")
            try:
                audio.run(audio.Inputs(workspace.audio), audio.Outputs(path), AudioSettings(front_end, model))
            except BadInput as missing:
                say(f"{name:18}left out: {missing}")
                continue
            seeds = range(1, arguments.seeds + 1)
            say_row(name, [held_out.figures(hidden, foretold(path, held_out, seed)) for seed in seeds])
    measured = heads_mouth(held_out.track)[held_out.frames]
    say_row("measured mouth", [held_out.figures(hidden, measured)])
    say_row("as trained", [held_out.figures(*heard(workspace.features, held_out.head, held_out.frames))])


def foretold(path: Path, held_out: HeldOut, seed: int) -> Tensor:
    """The mouth of held-out frames as a front end's new lesson hears it, (H, M) float.

    Args:
        path: The clip's features.
        held_out: What it is for.
        seed: Of the lesson.
    """
    hearing, _ = lesson(held_out.track, AudioFeatures.load(path), training_frames(held_out.track), seed)
    return heard(path, hearing, held_out.frames)[1]


def heard(path: Path, head: HeadModel, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Audio codes (H, A) and mouths (H, M) of some frames, as speaking hears them."""
    first, last = int(frames[0]), int(frames[-1]) + 1
    with open_features(path) as features:
        code, mouth = hear(head, features, first, last)
    return code[frames - first], mouth[frames - first]


def heads_mouth(track: Track) -> Tensor:
    """The measured mouth of every frame in the components that drive a head, (N, M) float32."""
    return measured_mouth(track, training_frames(track))


def training_frames(track: Track) -> Tensor:
    """The frames that a head is trained on, (F,) int64."""
    return torch.from_numpy(np.flatnonzero(track.tracked[: first_held_out(len(track.tracked))]))


def read(files: LayerFiles, frames: Tensor, picture: Callable[[int, Pictures], Rgb]) -> Reading:
    """Read the face in a picture of each frame.

    Args:
        files: The true pictures.
        frames: (H,) int64.
        picture: Gives the picture, from the frame's place among these and its true pictures.
    """
    reader = LayerReader(files, LEAST_READING_PX)
    with FaceReader() as faces:
        for place, frame in enumerate(frames.tolist()):
            faces.look("", frame, picture(place, reader.read(frame)))
        return faces.reading("")


def say_row(name: str, figures: list[list[float]]) -> None:
    """Print mean and spread over seeds of each figure."""
    found = torch.tensor(figures)
    spread = found.std(0) if len(found) > 1 else torch.zeros(found.shape[1])
    cells = (f"{mean:5.2f} +- {by:4.2f}" for mean, by in zip(found.mean(0).tolist(), spread.tolist(), strict=True))
    say(f"{name:18}" + "".join(f"{cell:14}" for cell in cells))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _held_out(workspace: Workspace) -> HeldOut:
    head, _ = load_head(workspace.head)
    if head.shape.mouth != HeadSettings().mouth_components:
        sys.exit(f"{workspace.head} is driven by {head.shape.mouth} components of the mouth: train it with the default")
    track = Track.load(workspace.track)
    first = first_held_out(len(track.tracked))
    frames = torch.from_numpy(first + np.flatnonzero(track.tracked[first:]))
    files = LayerFiles(workspace.layers, workspace.parsing, workspace.background)
    truth = read(files, frames, lambda _, true: true.truth)
    return HeldOut(head, track, files, frames, truth)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare front ends on rendered lips.")
    parser.add_argument("subject", type=Path, help="a trained subject's folder")
    parser.add_argument(
        "--front-ends",
        type=lambda text: text.split(","),
        default=["logmel", "whisper:tiny.en", "whisper:base", "both:tiny.en", "both:base"],
        help="comma-separated, each with its weights behind a colon",
    )
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()

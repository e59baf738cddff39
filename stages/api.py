"""The Python interface: a trained subject as an object that renders speeches to files, or frame by frame.

``radnerf.load`` is this module's ``load``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import yaml

from radnerf.camera import yaw_pitch_rotation
from radnerf.devices import pick_device
from radnerf.kernels import get_backend
from radnerf.model import HeadModel
from radnerf.torso import TorsoModel
from stages import audio, render
from stages.atomic_files import load_json, save_json, sha256_of
from stages.backdrop import clip_background, plain_background
from stages.blinks import learn_style
from stages.colours import Colour, parse_colour
from stages.cutout import Figure, straight_rgba
from stages.errors import BadInput
from stages.formats import FPS, Track
from stages.head_file import load_head
from stages.hearing import Features, check_heard, open_features
from stages.motion import Performance, own_motion, perform
from stages.settings import AudioSettings, RenderSettings
from stages.settings_reading import from_mapping
from stages.speech_activity import load_activity
from stages.speech_job import JOB_FORMAT, load_job
from stages.torso_file import load_torso
from stages.training_data import camera_of
from stages.workspace import Workspace, open_subject

Pixels = npt.NDArray[np.uint8]
Eyes = float | Literal["auto", "clip"]


def load(
    subject: str | Path, *, home: str | Path | None = None, backend: str = "auto", device: str = "auto"
) -> Portrait:
    """Open a trained subject.

    Args:
        subject: Its name, or the path of its folder.
        home: The folder that holds ``subjects/``; ``RADNERF_HOME``, else the working directory, when None.
        backend: The kernels' name: ``auto``, ``reference``, ``cpu`` …
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The portrait, its models in memory.

    Raises:
        BadInput: There is no such subject, or it is not trained.
    """
    folder = Path(subject)
    if (folder / "subject.yaml").is_file():
        workspace = Workspace(folder.resolve())
    else:
        workspace = open_subject(Path(home or os.environ.get("RADNERF_HOME", ".")).resolve(), str(subject))
    for path in (workspace.head, workspace.torso, workspace.track, workspace.background):
        if not path.is_file():
            raise BadInput(f"the subject {workspace.root.name!r} has no {path.name}", hint="train it first")
    place = pick_device(device)
    head, header = load_head(workspace.head, backend, place)
    return Portrait(workspace, head, load_torso(workspace.torso, backend, place), header, backend, device)


@dataclass(frozen=True)
class Portrait:
    """A trained subject.

    Attributes:
        workspace: Its files.
        head, torso: Its models.
        header: What the head's file says of itself.
        backend, device: Where it renders.
    """

    workspace: Workspace
    head: HeadModel
    torso: TorsoModel
    header: dict[str, Any]
    backend: str
    device: str

    @property
    def name(self) -> str:
        """The subject's name."""
        return self.workspace.root.name

    @property
    def size_px(self) -> int:
        """Side of the pictures that it was trained on; any other can be asked for."""
        return int(self.header["settings"]["size_px"])

    @property
    def fps(self) -> int:
        """Frames a second of everything that it renders."""
        return FPS

    def render(
        self,
        speech: str | Path,
        output: str | Path,
        *,
        background: str | Colour | Path | None = None,
        eyes: Eyes = "auto",
        view_deg: tuple[float, float] = (0.0, 0.0),
        size_px: int = 0,
    ) -> Path:
        """Render a speech into a file, as ``radnerf speak`` does: with its sound, marked and signed as synthetic.

        Args:
            speech: Any sound that ffmpeg reads.
            output: A name that ends in ``.mp4``, or in ``.mov`` for ProRes with alpha instead of a background.
            background: A colour's name, ``"#rrggbb"`` or (red, green, blue); a picture's path; None for the clip's own.
            eyes: ``"auto"`` for new blinks, ``"clip"`` for the clip's, or how open they stay, 0 to 1.
            view_deg: Turn of the head beyond its pose: yaw, pitch.
            size_px: Side of the video; 0 for the trained size.

        Returns:
            The file.

        Raises:
            BadInput: Something of it cannot be used.
            RadnerfError: The video cannot be written.
        """
        final = Path(output).absolute()
        if final.suffix.lower() not in (".mp4", ".mov"):
            raise BadInput(f"the video cannot be written to {final}", hint="give a name that ends in .mp4 or .mov")
        speech = Path(speech)
        audio.check(speech)
        with self.heard(speech) as features:
            folder = features.parent
            job = self._job(speech, eyes, view_deg, size_px, background, folder)
            save_json(folder / "job.json", {**job, "cutout": final.suffix.lower() == ".mov"})
            ws = self.workspace
            inputs = render.Inputs(folder / "job.json", speech, features, ws.head, ws.torso, ws.background, ws.track)
            made = render.Outputs(folder / "video.mp4", folder / "video.json", folder / "video.mov")
            render.run(inputs, made, self.settings("render"), backend=self.backend, device=self.device)
            final.parent.mkdir(parents=True, exist_ok=True)
            source = folder / f"video{final.suffix.lower()}"
            # The folder may lie on another disk than the video is to lie on.
            part = final.with_name(f".{final.stem}.{os.getpid()}.part{final.suffix}")
            part.write_bytes(source.read_bytes())
            part.replace(final)
        return final

    def frames(
        self,
        speech: str | Path,
        *,
        background: str | Colour | None = None,
        eyes: Eyes = "auto",
        view_deg: tuple[float, float] = (0.0, 0.0),
        size_px: int = 0,
    ) -> Iterator[Pixels]:
        """Render a speech frame by frame, 25 a second; nothing is written, marked or signed.

        Args:
            speech: As for ``render``.
            background: A colour, or None for the clip's own.
            eyes: As for ``render``.
            view_deg: As for ``render``.
            size_px: As for ``render``.

        Yields:
            (S, S, 3) uint8 RGB.

        Raises:
            BadInput: Something of it cannot be used.
        """
        side = size_px or self.size_px
        if background is None:
            behind = clip_background(self.workspace.background, side)
        else:
            behind = plain_background(_colour(background), side)
        opaque = torch.from_numpy(behind).float() / 255
        for layer in self._layers(Path(speech), eyes, view_deg, side):
            picture = layer[..., :3] + (1 - layer[..., 3:]) * opaque
            yield (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    def cutouts(
        self,
        speech: str | Path,
        *,
        eyes: Eyes = "auto",
        view_deg: tuple[float, float] = (0.0, 0.0),
        size_px: int = 0,
    ) -> Iterator[Pixels]:
        """Like ``frames``, without a background.

        Yields:
            (S, S, 4) uint8 RGBA, colours not premultiplied.
        """
        for layer in self._layers(Path(speech), eyes, view_deg, size_px or self.size_px):
            yield straight_rgba(layer)

    def _layers(self, speech: Path, eyes: Eyes, view_deg: tuple[float, float], side: int) -> Iterator[torch.Tensor]:
        audio.check(speech)
        with self.heard(speech) as path, open_features(path) as features:
            told = path.with_name("job.json")
            save_json(told, self._job(speech, eyes, view_deg, side, None, path.parent))
            # Read back, so that what is wrong with it is said as 'speak' says it.
            job = load_job(told)
            yield from self._figure(job.eyes, view_deg, side, features, path, job.seed).layers(features)

    def _figure(
        self, eyes: Eyes, view_deg: tuple[float, float], side: int, features: Features, path: Path, seed: int
    ) -> Figure:
        check_heard(self.workspace.head, self.head, self.header, features)
        performance = self.performance(features, path, eyes=eyes, seed=seed)
        kernels = get_backend(self.backend, pick_device(self.device))
        camera = camera_of(Track.load(self.workspace.track)).scaled(side)
        return Figure(self.head, self.torso, kernels, camera, performance, yaw_pitch_rotation(*view_deg))

    def performance(self, features: Features, path: Path, *, eyes: Eyes, seed: int) -> Performance:
        """How head and eyes move in a speech, as ``radnerf speak`` moves them.

        Args:
            features: Of the speech.
            path: Their file.
            eyes: As for ``render``.
            seed: Of the blinks.
        """
        track = Track.load(self.workspace.track)
        style = learn_style(track.eye_open, track.tracked)
        activity = load_activity(path, features.frames)
        return perform(own_motion(track), features.frames, eyes=eyes, style=style, seed=seed, activity=activity)

    @contextmanager
    def heard(self, speech: Path) -> Iterator[Path]:
        """A speech's features, in a folder of their own that ends with the block.

        Args:
            speech: Any sound that ffmpeg reads.

        Raises:
            BadInput: It cannot be heard.
        """
        with tempfile.TemporaryDirectory(prefix="radnerf-speech-") as name:
            features = Path(name) / "features.npz"
            audio.run(audio.Inputs(speech), audio.Outputs(features), self.settings("audio"))
            yield features

    def settings(self, stage: Literal["audio", "render"]) -> Any:  # noqa: ANN401 - one of two kinds
        """The subject's settings of a stage."""
        path = self.workspace.settings(stage)
        kind = AudioSettings if stage == "audio" else RenderSettings
        if path.is_file():
            return from_mapping(kind, load_json(path), stage)
        usual = {"front_end": self.header.get("front_end", "logmel")} if stage == "audio" else {}
        return from_mapping(kind, usual, stage)

    def _job(
        self,
        speech: Path,
        eyes: Eyes,
        view_deg: tuple[float, float],
        size_px: int,
        background: str | Colour | Path | None,
        folder: Path,
    ) -> dict[str, Any]:
        """What ``job.json`` would say."""
        told = yaml.safe_load(self.workspace.subject.read_text(encoding="utf-8")) or {}
        picture = Path(background) if isinstance(background, str | Path) and Path(background).is_file() else None
        if picture is not None:
            (folder / "background").write_bytes(picture.read_bytes())
        elif isinstance(background, Path):
            raise BadInput(f"there is no file {background}", hint="check the name")
        plain = list(_colour(background)) if picture is None and background is not None else None
        return {
            "format": JOB_FORMAT,
            "subject": self.name,
            "consent": str(told.get("consent") or ""),
            # The same speech blinks the same, here and by 'speak'.
            "speech": {"name": speech.name, "sha256": sha256_of(speech)},
            "eyes": eyes,
            "view_deg": list(view_deg),
            "size_px": size_px,
            "background_colour": plain,
            "background_image": None if picture is None else {"file": "background"},
        }


def _colour(value: str | Colour | Path) -> Colour:
    if isinstance(value, tuple):
        return value
    return parse_colour(str(value))

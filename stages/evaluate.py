"""Compare rendered frames with true ones on the part of the clip that was not trained on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from radnerf.camera import Camera
from radnerf.devices import pick_device
from radnerf.head import Condition
from radnerf.kernels import get_backend
from radnerf.kernels.protocol import Backend
from radnerf.metrics import psnr, ssim
from radnerf.model import HeadModel
from radnerf.perceptual import Lpips
from radnerf.portrait import put_over, render_head
from radnerf.torso import TorsoModel
from stages import progress
from stages.archive import frame_name
from stages.atomic_files import atomic_path, save_json
from stages.contact_sheet import ContactSheet, spread
from stages.errors import BadInput
from stages.evaluation_measures import LEAST_READING_PX, FaceReader, face_figures
from stages.evaluation_series import keeping_pictures, save_series
from stages.formats import Track
from stages.head_file import load_head
from stages.hearing import check_heard, hear, open_features
from stages.perceptual import load_perceptual
from stages.settings import EvaluateSettings
from stages.torso_file import load_torso
from stages.tracked_moment import tracked_condition, tracked_pose
from stages.training_data import LayerFiles, LayerReader, camera_of, first_held_out, mouth_boxes
from stages.vision.images import Rgb, encode_png
from stages.workspace import Workspace

MODES = ("head", "composite")
"""Head over the true torso, as papers compare; head over learnt torso over static background, as users see it."""

LEAST_SIZE_PX = 16
"""Pictures smaller than this cannot be compared."""

_LEAST_LPIPS_PX = 32
_SHEET_COLUMNS = 8
_SLOW_FRAMES = 2  # of the baseline without grids, which takes minutes a frame


@dataclass(frozen=True)
class Inputs:
    """A prepared and trained subject; see ``Workspace`` for each file."""

    layers: Path
    parsing: Path
    background: Path
    track: Path
    features: Path
    head: Path
    torso: Path


@dataclass(frozen=True)
class Outputs:
    """What the stage writes.

    Attributes:
        evaluation: The figures (JSON).
        preview: Contact sheet of true and rendered frames (PNG).
        saved_frames: Folder for ``truth/``, ``head/`` and ``composite/`` with every frame compared, as PNG named by
            its number; None leaves them out.
        series: What was measured frame by frame (JSON, see ``stages.evaluation_series``); None leaves it out.
        pictures: The pictures that faces were read in (zip of JPEG); None leaves them out.
    """

    evaluation: Path
    preview: Path
    saved_frames: Path | None = None
    series: Path | None = None
    pictures: Path | None = None


def run(
    inputs: Inputs, outputs: Outputs, settings: EvaluateSettings, *, backend: str = "auto", device: str = "auto"
) -> None:
    """Render the held-out frames as sound, track and the mean appearance code make them, and compare.

    The lips' opening, the eyes and the nose are read off rendered and true pictures by the same face mesh, at the
    size of comparison or 256 px, whichever is greater: for this reading, smaller frames are rendered once more (but
    not by the baseline without grids, which takes minutes a frame).

    Args:
        inputs: The trained subject.
        outputs: Where to write.
        settings: How.
        backend: The kernels' name.
        device: Where to compute, as ``radnerf.devices.pick_device`` takes it.

    Raises:
        BadInput: A file is missing, damaged or does not fit the others, or no held-out frame has a measured pose.
    """
    place = pick_device(device)
    head, header = load_head(inputs.head, backend, place)
    track = Track.load(inputs.track)
    size_px = settings.size_px or int(header["settings"]["size_px"])
    if size_px < LEAST_SIZE_PX:
        raise BadInput(
            f"evaluate.size_px is {size_px}", hint=f"give {LEAST_SIZE_PX} or more, or 0 for the trained size"
        )
    frames, notes = _frames_to_compare(track, head.shape.backbone)
    with open_features(inputs.features) as features:
        check_heard(inputs.head, head, header, features)
        code, mouth = hear(head, features, frames[0], frames[-1] + 1)
    portrait = _Portrait(
        head, load_torso(inputs.torso, backend, place), get_backend(backend, place), track, (code, mouth), frames[0]
    )
    files = LayerFiles(inputs.layers, inputs.parsing, inputs.background)
    perceptual = load_perceptual() if size_px >= _LEAST_LPIPS_PX else None
    if perceptual is None:
        notes["lpips"] = (
            f"not computed: the pictures are smaller than {_LEAST_LPIPS_PX} px"
            if size_px < _LEAST_LPIPS_PX
            else "not computed: AlexNet's weights or the lpips package are not on this machine"
        )
    comparison = _Comparison(portrait, files, track, size_px, perceptual, frames)
    comparison.run(outputs.saved_frames, outputs.pictures)
    if outputs.series is not None:
        comparison.save_series(outputs.series)
    save_json(
        outputs.evaluation,
        {
            **_identity(inputs.head),
            "backbone": head.shape.backbone,
            "frames": [first_held_out(len(track.tracked)), len(track.tracked) - 1],
            **comparison.figures(notes),
        },
    )
    with atomic_path(outputs.preview) as temporary:
        temporary.write_bytes(encode_png(comparison.sheet.picture()))


def _identity(head: Path) -> dict[str, str | None]:
    """The subject's name and preset, as its folder tells them; the preset is None where no folder does."""
    workspace = Workspace(head.absolute().parent.parent)
    try:
        record = yaml.safe_load(workspace.subject.read_text(encoding="utf-8"))
        preset = str(record["preset"])
    except (OSError, UnicodeDecodeError, KeyError, TypeError, yaml.YAMLError):
        preset = None
    return {"subject": workspace.root.name, "preset": preset}


def _frames_to_compare(track: Track, backbone: str) -> tuple[list[int], dict[str, str]]:
    """The held-out frames whose pose was measured, and what should be known about the choice."""
    first = first_held_out(len(track.tracked))
    held_out = (first + np.flatnonzero(track.tracked[first:])).tolist()
    if not held_out:
        raise BadInput(
            f"none of the held-out frames {first} to {len(track.tracked) - 1} has a measured pose",
            hint="film a clip that ends with the face in full view",
        )
    notes: dict[str, str] = {}
    missing = len(track.tracked) - first - len(held_out)
    if missing:
        notes["frames"] = f"{missing} held-out frames without a measured pose were left out"
    if backbone == "nerf" and len(held_out) > _SLOW_FRAMES:
        held_out = spread(held_out, _SLOW_FRAMES)
        notes["frames"] = f"the baseline is slow: {_SLOW_FRAMES} frames were compared, too few for lips and jitter"
    return held_out, notes


class _Portrait:
    """Renders held-out frames at any size."""

    def __init__(
        self,
        head: HeadModel,
        torso: TorsoModel,
        kernels: Backend,
        track: Track,
        heard: tuple[Tensor, Tensor],
        first: int,
    ) -> None:
        self.head, self.torso, self.kernels, self.track = head, torso, kernels, track
        self.camera = camera_of(track)
        self._heard, self._first = heard, first

    def condition(self, frame: int) -> Condition:
        """Sound alone for the mouth, the track for eyes and brows, as papers do; the mean appearance."""
        place = slice(frame - self._first, frame - self._first + 1)
        return tracked_condition(self.head, self.track, frame, self._heard[0][place], self._heard[1][place])

    def render(self, frame: int, size_px: int, behind: Rgb, background: Rgb) -> tuple[Rgb, Rgb]:
        """A frame in both modes, (S, S, 3) uint8 each."""
        camera = self.camera.scaled(size_px)
        pose = tracked_pose(self.track, frame)
        layer = render_head(self.head, self.kernels, camera, pose, self.condition(frame))
        torso = put_over(self.torso.render(camera, pose.rotation, pose.translation, frame), _floats(background))
        return _bytes(put_over(layer, _floats(behind))), _bytes(put_over(layer, torso))


class _Comparison:
    """Renders and compares frame after frame, keeping figures but no pictures."""

    def __init__(
        self,
        portrait: _Portrait,
        files: LayerFiles,
        track: Track,
        size_px: int,
        perceptual: Lpips | None,
        frames: list[int],
    ) -> None:
        self.portrait, self.track, self.size_px, self.frames = portrait, track, size_px, frames
        self.perceptual = perceptual
        slow = portrait.head.shape.backbone == "nerf"
        self.reading_px = size_px if slow else max(size_px, LEAST_READING_PX)
        self.sheet = ContactSheet(("truth", *MODES), tuple(spread(frames, _SHEET_COLUMNS)))
        self._reader = LayerReader(files, size_px)
        self._large = self._reader if self.reading_px == size_px else LayerReader(files, self.reading_px)
        self._mouths = mouth_boxes(track, portrait.camera.scaled(size_px))
        self._scores: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
        self._seconds: list[float] = []
        self._faces: dict[str, Any] = {}
        self._model = ""

    def run(self, saved_frames: Path | None, pictures: Path | None) -> None:
        """Go through the frames."""
        with FaceReader() as faces, keeping_pictures(pictures) as keep:
            for frame, small, large in progress.track(self._pictures(), "evaluate", len(self.frames)):
                self._score(frame, small)
                for series, picture in large.items():
                    faces.look(series, frame, picture)
                self.sheet.add(frame, large)
                keep(frame, large)
                if saved_frames is not None:
                    _save(saved_frames, frame, small)
            self._model = faces.model
            self._faces = {series: faces.reading(series) for series in ("truth", *MODES)}

    def _pictures(self) -> Iterator[tuple[int, dict[str, Rgb], dict[str, Rgb]]]:
        """Each frame's pictures at the size of comparison and at that of the reading."""
        for frame in self.frames:
            started = time.monotonic()
            small = self._render(frame, self._reader)
            self._seconds.append(time.monotonic() - started)
            yield frame, small, small if self._large is self._reader else self._render(frame, self._large)

    def _render(self, frame: int, reader: LayerReader) -> dict[str, Rgb]:
        true = reader.read(frame)
        if reader is self._reader:
            self._head_mask = torch.from_numpy(true.head[..., 0] > 127)
        rendered = self.portrait.render(frame, reader.size_px, true.behind, reader.background)
        return {"truth": true.truth, **dict(zip(MODES, rendered, strict=True))}

    def _score(self, frame: int, pictures: dict[str, Rgb]) -> None:
        truth = _floats(pictures["truth"])
        left, top, right, bottom = self._mouths[frame].tolist()
        for mode in MODES:
            rendered = _floats(pictures[mode])
            self._scores[mode].append(
                {
                    "psnr_full": psnr(rendered, truth),
                    "psnr_head": psnr(rendered, truth, self._head_mask),
                    "psnr_mouth": psnr(rendered[top:bottom, left:right], truth[top:bottom, left:right]),
                    "ssim_full": ssim(rendered, truth),
                    "lpips_full": math.nan if self.perceptual is None else self._distance(rendered, truth),
                }
            )

    @torch.no_grad()
    def _distance(self, rendered: Tensor, truth: Tensor) -> float:
        if self.perceptual is None:
            return math.nan
        return float(self.perceptual(rendered.permute(2, 0, 1), truth.permute(2, 0, 1)))

    def save_series(self, path: Path) -> None:
        """Write what was measured frame by frame."""
        camera = self.portrait.camera.scaled(self.reading_px)
        save_series(path, self.frames, self._faces, self._scores, self.track, camera)

    def figures(self, notes: dict[str, str]) -> dict[str, Any]:
        """Everything measured, ready for JSON: a figure that the frames do not tell is None."""
        camera = self.portrait.camera.scaled(self.reading_px)
        missed = {series: len(reading.missed) for series, reading in self._faces.items()}
        if any(missed.values()):
            notes = {**notes, "faces": "pictures in which no face was found are left out of lips, blinks and jitter"}
        return {
            "frames_compared": len(self.frames),
            "size_px": self.size_px,
            "reading_size_px": self.reading_px,
            "landmark_model": self._model,
            "faces_missed": missed,
            "frame_seconds": round(float(np.median(self._seconds)), 4),
            "notes": notes,
            **{mode: self._mode_figures(mode, camera) for mode in MODES},
        }

    def _mode_figures(self, mode: str, camera: Camera) -> dict[str, float | None]:
        scores = self._scores[mode]
        means = {key: _mean([score[key] for score in scores]) for key in scores[0]}
        read = face_figures(self._faces[mode], self._faces["truth"], self.track, camera)
        return {key: None if math.isnan(value) else round(value, 4) for key, value in {**means, **read}.items()}


def _mean(values: list[float]) -> float:
    """The mean of the values that are numbers; NaN when none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _floats(picture: Rgb) -> Tensor:
    return torch.from_numpy(picture).float() / 255


def _bytes(picture: Tensor) -> Rgb:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _save(folder: Path, frame: int, pictures: dict[str, Rgb]) -> None:
    for series, picture in pictures.items():
        with atomic_path(folder / series / frame_name(frame, ".png")) as temporary:
            temporary.write_bytes(encode_png(picture))

"""Train the torso under the frozen head."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from radnerf.camera import Camera
from radnerf.devices import pick_device, pick_precision
from radnerf.grid import GridSpec
from radnerf.kernels import get_backend
from radnerf.kernels.protocol import Backend
from radnerf.model import HeadModel
from radnerf.portrait import render_head, render_portrait
from radnerf.torso import TorsoModel, TorsoShape
from radnerf.torso_training import TorsoClip, TorsoSchedule, TorsoTrainer, torso_mask
from stages import progress
from stages.atomic_files import atomic_path, save_json
from stages.contact_sheet import ContactSheet, spread
from stages.errors import BadInput
from stages.formats import AudioFeatures, Track
from stages.head_file import load_head
from stages.settings import TorsoSettings
from stages.settings_reading import to_mapping
from stages.torso_file import save_torso
from stages.tracked_moment import tracked_condition, tracked_pose
from stages.training_data import LayerFiles, LayerReader, PictureMaps, camera_of, first_held_out, picture_maps
from stages.training_loop import Resumable, told, train
from stages.vision.bending import Layer, body_sway, seen_layer
from stages.vision.images import encode_png

_HEAD_FRAMES = 120
_MASK_RESOLUTION = 128
_FRAMES_A_STEP = 4
_PREVIEW_FRAMES = 8
_LEAST_SWAY_PX = 256


@dataclass(frozen=True)
class Inputs:
    """What the torso is trained on; see ``Workspace`` for each file."""

    layers: Path
    parsing: Path
    background: Path
    track: Path
    features: Path
    head: Path


@dataclass(frozen=True)
class Outputs:
    """What training writes; ``state`` and ``cache`` may be deleted afterwards, ``preview`` is for people."""

    torso: Path
    history: Path
    state: Path
    cache: Path
    preview: Path | None = None


def run(
    inputs: Inputs,
    outputs: Outputs,
    settings: TorsoSettings,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> None:
    """Train the torso, going on from its own checkpoint when there is one.

    Args:
        inputs: The prepared subject and its head.
        outputs: Where to write.
        settings: How.
        backend: The kernels' name.
        device: Where to compute, as ``radnerf.devices.pick_device`` takes it.
        precision: What networks multiply in, as ``radnerf.devices.pick_precision`` takes it.

    Raises:
        BadInput: A file is missing, damaged, or does not fit the others.
        Diverged: Training met numbers that are not finite and could not go on.
    """
    place = pick_device(device)
    kind = pick_precision(precision, place)
    kernels = get_backend(backend, place)
    head, _ = load_head(inputs.head, backend, place)
    track, features = Track.load(inputs.track), AudioFeatures.load(inputs.features)
    torch.manual_seed(settings.seed)
    clip = _clip(inputs, outputs, settings, track, features, head, kernels)
    model = TorsoModel(_model_shape(settings, len(clip.train), len(track.rotation)))
    model.plane.backend = backend
    model.mask.copy_(torso_mask(clip.torso, clip.train[:: max(1, len(clip.train) // 100)], _MASK_RESOLUTION))
    model.sway.copy_(_sway(inputs, settings, clip))
    if not bool(model.mask.any()):
        raise BadInput(f"{inputs.layers} shows no torso", hint="choose a larger crop with 'prepare --crop X,Y,SIDE'")
    model.to(place)
    schedule = TorsoSchedule(settings.steps, settings.pixels, _FRAMES_A_STEP, settings.grid_rate, settings.network_rate)
    trainer = TorsoTrainer(model, clip, schedule, settings.seed, precision=kind)
    fingerprint = _fingerprint(inputs, settings, place, kind)
    state = Resumable(outputs.state, "torso-state", fingerprint, settings.checkpoint_every_s)
    history = state.load(model, trainer) or []
    train("torso", trainer, model, state, history)
    trainer.average.swap()
    save_torso(outputs.torso, model, settings)
    save_json(outputs.history, {"steps": settings.steps, **told(history)})
    if outputs.preview is not None:
        _write_preview(outputs.preview, head, model, clip, track, features, kernels)


def _model_shape(settings: TorsoSettings, frames: int, clip_frames: int) -> TorsoShape:
    """Sizes of the model, for so many training frames of a clip of so many."""
    return TorsoShape(
        plane=GridSpec(
            2,
            settings.levels,
            settings.features_per_level,
            settings.base_resolution,
            settings.max_resolution,
            settings.log2_entries,
        ),
        hidden_width=settings.hidden_width,
        appearance_code=settings.appearance_code,
        frames=frames,
        anchors=settings.anchors,
        mask_resolution=_MASK_RESOLUTION,
        clip_frames=clip_frames,
    )


def _sway(inputs: Inputs, settings: TorsoSettings, clip: TorsoClip) -> Tensor:
    """How the body is displaced from its usual place in every frame, (N, 3, 3, 2) float32.

    A small training picture is too coarse to tell it: a quarter of its pixel shows at a lapel's edge.
    """
    reader = LayerReader(
        LayerFiles(inputs.layers, inputs.parsing, inputs.background), max(settings.size_px, _LEAST_SWAY_PX)
    )

    def read(index: int) -> Layer:
        pictures = reader.read(index)
        return seen_layer(pictures.truth, pictures.behind, pictures.torso)

    return torch.from_numpy(body_sway(read, len(clip.truth), clip.train.numpy()))


def _fingerprint(inputs: Inputs, settings: TorsoSettings, place: torch.device, kind: torch.dtype) -> str:
    """Changes when a checkpoint no longer fits: other settings, another head or other prepared files."""
    digest = hashlib.sha256(json.dumps([to_mapping(settings), place.type, str(kind)], sort_keys=True).encode())
    for path in (inputs.track, inputs.features, inputs.head):
        digest.update(path.read_bytes())
    digest.update(f"{inputs.layers.stat().st_size}".encode())
    return digest.hexdigest()


def _clip(
    inputs: Inputs,
    outputs: Outputs,
    settings: TorsoSettings,
    track: Track,
    features: AudioFeatures,
    head: HeadModel,
    kernels: Backend,
) -> TorsoClip:
    """Everything that the trainer sees, the frozen head rendered for some frames included."""
    files = LayerFiles(inputs.layers, inputs.parsing, inputs.background)
    maps = picture_maps(files, len(track.rotation), settings.size_px, outputs.cache)
    train = torch.from_numpy(np.flatnonzero(track.tracked[: first_held_out(len(track.tracked))]))
    some = train[:: -(-len(train) // _HEAD_FRAMES)]
    slow = head.shape.backbone == "nerf"
    camera = camera_of(track).scaled(settings.size_px)
    background = torch.from_numpy(LayerReader(files, settings.size_px).background.copy()).float() / 255
    return TorsoClip(
        truth=maps.truth,
        torso=maps.torso,
        background=background,
        head=_true_heads(maps, some) if slow else _render_heads(head, track, features, camera, some, kernels),
        head_frames=some,
        camera=camera,
        rotation=torch.from_numpy(track.rotation),
        translation=torch.from_numpy(track.translation),
        train=train,
    )


def _true_heads(maps: PictureMaps, frames: Tensor) -> Tensor:
    """The true head in some frames, in place of the baseline's, which would take minutes each; as ``_render_heads``."""
    share = maps.head[frames][..., None].float() / 255
    return torch.cat([(share * maps.truth[frames]).round(), 255 * share], dim=-1).to(torch.uint8)


def _render_heads(
    head: HeadModel, track: Track, features: AudioFeatures, camera: Camera, frames: Tensor, kernels: Backend
) -> Tensor:
    """The frozen head in some frames, (K, S, S, 4) uint8: premultiplied colour and alpha."""
    heard = head.standardised(torch.from_numpy(features.values))
    size = camera.width_px
    pictures = torch.empty(len(frames), size, size, 4, dtype=torch.uint8)
    for slot, frame in enumerate(progress.track(frames.tolist(), "head under the torso", len(frames))):
        code, mouth = head.hear(heard, torch.tensor([frame]))
        condition = tracked_condition(head, track, frame, code, mouth)
        layer = render_head(head, kernels, camera, tracked_pose(track, frame), condition)
        pictures[slot] = (layer * 255).round().to(torch.uint8)
    return pictures


def _write_preview(
    path: Path,
    head: HeadModel,
    torso: TorsoModel,
    clip: TorsoClip,
    track: Track,
    features: AudioFeatures,
    kernels: Backend,
) -> None:
    """Write a contact sheet of held-out frames, true and as sound and pose make them."""
    count = len(track.rotation)
    shown = 1 if head.shape.backbone == "nerf" else _PREVIEW_FRAMES
    frames = spread(range(first_held_out(count), count), shown)
    sheet = ContactSheet(("truth", "composite"), tuple(frames))
    heard = head.standardised(torch.from_numpy(features.values))
    for frame in frames:
        code, mouth = head.hear(heard, torch.tensor([frame]))
        condition, pose = tracked_condition(head, track, frame, code, mouth), tracked_pose(track, frame)
        picture = render_portrait(head, torso, kernels, clip.camera, pose, condition, clip.background)
        rendered = (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        sheet.add(frame, {"truth": clip.truth[frame].numpy(), "composite": rendered})
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_png(sheet.picture()))

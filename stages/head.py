"""Train the head on a prepared subject."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from radnerf.camera import Camera
from radnerf.devices import pick_device, pick_precision
from radnerf.grid import GridSpec
from radnerf.head import HeadField
from radnerf.head_training import Clip, HeadSchedule, HeadTrainer
from radnerf.height_field import near_face
from radnerf.kernel_ear import kept_frames
from radnerf.kernels import get_backend
from radnerf.lesson import Speech, learn_mouth, learn_voice
from radnerf.model import HeadModel, ModelShape
from radnerf.mouth import MouthLesson, mouth_components
from radnerf.visual_hull import box_points, carve
from stages import progress
from stages.atomic_files import save_json
from stages.errors import BadInput
from stages.formats import FPS, AudioFeatures, Landmarks, Track
from stages.head_file import save_head
from stages.hearing import net_features
from stages.perceptual import load_perceptual
from stages.settings import HeadSettings
from stages.settings_reading import to_mapping
from stages.training_data import (
    LayerFiles,
    PictureMaps,
    camera_of,
    eyes_boxes,
    first_held_out,
    head_boxes,
    mouth_boxes,
    picture_maps,
)
from stages.training_loop import Resumable, told, train
from stages.vision.canonical_face import triangles, vertices_cm
from stages.vision.face_motion import face_motion
from stages.vision.reprojection import Pinhole

_NEAR_CM, _FAR_CM = 9.5, -12.0  # of the box along the head's own z; the nose's tip lies near 7.5
_FRONT_CM, _DEPTH_CM = 0.8, 2.0  # of the sampled layer before and behind the tracked face


@dataclass(frozen=True)
class Inputs:
    """What the head is trained on; see ``Workspace`` for each file.

    Without ``landmarks``, as in data that others prepared, the field must learn all motion from colours.
    """

    layers: Path
    parsing: Path
    background: Path
    track: Path
    features: Path
    landmarks: Path | None = None


@dataclass(frozen=True)
class Outputs:
    """What training writes; ``state`` and ``cache`` may be deleted afterwards."""

    head: Path
    history: Path
    state: Path
    cache: Path


def run(
    inputs: Inputs,
    outputs: Outputs,
    settings: HeadSettings,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> None:
    """Train the head, going on from its own checkpoint when there is one.

    Args:
        inputs: The prepared subject.
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
    track, features = Track.load(inputs.track), AudioFeatures.load(inputs.features)
    torch.manual_seed(settings.seed)
    files = LayerFiles(inputs.layers, inputs.parsing, inputs.background)
    maps = picture_maps(files, len(track.rotation), settings.size_px, outputs.cache)
    frames = _training_frames(track)
    camera, boxes = camera_of(track).scaled(settings.size_px), head_boxes(maps.head)
    mouth = _measured_mouth(track, frames, settings)
    moving = inputs.landmarks if settings.warp and settings.backbone == "radnerf" else None
    shape = _model_shape(settings, features, len(frames), camera, track, warped=moving is not None)
    model = HeadModel(shape, head_aabb(track, camera, boxes, frames))
    if moving is not None:
        _take_motion(model, Landmarks.load(moving), track, mouth, frames)
    model.use_backend(backend)
    model.to(place)
    _standardise(model, features, frames)
    clip = _clip(track, maps, camera, boxes, mouth, model.standardised(torch.from_numpy(features.values)), frames)
    hull = _hull(maps, clip, model, track)
    perceptual = load_perceptual() if settings.lips_lpips_weight > 0 else None
    if perceptual is not None:
        perceptual.to(place)
    trainer = HeadTrainer(model, clip, _schedule(settings), kernels, hull, perceptual, settings.seed, precision=kind)
    fingerprint = _fingerprint(inputs, settings, place, kind)
    state = Resumable(outputs.state, "head-state", fingerprint, settings.checkpoint_every_s)
    history = state.load(model, trainer)
    if history is None:
        history = []
        if settings.mouth_components:
            _mouth_lesson(model, clip, features, settings)
    train("head", trainer, model, state, history)
    trainer.finish()
    save_head(outputs.head, model, settings, features)
    lips_loss = "structural" if perceptual is None else "lpips-alex"
    facts = {"backbone": settings.backbone, "steps": trainer.total_steps, "lips_loss": lips_loss}
    save_json(outputs.history, {**facts, **told(history)})


def _fingerprint(inputs: Inputs, settings: HeadSettings, place: torch.device, kind: torch.dtype) -> str:
    """Changes when a checkpoint no longer fits: other settings, another kind of device or other prepared files."""
    digest = hashlib.sha256(json.dumps([to_mapping(settings), place.type, str(kind)], sort_keys=True).encode())
    moving = (inputs.landmarks,) if settings.warp and inputs.landmarks is not None else ()
    for path in (inputs.track, inputs.features, *moving):
        digest.update(path.read_bytes())
    for path in (inputs.layers, inputs.parsing, inputs.background):
        digest.update(f"{path.stat().st_size}".encode())
    return digest.hexdigest()


def _training_frames(track: Track) -> Tensor:
    """The frames to train on, (F,) int64: those before the held-out part whose pose was measured."""
    kept = torch.from_numpy(np.flatnonzero(track.tracked[: first_held_out(len(track.tracked))]))
    if len(kept) < 2 * FPS:
        raise BadInput(
            f"only {len(kept)} frames have a measured pose", hint="film at least 3 s with the face in full view"
        )
    return kept


def _measured_mouth(track: Track, frames: Tensor, settings: HeadSettings) -> Tensor:
    """Standardised mouth components of every frame, (N, M) float32."""
    if settings.mouth_components == 0:
        return torch.zeros(len(track.mouth_open), 0)
    known = torch.zeros(len(track.mouth_open), dtype=torch.bool)
    known[frames] = True
    return mouth_components(
        torch.from_numpy(track.mouth_open),
        torch.from_numpy(track.mouth_wide),
        torch.from_numpy(track.mouth_shape),
        known,
        max(2, settings.mouth_components),
    )


def _take_motion(model: HeadModel, landmarks: Landmarks, track: Track, mouth: Tensor, frames: Tensor) -> None:
    """Hand the tracked face's motion to the field."""
    camera = camera_of(track)
    pinhole = Pinhole(camera.focal_px, camera.centre_x_px, camera.centre_y_px)
    moving = face_motion(landmarks, track, pinhole, mouth[:, : model.shape.mouth], frames)
    field = model.fields[0]
    if isinstance(field, HeadField) and field.warp is not None:
        field.warp.fit(*moving)


def _standardise(model: HeadModel, features: AudioFeatures, frames: Tensor) -> None:
    """Take the features' statistics from the training part alone."""
    rows = 2 * (int(frames[-1]) + 1)
    part = torch.from_numpy(features.values[:rows])
    learn_voice(model, part, torch.from_numpy(features.voiced[:rows]))
    model.feature_mean.copy_(part.mean(0))
    model.feature_std.copy_(part.std(0).clamp(min=1e-3))


def _model_shape(
    settings: HeadSettings, features: AudioFeatures, frames: int, camera: Camera, track: Track, *, warped: bool
) -> ModelShape:
    """Sizes of the model; samples lie no closer than 1.4 pixels at the head."""
    distance = float(np.median(np.linalg.norm(track.translation, axis=1)))
    levels, width, entries = settings.levels, settings.features_per_level, settings.log2_entries
    return ModelShape(
        backbone=settings.backbone,
        features=features.values.shape[1],
        net_features=net_features(features),
        kernel_frames=len(kept_frames(torch.arange(frames))) if settings.mouth_components else 0,
        further_nets=MouthLesson().folds if settings.mouth_components else 0,
        frames=frames,
        mouth=0 if settings.mouth_components == 0 else max(2, settings.mouth_components),
        audio_code=settings.audio_code,
        appearance_code=settings.appearance_code,
        hidden_width=settings.hidden_width,
        space=GridSpec(3, levels, width, settings.base_resolution, settings.max_resolution, entries),
        audio_plane=GridSpec(2, levels, width, settings.audio_base_resolution, settings.audio_max_resolution, entries),
        occupancy_resolution=settings.occupancy_resolution,
        samples_per_ray=settings.samples_per_ray,
        min_step_cm=max(0.05, 1.4 * distance / camera.focal_px),
        warp_anchors=len(vertices_cm) if warped else 0,
        warp_brows=warped,
        bent_frames=len(track.tracked) if settings.bend_rate > 0 and settings.backbone == "radnerf" else 0,
    )


def _schedule(settings: HeadSettings) -> HeadSchedule:
    """The trainer's numbers."""
    return HeadSchedule(
        steps=settings.steps,
        lips_steps=settings.lips_steps,
        rays=settings.rays,
        frames=settings.frames_per_step,
        mouth_share=settings.mouth_share,
        eyes_share=settings.eyes_share,
        error_share=settings.error_share,
        grid_rate=settings.grid_rate,
        network_rate=settings.network_rate,
        pose_rate=settings.pose_rate,
        bend_rate=settings.bend_rate,
        attention_gain=settings.attention_gain,
        ema_decay=settings.ema_decay,
        entropy_weight=settings.entropy_weight,
        still_weight=settings.audio_still_weight,
        mask_weight=settings.mask_weight,
        code_drop=settings.code_drop if settings.mouth_components else 0.0,
        lips_weight=settings.lips_lpips_weight,
    )


def head_aabb(track: Track, camera: Camera, boxes: Tensor, frames: Tensor) -> Tensor:
    """The box that holds the head in the training frames.

    Args:
        track: Poses.
        camera: At the pictures' size.
        boxes: (N, 4) int64, the head's bounding boxes in the pictures.
        frames: (F,) int64, training frames.

    Returns:
        (2, 3) float32, least and greatest corner, cm, world.
    """
    some = frames[:: max(1, len(frames) // 60)]
    left, top, right, bottom = boxes[some].unbind(-1)
    corners = torch.stack(
        [torch.stack([x, y], dim=-1) for x in (left, right) for y in (top, bottom)], dim=1
    )  # (F, 4, 2)
    rotation, translation = torch.from_numpy(track.rotation)[some], torch.from_numpy(track.translation)[some]
    origins, directions = camera.rays(rotation[:, None], translation[:, None], corners)
    # Where the rays cross the plane through the middle of the head, parallel to the face.
    middle = -2.0
    reach = (middle - origins[..., 2]) / directions[..., 2]
    crossing = (origins + reach[..., None] * directions)[..., :2].flatten(0, 1)
    low = torch.quantile(crossing, 0.02, dim=0) - 0.5
    high = torch.quantile(crossing, 0.98, dim=0) + 0.5
    return torch.stack([torch.cat([low, torch.tensor([_FAR_CM])]), torch.cat([high, torch.tensor([_NEAR_CM])])])


def _clip(
    track: Track, maps: PictureMaps, camera: Camera, boxes: Tensor, mouth: Tensor, features: Tensor, frames: Tensor
) -> Clip:
    """Everything that the trainer sees."""
    return Clip(
        truth=maps.truth,
        behind=maps.behind,
        head=maps.head,
        camera=camera,
        rotation=torch.from_numpy(track.rotation),
        translation=torch.from_numpy(track.translation),
        eye=torch.from_numpy(track.eye_open),
        brow=torch.from_numpy(track.brow_mm),
        mouth=mouth,
        features=features,
        head_box=boxes,
        mouth_box=mouth_boxes(track, camera),
        eyes_box=eyes_boxes(track, camera),
        train=frames,
    )


def _hull(maps: PictureMaps, clip: Clip, model: HeadModel, track: Track) -> Tensor:
    """The cells that the head's masks, grown by two hundredths of the picture, and the tracked face leave room for."""
    some = clip.train[:: max(1, len(clip.train) // 40)]
    reach = 2 * max(1, round(0.02 * clip.camera.width_px)) + 1
    masks = (maps.head[some] > 63).float()[:, None]
    grown = torch.nn.functional.max_pool2d(masks, reach, stride=1, padding=reach // 2)[:, 0] > 0
    size = model.shape.occupancy_resolution
    aabb = model.aabb.cpu()
    carved = carve(grown, clip.camera, clip.rotation[some], clip.translation[some], aabb, size, share=0.9)
    face = torch.from_numpy(vertices_cm + track.shape_offset_cm)
    points = box_points(aabb, size)
    return carved & near_face(points, face, torch.tensor(triangles), _FRONT_CM, _DEPTH_CM).reshape(size, size, size)


def _mouth_lesson(model: HeadModel, clip: Clip, features: AudioFeatures, settings: HeadSettings) -> None:
    """Teach the head to foretell the mouth from sound, and measure what new speech is compared with."""
    lesson = MouthLesson(steps=settings.mouth_lesson_steps)
    generator = torch.Generator().manual_seed(settings.seed)
    voiced, device = torch.from_numpy(features.voiced), model.aabb.device
    heard = Speech(clip.features.cpu(), voiced, clip.mouth, clip.train)
    ears = (model.audio_net, model.further_nets, model.linear_ear, model.kernel_ear)
    for ear in ears:
        ear.cpu()
    with _one_thread():
        learn_mouth(model, heard, lesson, generator, lambda done, total: progress.report("listening", done, total))
    for ear in ears:
        ear.to(device)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The audio net's matrices are so small that a second thread more than doubles the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

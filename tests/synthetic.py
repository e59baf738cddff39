"""A ball for a head whose mouth follows a sound, small enough to be learnt in a second: as tensors and as files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from radnerf.grid import GridSpec
from radnerf.head_training import Clip, HeadSchedule, HeadTrainer, Perceptual
from radnerf.kernels import get_backend
from radnerf.model import HeadModel, ModelShape
from radnerf.mouth import mouth_components
from radnerf.torso import TorsoModel, TorsoShape
from radnerf.torso_training import TorsoClip, TorsoSchedule, TorsoTrainer, torso_mask
from stages.archive import ArchiveWriter, frame_name
from stages.formats import HEAD, AudioFeatures, Track
from stages.training_data import camera_of, eyes_boxes, first_held_out, head_boxes, mouth_boxes
from stages.vision.canonical_face import vertices_cm
from stages.vision.face_measures import LIP_INDICES
from stages.vision.images import encode_jpeg, encode_png
from stages.workspace import Workspace
from tests.tiny_subject import SIZE_PX, make_track

FRAMES = 66
COLUMNS = 8
MOUTH = 3
MASK = 16
RADIUS_CM = 9.0
AABB = torch.tensor([[-10.0, -10.0, -12.0], [10.0, 10.0, 9.0]])
_MIDDLE_CM = np.array([0.0, 0.0, -2.0])
_SKIN, _LIPS, _CLOTH = (210, 160, 130), (90, 20, 30), (40, 60, 120)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Ball:
    """The subject, N frames.

    Attributes:
        truth, behind: (N, S, S, 3) uint8.
        torso: (N, S, S, 4) uint8, colour and alpha.
        head: (N, S, S) uint8, 255 on the head.
        background: (S, S, 3) uint8.
        track: Poses, and the mouth that is painted.
        features: Sound of which one column tells the mouth's opening.
    """

    truth: Bytes
    behind: Bytes
    torso: Bytes
    head: Bytes
    background: Bytes
    track: Track
    features: AudioFeatures


@lru_cache(maxsize=1)
def ball() -> Ball:
    """The subject; the same one at every call."""
    generator = np.random.default_rng(0)
    time = np.arange(2 * FRAMES) / 2
    opening = 0.5 + 0.5 * np.sin(time / 2.1 + 2 * np.sin(time / 9.7))
    values = generator.normal(size=(2 * FRAMES, COLUMNS)).astype(np.float32)
    values[:, 0] = 2 * opening + 0.05 * values[:, 0]
    features = AudioFeatures(values, np.full(2 * FRAMES, -20, np.float32), "logmel", "")
    track = _track(opening[::2])
    background = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    background[..., 2] = np.arange(SIZE_PX)[None] * 5
    frames = [_paint(track, index, float(opening[2 * index]), background) for index in range(FRAMES)]
    truth, behind, torso, head = (np.stack(pictures) for pictures in zip(*frames, strict=True))
    return Ball(truth, behind, torso, head, background, track, features)


def _track(opening: NDArray[np.float64]) -> Track:
    """Poses of a head that turns and shifts, and lips that open."""
    lips = np.repeat(vertices_cm[LIP_INDICES][None, :, :2], len(opening), axis=0)
    below = vertices_cm[LIP_INDICES, 1] < vertices_cm[LIP_INDICES, 1].mean()
    lips[:, below, 1] -= 2 * opening[:, None]
    return dataclasses.replace(
        make_track(frames=len(opening)),
        mouth_open=(0.2 * opening).astype(np.float32),
        mouth_wide=(0.6 + 0.02 * np.cos(np.arange(len(opening)))).astype(np.float32),
        mouth_shape=lips.astype(np.float32),
    )


def _paint(track: Track, index: int, opening: float, background: Bytes) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Truth, what is behind the head, torso layer and head mask of one frame."""
    points = np.stack([_MIDDLE_CM, vertices_cm[LIP_INDICES].mean(0)])
    x, y, z = (points @ track.rotation[index].T + track.translation[index]).T
    scale = track.focal_px / z
    across, down = scale * x + track.centre_x_px, scale * y + track.centre_y_px
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX] + 0.5
    inside = np.hypot(columns - across[0], rows - down[0]) <= RADIUS_CM * scale[0]
    wide, high = 2.4 * scale[1], (0.3 + 1.7 * opening) * scale[1]
    lips = ((columns - across[1]) / wide) ** 2 + ((rows - down[1]) / high) ** 2 <= 1
    alpha = (rows > 36) & (np.abs(columns - across[0]) < 18)
    torso = np.dstack([np.broadcast_to(np.array(_CLOTH, np.uint8), background.shape), alpha * np.uint8(255)])
    behind = np.where(alpha[..., None], torso[..., :3], background)
    truth = np.where(inside[..., None], np.array(_SKIN, np.uint8), behind)
    truth = np.where((inside & lips)[..., None], np.array(_LIPS, np.uint8), truth)
    return truth, behind, torso, inside * np.uint8(255)


def write_subject(root: Path) -> Workspace:
    """Write the prepared subject's files.

    Args:
        root: Its folder.
    """
    workspace, subject = Workspace(root), ball()
    for path in (workspace.layers, workspace.parsing, workspace.track, workspace.features):
        path.parent.mkdir(parents=True, exist_ok=True)
    workspace.background.write_bytes(encode_png(subject.background))
    with ArchiveWriter(workspace.layers) as layers, ArchiveWriter(workspace.parsing) as parsing:
        for index in range(FRAMES):
            layers.add(frame_name(index, ".truth.jpg"), encode_jpeg(subject.truth[index]))
            layers.add(
                frame_name(index, ".torso.jpg"), encode_jpeg(np.ascontiguousarray(subject.torso[index, ..., :3]))
            )
            layers.add(frame_name(index, ".torso.png"), encode_png(np.ascontiguousarray(subject.torso[index, ..., 3])))
            classes = np.where(subject.head[index] > 0, HEAD, 0).astype(np.uint8)
            parsing.add(frame_name(index, ".png"), encode_png(classes))
    subject.track.save(workspace.track)
    subject.features.save(workspace.features)
    return workspace


def train_frames() -> torch.Tensor:
    """The frames to train on, (F,) int64."""
    return torch.arange(first_held_out(FRAMES))


@lru_cache(maxsize=1)
def head_clip() -> Clip:
    """What a head's training sees; the same one at every call."""
    subject = ball()
    track, frames = subject.track, train_frames()
    camera = camera_of(track)
    known = torch.zeros(FRAMES, dtype=torch.bool)
    known[frames] = True
    measured = (torch.from_numpy(values) for values in (track.mouth_open, track.mouth_wide, track.mouth_shape))
    heard = torch.from_numpy(subject.features.values)
    head = torch.from_numpy(subject.head)
    return Clip(
        truth=torch.from_numpy(subject.truth),
        behind=torch.from_numpy(subject.behind),
        head=head,
        camera=camera,
        rotation=torch.from_numpy(track.rotation),
        translation=torch.from_numpy(track.translation),
        eye=torch.from_numpy(track.eye_open),
        brow=torch.from_numpy(track.brow_mm),
        mouth=mouth_components(*measured, known, MOUTH),
        features=(heard - heard.mean(0)) / heard.std(0),
        head_box=head_boxes(head),
        mouth_box=mouth_boxes(track, camera),
        eyes_box=eyes_boxes(track, camera),
        train=frames,
    )


def head_model(seed: int = 0, backbone: str = "radnerf") -> HeadModel:
    """An untrained small head."""
    torch.manual_seed(seed)
    shape = ModelShape(
        backbone=backbone,
        features=COLUMNS,
        frames=len(train_frames()),
        mouth=MOUTH,
        audio_code=16,
        appearance_code=4,
        hidden_width=16,
        space=GridSpec(3, 4, 2, 4, 32, 12),
        audio_plane=GridSpec(2, 4, 2, 4, 32, 10),
        occupancy_resolution=16,
        samples_per_ray=8,
        min_step_cm=0.8,
    )
    return HeadModel(shape, AABB)


def head_schedule(steps: int = 40, lips_steps: int = 0) -> HeadSchedule:
    """A short training's numbers."""
    return HeadSchedule(
        steps=steps,
        lips_steps=lips_steps,
        rays=256,
        frames=4,
        mouth_share=0.3,
        eyes_share=0.1,
        error_share=0.2,
        grid_rate=2e-2,
        network_rate=1e-2,
        pose_rate=0.0,
        bend_rate=0.0,
        attention_gain=5.0,
        ema_decay=0.95,
        entropy_weight=1e-4,
        still_weight=0.02,
        mask_weight=0.01,
        code_drop=0.5,
        lips_weight=0.01,
    )


def head_trainer(
    model: HeadModel, schedule: HeadSchedule, seed: int = 0, perceptual: Perceptual | None = None
) -> HeadTrainer:
    """A trainer at step 0."""
    hull = torch.ones_like(model.mask)
    return HeadTrainer(model, head_clip(), schedule, get_backend("auto"), hull, perceptual, seed)


def torso_clip() -> TorsoClip:
    """What a torso's training sees under a head that is perfect."""
    subject, frames = ball(), train_frames()
    some = frames[::2]
    opaque = subject.head[some.numpy()][..., None]
    head = np.concatenate([subject.truth[some.numpy()] * (opaque > 0), opaque], axis=-1)
    return TorsoClip(
        truth=torch.from_numpy(subject.truth),
        torso=torch.from_numpy(subject.torso),
        background=torch.from_numpy(subject.background).float() / 255,
        head=torch.from_numpy(head),
        head_frames=some,
        camera=camera_of(subject.track),
        rotation=torch.from_numpy(subject.track.rotation),
        translation=torch.from_numpy(subject.track.translation),
        train=frames,
    )


def torso_model(seed: int = 0) -> TorsoModel:
    """An untrained small torso with its mask."""
    torch.manual_seed(seed)
    model = TorsoModel(TorsoShape(GridSpec(2, 4, 2, 4, 32, 10), 16, 4, len(train_frames()), 3, MASK, FRAMES))
    model.mask.copy_(torso_mask(torch.from_numpy(ball().torso), train_frames(), MASK))
    return model


def torso_trainer(model: TorsoModel, steps: int = 40, seed: int = 0) -> TorsoTrainer:
    """A trainer at step 0."""
    return TorsoTrainer(model, torso_clip(), TorsoSchedule(steps, 512, 4, 2e-2, 1e-2), seed)

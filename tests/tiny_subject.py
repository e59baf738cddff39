"""A synthetic subject of a few small frames with untrained models: every file that evaluating and rendering read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from radnerf.grid import GridSpec
from radnerf.model import HeadModel, ModelShape
from radnerf.torso import TorsoModel, TorsoShape
from stages.archive import ArchiveWriter, frame_name
from stages.formats import HEAD, AudioFeatures, Track
from stages.head_file import save_head
from stages.settings import HeadSettings, TorsoSettings
from stages.torso_file import save_torso
from stages.vision.images import encode_jpeg, encode_png
from stages.workspace import Workspace

SIZE_PX = 48
FRAMES = 33
COLUMNS = 8


def make_subject(root: Path, *, seed: int = 0, eye_open: float = 1.0) -> Workspace:
    """Write a subject.

    Args:
        root: Its folder.
        seed: Of models and sound.
        eye_open: Of every frame but the blink in frame 5.
    """
    workspace = Workspace(root)
    for path in (workspace.layers, workspace.parsing, workspace.track, workspace.features, workspace.head):
        path.parent.mkdir(parents=True, exist_ok=True)
    workspace.torso.parent.mkdir(parents=True, exist_ok=True)
    workspace.subject.write_text("format: 1\npreset: draft\n", encoding="utf-8")
    _write_pictures(workspace)
    make_track(eye_open=eye_open).save(workspace.track)
    make_features(2 * FRAMES, seed=seed).save(workspace.features)
    torch.manual_seed(seed)
    _write_models(workspace)
    return workspace


def make_track(
    *, frames: int = FRAMES, eye_open: float = 1.0, distance_cm: float = 60.0, yaw_deg: float = 0.0
) -> Track:
    """A head that nods from side to side.

    Args:
        frames: How many.
        eye_open: Of every frame but the blink in frame 5.
        distance_cm: From the camera.
        yaw_deg: About which it turns, by 5 degrees either way.
    """
    yaw = np.radians(yaw_deg + 5 * np.sin(np.arange(frames) / 4))
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    turn = np.stack([np.cos(yaw), zero, np.sin(yaw), zero, one, zero, -np.sin(yaw), zero, np.cos(yaw)], axis=1)
    rotation = np.diag([1.0, -1.0, -1.0]) @ turn.reshape(-1, 3, 3)
    translation = np.stack([0.2 * np.cos(np.arange(frames) / 5), zero, distance_cm * one], axis=1)
    eyes = np.full(frames, eye_open, np.float32)
    eyes[5] = 0.1
    return Track(
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        eye_open=eyes,
        mouth_open=np.zeros(frames, np.float32),
        mouth_wide=np.ones(frames, np.float32),
        mouth_shape=np.zeros((frames, 40, 2), np.float32),
        tracked=np.ones(frames, np.bool_),
        blinks=np.array([5]),
        shape_offset_cm=np.zeros((468, 3), np.float32),
        focal_px=2.0 * SIZE_PX,
        centre_x_px=SIZE_PX / 2,
        centre_y_px=SIZE_PX / 2,
        reprojection_rms_px=0.5,
        size_px=SIZE_PX,
    )


def make_features(rows: int, *, seed: int = 0, front_end: str = "logmel") -> AudioFeatures:
    """Features of noise."""
    values = np.random.default_rng(seed).normal(size=(rows, COLUMNS)).astype(np.float32)
    return AudioFeatures(values=values, level_db=np.full(rows, -20, np.float32), front_end=front_end, model="")


def _write_pictures(workspace: Workspace) -> None:
    background = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    background[..., 2] = np.arange(SIZE_PX)[None] * 5
    workspace.background.write_bytes(encode_png(background))
    inside = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    down, along = np.mgrid[:SIZE_PX, :SIZE_PX] - SIZE_PX // 2
    inside[down**2 + along**2 <= 14**2] = HEAD
    alpha = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    alpha[36:] = 255
    colour = np.full((SIZE_PX, SIZE_PX, 3), (30, 90, 40), np.uint8)
    with ArchiveWriter(workspace.layers) as layers, ArchiveWriter(workspace.parsing) as parsing:
        for index in range(FRAMES):
            truth = np.where(alpha[..., None] > 0, colour, background)
            skin = (200, 150 + 20 * math.sin(index), 120)
            truth = np.where(inside[..., None] == HEAD, np.array(skin, np.uint8), truth)
            layers.add(frame_name(index, ".truth.jpg"), encode_jpeg(truth))
            layers.add(frame_name(index, ".torso.jpg"), encode_jpeg(colour))
            layers.add(frame_name(index, ".torso.png"), encode_png(alpha))
            parsing.add(frame_name(index, ".png"), encode_png(inside))


def _write_models(workspace: Workspace) -> None:
    plane = GridSpec(2, 2, 2, 4, 8, 8)
    shape = ModelShape(
        backbone="radnerf",
        features=COLUMNS,
        frames=30,
        mouth=2,
        audio_code=16,
        appearance_code=4,
        hidden_width=16,
        space=GridSpec(3, 2, 2, 4, 8, 8),
        audio_plane=plane,
        occupancy_resolution=8,
        samples_per_ray=8,
        min_step_cm=0.5,
    )
    head = HeadModel(shape, torch.tensor([[-8.0, -10.0, -8.0], [8.0, 10.0, 8.0]]))
    save_head(workspace.head, head, HeadSettings(size_px=SIZE_PX), make_features(2))
    torso = TorsoModel(TorsoShape(plane, 16, 4, 30, 3, 16, FRAMES))
    save_torso(workspace.torso, torso, TorsoSettings(size_px=SIZE_PX))

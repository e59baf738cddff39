"""How fast training steps are, from where a trained subject stands."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radnerf.head_training import UPDATE_EVERY, Clip, HeadSchedule, HeadTrainer
from radnerf.machine_rates import synchronise
from stages.bench_scene import Scene
from stages.errors import BadInput
from stages.formats import Track
from stages.settings import BASELINE, HeadSettings
from stages.settings_reading import from_mapping
from stages.training_data import LayerFiles, LayerReader, camera_of, eyes_boxes, head_boxes, mouth_boxes
from stages.workspace import Workspace

BLOCKS = 3
"""Blocks of steps whose median rate is reported."""

_FRAMES = 16
_ENDLESS_STEPS = 1_000_000

NOTHING: dict[str, Any] = {
    "train_steps_per_s": None,
    "train_rays_per_s": None,
    "train_rays_per_step": None,
    "train_samples_per_ray": None,
    "train_size": None,
}
"""What a row says about training where it was not measured."""


def measure_training(workspace: Workspace, scene: Scene, seconds: float, rays: int | None) -> dict[str, Any]:
    """Time blocks of training steps of the scene's head; the head is another one afterwards.

    A block has as many steps as there are between two updates of the occupancy, one of which it contains, where
    that fits into the time; fewer, without an update, where not.

    Args:
        workspace: The subject, whose prepared pictures are read.
        scene: What is trained; its size does not matter.
        seconds: For all timed steps together, about; 0 for none.
        rays: Of a step; None for as many as the subject was trained with.

    Returns:
        The keys of ``NOTHING``; None where the subject no longer has its prepared pictures, or no time was given.
    """
    if seconds <= 0 or not all(path.is_file() for path in (workspace.layers, workspace.parsing)):
        return NOTHING
    settings = _settings(scene)
    settings = replace(settings, rays=rays or settings.rays)
    clip = _clip(workspace, scene, settings.size_px)
    model = scene.shown
    model.train().requires_grad_(requires_grad=True)
    trainer = HeadTrainer(model, clip, _schedule(settings), scene.kernels, model.mask.clone(), None, seed=0)
    trainer.step()  # the first update looks at every cell
    trainer.step_number = 1
    step_s, samples = _timed(trainer, scene.device, 1)
    count = max(1, min(UPDATE_EVERY, int(seconds / BLOCKS / step_s)))
    blocks = [(step_s, samples)] if count == 1 else []
    blocks += [_timed(trainer, scene.device, count) for _ in range(BLOCKS - len(blocks))]
    rate = 1 / statistics.median(seconds for seconds, _ in blocks)
    return {
        "train_steps_per_s": rate,
        "train_rays_per_s": rate * settings.rays,
        "train_rays_per_step": settings.rays,
        "train_samples_per_ray": statistics.mean(found for _, found in blocks),
        "train_size": settings.size_px,
    }


def _timed(trainer: HeadTrainer, device: torch.device, count: int) -> tuple[float, float]:
    """Seconds a step, and samples a ray of the last one."""
    synchronise(device)
    begin = time.perf_counter()
    for _ in range(count):
        report = trainer.step()
    synchronise(device)
    return (time.perf_counter() - begin) / count, report.samples_per_ray or 0.0


def _settings(scene: Scene) -> HeadSettings:
    """What the head was trained with; for the baseline, with the draft preset's own numbers for it."""
    settings = from_mapping(HeadSettings, scene.header["settings"], "head")
    changes = {"backbone": "nerf", **BASELINE["draft"]} if scene.is_baseline else {}
    return replace(settings, **changes)


def _clip(workspace: Workspace, scene: Scene, size_px: int) -> Clip:
    """The beginning of the subject's clip, in memory."""
    track = Track.load(workspace.track)
    count = min(_FRAMES, len(track.rotation))
    train = torch.from_numpy(np.flatnonzero(track.tracked[:count]))
    if not len(train):
        raise BadInput("the clip's first frames have no measured pose", hint="name another subject, or none")
    reader = LayerReader(LayerFiles(workspace.layers, workspace.parsing, workspace.background), size_px)
    pictures = [reader.read(index) for index in range(count)]
    camera = camera_of(track).scaled(size_px)
    head = torch.from_numpy(np.stack([picture.head[..., 0] for picture in pictures]))
    return Clip(
        truth=torch.from_numpy(np.stack([picture.truth for picture in pictures])),
        behind=torch.from_numpy(np.stack([picture.behind for picture in pictures])),
        head=head,
        camera=camera,
        rotation=torch.from_numpy(track.rotation[:count]),
        translation=torch.from_numpy(track.translation[:count]),
        eye=torch.from_numpy(track.eye_open[:count]),
        brow=torch.from_numpy(track.brow_mm[:count]),
        mouth=_no_mouth(scene, count),
        features=scene.features,
        head_box=head_boxes(head),
        mouth_box=mouth_boxes(track, camera)[:count],
        eyes_box=eyes_boxes(track, camera)[:count],
        train=train,
    )


def _no_mouth(scene: Scene, count: int) -> Tensor:
    """A mouth at rest, which takes as long as any."""
    return torch.zeros(count, scene.shown.shape.mouth)


def _schedule(settings: HeadSettings) -> HeadSchedule:
    """The trainer's numbers, in the main phase for good."""
    return HeadSchedule(
        steps=_ENDLESS_STEPS,
        lips_steps=0,
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
        code_drop=settings.code_drop,
        lips_weight=settings.lips_lpips_weight,
    )

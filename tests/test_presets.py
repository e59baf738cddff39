"""Every preset at its own sizes, 1024 x 1024 included: a few steps of both trainings and a picture, all numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.grid import GridSpec
from radnerf.head_training import Clip, HeadTrainer
from radnerf.kernels import get_backend
from radnerf.model import HeadModel
from radnerf.mouth import mouth_components
from radnerf.torso import TorsoModel, TorsoShape
from radnerf.torso_training import TorsoClip, TorsoSchedule, TorsoTrainer, torso_mask
from stages.head import _model_shape, _schedule
from stages.settings import PRESETS, HeadSettings, TorsoSettings
from stages.settings_reading import resolve
from stages.training_data import camera_of, eyes_boxes, head_boxes, mouth_boxes, resize
from tests.synthetic import AABB, ball

FRAMES = 4
"""Of the clip; enlarged, they are what takes the memory."""


def grown(pictures: np.ndarray, size_px: int) -> Tensor:
    """Pictures at a preset's size."""
    return torch.from_numpy(np.stack([resize(np.ascontiguousarray(picture), size_px) for picture in pictures[:FRAMES]]))


def head_at(settings: HeadSettings) -> HeadTrainer:
    """A head's training as a preset has it, of fewer rays and steps."""
    subject, size = ball(), settings.size_px
    some = {
        name: getattr(subject.track, name)[:FRAMES] for name, (_, of) in subject.track.SCHEMA.items() if of[0] == "N"
    }
    track = dataclasses.replace(subject.track, **some)
    camera = camera_of(track).scaled(size)
    head = grown(subject.head, size)
    measured = (torch.from_numpy(values) for values in (track.mouth_open, track.mouth_wide, track.mouth_shape))
    heard = torch.from_numpy(subject.features.values[: 2 * FRAMES])
    clip = Clip(
        truth=grown(subject.truth, size),
        behind=grown(subject.behind, size),
        head=head,
        camera=camera,
        rotation=torch.from_numpy(track.rotation),
        translation=torch.from_numpy(track.translation),
        eye=torch.from_numpy(track.eye_open),
        brow=torch.from_numpy(track.brow_mm),
        mouth=mouth_components(*measured, torch.ones(FRAMES, dtype=torch.bool), settings.mouth_components),
        features=(heard - heard.mean(0)) / heard.std(0),
        head_box=head_boxes(head),
        mouth_box=mouth_boxes(track, camera),
        eyes_box=eyes_boxes(track, camera),
        train=torch.arange(FRAMES),
    )
    torch.manual_seed(0)
    model = HeadModel(_model_shape(settings, subject.features, FRAMES, camera, track, warped=True), AABB)
    small = dataclasses.replace(settings, steps=3, lips_steps=2, rays=512)
    return HeadTrainer(model, clip, _schedule(small), get_backend("auto"), near_the_middle(model), None, 0)


def near_the_middle(model: HeadModel) -> Tensor:
    """An eighth of the cells, since looking at all of a fine grid takes seconds."""
    hull = torch.zeros_like(model.mask)
    quarter = len(hull) // 4
    hull[(slice(quarter, 3 * quarter),) * 3] = True
    return hull


def torso_at(settings: TorsoSettings) -> TorsoTrainer:
    """A torso's training as a preset has it, of fewer pixels and steps."""
    subject, size = ball(), settings.size_px
    torso, opaque = grown(subject.torso, size), grown(subject.head, size)[..., None]
    truth = grown(subject.truth, size)
    clip = TorsoClip(
        truth=truth,
        torso=torso,
        background=torch.from_numpy(resize(subject.background, size)).float() / 255,
        head=torch.cat([truth * (opaque > 0), opaque], dim=-1),
        head_frames=torch.arange(FRAMES),
        camera=camera_of(subject.track).scaled(size),
        rotation=torch.from_numpy(subject.track.rotation),
        translation=torch.from_numpy(subject.track.translation),
        train=torch.arange(FRAMES),
    )
    torch.manual_seed(0)
    plane = GridSpec(
        2,
        settings.levels,
        settings.features_per_level,
        settings.base_resolution,
        settings.max_resolution,
        settings.log2_entries,
    )
    shape = TorsoShape(
        plane,
        settings.hidden_width,
        settings.appearance_code,
        FRAMES,
        settings.anchors,
        64,
        len(subject.track.rotation),
    )
    model = TorsoModel(shape)
    model.mask.copy_(torso_mask(torso, clip.train, 64))
    return TorsoTrainer(model, clip, TorsoSchedule(3, 512, 4, settings.grid_rate, settings.network_rate), 0)


def assert_numbers(named: dict[str, Tensor]) -> None:
    wrong = [
        name for name, value in named.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    assert wrong == []


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_keeps_its_numbers(preset: str) -> None:
    settings = resolve(preset, {})
    trainer = head_at(settings.head)
    for _ in range(trainer.total_steps):
        report = trainer.step()
        assert np.isfinite([report.loss, report.mse]).all()
        assert trainer.skipped == 0
    trainer.average.swap()
    model = trainer.model
    assert_numbers(model.state_dict())
    clip = trainer.clip
    code, mouth = model.hear(clip.features, torch.tensor([1]))
    rays = clip.camera.rays(clip.rotation[1], clip.translation[1])
    seen = model.render_image(get_backend("auto"), rays, model.condition(code, mouth, clip.eye[1:2]))
    assert_numbers(dict(zip(("image", "alpha", "depth"), seen, strict=True)))
    assert seen[0].shape == (settings.head.size_px**2, 3)
    assert float(seen[1].max()) <= 1 + 1e-4
    body = torso_at(settings.torso)
    for _ in range(body.total_steps):
        assert np.isfinite(body.step().loss)
    assert_numbers(body.model.state_dict())
    layer = body.model.render(clip.camera, clip.rotation[1], clip.translation[1])
    assert layer.shape[:2] == (settings.torso.size_px,) * 2
    assert_numbers({"torso": layer})

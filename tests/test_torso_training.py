"""Training a torso on a made-up subject: it learns, repeats itself, and resumes to the last bit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from radnerf.errors import Diverged
from radnerf.torso import TorsoModel
from radnerf.torso_training import TorsoTrainer
from stages.training_loop import Resumable
from tests.synthetic import ball, torso_clip, torso_model, torso_trainer


def _states(model: TorsoModel, trainer: TorsoTrainer) -> dict[str, Tensor]:
    named = {**model.state_dict(), **{f"average {i}": value for i, value in enumerate(trainer.average.values)}}
    return {name: value.detach().clone() for name, value in named.items()}


def _assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_the_error_falls_and_the_layer_is_learnt() -> None:
    model = torso_model()
    trainer = torso_trainer(model, steps=100)
    errors = [trainer.step().mse for _ in range(100)]
    assert sum(errors[-10:]) < 0.1 * sum(errors[:3]) / 3 * 10
    trainer.average.swap()
    clip = trainer.clip
    layer = model.render(clip.camera, clip.rotation[30], clip.translation[30])
    wanted = torch.from_numpy(ball().torso[30]).float() / 255
    assert (layer[..., 3] - wanted[..., 3]).abs().mean() < 0.06
    inside = wanted[..., 3] > 0.5
    assert (layer[..., :3] - wanted[..., :3])[inside].abs().mean() < 0.06


def test_equal_seeds_train_equal_torsos_and_others_do_not() -> None:
    results = []
    for seed in (0, 0, 1):
        model = torso_model()
        trainer = torso_trainer(model, seed=seed)
        for _ in range(5):
            trainer.step()
        results.append(_states(model, trainer))
    _assert_equal(results[0], results[1])
    assert not torch.equal(results[0]["anchors"], results[2]["anchors"])


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    model = torso_model()
    trainer = torso_trainer(model, steps=12)
    for _ in range(12):
        trainer.step()
    straight = _states(model, trainer)

    model = torso_model()
    trainer = torso_trainer(model, steps=12)
    for _ in range(6):
        trainer.step()
    state = Resumable(tmp_path / "state.safetensors", "torso-state", "a", 60.0)
    state.save(model, trainer, [])

    other = torso_model(seed=7)
    resumed = torso_trainer(other, steps=12, seed=9)
    assert state.load(other, resumed) == []
    assert resumed.rate == trainer.rate
    for _ in range(6):
        resumed.step()
    _assert_equal(straight, _states(other, resumed))


def test_pixels_are_drawn_where_the_torso_ever_is() -> None:
    model = torso_model()
    trainer = torso_trainer(model)
    columns, rows = trainer._draw_pixels(4000).unbind(-1)
    cells, size = model.shape.mask_resolution, trainer.clip.camera.width_px
    assert bool(model.mask[rows * cells // size, columns * cells // size].all())
    # Every cell is drawn from.
    drawn = torch.zeros_like(model.mask)
    drawn[rows * cells // size, columns * cells // size] = True
    assert torch.equal(drawn, model.mask)


def test_only_training_frames_are_looked_at() -> None:
    clip = torso_clip()
    dark = dataclasses.replace(clip, truth=clip.truth.clone(), torso=clip.torso.clone())
    dark.truth[len(clip.train) :] = 0
    dark.torso[len(clip.train) :] = 0
    results = []
    for seen in (clip, dark):
        model = torso_model()
        trainer = TorsoTrainer(model, seen, torso_trainer(model).schedule, seed=0)
        for _ in range(5):
            trainer.step()
        results.append(_states(model, trainer))
    _assert_equal(results[0], results[1])


def test_a_step_without_finite_loss_is_passed_over_and_ten_in_a_row_end_the_training() -> None:
    model = torso_model()
    trainer = torso_trainer(model)
    trainer.step()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    clip = trainer.clip
    trainer.clip = dataclasses.replace(clip, background=clip.background * math.nan)
    for _ in range(9):
        assert math.isnan(trainer.step().mse)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])
    with pytest.raises(Diverged, match=r"10 steps in a row.*lower torso\.grid_rate"):
        trainer.step()
    trainer.clip = clip
    trainer.step()
    assert (trainer.skipped, trainer.skipped_in_all) == (0, 10)


def test_pictures_read_a_step_ahead_change_nothing(tmp_path: Path) -> None:
    results = []
    for ahead in (False, True):
        model = torso_model()
        usual = torso_trainer(model, steps=12)
        trainer = TorsoTrainer(model, usual.clip, usual.schedule, 0, ahead=ahead)
        for _ in range(5):
            trainer.step()
        if ahead:
            state = Resumable(tmp_path / "state.safetensors", "torso-state", "a", 60.0)
            state.save(model, trainer, [])
            trainer.step()
            state.load(model, trainer)
        for _ in range(7):
            trainer.step()
        results.append(_states(model, trainer))
    _assert_equal(*results)

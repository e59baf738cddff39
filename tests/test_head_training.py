"""Training a head on a made-up subject: it learns, repeats itself to the last bit, and resumes as if never stopped."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from radnerf.errors import Diverged
from radnerf.head_clip import Clip
from radnerf.head_draws import Drawer
from radnerf.head_training import UPDATE_EVERY, HeadTrainer
from radnerf.kernels import get_backend
from radnerf.losses import structural_loss
from radnerf.model import HeadModel
from stages.training_loop import Resumable
from tests.synthetic import ball, head_clip, head_model, head_schedule, head_trainer


def _states(model: HeadModel, trainer: HeadTrainer) -> dict[str, Tensor]:
    """Every parameter, buffer, average and grid."""
    named = {**model.state_dict(), **{f"average {i}": value for i, value in enumerate(trainer.average.values)}}
    named |= {f"occupancy {name}": value for name, value in trainer.occupancy.state_dict().items()}
    named |= {f"visibility {name}": value for name, value in trainer.visibility.state_dict().items()}
    return {name: value.detach().clone() for name, value in named.items()}


def _assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def trained() -> tuple[HeadModel, HeadTrainer, list[float]]:
    """A head after a short training, and the errors on the way."""
    model = head_model()
    trainer = head_trainer(model, head_schedule(120))
    errors = [trainer.step().mse for _ in range(120)]
    trainer.average.swap()
    return model, trainer, errors


def test_the_error_falls(trained: tuple[HeadModel, HeadTrainer, list[float]]) -> None:
    errors = trained[2]
    assert sum(errors[-10:]) < 0.2 * sum(errors[:3]) / 3 * 10


def test_the_learnt_head_is_where_the_head_is(trained: tuple[HeadModel, HeadTrainer, list[float]]) -> None:
    model, _, _ = trained
    clip = head_clip()
    frame = 10
    code, _ = model.hear(clip.features, torch.tensor([frame]))
    condition = model.condition(code, clip.mouth[frame][None], clip.eye[frame][None])
    rays = clip.camera.rays(clip.rotation[frame], clip.translation[frame])
    _, alpha, _ = model.render_image(get_backend("auto"), rays, condition)
    truth = torch.from_numpy(ball().head[frame]).flatten() > 127
    assert alpha[truth].mean() > 0.85
    assert alpha[~truth].mean() < 0.25


def test_cells_that_nobody_sees_are_left_out(trained: tuple[HeadModel, HeadTrainer, list[float]]) -> None:
    model, trainer, _ = trained
    assert trainer.occupancy.occupied_fraction > 0
    assert bool(model.mask.any())
    assert bool((trainer.hull | ~model.mask).all())


def test_cells_outside_the_hull_are_never_sampled() -> None:
    model = head_model()
    trainer = head_trainer(model, head_schedule(20))
    hull = torch.zeros_like(model.mask)
    hull[4:12, 4:12, 4:12] = True
    trainer = HeadTrainer(model, trainer.clip, trainer.schedule, trainer.kernels, hull, None, 0)
    assert torch.equal(model.mask, hull)
    for _ in range(UPDATE_EVERY + 1):
        trainer.step()
    assert not bool((model.mask & ~hull).any())


def test_equal_seeds_train_equal_heads_and_others_do_not() -> None:
    results = []
    for seed in (0, 0, 1):
        model = head_model()
        trainer = head_trainer(model, head_schedule(4), seed=seed)
        for _ in range(4):
            trainer.step()
        results.append(_states(model, trainer))
    _assert_equal(results[0], results[1])
    assert not torch.equal(results[0]["appearance"], results[2]["appearance"])


# The main phase with an update of the occupancy on either side of the stop, and into the lips phase.
@pytest.mark.parametrize(("steps", "lips_steps", "stop"), [(20, 0, 10), (4, 8, 6)])
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    tmp_path: Path, steps: int, lips_steps: int, stop: int
) -> None:
    schedule = dataclasses.replace(head_schedule(steps, lips_steps), pose_rate=1e-3, bend_rate=5e-3)
    model = head_model()
    trainer = head_trainer(model, schedule)
    for _ in range(steps + lips_steps):
        trainer.step()
    straight = _states(model, trainer)

    model = head_model()
    trainer = head_trainer(model, schedule)
    for _ in range(stop):
        trainer.step()
    state = Resumable(tmp_path / "state.safetensors", "head-state", "a", 60.0)
    state.save(model, trainer, [{"step": stop, "seconds": 1.5, "loss": None}])

    # Another start, so that nothing is right by chance.
    other = head_model(seed=7)
    resumed = head_trainer(other, schedule, seed=9)
    assert state.load(other, resumed) == [{"step": stop, "seconds": 1.5, "loss": None}]
    assert resumed.step_number == stop
    assert resumed.rate == trainer.rate
    while resumed.step_number < resumed.total_steps:
        resumed.step()
    _assert_equal(straight, _states(other, resumed))


@pytest.mark.parametrize("stop", [0, 7, 22])
def test_pictures_read_a_step_ahead_change_nothing(tmp_path: Path, stop: int) -> None:
    schedule = head_schedule(20, 4)
    results = []
    for ahead in (False, True):
        model = head_model()
        hull = torch.ones_like(model.mask)
        given = (model, head_clip(), schedule, get_backend("auto"), hull, None, 0)
        trainer = HeadTrainer(*given, ahead=ahead)
        while trainer.step_number < stop:
            trainer.step()
        if ahead:
            state = Resumable(tmp_path / "state.safetensors", "head-state", "a", 60.0)
            state.save(model, trainer, [])
            # Going on after saving, and going back to what was saved, are the same.
            for _ in range(2):
                trainer.step()
            state.load(model, trainer)
        while trainer.step_number < trainer.total_steps:
            trainer.step()
        results.append(_states(model, trainer))
    _assert_equal(*results)


def test_a_gradient_that_is_not_finite_leaves_everything_as_it_was() -> None:
    model = head_model()
    trainer = head_trainer(model, head_schedule(1000))
    for _ in range(5):
        trainer.step()
    seen = trainer.visibility.weight.clone()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    hook = model.appearance.register_hook(lambda grad: grad * math.inf)
    assert math.isfinite(trainer.step().loss)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]), name
    assert (trainer.skipped, trainer.skipped_in_all) == (1, 1)
    hook.remove()
    trainer.step()
    assert not torch.equal(model.appearance, before["appearance"])
    assert (trainer.skipped, trainer.skipped_in_all) == (0, 1)
    assert bool((trainer.visibility.weight >= seen).all())


def test_a_step_that_went_wrong_hides_no_cell_for_good() -> None:
    trainer = head_trainer(head_model(), head_schedule(1000))
    trainer.step()
    clip = trainer.clip
    trainer.clip = dataclasses.replace(clip, eye=clip.eye * math.nan)
    trainer.step()
    assert trainer.skipped == 1
    assert bool(torch.isfinite(trainer.visibility.weight).all())


def test_networks_that_multiply_in_half_precision_learn_as_well() -> None:
    errors: dict[torch.dtype, list[float]] = {}
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        model = head_model()
        hull = torch.ones_like(model.mask)
        trainer = HeadTrainer(model, head_clip(), head_schedule(40), get_backend("auto"), hull, None, 0, precision=kind)
        errors[kind] = [trainer.step().mse for _ in range(40)]
        assert all(value.dtype == torch.float32 for value in model.parameters())
        assert trainer.skipped_in_all == 0
    usual = errors.pop(torch.float32)
    for found in errors.values():
        assert found != usual
        assert sum(found[-10:]) < 0.5 * sum(found[:10])
        assert sum(found[-10:]) < 1.2 * sum(usual[-10:])


def test_going_on_does_not_change_the_state_on_disk(tmp_path: Path) -> None:
    model = head_model()
    trainer = head_trainer(model, head_schedule(6))
    trainer.step()
    state = Resumable(tmp_path / "state.safetensors", "head-state", "a", 60.0)
    state.save(model, trainer, [])
    before = state.path.read_bytes()
    again = head_model()
    resumed = head_trainer(again, head_schedule(6))
    state.load(again, resumed)
    for _ in range(3):
        resumed.step()
    assert state.path.read_bytes() == before


def test_the_occupancy_rests_while_the_lips_are_learnt() -> None:
    model = head_model()
    trainer = head_trainer(model, head_schedule(2, 2 * UPDATE_EVERY))
    for _ in range(2):
        trainer.step()
    mask = model.mask.clone()
    seen = {name: value.clone() for name, value in trainer.visibility.state_dict().items()}
    while trainer.step_number < trainer.total_steps:
        trainer.step()
    assert torch.equal(model.mask, mask)
    for name, value in trainer.visibility.state_dict().items():
        assert torch.equal(value, seen[name])


def test_the_lips_phase_asks_the_perceptual_distance_about_the_mouth() -> None:
    sizes: list[tuple[torch.Size, torch.Size]] = []

    def distance(first: Tensor, second: Tensor) -> Tensor:
        sizes.append((first.shape, second.shape))
        return structural_loss(first, second)

    model = head_model()
    trainer = head_trainer(model, head_schedule(0, 4), perceptual=distance)
    for _ in range(4):
        trainer.step()
    assert sizes == [((3, 32, 32), (3, 32, 32))] * 2


def test_pixels_are_drawn_inside_their_boxes() -> None:
    drawer, clip = _drawer(eye=1.0)
    frames = torch.arange(8)
    pixels = drawer.pixels(frames, 100, 0)
    for boxes, part in ((clip.mouth_box, pixels[:, :30]), (clip.eyes_box, pixels[:, 30:40]), (clip.head_box, pixels)):
        assert bool((part >= boxes[:8, None, :2]).all())
        assert bool((part < boxes[:8, None, 2:]).all())


def test_a_blinks_eyes_get_the_rays_that_the_mouth_has_elsewhere() -> None:
    drawer, clip = _drawer(eye=0.2)
    pixels = drawer.pixels(torch.arange(8), 100, 0)
    for boxes, part in ((clip.eyes_box, pixels[:, :30]), (clip.mouth_box, pixels[:, 30:40])):
        assert bool((part >= boxes[:8, None, :2]).all())
        assert bool((part < boxes[:8, None, 2:]).all())


def _drawer(eye: float) -> tuple[Drawer, Clip]:
    """What draws from a clip whose eyes are open so far in every frame."""
    clip = head_clip()
    clip = dataclasses.replace(clip, eye=torch.full_like(clip.eye, eye))
    generator = torch.Generator().manual_seed(0)
    return Drawer(clip, head_schedule(), torch.device("cpu"), (generator, generator), 0), clip


def test_only_training_frames_are_looked_at() -> None:
    clip = head_clip()
    dark = dataclasses.replace(clip, truth=clip.truth.clone())
    dark.truth[len(clip.train) :] = 0
    results = []
    for seen in (clip, dark):
        model = head_model()
        trainer = HeadTrainer(
            model, seen, head_schedule(3, 3), get_backend("auto"), torch.ones_like(model.mask), None, seed=0
        )
        for _ in range(6):
            trainer.step()
        results.append(_states(model, trainer))
    _assert_equal(results[0], results[1])


def test_a_step_without_finite_loss_is_passed_over_and_ten_in_a_row_end_the_training() -> None:
    model = head_model()
    trainer = head_trainer(model, head_schedule(1000))
    trainer.step()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    clip = trainer.clip
    trainer.clip = dataclasses.replace(clip, eye=clip.eye * math.nan)
    for _ in range(9):
        assert math.isnan(trainer.step().mse)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])
    with pytest.raises(Diverged, match="10 steps in a row"):
        trainer.step()
    assert trainer.skipped_in_all == 10
    # A good step in between starts the count anew.
    trainer.clip = clip
    trainer.step()
    assert (trainer.skipped, trainer.skipped_in_all) == (0, 10)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_mask_without_a_cell_trains_without_failing(backend: str) -> None:
    if backend == "cpu":
        pytest.importorskip("numba")
    model = head_model()
    model.use_backend(backend)
    nothing = torch.zeros_like(model.mask)
    trainer = HeadTrainer(model, head_clip(), head_schedule(3), get_backend(backend), nothing, None, seed=0)
    assert math.isfinite(trainer.step().loss)


def test_the_baseline_without_grids_trains_too() -> None:
    model = head_model(backbone="nerf")
    schedule = dataclasses.replace(head_schedule(3), rays=16, network_rate=5e-4)
    trainer = HeadTrainer(model, head_clip(), schedule, get_backend("auto"), torch.ones_like(model.mask), None, seed=0)
    before = [value.detach().clone() for value in model.fields.parameters()]
    assert all(math.isfinite(trainer.step().loss) for _ in range(2))
    after = list(model.fields.parameters())
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_blinks_are_drawn_far_more_often_than_they_happen() -> None:
    clip = head_clip()
    shut = int(clip.train[3])
    eye = torch.ones_like(clip.eye)
    eye[shut] = 0.2
    blinking = dataclasses.replace(clip, eye=eye)
    hull = torch.ones_like(head_model().mask)
    trainer = HeadTrainer(head_model(), blinking, head_schedule(), get_backend("auto"), hull, None, 0)
    drawn = trainer.drawer.frames(4000)
    assert 0.08 < (drawn == shut).float().mean() < 0.2
    assert len(drawn.unique()) > len(clip.train) // 2

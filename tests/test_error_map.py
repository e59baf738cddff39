"""Rays drawn where the error last was."""

from __future__ import annotations

import dataclasses

import torch

from radnerf.error_map import CELLS, ErrorMap
from tests.synthetic import head_model, head_schedule, head_trainer

CPU = torch.device("cpu")


def _everywhere(count: int = 40_000) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(1))


def _shares(map_: ErrorMap, step: int = 0, count: int = 200_000) -> torch.Tensor:
    """The share of what is drawn that falls into each cell."""
    places = map_.draw(step, count, torch.Generator().manual_seed(2))
    assert bool(((places >= 0) & (places < 1)).all())
    cell = (places * CELLS).long()
    return torch.bincount(cell[:, 1] * CELLS + cell[:, 0], minlength=CELLS**2).view(CELLS, CELLS) / count


def test_nothing_known_draws_evenly() -> None:
    shares = _shares(ErrorMap(CPU, CPU))
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / CELLS**2), atol=4e-4, rtol=0)


def test_places_are_drawn_in_proportion_to_the_root_of_the_error() -> None:
    map_ = ErrorMap(CPU, CPU)
    for _ in range(20):
        places = _everywhere()
        # Four times the squared error in the lower right quarter.
        worse = (places >= 0.5).all(1)
        map_.note(places, torch.where(worse, 0.04, 0.01))
        map_.settle(0)
    shares = _shares(map_)
    half = CELLS // 2
    assert abs(float(shares[half:, half:].sum()) - 2 / 5) < 0.01
    assert abs(float(shares[:half].sum()) - 2 / 5) < 0.01


def test_an_error_that_has_gone_is_forgotten_and_an_unseen_cell_is_not_passed_over() -> None:
    map_ = ErrorMap(CPU, CPU)
    places = _everywhere()
    seen = places[(places < 0.9).all(1)]
    for squared in (0.25, 1e-6):
        for _ in range(20):
            map_.note(seen, torch.full((len(seen),), squared))
            map_.settle(0)
    assert float(map_.errors[: CELLS // 2, : CELLS // 2].max()) < 1e-3
    assert float(map_.errors[-1, -1]) == 1


def test_the_map_is_followed_from_the_step_that_was_said() -> None:
    map_ = ErrorMap(CPU, CPU)
    map_.note(_everywhere(), _everywhere()[:, 0])
    map_.settle(18)
    torch.testing.assert_close(_shares(map_, 17), _shares(ErrorMap(CPU, CPU)))
    assert not torch.allclose(_shares(map_, 18), _shares(map_, 17), atol=4e-4)


def test_what_is_not_finite_or_lies_outside_leaves_the_map_usable() -> None:
    map_ = ErrorMap(CPU, CPU)
    map_.note(torch.tensor([[-0.1, 0.5], [0.5, 1.0], [0.5, 0.5]]), torch.tensor([1.0, 1.0, float("nan")]))
    map_.settle(0)
    assert bool(torch.isfinite(map_.errors).all())
    assert int((map_.errors < 1).sum()) == 1
    assert bool(torch.isfinite(_shares(map_)).all())


def test_training_draws_more_rays_where_its_error_is() -> None:
    model = head_model()
    trainer = head_trainer(model, dataclasses.replace(head_schedule(60), error_share=0.5, rays=2048))
    for _ in range(60):
        trainer.step()
    errors = trainer.drawer.errors.errors.sqrt()
    shares = _shares(trainer.drawer.errors, trainer.step_number + 99)
    worst = errors >= errors.flatten().quantile(0.9)
    assert float(shares[worst].sum()) > 1.5 * float(worst.float().mean())


def test_without_a_share_nothing_is_noted() -> None:
    trainer = head_trainer(head_model(), dataclasses.replace(head_schedule(20), error_share=0.0))
    for _ in range(20):
        trainer.step()
    assert bool((trainer.drawer.errors.errors == 1).all())

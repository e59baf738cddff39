"""Adam's steps: the same as torch's own, and none where something is not finite."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from radnerf.descent import GIVE_UP_AFTER, Descent
from radnerf.errors import Diverged

RATES = (0.05, 0.01)


def _parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.rand(*shape, generator=generator)) for shape in ((5, 3), (7,))]


def _descent(parameters: list[nn.Parameter], *, scaled: bool = False) -> Descent:
    groups: list[dict[str, Any]] = [
        {"params": [value], "lr": rate} for value, rate in zip(parameters, RATES, strict=True)
    ]
    return Descent(groups, parameters, 0.9, scaled=scaled, label="head")


def _loss(parameters: list[nn.Parameter], number: int) -> Tensor:
    first, second = parameters
    return ((first - number).square().sum() + (second * first.sum()).square().mean()) / 100


def _state(descent: Descent) -> list[Tensor]:
    """Parameters and everything that Adam remembers of them."""
    optimiser = descent.optimiser
    values = [value for group in optimiser.param_groups for value in group["params"]]
    moments = [item for value in values for item in optimiser.state[value].values()]
    return [item.detach().clone() for item in (*values, *moments)]


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("scaled", [False, True])
def test_good_steps_are_torch_s_own_to_the_last_bit(scaled: bool) -> None:
    ours, theirs = _parameters(), _parameters()
    descent = _descent(ours, scaled=scaled)
    groups = [{"params": [value], "lr": rate} for value, rate in zip(theirs, RATES, strict=True)]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
    for number in range(6):
        descent.step(_loss(ours, number), RATES)
        adam.zero_grad()
        _loss(theirs, number).backward()
        adam.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert descent.skipped_in_all == 0


class _Poison(torch.autograd.Function):
    """The same forward; backward an infinity in one place."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        grad.view(-1)[1] = math.inf
        return grad


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(scaled: bool, where: str) -> None:
    parameters = _parameters()
    descent = _descent(parameters, scaled=scaled)
    for number in range(3):
        descent.step(_loss(parameters, number), RATES)
    before = copy.deepcopy(_state(descent))
    if where == "loss":
        bad = _loss(parameters, 3) * math.nan
    else:
        bad = _loss([_Poison.apply(parameters[0]), parameters[1]], 3)
        assert math.isfinite(float(bad.detach()))
    descent.step(bad, RATES)
    assert _same(before, _state(descent))
    assert (descent.skipped, descent.skipped_in_all) == (1, 1)
    descent.step(_loss(parameters, 3), RATES)
    assert not _same(before, _state(descent))
    assert (descent.skipped, descent.skipped_in_all) == (0, 1)


def test_a_first_step_that_is_not_finite_changes_nothing_either() -> None:
    parameters, untouched = _parameters(), _parameters()
    descent = _descent(parameters)
    descent.step(_loss([_Poison.apply(parameters[0]), parameters[1]], 0), RATES)
    assert all(torch.equal(one, other) for one, other in zip(parameters, untouched, strict=True))
    for number in range(3):
        descent.step(_loss(parameters, number), RATES)
    straight = _parameters()
    other = _descent(straight)
    for number in range(3):
        other.step(_loss(straight, number), RATES)
    assert all(torch.equal(one, two) for one, two in zip(parameters, straight, strict=True))


def test_too_many_bad_steps_in_a_row_end_the_training_and_one_good_one_saves_it() -> None:
    parameters = _parameters()
    descent = _descent(parameters)
    for _ in range(GIVE_UP_AFTER - 1):
        descent.step(_loss(parameters, 0) * math.nan, RATES)
        descent.check(0)
    descent.step(_loss(parameters, 0), RATES)
    for _ in range(GIVE_UP_AFTER - 1):
        descent.step(_loss(parameters, 0) * math.nan, RATES)
        descent.check(0)
    descent.step(_loss(parameters, 0) * math.nan, RATES)
    with pytest.raises(Diverged, match="10 steps in a row, the last at step 7"):
        descent.check(7)
    assert descent.skipped_in_all == 2 * GIVE_UP_AFTER - 1


def test_the_scale_is_halved_by_a_bad_step_and_doubled_after_many_good_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radnerf.descent._PATIENCE", 3)
    parameters = _parameters()
    descent = _descent(parameters, scaled=True)
    assert descent.scale is not None
    first = float(descent.scale)
    descent.step(_loss([_Poison.apply(parameters[0]), parameters[1]], 0), RATES)
    assert float(descent.scale) == first / 2
    for _ in range(3):
        assert float(descent.scale) == first / 2
        descent.step(_loss(parameters, 0), RATES)
    assert float(descent.scale) == first
    for _ in range(40):
        descent.step(_loss([_Poison.apply(parameters[0]), parameters[1]], 0), RATES)
    assert float(descent.scale) == 1


def test_a_state_goes_on_where_it_was_and_forgets_no_step_left_out() -> None:
    parameters = _parameters()
    descent = _descent(parameters, scaled=True)
    descent.step(_loss(parameters, 0), RATES)
    descent.step(_loss(parameters, 0) * math.nan, RATES)
    descent.average.update()
    state = copy.deepcopy(descent.state_dict())
    other_parameters = _parameters()
    with torch.no_grad():
        for value, stored in zip(other_parameters, parameters, strict=True):
            value.copy_(stored)
    other = _descent(other_parameters, scaled=True)
    other.load_state_dict(state)
    for each, values in ((descent, parameters), (other, other_parameters)):
        each.step(_loss(values, 1), RATES)
    assert _same(_state(descent), _state(other))
    assert float(other.scale or 0) == float(descent.scale or 1)
    assert (other.skipped, other.skipped_in_all) == (0, 1)
    # Going back in one training keeps what was counted on the way that is given up.
    descent.step(_loss(parameters, 0) * math.nan, RATES)
    descent.load_state_dict(state)
    assert (descent.skipped, descent.skipped_in_all) == (1, 2)

"""Rates that fall and weights that are averaged."""

from __future__ import annotations

import pytest
import torch

from radnerf.schedule import Average, decayed


def test_the_rate_falls_exponentially_to_its_share() -> None:
    assert decayed(0, 100) == 1
    assert decayed(50, 100) == pytest.approx(0.1**0.5)
    assert decayed(100, 100) == pytest.approx(0.1)
    assert decayed(10, 10, final_share=0.5) == pytest.approx(0.5)
    factors = [decayed(step, 7) for step in range(8)]
    assert factors == sorted(factors, reverse=True)
    assert decayed(0, 0) == 1


def test_swapping_twice_changes_nothing() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    average = Average([parameter], 0.9)
    with torch.no_grad():
        parameter.copy_(torch.tensor([3.0, 5.0]))
    average.update()
    held, value = parameter.detach().clone(), average.values[0].clone()
    average.swap()
    assert torch.equal(parameter, value)
    assert torch.equal(average.values[0], held)
    average.swap()
    assert torch.equal(parameter, held)
    assert torch.equal(average.values[0], value)
    assert parameter.requires_grad


def test_the_average_converges_to_parameters_that_stay() -> None:
    parameter = torch.nn.Parameter(torch.full((3,), 100.0))
    average = Average([parameter], 0.9)
    with torch.no_grad():
        parameter.fill_(7.0)
    for _ in range(200):
        average.update()
    torch.testing.assert_close(average.values[0], torch.full((3,), 7.0))


def test_the_average_lags_by_its_decay_once_the_start_is_forgotten() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    average = Average([parameter], 0.5)
    for _ in range(50):
        average.update()
    with torch.no_grad():
        parameter.fill_(1.0)
    average.update()
    assert average.values[0].item() == pytest.approx(0.5)
    average.update()
    assert average.values[0].item() == pytest.approx(0.75)


def test_the_average_begins_apart_from_the_parameters() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    average = Average([parameter], 0.9)
    with torch.no_grad():
        parameter.add_(1)
    assert average.values[0].tolist() == [1, 1]

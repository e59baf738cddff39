"""The network with shared conditions against the plain one on concatenated rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radnerf.mlp import ConditionedMLP


def _plain(network: ConditionedMLP, rows: Tensor) -> Tensor:
    """The same layers applied to the whole rows."""
    weights = list(network.weights)
    for weight in weights[:-1]:
        rows = torch.relu(rows @ weight.T)
    return rows @ weights[-1].T


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_conditioned_rows_equal_concatenated_rows(layers: int) -> None:
    torch.manual_seed(0)
    network = ConditionedMLP(5, 3, 16, 4, layers).double()
    x, condition = torch.randn(20, 5).double(), torch.randn(4, 3).double()
    which = torch.randint(4, (20,))
    membership = torch.nn.functional.one_hot(which, 4).double()
    whole = _plain(network, torch.cat([x, condition[which]], dim=1))
    torch.testing.assert_close(network(x, condition, membership), whole)
    alone = _plain(network, torch.cat([x, condition[:1].expand(20, -1)], dim=1))
    torch.testing.assert_close(network(x, condition[:1]), alone)


def test_gradients_equal_those_of_concatenated_rows() -> None:
    torch.manual_seed(1)
    network = ConditionedMLP(5, 3, 16, 4, 3).double()
    x, condition = torch.randn(20, 5).double().requires_grad_(), torch.randn(4, 3).double().requires_grad_()
    which = torch.randint(4, (20,))
    membership = torch.nn.functional.one_hot(which, 4).double()
    wanted = [x, condition, *network.parameters()]
    ours = torch.autograd.grad(network(x, condition, membership).square().sum(), wanted)
    rows = torch.cat([x, condition[which]], dim=1)
    theirs = torch.autograd.grad(_plain(network, rows).square().sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_without_condition_takes_none() -> None:
    network = ConditionedMLP(5, 0, 16, 4, 2)
    x = torch.randn(7, 5)
    torch.testing.assert_close(network(x), _plain(network, x))
    # A per-frame code of width 0 is an empty condition.
    torch.testing.assert_close(network(x, torch.zeros(1, 0)), _plain(network, x))


def test_nothing_in_gives_nothing_out_since_there_is_no_bias() -> None:
    network = ConditionedMLP(5, 3, 16, 4, 3)
    assert network(torch.zeros(2, 5), torch.zeros(1, 3)).abs().max() == 0

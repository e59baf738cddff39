"""Devices: what torch does not have is refused before any work, by name."""

from __future__ import annotations

import pytest
import torch

from radnerf.devices import pick_device
from radnerf.errors import BackendUnavailable


def test_auto_takes_a_gpu_only_where_torch_has_one() -> None:
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "vulkan"])
def test_a_missing_device_is_refused_by_name(name: str) -> None:
    with pytest.raises(BackendUnavailable, match=name):
        pick_device(name)

"""The tiny-cuda-nn backend's wiring, against a stand-in that lays parameters out as its documentation says.

Where the real one is installed and there is a GPU, the last tests compare it with the reference.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from radnerf.errors import BackendUnavailable, BadInput
from radnerf.grid import GridSpec
from radnerf.kernels import get_backend
from tests import test_triton_render as scene
from tests.triton_harness import DEVICE

SPEC = GridSpec(3, levels=3, features_per_level=2, base_resolution=4, max_resolution=40, log2_entries=8)


class _Encoding(nn.Module):
    """``tinycudann.Encoding`` of type Hash: parameters level after level, entry after entry; half precision."""

    def __init__(self, n_input_dims: int, encoding_config: dict[str, Any], dtype: torch.dtype | None = None) -> None:
        super().__init__()
        assert encoding_config["otype"] == "Grid"
        assert encoding_config["type"] == "Hash"
        assert encoding_config["interpolation"] == "Linear"
        assert dtype == torch.float16
        levels, base = encoding_config["n_levels"], encoding_config["base_resolution"]
        finest = round(base * encoding_config["per_level_scale"] ** (levels - 1))
        features, log2 = encoding_config["n_features_per_level"], encoding_config["log2_hashmap_size"]
        self.spec = GridSpec(n_input_dims, levels, features, base, finest, log2)
        assert self.spec.per_level_scale == pytest.approx(encoding_config["per_level_scale"], rel=1e-6)
        self.n_output_dims = levels * features
        self.params = nn.Parameter(torch.zeros(self.spec.total_entries * features))
        self.jit_fusion = False

    def forward(self, x: Tensor) -> Tensor:
        table = self.params.half().float().view(-1, self.spec.features_per_level)
        return get_backend("reference").encode(x, table, self.spec).half()


class _Network(nn.Module):
    """``tinycudann.Network``: matrices (outputs, inputs) row after row, widths filled up to 16, inputs with ones."""

    def __init__(self, n_input_dims: int, n_output_dims: int, network_config: dict[str, Any]) -> None:
        super().__init__()
        assert network_config["otype"] == "FullyFusedMLP"
        assert (network_config["activation"], network_config["output_activation"]) == ("ReLU", "None")
        width, self.n_output_dims = network_config["n_neurons"], n_output_dims
        up = [-(-size // 16) * 16 for size in (n_input_dims, n_output_dims)]
        self.widths = [up[0], *[width] * network_config["n_hidden_layers"], up[1]]
        count = sum(a * b for a, b in zip(self.widths[:-1], self.widths[1:], strict=True))
        self.params = nn.Parameter(torch.zeros(count))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.cat([x, x.new_ones(len(x), self.widths[0] - x.shape[1])], dim=1)
        start = 0
        for layer, (before, after) in enumerate(zip(self.widths[:-1], self.widths[1:], strict=True)):
            matrix = self.params[start : start + before * after].view(after, before)
            hidden = (torch.relu(hidden) if layer else hidden) @ matrix.T
            start += before * after
        return hidden[:, : self.n_output_dims].half()


@pytest.fixture
def tcnn(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The backend's module on the stand-in."""
    fake = ModuleType("tinycudann")
    fake.Encoding, fake.Network = _Encoding, _Network  # type: ignore[attr-defined]
    fake.supports_jit_fusion = lambda: True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tinycudann", fake)
    sys.modules.pop("radnerf.kernels.tcnn", None)
    module = importlib.import_module("radnerf.kernels.tcnn")
    monkeypatch.setattr(module, "_DEVICE", DEVICE.type)
    yield module
    sys.modules.pop("radnerf.kernels.tcnn", None)


def _points(count: int = 9) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(1)).to(DEVICE)


def _table() -> Tensor:
    return (torch.rand(SPEC.total_entries, 2, generator=torch.Generator().manual_seed(2)) - 0.5).to(DEVICE)


def test_the_table_on_disk_is_handed_over_as_it_lies(tcnn: ModuleType) -> None:
    kernels, table = tcnn.TcnnBackend(), _table().requires_grad_()
    encoded = kernels.encode(_points(), table, SPEC)
    expected = get_backend("reference").encode(_points(), table.detach(), SPEC)
    assert encoded.dtype == torch.float32
    torch.testing.assert_close(encoded.detach(), expected, atol=2e-3, rtol=2e-3)
    # The gradient is of the float32 original.
    (grad,) = torch.autograd.grad(encoded.sum(), table)
    assert grad.shape == table.shape
    assert grad.dtype == torch.float32
    assert float(grad.sum()) == pytest.approx(encoded.numel(), rel=1e-2)


def test_modules_are_made_once_and_fused_where_they_can_be(tcnn: ModuleType) -> None:
    kernels = tcnn.TcnnBackend()
    for _ in range(2):
        kernels.encode(_points(), _table(), SPEC)
    (module,) = kernels._modules.values()
    assert module.jit_fusion is True


def test_no_points_encode_to_no_features(tcnn: ModuleType) -> None:
    assert tcnn.TcnnBackend().encode(_points(0), _table(), SPEC).shape == (0, SPEC.output_width)


def test_a_network_is_handed_over_with_its_bias_as_a_weight(tcnn: ModuleType) -> None:
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(shape, generator=generator).to(DEVICE) * 0.3 for shape in ((32, 7), (32, 32), (5, 32))]
    bias = torch.randn(32, generator=generator).to(DEVICE)
    x = torch.randn(11, 7, generator=generator).to(DEVICE)
    flat = tcnn.network_parameters(weights, bias)
    # 7 inputs and the bias's one, filled up to 16; then 32 × 32; then 5 outputs filled up to 16.
    assert flat.shape == (32 * 16 + 32 * 32 + 16 * 32,)
    assert torch.equal(flat[:8], torch.cat([weights[0][0], bias[:1]]))
    assert not flat[8:16].any()
    assert torch.equal(flat[16:23], weights[0][1])
    ours = tcnn.TcnnBackend()._network(x, weights, bias)
    hidden = torch.relu(x @ weights[0].T + bias)
    expected = torch.relu(hidden @ weights[1].T) @ weights[2].T
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=2e-3)


def test_a_frame_is_the_references_within_half_precision(tcnn: ModuleType) -> None:
    ours, theirs = scene._both(tcnn.TcnnBackend(), scene.HEAD)
    assert float((ours[:, :4] - theirs[:, :4]).abs().max()) < 2 / 255
    assert float(theirs[:, 3].max()) > 0.2


def test_what_it_cannot_do_is_refused(tcnn: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = tcnn.TcnnBackend()
    with pytest.raises(BadInput, match="float64"):
        kernels.encode(_points().double(), _table().double(), SPEC)
    with pytest.raises(BackendUnavailable, match="tensors on meta"):
        kernels.encode(_points().to("meta"), _table().to("meta"), SPEC)
    with pytest.raises(BackendUnavailable, match="48 wide"):
        kernels._network(_points(), [torch.zeros(48, 3), torch.zeros(2, 48)], torch.zeros(48))
    monkeypatch.setattr(tcnn.tinycudann, "Encoding", lambda *_, **__: _Network(3, 6, tcnn.network_config(16, 1)))
    with pytest.raises(BackendUnavailable, match="parameters and 6 outputs there, not"):
        tcnn.TcnnBackend().encode(_points(), _table(), SPEC)


def test_the_door_says_why_it_is_not_here() -> None:
    if DEVICE.type == "cuda":
        pytest.skip("there is a GPU")
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU"):
        get_backend("tcnn", "cuda")


@pytest.mark.skipif(
    DEVICE.type != "cuda" or importlib.util.find_spec("tinycudann") is None, reason="needs a GPU and tinycudann"
)
def test_the_real_one_agrees_with_the_reference() -> None:
    kernels = get_backend("tcnn", DEVICE)
    published = GridSpec(3, 16, 2, 16, 2048, 16)
    x = torch.rand(1000, 3, device=DEVICE)
    table = torch.rand(published.total_entries, 2, device=DEVICE) - 0.5
    expected = get_backend("reference").encode(x, table, published)
    torch.testing.assert_close(kernels.encode(x, table, published), expected, atol=2e-3, rtol=2e-3)
    ours, theirs = scene._both(kernels, scene.HEAD)
    assert float((ours[:, :4] - theirs[:, :4]).abs().max()) < 2 / 255

"""Triton's grid encoding against the reference, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radnerf.errors import BackendUnavailable, BadInput
from radnerf.grid import GridSpec
from radnerf.kernels import get_backend
from tests.triton_harness import DEVICE, SINGLE

# Dense and hashed levels; sizes that are and are not powers of two; both widths of features.
SPECS = [
    GridSpec(2, levels=3, features_per_level=4, base_resolution=5, max_resolution=300, log2_entries=7),
    GridSpec(3, levels=3, features_per_level=2, base_resolution=3, max_resolution=70, log2_entries=7),
]
Result = tuple[Tensor, Tensor, Tensor]


def _points(spec: GridSpec, count: int) -> Tensor:
    """Random points, and every corner of the box before them."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * spec.dim)
    inside = torch.rand(count, spec.dim, generator=torch.Generator().manual_seed(1))
    return torch.cat([corners, inside])[:count]


def _table(spec: GridSpec) -> Tensor:
    shape = (spec.total_entries, spec.features_per_level)
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) - 0.5


def _run(name: str, spec: GridSpec, points: Tensor, table: Tensor) -> Result:
    """Features, and the gradients of points and table."""
    kernels, device = (SINGLE, DEVICE) if name == "triton" else (get_backend("reference"), torch.device("cpu"))
    x, weights = (tensor.to(device).requires_grad_() for tensor in (points, table))
    encoded = kernels.encode(x, weights, spec)
    target = torch.rand(encoded.shape, generator=torch.Generator().manual_seed(3)).to(encoded)
    grads = torch.autograd.grad((encoded * target).sum(), (x, weights))
    return encoded.detach().cpu(), grads[0].cpu(), grads[1].cpu()


@pytest.mark.parametrize("spec", SPECS)
def test_encode_equals_the_reference_forward_and_backward(spec: GridSpec) -> None:
    # 300 points are one block and a part of the next.
    points, table = _points(spec, 300), _table(spec)
    ours, theirs = (_run(name, spec, points, table) for name in ("triton", "reference"))
    if DEVICE.type == "cpu":
        assert torch.equal(ours[0], theirs[0])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * max(1.0, float(other.abs().max())))
    assert float(theirs[1].abs().min(dim=0).values.max()) > 0


def test_half_precision_is_reckoned_in_float32() -> None:
    spec = SPECS[1]
    points, table = _points(spec, 40).half(), _table(spec).half()
    ours, theirs = _run("triton", spec, points, table), _run("reference", spec, points.float(), table.float())
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float16
        torch.testing.assert_close(one.float(), other, rtol=2e-3, atol=2e-3 * max(1.0, float(other.abs().max())))


def test_points_outside_the_box_wrap_instead_of_reading_elsewhere() -> None:
    spec = SPECS[1]
    x = torch.tensor([[-3.0, 0.5, 7.0], [1e6, -1e6, 0.0]], device=DEVICE)
    table = torch.ones(spec.total_entries, spec.features_per_level, device=DEVICE)
    encoded = SINGLE.encode(x, table, spec)
    torch.testing.assert_close(encoded, torch.ones_like(encoded), atol=1e-5, rtol=0)


def test_no_points_encode_to_no_features() -> None:
    spec = SPECS[0]
    encoded, grad_x, grad_table = _run("triton", spec, torch.zeros(0, 2), _table(spec))
    assert encoded.shape == (0, spec.output_width)
    assert grad_x.shape == (0, 2)
    assert not grad_table.any()


def test_only_the_gradients_asked_for_are_made() -> None:
    spec = SPECS[0]
    x, table = _points(spec, 5).to(DEVICE), _table(spec).to(DEVICE).requires_grad_()
    encoded = SINGLE.encode(x, table, spec)
    (grad,) = torch.autograd.grad(encoded.sum(), table)
    assert float(grad.sum()) == pytest.approx(encoded.numel(), rel=1e-5)


def test_wrong_input_is_named() -> None:
    spec = SPECS[1]
    table = _table(spec).to(DEVICE)
    with pytest.raises(BadInput, match=r"x has shape \(4, 2\)"):
        SINGLE.encode(torch.rand(4, 2, device=DEVICE), table, spec)
    with pytest.raises(BadInput, match="float64"):
        SINGLE.encode(torch.rand(4, 3, device=DEVICE).double(), table.double(), spec)
    with pytest.raises(BackendUnavailable, match="tensors on meta"):
        SINGLE.encode(torch.rand(4, 3, device="meta"), table.to("meta"), spec)


def test_the_door_refuses_triton_without_a_gpu() -> None:
    if DEVICE.type == "cuda":
        assert get_backend("triton", "cuda").name == "triton"
        wanted = "triton runs on cuda, and the tensors lie on cpu"
    else:
        wanted = "no NVIDIA GPU"
    with pytest.raises(BackendUnavailable, match=wanted):
        get_backend("triton", "cpu")

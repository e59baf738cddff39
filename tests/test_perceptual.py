"""LPIPS: on made-up weights everywhere, on the real ones where they are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from radnerf.perceptual import Lpips
from stages.errors import BadInput
from stages.perceptual import load_perceptual

WIDTHS = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}


@pytest.fixture(scope="module")
def made_up() -> Lpips:
    """LPIPS with weights drawn at random."""
    generator = torch.Generator().manual_seed(0)
    features = {}
    for index, (before, after, size) in WIDTHS.items():
        weight = torch.randn(after, before, size, size, generator=generator) / (before * size * size) ** 0.5
        features |= {f"features.{index}.weight": weight, f"features.{index}.bias": torch.zeros(after)}
    heads = {
        layer: torch.rand(1, after, 1, 1, generator=generator) for layer, (_, after, _) in enumerate(WIDTHS.values())
    }
    return Lpips(features, heads)


@pytest.fixture
def real(assets: Path, monkeypatch: pytest.MonkeyPatch) -> Lpips:
    """LPIPS with its own weights."""
    monkeypatch.setenv("RADNERF_MODELS", str(assets / "models"))
    perceptual = load_perceptual()
    if perceptual is None:
        pytest.skip("no perceptual weights: install lpips and put alexnet-features.safetensors into models/")
    return perceptual


def _picture() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 12, 12, generator=generator)
    return functional.interpolate(coarse, size=(64, 64), mode="bilinear")[0]


def _blurred(picture: Tensor, window: int) -> Tensor:
    return functional.avg_pool2d(picture[None], window, stride=1, padding=window // 2, count_include_pad=False)[0]


def _check_distance(perceptual: Lpips) -> None:
    picture = _picture()
    assert perceptual(picture, picture).item() == 0
    distances = [perceptual(_blurred(picture, window), picture).item() for window in (3, 7, 13)]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert perceptual(picture, _blurred(picture, 7)).item() == pytest.approx(distances[1], rel=1e-5)


def test_distance_is_zero_for_equal_pictures_and_grows_with_blur(made_up: Lpips) -> None:
    _check_distance(made_up)


def test_distance_of_black_and_flat_pictures_has_finite_gradients(made_up: Lpips) -> None:
    for level in (0.0, 0.5, 1.0):
        flat = torch.full((3, 32, 32), level, requires_grad=True)
        made_up(flat, _picture()[:, :32, :32]).backward()
        assert flat.grad is not None
        assert bool(torch.isfinite(flat.grad).all())


def test_a_distance_weighs_each_layer_by_its_head(made_up: Lpips) -> None:
    features = {
        f"features.{index}.{kind}": made_up.get_buffer(f"{kind}{index}")
        for index in WIDTHS
        for kind in ("weight", "bias")
    }
    picture, other = _picture(), _blurred(_picture(), 5)
    heads = {layer: made_up.get_buffer(f"head{layer}") for layer in range(5)}
    parts = []
    for layer in range(5):
        alone = {each: head * (each == layer) for each, head in heads.items()}
        parts.append(Lpips(features, alone)(picture, other).item())
    assert min(parts) > 0
    assert made_up(picture, other).item() == pytest.approx(sum(parts), rel=1e-4)


def test_the_real_weights_judge_blur_and_noise(real: Lpips) -> None:
    _check_distance(real)
    picture = _picture()
    noise = 0.05 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(2))
    assert real((picture + noise).clamp(0, 1), picture).item() > 0.05
    # A small shift of brightness is hardly seen.
    assert real((picture + 0.02).clamp(0, 1), picture).item() < 0.02


def test_nothing_learns_through_the_weights(real: Lpips) -> None:
    picture = _picture().requires_grad_()
    real(picture, _blurred(_picture(), 5)).backward()
    assert not list(real.parameters())
    assert picture.grad is not None
    assert float(picture.grad.abs().max()) > 0


def test_without_weights_there_is_no_perceptual_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNERF_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_perceptual() is None


def test_damaged_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("lpips") is None:
        pytest.skip("lpips, which carries the heads, is not installed")
    monkeypatch.setenv("RADNERF_MODELS", str(tmp_path))
    (tmp_path / "alexnet-features.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadInput, match="perceptual weights"):
        load_perceptual()

"""The decomposed head: what its density depends on, and that every number stays finite."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from radnerf.camera import Camera
from radnerf.grid import GridSpec
from radnerf.head import MAX_LOG_DENSITY, Condition, FieldSample, HeadField, HeadShape, density_activation
from radnerf.kernels import frozen, get_backend
from radnerf.rendering import Region, render_rays
from radnerf.volume import over
from tests.synthetic import AABB, head_model

SHAPE = HeadShape(GridSpec(3, 4, 2, 4, 32, 10), GridSpec(2, 4, 2, 4, 32, 10), 16, 6, 4)
CAMERA = Camera(24.0, 6.0, 6.0, 12, 12)
FRONTAL = torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.tensor([0.0, 0.0, 60.0])


def _field(seed: int = 0) -> HeadField:
    """A field whose grids say something, as after training."""
    torch.manual_seed(seed)
    field = HeadField(SHAPE, AABB)
    with torch.no_grad():
        field.space.table.uniform_(-1, 1)
        field.audio_plane.table.uniform_(-1, 1)
    return field


def _condition(frames: int = 1, seed: int = 1) -> Condition:
    generator = torch.Generator().manual_seed(seed)
    return Condition(
        torch.randn(frames, 6, generator=generator),
        torch.rand(frames, 1, generator=generator),
        torch.randn(frames, 4, generator=generator),
        torch.randn(frames, 1, generator=generator),
    )


def _points(count: int = 50) -> Tensor:
    return AABB[0] + torch.rand(count, 3, generator=torch.Generator().manual_seed(2)) * (AABB[1] - AABB[0])


def _directions(count: int = 50) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(3)), dim=1)


def test_the_pictures_density_is_the_occupancys_density(monkeypatch: pytest.MonkeyPatch) -> None:
    field, condition = _field(), _condition()
    calls: list[int] = []
    encode = field.space.forward
    monkeypatch.setattr(field.space, "forward", lambda x: (calls.append(len(x)), encode(x))[1])
    sample = field(_points(), _directions(), condition, None)
    # The spatial grid, which costs most, is looked up once.
    assert calls == [50]
    sigma, geometry, motion = field.density(_points(), condition, None)
    assert torch.equal(sample.sigma, sigma)
    assert torch.equal(sample.motion, motion)
    assert geometry.shape == (50, 7)
    assert sample.rgb.shape == (50, 3)
    assert 0 <= sample.rgb.min().item() <= sample.rgb.max().item() <= 1


def test_points_of_several_frames_see_each_its_own() -> None:
    field, condition = _field(), _condition(frames=3)
    which = torch.arange(50) % 3
    together = field(_points(), _directions(), condition, torch.nn.functional.one_hot(which, 3).float())
    for frame in range(3):
        own = Condition(*(part[frame : frame + 1] for part in dataclasses.astuple(condition)[:4]))
        alone = field(_points(), _directions(), own, None)
        mine = which == frame
        torch.testing.assert_close(together.sigma[mine], alone.sigma[mine])
        torch.testing.assert_close(together.rgb[mine], alone.rgb[mine])


def test_sound_reaches_the_density_only_through_the_audio_coordinate(monkeypatch: pytest.MonkeyPatch) -> None:
    field, quiet, loud = _field(), _condition(seed=1), _condition(seed=9)
    loud = dataclasses.replace(loud, eye=quiet.eye)
    sigma, geometry, motion = field.density(_points(), quiet, None)
    other = field.density(_points(), loud, None)
    assert not torch.allclose(sigma, other[0])
    # Given the audio coordinate of the one sound, the other sound makes the same density and geometry.
    raw = torch.atanh(motion)
    monkeypatch.setattr(field.motion_net, "forward", lambda *_: raw)
    sigma_again, geometry_again, _ = field.density(_points(), loud, None)
    torch.testing.assert_close(sigma_again, sigma, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(geometry_again, geometry, rtol=1e-3, atol=1e-4)


def test_the_frames_own_code_changes_colour_but_not_density() -> None:
    field, condition = _field(), _condition()
    changed = dataclasses.replace(condition, appearance=condition.appearance + 1)
    one, other = (field(_points(), _directions(), each, None) for each in (condition, changed))
    assert torch.equal(one.sigma, other.sigma)
    assert not torch.allclose(one.rgb, other.rgb)


def test_eyes_change_the_density() -> None:
    field, condition = _field(), _condition()
    shut = dataclasses.replace(condition, eye=condition.eye * 0)
    assert not torch.allclose(field.density(_points(), condition, None)[0], field.density(_points(), shut, None)[0])


def test_points_outside_the_box_are_moved_to_its_surface() -> None:
    field, condition = _field(), _condition()
    outside = torch.tensor([[100.0, 0.0, 0.0], [0.0, -1e6, 3.0]])
    surface = torch.tensor([[10.0, 0.0, 0.0], [0.0, -10.0, 3.0]])
    assert torch.equal(field.density(outside, condition, None)[0], field.density(surface, condition, None)[0])


@pytest.mark.parametrize("size", [0.0, 1e2, 1e4])
def test_extreme_input_gives_finite_density_and_gradients(size: float) -> None:
    field = _field()
    with torch.no_grad():
        for value in field.parameters():
            value.mul_(1 + size / 100)
    condition = Condition(
        torch.full((1, 6), size), torch.full((1, 1), 1.5), torch.full((1, 4), -size), torch.ones(1, 1)
    )
    sample = field(_points(), _directions(), condition, None)
    assert bool((sample.sigma >= 0).all())
    assert sample.sigma.max().item() <= torch.tensor(MAX_LOG_DENSITY).exp() * 1.0001
    for part in (sample.sigma, sample.rgb, sample.motion):
        assert bool(torch.isfinite(part).all())
    (sample.sigma.sum() + sample.rgb.sum()).backward()
    for value in field.parameters():
        assert value.grad is not None
        assert bool(torch.isfinite(value.grad).all())


def test_density_is_exponential_until_it_saturates_and_may_then_still_fall() -> None:
    raw = torch.tensor([-1.0, 5.0, 8.0, 1e3, 1e30], requires_grad=True)
    sigma = density_activation(raw)
    limit = torch.tensor(MAX_LOG_DENSITY).exp()
    torch.testing.assert_close(sigma, torch.stack([*torch.tensor([-6.0, 0.0, 3.0]).exp(), limit, limit]))
    sigma.sum().backward()
    torch.testing.assert_close(raw.grad, sigma.detach())


def _render(backend: str, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    model = head_model()
    with torch.no_grad():
        model.fields[0].space.table.uniform_(-2, 2)
    model.use_backend(backend)
    if mask is not None:
        model.mask.copy_(mask)
    features = torch.randn(60, model.shape.features, generator=torch.Generator().manual_seed(5))
    code, mouth = model.hear(features, torch.tensor([9]))
    condition = model.condition(code, mouth, torch.ones(1))
    rays = CAMERA.rays(*FRONTAL)
    image, alpha, _ = model.render_image(get_backend(backend), rays, condition)
    return image, alpha


def test_the_cpu_backend_renders_the_references_picture() -> None:
    pytest.importorskip("numba")
    mask = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.4
    image, alpha = _render("cpu", mask)
    reference, reference_alpha = _render("reference", mask)
    assert float(alpha.max()) > 0.05
    torch.testing.assert_close(image, reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alpha, reference_alpha, rtol=1e-4, atol=1e-5)


def test_alpha_lies_between_nothing_and_everything() -> None:
    image, alpha = _render("reference")
    assert float(alpha.min()) >= 0
    assert 0.05 < float(alpha.max()) <= 1 + 1e-6
    # Premultiplied: a colour is never brighter than what is there.
    assert bool((image <= alpha[:, None] + 1e-6).all())
    assert float(image.min()) >= 0


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_an_empty_mask_renders_nothing_and_still_trains(backend: str) -> None:
    if backend == "cpu":
        pytest.importorskip("numba")
    image, alpha = _render(backend, torch.zeros(16, 16, 16, dtype=torch.bool))
    assert image.abs().max() == alpha.max() == 0
    field = _field()
    field.space.backend = field.audio_plane.backend = backend
    region = Region(AABB, torch.zeros(16, 16, 16, dtype=torch.bool), 8, 0.5)
    seen = render_rays(field, get_backend(backend), region, CAMERA.rays(*FRONTAL), _condition(), None)
    assert seen.weights.shape == (0,)
    over(seen.image, seen.alpha, torch.ones(3)).sum().backward()


def test_rays_in_chunks_see_what_rays_together_see(monkeypatch: pytest.MonkeyPatch) -> None:
    model = head_model()
    features = torch.randn(60, model.shape.features)
    condition = model.condition(*model.hear(features, torch.tensor([9])), torch.ones(1))
    rays, kernels = CAMERA.rays(*FRONTAL), get_backend("reference")
    one = model.render_image(kernels, rays, condition)
    monkeypatch.setattr(frozen, "RAYS_AT_ONCE", 17)
    other = model.render_image(kernels, rays, condition)
    for whole, parts in zip(one, other, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


def test_a_dense_ball_looks_like_a_disc() -> None:
    def dense(
        points: Tensor, _directions: Tensor, _condition: Condition, _membership: Tensor | None, _ray: Tensor
    ) -> FieldSample:
        inside = points.norm(dim=1) < 6
        return FieldSample(100.0 * inside, points.new_full((len(points), 3), 0.5), points.new_zeros(len(points), 2))

    region = Region(AABB, torch.ones(16, 16, 16, dtype=torch.bool), 64, 0.2)
    camera = CAMERA.scaled(48)
    rays = camera.rays(*FRONTAL)
    seen = render_rays(dense, get_backend("reference"), region, rays, _condition(), None)
    missed = torch.linalg.cross(rays[0], rays[1]).norm(dim=1)
    torch.testing.assert_close(seen.alpha[missed < 5.8], torch.ones(int((missed < 5.8).sum())))
    assert seen.alpha[missed > 6.0].max() == 0
    torch.testing.assert_close(seen.image[missed < 5.8], torch.full((int((missed < 5.8).sum()), 3), 0.5))
    middle = missed.argmin()
    assert seen.depth[middle].item() == pytest.approx(54, abs=0.5)


def test_a_new_frame_takes_the_mean_of_the_training_frames_codes() -> None:
    model = head_model()
    code, mouth = torch.zeros(2, 16), torch.zeros(2, 3)
    new = model.condition(code, mouth, torch.ones(2))
    torch.testing.assert_close(new.appearance, model.appearance.mean(0).expand(2, -1))
    known = model.condition(code, mouth, torch.ones(2), torch.tensor([4, 1]))
    assert torch.equal(known.appearance, model.appearance[[4, 1]])
    assert new.audio.shape == (2, 19)


def test_what_is_heard_is_amplified_by_the_mouths_gain() -> None:
    model = head_model()
    features = torch.randn(60, model.shape.features)
    plain = model.hear(features, torch.tensor([9, 12]))
    model.mouth_gain.copy_(torch.tensor([2.0, 1.0, 1.5]))
    amplified = model.hear(features, torch.tensor([9, 12]))
    torch.testing.assert_close(amplified[1], plain[1] * torch.tensor([2.0, 1.0, 1.5]))
    assert torch.equal(amplified[0], plain[0])


def test_standardised_features_have_no_mean_and_unit_spread() -> None:
    model = head_model()
    features = 3 + 5 * torch.randn(400, model.shape.features)
    model.feature_mean.copy_(features.mean(0))
    model.feature_std.copy_(features.std(0))
    heard = model.standardised(features)
    torch.testing.assert_close(heard.mean(0), torch.zeros(model.shape.features), rtol=0, atol=1e-4)
    torch.testing.assert_close(heard.std(0), torch.ones(model.shape.features))


def test_equal_seeds_make_equal_heads() -> None:
    one, same, other = head_model(3), head_model(3), head_model(4)
    for name, value in one.named_parameters():
        assert torch.equal(value, same.get_parameter(name))
    assert not torch.equal(one.appearance, other.appearance)


def test_a_frozen_head_renders_what_the_head_renders() -> None:
    model = head_model()
    features = torch.randn(60, model.shape.features)
    condition = model.condition(*model.hear(features, torch.tensor([9])), torch.full((1,), 0.4))
    rays, kernels = CAMERA.rays(*FRONTAL), get_backend("reference")
    with torch.no_grad():
        live = model.render(kernels, rays, condition)[-1]
    still = model.render_image(kernels, rays, condition)
    assert live.alpha.max() > 0.01
    for one, other in zip((live.image, live.alpha, live.depth), still, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)

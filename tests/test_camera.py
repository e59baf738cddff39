"""Properties of the pinhole camera."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from radnerf.camera import Camera, yaw_pitch_rotation

FRONTAL = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
TRANSLATION = torch.tensor([1.5, -2.0, 55.0])


def make_camera(width_px: int = 64, height_px: int = 48) -> Camera:
    return Camera(
        focal_px=2.0 * height_px, centre_x_px=0.53 * width_px, centre_y_px=0.48 * height_px,
        width_px=width_px, height_px=height_px,
    )  # fmt: skip


def pose(yaw_deg: float, pitch_deg: float) -> Tensor:
    return FRONTAL @ yaw_pitch_rotation(yaw_deg, pitch_deg)


@settings(max_examples=30, deadline=None)
@given(st.floats(-60, 60), st.floats(-40, 40), st.floats(1.0, 100.0))
def test_projecting_a_point_of_a_ray_gives_its_pixel_centre(yaw_deg: float, pitch_deg: float, depth: float) -> None:
    camera = make_camera()
    rotation = pose(yaw_deg, pitch_deg)
    rays_o, rays_d = camera.rays(rotation, TRANSLATION)
    pixels = camera.project(rays_o + depth * rays_d, rotation, TRANSLATION)
    torch.testing.assert_close(pixels, camera.pixels().float() + 0.5, atol=2e-2, rtol=0)


def test_all_pixels_come_in_reading_order() -> None:
    camera = make_camera(3, 2)
    assert camera.pixels().tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]


def test_chosen_pixels_get_the_same_rays_as_in_the_whole_picture() -> None:
    camera = make_camera()
    rotation = pose(20, -10)
    origins, directions = camera.rays(rotation, TRANSLATION)
    chosen = torch.tensor([[5, 7], [63, 47], [0, 0]])
    some_o, some_d = camera.rays(rotation, TRANSLATION, chosen)
    rows = chosen[:, 1] * camera.width_px + chosen[:, 0]
    torch.testing.assert_close(some_d, directions[rows])
    torch.testing.assert_close(some_o, origins[rows])


def test_directions_are_unit_and_origins_are_the_camera() -> None:
    rotation = pose(-30, 15)
    origins, directions = make_camera().rays(rotation, TRANSLATION)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(len(directions)))
    torch.testing.assert_close(origins @ rotation.T + TRANSLATION, torch.zeros_like(origins), atol=1e-5, rtol=0)


def test_pixel_frames_and_broadcast_poses_agree_with_single_poses() -> None:
    camera = make_camera()
    rotations = torch.stack([pose(10, 0), pose(-25, 5), pose(0, 30)])
    translations = torch.stack([TRANSLATION, TRANSLATION + 1, TRANSLATION - 1])
    pixels = torch.tensor([[1, 2], [30, 40], [60, 3]])
    own_o, own_d = camera.rays(rotations, translations, pixels)
    grid_o, grid_d = camera.rays(rotations[:, None], translations[:, None], pixels)
    assert grid_d.shape == grid_o.shape == (3, 3, 3)
    for index in range(3):
        one_o, one_d = camera.rays(rotations[index], translations[index], pixels)
        torch.testing.assert_close(own_d[index], one_d[index])
        torch.testing.assert_close(own_o[index], one_o[index])
        torch.testing.assert_close(grid_d[index], one_d)
    points = own_o + 50 * own_d
    torch.testing.assert_close(camera.project(points, rotations, translations), pixels.float() + 0.5, atol=1e-2, rtol=0)


@pytest.mark.parametrize("size_px", [16, 128, 1024])
def test_a_scaled_camera_sees_the_same_picture(size_px: int) -> None:
    camera = make_camera(64, 64)
    points = torch.tensor([[0.0, 0.0, 5.0], [6.0, -4.0, 1.0], [-7.0, 8.0, -3.0]])
    rotation = pose(12, 8)
    scaled = camera.scaled(size_px)
    assert (scaled.width_px, scaled.height_px) == (size_px, size_px)
    torch.testing.assert_close(
        scaled.project(points, rotation, TRANSLATION) * (64 / size_px), camera.project(points, rotation, TRANSLATION)
    )


def test_gradients_reach_the_pose() -> None:
    camera = make_camera()
    rotation = pose(10, 5).double().requires_grad_()
    translation = TRANSLATION.double().requires_grad_()
    pixels = torch.tensor([[3, 4], [50, 20]])

    def directions_and_origins(rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        return camera.rays(rotation, translation, pixels)

    assert torch.autograd.gradcheck(directions_and_origins, (rotation, translation))
    points = torch.tensor([[0.0, 1.0, 5.0], [3.0, -2.0, 4.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(camera.project, (points, rotation, translation))


def test_a_frontal_head_appears_upright_and_unmirrored() -> None:
    camera = Camera(128.0, 32.0, 32.0, 64, 64)
    points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    middle, right, above = camera.project(points, FRONTAL, torch.tensor([0.0, 0.0, 50.0]))
    assert middle.tolist() == [32.0, 32.0]
    assert right[0] > middle[0]
    assert above[1] < middle[1]


def test_positive_yaw_turns_right_and_positive_pitch_looks_up() -> None:
    camera = Camera(128.0, 32.0, 32.0, 64, 64)
    nose = torch.tensor([[0.0, 0.0, 7.0]])
    translation = torch.tensor([0.0, 0.0, 50.0])
    assert camera.project(nose, pose(20, 0), translation)[0, 0] > 32.0
    assert camera.project(nose, pose(0, 20), translation)[0, 1] < 32.0
    turned = yaw_pitch_rotation(33, -21).double()
    torch.testing.assert_close(turned @ turned.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert float(torch.linalg.det(turned)) == pytest.approx(1.0, abs=1e-6)

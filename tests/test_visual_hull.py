"""Where the head may be: the hull that its masks leave and the layer around its tracked face."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.camera import Camera, yaw_pitch_rotation
from radnerf.height_field import heights, near_face
from radnerf.visual_hull import box_points, carve

AABB = torch.tensor([[-10.0, -10.0, -10.0], [10.0, 10.0, 10.0]])
CAMERA = Camera(96.0, 24.0, 24.0, 48, 48)
FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
RADIUS_CM = 6.0


def _views(count: int = 9) -> tuple[Tensor, Tensor]:
    turns = torch.linspace(-80, 80, count)
    rotation = torch.stack([FACING @ yaw_pitch_rotation(float(turn), float(turn) / 3) for turn in turns])
    return rotation, torch.tensor([0.5, -0.3, 60.0]).expand(count, 3)


def _silhouettes(rotation: Tensor, translation: Tensor) -> Tensor:
    """Pixels whose ray meets the ball about the origin."""
    masks = []
    for turn, shift in zip(rotation, translation, strict=True):
        origins, directions = CAMERA.rays(turn, shift)
        masks.append(torch.linalg.cross(origins, directions).norm(dim=1).reshape(48, 48) <= RADIUS_CM + 0.5)
    return torch.stack(masks)


def test_box_points_are_the_cells_centres_x_slowest() -> None:
    points = box_points(torch.tensor([[0.0, 10.0, 20.0], [2.0, 14.0, 28.0]]), 2).reshape(2, 2, 2, 3)
    assert points[0, 0, 0].tolist() == [0.5, 11, 22]
    assert points[1, 0, 0].tolist() == [1.5, 11, 22]
    assert points[0, 1, 0].tolist() == [0.5, 13, 22]
    assert points[0, 0, 1].tolist() == [0.5, 11, 26]


def test_the_hull_of_a_ball_holds_the_ball_and_not_the_corners() -> None:
    rotation, translation = _views()
    hull = carve(_silhouettes(rotation, translation), CAMERA, rotation, translation, AABB, 20, share=1.0)
    distance = box_points(AABB, 20).norm(dim=1).reshape(20, 20, 20)
    assert bool(hull[distance <= RADIUS_CM].all())
    assert not bool(hull[distance > 12.5].any())
    assert hull.float().mean() < 0.3


def test_fewer_views_carve_less() -> None:
    rotation, translation = _views()
    masks = _silhouettes(rotation, translation)
    one = carve(masks[4:5], CAMERA, rotation[4:5], translation[4:5], AABB, 16, share=1.0)
    all_views = carve(masks, CAMERA, rotation, translation, AABB, 16, share=1.0)
    assert bool((one | ~all_views).all())
    assert all_views.sum() < 0.8 * one.sum()


def test_a_frame_whose_mask_failed_does_not_carve_the_head_away() -> None:
    rotation, translation = _views(10)
    masks = _silhouettes(rotation, translation)
    masks[3] = False
    ball = box_points(AABB, 16).norm(dim=1).reshape(16, 16, 16) <= RADIUS_CM
    assert not bool(carve(masks, CAMERA, rotation, translation, AABB, 16, share=1.0)[ball].any())
    assert bool(carve(masks, CAMERA, rotation, translation, AABB, 16, share=0.9)[ball].all())


def test_nothing_is_carved_that_the_picture_does_not_show() -> None:
    aside = torch.tensor([[300.0, 0.0, 60.0]])
    hull = carve(torch.zeros(1, 48, 48, dtype=torch.bool), CAMERA, FACING[None], aside, AABB, 8, share=1.0)
    assert bool(hull.all())


def test_heights_match_a_ray_cast_at_each_place() -> None:
    generator = np.random.default_rng(0)
    vertices = generator.uniform(-5, 5, (12, 3))
    triangles = np.stack([generator.permutation(12)[:3] for _ in range(10)])
    places = generator.uniform(-5, 5, (200, 2))
    expected = np.full(200, -np.inf)
    for index, (x, y) in enumerate(places):
        for corners in vertices[triangles]:
            # Barycentric coordinates by solving for them.
            system = np.vstack([corners[:, :2].T, np.ones(3)])
            shares = np.linalg.solve(system, [x, y, 1])
            if (shares >= 0).all():
                expected[index] = max(expected[index], shares @ corners[:, 2])
    found = heights(torch.from_numpy(vertices), torch.from_numpy(triangles), torch.from_numpy(places)).numpy()
    assert 20 < np.isfinite(expected).sum() < 200
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_triangle_seen_edge_on_covers_nothing() -> None:
    upright = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, 0.5, 3.0]])
    assert heights(upright, torch.tensor([[0, 1, 2]]), torch.tensor([[0.5, 0.5]])).item() == -float("inf")


@pytest.fixture
def square() -> tuple[Tensor, Tensor]:
    """A face that is a square of 8 cm at z = 2."""
    corners = torch.tensor([[-4.0, -4.0, 2.0], [4.0, -4.0, 2.0], [4.0, 4.0, 2.0], [-4.0, 4.0, 2.0]])
    return corners, torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_the_layer_at_the_face_is_thin_and_beside_it_deep(square: tuple[Tensor, Tensor]) -> None:
    points = box_points(AABB, 20)
    near = near_face(points, *square, front_cm=1.0, depth_cm=2.0)
    assert near.shape == (8000,)
    x, y, z = points.unbind(1)
    over = (x.abs() < 4) & (y.abs() < 4)
    assert torch.equal(near[over], (z[over] <= 3) & (z[over] >= 0))
    assert torch.equal(near[~over], (z[~over] <= 3) & (z[~over] >= -7))


def test_beside_the_face_the_nearest_edge_says_how_far_forward() -> None:
    # A face that slopes towards the viewer from its left edge (z = 0) to its right edge (z = 4).
    corners = torch.tensor([[-4.0, -4.0, 0.0], [4.0, -4.0, 4.0], [4.0, 4.0, 4.0], [-4.0, 4.0, 0.0]])
    points = box_points(AABB, 20)
    near = near_face(points, corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), front_cm=0.5, depth_cm=2.0)
    foremost = torch.where(near, points[:, 2], -99.0).reshape(20, 20, 20).amax(2)[:, 10]
    assert float(foremost[0]) < 1.5
    assert float(foremost[-1]) > 3


def test_a_face_over_the_whole_box_leaves_nothing_beside_it() -> None:
    corners = torch.tensor([[-40.0, -40.0, 2.0], [40.0, -40.0, 2.0], [0.0, 80.0, 2.0]])
    points = box_points(AABB, 8)
    near = near_face(points, corners, torch.tensor([[0, 1, 2]]), front_cm=1.0, depth_cm=2.0)
    assert torch.equal(near, (points[:, 2] <= 3) & (points[:, 2] >= 0))

"""The body's sway: a picture that was moved or bent by a known amount is found to be."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from radnerf.sway import displacement
from stages.vision.bending import Layer, bent, body_bend, body_sway, seen_layer
from stages.vision.registration import shifted

SIDE = 160


@pytest.fixture(scope="module")
def cloth() -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.asarray(cv2.normalize(smooth, None, 20, 235, cv2.NORM_MINMAX), np.uint8)


@pytest.fixture(scope="module")
def grey(cloth: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(cloth.astype(np.float32).mean(2), (0, 0), 1), np.float32)


def on_black(picture: NDArray[np.uint8], layer: NDArray[np.uint8]) -> Layer:
    """What is seen of a torso layer before a black background."""
    share = layer[..., 3:].astype(np.float32) / 255
    return seen_layer(picture, np.rint(share * layer[..., :3]).astype(np.uint8), layer)


def whole(grey: NDArray[np.float32], shown: NDArray[np.uint8] | None = None) -> Layer:
    """A body that fills the picture, so that it has no outline."""
    everywhere = np.ones(grey.shape, np.uint8)
    return Layer(grey, everywhere if shown is None else shown, 255 * everywhere.astype(np.float32), everywhere)


def test_sway_is_measured_to_a_tenth_of_a_pixel_and_passes_evenly_over_frames_that_show_little(
    cloth: NDArray[np.uint8],
) -> None:
    moves = np.array([[0, 0], [2.4, 0], [-1.5, 0.7], [0, -2], [2, 0], [1, 1], [0, 2]]) / SIDE
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[:20] = 0
    alpha = cv2.GaussianBlur(alpha, (0, 0), 1)

    def read(index: int) -> Layer:
        colour, seen = (shifted(picture, moves[index].astype(np.float32)) for picture in (cloth, alpha))
        seen = seen * np.uint8(index != 5)
        picture = np.rint(colour * (seen[..., None] / np.float32(255))).astype(np.uint8)
        return on_black(picture, np.dstack([colour, seen]))

    sway = body_sway(read, 7, np.array([0, 0, 0]))
    assert sway.shape == (7, 3, 3, 2)
    places = torch.tensor([[x, y] for x in (0.1, 0.5, 0.9) for y in (0.2, 0.5, 0.9)])
    found = displacement(torch.from_numpy(sway[:5]), places.expand(5, -1, -1)).numpy()
    np.testing.assert_allclose(found * SIDE, np.tile(moves[:5, None], (1, len(places), 1)) * SIDE, atol=0.1)
    np.testing.assert_allclose(sway[5], (sway[4] + sway[6]) / 2, atol=1e-6)


def test_what_was_filled_in_under_the_head_does_not_count(cloth: NDArray[np.uint8]) -> None:
    still = np.dstack([cloth, np.full((SIDE, SIDE), 255, np.uint8)])

    def read(index: int) -> Layer:
        moved = shifted(cloth, np.array([2.0 * index / SIDE, 0], np.float32))
        layer = np.dstack([moved, still[..., 3]])
        layer[:40, :, :3] = still[:40, :, :3]  # filled in, and not what the frame shows there
        picture = moved.copy()
        picture[:40] = 0
        return on_black(picture, layer)

    sway = body_sway(read, 2, np.array([0]))
    seen = displacement(torch.from_numpy(sway[1]), torch.tensor([[0.2, 0.5], [0.8, 0.5], [0.5, 0.9]])).numpy()
    np.testing.assert_allclose(seen * SIDE, [[2, 0]] * 3, atol=0.15)


@pytest.mark.parametrize("light", [(1.0, 0.0), (0.8, 20.0)])
def test_a_bend_is_found_to_a_fifth_of_a_pixel_in_any_light(
    grey: NDArray[np.float32], light: tuple[float, float]
) -> None:
    control = np.random.default_rng(1).uniform(-2, 2, (3, 3, 2)).astype(np.float32) / SIDE + np.float32(0.005)
    picture = bent(grey, control) * np.float32(light[0]) + np.float32(light[1])
    found = body_bend(whole(grey), whole(picture))
    assert found is not None
    places = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    moved, wanted = (displacement(torch.from_numpy(points), places) * SIDE for points in (found, control))
    assert (moved - wanted).norm(dim=1).max() < 0.2
    assert wanted.norm(dim=1).max() > 1


def test_control_points_of_which_nothing_is_seen_follow_their_neighbours(grey: NDArray[np.float32]) -> None:
    control = np.zeros((3, 3, 2), np.float32)
    control[..., 0] = np.array([0.01, 0.015, 0.02], np.float32)[None]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[SIDE // 2 :] = 1
    found = body_bend(whole(grey), whole(bent(grey, control), mask))
    assert found is not None
    np.testing.assert_allclose(found[1:] * SIDE, control[1:] * SIDE, atol=0.3)
    assert np.abs(found[0] - control[0]).max() * SIDE < 1.0


def test_a_picture_bent_by_nothing_stays_and_one_without_texture_says_nothing(grey: NDArray[np.float32]) -> None:
    still = np.zeros((3, 3, 2), np.float32)
    np.testing.assert_allclose(bent(grey, still), grey, atol=1e-2)
    nothing = np.zeros_like(grey)
    assert body_bend(whole(nothing), whole(nothing)) is None

    def read(_: int) -> Layer:
        return on_black(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE, 4), np.uint8))

    assert (body_sway(read, 3, np.array([0, 1])) == np.zeros((3, 3, 3, 2))).all()


def shouldered(cloth: NDArray[np.uint8], drop_px: float, head: bool = False) -> Layer:
    """A body with a texture in its middle and dark shoulders, the right one so many pixels lower than usual."""
    columns, rows = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    edge = 60 + 0.3 * np.abs(columns - SIDE / 2) + drop_px * np.clip((columns - SIDE / 2) / (SIDE / 2), 0, 1) ** 2
    alpha = np.clip(rows - edge + 0.5, 0, 1)
    colour = np.where(np.abs(columns - SIDE / 2)[..., None] < 25, cloth, np.uint8(30))
    behind = np.rint(alpha[..., None] * colour + (1 - alpha[..., None]) * 200).astype(np.uint8)
    picture = behind.copy()
    if head:
        picture[:75, 100:140] = (250, 10, 10)
    layer = np.dstack([colour, np.rint(255 * alpha).astype(np.uint8)])
    return seen_layer(picture, behind, layer)


def test_a_dark_shoulder_is_followed_by_its_outline(cloth: NDArray[np.uint8]) -> None:
    usual = shouldered(cloth, 0.0)
    # Some shift at all, or it would be taken for a picture that says nothing.
    usual = replace(usual, grey=bent(usual.grey, np.full((3, 3, 2), 0.002, np.float32)))
    places = torch.tensor([[x / SIDE, (60 + 0.3 * abs(x - SIDE / 2)) / SIDE] for x in (10.0, 40.0, 120.0, 150.0)])
    dropped = shouldered(cloth, 4.0)
    errors = []
    for seen in (dropped, replace(dropped, known=np.zeros_like(dropped.known))):
        found = body_bend(usual, seen)
        assert found is not None
        down = displacement(torch.from_numpy(found), places)[:, 1].numpy() * SIDE
        errors.append(np.abs(down - [0, 0, 1.0, 3.06]).max())
    # Neighbouring control points hold each other: not all of the way is gone.
    assert errors[0] < 0.8
    assert errors[1] > 2


def test_where_the_head_covers_the_outline_it_is_not_believed(cloth: NDArray[np.uint8]) -> None:
    layer = shouldered(cloth, 4.0, head=True)
    assert not layer.known[:75, 98:142].any()
    assert layer.known[:75, 20:90].all()
    assert layer.known[85:].all()

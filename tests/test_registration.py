"""The body's sway: a picture that was moved by a known amount is found to be."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.vision.registration import body_sway, shifted

SIDE = 96


@pytest.fixture(scope="module")
def cloth() -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.asarray(cv2.normalize(smooth, None, 20, 235, cv2.NORM_MINMAX), np.uint8)


def test_sway_is_measured_to_a_tenth_of_a_pixel_and_is_zero_where_little_is_seen(cloth: NDArray[np.uint8]) -> None:
    moves = np.array([[0, 0], [2.4, 0], [-1.5, 0.7], [0, -2], [0, 0], [1, 1]]) / SIDE
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[:20] = 0

    def read(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        picture = shifted(cloth, moves[index].astype(np.float32))
        seen = alpha * np.uint8(index != 5)
        return picture, np.dstack([picture, seen])

    sway = body_sway(read, 6, np.array([0, 4]))
    np.testing.assert_allclose(sway[:5] * SIDE, moves[:5] * SIDE, atol=0.1)
    assert sway[5].tolist() == [0, 0]


def test_what_was_filled_in_under_the_head_does_not_count(cloth: NDArray[np.uint8]) -> None:
    still = np.dstack([cloth, np.full((SIDE, SIDE), 255, np.uint8)])

    def read(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        moved = shifted(cloth, np.array([2.0 * index / SIDE, 0], np.float32))
        layer = np.dstack([moved, still[..., 3]])
        layer[:40, :, :3] = still[:40, :, :3]  # filled in, and not what the frame shows there
        picture = moved.copy()
        picture[:40] = 0
        return picture, layer

    sway = body_sway(read, 2, np.array([0]))
    np.testing.assert_allclose(sway[1] * SIDE, [2, 0], atol=0.15)

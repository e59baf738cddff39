"""Comparing with the demo's truth: errors that are known come out as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.demo.truth import Truth, boundary_distances_px, cropped, overlap, rotation_errors_deg
from stages.errors import BadInput


def test_a_constant_turn_of_the_head_frame_is_no_error_and_anything_else_is() -> None:
    true = Rotation.random(20, random_state=1)
    frame = Rotation.from_euler("xyz", [10, -5, 30], degrees=True)
    assert rotation_errors_deg((true * frame).as_matrix(), true.as_matrix()).max() < 1e-5
    wobble = Rotation.from_rotvec(np.radians(np.outer([1, -1] * 10, [0, 0.7, 0])))
    np.testing.assert_allclose(
        rotation_errors_deg((true * wobble * frame).as_matrix(), true.as_matrix()), 0.7, atol=1e-4
    )


def test_overlap_and_edges_of_a_moved_square() -> None:
    true = np.zeros((60, 60), dtype=bool)
    true[20:40, 20:40] = True
    moved = np.roll(true, 2, axis=1)
    assert overlap(true, true) == 1
    assert overlap(moved, true) == pytest.approx(18 / 22)
    assert overlap(moved & False, true & False) == 1
    assert boundary_distances_px(true, true).max() == 0
    assert 0.5 < boundary_distances_px(moved, true).mean() < 2
    assert boundary_distances_px(moved & False, true).size == 0


def test_a_crop_is_cut_where_it_says() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[10:20, 20:30] = 3
    np.testing.assert_array_equal(cropped(labels, (0, 0, 40), 40), labels)
    np.testing.assert_array_equal(cropped(labels, (10, 5, 20), 20), labels[5:25, 10:30])
    large = cropped(labels, (10, 5, 20), 40)
    assert (large[10:30, 20:40] == 3).all()
    assert large.sum() == 3 * 20 * 20
    assert (cropped(labels + 1, (30, 30, 20), 20)[10:] == 0).all()


def test_a_truth_is_read_frame_by_frame_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    classes = np.random.default_rng(0).integers(0, 4, (3, 8, 8)).astype(np.uint8)
    curves = {name: np.zeros(3) for name in ("lip_opening_cm", "lip_width_cm", "eye_openness", "brow")}
    np.savez_compressed(path, rotation=np.zeros((3, 3, 3)), blink_frames=np.array([1]), classes=classes, **curves)
    np.testing.assert_array_equal(list(Truth.load(path).class_maps()), classes)
    path.write_bytes(b"no zip")
    with pytest.raises(BadInput, match="no demo's truth"):
        Truth.load(path)
    with pytest.raises(BadInput, match="missing"):
        Truth.load(tmp_path / "none.npz")

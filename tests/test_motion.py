"""How the head moves: forth and back without a jump, as the subject itself or as another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import BadInput
from stages.motion import borrowed_motion, mean_pose, own_motion, ping_pong
from tests.tiny_subject import make_track


@given(length=st.integers(1, 40), frame=st.integers(0, 10_000))
def test_ping_pong_never_jumps(length: int, frame: int) -> None:
    here, there = ping_pong(frame, length), ping_pong(frame + 1, length)
    assert 0 <= here < length
    assert abs(here - there) == min(1, length - 1)
    assert ping_pong(min(frame, length - 1), length) == min(frame, length - 1)


def test_own_motion_is_the_longest_measured_stretch_before_the_held_out_part() -> None:
    track = make_track(frames=220)
    track.tracked[[40, 130, 131]] = False
    motion = own_motion(track)
    np.testing.assert_array_equal(motion.rotation, track.rotation[41:130])
    np.testing.assert_array_equal(own_motion(make_track(frames=220)).eye_open, track.eye_open[:200])


def test_a_clip_full_of_gaps_moves_over_them() -> None:
    track = make_track(frames=220)
    track.tracked[::20] = False
    np.testing.assert_array_equal(own_motion(track).rotation, track.rotation[1:200])
    track.tracked[:] = False
    with pytest.raises(BadInput, match="measured"):
        own_motion(track)


def test_borrowed_motion_is_made_about_the_subjects_own_mean_pose() -> None:
    own = make_track(frames=220)
    other = make_track(frames=150, distance_cm=90.0, yaw_deg=12.0, eye_open=0.8)
    motion = borrowed_motion(own, other)
    assert len(motion.eye_open) == 150
    np.testing.assert_array_equal(motion.eye_open, other.eye_open)
    rotation, translation = mean_pose(motion)
    wanted_rotation, wanted_translation = mean_pose(own_motion(own))
    np.testing.assert_allclose(rotation, wanted_rotation, atol=1e-5)
    np.testing.assert_allclose(translation, wanted_translation, atol=1e-4)
    steps = motion.rotation[:-1].transpose(0, 2, 1) @ motion.rotation[1:]
    other_steps = other.rotation[:-1].transpose(0, 2, 1) @ other.rotation[1:]
    np.testing.assert_allclose(steps, other_steps, atol=1e-5)


def test_moving_as_oneself_changes_nothing() -> None:
    track = make_track(frames=200)
    np.testing.assert_allclose(borrowed_motion(track, track).rotation[:180], track.rotation[:180], atol=0.02)

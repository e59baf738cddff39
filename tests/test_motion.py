"""How the head moves: forth and back without a jump, as the subject itself or as another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from radnerf.portrait import Pose
from stages.blinks import BlinkStyle
from stages.errors import BadInput
from stages.motion import borrowed_motion, eased_ping_pong, mean_pose, own_motion, perform, plan_places, playing_speed
from stages.vision.face_measures import find_blinks
from tests.tiny_subject import make_track


@given(
    length=st.integers(1, 200),
    start=st.floats(0, 1),
    steps=st.lists(st.floats(0, 1), min_size=3, max_size=400),
)
def test_the_eased_path_never_jumps_nor_turns_sharply(length: int, start: float, steps: list[float]) -> None:
    travelled = np.concatenate(([0.0], np.cumsum(steps)))
    places = eased_ping_pong(travelled, length, start * (length - 1))
    assert places.min() >= 0
    assert places.max() <= length - 1
    assert places[0] == pytest.approx(start * (length - 1), abs=1e-6)
    assert (np.abs(np.diff(places)) <= np.diff(travelled) + 1e-9).all()
    if length > 16:
        evenly = eased_ping_pong(np.arange(900.0), length)
        assert np.abs(np.diff(evenly, 2)).max() <= 1.5 / 15 + 1e-9


def test_the_path_goes_all_the_way_forth_and_back() -> None:
    places = eased_ping_pong(np.arange(1000.0), 100)
    assert places[:60].argmin() == 0
    assert places.max() > 98.95
    assert places[200:300].min() < 0.05
    np.testing.assert_allclose(np.diff(places)[20:80], 1)


def test_a_long_rest_calms_the_head_and_a_short_one_does_not() -> None:
    activity = np.ones(400)
    activity[50:60] = 0
    activity[150:300] = 0
    speed = playing_speed(activity)
    np.testing.assert_allclose(speed[:100], 1)
    np.testing.assert_allclose(speed[190:260], 0.25, atol=1e-3)
    np.testing.assert_allclose(speed[350:], 1)
    assert np.abs(np.diff(speed)).max() < 0.06
    assert playing_speed(np.zeros(3)).tolist() == pytest.approx([0.25] * 3)


def test_poses_between_frames_are_interpolated_on_the_sphere_with_their_sway() -> None:
    motion = own_motion(make_track(frames=220))
    between, before, after = motion.pose(7.25), motion.pose(7.0), motion.pose(8.0)
    turn = Rotation.from_matrix((after.rotation @ before.rotation.T).numpy()).magnitude()
    part = Rotation.from_matrix((between.rotation @ before.rotation.T).numpy()).magnitude()
    assert part == pytest.approx(0.25 * turn, rel=1e-3)
    torch.testing.assert_close(between.translation, 0.75 * before.translation + 0.25 * after.translation)
    assert between.clip_frame == 7.25
    np.testing.assert_array_equal(before.rotation, motion.rotation[7])
    assert motion.pose(199.0).clip_frame == 199


def test_a_performance_trembles_no_more_than_the_clip() -> None:
    motion = own_motion(make_track(frames=220))
    activity = (np.arange(1500) % 300 < 180).astype(float)
    performance = perform(motion, 1500, activity=activity)

    def trembling(poses: list[Pose]) -> float:
        nose = np.stack([(pose.rotation @ torch.tensor([0.0, 0.0, 6.0]) + pose.translation).numpy() for pose in poses])
        return float(np.linalg.norm(np.diff(nose[:, :2] / nose[:, 2:], 2, axis=0), axis=1).mean())

    clip = trembling([motion.pose(float(frame)) for frame in range(200)])
    assert trembling([performance.pose(frame) for frame in range(1500)]) <= 1.1 * clip


def test_a_short_speech_plays_the_calmest_stretch_of_the_clip() -> None:
    track = make_track(frames=220)
    track.translation[:] = (0, 0, 60)
    track.rotation[:] = track.rotation[0]
    track.translation[:90, 0] = 3 * np.sin(np.arange(90))
    track.translation[140:, 0] = 3 * np.sin(np.arange(80))
    places = plan_places(own_motion(track), 45)
    assert places.min() >= 90
    assert places.max() < 140


def test_eyes_stay_blink_or_follow_the_clip() -> None:
    track = make_track(frames=220)
    motion = own_motion(track)
    assert set(perform(motion, 200, eyes=0.4).eyes.tolist()) == {np.float32(0.4)}
    played = perform(motion, 500, eyes="clip").eyes
    assert played.min() < 0.6
    often = BlinkStyle(rate_per_min=60)
    made = perform(motion, 500, style=often, seed=3)
    np.testing.assert_array_equal(made.eyes, perform(motion, 500, style=often, seed=3).eyes)
    assert (made.eyes != perform(motion, 500, style=often, seed=4).eyes).any()
    assert len(find_blinks(made.eyes)) > len(find_blinks(perform(motion, 500, style=BlinkStyle(6), seed=3).eyes))


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

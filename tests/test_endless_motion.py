"""A head that is moved by hand or by itself: how far it turns, how wide its mouth opens, how it goes on without end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radnerf.camera import yaw_pitch_rotation
from radnerf.facing import facing_deg, turn_limits
from radnerf.gape import find_gape
from stages.blinks import USUAL, BlinkStyle
from stages.endless_motion import EndlessPerformance
from stages.motion import own_motion, perform
from tests.tiny_subject import make_track

FRONTAL = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


@pytest.mark.parametrize("turn", [(0.0, 0.0), (20.0, 0.0), (-7.0, 12.0), (3.0, -30.0)])
def test_a_turned_face_looks_where_it_was_turned(turn: tuple[float, float]) -> None:
    found = facing_deg(FRONTAL @ yaw_pitch_rotation(*turn))
    torch.testing.assert_close(found, torch.tensor(turn), atol=1e-4, rtol=0)


def test_a_head_is_turned_as_far_as_its_clip_shows_and_a_little_farther() -> None:
    poses = torch.stack([FRONTAL @ yaw_pitch_rotation(yaw, 0.0) for yaw in (-10.0, 0.0, 15.0)])
    limits = turn_limits(poses, beyond_deg=5.0)
    assert limits.yaw_deg == pytest.approx((-15, 20), abs=0.1)
    assert limits.pitch_deg == pytest.approx((-5, 5), abs=0.1)
    assert limits.within(poses[1], (4.0, -3.0)) == (4.0, -3.0)
    assert limits.within(poses[1], (90.0, -90.0)) == pytest.approx((20, -5), abs=0.1)
    assert limits.within(poses[2], (90.0, 0.0)) == pytest.approx((5, 0), abs=0.1)
    # A pose that lies beyond the limits is not turned back, and no farther.
    outside = FRONTAL @ yaw_pitch_rotation(40.0, 0.0)
    assert limits.within(outside, (0.0, 0.0)) == (0.0, 0.0)
    assert limits.within(outside, (5.0, 0.0))[0] == 0.0


def test_the_widest_mouth_is_the_one_that_is_heard_wide() -> None:
    random = torch.Generator().manual_seed(0)
    opening = torch.rand(200, generator=random)
    mouth = torch.stack([2 * opening - 1, torch.randn(200, generator=random)], dim=1)
    code = torch.cat([mouth, -mouth], dim=1)
    # One frame is measured wide where nothing was heard of it.
    opening[7], mouth[7, 0] = 3.0, -1.0
    gape = find_gape(code, mouth, opening, None)
    assert gape.open_mouth[0] > 0.9
    assert gape.shut_mouth[0] < -0.9
    for share in (0.0, 0.25, 1.0):
        found_code, found_mouth = gape.at(share)
        assert found_mouth.shape == (1, 2)
        torch.testing.assert_close(found_mouth[0], (1 - share) * gape.shut_mouth + share * gape.open_mouth)
        torch.testing.assert_close(found_code[0, :2], (1 - share) * gape.shut_code[:2] + share * gape.open_code[:2])
    rest = torch.full((4,), 9.0), torch.full((2,), 8.0)
    torch.testing.assert_close(find_gape(code, mouth, opening, rest).at(0.0)[1], rest[1][None])


def test_an_endless_movement_blinks_as_a_planned_one_and_never_jolts() -> None:
    motion, style = own_motion(make_track(frames=80)), BlinkStyle(rate_per_min=40)
    planned = perform(motion, 400, style=style, seed=3)
    endless = EndlessPerformance(motion, style, 3)
    eyes, places = [], []
    for _ in range(380):
        eyes.append(endless.eye())
        pose = endless.pose()
        places.append(pose.clip_frame or 0.0)
        endless.advance(1.0)
    # The base openness of this track is even: what differs is blinks alone.
    np.testing.assert_allclose(eyes, planned.eyes[:380], atol=0.02)
    steps = np.diff(places)
    assert np.abs(steps).max() <= 1.0 + 1e-9
    assert np.abs(np.diff(steps)).max() < 0.2
    assert {int(step > 0) for step in steps} == {0, 1}


def test_an_endless_movement_calms_down_in_silence_and_is_the_same_again() -> None:
    motion = own_motion(make_track(frames=80))
    busy, calm, again = (EndlessPerformance(motion, USUAL, 1) for _ in range(3))
    way = {}
    for name, performance, activity in (("busy", busy, 1.0), ("calm", calm, 0.0), ("again", again, 1.0)):
        places = []
        for _ in range(200):
            performance.advance(activity)
            places.append(float(performance.pose().clip_frame or 0.0))
        way[name] = places
    assert np.abs(np.diff(way["calm"])).sum() < 0.5 * np.abs(np.diff(way["busy"])).sum()
    assert way["busy"] == way["again"]
    assert busy.frame == 200

"""How the head moves while it speaks: a clip's own poses, forth and back without end, and blinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d
from scipy.spatial.transform import Rotation

from radnerf.portrait import Pose
from stages.blinks import USUAL, BlinkStyle, closures, draw_blinks, without_blinks
from stages.errors import BadInput
from stages.formats import FPS, Track
from stages.training_data import first_held_out

_SHORTEST_RUN = 2 * FPS


_EASE = 15  # frames that a turning point takes on either side
CALM = 0.25
"""Speed of the movement while the speech rests, against the usual one."""

_BRIDGED = 9  # frames: a rest shorter than twice this does not slow the head
_GATE_SIGMA = 6.0  # frames
_BROW_SIGMA = 1.0  # frames; what is faster is the measuring's noise
_NOSE_CM = (0.0, 0.0, 6.0)


@dataclass(frozen=True)
class Motion:
    """Poses and eyes of K consecutive frames, between which time may pass at any speed.

    Attributes:
        rotation: (K, 3, 3) float32, head to camera.
        translation: (K, 3) float32, cm.
        eye_open: (K,) float32 in [0, 1.5].
        brow_mm: (K,) float32, how far the brows are above their usual place.
        first: The first one's number in the subject's own clip; None for frames of another's.
    """

    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    eye_open: NDArray[np.float32]
    brow_mm: NDArray[np.float32]
    first: int | None = None

    def pose(self, place: float) -> Pose:
        """How the head is held at a place in [0, K - 1]: interpolated (slerp, for the turn) between two frames."""
        before = min(int(place), len(self.eye_open) - 1)
        share = place - before
        rotation, translation = self.rotation[before], self.translation[before]
        if share > 0:
            step = Rotation.from_matrix(self.rotation[before + 1].astype(np.float64) @ rotation.astype(np.float64).T)
            turned = Rotation.from_rotvec(share * step.as_rotvec()).as_matrix() @ rotation
            rotation = turned.astype(np.float32)
            translation = ((1 - share) * translation + share * self.translation[before + 1]).astype(np.float32)
        brow_mm = float(np.interp(place, np.arange(len(self.brow_mm)), self.brow_mm))
        clip_place = None if self.first is None else self.first + place
        return Pose(torch.from_numpy(rotation), torch.from_numpy(translation), clip_place, brow_mm)


@dataclass(frozen=True)
class Performance:
    """What a portrait does in each frame of a video, its lips apart.

    Attributes:
        motion: The movement that it draws on.
        places: (F,) float64, where in the movement each frame is.
        eyes: (F,) float32, how open the eyes are.
    """

    motion: Motion
    places: NDArray[np.float64]
    eyes: NDArray[np.float32]

    def pose(self, frame: int) -> Pose:
        """Where the head is in a frame of the video."""
        return self.motion.pose(float(self.places[frame]))

    def eye(self, frame: int) -> float:
        """How open the eyes are in a frame of the video."""
        return float(self.eyes[frame])


def perform(
    motion: Motion,
    frames: int,
    *,
    eyes: float | Literal["auto", "clip"] = "auto",
    style: BlinkStyle = USUAL,
    seed: int = 0,
    activity: NDArray[np.float64] | None = None,
) -> Performance:
    """Plan a video's movement.

    Args:
        motion: What to draw on.
        frames: Of the video, F.
        eyes: ``auto`` makes blinks of ``style``; ``clip`` plays the movement's own; a number keeps them so open.
        style: How the subject blinks.
        seed: Of the blinks.
        activity: (F,) in [0, 1], how much of each frame is speech; the head calms down where none is. None for
            speech throughout.
    """
    places = plan_places(motion, frames, activity)
    at = np.arange(len(motion.eye_open))
    if eyes == "auto":
        between = np.interp(places, at, without_blinks(motion.eye_open))
        openness = between * (1 - closures(style, draw_blinks(style, frames, seed), frames))
    elif eyes == "clip":
        openness = np.interp(places, at, motion.eye_open)
    else:
        openness = np.full(frames, eyes)
    return Performance(motion, places, openness.astype(np.float32))


def plan_places(motion: Motion, frames: int, activity: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Where in a movement each frame of a video is: forth and back from a restful place on, without a jolt.

    Args:
        motion: The movement, K frames.
        frames: Of the video, F.
        activity: See ``perform``.

    Returns:
        (F,) float64 in [0, K - 1].
    """
    length = len(motion.eye_open)
    speed = np.ones(frames) if activity is None else playing_speed(activity)
    travelled = np.concatenate(([0.0], np.cumsum(speed)[:-1]))
    start = restful_start(motion, float(travelled[-1]))
    return eased_ping_pong(travelled, length, start)


def playing_speed(activity: NDArray[np.float64]) -> NDArray[np.float64]:
    """How fast the movement is played while a speech speaks (1) and while it rests (a quarter).

    Args:
        activity: (F,) in [0, 1].

    Returns:
        (F,) in [0.25, 1], smooth; a rest of less than 0.7 s counts as speech.
    """
    busy = maximum_filter1d(activity, 2 * _BRIDGED + 1, mode="nearest")
    gate: NDArray[np.float64] = gaussian_filter1d(minimum_filter1d(busy, 2 * _BRIDGED + 1, mode="nearest"), _GATE_SIGMA)
    return CALM + (1 - CALM) * np.clip(gate, 0, 1)


def eased_ping_pong(travelled: NDArray[np.float64], length: int, start: float = 0.0) -> NDArray[np.float64]:
    """Places in a sequence played forth and back, slowing to a stop at each end and setting off as gently.

    Around a turning point the speed is ``(3 w - w^3) / 2`` with ``w`` the time from it over the easing's: speed and
    acceleration are both continuous.

    Args:
        travelled: (F,) >= 0, how much time has passed, in frames.
        length: Of the sequence, K, at least 1.
        start: The place at time 0, on the way forward.

    Returns:
        (F,) float64 in [0, K - 1]; each unit of time moves by a unit at most.
    """
    if length == 1:
        return np.zeros(len(travelled))
    last = length - 1.0
    ease = min(float(_EASE), last)
    # Easing covers 5/8 of the way in the same time.
    way, half = 0.625 * ease, last + 2 * 0.375 * ease
    begin = _time_from_end(start, ease) if start <= last / 2 else half - _time_from_end(last - start, ease)
    phase = (begin + travelled) % (2 * half)
    phase = np.minimum(phase, 2 * half - phase)
    near = np.minimum(phase, half - phase)
    w = np.minimum(near / ease, 1)
    place = np.where(near < ease, ease * (0.75 * w**2 - 0.125 * w**4), way + near - ease)
    return np.clip(np.where(phase <= half / 2, place, last - place), 0, last)


def _time_from_end(place: float, ease: float) -> float:
    """How long it takes from a turning point to a place."""
    if place >= 0.625 * ease:
        return place + 0.375 * ease
    # 0.75 v - 0.125 v^2 = place / ease for v = w^2.
    return ease * float(np.sqrt(3 - np.sqrt(max(9 - 8 * place / ease, 4.0))))


def restful_start(motion: Motion, travel: float) -> float:
    """The frame from which on the head is least turned away from its usual attitude, and calmest.

    Args:
        motion: The movement.
        travel: How far it is going to be played.
    """
    length = len(motion.eye_open)
    window = int(min(travel, length - 1)) + 1
    nose = motion.rotation @ np.array(_NOSE_CM, np.float32) + motion.translation
    away = np.linalg.norm(nose - np.median(nose, axis=0), axis=1)
    moving = np.linalg.norm(np.gradient(nose, axis=0), axis=1) if length > 1 else np.zeros(1)
    unrest = away / max(float(np.median(away)), 1e-6) + moving / max(float(np.median(moving)), 1e-6)
    total = np.concatenate(([0.0], np.cumsum(unrest)))
    means = (total[window:] - total[:-window]) / window
    if len(means) == 1:
        # Everything is played anyway.
        return float(np.argmin(gaussian_filter1d(unrest, 2.0, mode="nearest")))
    return float(np.argmin(means + 0.3 * unrest[: len(means)]))


def own_motion(track: Track) -> Motion:
    """A subject's own movement: the longest stretch of training frames whose poses were measured.

    Poses that bridge a gap are used only where no two seconds lie between gaps.

    Args:
        track: Of the subject.
    """
    return _stretch(track, first_held_out(len(track.tracked)))


def borrowed_motion(track: Track, other: Track) -> Motion:
    """Another subject's movement: its departures from its own mean pose, made about this subject's mean pose.

    Turns are taken in the head's frame and shifts in the camera's, both in the same units, so that each head keeps
    its place, size and usual attitude in the picture.

    Args:
        track: Of the subject that moves.
        other: Of the subject whose movement it is.
    """
    own, source = own_motion(track), _stretch(other, len(other.tracked))
    own_rotation, own_translation = mean_pose(own)
    rotation, translation = mean_pose(source)
    turned = own_rotation @ rotation.T @ source.rotation.astype(np.float64)
    shifted = own_translation + source.translation - translation
    return Motion(turned.astype(np.float32), shifted.astype(np.float32), source.eye_open, source.brow_mm)


def mean_pose(motion: Motion) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of poses.

    Returns:
        rotation: (3, 3), the rotation nearest to all of them (chordal mean).
        translation: (3,), cm.
    """
    rotation: NDArray[np.float64] = Rotation.from_matrix(motion.rotation.astype(np.float64)).mean().as_matrix()
    return rotation, motion.translation.mean(axis=0, dtype=np.float64)


def _stretch(track: Track, frames: int) -> Motion:
    """The longest run of measured poses among the first frames."""
    tracked = track.tracked[:frames]
    if not tracked.any():
        raise BadInput("no frame of the clip has a measured pose", hint="prepare the subject again")
    edges = np.flatnonzero(np.diff(np.concatenate(([False], tracked, [False])).astype(np.int8))).reshape(-1, 2)
    first, last = edges[np.argmax(edges[:, 1] - edges[:, 0])].tolist()
    if last - first < _SHORTEST_RUN:
        # The track's poses pass smoothly over gaps: better these than the same instant again and again.
        seen = np.flatnonzero(tracked)
        first, last = int(seen[0]), int(seen[-1]) + 1
    brow_mm = gaussian_filter1d(track.brow_mm[first:last], _BROW_SIGMA, mode="nearest")
    return Motion(track.rotation[first:last], track.translation[first:last], track.eye_open[first:last], brow_mm, first)

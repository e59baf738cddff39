"""How the head moves while it speaks: a clip's own poses and blinks, forth and back without end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from radnerf.portrait import Pose
from stages.errors import BadInput
from stages.formats import FPS, Track
from stages.training_data import first_held_out

_SHORTEST_RUN = 2 * FPS


@dataclass(frozen=True)
class Motion:
    """Poses and eyes of K consecutive frames, to be played forth and back.

    Attributes:
        rotation: (K, 3, 3) float32, head to camera.
        translation: (K, 3) float32, cm.
        eye_open: (K,) float32 in [0, 1.5].
        first: The first one's number in the subject's own clip; None for frames of another's.
    """

    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    eye_open: NDArray[np.float32]
    first: int | None = None

    def pose(self, frame: int) -> Pose:
        """Where the head is in a frame of the video, from 0 on without end."""
        place = ping_pong(frame, len(self.eye_open))
        clip_frame = None if self.first is None else self.first + place
        return Pose(torch.from_numpy(self.rotation[place]), torch.from_numpy(self.translation[place]), clip_frame)

    def eye(self, frame: int) -> float:
        """How open the eyes are in a frame of the video."""
        return float(self.eye_open[ping_pong(frame, len(self.eye_open))])


def ping_pong(frame: int, length: int) -> int:
    """The place in a sequence played forth and back, so that neighbouring frames are neighbours in it.

    Args:
        frame: From 0 on.
        length: Of the sequence, at least 1.

    Returns:
        0, 1, … length - 1, length - 2, … 1, 0, 1, …
    """
    if length == 1:
        return 0
    place = frame % (2 * (length - 1))
    return min(place, 2 * (length - 1) - place)


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
    return Motion(turned.astype(np.float32), shifted.astype(np.float32), source.eye_open)


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
    return Motion(track.rotation[first:last], track.translation[first:last], track.eye_open[first:last], first)

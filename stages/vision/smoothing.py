"""All frames' poses at once: landmarks against smoothness, solved as one banded system a step.

The loss is the landmarks' Huber loss, averaged over a frame's landmarks, plus the squared second differences of the
poses. Both are in pixels: a rotation counts as the shift that it gives to a point of the face, a translation as the
shift that it would give sideways. So translation in depth, which the picture shows a tenth as well, is smoothed over
a longer time than the rest, without a setting of its own. Frames without landmarks are filled by the smoothness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, solveh_banded
from scipy.spatial.transform import Rotation

from stages.vision.reprojection import (
    Floats,
    Pinhole,
    huber_loss,
    huber_weights,
    pose_equations,
    reprojection_errors,
    turn,
)

_HOLD = 1e-2
# Weight of first differences beside frames without landmarks, over that of second differences: a gap at either end
# of the clip then comes to rest instead of running away in a straight line.
_STEPS = 30
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Smoothness:
    """What second differences cost.

    Attributes:
        weight: Of the squared second differences against the mean squared landmark error; 0 leaves the poses raw.
        threshold_px: Where the cost of a frame's second difference goes on as a line, so that a quick nod is not
            flattened as noise is.
        rotation_px: Shift of a point of the face for one radian.
        translation_px: Shift for one centimetre sideways.
    """

    weight: float
    threshold_px: float
    rotation_px: float
    translation_px: float

    @property
    def scale_px(self) -> Floats:
        """(6,) pixels for a unit of each pose parameter."""
        scale: Floats = np.repeat((self.rotation_px, self.translation_px), 3)
        return scale


def smoothness_for(
    shape: Floats, translation: Floats, camera: Pinhole, weight: float, threshold_px: float
) -> Smoothness:
    """Smoothness in this clip's own pixels.

    Args:
        shape: (L, 3) landmarks in the head's frame, cm.
        translation: (N, 3) cm.
        camera: The camera.
        weight: See ``Smoothness``.
        threshold_px: See ``Smoothness``.
    """
    px_a_cm = camera.focal_px / float(np.median(translation[:, 2]))
    radius_cm = float(np.sqrt(np.mean(np.sum(shape**2, axis=-1)) * 2 / 3))
    return Smoothness(weight, threshold_px, rotation_px=px_a_cm * radius_cm, translation_px=px_a_cm)


def first_differences(rotation: Floats, translation: Floats) -> Floats:
    """From each frame to the next: rotation vector (radians, from the left) and translation (cm), (N - 1, 6)."""
    steps: Floats = Rotation.from_matrix(rotation[1:] @ rotation[:-1].transpose(0, 2, 1)).as_rotvec()
    return np.concatenate((steps, np.diff(translation, axis=0)), axis=1)


def fill_gaps(rotation: Floats, translation: Floats, known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Poses in between by interpolation, and before the first and after the last known frame by holding.

    Args:
        rotation: (N, 3, 3); rows that are not known are ignored.
        translation: (N, 3).
        known: (N,) bool, at least one True.
    """
    frames = np.flatnonzero(known)
    wanted = np.arange(len(known))
    position = np.clip(np.interp(wanted, frames, np.arange(len(frames))), 0, len(frames) - 1)
    before = np.floor(position).astype(int)
    after = np.minimum(before + 1, len(frames) - 1)
    share = (position - before)[:, None]
    known_r, known_t = rotation[frames], translation[frames]
    step = Rotation.from_matrix(known_r[after] @ known_r[before].transpose(0, 2, 1)).as_rotvec()
    return turn(known_r[before], share * step), known_t[before] + share * (known_t[after] - known_t[before])


def _rows(frames: int, known: NDArray[np.bool_], smoothness: Smoothness) -> list[tuple[Floats, Floats]]:
    """The difference operators: (stencil, weight of each row), second differences, then holding ones."""
    held = smoothness.weight * _HOLD * ~(known[1:] & known[:-1])
    second = np.full(max(frames - 2, 0), smoothness.weight)
    return [(np.array([1.0, -2.0, 1.0]), second), (np.array([-1.0, 1.0]), held)]


def _differences(rotation: Floats, translation: Floats, order: int) -> Floats:
    steps = first_differences(rotation, translation)
    return np.diff(steps, axis=0) if order == 2 else steps


def _loss(
    seen: Floats,
    known: NDArray[np.bool_],
    shape: Floats,
    pose: tuple[Floats, Floats],
    camera: Pinhole,
    threshold_px: float,
    smoothness: Smoothness,
    confidence: Floats | None,
) -> float:
    errors = reprojection_errors(seen[known], shape, pose[0][known], pose[1][known], camera)
    losses = huber_loss(errors, threshold_px)
    total = float((losses if confidence is None else losses * confidence[known]).sum()) / len(shape)
    for stencil, weights in _rows(len(seen), known, smoothness):
        differences = _differences(*pose, order=len(stencil) - 1) * smoothness.scale_px
        total += float(weights @ huber_loss(np.linalg.norm(differences, axis=-1), smoothness.threshold_px))
    return total


def _banded_system(
    normal: Floats, gradient: Floats, pose: tuple[Floats, Floats], known: NDArray[np.bool_], smoothness: Smoothness
) -> tuple[Floats, Floats]:
    """Lower banded matrix (18, 6 N) and right side (6 N,) of one Gauss-Newton step."""
    frames = len(normal)
    bands = np.zeros((18, frames, 6))
    right = -gradient.copy()
    for row in range(6):
        for column in range(row + 1):
            bands[row - column, :, column] = normal[:, row, column]
    for stencil, weights in _rows(frames, known, smoothness):
        order, count = len(stencil) - 1, len(weights)
        differences = _differences(*pose, order=order)
        lengths = np.linalg.norm(differences * smoothness.scale_px, axis=-1)
        robust = weights * huber_weights(lengths, smoothness.threshold_px)
        scaled = robust[:, None] * smoothness.scale_px**2
        for first, a in enumerate(stencil):
            right[first : first + count] -= a * scaled * differences
            for second, b in enumerate(stencil[first:], start=first):
                bands[6 * (second - first), first : first + count] += a * b * scaled
    return bands.reshape(18, 6 * frames), right.reshape(-1)


def solve_poses(
    seen: Floats,
    known: NDArray[np.bool_],
    shape: Floats,
    pose: tuple[Floats, Floats],
    camera: Pinhole,
    threshold_px: float,
    smoothness: Smoothness,
    confidence: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Every frame's pose, by damped Gauss-Newton steps; time and memory grow linearly with the frames.

    Args:
        seen: (N, L, 2) landmarks in pixels; rows that are not known are ignored.
        known: (N,) bool, whether the frame's landmarks count; at least one does.
        shape: (L, 3) the same landmarks in the head's frame, cm.
        pose: Where to begin: rotation (N, 3, 3), head to camera, and translation (N, 3), cm. Rows that are not
            known are ignored.
        camera: The camera.
        threshold_px: Where Huber's loss turns into a line.
        smoothness: What second differences cost; with weight 0 unknown frames are interpolated.
        confidence: (N, L) >= 0, how much each landmark counts; None for 1.

    Returns:
        rotation: (N, 3, 3).
        translation: (N, 3).
    """
    pose = fill_gaps(*pose, known)
    normal = np.zeros((len(seen), 6, 6))
    gradient = np.zeros((len(seen), 6))
    # A grain of the parameters' own scale keeps frames determined that nothing else holds (weight 0, not known).
    grain = np.repeat(smoothness.scale_px[None] ** 2, len(seen), axis=0).reshape(-1)
    loss = _loss(seen, known, shape, pose, camera, threshold_px, smoothness, confidence)
    damping = 1e-6
    for _ in range(_STEPS):
        trust = None if confidence is None else confidence[known]
        equations = pose_equations(seen[known], shape, pose[0][known], pose[1][known], camera, threshold_px, trust)
        normal[known], gradient[known] = (part / len(shape) for part in equations)
        bands, right = _banded_system(normal, gradient, pose, known, smoothness)
        while damping < 1e6:
            damped = bands.copy()
            damped[0] += damping * grain
            try:
                step = solveh_banded(damped, right, lower=True, overwrite_ab=True).reshape(-1, 6)
            except LinAlgError:
                damping *= 100
                continue
            candidate = turn(pose[0], step[:, :3]), pose[1] + step[:, 3:]
            candidate_loss = _loss(seen, known, shape, candidate, camera, threshold_px, smoothness, confidence)
            if candidate_loss <= loss:
                break
            damping *= 10
        else:
            return pose
        damping = max(damping / 10, 1e-9)
        done = loss - candidate_loss <= _TOLERANCE * loss
        pose, loss = candidate, candidate_loss
        if done:
            break
    return pose

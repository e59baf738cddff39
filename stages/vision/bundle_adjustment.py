"""One camera, one face shape and every frame's head pose from landmarks, by bundle adjustment.

The model: a landmark is seen at project(R_i (canonical + offset) + t_i) + noise, with one fixed focal length, the
principal point at the picture's middle, an offset a landmark with a Gaussian prior, and Huber's loss. The prior also
fixes the gauge: turning, moving or scaling the shape against all poses would cost offsets and gain nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.vision import canonical_face
from stages.vision.reprojection import (
    Floats,
    Pinhole,
    huber_loss,
    huber_weights,
    pose_equations,
    project_with_derivatives,
    reprojection_errors,
    turn,
)
from stages.vision.smoothing import smoothness_for, solve_poses

RIGID_LANDMARKS: NDArray[np.int64] = np.array(
    [
        *(168, 6, 197, 195, 5, 4, 1),  # down the nose
        *(122, 351, 196, 419, 3, 248, 236, 456, 174, 399, 198, 420, 188, 412, 114, 343),  # sides of the nose
        *(33, 263, 133, 362, 130, 359, 243, 463, 226, 446, 35, 265),  # eye corners
        *(10, 151, 109, 338, 67, 297, 103, 332, 54, 284),  # forehead, above the brows
        *(21, 251, 71, 301, 162, 389, 127, 356, 139, 368, 34, 264, 143, 372),  # temples
        *(116, 345, 117, 346, 111, 340, 227, 447),  # cheekbones
    ]
)
"""(L,) int64: landmarks of the forehead, temples, nose, eye corners and cheekbones, which speech moves least."""

SAMPLE_FRAMES = 120
"""Frames from which the shape is solved."""

_NOISE_SHARE = 1.0 / 512
# Expected landmark error over the frame's side; also where Huber's loss turns into a line.
_QUICK = 0.25
# Second difference, over the expected landmark error, above which a movement counts as meant.
_JUMP = 6.0
# Distance, over the expected landmark error and over the clip's median, that no face goes in a frame and back.
_MISFIT = 4.0
# Reprojection error of a frame, over the clip's median, beyond which its landmarks are not this face's.


@dataclass(frozen=True)
class Adjustment:
    """What bundle adjustment found.

    Attributes:
        camera: The one camera.
        shape_offset_cm: (468, 3), this face minus the canonical face.
        rotation, translation: (N, 3, 3) and (N, 3) cm, smoothed and bridged, head to camera.
        raw_rotation, raw_translation: The same without smoothing; not determined where ``tracked`` is False.
        tracked: (N,) bool, whether the frame's own landmarks were used.
        rms_px, raw_rms_px: Root mean square distance over rigid landmarks and tracked frames.
    """

    camera: Pinhole
    shape_offset_cm: Floats
    rotation: Floats
    translation: Floats
    raw_rotation: Floats
    raw_translation: Floats
    tracked: NDArray[np.bool_]
    rms_px: float
    raw_rms_px: float


def initial_poses(seen: Floats, shape: Floats, camera: Pinhole) -> tuple[Floats, Floats]:
    """Poses in closed form: the similarity from the shape to landmarks with depth (Umeyama, PAMI 1991).

    Args:
        seen: (N, L, 3) landmarks, x, y and relative z in pixels.
        shape: (L, 3) the same in the head's frame, cm.
        camera: The camera.

    Returns:
        rotation: (N, 3, 3).
        translation: (N, 3), cm.
    """
    shape_mean = shape.mean(axis=0)
    seen_mean = seen.mean(axis=1)
    covariance = (seen - seen_mean[:, None]).transpose(0, 2, 1) @ (shape - shape_mean)
    u, singular, vt = np.linalg.svd(covariance)
    sign = np.ones_like(singular)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation: Floats = (u * sign[:, None]) @ vt
    px_a_cm = (singular * sign).sum(axis=1) / ((shape - shape_mean) ** 2).sum()
    depth = camera.focal_px / np.maximum(px_a_cm, 1e-6)
    middle = np.stack(
        (
            (seen_mean[:, 0] - camera.centre_x_px) / camera.focal_px * depth,
            (seen_mean[:, 1] - camera.centre_y_px) / camera.focal_px * depth,
            depth,
        ),
        axis=1,
    )
    return rotation, middle - rotation @ shape_mean


def _shape_step(
    seen: Floats,
    shape: Floats,
    offset: Floats,
    pose: tuple[Floats, Floats],
    camera: Pinhole,
    noise_px: float,
    sigma_cm: float,
    damping: float,
    confidence: Floats | None,
) -> tuple[Floats, Floats]:
    """One Levenberg-Marquardt step: (L, 3) for the offsets and (F, 6) for the poses.

    The poses' 6 x 6 blocks are eliminated (Schur complement; Triggs et al., Bundle Adjustment, 2000, section 6.1),
    so that one dense system of 3 L unknowns is left.
    """
    landmarks = len(shape)
    pixels, by_pose, by_point = project_with_derivatives(shape + offset, *pose, camera)
    difference = pixels - seen
    weights = huber_weights(np.linalg.norm(difference, axis=-1), noise_px)[..., None, None]
    if confidence is not None:
        weights = weights * confidence[..., None, None]
    pose_block = np.einsum("flai,flaj->fij", by_pose * weights, by_pose)
    cross_block = np.einsum("flai,flaj->flij", by_point * weights, by_pose).reshape(len(seen), -1, 6)
    point_block = np.einsum("flai,flaj->lij", by_point * weights, by_point)
    pose_right = -np.einsum("flai,fla->fi", by_pose * weights, difference)
    prior = (noise_px / sigma_cm) ** 2
    point_right = -np.einsum("flai,fla->li", by_point * weights, difference) - prior * offset
    pose_block[:, range(6), range(6)] *= 1 + damping
    point_block[:, range(3), range(3)] *= 1 + damping
    point_block[:, range(3), range(3)] += prior
    solved = np.linalg.solve(pose_block, np.concatenate((cross_block.transpose(0, 2, 1), pose_right[..., None]), 2))
    matrix = np.zeros((landmarks, 3, landmarks, 3))
    matrix[range(landmarks), :, range(landmarks)] = point_block
    schur = matrix.reshape(3 * landmarks, -1) - np.einsum("fai,fib->ab", cross_block, solved[..., :-1], optimize=True)
    right = point_right.reshape(-1) - np.einsum("fai,fi->a", cross_block, solved[..., -1])
    point_step = np.linalg.solve(schur, right)
    pose_step: Floats = solved[..., -1] - solved[..., :-1] @ point_step
    return point_step.reshape(-1, 3), pose_step


def solve_shape(
    seen: Floats,
    shape: Floats,
    pose: tuple[Floats, Floats],
    camera: Pinhole,
    noise_px: float,
    sigma_cm: float,
    steps: int = 40,
    confidence: Floats | None = None,
) -> tuple[Floats, tuple[Floats, Floats]]:
    """Shape offset and poses of some frames together, by Levenberg-Marquardt.

    Args:
        seen: (F, L, 2) landmarks in pixels.
        shape: (L, 3) the canonical shape, cm.
        pose: Where to begin: rotation (F, 3, 3) and translation (F, 3), cm.
        camera: The camera.
        noise_px: Expected landmark error, and the threshold of Huber's loss.
        sigma_cm: Expected offset.
        steps: At most so many.
        confidence: (F, L) >= 0, how much each landmark counts; None for 1.

    Returns:
        offset: (L, 3), cm.
        pose: Rotation and translation of the frames given.
    """

    def loss(offset: Floats, pose: tuple[Floats, Floats]) -> float:
        errors = reprojection_errors(seen, shape + offset, *pose, camera)
        losses = huber_loss(errors / noise_px, 1.0)
        seen_loss = float((losses if confidence is None else losses * confidence).sum())
        return seen_loss + 0.5 * float((offset**2).sum()) / sigma_cm**2

    offset = np.zeros_like(shape)
    current = loss(offset, pose)
    damping = 1e-3
    for _ in range(steps):
        point_step, pose_step = _shape_step(seen, shape, offset, pose, camera, noise_px, sigma_cm, damping, confidence)
        moved = turn(pose[0], pose_step[:, :3]), pose[1] + pose_step[:, 3:]
        candidate = loss(offset + point_step, moved)
        if candidate > current:
            damping *= 10
            if damping > 1e8:
                break
            continue
        done = current - candidate <= 1e-7 * current
        offset, pose, current, damping = offset + point_step, moved, candidate, max(damping / 10, 1e-9)
        if done:
            break
    return offset, pose


def solve_each_pose(
    seen: Floats, shape: Floats, pose: tuple[Floats, Floats], camera: Pinhole, noise_px: float, steps: int = 30
) -> tuple[Floats, Floats]:
    """Every frame's pose on its own, the shape held: Levenberg-Marquardt with a damping of its own a frame.

    Args:
        seen: (N, L, 2) landmarks in pixels.
        shape: (L, 3) in the head's frame, cm.
        pose: Where to begin: rotation (N, 3, 3) and translation (N, 3), cm.
        camera: The camera.
        noise_px: Threshold of Huber's loss.
        steps: At most so many.

    Returns:
        rotation: (N, 3, 3).
        translation: (N, 3), cm.
    """
    rotation, translation = pose
    loss = huber_loss(reprojection_errors(seen, shape, rotation, translation, camera), noise_px).sum(axis=1)
    damping = np.full(len(seen), 1e-3)
    for _ in range(steps):
        normal, gradient = pose_equations(seen, shape, rotation, translation, camera, noise_px)
        normal[:, range(6), range(6)] *= 1 + damping[:, None]
        step = -np.linalg.solve(normal, gradient[..., None])[..., 0]
        moved = turn(rotation, step[:, :3]), translation + step[:, 3:]
        candidate = huber_loss(reprojection_errors(seen, shape, *moved, camera), noise_px).sum(axis=1)
        better = (candidate < loss) & (moved[1][:, 2] > 1.0)
        converged = ~better | (loss - candidate <= 1e-7 * loss)
        rotation = np.where(better[:, None, None], moved[0], rotation)
        translation = np.where(better[:, None], moved[1], translation)
        loss = np.where(better, candidate, loss)
        damping = np.clip(np.where(better, damping / 10, damping * 10), 1e-9, 1e6)
        if converged.all():
            break
    return rotation, translation


def solve_offsets(
    seen: Floats, shape: Floats, pose: tuple[Floats, Floats], camera: Pinhole, noise_px: float, sigma_cm: float
) -> Floats:
    """Shape offsets of landmarks whose frames' poses are known: their mean place over the frames.

    Args:
        seen: (F, L, 2) landmarks in pixels.
        shape: (L, 3) the canonical shape, cm.
        pose: Rotation (F, 3, 3) and translation (F, 3), cm.
        camera: The camera.
        noise_px: Expected landmark error, and the threshold of Huber's loss.
        sigma_cm: Expected offset.

    Returns:
        (L, 3), cm.
    """
    prior = (noise_px / sigma_cm) ** 2
    offset = np.zeros_like(shape)
    for _ in range(10):
        pixels, _, by_point = project_with_derivatives(shape + offset, *pose, camera)
        difference = pixels - seen
        weights = huber_weights(np.linalg.norm(difference, axis=-1), noise_px)[..., None, None]
        normal = np.einsum("flai,flaj->lij", by_point * weights, by_point) + prior * np.eye(3)
        right = -np.einsum("flai,fla->li", by_point * weights, difference) - prior * offset
        step = np.linalg.solve(normal, right[..., None])[..., 0]
        offset += step
        if np.abs(step).max() < 1e-4:
            break
    return offset


def find_jumps(seen: Floats, found: NDArray[np.bool_], limit_px: float) -> NDArray[np.bool_]:
    """Frames whose landmarks jump away and come back within a few frames, as when another face is taken for this.

    A frame is one if it lies far from the middle of its neighbours and from the straight lines through those before
    and those after, at a distance of one, two or three frames. A quick nod agrees with one of these.

    Args:
        seen: (N, L, 2) landmarks in pixels; rows that were not found are ignored.
        found: (N,) bool, at least one True.
        limit_px: How far is far for neighbouring frames, unless the clip's landmarks are so noisy that more is
            usual; wider strides allow their square times as much.

    Returns:
        (N,) bool, False where nothing was found.
    """
    frames = np.arange(len(seen))
    known = np.flatnonzero(found)
    flat = seen.reshape(len(seen), -1)
    filled = np.stack([np.interp(frames, known, flat[known, column]) for column in range(flat.shape[1])], axis=1)
    jumps = np.zeros(len(seen), dtype=bool)
    limit = limit_px
    for stride in (1, 2, 3):
        if len(seen) <= 2 * stride:
            break
        padded = np.pad(filled, ((2 * stride, 2 * stride), (0, 0)), constant_values=np.nan)
        two_back, back, _, on, two_on = (padded[k * stride : k * stride + len(seen)] for k in range(5))
        guesses = np.stack((0.5 * (back + on), 2 * back - two_back, 2 * on - two_on))
        distance = np.sqrt(2 * np.mean((guesses - filled) ** 2, axis=-1))
        nearest = np.where(np.isnan(distance), np.inf, distance).min(axis=0)
        if stride == 1:
            # Noisy landmarks stray from every line; a jump stands out from that.
            limit = max(limit, _JUMP * float(np.median(nearest[found])))
        jumps |= np.isfinite(nearest) & (nearest > limit * stride**2)
    return jumps & found


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _subject_shape(
    points: NDArray[np.float32], known: NDArray[np.int64], camera: Pinhole, noise_px: float, sigma_cm: float
) -> Floats:
    """Offsets (468, 3) of all landmarks: the rigid ones solved with the poses, the others under those poses."""
    canonical = canonical_face.vertices_cm.astype(np.float64)
    shape = canonical[RIGID_LANDMARKS]
    sample = known[np.linspace(0, len(known) - 1, min(len(known), SAMPLE_FRAMES)).round().astype(int)]
    seen = points[sample, : len(canonical)].astype(np.float64)
    rigid = seen[:, RIGID_LANDMARKS]
    begin = initial_poses(rigid, shape, camera)
    offset, pose = solve_shape(rigid[..., :2], shape, begin, camera, noise_px, sigma_cm)
    offsets = solve_offsets(seen[..., :2], canonical, pose, camera, noise_px, sigma_cm)
    offsets[RIGID_LANDMARKS] = offset
    return offsets


def _raw_poses(
    rigid: Floats, tracked: NDArray[np.bool_], shape: Floats, camera: Pinhole, noise_px: float
) -> tuple[tuple[Floats, Floats], NDArray[np.bool_]]:
    """Each frame's own pose, and which frames fit theirs. Rows that are not tracked hold no pose (zeros)."""
    known = np.flatnonzero(tracked)
    rotation, translation = np.zeros((len(rigid), 3, 3)), np.zeros((len(rigid), 3))
    begin = initial_poses(rigid[known], shape, camera)
    rotation[known], translation[known] = solve_each_pose(rigid[known, :, :2], shape, begin, camera, noise_px)
    errors = reprojection_errors(rigid[known, :, :2], shape, rotation[known], translation[known], camera)
    frame_rms = np.sqrt(np.mean(errors**2, axis=1))
    fits = tracked.copy()
    fits[known[frame_rms > _MISFIT * max(float(np.median(frame_rms)), noise_px)]] = False
    return (rotation, translation), fits


def adjust(
    points: NDArray[np.float32],
    found: NDArray[np.bool_],
    size_px: int,
    focal_ratio: float,
    shape_sigma_cm: float,
    smoothing: float,
) -> Adjustment:
    """Camera, shape and poses of a clip.

    Args:
        points: (N, 478, 3) float32, landmarks in pixels of the square frames.
        found: (N,) bool, at least one True.
        size_px: Side of the frames.
        focal_ratio: Focal length over the frame's side.
        shape_sigma_cm: Expected deviation of this face from the canonical one, a landmark.
        smoothing: Weight of the poses' second differences; 0 leaves the poses raw (gaps are still bridged).

    Returns:
        The adjustment. Frames that were found but fit badly or jump are bridged like those that were not found.
    """
    camera = Pinhole(focal_ratio * size_px, size_px / 2, size_px / 2)
    noise_px = _NOISE_SHARE * size_px
    canonical = canonical_face.vertices_cm.astype(np.float64)
    rigid = points[:, RIGID_LANDMARKS].astype(np.float64)
    tracked = found & ~find_jumps(rigid[:, ::6, :2], found, _JUMP * noise_px)
    if not tracked.any():
        tracked = found.copy()

    all_offsets = _subject_shape(points, np.flatnonzero(tracked), camera, noise_px, shape_sigma_cm)
    shape = canonical[RIGID_LANDMARKS] + all_offsets[RIGID_LANDMARKS]
    raw, tracked = _raw_poses(rigid, tracked, shape, camera, noise_px)
    seen = rigid[..., :2]
    smoothness = smoothness_for(shape, raw[1][tracked], camera, smoothing, _QUICK * noise_px)
    rotation, translation = solve_poses(seen, tracked, shape, raw, camera, noise_px, smoothness)
    raw_errors = reprojection_errors(seen[tracked], shape, raw[0][tracked], raw[1][tracked], camera)
    errors = reprojection_errors(seen[tracked], shape, rotation[tracked], translation[tracked], camera)
    return Adjustment(
        camera=camera,
        shape_offset_cm=all_offsets,
        rotation=rotation,
        translation=translation,
        raw_rotation=raw[0],
        raw_translation=raw[1],
        tracked=tracked,
        rms_px=_rms(errors),
        raw_rms_px=_rms(raw_errors),
    )

"""Better poses from the skin's own texture, where a clip shows that they are better.

The landmarks' poses are tried against those that the skin gives on some frames of the clip. What decides is the clip
itself: unrolled onto the face, its frames must agree clearly better with each other than they did before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.archive import Archive
from stages.vision import canonical_face
from stages.vision.bundle_adjustment import RIGID_LANDMARKS, Adjustment, solve_offsets, solve_shape
from stages.vision.chunks import chunks, map_chunks
from stages.vision.clip import load_rgb
from stages.vision.images import Grey
from stages.vision.reprojection import Floats, Pinhole, project, reprojection_errors
from stages.vision.smoothing import smoothness_for, solve_poses
from stages.vision.surface_tracks import Float32, Surface, build_surface, choose_points, follow, unroll

SAMPLE_FRAMES = 60
"""Frames on which skin and landmarks are compared."""

LEAST_GAIN = 0.08
"""By how much the unrolled frames must agree better before the skin is believed."""

_LEAST_SURE = 0.6  # of the points, in the mean over frames
_LEAST_POINTS = 30
_ROUNDS = 2
_LANDMARK_CONFIDENCE = 0.05
_NOISE_SHARE = 0.5 / 512  # expected error of a point over the frame's side
_QUICK = 0.5  # of that: see ``Smoothness``

Pose = tuple[Floats, Floats]


@dataclass(frozen=True)
class _Skin:
    """What is followed.

    Attributes:
        surface: Of the face.
        template: (H, W) uint8, what the clip usually shows on it.
        points: (P, 2) float32, places of the template.
        points_cm: (P, 3), the same in the head's frame, as solved.
        confidence: (P,) in [0, 1].
    """

    surface: Surface
    template: Grey
    points: Float32
    points_cm: Floats
    confidence: Floats


def refine(
    adjustment: Adjustment, points: NDArray[np.float32], frames: Path, size_px: int, sigma_cm: float, smoothing: float
) -> Adjustment | None:
    """Poses by the skin's texture.

    Args:
        adjustment: What landmarks gave.
        points: (N, 478, 3) float32, the landmarks.
        frames: Archive of the frames.
        size_px: Their side.
        sigma_cm: Expected error of the face's surface.
        smoothing: Weight of the poses' second differences.

    Returns:
        The adjustment with better poses; None where the skin tells no better, as where it is smooth or compressed.
    """
    rigid = points[:, RIGID_LANDMARKS, :2].astype(np.float64)
    noise_px = _NOISE_SHARE * size_px
    known = np.flatnonzero(adjustment.tracked)
    sample = known[np.linspace(0, len(known) - 1, min(SAMPLE_FRAMES, len(known))).round().astype(int)]
    with Archive(frames) as archive:
        greys = [_grey(archive, int(index)) for index in sample]
    skin = _try(adjustment, rigid[sample], sample, greys, noise_px, sigma_cm)
    if skin is None:
        return None
    camera, pose = adjustment.camera, (adjustment.rotation, adjustment.translation)
    jobs = [(stretch, pose[0][stretch.start : stretch.stop], pose[1][stretch.start : stretch.stop])
            for stretch in chunks(len(points))]  # fmt: skip
    followed = list(map_chunks(partial(follow_chunk, frames, skin, camera), jobs))
    seen = np.concatenate([rigid, np.concatenate([places for places, _ in followed])], axis=1)
    sure = np.concatenate([sure for _, sure in followed])
    confidence = np.concatenate([np.full(rigid.shape[:2], _LANDMARK_CONFIDENCE), sure * skin.confidence], axis=1)
    face = canonical_face.vertices_cm + adjustment.shape_offset_cm
    shape = np.concatenate([face[RIGID_LANDMARKS], skin.points_cm])
    smoothness = smoothness_for(shape, pose[1][known], camera, smoothing, _QUICK * noise_px)
    rotation, translation = solve_poses(seen, adjustment.tracked, shape, pose, camera, noise_px, smoothness, confidence)
    return _with_poses(adjustment, points, sample, (rotation, translation), 2 * noise_px, sigma_cm)


def follow_chunk(
    frames: Path, skin: _Skin, camera: Pinhole, job: tuple[range, Floats, Floats]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Where the skin's points are in consecutive frames.

    Args:
        frames: Archive of the frames.
        skin: What to follow.
        camera: The camera.
        job: The frames, and rotation and translation to begin with.

    Returns:
        places: (F, P, 2) px.
        sure: (F, P) bool.
    """
    with Archive(frames) as archive:
        return _follow(skin, [_grey(archive, index) for index in job[0]], (job[1], job[2]), camera)


def _try(
    adjustment: Adjustment,
    rigid: Floats,
    sample: NDArray[np.int64],
    greys: list[Grey],
    noise_px: float,
    sigma_cm: float,
) -> _Skin | None:
    """The skin of the sampled frames, if it aligns them clearly better than the landmarks did."""
    camera = adjustment.camera
    pose = adjustment.rotation[sample], adjustment.translation[sample]
    face = canonical_face.vertices_cm + adjustment.shape_offset_cm
    # As large for a small frame as for one of 512 px: windows and spacings are meant for that.
    step_cm = float(np.median(pose[1][:, 2])) / camera.focal_px * noise_px / 0.5
    surface = build_surface(face, RIGID_LANDMARKS, step_cm)
    template, before = _template(greys, surface, pose, camera)
    skin: _Skin | None = None
    for _ in range(_ROUNDS):
        points = choose_points(template, surface)
        if len(points) < _LEAST_POINTS:
            return None
        skin = _Skin(surface, template, points, surface.at(points.astype(np.float64)), np.ones(len(points)))
        places, sure = _follow(skin, greys, pose, camera)
        if sure.mean() < _LEAST_SURE:
            return None
        skin, pose = _solve(skin, rigid, places, sure, face[RIGID_LANDMARKS], pose, camera, noise_px, sigma_cm)
        template, after = _template(greys, surface, pose, camera)
    return skin if after < (1 - LEAST_GAIN) * before else None


def _solve(
    skin: _Skin,
    rigid: Floats,
    places: Floats,
    sure: NDArray[np.bool_],
    rigid_cm: Floats,
    pose: Pose,
    camera: Pinhole,
    noise_px: float,
    sigma_cm: float,
) -> tuple[_Skin, Pose]:
    """Shape and poses from skin and, faintly, landmarks; skin that moves by itself counts less the second time."""
    seen, count = np.concatenate([rigid, places], axis=1), rigid.shape[1]
    shape = np.concatenate([rigid_cm, skin.points_cm])
    trust = np.ones(len(skin.points))
    for _ in range(2):
        confidence = np.concatenate([np.full(rigid.shape[:2], _LANDMARK_CONFIDENCE), sure * trust], axis=1)
        offset, pose = solve_shape(seen, shape, pose, camera, noise_px, sigma_cm, confidence=confidence)
        errors = reprojection_errors(seen, shape + offset, *pose, camera)[:, count:]
        rms = np.sqrt((errors**2 * sure).sum(axis=0) / np.maximum(sure.sum(axis=0), 1))
        trust = 1 / (1 + (rms / max(float(np.median(rms)), 1e-6)) ** 2)
    return replace(skin, points_cm=skin.points_cm + offset[count:], confidence=trust), pose


def _follow(skin: _Skin, greys: list[Grey], pose: Pose, camera: Pinhole) -> tuple[Floats, NDArray[np.bool_]]:
    places, sure = [], []
    for grey, rotation, translation in zip(greys, *pose, strict=True):
        moved, certain = follow(skin.template, unroll(grey, skin.surface, rotation, translation, camera), skin.points)
        on_skin = skin.surface.at(moved.astype(np.float64))
        places.append(project(on_skin, rotation[None], translation[None], camera)[0])
        sure.append(certain)
    return np.stack(places), np.stack(sure)


def _template(greys: list[Grey], surface: Surface, pose: Pose, camera: Pinhole) -> tuple[Grey, float]:
    """What the frames show in common on the surface, and how far they are from it (8-bit levels)."""
    flat = np.stack(
        [unroll(grey, surface, turn, shift, camera) for grey, turn, shift in zip(greys, *pose, strict=True)]
    )
    template = np.median(flat, axis=0).astype(np.uint8)
    apart = np.abs(flat.astype(np.float32) - template).mean(axis=0)
    return template, float(apart[surface.mask > 0].mean())


def _with_poses(
    adjustment: Adjustment,
    points: NDArray[np.float32],
    sample: NDArray[np.int64],
    pose: Pose,
    noise_px: float,
    sigma_cm: float,
) -> Adjustment:
    """The adjustment with other poses, the shape solved again under them."""
    canonical = canonical_face.vertices_cm.astype(np.float64)
    seen = points[:, : len(canonical), :2].astype(np.float64)
    rotation, translation = pose
    some = rotation[sample], translation[sample]
    offset = solve_offsets(seen[sample], canonical, some, adjustment.camera, noise_px, sigma_cm)
    shape, tracked = (canonical + offset)[RIGID_LANDMARKS], adjustment.tracked
    errors = reprojection_errors(
        seen[tracked][:, RIGID_LANDMARKS], shape, rotation[tracked], translation[tracked], adjustment.camera
    )
    rms_px = float(np.sqrt(np.mean(errors**2)))
    return replace(adjustment, rotation=rotation, translation=translation, shape_offset_cm=offset, rms_px=rms_px)


def _grey(archive: Archive, index: int) -> Grey:
    return np.asarray(cv2.cvtColor(load_rgb(archive, index), cv2.COLOR_RGB2GRAY), np.uint8)

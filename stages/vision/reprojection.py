"""How a posed point projects, with analytic derivatives, and the robust normal equations built from them.

Everything is double precision numpy, vectorised over frames. A pose's six parameters are a rotation vector applied
from the left (R becomes exp(w) R, radians, camera axes) and a translation (cm, camera axes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float64]

CHUNK_FRAMES = 1024
"""Frames whose derivatives are held at once, so that memory beside the poses stays constant."""


@dataclass(frozen=True)
class Pinhole:
    """A camera for numpy: focal length and principal point in pixels."""

    focal_px: float
    centre_x_px: float
    centre_y_px: float

    @property
    def centre_px(self) -> Floats:
        """(2,) the principal point."""
        return np.array([self.centre_x_px, self.centre_y_px])


def turn(rotation: Floats, vectors: Floats) -> Floats:
    """Rotations turned further from the left by rotation vectors.

    Args:
        rotation: (N, 3, 3).
        vectors: (N, 3), radians.
    """
    turned: Floats = Rotation.from_rotvec(vectors).as_matrix() @ rotation
    return turned


def project(shape: Floats, rotation: Floats, translation: Floats, camera: Pinhole) -> Floats:
    """Points of a head in the pictures of several frames.

    Args:
        shape: (L, 3) points in the head's frame, cm.
        rotation: (N, 3, 3), head to camera.
        translation: (N, 3), cm, head to camera.
        camera: The camera.

    Returns:
        (N, L, 2) in pixels.
    """
    points = shape @ rotation.transpose(0, 2, 1) + translation[:, None]
    pixels: Floats = camera.focal_px * points[..., :2] / points[..., 2:]
    return pixels + camera.centre_px


def project_with_derivatives(
    shape: Floats, rotation: Floats, translation: Floats, camera: Pinhole
) -> tuple[Floats, Floats, Floats]:
    """Like ``project``, with the derivatives by pose and by point; takes the same.

    Returns:
        pixels: (N, L, 2).
        by_pose: (N, L, 2, 6), by rotation vector (applied from the left), then translation.
        by_point: (N, L, 2, 3), by the point in the head's frame.
    """
    turned = shape @ rotation.transpose(0, 2, 1)
    x, y, z = np.moveaxis(turned + translation[:, None], -1, 0)
    by_camera = np.zeros((*x.shape, 2, 3))
    by_camera[..., 0, 0] = by_camera[..., 1, 1] = camera.focal_px / z
    by_camera[..., 0, 2] = -camera.focal_px * x / z**2
    by_camera[..., 1, 2] = -camera.focal_px * y / z**2
    by_pose = np.empty((*x.shape, 2, 6))
    # d(w x p)/dw: the row a of the derivative by w is p x a.
    by_pose[..., :3] = np.cross(turned[:, :, None], by_camera)
    by_pose[..., 3:] = by_camera
    by_point = by_camera @ rotation[:, None]
    pixels = camera.focal_px * np.stack((x, y), axis=-1) / z[..., None]
    return pixels + camera.centre_px, by_pose, by_point


def huber_weights(lengths: Floats, threshold: float) -> Floats:
    """Weights that make least squares into Huber's loss: 1 below the threshold, falling as 1/length above."""
    weights: Floats = threshold / np.maximum(lengths, threshold)
    return weights


def huber_loss(lengths: Floats, threshold: float) -> Floats:
    """Huber's loss: half the square below the threshold, a line above."""
    loss: Floats = np.where(lengths <= threshold, 0.5 * lengths**2, threshold * (lengths - 0.5 * threshold))
    return loss


def reprojection_errors(seen: Floats, shape: Floats, rotation: Floats, translation: Floats, camera: Pinhole) -> Floats:
    """Distances in the picture between landmarks and the projected shape.

    Args:
        seen: (N, L, 2) landmarks in pixels.
        shape: (L, 3) points in the head's frame, cm.
        rotation: (N, 3, 3), head to camera.
        translation: (N, 3), cm, head to camera.
        camera: The camera.

    Returns:
        (N, L) pixels.
    """
    errors = np.empty(seen.shape[:2])
    for start in range(0, len(seen), CHUNK_FRAMES):
        part = slice(start, start + CHUNK_FRAMES)
        difference = project(shape, rotation[part], translation[part], camera) - seen[part]
        errors[part] = np.linalg.norm(difference, axis=-1)
    return errors


def pose_equations(
    seen: Floats,
    shape: Floats,
    rotation: Floats,
    translation: Floats,
    camera: Pinhole,
    threshold_px: float,
    confidence: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Every frame's Gauss-Newton equations under Huber's loss, the shape held.

    Args:
        seen: (N, L, 2) landmarks in pixels.
        shape: (L, 3) points in the head's frame, cm.
        rotation: (N, 3, 3), head to camera.
        translation: (N, 3), cm, head to camera.
        camera: The camera.
        threshold_px: Where Huber's loss turns into a line.
        confidence: (N, L) >= 0, how much each landmark counts; None for 1.

    Returns:
        normal: (N, 6, 6), the approximate second derivative.
        gradient: (N, 6), the first derivative of the loss.
    """
    normal = np.empty((len(seen), 6, 6))
    gradient = np.empty((len(seen), 6))
    for start in range(0, len(seen), CHUNK_FRAMES):
        part = slice(start, start + CHUNK_FRAMES)
        pixels, by_pose, _ = project_with_derivatives(shape, rotation[part], translation[part], camera)
        difference = pixels - seen[part]
        weights = huber_weights(np.linalg.norm(difference, axis=-1), threshold_px)
        if confidence is not None:
            weights = weights * confidence[part]
        weighted = (by_pose * weights[..., None, None]).reshape(len(pixels), -1, 6).transpose(0, 2, 1)
        normal[part] = weighted @ by_pose.reshape(len(pixels), -1, 6)
        gradient[part] = (weighted @ difference.reshape(len(pixels), -1, 1))[..., 0]
    return normal, gradient

"""One frame: figure, camera and light to a picture, its classes and the truth about its lips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from stages.demo.face import Pose
from stages.demo.figure import FACING, NECK_PIVOT_CM, Figure, Placement, build_figure, parallel_projection
from stages.demo.mesh import Floats, vertex_normals
from stages.demo.rasterise import depth_only, rasterise
from stages.demo.shade import KEY, shade
from stages.demo.texture import background, cloth_texture, head_texture

FOCAL_SHARE = 2.0
BASE_CM = np.array([0.0, -4.0, 85.0])
_SUPERSAMPLE = 2
_SHADOW_SIZE, _SHADOW_SPAN_CM = 512, 64.0


@dataclass(frozen=True)
class Subject:
    """What is made once for a clip.

    Attributes:
        figure: The mesh and its rig.
        head: Texture of skin and hair.
        cloth: Texture of the jacket.
        room: (2 size, 2 size, 3) float32 linear RGB, the background.
        size: Edge of the picture, pixels.
    """

    figure: Figure
    head: NDArray[np.float32]
    cloth: NDArray[np.float32]
    room: NDArray[np.float32]
    size: int

    def empty_room(self) -> NDArray[np.uint8]:
        """The background as it is in every frame, (size, size, 3) uint8 RGB."""
        image = np.empty((self.size, self.size, 3), dtype=np.uint8)
        _develop(self.room, image)
        return image


@dataclass(frozen=True)
class Frame:
    """A rendered frame.

    Attributes:
        image: (size, size, 3) uint8 RGB.
        classes: (size, size) uint8: 0 background, 1 torso, 2 neck, 3 head with hair.
        landmarks_cm: (468, 3) float64, head frame, on the rendered surface.
        landmarks_px: (468, 2) float64.
    """

    image: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    landmarks_cm: Floats
    landmarks_px: Floats


@lru_cache(maxsize=1)
def _figure() -> Figure:
    return build_figure()


def make_subject(size: int, seed: int) -> Subject:
    """Build the figure and paint its textures, for square frames of ``size`` pixels."""
    room = background(size * _SUPERSAMPLE, seed)
    return Subject(_figure(), head_texture(seed), cloth_texture(seed), room, size)


def render(subject: Subject, pose: Pose, placement: Placement, gaze_deg: Floats) -> Frame:
    """Draw one frame.

    Args:
        subject: From ``make_subject``.
        pose: State of the face.
        placement: Of head and body.
        gaze_deg: (2,) yaw and pitch of the eyes away from the camera.

    Returns:
        The frame with its truth.
    """
    figure, fine = subject.figure, subject.size * _SUPERSAMPLE
    shaped = figure.shaped_cm(pose)
    camera = figure.placed_cm(shaped, placement)
    normals = np.empty_like(camera)
    vertex_normals(camera, figure.triangles, normals)
    screen = project(camera, subject.size) * _SUPERSAMPLE
    near = 1.0 / camera[:, 2]
    depth = np.empty((fine, fine), dtype=np.float32)
    seen = np.empty((fine, fine), dtype=np.int32)
    weights = np.empty((fine, fine, 2), dtype=np.float32)
    rasterise(np.column_stack([screen, near]), figure.triangles, depth, seen, weights)
    shadow, basis = _shadow(figure, camera)
    light = subject.room.copy()
    fine_classes = np.empty((fine, fine), dtype=np.uint8)
    shade(
        seen, weights, near, figure.triangles, figure.material, camera, normals,
        figure.with_gaze(placement, gaze_deg), subject.head, subject.cloth, shadow, basis, light, fine_classes,
    )  # fmt: skip
    image = np.empty((subject.size, subject.size, 3), dtype=np.uint8)
    classes = np.empty((subject.size, subject.size), dtype=np.uint8)
    _develop(light, image)
    _vote(fine_classes, classes)
    face = slice(0, 468)
    return Frame(image, classes, shaped[face], project(camera[face], subject.size))


def project(camera_cm: Floats, size: int) -> Floats:
    """Points (n, 3) in camera axes to pixels (n, 2) of the square frame, whose middle is the principal point."""
    return np.asarray(FOCAL_SHARE * size * camera_cm[:, :2] / camera_cm[:, 2:] + size / 2)


def _shadow(figure: Figure, camera_cm: Floats) -> tuple[NDArray[np.float32], Floats]:
    """The key lamp's depth map, and the (3, 4) matrix from camera axes into it."""
    centre = FACING @ NECK_PIVOT_CM + BASE_CM
    unit = parallel_projection(
        np.concatenate([np.zeros((1, 3)), np.eye(3)]), KEY, centre, _SHADOW_SPAN_CM, _SHADOW_SIZE
    )
    basis = np.column_stack([(unit[1:] - unit[0]).T, unit[0]])
    shadow = np.empty((_SHADOW_SIZE, _SHADOW_SIZE), dtype=np.float32)
    depth_only(camera_cm @ basis[:, :3].T + basis[:, 3], figure.triangles, shadow)
    return shadow, basis


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _develop(linear: NDArray[np.float32], image: NDArray[np.uint8]) -> None:
    """Apply a film-like curve to the fine pixels and average them: (2 h, 2 w, 3) linear to (h, w, 3) levels."""
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            for c in range(3):
                total = 0.0
                for k in range(4):
                    value = max(linear[2 * y + k // 2, 2 * x + k % 2, c], 0.0)
                    toned = 1.2 * value * (1 + 0.18 * value) / (1 + 0.8 * value)
                    # The curve comes before the average: so bright edges stay smooth.
                    total += np.sqrt(min(toned, 1.0))
                image[y, x, c] = np.uint8(min(total * 63.75 + 0.5, 255.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _vote(fine: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
    """The class of most of four fine pixels, the nearer one where they tie: (2 h, 2 w) to (h, w)."""
    height, width = classes.shape
    votes = np.zeros(4, dtype=np.int64)
    for y in range(height):
        for x in range(width):
            votes[:] = 0
            for k in range(4):
                votes[fine[2 * y + k // 2, 2 * x + k % 2]] += 1
            best = 3
            for kind in range(2, -1, -1):
                if votes[kind] > votes[best]:
                    best = kind
            classes[y, x] = best

"""Points that stick to the face's skin, followed by its texture through a clip.

A landmark detector knows where a face's parts are, but not from pixel to pixel: when the head turns, its landmarks
slide over the skin, and the poses solved from them turn too far or not far enough. Here every frame is unrolled onto
the face's own surface, seen from the front, and compared with what the clip usually shows there; what is left of
movement (Lucas, Kanade 1981, in a pyramid) tells where each point of the skin really is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator

from stages.vision.face_measures import LEFT_EYE_RING, RIGHT_EYE_RING
from stages.vision.images import Grey
from stages.vision.reprojection import Floats, Pinhole, project

Float32 = NDArray[np.float32]

_MARGIN_CM = 0.6
_EYE_MARGIN_CM = 0.45
_POINTS = 300
_WINDOW = 21
_QUALITY = 0.01
_SPACING = 5
_LEVELS = 2
_CONTRAST_SIGMA = 6.0  # of the unrolled picture's pixels
_FARTHEST = 8.0  # pixels of the unrolled picture that skin may be off
_MOST_DIFFERENCE = 14.0  # 8-bit levels of the evened picture


@dataclass(frozen=True)
class Surface:
    """A face's surface over a grid of the head frame's x-y plane, seen from the front, rows from top to bottom.

    Attributes:
        points_cm: (H, W, 3) float64, head frame.
        step_cm: From one column or row to the next.
        mask: (H, W) uint8, 255 where the skin is moved by the head alone: not around eyes and mouth.
    """

    points_cm: Floats
    step_cm: float
    mask: Grey

    def at(self, pixels: Floats) -> Floats:
        """The surface's points at pixel indices of the unrolled picture: (..., 2) column, row to (..., 3) cm."""
        maps = pixels.reshape(1, -1, 2).astype(np.float32)
        found = cv2.remap(
            self.points_cm.astype(np.float32),
            maps[..., 0],
            maps[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(found, np.float64).reshape(*pixels.shape[:-1], 3)


def build_surface(face_cm: Floats, rigid: NDArray[np.int64], step_cm: float) -> Surface:
    """The upper face's surface.

    Args:
        face_cm: (468, 3), the subject's face at rest.
        rigid: Landmarks that expressions hardly move; the surface covers their hull.
        step_cm: Size of a pixel of the unrolled picture.
    """
    hull = cv2.convexHull(face_cm[rigid, :2].astype(np.float32))[:, 0].astype(np.float64)
    low, high = hull.min(axis=0) - _MARGIN_CM, hull.max(axis=0) + _MARGIN_CM
    x, y = np.meshgrid(np.arange(low[0], high[0], step_cm), np.arange(high[1], low[1], -step_cm))
    z = LinearNDInterpolator(face_cm[:, :2], face_cm[:, 2])(x, y)
    points = np.stack([x, y, np.where(np.isfinite(z), z, np.nanmin(z))], axis=-1)

    def pixels(outline_cm: Floats) -> NDArray[np.int32]:
        corners: NDArray[np.int32] = np.round((outline_cm - (low[0], high[1])) / (step_cm, -step_cm)).astype(np.int32)
        return corners

    mask = np.zeros(x.shape, np.uint8)
    cv2.fillPoly(mask, [pixels(hull)], 255)
    eyes = np.zeros_like(mask)
    for ring in (RIGHT_EYE_RING, LEFT_EYE_RING):
        cv2.fillPoly(eyes, [pixels(face_cm[ring, :2])], 255)
    reach = max(1, round(_EYE_MARGIN_CM / step_cm))
    eyes = cv2.dilate(eyes, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    mask[(eyes > 0) | ~np.isfinite(z)] = 0
    return Surface(points, step_cm, mask)


def unroll(grey: Grey, surface: Surface, rotation: Floats, translation: Floats, camera: Pinhole) -> Grey:
    """A frame as its face's surface shows it, its contrast evened out.

    Args:
        grey: (S, S) uint8, the frame's luminance.
        surface: Of the face.
        rotation: (3, 3), head to camera.
        translation: (3,), cm.
        camera: At the frame's size.

    Returns:
        (H, W) uint8.
    """
    shape = surface.points_cm.shape
    places = project(surface.points_cm.reshape(-1, 3), rotation[None], translation[None], camera)[0] - 0.5
    maps = places.reshape(*shape[:2], 2).astype(np.float32)
    flat = cv2.remap(grey, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return even(flat)


def even(grey: Grey) -> Grey:
    """A picture without its light: the local mean taken away, the local contrast made the same everywhere."""
    values = grey.astype(np.float32)
    detail = values - cv2.GaussianBlur(values, (0, 0), _CONTRAST_SIGMA)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * _CONTRAST_SIGMA)) + 2.0
    return np.asarray(np.clip(128 + 40 * detail / contrast, 0, 255), np.uint8)


def choose_points(template: Grey, surface: Surface) -> Float32:
    """Places of the unrolled picture that can be told from their neighbours in both directions: (P, 2) float32."""
    found = cv2.goodFeaturesToTrack(template, _POINTS, _QUALITY, _SPACING, mask=surface.mask, blockSize=11)
    return np.zeros((0, 2), np.float32) if found is None else np.asarray(found[:, 0], np.float32)


def follow(template: Grey, unrolled: Grey, points: Float32) -> tuple[Float32, NDArray[np.bool_]]:
    """Where points of the usual picture are in one frame's.

    Args:
        template: (H, W) uint8, what the clip usually shows.
        unrolled: (H, W) uint8, the frame.
        points: (P, 2) float32, column and row.

    Returns:
        places: (P, 2) float32.
        sure: (P,) bool.
    """
    size = (_WINDOW, _WINDOW)
    moved, status, difference = cv2.calcOpticalFlowPyrLK(
        template, unrolled, points[:, None], None, winSize=size, maxLevel=_LEVELS
    )
    places = moved[:, 0]
    near = np.linalg.norm(places - points, axis=1) < _FARTHEST
    sure: NDArray[np.bool_] = (status[:, 0] > 0) & near & (difference[:, 0] < _MOST_DIFFERENCE)
    return places, sure

"""The face: the canonical mesh with holes for eyes and mouth, a rig that moves it, and its smooth surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stages.demo.mesh import Floats, Ints, loop_subdivision
from stages.vision import canonical_face

UPPER_LID = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362))
LOWER_LID = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362))
_UPPER_FOLD = ((247, 30, 29, 27, 28, 56, 190), (467, 260, 259, 257, 258, 286, 414))
_LOWER_FOLD = ((25, 110, 24, 23, 22, 26, 112), (255, 339, 254, 253, 252, 256, 341))
UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
_LIP_OUTLINE = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)  # fmt: skip
_LIP_RED = (
    76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 408, 304, 303, 302, 11, 72, 73, 74, 184,
    62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 407, 272, 271, 268, 12, 38, 41, 42, 183,
)  # fmt: skip
MOUTH_CORNERS = (61, 291)
_MOUTH_LINE_CM = -4.27
_JAW_PIVOT_CM = (-0.5, -3.5)
_JAW_DEG = 9.0
EYE_RADIUS_CM = 1.5


@dataclass(frozen=True)
class Pose:
    """The state of the face, each value as in ``animate.Motion``."""

    opening: float = 0.0
    width: float = 0.0
    protrusion: float = 0.0
    tuck: float = 0.0
    eye_openness: float = 1.0
    brow: float = 0.0


@dataclass(frozen=True)
class FaceRig:
    """What moves the 468 landmarks and makes a smooth surface of them.

    Attributes:
        rest_cm: (468, 3) landmarks at rest, lips parted as in the canonical mesh.
        triangles: (t, 3) of the smooth surface.
        smooth: (v, 468) matrix from landmarks to the vertices of the smooth surface; row k < 468 is landmark k.
        jaw: (468,) in [0, 1], how far a landmark follows the jaw.
        eyes_cm: (2, 3) centres of the eyeballs, the image's left first.
    """

    rest_cm: Floats
    triangles: Ints
    smooth: sparse.csr_matrix
    jaw: Floats
    eyes_cm: Floats

    def landmarks_cm(self, pose: Pose) -> Floats:
        """Where the 468 landmarks are in a pose, (468, 3), head frame, before smoothing."""
        moved = self.rest_cm + _lip_offsets(self.rest_cm, pose)
        moved = jaw_rotated(moved, jaw_angle(pose), self.jaw)
        moved[:, 1] += 0.4 * pose.brow * _bump(self.rest_cm, (3.2, 4.6), (3.2, 1.3), mirrored=True)
        for side in (0, 1):
            self._move_lids(moved, side, pose.eye_openness)
        return moved

    def surface_cm(self, pose: Pose) -> Floats:
        """The smooth surface in a pose, (v, 3), head frame."""
        surface = np.asarray(self.smooth @ self.landmarks_cm(pose))
        for centre in self.eyes_cm:
            offset = surface - centre
            near = np.nonzero((np.abs(offset[:, 0]) < 1.45) & (np.abs(offset[:, 1]) < 0.8) & (offset[:, 2] > 0))[0]
            distance = np.linalg.norm(offset[near], axis=1)
            inside = near[distance < EYE_RADIUS_CM + 0.05]
            radius = np.linalg.norm(offset[inside], axis=1, keepdims=True)
            surface[inside] = centre + offset[inside] / radius * (EYE_RADIUS_CM + 0.05)
        return surface

    def _move_lids(self, moved: Floats, side: int, openness: float) -> None:
        upper, lower = list(UPPER_LID[side][1:-1]), list(LOWER_LID[side][1:-1])
        gap = self.rest_cm[upper] - self.rest_cm[lower]
        gap[:, 2] = 0
        lift = 1.16 * openness - 1
        closing = min(lift, 0.0)
        moved[upper] += (0.86 * closing + max(lift, 0.0)) * gap
        moved[list(_UPPER_FOLD[side])] += (0.42 * closing + 0.3 * max(lift, 0.0)) * gap
        moved[lower] -= 0.14 * closing * gap
        moved[list(_LOWER_FOLD[side])] -= 0.08 * closing * gap


def build_rig() -> FaceRig:
    """Make the rig from the canonical mesh: cut the eyes and the mouth out and smooth it twice."""
    rest = canonical_face.vertices_cm.astype(np.float64)
    holes = [set(UPPER_LID[s]) | set(LOWER_LID[s]) for s in (0, 1)] + [set(UPPER_LIP) | set(LOWER_LIP)]
    kept = [t for t in canonical_face.triangles.tolist() if not any(set(t) <= hole for hole in holes)]
    triangles = np.array(kept, dtype=np.int64)
    corners = (78, 308, 33, 133, 263, 362)
    first, once = loop_subdivision(triangles, len(rest), corners)
    second, twice = loop_subdivision(once, first.shape[0], corners)
    eyes = np.stack([_eye_centre(rest, side) for side in (0, 1)])
    return FaceRig(rest, twice, sparse.csr_matrix(second @ first), _jaw_weights(rest), eyes)


def jaw_angle(pose: Pose) -> float:
    """How far the jaw is rotated, radians; 0 when the lips are shut."""
    return float(np.radians(_JAW_DEG) * pose.opening)


def jaw_rotated(points_cm: Floats, angle: float, weight: Floats | float = 1.0) -> Floats:
    """Points (n, 3) moved with the jaw, each by its weight (n,) of the whole rotation (radians)."""
    share = angle * np.broadcast_to(np.asarray(weight, dtype=np.float64), len(points_cm))
    cos, sin = np.cos(share), np.sin(share)
    y, z = points_cm[:, 1] - _JAW_PIVOT_CM[0], points_cm[:, 2] - _JAW_PIVOT_CM[1]
    return np.stack(
        [points_cm[:, 0], _JAW_PIVOT_CM[0] + cos * y - sin * z, _JAW_PIVOT_CM[1] + sin * y + cos * z], axis=1
    )


def lip_attribute() -> Floats:
    """(468,): 1 on the red of the lips, 0.45 on their outline, 0 elsewhere."""
    weight = np.zeros(468)
    weight[list(_LIP_RED + UPPER_LIP + LOWER_LIP)] = 1.0
    weight[list(_LIP_OUTLINE)] = 0.45
    return weight


def rim_attribute() -> Floats:
    """(468,): 1 on the upper lids' edge, where the lashes are, 0.45 on the lower one's, 0 elsewhere."""
    weight = np.zeros(468)
    for side in (0, 1):
        weight[list(LOWER_LID[side])] = 0.45
        weight[list(UPPER_LID[side])] = 1.0
    return weight


def lip_measures_cm(landmarks_cm: Floats) -> tuple[float, float]:
    """Opening (inner lips, landmarks 13 to 14) and width (corners, 61 to 291), in cm."""
    opening = np.linalg.norm(landmarks_cm[13] - landmarks_cm[14])
    width = np.linalg.norm(landmarks_cm[MOUTH_CORNERS[0]] - landmarks_cm[MOUTH_CORNERS[1]])
    return float(opening), float(width)


def _lip_offsets(rest: Floats, pose: Pose) -> Floats:
    """(468, 3): what the lips do beside the jaw's rotation: shut, part, round, spread, tuck."""
    offset = np.zeros_like(rest)
    upper, lower = np.array(UPPER_LIP), np.array(LOWER_LIP)
    gap = rest[upper] - rest[lower]
    below = _below_mouth_line(rest)
    for line, share, side in ((upper, -0.5, 1 - below), (lower, 0.5, below)):
        distance = np.linalg.norm(rest[:, None, :2] - rest[None, line, :2], axis=2)
        nearest = distance.argmin(axis=1)
        weight = side * np.exp(-((distance.min(axis=1) / 0.62) ** 2))
        offset += share * weight[:, None] * gap[nearest]
        raise_cm = 0.28 * pose.opening if share < 0 else -0.1 * pose.opening
        offset[:, 1] += raise_cm * weight * np.exp(-((rest[:, 0] / 1.9) ** 2))
        if share > 0:
            offset += pose.tuck * weight[:, None] * np.array([0.0, 0.12, -0.3])
    lateral = np.clip((5.8 - np.abs(rest[:, 0])) / 3.3, 0, 1)
    band = np.exp(-(((rest[:, 1] - _MOUTH_LINE_CM) / 1.9) ** 2)) * lateral**1.5
    offset[:, 0] += 0.2 * pose.width * band * np.clip(rest[:, 0], -2.6, 2.6)
    offset[:, 2] -= 0.12 * pose.width * band * np.minimum(np.abs(rest[:, 0]) / 2.4, 1)
    offset[:, 2] += 0.65 * pose.protrusion * _bump(rest, (0.0, _MOUTH_LINE_CM), (2.1, 1.25), mirrored=False)
    return offset


def _below_mouth_line(rest: Floats) -> Floats:
    """(468,): 0 above the mouth line, 1 below it; a sharp step between the lips, a soft one beside them."""
    half = 0.06 + 0.55 * np.maximum(np.abs(rest[:, 0]) - 1.6, 0)
    step = np.clip((_MOUTH_LINE_CM - rest[:, 1]) / (2 * half) + 0.5, 0, 1)
    weight = step * step * (3 - 2 * step)
    weight[list(UPPER_LIP[1:-1])] = 0.0
    weight[list(LOWER_LIP[1:-1])] = 1.0
    return np.asarray(np.where(rest[:, 2] < -5, 0, weight))


def _jaw_weights(rest: Floats) -> Floats:
    return _below_mouth_line(rest)


def _eye_centre(rest: Floats, side: int) -> NDArray[np.float64]:
    """The centre that puts the eyeball as close behind the lids' edge as it can lie."""
    rim = rest[list(UPPER_LID[side] + LOWER_LID[side])]
    centre = np.array([rim[:, 0].mean() * 0.985, rim[:, 1].mean(), 0.0])
    flat = np.sum((rim[:, :2] - centre[:2]) ** 2, axis=1)
    centre[2] = np.min(rim[:, 2] - np.sqrt(EYE_RADIUS_CM**2 - flat)) - 0.03
    return centre


def _bump(rest: Floats, centre: tuple[float, float], sigma: tuple[float, float], *, mirrored: bool) -> Floats:
    """(468,): a Gaussian in x and y; ``mirrored`` puts one on each side of the face."""
    x = np.abs(rest[:, 0]) if mirrored else rest[:, 0]
    return np.asarray(np.exp(-(((x - centre[0]) / sigma[0]) ** 2) - ((rest[:, 1] - centre[1]) / sigma[1]) ** 2))

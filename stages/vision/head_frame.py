"""Where the head is in a frame, from its landmarks: a similarity transform, the face's oval, the jaw's line.

Everything is kept in fractions of the frame's side, so that it serves any working size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stages.errors import BadInput
from stages.vision.face_measures import FACE_OVAL, OUTER_LIP

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_OVAL: tuple[int, ...] = tuple(FACE_OVAL.tolist())
_JAW = slice(10, 27)  # 361 ... 152 ... 132: between the lobes of the ears
_LEFT_EAR, _RIGHT_EAR = 234, 454
_CHIN = 152
_FEATURES: tuple[tuple[int, ...], ...] = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    tuple(OUTER_LIP.tolist()),
)
_LOW_JAW = slice(12, 25)  # 397 ... 152 ... 172
_SHADOW_LENGTH = 0.25  # in face widths
_JAW_MARGIN = 0.05  # how far outside of the landmarks the jaw's line runs, of the distance to the middle
_SHIFT_BITS = 4  # sub-pixel precision of polygon corners


@dataclass(frozen=True)
class HeadFrame:
    """The head's place in one frame. Lengths are fractions of the frame's side, x right, y down.

    Attributes:
        centre: (2,) float32, midway between the ears.
        width: Distance between the ears, in depth as well, so that turning the head leaves it as it is.
        roll_rad: Angle of the line through the ears, clockwise as the viewer sees it.
        oval: (36, 2) float32, outline of the face, chin and jaw included.
        features: Polygons around eyes, brows and lips, each (K, 2) float32.
    """

    centre: Float32
    width: float
    roll_rad: float
    oval: Float32
    features: tuple[Float32, ...]

    @property
    def chin(self) -> Float32:
        """(2,) float32, the lowest point of the jaw."""
        chin: Float32 = self.oval[_OVAL.index(_CHIN)]
        return chin

    def to_head(self, size_px: int) -> Float32:
        """(2, 3) float32, from pixel indices of a frame ``size_px`` wide to head coordinates.

        Head coordinates have their origin between the ears and the distance between the ears as unit;
        the first axis runs along the line through the ears, the second from the ears to the chin.
        """
        cosine, sine = np.cos(self.roll_rad), np.sin(self.roll_rad)
        turn = np.array([[cosine, sine], [-sine, cosine]]) / (self.width * size_px)
        offset = -turn @ (self.centre * size_px - 0.5)
        affine: Float32 = np.concatenate([turn, offset[:, None]], axis=1).astype(np.float32)
        return affine

    def face_mask(self, size_px: int) -> UInt8:
        """(size_px, size_px) uint8, 1 inside the face's oval."""
        return _fill([self.oval], size_px)

    def feature_mask(self, size_px: int) -> UInt8:
        """(size_px, size_px) uint8, 1 on eyes, brows and lips."""
        return _fill(list(self.features), size_px)

    def above_jaw(self, size_px: int) -> UInt8:
        """(size_px, size_px) uint8, 1 on the head's side of the line that parts head and neck.

        The line follows the jaw from ear lobe to ear lobe and runs on along the line through the ears. It
        lies a little outside of the landmarks, which sit inside the visible edge of a full cheek.
        """
        along = np.array([np.cos(self.roll_rad), np.sin(self.roll_rad)])
        up = np.array([np.sin(self.roll_rad), -np.cos(self.roll_rad)])
        jaw = self.oval[_JAW]
        jaw = jaw + _JAW_MARGIN * ((jaw - self.centre) @ along)[:, None] * along
        right, left = jaw[0] + 4 * along, jaw[-1] - 4 * along
        line = np.concatenate([[right + 4 * up, right], jaw, [left, left + 4 * up]])
        return _fill([line.astype(np.float32)], size_px)

    def under_jaw(self, size_px: int) -> UInt8:
        """(size_px, size_px) uint8, 1 where the jaw casts its shadow: just below it, the ends left out."""
        down = np.array([-np.sin(self.roll_rad), np.cos(self.roll_rad)])
        jaw = self.oval[_LOW_JAW]
        line = np.concatenate([jaw, (jaw + _SHADOW_LENGTH * self.width * down)[::-1]])
        return _fill([line.astype(np.float32)], size_px)


def _fill(polygons: list[Float32], size_px: int) -> UInt8:
    mask = np.zeros((size_px, size_px), np.uint8)
    for polygon in polygons:
        corners = np.round((polygon * size_px - 0.5) * (1 << _SHIFT_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [corners], 1, cv2.LINE_8, _SHIFT_BITS)
    return mask


def head_frames(points: Float32, found: npt.NDArray[np.bool_], size_px: int) -> list[HeadFrame]:
    """The head's place in every frame; frames without a face take it from their neighbours.

    Args:
        points: (N, 478, 3) float32, landmarks in pixels.
        found: (N,) bool, whether a frame has landmarks.
        size_px: Side of the frames.

    Raises:
        BadInput: No frame has a face.
    """
    if not found.any():
        raise BadInput("no frame has a face", hint="use a clip in which a face is seen")
    shown = np.flatnonzero(found)
    everywhere = np.arange(len(points))
    wanted = sorted({*_OVAL, _LEFT_EAR, _RIGHT_EAR, *(index for feature in _FEATURES for index in feature)})
    place = {index: at for at, index in enumerate(wanted)}
    known = points[shown][:, wanted].reshape(len(shown), -1) / size_px
    bridged = np.stack([np.interp(everywhere, shown, column) for column in known.T], axis=1)
    steady = _smooth(bridged.reshape(len(points), len(wanted), 3))
    span = steady[:, place[_RIGHT_EAR]] - steady[:, place[_LEFT_EAR]]
    widths = _smooth(np.linalg.norm(span, axis=1), sigma_frames=5.0)
    rolls = np.arctan2(span[:, 1], span[:, 0])
    centres = (steady[:, place[_RIGHT_EAR]] + steady[:, place[_LEFT_EAR]])[:, :2] / 2
    oval = [place[index] for index in _OVAL]
    features = [[place[index] for index in feature] for feature in _FEATURES]
    flat = steady[:, :, :2].astype(np.float32)
    return [
        HeadFrame(
            centre=centres[t].astype(np.float32),
            width=float(widths[t]),
            roll_rad=float(rolls[t]),
            oval=flat[t, oval],
            features=tuple(flat[t, feature] for feature in features),
        )
        for t in everywhere
    ]


def _smooth(values: npt.NDArray[np.float64], sigma_frames: float = 0.7) -> npt.NDArray[np.float64]:
    """Gaussian smoothing along time: landmarks quiver by a pixel from frame to frame, jaws don't."""
    radius = int(np.ceil(3 * sigma_frames))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_frames) ** 2)
    weights /= weights.sum()
    count = len(values)
    smoothed = np.zeros_like(values, dtype=np.float64)
    for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
        smoothed += weight * values[np.clip(np.arange(count) + offset, 0, count - 1)]
    return smoothed

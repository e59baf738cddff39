"""What eyes and mouth do, measured on landmarks alone: the same for true frames and for rendered ones.

Left and right are the subject's own. Landmarks are MediaPipe's 478, in pixels of the camera that is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks, peak_prominences, peak_widths

from stages.vision.reprojection import Pinhole

Floats = NDArray[np.float64]
Reals = NDArray[np.float32] | NDArray[np.float64]
Box = tuple[int, int, int, int]

RIGHT_EYE = np.array([33, 160, 158, 133, 153, 144])
"""(6,) the eye on the image's left: outer corner, two on the upper lid, inner corner, two on the lower lid."""

LEFT_EYE = np.array([263, 387, 385, 362, 380, 373])
"""(6,) the eye on the image's right, in the order of ``RIGHT_EYE``."""

RIGHT_EYE_RING = np.array([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7])
"""(16,) the lids' edges of the eye on the image's left, all the way round."""

LEFT_EYE_RING = np.array([263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249])
"""(16,) the same of the eye on the image's right."""

OUTER_EYE_CORNERS = np.array([33, 263])
"""(2,) right and left."""

MOUTH_CORNERS = np.array([61, 291])
"""(2,) right and left."""

OUTER_LIP = np.array(
    [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146]
)  # fmt: skip
"""(20,) the lips' outer edge: from the right corner along the upper lip to the left one, and back along the lower."""

INNER_LIP = np.array(
    [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
)  # fmt: skip
"""(20,) the lips' inner edge, in the order of ``OUTER_LIP``."""

LIP_INDICES = np.concatenate((OUTER_LIP, INNER_LIP))
"""(40,) both edges of the lips: the order of ``Track.mouth_shape``."""

LIP_GAPS = np.array([[82, 87], [13, 14], [312, 317]])
"""(3, 2) pairs on the inner edge, upper and lower, whose mean distance is the mouth's opening."""

FACE_OVAL = np.array(
    [
        *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
        *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    ]
)
"""(36,) the face's outline, from the forehead clockwise in the picture."""

BROWS = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
"""The edges of both brows, below and above."""

_MOST_BROW_MM = 15.0  # from their usual place: no face can do more
_BLINK_DEPTH = 0.35  # below the neighbourhood, as a share of it
_BLINK_NOISE = 4.0  # standard deviations of the open eye that the depth must exceed, within
_BLINK_DEPTH_LIMIT = 0.6  # this depth, which always counts
_BLINK_PROMINENCE = 0.6  # of the depth: between two quick blinks the eye opens only half
_BLINK_FRAMES = (1.0, 12.0)  # width at half the prominence
_BASELINE_FRAMES = 25  # each side


@dataclass(frozen=True)
class Mouth:
    """What the mouth does in each frame, the head's pose removed; see ``stages.formats.Track``.

    Attributes:
        opening: (N,) float32 >= 0, inner lips' gap over the outer eye corners' distance.
        width: (N,) float32 > 0, distance of the mouth's corners over that of the outer eye corners.
        shape: (N, 40, 2) float32, ``LIP_INDICES`` in the head's frame, x and y in cm.
    """

    opening: NDArray[np.float32]
    width: NDArray[np.float32]
    shape: NDArray[np.float32]


def eye_aspect_ratio(points: Reals) -> Floats:
    """How tall each eye is over its width (Soukupová and Čech, Real-Time Eye Blink Detection, 2016, eq. 1).

    Args:
        points: (N, 478, 2 or 3) landmarks in pixels.

    Returns:
        (N, 2) right and left eye; 0 where an eye has no width, as in a frame without a face.
    """
    ratios = []
    for eye in (RIGHT_EYE, LEFT_EYE):
        corners = points[:, eye, :2].astype(np.float64)
        tall = np.linalg.norm(corners[:, [1, 2]] - corners[:, [5, 4]], axis=-1).sum(axis=1)
        wide = 2 * np.linalg.norm(corners[:, 0] - corners[:, 3], axis=-1)
        ratios.append(np.divide(tall, wide, out=np.zeros_like(tall), where=wide > 0))
    return np.stack(ratios, axis=1)


def open_eye_ratio(points: Reals) -> float:
    """The mean eye aspect ratio that counts as open in this clip: the 80th percentile over the frames given."""
    return float(np.percentile(eye_aspect_ratio(points).mean(axis=1), 80))


def eye_openness(points: Reals, open_ratio: float) -> Floats:
    """How open the eyes are: mean aspect ratio of both over that of open ones.

    Args:
        points: (N, 478, 2 or 3) landmarks in pixels.
        open_ratio: What ``open_eye_ratio`` gave for the clip.

    Returns:
        (N,) in [0, 1.5]; 0 is shut, 1 open.
    """
    openness: Floats = np.clip(eye_aspect_ratio(points).mean(axis=1) / max(open_ratio, 1e-6), 0.0, 1.5)
    return openness


def find_blinks(openness: Reals) -> NDArray[np.int64]:
    """The frame in which each blink is deepest.

    A blink is a dip of the openness below its own neighbourhood (the median over two seconds) that is deep in
    relation to it, stands out from the clip's noise, and is over within half a second. A slow lowering of the lids,
    as with a glance down, moves the neighbourhood along and does not count.

    Args:
        openness: (N,) at 25 frames a second.

    Returns:
        (B,) int64, ascending.
    """
    values = np.asarray(openness, dtype=np.float64)
    if len(values) < 5:
        return np.zeros(0, dtype=np.int64)
    padded = np.pad(values, _BASELINE_FRAMES, mode="reflect" if len(values) > _BASELINE_FRAMES else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _BASELINE_FRAMES + 1)
    baseline = np.maximum(np.median(windows, axis=1), 1e-3)
    depth = 1.0 - values / baseline
    noise = 1.4826 * float(np.median(np.abs(depth - np.median(depth))))
    wanted = float(np.clip(_BLINK_NOISE * noise, _BLINK_DEPTH, _BLINK_DEPTH_LIMIT))
    # Dips that the clip's ends cut off are still dips.
    framed = np.concatenate(([0.0], depth, [0.0]))
    peaks, _ = find_peaks(framed, height=wanted)
    prominences = peak_prominences(framed, peaks)
    widths = peak_widths(framed, peaks, rel_height=0.5, prominence_data=prominences)[0]
    shortest, longest = _BLINK_FRAMES
    good = (prominences[0] >= _BLINK_PROMINENCE * wanted) & (widths >= shortest) & (widths <= longest)
    blinks: NDArray[np.int64] = (peaks[good] - 1).astype(np.int64)
    return blinks


def compare_blinks(found: NDArray[np.int64], true: NDArray[np.int64], tolerance: int = 3) -> tuple[int, int]:
    """How many true blinks were missed, and how many were invented.

    Args:
        found: (B,) int64, frames.
        true: (T,) int64, frames.
        tolerance: Two blinks so many frames apart, at most, are one.

    Returns:
        Missed and invented.
    """
    near = np.abs(found[:, None] - true[None, :]) <= tolerance
    return int((~near.any(axis=0)).sum()), int((~near.any(axis=1)).sum())


def lift(pixels: Reals, depth_cm: Reals, rotation: Floats, translation: Floats, camera: Pinhole) -> Floats:
    """Where the viewing rays of landmarks meet the face: the plane of each landmark's own depth in the head's frame.

    The landmark's measured depth is not used: it is noisier than the pose.

    Args:
        pixels: (N, L, 2) in pixels.
        depth_cm: (L,) z of each landmark in the head's frame.
        rotation: (N, 3, 3), head to camera.
        translation: (N, 3), cm, head to camera.
        camera: The camera.

    Returns:
        (N, L, 2): x and y in the head's frame, cm.
    """
    rays = np.ones((*pixels.shape[:2], 3))
    rays[..., 0] = (pixels[..., 0] - camera.centre_x_px) / camera.focal_px
    rays[..., 1] = (pixels[..., 1] - camera.centre_y_px) / camera.focal_px
    rays = rays @ rotation
    origin = -(translation[:, None] @ rotation)
    along = (depth_cm - origin[..., 2]) / rays[..., 2]
    lifted: Floats = origin[..., :2] + along[..., None] * rays[..., :2]
    return lifted


def brow_raise_mm(
    points: Reals, rotation: Reals, translation: Reals, camera: Pinhole, face_cm: Reals
) -> NDArray[np.float32]:
    """How far the brows are above their usual place, the head's pose removed.

    Args:
        points: (N, 478, 2 or 3) landmarks in pixels, N at least 1.
        rotation: (N, 3, 3), head to camera.
        translation: (N, 3), cm, head to camera.
        camera: The camera.
        face_cm: (468, 3) this face in the head's frame.

    Returns:
        (N,) in [-15, 15] mm, the mean of both brows over their median.
    """
    brows = list(BROWS)
    pixels, depth_cm = points[:, brows, :2].astype(np.float64), face_cm[brows, 2].astype(np.float64)
    lifted = lift(pixels, depth_cm, rotation.astype(np.float64), translation.astype(np.float64), camera)
    height_mm = 10 * lifted[..., 1].mean(axis=1)
    raised = (height_mm - np.median(height_mm)).clip(-_MOST_BROW_MM, _MOST_BROW_MM)
    return np.asarray(raised.round(4), np.float32)


def measure_mouth(
    points: Reals,
    rotation: Reals,
    translation: Reals,
    camera: Pinhole,
    face_cm: Reals,
) -> Mouth:
    """Opening, width and shape of the mouth as seen from the front.

    Args:
        points: (N, 478, 2 or 3) landmarks in the camera's pixels. For a rendered picture of another size, scale
            them first.
        rotation: (N, 3, 3), head to camera: of the same frames.
        translation: (N, 3), cm, head to camera.
        camera: The camera.
        face_cm: (468, 3) this subject's face at rest: the canonical face plus the shape offset.

    Returns:
        The mouth in each frame.
    """
    rotation, translation = rotation.astype(np.float64), translation.astype(np.float64)
    face = face_cm.astype(np.float64)
    wanted = np.concatenate((LIP_INDICES, OUTER_EYE_CORNERS))
    front = lift(points[:, wanted, :2].astype(np.float64), face[wanted, 2], rotation, translation, camera)
    place = {int(landmark): row for row, landmark in enumerate(wanted)}

    def distance(first: int, second: int) -> Floats:
        length: Floats = np.linalg.norm(front[:, place[first]] - front[:, place[second]], axis=-1)
        return length

    unit = np.maximum(distance(*OUTER_EYE_CORNERS.tolist()), 1e-6)
    gap = np.mean([distance(*pair) for pair in LIP_GAPS.tolist()], axis=0)
    return Mouth(
        opening=(gap / unit).astype(np.float32),
        width=(distance(*MOUTH_CORNERS.tolist()) / unit).astype(np.float32),
        shape=front[:, : len(LIP_INDICES)].astype(np.float32),
    )


def _box(points: Reals, size_px: int, margin: tuple[float, float]) -> Box:
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    margins = np.array(margin) * (high - low).max()
    x0, y0 = np.clip(np.floor(low - margins), 0, size_px - 1).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(high + margins), 1, size_px).astype(int).tolist()
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def mouth_box(points: Reals, size_px: int) -> Box:
    """A box around the lips with room for the mouth to move.

    Args:
        points: (478, 2 or 3) landmarks of one frame in pixels.
        size_px: Side of the picture.

    Returns:
        (x0, y0, x1, y1) in whole pixels within the picture; x1 and y1 are exclusive, the box is never empty.
    """
    return _box(points[LIP_INDICES], size_px, (0.15, 0.25))


def face_box(points: Reals, size_px: int) -> Box:
    """A box around the face's outline, from the chin to the forehead; arguments and result as for ``mouth_box``."""
    return _box(points[FACE_OVAL], size_px, (0.05, 0.05))

"""From another program's head frame to ours: a fixed turn, shift and scale, found from landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from stages.errors import BadInput
from stages.formats import Landmarks, Track
from stages.vision.canonical_face import rigid_weights, vertices_cm
from stages.vision.face_measures import brow_raise_mm, eye_openness, find_blinks, lift, measure_mouth, open_eye_ratio
from stages.vision.reprojection import Pinhole, project

Floats = NDArray[np.float64]

HOPELESS_RMS = 8.0 / 512
"""Distance of landmarks from the poses' own, over the frame's side, beyond which the two do not belong together."""

_SOME_FRAMES = 40
_MOST_OFFSET_CM = 1.5


@dataclass(frozen=True)
class Alignment:
    """How our head lies in theirs.

    Attributes:
        turn: (3, 3), from our head's frame to theirs.
        shift_cm: (3,), our origin in theirs, in true centimetres.
        scale: True centimetres in a centimetre of theirs.
        rms_px: How well landmarks and poses agree.
    """

    turn: Floats
    shift_cm: Floats
    scale: float
    rms_px: float

    def apply(self, rotation: Floats, translation: Floats) -> tuple[Floats, Floats]:
        """Their poses as ours: (N, 3, 3) and (N, 3), head to camera, cm."""
        return rotation @ self.turn, rotation @ self.shift_cm + self.scale * translation


def align_head(points: NDArray[np.float32], rotation: Floats, translation: Floats, camera: Pinhole) -> Alignment:
    """Find how our head lies in theirs.

    Args:
        points: (N, 478, 3) landmarks in pixels.
        rotation: (N, 3, 3), their head to the camera.
        translation: (N, 3), in their centimetres.
        camera: In pixels.

    Raises:
        BadInput: There is no landmark, or landmarks and poses do not belong together.
    """
    if not len(points):
        raise BadInput("no frame with a pose shows a face", hint="check that pictures and transforms belong together")
    rigid = np.flatnonzero(rigid_weights > 0)
    shape = vertices_cm[rigid].astype(np.float64)
    some = np.unique(np.linspace(0, len(points) - 1, min(_SOME_FRAMES, len(points))).round().astype(int))

    def alignment(values: Floats) -> Alignment:
        return Alignment(Rotation.from_rotvec(values[:3]).as_matrix(), values[3:6], float(np.exp(values[6])), 0.0)

    def errors(values: Floats, frames: NDArray[np.int64] = some) -> Floats:
        ours = alignment(values).apply(rotation[frames], translation[frames])
        seen = project(shape, *ours, camera)
        difference: Floats = (seen - points[frames][:, rigid, :2]).ravel()
        return difference

    solved = least_squares(errors, np.zeros(7), loss="huber", f_scale=2.0, x_scale=[0.1] * 3 + [1.0] * 3 + [0.1])
    found = alignment(solved.x)
    rms_px = float(np.sqrt(2 * np.mean(errors(solved.x, np.arange(len(points))) ** 2)))
    limit_px = HOPELESS_RMS * 2 * max(camera.centre_x_px, camera.centre_y_px)
    if not rms_px < limit_px:
        raise BadInput(
            f"pictures and poses do not belong together: landmarks lie {rms_px:.1f} px from where the poses put them",
            hint="give --solve-poses to have them measured anew",
        )
    return Alignment(found.turn, found.shift_cm, found.scale, rms_px)


def measured_track(
    landmarks: Landmarks,
    known: NDArray[np.bool_],
    rotation: Floats,
    translation: Floats,
    camera: Pinhole,
) -> Track:
    """A track of given poses, with this face's shape, its eyes and its mouth measured from landmarks.

    Args:
        landmarks: Of N frames.
        known: (N,) bool, the frames whose pose was given.
        rotation: (N, 3, 3), head to camera.
        translation: (N, 3), cm.
        camera: In pixels.
    """
    tracked = known & landmarks.found
    seen, poses = landmarks.points[tracked], (rotation[tracked], translation[tracked])
    offset_cm = _shape_offset(seen[:, : len(vertices_cm), :2], *poses, camera)
    face_cm = vertices_cm + offset_cm
    mouth = measure_mouth(seen, *poses, camera, face_cm)
    rigid = np.flatnonzero(rigid_weights > 0)
    misses = project(face_cm[rigid].astype(np.float64), *poses, camera) - seen[:, rigid, :2]
    eye_open = _bridged(eye_openness(seen, open_eye_ratio(seen)), tracked)
    return Track(
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        eye_open=eye_open,
        mouth_open=_bridged(mouth.opening, tracked),
        mouth_wide=_bridged(mouth.width, tracked),
        mouth_shape=_bridged(mouth.shape, tracked),
        tracked=tracked,
        blinks=find_blinks(eye_open),
        shape_offset_cm=offset_cm.astype(np.float32),
        focal_px=float(camera.focal_px),
        centre_x_px=float(camera.centre_x_px),
        centre_y_px=float(camera.centre_y_px),
        reprojection_rms_px=round(float(np.sqrt((misses**2).sum(-1).mean())), 6),
        size_px=int(landmarks.size_px),
        brow_mm=_bridged(brow_raise_mm(seen, *poses, camera, face_cm), tracked),
    )


def _shape_offset(pixels: NDArray[np.float32], rotation: Floats, translation: Floats, camera: Pinhole) -> Floats:
    """This face minus the canonical one, (468, 3) cm: where landmarks lie on average, their depth left as it is."""
    offset = np.zeros_like(vertices_cm, dtype=np.float64)
    lifted = lift(pixels, vertices_cm[:, 2], rotation, translation, camera).mean(0)
    offset[:, :2] = (lifted - vertices_cm[:, :2]).clip(-_MOST_OFFSET_CM, _MOST_OFFSET_CM)
    return offset


def _bridged(values: NDArray[np.float32] | Floats, known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values of the known frames, and straight lines between them for the others."""
    frames = np.arange(len(known))
    columns = [np.interp(frames, frames[known], column) for column in values.reshape(len(values), -1).T]
    return np.stack(columns, axis=1).reshape(len(known), *values.shape[1:]).astype(np.float32)

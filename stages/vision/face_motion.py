"""How a tracked face's landmarks move with the mouth's, the eyes' and the brows' numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from radnerf.head_clip import SHUT_BELOW
from radnerf.warp import fit_basis
from stages.formats import Landmarks, Track
from stages.vision.canonical_face import vertices_cm
from stages.vision.face_measures import BROWS, LEFT_EYE, RIGHT_EYE, lift
from stages.vision.reprojection import Pinhole

# An upper eyelid's landmarks and those of the lower one that they meet when the eye shuts (MediaPipe's numbers).
UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)
LOWER_LIDS = (7, 163, 144, 145, 153, 154, 155, 249, 390, 373, 374, 380, 381, 382)

_EYE, _BROW = -2, -1  # among the driving numbers
_LID_REACH_CM = 2.5  # what moves with an eyelid lies within
_MOST_FRAMES = 600  # of each kind
_NOISE_CM = 0.025  # displacements for a whole unit that tell nothing
_BROW_NOISE_CM = 0.005  # a mm of the brows' raising
_MOUTH_TRUST, _EYE_TRUST, _BROW_TRUST = 1.0, 1.0, 10.0  # frames


def face_motion(
    landmarks: Landmarks, track: Track, camera: Pinhole, mouth: Tensor, frames: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find how the face moves.

    Args:
        landmarks: Of every frame.
        track: Poses, this face's shape, how open its eyes are and how high its brows.
        camera: Of the prepared frames.
        mouth: (N, M) float, standardised mouth components.
        frames: (F,) int64, the frames to learn from.

    Returns:
        anchors: (468, 2) float32, cm, the landmarks at rest, across and up the face.
        basis: (M + 2, 468, 2) float32, cm, displacements for each mouth component, for how open the eyes are, and for
            each mm that the brows are raised.
        rest: (M + 2,) float32, the numbers at rest.
        side: (468,) float32, 1 for an upper eyelid's edge, -1 for a lower one's, else 0.
    """
    face_cm = (vertices_cm + track.shape_offset_cm).astype(np.float64)
    eyes = torch.from_numpy(track.eye_open)[frames]
    # An even share of a long clip tells as much, at constant memory; but every blink that it has room for.
    usual, shut = frames[eyes >= SHUT_BELOW], frames[eyes < SHUT_BELOW]
    frames = torch.cat([usual[:: max(1, len(usual) // _MOST_FRAMES)], shut[:: max(1, len(shut) // _MOST_FRAMES)]])
    which = frames.numpy()
    front = torch.from_numpy(
        lift(
            landmarks.points[which, : len(face_cm), :2].astype(np.float64),
            face_cm[:, 2],
            track.rotation[which].astype(np.float64),
            track.translation[which].astype(np.float64),
            camera,
        )
    )
    eyes, brows = (torch.from_numpy(values)[frames][:, None] for values in (track.eye_open, track.brow_mm))
    drive = torch.cat([mouth[frames], eyes, brows], dim=1).double()
    # Eyes are open far longer than shut: at rest is the median of all numbers.
    rest = drive.median(0).values
    anchors = front.median(0).values
    prior = torch.zeros(drive.shape[1], *anchors.shape, dtype=torch.float64)
    upper, lower = list(UPPER_LIDS), list(LOWER_LIDS)
    prior[_EYE, upper] = anchors[upper] - anchors[lower]
    prior[_BROW, list(BROWS), 1] = 0.1
    trust = torch.full((drive.shape[1],), _MOUTH_TRUST)
    trust[_EYE], trust[_BROW] = _EYE_TRUST, _BROW_TRUST
    basis = fit_basis(front - anchors, drive - rest, prior, trust)
    # Blinks are few and short: away from the lids the fit would be the noise of those frames.
    apart = torch.cdist(anchors, anchors[[*UPPER_LIDS, *LOWER_LIDS]]).amin(1)
    basis[_EYE, apart > _LID_REACH_CM] = 0
    # Brows lift the forehead, and what else rises with them is the tracker's confusing them with a nod.
    eye_line = anchors[[*LEFT_EYE, *RIGHT_EYE], 1].mean()
    basis[_BROW, anchors[:, 1] < eye_line] = 0
    basis[_BROW, [*upper, *lower]] = 0
    # What is left of still landmarks is the tracker's noise: it fades out rather than ends, so that skin stays whole.
    size = basis.norm(dim=-1, keepdim=True)
    noise = torch.full((len(basis), 1, 1), _NOISE_CM)
    noise[_BROW] = _BROW_NOISE_CM
    basis *= ((size - noise) / noise).clamp(0, 1)
    side = torch.zeros(len(anchors))
    side[upper], side[lower] = 1.0, -1.0
    return anchors.float(), basis, rest.float(), side

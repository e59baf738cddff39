"""What a clip tells about the torso beneath the head: its colours, its neck, its outline, brought to one posture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stages.formats import HEAD, NECK, TORSO
from stages.vision.median import masked_median
from stages.vision.push_pull import fill
from stages.vision.registration import Scalar, body_shift, shifted

Bools = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

SMALL_PX = 128
"""Side at which smooth things are computed and bodies are registered."""

RIM = 1 / 128
"""Of the frame's side, kept off the head and the scene: mixed pixels of hair, chin and shoulders."""

_LEAST_NECK = 0.001  # share of the frame's area
_SWEEPS = 4
_ROUNDS = 2


@dataclass(frozen=True)
class ClipTorso:
    """The torso without its head, in one posture.

    Attributes:
        rgb: (H, W, 3) uint8, median colour of torso and neck, filled in where never seen.
        neck_rgb: (H, W, 3) uint8, the same of the neck alone, carried on over the whole frame.
        grey: (128, 128) float32 in [0, 1], luminance of ``rgb``.
        share: (128, 128) float32 in [0, 1], how often a pixel was torso, of the frames where no head hid it.
        weight: (128, 128) float32 in [0, 1], how often no head hid it.
    """

    rgb: UInt8
    neck_rgb: UInt8
    grey: Float32
    share: Float32
    weight: Float32

    def in_posture_of(self, rgb: UInt8, labels: UInt8) -> ClipTorso:
        """The same, moved to where the body is in a frame.

        Args:
            rgb: (H, W, 3) uint8, the frame.
            labels: (H, W) uint8, its class map.
        """
        shift = body_shift(self.grey, _small_grey(rgb), _small_mask(known_torso(labels)))
        if not shift.any():
            return self
        return ClipTorso(
            rgb=shifted(self.rgb, shift),
            neck_rgb=shifted(self.neck_rgb, shift),
            grey=shifted(self.grey, shift),
            share=shifted(self.share, shift),
            weight=shifted(self.weight, shift),
        )


def known_torso(labels: UInt8) -> Bools:
    """(H, W) bool, torso and neck of a class map, a rim around everything else left out."""
    reach = max(1, round(RIM * labels.shape[0]))
    body = ((labels == TORSO) | (labels == NECK)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    known: Bools = cv2.erode(body, kernel, borderType=cv2.BORDER_REPLICATE) > 0
    return known


def learn_torso(pictures: UInt8, labels: UInt8) -> ClipTorso:
    """Gather what is seen of the torso over a clip.

    Args:
        pictures: (N, H, W, 3) uint8, frames spread over the clip.
        labels: (N, H, W) uint8, their class maps.
    """
    known = np.stack([known_torso(label) for label in labels])
    shifts = _postures(pictures, known)
    still_pictures = np.stack([shifted(picture, -shift) for picture, shift in zip(pictures, shifts, strict=True)])
    still_labels = np.stack(
        [shifted(label, -shift, cv2.INTER_NEAREST) for label, shift in zip(labels, shifts, strict=True)]
    )
    known = np.stack([known_torso(label) for label in still_labels])
    colour = _typical(still_pictures, known)
    bare = known & (still_labels == NECK)
    neck = _typical(still_pictures, bare) if bare.mean() >= _LEAST_NECK else colour
    weight = _small(np.mean(still_labels != HEAD, axis=0, dtype=np.float32))
    body = _small(np.mean((still_labels == TORSO) | (still_labels == NECK), axis=0, dtype=np.float32))
    share = np.clip(body / np.maximum(weight, 1e-3), 0, 1).astype(np.float32)
    return ClipTorso(colour, neck, _small_grey(colour), share, weight)


def _postures(pictures: UInt8, known: Bools) -> list[Float32]:
    """How far the body is off its typical posture in each frame: (2,) each, in fractions of the side."""
    small_pictures = np.stack([_small(picture) for picture in pictures])
    masks = np.stack([_small_mask(mask) for mask in known])
    greys = [_small_grey(picture) for picture in pictures]
    middle = len(pictures) // 2
    typical = _typical(small_pictures[middle : middle + 1], masks[middle : middle + 1] > 0)
    shifts = [np.zeros(2, np.float32) for _ in pictures]
    for _ in range(_ROUNDS):
        template = _small_grey(typical)
        shifts = [body_shift(template, grey, mask) for grey, mask in zip(greys, masks, strict=True)]
        still = np.stack([shifted(picture, -shift) for picture, shift in zip(small_pictures, shifts, strict=True)])
        free = np.stack([shifted(mask, -shift) > 0 for mask, shift in zip(masks, shifts, strict=True)])
        typical = _typical(still, free)
    return shifts


def _typical(pictures: UInt8, known: Bools) -> UInt8:
    """The median of what is known, filled in where nothing is: (H, W, 3) uint8."""
    median, count = masked_median(pictures, known)
    # A pixel that is seen in two or three frames of many holds whatever moved there.
    frames = len(pictures)
    trust = np.clip((count.astype(np.float32) - min(2, frames - 1)) / max(1.0, 0.1 * frames), 0, 1)
    return np.asarray(np.round(np.clip(fill(median.astype(np.float32), trust, _SWEEPS), 0, 255)), np.uint8)


def _small(picture: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    size = (min(SMALL_PX, picture.shape[1]), min(SMALL_PX, picture.shape[0]))
    small: npt.NDArray[Scalar] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return small


def _small_grey(rgb: UInt8) -> Float32:
    return np.asarray(cv2.cvtColor(_small(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255, np.float32)


def _small_mask(mask: Bools) -> UInt8:
    return np.asarray(_small(mask.astype(np.float32)) > 0.99, np.uint8)

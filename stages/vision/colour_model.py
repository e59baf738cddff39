"""What hair, skin and cloth look like in one clip: Lab histograms and where each lies, learnt together.

Expectation maximisation over a few frames: a pixel's class follows from its colour and its place relative to
the head; the histograms and the map of places follow from the pixels' classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from stages.vision.head_frame import HeadFrame

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]

HAIR, SKIN, CLOTH = 0, 1, 2
"""Order of the materials in histograms and places."""

_BINS = 32
_MAP_SCALE = 32.0  # cells of the place map in one face width
_MAP_ORIGIN = (2.0, 2.0)  # face widths left of and above the head's centre
_MAP_SHAPE = (160, 128)
_ITERATIONS = 4
_DEEPEST_SHADE = 8  # steps of lightness
_SHADOW_PENALTY = 2.5  # log odds


@dataclass(frozen=True)
class Sample:
    """One frame to learn from.

    Attributes:
        rgb: (S, S, 3) uint8.
        person: (S, S) float32 in [0, 1], how surely a pixel belongs to the person.
        head: Where the head is.
    """

    rgb: UInt8
    person: Float32
    head: HeadFrame


@dataclass(frozen=True)
class ColourModel:
    """Colours and places of hair, skin and cloth.

    Attributes:
        log_colour: (32768, 3) float32, log likelihood of each Lab cell for each material.
        log_place: (160, 128, 3) float32, log prior of each material on a grid in head coordinates.
    """

    log_colour: Float32
    log_place: Float32

    def shares(self, rgb: UInt8, head: HeadFrame) -> Float32:
        """How surely each pixel of the person is hair, skin or cloth.

        Args:
            rgb: (S, S, 3) uint8.
            head: Where the head is.

        Returns:
            (S, S, 3) float32, sum 1.
        """
        score = np.take(self.log_colour, lab_cells(rgb), axis=0) + place_in_frame(self.log_place, head, rgb.shape[0])
        # The jaw's shadow has the colour of hair more often than there is a beard below the jaw.
        score[..., HAIR] -= _SHADOW_PENALTY * head.under_jaw(rgb.shape[0])
        return softmax(score)


def softmax(score: Float32) -> Float32:
    """Shares (H, W, C) float32 that sum to 1 along the last axis."""
    planes = cv2.split(score)
    highest = reduce(cv2.max, planes)
    risen = [cv2.exp(plane - highest) for plane in planes]
    total = reduce(cv2.add, risen)
    return np.asarray(cv2.merge([plane / total for plane in risen]), np.float32)


def lab_cells(rgb: UInt8) -> Int32:
    """Index of each pixel's cell in a 32 x 32 x 32 histogram of Lab; chroma is cut at +-64, where none lies.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (H, W) int32 in [0, 32768).
    """
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lightness = lab[..., 0].astype(np.int32) >> 3
    a = (np.clip(lab[..., 1], 64, 191).astype(np.int32) - 64) >> 2
    b = (np.clip(lab[..., 2], 64, 191).astype(np.int32) - 64) >> 2
    cells: Int32 = (lightness << 10) | (a << 5) | b
    return cells


def _to_map(head: HeadFrame, size_px: int) -> Float32:
    """(2, 3) float32, from pixel indices to cells of the place map."""
    matrix = head.to_head(size_px) * _MAP_SCALE
    matrix[:, 2] += np.array(_MAP_ORIGIN, np.float32) * _MAP_SCALE
    return matrix


def place_in_frame(places: Float32, head: HeadFrame, size_px: int) -> Float32:
    """Sample a map in head coordinates at every pixel of a frame: (size_px, size_px, C) float32."""
    warped: Float32 = cv2.warpAffine(
        places, _to_map(head, size_px), (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return warped


def _place_in_map(values: Float32, head: HeadFrame) -> Float32:
    """Sample a picture at every cell of the place map; outside of the frame it is 0."""
    warped: Float32 = cv2.warpAffine(
        values, _to_map(head, values.shape[0]), (_MAP_SHAPE[1], _MAP_SHAPE[0]), flags=cv2.INTER_LINEAR
    )
    return warped


def expected_places(hanging: Float32) -> Float32:
    """Where hair, skin and cloth lie on people in general: (160, 128, 3) float32, sum 1.

    Only a start: the clip's own map replaces it where the clip has something to say.

    Args:
        hanging: (160, 128) float32 in [0, 1], how surely hair hangs down to each cell, from ``hanging_hair``.
    """
    v, u = np.mgrid[: _MAP_SHAPE[0], : _MAP_SHAPE[1]].astype(np.float32) / _MAP_SCALE
    u, v = np.abs(u - _MAP_ORIGIN[0]), v - _MAP_ORIGIN[1]
    below = _step(v, 0.65, 0.25)
    beside = _step(u, 0.5, 0.15)
    # Beside the face, hair's realm ends at the lobes of the ears, and at the jaw elsewhere.
    low = np.maximum(below, beside * _step(v, 0.3, 0.1))
    hair = (1 - low) * 0.8 + low * (0.006 + 20.0 * beside * hanging)
    skin = (1 - below) * 0.25 + below * (1 - _step(v, 1.3, 0.3)) * 0.7 * (1 - beside) + 0.02
    cloth = 0.002 + 0.9 * _step(v, 0.75 - 0.15 * beside, 0.15) * (0.25 + 0.75 * np.maximum(beside, _step(v, 1.1, 0.2)))
    places = np.stack([hair, skin, cloth], axis=2)
    normalised: Float32 = (places / places.sum(axis=2, keepdims=True)).astype(np.float32)
    return normalised


def _step(x: npt.ArrayLike, at: npt.ArrayLike, width: float) -> npt.NDArray[np.float32]:
    rise: npt.NDArray[np.float32] = 1 / (1 + np.exp(-(np.asarray(x) - np.asarray(at)) / (0.4 * width)))
    return rise


def learn_colours(samples: Sequence[Sample]) -> ColourModel:
    """Fit colours and places of hair, skin and cloth to a few frames of a clip.

    Args:
        samples: Frames spread over the clip.
    """
    cells = [lab_cells(sample.rgb) for sample in samples]
    face, hair = _seeds(samples, cells)
    colours = _log_colours(_first_histograms(samples, cells, face, hair))
    expected = expected_places(hanging_hair(samples, cells, colours))
    model = ColourModel(colours, np.log(expected))
    for _ in range(_ITERATIONS):
        counts = 0.3 * np.stack([hair, face, np.zeros_like(face)])
        seen = 0.2 * len(samples) * expected
        for sample, cell in zip(samples, cells, strict=True):
            shares = model.shares(sample.rgb, sample.head)
            weight = sample.person * (sample.person > 0.5)
            shares = shares * weight[:, :, None]
            seen = seen + _place_in_map(shares, sample.head)
            shares = shares * (1 - sample.head.face_mask(len(weight)))[:, :, None]
            counts = counts + np.stack([_count(cell, shares[..., material]) for material in range(3)])
        blurred = cv2.GaussianBlur(seen.astype(np.float32), (0, 0), 0.06 * _MAP_SCALE)
        places = blurred / blurred.sum(axis=2, keepdims=True)
        model = ColourModel(_log_colours(counts), np.log(np.clip(places, 2e-3, None)).astype(np.float32))
    return model


def hanging_hair(samples: Sequence[Sample], cells: Sequence[Int32], log_colour: Float32) -> Float32:
    """How far down hair hangs in this clip, whatever the colours of cloth and hair have in common.

    Hair below the jaw is the end of hair that hangs past the ears. So hair's colour is followed from the
    ears downwards, and lost where it is interrupted by a stretch of skin or background.

    Args:
        samples: Frames spread over the clip.
        cells: Of each frame, from ``lab_cells``.
        log_colour: (32768, 3) float32, log likelihoods.

    Returns:
        (160, 128) float32 in [0, 1].
    """
    seen = np.full(_MAP_SHAPE, 1e-3, np.float32)
    hair = np.zeros(_MAP_SHAPE, np.float32)
    for sample, cell in zip(samples, cells, strict=True):
        shares = softmax(np.take(log_colour, cell, axis=0))
        hair += _place_in_map(shares[..., HAIR] * (sample.person > 0.5), sample.head)
        seen += _place_in_map(np.ones_like(sample.person), sample.head)
    known = seen >= 0.1 * len(samples)
    density = cv2.GaussianBlur(hair / seen, (0, 0), 0.03 * _MAP_SCALE)
    hanging = density.copy()
    for row in range(int(_MAP_ORIGIN[1] * _MAP_SCALE), _MAP_SHAPE[0]):
        above = hanging[row - 1]
        wider = np.maximum(above, 0.8 * np.maximum(np.roll(above, 1), np.roll(above, -1)))
        followed = 0.8 * wider + 0.2 * np.minimum(1, 1.5 * density[row])
        hanging[row] = np.where(known[row], np.minimum(wider, followed), above)
    return _step(hanging, 0.25, 0.12)


def _seeds(samples: Sequence[Sample], cells: Sequence[Int32]) -> tuple[Float32, Float32]:
    """Counts of colours that are surely skin (inside the face) and probably hair (around the upper face)."""
    face = np.zeros(_BINS**3, np.float32)
    crown = np.zeros(_BINS**3, np.float32)
    for sample, cell in zip(samples, cells, strict=True):
        size = sample.rgb.shape[0]
        reach = max(1, round(0.05 * sample.head.width * size))
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        oval = sample.head.face_mask(size)
        inner = cv2.erode(oval, kernel) & (1 - cv2.dilate(sample.head.feature_mask(size), kernel))
        face += _count(cell, inner.astype(np.float32))
        around = (1 - cv2.dilate(oval, kernel)) * (sample.person > 0.9)
        face_top = int(sample.head.centre[1] * size)
        around[max(face_top, 0) :] = 0
        crown += _count(cell, around.astype(np.float32))
    # A bald or shaven head has skin around the face too: what looks like the face is no evidence of hair.
    likelier = _spread(crown) / (_spread(crown) + 2 * _spread(face) + 1e-9)
    return face, (crown * likelier).astype(np.float32)


def _first_histograms(
    samples: Sequence[Sample], cells: Sequence[Int32], face: Float32, hair: Float32
) -> npt.NDArray[np.float32]:
    """Histograms to start from: skin also in shade, cloth as anything seen low in the frame, or any colour."""
    skin, hair = _with_shade(face), _with_shade(hair)
    low = np.zeros(_BINS**3, np.float32)
    for sample, cell in zip(samples, cells, strict=True):
        size = sample.rgb.shape[0]
        rows = (np.arange(size) + 0.5)[:, None] / size
        below = rows > sample.head.chin[1] + 0.15 * sample.head.width
        low += _count(cell, (below * (sample.person > 0.9)).astype(np.float32))
    # Long hair hangs low too: what hair or skin explain is no evidence of cloth.
    explained = np.maximum(_spread(hair), _spread(skin))
    low *= _spread(low) / (_spread(low) + 4 * explained + 1e-9)
    anything = (_spread(low + face + hair) > 1e-7).astype(np.float32)
    cloth = low / max(low.sum(), 1) + 0.3 * anything / max(anything.sum(), 1)
    return np.stack([hair, skin, cloth * max(float(low.sum()), 1.0)])


def _with_shade(counts: Float32) -> Float32:
    """A histogram to which the same colours in shade are added: under the jaw, behind hanging hair."""
    lit = counts.reshape((_BINS,) * 3)
    shaded = lit.copy()
    for drop in range(1, _DEEPEST_SHADE):
        shaded[:-drop] += 0.25 * lit[drop:]
    return shaded.reshape(-1)


def _count(cell: Int32, weight: Float32) -> Float32:
    counted: Float32 = np.bincount(cell.ravel(), weight.ravel(), _BINS**3).astype(np.float32)
    return counted


def _spread(counts: Float32) -> Float32:
    """A normalised histogram, smoothed so that a colour close to a seen one is likely too."""
    cube = counts.reshape((_BINS,) * 3).astype(np.float64)
    smooth = gaussian_filter(cube, (1.0, 1.2, 1.2), mode="constant")
    spread: Float32 = (smooth / max(smooth.sum(), 1e-9)).reshape(-1).astype(np.float32)
    return spread


def _log_colours(counts: npt.NDArray[np.float32]) -> Float32:
    floor = 0.03 / _BINS**3
    logs: Float32 = np.stack([np.log(0.97 * _spread(count) + floor) for count in counts], axis=1).astype(np.float32)
    return logs

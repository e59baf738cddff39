"""The layers of one frame: the true person over the still scene, and the torso without its head.

Behind the head the torso layer is made up: its colours from the clip's own torso where it was seen in other
frames, corrected to this frame's light, its outline from what is around the head. So a head that moves finds
neck and shoulders beneath it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stages.formats import BACKGROUND, HEAD, NECK, TORSO
from stages.vision.guided_filter import guided_upsample
from stages.vision.head_frame import HeadFrame
from stages.vision.median import masked_median
from stages.vision.push_pull import fill

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_SMALL_PX = 128  # side at which smooth things are computed
_SOFT_EDGE = 1 / 128  # of the frame's side, width of the matte at the silhouette
_MATTE_EPSILON = 1e-3
_RIM = 1 / 128  # of the frame's side, kept off the head: hair's and chin's mixed pixels
_NECK_LENGTH = 0.10  # of the frame's height, how far the neck runs on behind the chin
_NECK_WIDTH = 0.36  # half of it, in face widths
_LEAST_NECK = 0.001  # share of the frame's area
_FILL_SWEEPS = 4


@dataclass(frozen=True)
class ClipTorso:
    """What the clip tells about the torso at each pixel of the frame.

    Attributes:
        rgb: (H, W, 3) float32, median colour of torso and neck, filled in where never seen.
        neck_rgb: (H, W, 3) float32, the same of the neck alone, carried on over the whole frame.
        share: (128, 128) float32 in [0, 1], how often a pixel was torso, of the frames where no head hid it.
        weight: (128, 128) float32 in [0, 1], how often no head hid it.
    """

    rgb: Float32
    neck_rgb: Float32
    share: Float32
    weight: Float32


@dataclass(frozen=True)
class Layers:
    """The layers of one frame.

    Attributes:
        truth: (H, W, 3) uint8, the true person over the still scene.
        torso: (H, W, 3) uint8, torso and neck, filled in behind the head and beyond the alpha.
        alpha: (H, W) uint8, of the torso.
    """

    truth: UInt8
    torso: UInt8
    alpha: UInt8


def learn_torso(pictures: UInt8, labels: UInt8) -> ClipTorso:
    """Gather what is seen of the torso over a clip.

    Args:
        pictures: (N, H, W, 3) uint8, frames spread over the clip.
        labels: (N, H, W) uint8, their class maps.
    """
    size = labels.shape[1]
    torso = np.stack([_known_torso(label) for label in labels])
    median, count = masked_median(pictures, torso)
    colour = fill(median.astype(np.float32), _trust(count, len(labels)), _FILL_SWEEPS)
    neck_median, neck_count = masked_median(pictures, torso & (labels == NECK))
    bare = _trust(neck_count, len(labels))
    neck = fill(neck_median.astype(np.float32), bare, _FILL_SWEEPS) if bare.sum() >= _LEAST_NECK * bare.size else colour
    free = np.mean(labels != HEAD, axis=0, dtype=np.float32)
    body = np.mean((labels == TORSO) | (labels == NECK), axis=0, dtype=np.float32)
    small = (min(_SMALL_PX, size), min(_SMALL_PX, size))
    weight = cv2.resize(free, small, interpolation=cv2.INTER_AREA)
    share = cv2.resize(body, small, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)
    return ClipTorso(colour, neck, np.clip(share, 0, 1).astype(np.float32), np.asarray(weight, np.float32))


def _trust(count: npt.NDArray[np.uint16], frames: int) -> Float32:
    """How far to trust a median: a pixel seen in two or three frames holds whatever moved there."""
    return np.clip((count.astype(np.float32) - min(2, frames - 1)) / max(1.0, 0.1 * frames), 0, 1)


def _known_torso(labels: UInt8) -> npt.NDArray[np.bool_]:
    """Torso and neck, a rim around everything else left out."""
    reach = max(1, round(_RIM * labels.shape[0]))
    body = ((labels == TORSO) | (labels == NECK)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    known: npt.NDArray[np.bool_] = cv2.erode(body, kernel, borderType=cv2.BORDER_REPLICATE) > 0
    return known


def make_layers(rgb: UInt8, labels: UInt8, head: HeadFrame, scene: UInt8, torso: ClipTorso) -> Layers:
    """Part one frame into layers.

    Args:
        rgb: (H, W, 3) uint8, the frame.
        labels: (H, W) uint8, its class map.
        head: Where the head is.
        scene: (H, W, 3) uint8, the still scene.
        torso: What the clip tells about the torso.
    """
    person = soft_matte(rgb, labels != BACKGROUND)
    truth = _blend(rgb, scene, person)
    outline = torso_outline(labels, head, torso)
    alpha = np.minimum(_soften(outline), np.where(labels == HEAD, np.float32(1), person))
    return Layers(truth, fill_torso(rgb, labels, head, torso), np.round(alpha * 255).astype(np.uint8))


def soft_matte(rgb: UInt8, mask: npt.NDArray[np.bool_]) -> Float32:
    """How much of each pixel belongs to a masked thing: the mask, made to follow the picture's fine edges.

    Args:
        rgb: (H, W, 3) uint8.
        mask: (H, W) bool.

    Returns:
        (H, W) float32 in [0, 1]; 1 and 0 more than a few pixels from the mask's edge.
    """
    size = mask.shape[0]
    radius = max(1, round(_SOFT_EDGE * size))
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    small = (max(2, mask.shape[1] // 2), max(2, size // 2))
    matte = guided_upsample(
        guide,
        cv2.resize(guide, small, interpolation=cv2.INTER_AREA),
        cv2.resize(mask.astype(np.float32), small, interpolation=cv2.INTER_AREA)[:, :, None],
        max(1, radius // 2),
        _MATTE_EPSILON,
    )[:, :, 0]
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_REPLICATE)
    outside = cv2.dilate(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_REPLICATE)
    return np.clip(1.2 * matte - 0.1, inside, outside).astype(np.float32)


def torso_outline(labels: UInt8, head: HeadFrame, torso: ClipTorso) -> npt.NDArray[np.bool_]:
    """Where the torso is, the part behind the head included.

    Args:
        labels: (H, W) uint8 class map.
        head: Where the head is.
        torso: What the clip tells about the torso.

    Returns:
        (H, W) bool.
    """
    size = labels.shape[0]
    body = (labels == TORSO) | (labels == NECK)
    hidden = labels == HEAD
    small = torso.share.shape[::-1]
    free = cv2.resize((~hidden).astype(np.float32), small, interpolation=cv2.INTER_AREA)
    here = cv2.resize(body.astype(np.float32), small, interpolation=cv2.INTER_AREA) / np.maximum(free, 1e-3)
    # What other frames saw behind this head counts, but less than what this frame sees beside it.
    elsewhere = 0.5 * np.clip((torso.weight - 0.2) / 0.5, 0, 1) * (free < 0.5)
    known = np.maximum((free >= 0.5).astype(np.float32), elsewhere)
    value = np.where(free >= 0.5, here, torso.share)
    smooth = fill(value[:, :, None].astype(np.float32), known.astype(np.float32), 2)[:, :, 0]
    behind = cv2.resize(smooth, labels.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.6
    return body | (hidden & (behind | _neck_behind(head, size)))


def _neck_behind(head: HeadFrame, size_px: int) -> npt.NDArray[np.bool_]:
    """The neck's way up behind the chin: a column with a round top, (size_px, size_px) bool."""
    middle = head.chin * size_px
    half = _NECK_WIDTH * head.width * size_px
    top = _NECK_LENGTH * size_px
    y, x = np.mgrid[:size_px, :size_px].astype(np.float32) + 0.5
    u, v = np.abs(x - middle[0]) / half, (middle[1] - y) / top
    column: npt.NDArray[np.bool_] = (u < 1) & (v < np.sqrt(np.clip(1 - u * u, 0, 1)))
    return column


def fill_torso(rgb: UInt8, labels: UInt8, head: HeadFrame, torso: ClipTorso) -> UInt8:
    """Colours of the torso layer everywhere: this frame's where they are seen, made up elsewhere.

    Args:
        rgb: (H, W, 3) uint8.
        labels: (H, W) uint8 class map.
        head: Where the head is.
        torso: What the clip tells about the torso.
    """
    size = labels.shape[0]
    known = _known_torso(labels)
    small = torso.share.shape[::-1]
    weight = cv2.resize(known.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    off = (rgb.astype(np.float32) - torso.rgb) * known[:, :, None]
    off_small = cv2.resize(off, small, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)[:, :, None]
    # The median stays sharp; only the smooth difference of light is taken from this frame.
    smooth = cv2.blur(fill(off_small.astype(np.float32), weight), (5, 5))
    made = _clip_colours(labels, head, torso) + cv2.resize(smooth, (size, size), interpolation=cv2.INTER_LINEAR)
    reach = max(1, round(_RIM * size))
    own = cv2.blur(known.astype(np.float32), (2 * reach + 1, 2 * reach + 1), borderType=cv2.BORDER_REPLICATE)
    return _blend(rgb, np.clip(made, 0, 255).astype(np.uint8), np.where(known, own, 0).astype(np.float32))


def _clip_colours(labels: UInt8, head: HeadFrame, torso: ClipTorso) -> Float32:
    """The clip's colours of the torso, (H, W, 3) float32; behind the chin those of the neck go on upwards."""
    size = labels.shape[0]
    across = np.abs((np.arange(size) + 0.5) / size - head.chin[0]) / (_NECK_WIDTH * head.width)
    column = np.clip(2.4 - 1.6 * across, 0, 1).astype(np.float32)
    hidden = (labels == HEAD).astype(np.float32)
    reach = 2 * round(2 * _RIM * size) + 1
    weight = cv2.blur(cv2.dilate(hidden, np.ones((reach, reach), np.uint8)), (reach, reach)) * column[None, :]
    return np.asarray(cv2.blendLinear(torso.neck_rgb, torso.rgb, weight, 1 - weight), np.float32)


def _soften(outline: npt.NDArray[np.bool_]) -> Float32:
    """An outline with an edge about two pixels wide at 512."""
    sigma = max(0.5, outline.shape[0] / 512)
    return np.asarray(cv2.GaussianBlur(outline.astype(np.float32), (0, 0), sigma), np.float32)


def _blend(front: UInt8, back: UInt8, alpha: Float32) -> UInt8:
    blended = cv2.blendLinear(front, back, alpha, 1 - alpha)
    return np.asarray(blended, np.uint8)

"""The layers of one frame: the true person over the still scene, and the torso without its head.

Behind the head the torso layer is made up: its colours from the clip's own torso where it was seen in other
frames, corrected to this frame's light, its outline from what is around the head. So a head that moves finds
neck and shoulders beneath it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
import numpy.typing as npt

from stages.formats import BACKGROUND, HEAD, NECK, TORSO
from stages.vision.guided_filter import guided_upsample
from stages.vision.head_frame import HeadFrame
from stages.vision.push_pull import fill
from stages.vision.torso_model import RIM, ClipTorso, known_torso

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_SOFT_EDGE = 1 / 128  # of the frame's side, width of the matte at the silhouette
_MATTE_EPSILON = 1e-3
_CHANGE_OF_LIGHT = 30.0  # 8-bit levels
_NECK_LENGTH = 0.10  # of the frame's height, how far the neck runs on behind the chin
_NECK_WIDTH = 0.36  # half of it, in face widths


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
    torso = torso.in_posture_of(rgb, labels)
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
    outline: npt.NDArray[np.bool_] = body | (hidden & (behind | _neck_behind(head, size)))
    return outline


def _neck_behind(head: HeadFrame, size_px: int) -> npt.NDArray[np.bool_]:
    """The neck's way up behind the chin: a column with a round top, (size_px, size_px) bool."""
    middle = head.chin * size_px
    half = _NECK_WIDTH * head.width * size_px
    top = _NECK_LENGTH * size_px
    at = np.arange(size_px, dtype=np.float32) + 0.5
    u, v = np.abs(at - middle[0]) / half, (middle[1] - at) / top
    height = np.where(u < 1, np.sqrt(np.clip(1 - u * u, 0, 1)), -np.inf)
    column: npt.NDArray[np.bool_] = v[:, None] < height[None, :]
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
    known = known_torso(labels)
    small = torso.share.shape[1], torso.share.shape[0]
    clip_rgb = _clip_colours(labels, head, torso)
    light = _change_of_light(rgb, clip_rgb, known, small)
    # The median stays sharp; only the smooth difference of light is taken from this frame.
    made = cv2.add(clip_rgb, cv2.resize(light, (size, size)), dtype=cv2.CV_8U)
    reach = max(1, round(RIM * size))
    own = cv2.blur(known.astype(np.float32), (2 * reach + 1, 2 * reach + 1), borderType=cv2.BORDER_REPLICATE)
    return _blend(rgb, np.asarray(made, np.uint8), own * known)


def _change_of_light(rgb: UInt8, clip_rgb: UInt8, known: npt.NDArray[np.bool_], small: tuple[int, int]) -> Float32:
    """By how much this frame's torso is lighter than the clip's, smooth, carried on where it is not seen."""
    middle = (2 * small[0], 2 * small[1])
    here = cv2.resize(known.astype(np.float32), middle, interpolation=cv2.INTER_AREA)
    off = cv2.subtract(
        cv2.resize(rgb, middle, interpolation=cv2.INTER_AREA),
        cv2.resize(clip_rgb, middle, interpolation=cv2.INTER_AREA),
        dtype=cv2.CV_32F,
    )
    # A fold that moved is no change of light.
    largest = reduce(cv2.max, cv2.split(np.abs(off)))
    trusted = cv2.exp(-((largest / _CHANGE_OF_LIGHT) ** 2)) * (here > 0.99)
    weight = cv2.resize(trusted, small, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(off * cv2.merge([trusted] * 3), small, interpolation=cv2.INTER_AREA)
    mean = sums / cv2.merge([np.maximum(weight, 1e-3)] * 3)
    return np.asarray(cv2.blur(fill(mean.astype(np.float32), weight), (9, 9)), np.float32)


def _clip_colours(labels: UInt8, head: HeadFrame, torso: ClipTorso) -> UInt8:
    """The clip's colours of the torso, (H, W, 3) uint8; behind the chin those of the neck go on upwards."""
    size = labels.shape[0]
    across = np.abs((np.arange(size) + 0.5) / size - head.chin[0]) / (_NECK_WIDTH * head.width)
    column = np.clip(2.4 - 1.6 * across, 0, 1).astype(np.float32)
    hidden = (labels == HEAD).astype(np.float32)
    reach = 2 * round(2 * RIM * size) + 1
    weight = cv2.blur(cv2.dilate(hidden, np.ones((reach, reach), np.uint8)), (reach, reach)) * column[None, :]
    return _blend(torso.neck_rgb, torso.rgb, weight)


def _soften(outline: npt.NDArray[np.bool_]) -> Float32:
    """An outline with an edge about two pixels wide at 512."""
    sigma = max(0.5, outline.shape[0] / 512)
    return np.asarray(cv2.GaussianBlur(outline.astype(np.float32), (0, 0), sigma), np.float32)


def _blend(front: UInt8, back: UInt8, alpha: Float32) -> UInt8:
    blended = cv2.blendLinear(front, back, alpha, 1 - alpha)
    return np.asarray(blended, np.uint8)

"""From shares to a class map: which class wins, where the jaw parts head and neck, no holes, no islands."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stages.formats import BACKGROUND, HEAD, NECK, TORSO
from stages.vision.head_frame import HeadFrame

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_SPECK = 0.002  # share of the frame's area below which a region is a mistake
_GROUND = 0.02  # share of the frame's height in which the torso must end
_THINNEST_NECK = 0.035  # in face widths
_NECK_REACH = 0.75  # half width of the neck's region, in face widths
_NECK_LENGTH = 0.55  # how far below the chin skin is still neck, in face widths


def label_frame(shares: Float32, head: HeadFrame) -> UInt8:
    """The class map of one frame.

    Args:
        shares: (H, W, 4) float32: background, hair, skin, cloth.
        head: Where the head is.

    Returns:
        (H, W) uint8 of ``BACKGROUND``, ``TORSO``, ``NECK`` and ``HEAD``.
    """
    size = shares.shape[0]
    background, hair, skin, cloth = cv2.split(shares)
    face, above = head.face_mask(size) > 0, head.above_jaw(size) > 0
    person = (background < 0.5) | face
    is_hair, is_skin = (hair >= skin) & (hair >= cloth), (skin > hair) & (skin > cloth)
    labels = np.full((size, size), TORSO, np.uint8)
    labels[is_skin & _neck_region(head, size)] = NECK
    labels[is_hair | (is_skin & above) | face] = HEAD
    _thicken_neck(labels, head)
    labels[~person] = BACKGROUND
    return clean(labels, head)


def _thicken_neck(labels: UInt8, head: HeadFrame) -> None:
    """Give strips of neck that are thinner than a neck can be to the head, in place: they are the cheek's edge."""
    neck = (labels == NECK).astype(np.uint8)
    labels[(neck > 0) & (_without_strips(neck, _THINNEST_NECK * head.width) == 0)] = HEAD


def _without_strips(mask: UInt8, thinnest: float) -> UInt8:
    """What is left of a mask without the parts thinner than a fraction of the frame's side."""
    width = 2 * round(thinnest * mask.shape[0] / 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    # Beyond the frame's edges everything goes on.
    padded = cv2.copyMakeBorder(mask, width, width, width, width, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[width:-width, width:-width]
    return np.asarray(opened, np.uint8)


def _neck_region(head: HeadFrame, size_px: int) -> npt.NDArray[np.bool_]:
    x = (np.arange(size_px) + 0.5) / size_px
    beside = np.abs(x - head.centre[0]) < _NECK_REACH * head.width
    reach = x < head.chin[1] + _NECK_LENGTH * head.width
    region: npt.NDArray[np.bool_] = reach[:, None] & beside[None, :]
    return region


def clean(labels: UInt8, head: HeadFrame) -> UInt8:
    """Remove holes and islands: one person, one head, and no class in specks.

    Args:
        labels: (H, W) uint8 class map; the face is of class ``HEAD``.
        head: Where the head is.
    """
    size = labels.shape[0]
    labels = _one_piece(labels, (labels != BACKGROUND).astype(np.uint8), head, BACKGROUND)
    _fill_specks(labels, (labels == BACKGROUND).astype(np.uint8), _SPECK * size * size)
    labels = _one_piece(labels, (labels == HEAD).astype(np.uint8), head, None)
    _fill_specks(labels, (labels == NECK).astype(np.uint8), _SPECK * size * size)
    _ground_torso(labels)
    # A speck that was taken by the head can have cut nothing off, but one taken from it by the neck can.
    return _one_piece(labels, (labels == HEAD).astype(np.uint8), head, None)


def _ground_torso(labels: UInt8) -> None:
    """Give specks of the torso, and what of it hangs in the air, to what surrounds it, in place.

    Where the person reaches the lower edge of the frame, so does the torso; what does not is hair in its shade.
    """
    cut = (labels[-1] != BACKGROUND).any()
    count, parts, stats, _ = cv2.connectedComponentsWithStats((labels == TORSO).astype(np.uint8), connectivity=4)
    foot = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT]
    grounded = foot >= (1 - _GROUND) * labels.shape[0]
    grounded |= ~cut
    speck = stats[:, cv2.CC_STAT_AREA] < _SPECK * labels.size
    for part in range(1, count):
        if speck[part] or not grounded[part]:
            _reassign(labels, parts, part, stats[part], None)


def _one_piece(labels: UInt8, region: UInt8, head: HeadFrame, other: int | None) -> UInt8:
    """Keep the component of a region that holds the face; give the rest to ``other`` or to what surrounds it."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(region, connectivity=4)
    if count <= 2:
        return labels
    face = head.face_mask(labels.shape[0]) > 0
    kept = int(np.bincount(parts[face], minlength=count)[1:].argmax()) + 1
    labels = labels.copy()
    for part in range(1, count):
        if part != kept:
            _reassign(labels, parts, part, stats[part], other)
    return labels


def _fill_specks(labels: UInt8, region: UInt8, largest_px: float) -> None:
    """Give every small component of a region to what surrounds it, in place."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(region, connectivity=4)
    for part in range(1, count):
        if stats[part, cv2.CC_STAT_AREA] < largest_px:
            _reassign(labels, parts, part, stats[part], None)


def _reassign(labels: UInt8, parts: npt.NDArray[Any], part: int, stat: npt.NDArray[Any], other: int | None) -> None:
    left, top, width, height = (int(value) for value in stat[:4])
    box = (slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1))
    inside = parts[box] == part
    window = labels[box]
    if other is None:
        border = (cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~inside
        around = np.bincount(window[border], minlength=4)
        other = int(around.argmax()) if around.any() else TORSO
    window[inside] = other

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
_CORNER = 0.0004  # the same for what reaches the lower edge and a side
_THICKEST_LOCK = 0.12  # in face widths: a strip of torso wider than this is no hair
_COARSE = 4  # pixels to one, where widths are measured
_LOCK_IN_HEAD = 0.6  # share of its border that a lock has with the head
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
    left, top, width, height = cv2.boundingRect(neck)
    if width:
        box = slice(top, top + height), slice(left, left + width)
        opened = _without_strips(neck, _THINNEST_NECK * head.width, box)
        labels[box][(neck[box] > 0) & (opened == 0)] = HEAD


def _without_strips(mask: UInt8, thinnest: float, box: tuple[slice, slice] | None = None) -> UInt8:
    """What is left of a mask without the parts thinner than a fraction of the frame's side.

    Args:
        mask: (H, W) uint8, 0 or 1.
        thinnest: Over the frame's side.
        box: The only part that is wanted, which holds all that is set; None for everything.
    """
    width = 2 * round(thinnest * mask.shape[0] / 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    # Beyond the frame's edges everything goes on.
    padded = cv2.copyMakeBorder(mask, width, width, width, width, cv2.BORDER_REPLICATE)
    rows, columns = box or (slice(0, mask.shape[0]), slice(0, mask.shape[1]))
    around = padded[rows.start : rows.stop + 2 * width, columns.start : columns.stop + 2 * width]
    return np.asarray(cv2.morphologyEx(around, cv2.MORPH_OPEN, kernel)[width:-width, width:-width], np.uint8)


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
    labels = labels.copy()
    face = head.face_mask(size) > 0
    _one_piece(labels, labels != BACKGROUND, face, BACKGROUND)
    _fill_specks(labels, BACKGROUND, _SPECK * size * size)
    _one_piece(labels, labels == HEAD, face, None)
    _strands_to_head(labels, head)
    changed = _fill_specks(labels, NECK, _SPECK * size * size)
    changed |= _ground_torso(labels)
    if changed:
        # A speck that was taken by the head can have cut nothing off, but one taken from it by the neck can.
        _one_piece(labels, labels == HEAD, face, None)
    return labels


def _strands_to_head(labels: UInt8, head: HeadFrame) -> None:
    """Give strips of torso that lie in the head to it, in place: they are locks of hair in shade."""
    torso = (labels == TORSO).astype(np.uint8)
    small = cv2.resize(torso, (labels.shape[1] // _COARSE, labels.shape[0] // _COARSE), interpolation=cv2.INTER_AREA)
    thick = _without_strips(small, _THICKEST_LOCK * head.width)
    thick = cv2.dilate(thick, np.ones((5, 5), np.uint8))
    strips = torso & (1 - cv2.resize(thick, labels.shape[1::-1], interpolation=cv2.INTER_NEAREST))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(strips, connectivity=4)
    for part in range(1, count):
        if stats[part, cv2.CC_STAT_AREA] < _COARSE**2:
            continue
        around = _around(labels, parts, part, stats[part])
        if around[HEAD] > _LOCK_IN_HEAD * around.sum():
            _reassign(labels, parts, part, stats[part], HEAD)


def _ground_torso(labels: UInt8) -> bool:
    """Give specks of the torso, and what of it hangs in the air, to what surrounds it, in place.

    Where the person reaches the lower edge of the frame, so does the torso; what does not is hair in its shade.

    Returns:
        Whether anything changed.
    """
    cut = (labels[-1] != BACKGROUND).any()
    count, parts, stats, _ = cv2.connectedComponentsWithStats((labels == TORSO).astype(np.uint8), connectivity=4)
    foot = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT]
    grounded = foot >= (1 - _GROUND) * labels.shape[0]
    grounded |= ~cut
    speck = stats[:, cv2.CC_STAT_AREA] < _SPECK * labels.size
    # The corner of a shoulder is no speck, however little of it the frame shows.
    beside = (stats[:, cv2.CC_STAT_LEFT] == 0) | (
        stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH] == labels.shape[1]
    )
    speck &= ~(beside & grounded & (stats[:, cv2.CC_STAT_AREA] >= _CORNER * labels.size))
    wrong = [part for part in range(1, count) if speck[part] or not grounded[part]]
    for part in wrong:
        _reassign(labels, parts, part, stats[part], None)
    return bool(wrong)


def _one_piece(labels: UInt8, region: npt.NDArray[np.bool_], face: npt.NDArray[np.bool_], other: int | None) -> None:
    """Keep the component of a region that holds the face; give the rest to ``other`` or to what surrounds it."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=4)
    if count <= 2:
        return
    kept = int(np.bincount(parts[face], minlength=count)[1:].argmax()) + 1
    for part in range(1, count):
        if part != kept:
            _reassign(labels, parts, part, stats[part], other)


def _fill_specks(labels: UInt8, kind: int, largest_px: float) -> bool:
    """Give every small component of a class to what surrounds it, in place; whether there was any."""
    left, top, width, height = cv2.boundingRect((labels == kind).astype(np.uint8))
    if not width:
        return False
    # With a rim of what lies around.
    window = labels[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1]
    count, parts, stats, _ = cv2.connectedComponentsWithStats((window == kind).astype(np.uint8), connectivity=4)
    specks = [part for part in range(1, count) if stats[part, cv2.CC_STAT_AREA] < largest_px]
    for part in specks:
        _reassign(window, parts, part, stats[part], None)
    return bool(specks)


def _reassign(labels: UInt8, parts: npt.NDArray[Any], part: int, stat: npt.NDArray[Any], other: int | None) -> None:
    if other is None:
        around = _around(labels, parts, part, stat)
        other = int(around.argmax()) if around.any() else TORSO
    box = _box(stat)
    labels[box][parts[box] == part] = other


def _around(labels: UInt8, parts: npt.NDArray[Any], part: int, stat: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(4,) how many pixels of each class touch a component."""
    box = _box(stat)
    inside = parts[box] == part
    border = (cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~inside
    return np.bincount(labels[box][border], minlength=4)


def _box(stat: npt.NDArray[Any]) -> tuple[slice, slice]:
    """A component's bounding box with a rim of a pixel."""
    left, top, width, height = (int(value) for value in stat[:4])
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)

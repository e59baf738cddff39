"""Frames of a clip by number, out of their archives."""

from __future__ import annotations

from stages.archive import Archive, frame_name
from stages.errors import DELETE_AND_REPEAT, BadInput
from stages.vision.images import Grey, Rgb, decode_grey, decode_rgb


def load_rgb(archive: Archive, index: int, suffix: str = ".jpg") -> Rgb:
    """A colour frame: (H, W, 3) uint8, RGB.

    Args:
        archive: The archive that holds it.
        index: Frame number.
        suffix: What follows the number in the member's name.

    Raises:
        BadInput: The member is missing or is no picture.
    """
    return decode_rgb(archive.read(frame_name(index, suffix)), archive.path)


def load_grey(archive: Archive, index: int, suffix: str = ".png") -> Grey:
    """A class map or an alpha: (H, W) uint8; arguments and errors as for ``load_rgb``."""
    return decode_grey(archive.read(frame_name(index, suffix)), archive.path)


def count_frames(archive: Archive, suffix: str = ".jpg") -> int:
    """How many frames lie in an archive, numbered from 0 without a gap.

    Raises:
        BadInput: There is none.
    """
    count = 0
    while frame_name(count, suffix) in archive.names:
        count += 1
    if count == 0:
        raise BadInput(f"{archive.path} holds no frame", hint=DELETE_AND_REPEAT)
    return count

"""What a person set on the page, as it comes over the wire: read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.colours import Colour, parse_colour
from stages.errors import BadInput

MOST_TURN_DEG = 90.0
"""Larger turns are refused; what the clip allows is decided later."""

PICTURE = "picture"
"""The background that the person gave."""

CLIP = "clip"
"""The subject's own background."""


@dataclass(frozen=True)
class Controls:
    """A wanted picture.

    Attributes:
        turn_deg: Yaw and pitch beyond the pose.
        eyes: How open, 0 to 1; None for blinks of its own.
        mouth: How open, 0 to 1; None to follow the speech, or to rest where none is chosen.
        background: ``CLIP``, ``PICTURE`` or a colour.
        size_px: The most that is wanted; 0 for what this machine can do.
        alive: Whether the head moves by itself while nothing is played.
        speech: Number of the chosen speech; None for none.
        time_s: Where in it.
        playing: Whether the time goes on.
    """

    turn_deg: tuple[float, float] = (0.0, 0.0)
    eyes: float | None = None
    mouth: float | None = None
    background: str | Colour = CLIP
    size_px: int = 0
    alive: bool = False
    speech: int | None = None
    time_s: float = 0.0
    playing: bool = False


def read_controls(values: Mapping[str, Any]) -> Controls:
    """Controls from a message.

    Args:
        values: The message's JSON object; what it lacks is as in ``Controls()``.

    Raises:
        BadInput: A value of the wrong type or out of range.
    """
    return Controls(
        turn_deg=(_number(values, "yaw", -MOST_TURN_DEG, MOST_TURN_DEG) or 0.0,
                  _number(values, "pitch", -MOST_TURN_DEG, MOST_TURN_DEG) or 0.0),
        eyes=_number(values, "eyes", 0.0, 1.5),
        mouth=_number(values, "mouth", 0.0, 1.0),
        background=_background(values.get("background", CLIP)),
        size_px=_size(values.get("size", 0)),
        alive=_flag(values, "alive"),
        speech=_whole(values.get("speech")),
        time_s=_number(values, "time", 0.0, 1e7) or 0.0,
        playing=_flag(values, "playing"),
    )  # fmt: skip


def _number(values: Mapping[str, Any], key: str, least: float, most: float) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    plain = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not plain or not least <= value <= most:
        raise BadInput(f"{key} is {value!r}", hint=f"give {least:g} to {most:g}")
    return float(value)


def _flag(values: Mapping[str, Any], key: str) -> bool:
    value = values.get(key, False)
    if not isinstance(value, bool):
        raise BadInput(f"{key} is {value!r}", hint="give true or false")
    return value


def _whole(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10_000:
        raise BadInput(f"speech is {value!r}", hint="give its number")
    return value


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not (value == 0 or 16 <= value <= 2048):
        raise BadInput(f"size is {value!r}", hint="give 16 to 2048, or 0")
    return value


def _background(value: object) -> str | Colour:
    if value in (CLIP, PICTURE):
        return str(value)
    if not isinstance(value, str):
        raise BadInput(f"background is {value!r}", hint=f"give a colour, {CLIP!r} or {PICTURE!r}")
    return parse_colour(value)

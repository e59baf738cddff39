"""What a speech's video is to look like: ``job.json``, read and checked."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.atomic_files import load_json
from stages.colours import Colour, parse_colour
from stages.errors import BadInput
from stages.signing_key import Credentials

JOB_FORMAT = 1
"""Version of the file."""

MAX_VIEW_DEG = 90.0
"""Largest turn of the head that makes any sense."""

_KNOWN = frozenset(
    {
        "format", "subject", "consent", "speech", "eyes", "view_deg", "size_px", "background_colour",
        "background_image", "pose", "signing", "cutout", "stills",
    }
)  # fmt: skip


@dataclass(frozen=True)
class SpeechJob:
    """What was asked for.

    Attributes:
        subject: Name of the subject.
        consent: The consent note of its maker; may be empty.
        speech_sha256: Of the speech's file; empty where the job does not say.
        eyes: ``auto`` for made blinks, ``clip`` for the motion's own, or how open the eyes stay, 0 to 1.
        view_deg: Turn of the head beyond its pose, yaw and pitch, degrees.
        size_px: Side of the video; 0 leaves it to the settings.
        background_colour: In place of the clip's background; None for none.
        background_image: A picture in its place; None for none.
        pose: Another subject's ``Track`` to move as; None for the subject's own.
        signing: Who signs the video; None leaves it to the settings.
        cutout: Whether a video without background is wanted beside the usual one.
        stills: Whether every frame is wanted as a picture without background.
    """

    subject: str
    consent: str = ""
    speech_sha256: str = ""
    eyes: float | Literal["auto", "clip"] = "clip"
    view_deg: tuple[float, float] = (0.0, 0.0)
    size_px: int = 0
    background_colour: Colour | None = None
    background_image: Path | None = None
    pose: Path | None = None
    signing: Credentials | None = None
    cutout: bool = False
    stills: bool = False

    @property
    def seed(self) -> int:
        """What every random choice of the video is made from: the same subject and speech, the same choices."""
        return int(hashlib.sha256(f"{self.subject}\n{self.speech_sha256}".encode()).hexdigest()[:12], 16)


def load_job(path: Path) -> SpeechJob:
    """Read and check a job.

    Args:
        path: The file; the files that it names lie beside it.

    Raises:
        BadInput: Missing, damaged, of another version, an unknown key, a value of the wrong type or out of range, or
            a file that it names is not there.
    """
    values = load_json(path)
    if values.get("format") != JOB_FORMAT:
        raise BadInput(
            f"{path} has format {values.get('format')!r}, and this radnerf reads {JOB_FORMAT}",
            hint="run 'speak' again",
        )
    for key in values:
        if key not in _KNOWN:
            close = difflib.get_close_matches(key, _KNOWN, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(_KNOWN))}"
            raise BadInput(f"{path} has an unknown key {key!r}", hint=hint)
    job = SpeechJob(
        subject=_text(values, "subject", path),
        consent=_text(values, "consent", path),
        speech_sha256=_speech_sha256(values.get("speech")),
        eyes=_eyes(values.get("eyes"), path),
        view_deg=_view(values.get("view_deg"), path),
        size_px=_size(values.get("size_px", 0), path),
        background_colour=_colour(values.get("background_colour"), path),
        background_image=_file(values.get("background_image"), "background_image", path),
        pose=_file(values.get("pose"), "pose", path),
        signing=_signing(values.get("signing"), path),
        cutout=_flag(values, "cutout", path),
        stills=_flag(values, "stills", path),
    )
    if job.background_colour is not None and job.background_image is not None:
        raise BadInput(f"{path} names both a colour and a picture as background", hint="leave one of them out")
    return job


def _text(values: Mapping[str, Any], key: str, path: Path) -> str:
    value = values.get(key, "")
    if not isinstance(value, str):
        raise BadInput(f"{path}: {key} is {value!r}", hint="give a text")
    return value


def _flag(values: Mapping[str, Any], key: str, path: Path) -> bool:
    value = values.get(key, False)
    if not isinstance(value, bool):
        raise BadInput(f"{path}: {key} is {value!r}", hint="give true or false")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _speech_sha256(value: Any) -> str:  # noqa: ANN401 - JSON
    return str(value.get("sha256", "")) if isinstance(value, dict) else ""


def _eyes(value: Any, path: Path) -> float | Literal["auto", "clip"]:  # noqa: ANN401 - JSON
    if value is None or value in ("clip", "sequence"):
        return "clip"
    if value == "auto":
        return "auto"
    if not (_is_number(value) and 0 <= value <= 1):
        raise BadInput(f"{path}: eyes is {value!r}", hint="give auto, clip, or 0 (shut) to 1 (open)")
    return float(value)


def _view(value: Any, path: Path) -> tuple[float, float]:  # noqa: ANN401 - JSON
    if value is None:
        return 0.0, 0.0
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))):
        raise BadInput(f"{path}: view_deg is {value!r}", hint="give [yaw, pitch] in degrees")
    if max(map(abs, value)) > MAX_VIEW_DEG:
        raise BadInput(f"{path}: view_deg is {value!r}", hint=f"give at most {MAX_VIEW_DEG:g} degrees either way")
    return float(value[0]), float(value[1])


def _size(value: Any, path: Path) -> int:  # noqa: ANN401 - JSON
    if not (isinstance(value, int) and not isinstance(value, bool) and (value == 0 or 16 <= value <= 4096)):
        raise BadInput(f"{path}: size_px is {value!r}", hint="give 16 to 4096, or 0 for the trained size")
    return value


def _colour(value: Any, path: Path) -> Colour | None:  # noqa: ANN401 - JSON
    if value is None:
        return None
    if isinstance(value, str):
        return parse_colour(value)
    whole = isinstance(value, list) and all(isinstance(part, int) and not isinstance(part, bool) for part in value)
    if not (whole and len(value) == 3 and all(0 <= part <= 255 for part in value)):
        raise BadInput(f"{path}: background_colour is {value!r}", hint="give '#rrggbb' or [red, green, blue]")
    return value[0], value[1], value[2]


def _signing(value: Any, path: Path) -> Credentials | None:  # noqa: ANN401 - JSON
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("key", "certificates")):
        raise BadInput(f"{path}: signing is {value!r}", hint='give {"key": FILE, "certificates": FILE}')
    return Credentials(Path(value["certificates"]), Path(value["key"]))


def _file(value: Any, key: str, path: Path) -> Path | None:  # noqa: ANN401 - JSON
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("file"), str) or set(value) - {"file", "sha256"}:
        raise BadInput(f"{path}: {key} is {value!r}", hint='give {"file": NAME, "sha256": HASH}')
    name: str = value["file"]
    # A job may come from elsewhere: it reaches only what lies beside it.
    if not name or name in {".", ".."} or Path(name).name != name:
        raise BadInput(f"{path}: {key} is {name!r}, not a file beside it", hint="give a plain file name")
    found: Path = path.parent / name
    if not found.is_file():
        raise BadInput(f"{found} is missing", hint="run 'speak' again")
    return found

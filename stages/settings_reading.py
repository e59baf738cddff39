"""How text becomes settings: types, ranges and names are checked, and what is wrong is said."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from stages.errors import BadInput
from stages.plain_yaml import read_yaml, shown
from stages.settings import BASELINE, PRESETS, STAGES, Preset, SubjectSettings

S = TypeVar("S")

_LIMITS: dict[str, tuple[float, float]] = {
    "size_px": (0, 4096), "working_size_px": (64, 1024), "max_gap_s": (0, 10), "sample_frames": (2, 1000),
    "focal_ratio": (0.2, 20), "shape_sigma_cm": (1e-3, 5), "smoothing": (0, 1e6), "levels": (1, 24),
    "log2_entries": (8, 24), "base_resolution": (2, 512), "max_resolution": (4, 65_536),
    "audio_base_resolution": (2, 512), "audio_max_resolution": (4, 65_536),
    "appearance_code": (0, 64), "occupancy_resolution": (8, 256),
    "samples_per_ray": (1, 1024), "steps": (0, 10_000_000), "lips_steps": (0, 10_000_000), "rays": (16, 1_048_576),
    "frames_per_step": (1, 64), "mouth_share": (0, 0.6), "eyes_share": (0, 0.3), "error_share": (0, 0.6),
    "mask_weight": (0, 10),
    "mouth_components": (0, 32), "mouth_lesson_steps": (1, 100_000), "code_drop": (0, 0.95),
    "grid_rate": (0, 1), "network_rate": (0, 1), "pose_rate": (0, 0.01), "bend_rate": (0, 0.1),
    "attention_gain": (0, 100), "ema_decay": (0, 0.99999), "entropy_weight": (0, 1), "audio_still_weight": (0, 10),
    "lips_lpips_weight": (0, 10), "seed": (0, 2**31 - 1), "checkpoint_every_s": (0.1, 86_400), "anchors": (1, 64),
    "pixels": (16, 4_194_304), "crf": (0, 51), "video_mb": (0.05, 100),
}  # fmt: skip
_STAGE_LIMITS: dict[str, tuple[float, float]] = {
    "frames.size_px": (128, 4096), "head.size_px": (16, 4096), "torso.size_px": (16, 4096),
    "torso.steps": (1, 10_000_000),
}  # fmt: skip
"""Where one stage allows less than others do with a key of the same name."""
_AT_MOST: dict[str, str] = {
    "base_resolution": "max_resolution", "audio_base_resolution": "audio_max_resolution", "frames_per_step": "rays",
}  # fmt: skip
"""Keys whose value may not exceed another key's."""
_CHOICES: dict[str, tuple[int, ...]] = {"features_per_level": (2, 4)}
_MULTIPLES: dict[str, int] = {"hidden_width": 16, "audio_code": 16}


def _convert(value: Any, wanted: Any, where: str) -> Any:  # noqa: ANN401 - the type is what is being checked
    """Return ``value`` as ``wanted``, accepting an int for a float and a list for a tuple."""
    origin = get_origin(wanted)
    if origin is Literal:
        if value not in get_args(wanted):
            raise BadInput(f"{where} is {shown(value)}", hint=f"choose one of: {', '.join(map(str, get_args(wanted)))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        inner = next(option for option in get_args(wanted) if option is not type(None))
        return _convert(value, inner, where)
    if origin is tuple:
        inner_types = get_args(wanted)
        if not isinstance(value, list | tuple) or len(value) != len(inner_types):
            raise BadInput(f"{where} is {shown(value)}", hint=f"give {len(inner_types)} values")
        return tuple(_convert(item, kind, where) for item, kind in zip(value, inner_types, strict=True))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    if type(value) is not wanted:
        raise BadInput(f"{where} is {shown(value)}, {_kind(value)}", hint=f"give {_NAMES.get(wanted, wanted.__name__)}")
    return value


_NAMES: dict[type, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list",
    dict: "a block of keys", type(None): "nothing",
}  # fmt: skip


def _kind(value: object) -> str:
    """What a value is, in words."""
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def _check_range(value: Any, key: str, where: str) -> None:  # noqa: ANN401 - see _convert
    """Raise when a number lies outside what the key allows."""
    limits = _STAGE_LIMITS.get(where, _LIMITS.get(key))
    if limits is not None:
        low, high = limits
        # The comparison is written so that NaN fails it.
        if not low <= value <= high:
            raise BadInput(f"{where} is {shown(value)}", hint=f"give a value from {low:g} to {high:g}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise BadInput(f"{where} is {shown(value)}", hint=f"choose one of: {', '.join(map(str, _CHOICES[key]))}")
    if key in _MULTIPLES and (value <= 0 or value > 1024 or value % _MULTIPLES[key]):
        raise BadInput(f"{where} is {shown(value)}", hint=f"give a multiple of {_MULTIPLES[key]}, 1024 at most")


def from_mapping(kind: type[S], values: Mapping[str, Any], where: str = "") -> S:
    """Settings of one stage from a mapping; what the mapping leaves out keeps its default.

    Args:
        kind: The settings' dataclass.
        values: Keys and values, as YAML or JSON gives them.
        where: What to call the mapping in messages, ``"head"``.

    Raises:
        BadInput: An unknown key, a value of the wrong type or out of range.
    """
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known: {', '.join(sorted(hints))}"
            named = f"{prefix}{key}" if str(key).isidentifier() and len(str(key)) < 60 else f"{prefix}{shown(key)}"
            raise BadInput(f"unknown setting {named}", hint=hint)
        checked[key] = _convert(value, hints[key], f"{prefix}{key}")
        _check_range(checked[key], key, f"{prefix}{key}")
    settings = kind(**checked)
    _check_together(settings, prefix)
    return settings


def _check_together(settings: object, prefix: str) -> None:
    """Raise when values that each are allowed don't go together."""
    for small, big in _AT_MOST.items():
        if hasattr(settings, small) and hasattr(settings, big):
            less, more = getattr(settings, small), getattr(settings, big)
            if less > more:
                raise BadInput(
                    f"{prefix}{small} is {less}, more than {prefix}{big}, which is {more}", hint="change one of them"
                )


def to_mapping(settings: object) -> dict[str, Any]:
    """The settings of one stage as JSON holds them."""
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"{settings!r} is no settings dataclass")
    values = dataclasses.asdict(settings)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def resolve(preset: str, changes: Mapping[str, Any]) -> SubjectSettings:
    """Every stage's settings: the defaults, what preset and backbone change, then what the user changed.

    Args:
        preset: ``draft``, ``standard``, ``full`` or ``max``.
        changes: ``{"head": {"steps": 500}, …}``, as in ``subject.yaml``.

    Raises:
        BadInput: An unknown preset, stage or key, a value of the wrong type or out of range.
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise BadInput(f"unknown preset {shown(preset)}", hint=f"choose one of: {', '.join(PRESETS)}")
    kinds = typing.get_type_hints(SubjectSettings)
    for stage, values in changes.items():
        if stage not in STAGES:
            close = difflib.get_close_matches(str(stage), STAGES, n=1)
            raise BadInput(f"unknown stage {shown(stage)} in the settings", hint=f"known: {', '.join(close or STAGES)}")
        if not isinstance(values, Mapping):
            raise BadInput(
                f"the settings of {stage} are {shown(values)}", hint=f"write '{stage}:' with indented keys below"
            )
    first = {stage: dict(PRESETS[preset].get(stage, {})) for stage in STAGES}
    if changes.get("head", {}).get("backbone") == "nerf":
        first["head"] |= BASELINE[preset]
    stages = {stage: from_mapping(kinds[stage], {**first[stage], **changes.get(stage, {})}, stage) for stage in STAGES}
    return SubjectSettings(preset=typing.cast(Preset, preset), **stages)


def parse_assignment(text: str) -> tuple[str, str, Any]:
    """``"head.steps=500"`` as ``("head", "steps", 500)``; the value is read as YAML reads a scalar or list.

    Raises:
        BadInput: The text has another form.
    """
    key, equals, value = text.partition("=")
    stage, dot, name = key.strip().partition(".")
    if not (equals and dot and stage and name):
        raise BadInput(f"{shown(text)} is no setting", hint="write STAGE.KEY=VALUE, as in head.steps=500")
    return stage, name, read_yaml(value, f"the value {shown(value)}", "write a number, a word or [a, b, c]")

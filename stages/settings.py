"""One small frozen dataclass of settings for each stage, the presets, and how text becomes them."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_origin

from stages.errors import BadInput

S = TypeVar("S")

FrontEnd = Literal["logmel", "deepspeech", "whisper", "wav2vec2", "hubert"]
Backbone = Literal["radnerf", "nerf"]
Preset = Literal["draft", "standard", "full", "max"]


@dataclass(frozen=True)
class FramesSettings:
    """How the video becomes square frames.

    Attributes:
        size_px: Side of the prepared frames.
        crop: ``(x, y, side)`` in pixels of the upright source; chosen from face detections when None.
    """

    size_px: int = 512
    crop: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class LandmarksSettings:
    """How faces are found.

    Attributes:
        model: ``tasks`` needs the Face Landmarker's file, ``mesh`` is bundled; ``auto`` takes the first present.
        max_gap_s: Longest stretch without a face that is bridged.
    """

    model: Literal["auto", "tasks", "mesh"] = "auto"
    max_gap_s: float = 0.4


@dataclass(frozen=True)
class ParsingSettings:
    """How frames are parted into head, neck, torso and background.

    Attributes:
        model: ``multiclass`` needs the multiclass segmenter's file, ``selfie`` is bundled; ``auto`` takes the
            first present.
        working_size_px: Side at which masks are computed.
    """

    model: Literal["auto", "multiclass", "selfie"] = "auto"
    working_size_px: int = 256


@dataclass(frozen=True)
class BackgroundSettings:
    """How the static background and the torso layer are made.

    Attributes:
        sample_frames: Frames that the masked temporal median looks at.
    """

    sample_frames: int = 60


@dataclass(frozen=True)
class PoseSettings:
    """How camera and head pose are solved.

    Attributes:
        focal_ratio: Focal length over the frame's height; a single face hardly tells it.
        shape_sigma_cm: Expected deviation of this face from the canonical one, a landmark.
        smoothing: Weight of the poses' second differences against the landmarks; 0 leaves them raw.
    """

    focal_ratio: float = 2.0
    shape_sigma_cm: float = 0.25
    smoothing: float = 1.0


@dataclass(frozen=True)
class AudioSettings:
    """How sound becomes features.

    Attributes:
        front_end: What computes them.
        model: Folder, file or hub name of the front end's weights; empty for its default.
    """

    front_end: FrontEnd = "logmel"
    model: str = ""


@dataclass(frozen=True)
class HeadSettings:
    """The head's field and its training (arXiv 2211.12368, sections 3 and 4).

    Attributes:
        backbone: ``radnerf``, or ``nerf`` for the baseline without grids.
        size_px: Side of the frames that it is trained on.
        levels, features_per_level, log2_entries: Both grids' shape.
        base_resolution, max_resolution: Of the 3-D grid.
        audio_max_resolution: Of the 2-D audio grid.
        hidden_width: Of every hidden layer.
        audio_code: Width of the audio code.
        appearance_code: Width of the per-frame code.
        occupancy_resolution: Cells along an edge of the occupancy grid.
        samples_per_ray: At most so many samples a ray.
        steps: Of the main phase.
        lips_steps: Of the phase that looks at the mouth.
        rays: A step.
        frames_per_step: Frames that a step's rays come from.
        mouth_share, eyes_share: Shares of the rays drawn in the boxes around mouth and eyes.
        grid_rate, network_rate: Learning rates at the start; both fall to a tenth.
        attention_gain: The audio attention's rate over ``network_rate``.
        ema_decay: Of the averaged weights that are kept.
        entropy_weight: Of the accumulated alpha's entropy.
        audio_still_weight: Of the audio coordinate's magnitude outside the face, at the end.
        mask_weight: Of the accumulated alpha's difference from the head's mask.
        mouth_components: Numbers of the measured mouth shape that drive the field beside the audio code; in new
            speech they are foretold from the sound. 0 leaves the code alone, as published.
        mouth_lesson_steps: Steps in which the audio net learns to foretell them, before the field's first.
        code_drop: Probability that a frame's audio code is hidden in a step, so that the mouth's shape drives.
        lips_lpips_weight: Of the perceptual loss on the mouth patch.
        seed: Of every random choice.
        checkpoint_every_s: Seconds between checkpoints.
    """

    backbone: Backbone = "radnerf"
    size_px: int = 128
    levels: int = 8
    features_per_level: int = 4
    log2_entries: int = 16
    base_resolution: int = 16
    max_resolution: int = 512
    audio_max_resolution: int = 512
    hidden_width: int = 64
    audio_code: int = 64
    appearance_code: int = 4
    occupancy_resolution: int = 64
    samples_per_ray: int = 16
    steps: int = 3000
    lips_steps: int = 300
    rays: int = 2048
    frames_per_step: int = 4
    mouth_share: float = 0.3
    eyes_share: float = 0.1
    grid_rate: float = 5e-3
    network_rate: float = 2e-3
    attention_gain: float = 5.0
    ema_decay: float = 0.99
    entropy_weight: float = 1e-4
    audio_still_weight: float = 0.02
    mask_weight: float = 0.01
    mouth_components: int = 6
    mouth_lesson_steps: int = 300
    code_drop: float = 0.5
    lips_lpips_weight: float = 0.01
    seed: int = 0
    checkpoint_every_s: float = 60.0


@dataclass(frozen=True)
class TorsoSettings:
    """The torso's field and its training.

    Attributes:
        size_px: Side of the frames that it is trained on.
        levels, features_per_level, log2_entries, base_resolution, max_resolution: The 2-D grid's shape.
        hidden_width: Of every hidden layer.
        appearance_code: Width of the per-frame code.
        anchors: Learnt points whose projections tell the pose.
        steps: Training steps.
        pixels: A step.
        grid_rate, network_rate: Learning rates at the start; both fall to a tenth.
        seed: Of every random choice.
        checkpoint_every_s: Seconds between checkpoints.
    """

    size_px: int = 128
    levels: int = 8
    features_per_level: int = 4
    log2_entries: int = 14
    base_resolution: int = 16
    max_resolution: int = 256
    hidden_width: int = 32
    appearance_code: int = 8
    anchors: int = 3
    steps: int = 1500
    pixels: int = 8192
    grid_rate: float = 5e-3
    network_rate: float = 2e-3
    seed: int = 0
    checkpoint_every_s: float = 60.0


@dataclass(frozen=True)
class RenderSettings:
    """How a speech is rendered.

    Attributes:
        size_px: Side of the video; 0 takes the size that the head was trained at.
        crf: x264's constant rate factor.
        sign: Whether a C2PA manifest is signed into the video.
    """

    size_px: int = 0
    crf: int = 18
    sign: bool = True


@dataclass(frozen=True)
class EvaluateSettings:
    """How held-out frames are compared.

    Attributes:
        size_px: Side at which pictures are compared; 0 takes the size that the head was trained at.
    """

    size_px: int = 0


@dataclass(frozen=True)
class SubjectSettings:
    """Every stage's settings, as a preset and the user's changes make them."""

    preset: Preset = "standard"
    frames: FramesSettings = field(default_factory=FramesSettings)
    landmarks: LandmarksSettings = field(default_factory=LandmarksSettings)
    parsing: ParsingSettings = field(default_factory=ParsingSettings)
    background: BackgroundSettings = field(default_factory=BackgroundSettings)
    pose: PoseSettings = field(default_factory=PoseSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    torso: TorsoSettings = field(default_factory=TorsoSettings)
    render: RenderSettings = field(default_factory=RenderSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)


STAGES = tuple(item.name for item in dataclasses.fields(SubjectSettings) if item.name != "preset")
"""Stages that have settings, in the order of the pipeline."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "draft": {},
    "standard": {
        "head": {"size_px": 256, "levels": 16, "features_per_level": 2, "max_resolution": 1024, "steps": 20_000,
                 "lips_steps": 2_000, "rays": 4096, "ema_decay": 0.995},
        "torso": {"size_px": 256, "log2_entries": 16, "max_resolution": 512, "steps": 5_000},
    },
    "full": {
        "head": {"size_px": 512, "levels": 16, "features_per_level": 2, "max_resolution": 2048,
                 "audio_max_resolution": 2048, "occupancy_resolution": 128, "steps": 200_000, "lips_steps": 50_000,
                 "rays": 65_536, "network_rate": 5e-4, "ema_decay": 0.995, "checkpoint_every_s": 300.0},
        "torso": {"size_px": 512, "levels": 16, "features_per_level": 2, "log2_entries": 16, "max_resolution": 2048,
                  "hidden_width": 64, "steps": 200_000, "pixels": 65_536, "network_rate": 5e-4,
                  "checkpoint_every_s": 300.0},
    },
    "max": {
        "frames": {"size_px": 1024},
        "head": {"size_px": 1024, "levels": 16, "features_per_level": 2, "log2_entries": 18, "max_resolution": 4096,
                 "audio_max_resolution": 2048, "occupancy_resolution": 128, "steps": 300_000, "lips_steps": 80_000,
                 "rays": 65_536, "network_rate": 5e-4, "ema_decay": 0.995, "checkpoint_every_s": 300.0},
        "torso": {"size_px": 1024, "levels": 16, "features_per_level": 2, "log2_entries": 17, "max_resolution": 4096,
                  "hidden_width": 64, "steps": 200_000, "pixels": 65_536, "network_rate": 5e-4,
                  "checkpoint_every_s": 300.0},
    },
}  # fmt: skip
"""What each preset changes in the defaults, which are the draft's."""

_LIMITS: dict[str, tuple[float, float]] = {
    "size_px": (0, 4096), "working_size_px": (64, 1024), "max_gap_s": (0, 10), "sample_frames": (2, 1000),
    "focal_ratio": (0.2, 20), "shape_sigma_cm": (1e-3, 5), "smoothing": (0, 1e6), "levels": (1, 24),
    "log2_entries": (8, 24), "base_resolution": (2, 512), "max_resolution": (4, 65_536),
    "audio_max_resolution": (4, 65_536), "appearance_code": (0, 64), "occupancy_resolution": (8, 256),
    "samples_per_ray": (1, 1024), "steps": (0, 10_000_000), "lips_steps": (0, 10_000_000), "rays": (16, 1_048_576),
    "frames_per_step": (1, 64), "mouth_share": (0, 0.6), "eyes_share": (0, 0.3), "mask_weight": (0, 10),
    "mouth_components": (0, 32), "mouth_lesson_steps": (1, 100_000), "code_drop": (0, 1),
    "grid_rate": (0, 1), "network_rate": (0, 1), "attention_gain": (0, 100),
    "ema_decay": (0, 0.99999), "entropy_weight": (0, 1), "audio_still_weight": (0, 10),
    "lips_lpips_weight": (0, 10), "seed": (0, 2**31 - 1), "checkpoint_every_s": (0.1, 86_400), "anchors": (1, 64),
    "pixels": (16, 4_194_304), "crf": (0, 51),
}  # fmt: skip
_CHOICES: dict[str, tuple[int, ...]] = {"features_per_level": (2, 4)}
_MULTIPLES: dict[str, int] = {"hidden_width": 16, "audio_code": 16}


def _convert(value: Any, wanted: Any, where: str) -> Any:  # noqa: ANN401 - the type is what is being checked
    """Return ``value`` as ``wanted``, accepting an int for a float and a list for a tuple."""
    origin = get_origin(wanted)
    if origin is Literal:
        if value not in get_args(wanted):
            raise BadInput(f"{where} is {value!r}", hint=f"choose one of: {', '.join(map(str, get_args(wanted)))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        inner = next(option for option in get_args(wanted) if option is not type(None))
        return _convert(value, inner, where)
    if origin is tuple:
        inner_types = get_args(wanted)
        if not isinstance(value, list | tuple) or len(value) != len(inner_types):
            raise BadInput(f"{where} is {value!r}", hint=f"give {len(inner_types)} values")
        return tuple(_convert(item, kind, where) for item, kind in zip(value, inner_types, strict=True))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise BadInput(f"{where} is {value!r}, a {type(value).__name__}", hint=f"give a {wanted.__name__}")
    return value


def _check_range(value: Any, key: str, where: str) -> None:  # noqa: ANN401 - see _convert
    """Raise when a number lies outside what the key allows."""
    if key in _LIMITS:
        low, high = _LIMITS[key]
        # The comparison is written so that NaN fails it.
        if not low <= value <= high:
            raise BadInput(f"{where} is {value}", hint=f"give a value from {low:g} to {high:g}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise BadInput(f"{where} is {value}", hint=f"choose one of: {', '.join(map(str, _CHOICES[key]))}")
    if key in _MULTIPLES and (value <= 0 or value > 1024 or value % _MULTIPLES[key]):
        raise BadInput(f"{where} is {value}", hint=f"give a multiple of {_MULTIPLES[key]}, 1024 at most")


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
            raise BadInput(f"unknown setting {prefix}{key}", hint=hint)
        checked[key] = _convert(value, hints[key], f"{prefix}{key}")
        _check_range(checked[key], key, f"{prefix}{key}")
    return kind(**checked)


def to_mapping(settings: object) -> dict[str, Any]:
    """The settings of one stage as JSON holds them."""
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"{settings!r} is no settings dataclass")
    values = dataclasses.asdict(settings)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def resolve(preset: str, changes: Mapping[str, Any]) -> SubjectSettings:
    """Every stage's settings: the defaults, what the preset changes, then what the user changed.

    Args:
        preset: ``draft``, ``standard``, ``full`` or ``max``.
        changes: ``{"head": {"steps": 500}, …}``, as in ``subject.yaml``.

    Raises:
        BadInput: An unknown preset, stage or key, a value of the wrong type or out of range.
    """
    if preset not in PRESETS:
        raise BadInput(f"unknown preset {preset!r}", hint=f"choose one of: {', '.join(PRESETS)}")
    kinds = typing.get_type_hints(SubjectSettings)
    for stage, values in changes.items():
        if stage not in STAGES:
            close = difflib.get_close_matches(str(stage), STAGES, n=1)
            raise BadInput(f"unknown stage {stage!r} in the settings", hint=f"known: {', '.join(close or STAGES)}")
        if not isinstance(values, Mapping):
            raise BadInput(f"the settings of {stage} are {values!r}", hint=f"write '{stage}:' with indented keys below")
    stages = {
        stage: from_mapping(kinds[stage], {**PRESETS[preset].get(stage, {}), **changes.get(stage, {})}, stage)
        for stage in STAGES
    }
    return SubjectSettings(preset=typing.cast(Preset, preset), **stages)


def parse_assignment(text: str) -> tuple[str, str, Any]:
    """``"head.steps=500"`` as ``("head", "steps", 500)``; the value is read as YAML reads a scalar or list.

    Raises:
        BadInput: The text has another form.
    """
    import yaml

    key, equals, value = text.partition("=")
    stage, dot, name = key.strip().partition(".")
    if not (equals and dot and stage and name):
        raise BadInput(f"{text!r} is no setting", hint="write STAGE.KEY=VALUE, as in head.steps=500")
    try:
        return stage, name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise BadInput(f"{value!r} is no value", hint="write a number, a word or [a, b, c]") from error

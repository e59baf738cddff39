"""One small frozen dataclass of settings for each stage, and the presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

FrontEnd = Literal["logmel", "both", "deepspeech", "whisper", "wav2vec2", "hubert"]
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
        skin: Whether to follow the skin's texture, and use it where it aligns the clip clearly better.
    """

    focal_ratio: float = 2.0
    shape_sigma_cm: float = 0.25
    smoothing: float = 1.0
    skin: bool = True


@dataclass(frozen=True)
class AudioSettings:
    """How sound becomes features.

    Attributes:
        front_end: What computes them; ``both`` is log-mel and Whisper side by side. ``prepare`` chooses and writes
            down the best that is installed when nothing is said.
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
        audio_base_resolution, audio_max_resolution: Of the 2-D audio grid. A fine grid needs long training: there,
            neighbouring mouths share nothing.
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
        error_share: Share of the rays drawn where the error last was, over all frames: outline, hair, teeth.
        grid_rate, network_rate: Learning rates at the start; both fall to a tenth.
        pose_rate: The same, of small corrections of the training frames' poses; 0 takes them as they were measured.
        bend_rate: The same, of what moves in single frames and nothing measured explains, as long hair does; with 0 the
            field blurs it.
        attention_gain: The audio attention's rate over ``network_rate``.
        ema_decay: Of the averaged weights that are kept.
        entropy_weight: Of the accumulated alpha's entropy.
        audio_still_weight: Of the audio coordinate's magnitude outside the face, at the end.
        mask_weight: Of the accumulated alpha's difference from the head's mask.
        warp: Whether the tracked motion of lips, jaw and eyelids is taken away before the field is asked; without
            it, as published, the field must learn all motion from colours.
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
    audio_base_resolution: int = 4
    audio_max_resolution: int = 64
    hidden_width: int = 64
    audio_code: int = 64
    appearance_code: int = 4
    occupancy_resolution: int = 64
    samples_per_ray: int = 16
    steps: int = 2400
    lips_steps: int = 240
    rays: int = 2048
    frames_per_step: int = 4
    mouth_share: float = 0.3
    eyes_share: float = 0.1
    error_share: float = 0.2
    grid_rate: float = 3e-2
    network_rate: float = 2e-3
    pose_rate: float = 1e-4
    bend_rate: float = 5e-3
    attention_gain: float = 5.0
    ema_decay: float = 0.99
    entropy_weight: float = 1e-4
    audio_still_weight: float = 5e-4
    mask_weight: float = 0.01
    warp: bool = True
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
    steps: int = 3300
    pixels: int = 8192
    grid_rate: float = 2e-2
    network_rate: float = 4e-3
    seed: int = 0
    checkpoint_every_s: float = 60.0


@dataclass(frozen=True)
class RenderSettings:
    """How a speech is rendered.

    Attributes:
        size_px: Side of the video; 0 takes the size that the head was trained at.
        crf: x264's constant rate factor; NVENC's constant quality, which counts the same way.
        encoder: What writes the video: ``x264``, or ``nvenc`` of an NVIDIA GPU; ``auto`` takes that where a GPU draws
            the pictures and its encoder opens.
        sign: Whether a C2PA manifest is signed into the video.
        signing_key: Absolute path of the PEM key that signs; empty for this machine's own.
        signing_certificates: Absolute path of its PEM certificate chain; empty when the key's file holds it too.
    """

    size_px: int = 0
    crf: int = 18
    encoder: Literal["auto", "x264", "nvenc"] = "auto"
    sign: bool = True
    signing_key: str = ""
    signing_certificates: str = ""


@dataclass(frozen=True)
class EvaluateSettings:
    """How held-out frames are compared.

    Attributes:
        size_px: Side at which pictures are compared; 0 takes the size that the head was trained at.
    """

    size_px: int = 0


@dataclass(frozen=True)
class ReportSettings:
    """How the page about a trained subject is made.

    Attributes:
        size_px: Side at which moving pictures are shown, at most; 0 takes the size that faces were read at.
        video_mb: Most megabytes of the video inside the page: compressed harder, made smaller, then cut to fit.
        sign: Whether a C2PA manifest is signed into the video.
    """

    size_px: int = 256
    video_mb: float = 6.0
    sign: bool = True


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
    report: ReportSettings = field(default_factory=ReportSettings)


STAGES = tuple(item.name for item in dataclasses.fields(SubjectSettings) if item.name != "preset")
"""Stages that have settings, in the order of the pipeline."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "draft": {},
    "standard": {
        "head": {"size_px": 256, "grid_rate": 2e-2, "levels": 16, "features_per_level": 2, "max_resolution": 1024,
                 "steps": 20_000, "lips_steps": 2_000, "rays": 4096, "ema_decay": 0.995},
        "torso": {"size_px": 256, "log2_entries": 16, "max_resolution": 512, "steps": 5_000},
    },
    "full": {
        "head": {"size_px": 512, "levels": 16, "features_per_level": 2, "max_resolution": 2048,
                 "audio_base_resolution": 16, "audio_max_resolution": 2048, "occupancy_resolution": 128,
                 "steps": 200_000, "lips_steps": 50_000, "rays": 65_536, "grid_rate": 5e-3, "network_rate": 5e-4,
                 "pose_rate": 2.5e-5, "bend_rate": 1.25e-3, "ema_decay": 0.995, "checkpoint_every_s": 300.0},
        "torso": {"size_px": 512, "levels": 16, "features_per_level": 2, "log2_entries": 16, "max_resolution": 2048,
                  "hidden_width": 64, "steps": 200_000, "pixels": 65_536, "grid_rate": 5e-3, "network_rate": 5e-4,
                  "checkpoint_every_s": 300.0},
    },
    "max": {
        "frames": {"size_px": 1024},
        "head": {"size_px": 1024, "levels": 16, "features_per_level": 2, "log2_entries": 18, "max_resolution": 4096,
                 "audio_base_resolution": 16, "audio_max_resolution": 2048, "occupancy_resolution": 128,
                 "steps": 300_000, "lips_steps": 80_000, "rays": 65_536, "grid_rate": 5e-3, "network_rate": 5e-4,
                 "pose_rate": 2.5e-5, "bend_rate": 1.25e-3, "ema_decay": 0.995, "checkpoint_every_s": 300.0},
        "torso": {"size_px": 1024, "levels": 16, "features_per_level": 2, "log2_entries": 17, "max_resolution": 4096,
                  "hidden_width": 64, "steps": 200_000, "pixels": 65_536, "grid_rate": 5e-3, "network_rate": 5e-4,
                  "checkpoint_every_s": 300.0},
    },
}  # fmt: skip
"""What each preset changes in the defaults, which are the draft's."""

BASELINE: dict[str, dict[str, Any]] = {
    preset: {"lips_steps": 0, "rays": 1024, "network_rate": 5e-4, "pose_rate": 0.0, "bend_rate": 0.0,
             "error_share": 0.0}
    for preset in ("standard", "full", "max")
} | {
    "draft": {"steps": 120, "lips_steps": 0, "rays": 256, "frames_per_step": 1, "network_rate": 5e-4, "pose_rate": 0.0,
              "bend_rate": 0.0, "error_share": 0.0},
}  # fmt: skip
"""What ``head.backbone: nerf`` changes in a preset: it takes 256 samples a ray, each through nine wide layers."""

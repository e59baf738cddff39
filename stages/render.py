"""Render a portrait that speaks: sound in, a video with that sound out, written as it renders."""

from __future__ import annotations

import dataclasses
import datetime as dt
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radnerf.camera import yaw_pitch_rotation
from radnerf.devices import pick_device
from radnerf.gpu_portrait import painter_for
from radnerf.kernels import get_backend
from stages import progress
from stages.atomic_files import atomic_path, save_json
from stages.backdrop import clip_background, picture_background, plain_background
from stages.blinks import learn_style
from stages.cutout import Figure, write_cutouts
from stages.errors import BadInput
from stages.formats import FPS, Track
from stages.frame_queue import Frame, FrameQueue, Pending
from stages.head_file import load_head
from stages.hearing import Features, check_heard, hear, open_features
from stages.media import VideoWriter
from stages.motion import Performance, borrowed_motion, own_motion, perform
from stages.provenance import Statement, container_metadata, model_version_of, radnerf_version, sign_video
from stages.scene import Scene
from stages.settings import RenderSettings
from stages.signing_key import Credentials, given_credentials
from stages.speech_activity import load_activity
from stages.speech_job import SpeechJob, load_job
from stages.torso_file import load_torso
from stages.training_data import camera_of
from stages.video_encoder import choose_encoder

_FRAMES_AT_ONCE = 250  # whose sound is heard together; ten seconds
_LEAST_SIZE_PX = 16
_SCRATCH = ".rendering-"


@dataclass(frozen=True)
class Inputs:
    """A speech and the trained subject that is to speak it; see ``SpeechFolder`` and ``Workspace``."""

    job: Path
    speech: Path
    features: Path
    head: Path
    torso: Path
    background: Path
    track: Path


@dataclass(frozen=True)
class Outputs:
    """What the stage writes.

    Attributes:
        video: H.264 and AAC in MP4.
        summary: What was made and what it took (JSON).
        cutout: ProRes 4444 with alpha in QuickTime, where the job asks for it; None for nowhere.
        stills: PNG with alpha (zip), where the job asks for them; None for nowhere.
    """

    video: Path
    summary: Path
    cutout: Path | None = None
    stills: Path | None = None


def run(
    inputs: Inputs, outputs: Outputs, settings: RenderSettings, *, backend: str = "auto", device: str = "auto"
) -> None:
    """Render a speech.

    The video has ``ceil(25 * seconds)`` frames, and picture and sound both begin at 0. The summary's ``seconds`` is
    the time that rendering took, signing included, ``fps`` the frames over it, ``peak_rss_mb`` the most memory that
    this process and the encoder had, ``duration_s`` the length of the video.

    Args:
        inputs: The speech and the subject.
        outputs: Where to write.
        settings: How.
        backend: The kernels' name.
        device: Where to compute, as ``radnerf.devices.pick_device`` takes it.

    Raises:
        BadInput: A file is missing, damaged, or does not fit the others, or the job asks for what cannot be.
        RadnerfError: The video cannot be written, as on a full disk.
    """
    started = time.monotonic()
    job = load_job(inputs.job)
    place = pick_device(device)
    head, header = load_head(inputs.head, backend, place)
    size_px = job.size_px or settings.size_px or int(header["settings"]["size_px"])
    if size_px < _LEAST_SIZE_PX:
        raise BadInput(f"render.size_px is {size_px}", hint=f"give {_LEAST_SIZE_PX} or more, or 0 for the trained size")
    track = Track.load(inputs.track)
    with open_features(inputs.features) as features:
        check_heard(inputs.head, head, header, features)
        scene = _Scene(
            head=head,
            torso=load_torso(inputs.torso, backend, place),
            kernels=get_backend(backend, place),
            camera=camera_of(track).scaled(size_px),
            performance=_performance(job, track, inputs.features, features.frames),
            turn=yaw_pitch_rotation(*job.view_deg),
            background=torch.from_numpy(_background(job, inputs.background, size_px)).float() / 255,
        )
        painter = painter_for(scene.head, scene.torso, scene.kernels, scene.camera, scene.background)
        scene = dataclasses.replace(scene, painter=painter)
        _write_cutouts(inputs, outputs, settings, job, scene, features)
        _write(inputs, outputs, settings, job, scene, features)
        frames = features.frames
    seconds = time.monotonic() - started
    save_json(
        outputs.summary,
        {
            "video": str(outputs.video),
            "frames": frames,
            "seconds": round(seconds, 2),
            "fps": round(frames / seconds, 2),
            "peak_rss_mb": round(peak_rss_mb(), 1),
            "duration_s": frames / FPS,
            "frames_per_second": FPS,
            "width": size_px + size_px % 2,
            "height": size_px + size_px % 2,
            "backend": scene.kernels.name,
            "signed": settings.sign,
        },
    )


def peak_rss_mb() -> float:
    """The most memory that this process had at once, and the largest process that it started and that has ended."""
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit


def _performance(job: SpeechJob, track: Track, features: Path, frames: int) -> Performance:
    """How head and eyes move in the video."""
    motion = own_motion(track) if job.pose is None else borrowed_motion(track, Track.load(job.pose))
    style = learn_style(track.eye_open, track.tracked)
    activity = load_activity(features, frames)
    return perform(motion, frames, eyes=job.eyes, style=style, seed=job.seed, activity=activity)


def _background(job: SpeechJob, own: Path, size_px: int) -> npt.NDArray[np.uint8]:
    if job.background_colour is not None:
        return plain_background(job.background_colour, size_px)
    if job.background_image is not None:
        return picture_background(job.background_image, size_px)
    return clip_background(own, size_px)


@dataclass(frozen=True, kw_only=True)
class _Scene(Scene):
    """A scene and what happens in it, but the sound.

    Attributes:
        performance: Poses and eyes.
        turn: (3, 3) float32, of the head beyond its pose, in its own frame.
    """

    performance: Performance
    turn: Tensor

    def frame(self, index: int, code: Tensor, mouth: Tensor) -> Frame | Pending:
        """A frame of the video.

        Args:
            index: Number of the frame.
            code: (1, A) float, audio code.
            mouth: (1, M) float, mouth components.

        Returns:
            (S, S, 3) uint8 RGB, or what waits for it.
        """
        return self.picture(self.performance.pose(index), self.turn, self.performance.eye(index), code, mouth)


def _frames(scene: _Scene, features: Features) -> Iterator[Frame | Pending]:
    """Every frame of the video in order."""
    for first in range(0, features.frames, _FRAMES_AT_ONCE):
        last = min(first + _FRAMES_AT_ONCE, features.frames)
        code, mouth = hear(scene.head, features, first, last)
        for index in range(first, last):
            row = slice(index - first, index - first + 1)
            yield scene.frame(index, code[row], mouth[row])


def _write(
    inputs: Inputs, outputs: Outputs, settings: RenderSettings, job: SpeechJob, scene: _Scene, features: Features
) -> None:
    """Render, encode and sign; the video appears only when it is whole."""
    model_version = model_version_of(inputs.head, inputs.torso)
    side = scene.camera.width_px
    outputs.video.parent.mkdir(parents=True, exist_ok=True)
    for left_over in outputs.video.parent.glob(f"{_SCRATCH}*"):
        # By a run that was killed.
        shutil.rmtree(left_over, ignore_errors=True)
    # In a folder of its own, so that it is signed under its own name.
    with (
        atomic_path(outputs.video) as temporary,
        tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=outputs.video.parent) as folder,
    ):
        video = Path(folder) / outputs.video.name
        with (
            VideoWriter(
                video,
                (side, side),
                FPS,
                audio=inputs.speech,
                length=features.frames,
                crf=settings.crf,
                encoder=choose_encoder((side, side), settings.encoder, on_gpu=scene.head.aabb.device.type == "cuda"),
                metadata=container_metadata(job.subject, model_version, job.consent),
            ) as writer,
            FrameQueue(writer) as waiting,
        ):
            for frame in progress.track(_frames(scene, features), "render", features.frames):
                waiting.put(frame)
        _sign(video, model_version, job, settings)
        video.replace(temporary)


def _write_cutouts(
    inputs: Inputs, outputs: Outputs, settings: RenderSettings, job: SpeechJob, scene: _Scene, features: Features
) -> None:
    """Write what the job asks for without a background, and take away what an earlier job asked for."""
    wanted = {path for path, asked in ((outputs.cutout, job.cutout), (outputs.stills, job.stills)) if path and asked}
    for path in (outputs.cutout, outputs.stills):
        if path is not None and path not in wanted:
            path.unlink(missing_ok=True)
    if not wanted:
        return
    model_version = model_version_of(inputs.head, inputs.torso)
    write_cutouts(
        Figure(scene.head, scene.torso, scene.kernels, scene.camera, scene.performance, scene.turn),
        features,
        inputs.speech,
        video=outputs.cutout if outputs.cutout in wanted else None,
        stills=outputs.stills if outputs.stills in wanted else None,
        metadata=container_metadata(job.subject, model_version, job.consent),
        sign=lambda video: _sign(video, model_version, job, settings),
    )


def _sign(video: Path, model_version: str, job: SpeechJob, settings: RenderSettings) -> None:
    """Sign a finished video, unless the settings say not to."""
    if settings.sign:
        statement = Statement(job.subject, model_version, job.consent, radnerf_version(), dt.datetime.now(dt.UTC))
        sign_video(video, statement, job.signing or usual_signer(settings))


def usual_signer(settings: RenderSettings) -> Credentials | None:
    """Who signs where the job does not say; None for this machine's own key."""
    if not settings.signing_key:
        return None
    paths = [Path(settings.signing_key)]
    if settings.signing_certificates:
        paths.append(Path(settings.signing_certificates))
    for path in paths:
        if not path.is_absolute():
            raise BadInput(f"render.signing_key is {path}", hint="give an absolute path")
    return given_credentials(*paths)

"""Makes the demo subject's video with its truth, and a sentence that the video doesn't say."""

from __future__ import annotations

import collections
import wave
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import numpy as np
from numpy.typing import NDArray

from stages.atomic_files import atomic_path
from stages.demo.animate import FPS, Motion, animate
from stages.demo.face import MOUTH_CORNERS, Pose, lip_measures_cm
from stages.demo.figure import Placement, place
from stages.demo.mesh import Floats
from stages.demo.render import BASE_CM, FOCAL_SHARE, Frame, Subject, make_subject, render
from stages.demo.speech import SAMPLE_RATE_HZ, Speech, Voice, speak, speak_for
from stages.demo.text import held_out_for
from stages.errors import BadInput
from stages.media import VideoWriter
from stages.progress import track

_CRF, _PRESET = 14, "fast"
_TAGS = {"title": "radnerf demo subject", "comment": "Synthetic: a drawn figure with a synthesised voice."}
_TAIL_S = 0.5


@dataclass(frozen=True)
class DemoSettings:
    """What demo to make.

    Attributes:
        duration_s: Length of the video, at least 1.
        size: Edge of the square picture, even, at least 64.
        seed: Of texture, order of sentences, movement.
        voice: Who speaks.
        workers: Threads that draw frames; the result doesn't depend on it.
    """

    duration_s: float = 20.0
    size: int = 512
    seed: int = 0
    voice: Voice = field(default_factory=Voice)
    workers: int = 2

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            BadInput: A value is out of its range.
        """
        if not 1.0 <= self.duration_s <= 3600:
            raise BadInput(f"a demo of {self.duration_s} s cannot be made", hint="give 1 to 3600 seconds")
        if self.size < 64 or self.size % 2:
            raise BadInput(f"a demo of {self.size} pixels cannot be made", hint="give an even size of at least 64")


def make_demo_video(output: Path, truth: Path, settings: DemoSettings) -> None:
    """Write the video (H.264 and AAC in mp4, 25 frames/s) and the truth about every frame.

    Args:
        output: The mp4.
        truth: A ``.npz`` with, for n frames, poses in camera axes as everywhere
            (x_cam = rotation @ x_head + translation_cm, a pinhole with the principal point in the middle):
            ``rotation`` (n, 3, 3) and ``translation_cm`` (n, 3) float64; ``focal_px`` and ``fps`` scalars;
            ``lip_opening_cm`` and ``lip_width_cm`` (n,) in the head, ``lip_opening_px`` and ``lip_width_px`` (n,)
            in the picture (landmarks 13 to 14 and 61 to 291); ``eye_openness`` (n,) in [0, 1]; ``brow`` (n,) in
            [-1, 1], lowered to raised;
            ``blink_frames`` (b,) int64, the middle of each blink; ``landmarks_px`` (n, 468, 2) float64;
            ``classes`` (n, size, size) uint8: 0 background, 1 torso, 2 neck, 3 head with hair;
            ``background`` (size, size, 3) uint8 RGB, the empty room; ``phoneme_symbol`` (p,) text,
            ``phoneme_start_s`` and ``phoneme_end_s`` (p,) float64.
        settings: What to make.

    Raises:
        RadnerfError: espeak-ng is missing or failed, or a file cannot be written.
    """
    speech = speak_for(settings.duration_s, settings.seed, settings.voice)
    motion = animate(speech, settings.seed)
    subject = make_subject(settings.size, settings.seed)
    count = len(motion.opening)
    shape = (count, settings.size, settings.size)
    rows: list[dict[str, Floats | float]] = []
    with (
        atomic_path(output) as video_path,
        atomic_path(truth) as truth_path,
        zipfile.ZipFile(truth_path, "w", zipfile.ZIP_DEFLATED) as archive,
        TemporaryDirectory(prefix=".speech-", dir=output.parent) as folder,
    ):
        sound = Path(folder) / "speech.wav"
        _write_wav(sound, speech.samples)
        writer = VideoWriter(video_path, shape[1:], FPS, audio=sound, crf=_CRF, preset=_PRESET, metadata=_TAGS)
        with writer, _array_member(archive, "classes") as classes:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(classes, header)  # type: ignore[no-untyped-call]
            frames = draw_frames(subject, motion, range(count), settings.workers)
            for placement, frame in track(frames, "drawing the demo subject", count):
                writer.write(frame.image)
                classes.write(frame.classes.tobytes())
                rows.append(_frame_truth(placement, frame))
        arrays = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
        for name, array in {**arrays, **_clip_truth(subject, motion, speech)}.items():
            with _array_member(archive, name) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)  # type: ignore[no-untyped-call]


def make_demo_speech(output: Path, voice: Voice | None = None) -> None:
    """Write the sentence that no demo video says, as a mono 16-bit wav.

    Args:
        output: The wav.
        voice: Who speaks; the demo's own voice by default.

    Raises:
        RadnerfError: espeak-ng is missing or failed, or the file cannot be written.
    """
    voice = voice or Voice()
    spoken = speak((held_out_for(voice.name),), voice)[0].samples
    silence = np.zeros(round(_TAIL_S * SAMPLE_RATE_HZ), dtype=np.float32)
    with atomic_path(output) as path:
        _write_wav(path, np.concatenate([silence, spoken, silence]))


def draw_frames(subject: Subject, motion: Motion, frames: range, workers: int = 1) -> Iterator[tuple[Placement, Frame]]:
    """Draw some frames of a motion, in order, a few ahead of the one that is asked for."""

    def draw(index: int) -> tuple[Placement, Frame]:
        pose, placement = pose_at(motion, index), place(motion.angles_deg[index], motion.shift_cm[index], BASE_CM)
        return placement, render(subject, pose, placement, motion.gaze_deg[index])

    waiting: collections.deque[Future[tuple[Placement, Frame]]] = collections.deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for index in frames:
            waiting.append(pool.submit(draw, index))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pose_at(motion: Motion, index: int) -> Pose:
    """The state of the face in a frame."""
    return Pose(
        opening=float(motion.opening[index]),
        width=float(motion.width[index]),
        protrusion=float(motion.protrusion[index]),
        tuck=float(motion.tuck[index]),
        eye_openness=float(motion.eye_openness[index]),
        brow=float(motion.brow[index]),
    )


def _array_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A member of an ``.npz`` to write into; the class maps go there frame by frame, at constant memory."""
    member = zipfile.ZipInfo(f"{name}.npy")
    member.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(member, "w", force_zip64=True)


def _frame_truth(placement: Placement, frame: Frame) -> dict[str, Floats | float]:
    opening_cm, width_cm = lip_measures_cm(frame.landmarks_cm)
    points = frame.landmarks_px
    return {
        "rotation": placement.rotation,
        "translation_cm": placement.translation_cm,
        "lip_opening_cm": opening_cm,
        "lip_width_cm": width_cm,
        "lip_opening_px": float(np.linalg.norm(points[13] - points[14])),
        "lip_width_px": float(np.linalg.norm(points[MOUTH_CORNERS[0]] - points[MOUTH_CORNERS[1]])),
        "landmarks_px": points,
    }


def _clip_truth(subject: Subject, motion: Motion, speech: Speech) -> dict[str, NDArray[np.generic]]:
    return {
        "focal_px": np.array(FOCAL_SHARE * subject.size),
        "fps": np.array(FPS),
        "eye_openness": motion.eye_openness,
        "brow": motion.brow,
        "blink_frames": motion.blink_frames,
        "background": subject.empty_room(),
        "phoneme_symbol": np.array([phoneme.symbol for phoneme in speech.phonemes]),
        "phoneme_start_s": np.array([phoneme.start_s for phoneme in speech.phonemes]),
        "phoneme_end_s": np.array([phoneme.end_s for phoneme in speech.phonemes]),
    }


def _write_wav(path: Path, samples: NDArray[np.float32]) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE_HZ)
        sound.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())

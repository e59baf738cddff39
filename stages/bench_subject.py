"""The subject that is measured where the user names none: a drawn head with known poses, trained for a moment."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
import wave
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages import audio, head, torso
from stages.archive import ArchiveWriter, frame_name
from stages.atomic_files import atomic_path
from stages.demo.animate import FPS, Motion, animate
from stages.demo.face import lip_measures_cm
from stages.demo.make import draw_frames
from stages.demo.render import BASE_CM, FOCAL_SHARE, Frame, make_subject
from stages.demo.speech import SAMPLE_RATE_HZ, Phoneme, Speech
from stages.errors import BadInput
from stages.formats import NECK, TORSO, Landmarks, Track
from stages.head_file import load_head
from stages.progress import track
from stages.provenance import radnerf_version
from stages.settings import AudioSettings, HeadSettings, TorsoSettings
from stages.settings_reading import to_mapping
from stages.torso_file import load_torso
from stages.user_folders import cache_folder
from stages.vision.face_measures import BROWS, LIP_INDICES, OUTER_EYE_CORNERS
from stages.vision.images import encode_jpeg, encode_png
from stages.workspace import Workspace

SIZE_PX = 128
_SEED = 0
_LAYOUT = 2  # of what is drawn and kept here
_BABBLE = ("m", "a", "b", "i", "p", "u", "", "f", "o", "ɛ", "w")
_SOUND_S = 0.12
_EYE_CORNERS = np.array([33, 133, 362, 263])


@dataclass(frozen=True)
class DrawnSettings:
    """How the subject is drawn and trained.

    Attributes:
        frames: Of its clip, at least 60.
        head: Of the head's training.
        torso: Of the torso's.
    """

    frames: int = 75
    head: HeadSettings = field(
        default_factory=lambda: HeadSettings(size_px=SIZE_PX, steps=600, lips_steps=0, mouth_lesson_steps=20)
    )
    torso: TorsoSettings = field(default_factory=lambda: TorsoSettings(size_px=SIZE_PX, steps=400, pixels=4096))


def quick_settings() -> DrawnSettings:
    """Those of a hurried measurement: as many steps as it takes for the empty cells to be found."""
    usual = DrawnSettings()
    return dataclasses.replace(
        usual,
        frames=60,
        head=dataclasses.replace(usual.head, steps=200, rays=512, mouth_lesson_steps=1),
        torso=dataclasses.replace(usual.torso, steps=40),
    )


def drawn_subject(settings: DrawnSettings, *, acceptable: tuple[DrawnSettings, ...] = ()) -> Workspace:
    """The drawn subject, made unless an earlier call of the same radnerf has made it.

    Args:
        settings: How to make it.
        acceptable: Others that serve as well, where they are there already.

    Returns:
        Its folder, in the user's cache: everything that rendering and training read.
    """
    parent = cache_folder() / "bench"
    for wanted in (*acceptable, settings):
        workspace = Workspace(parent / _digest(wanted))
        if _is_whole(workspace):
            return workspace
    final = parent / _digest(settings)
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=parent) as folder:
        made = Workspace(Path(folder) / "subject")
        _make(made, settings)
        shutil.rmtree(final, ignore_errors=True)
        made.root.replace(final)
    return Workspace(final)


def _is_whole(workspace: Workspace) -> bool:
    try:
        load_head(workspace.head)
        load_torso(workspace.torso)
    except BadInput:
        return False
    return workspace.track.is_file()


def _digest(settings: DrawnSettings) -> str:
    """Changes with the settings, the version, and the code that decides what a trained head is like."""
    told = [_LAYOUT, radnerf_version(), settings.frames, to_mapping(settings.head), to_mapping(settings.torso)]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    engine = Path(__file__).parent.parent / "radnerf"
    for path in (*sorted(engine.glob("*.py")), Path(head.__file__), Path(torso.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _make(workspace: Workspace, settings: DrawnSettings) -> None:
    """Draw, listen, train."""
    speech = babble(settings.frames / FPS)
    motion = animate(speech, _SEED)
    _draw(workspace, motion, settings.frames)
    sound = workspace.audio
    sound.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(sound), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(SAMPLE_RATE_HZ)
        stream.writeframes((speech.samples * 32767).astype("<i2").tobytes())
    audio.run(audio.Inputs(sound), audio.Outputs(workspace.features), AudioSettings())
    seen = (workspace.layers, workspace.parsing, workspace.background, workspace.track, workspace.features)
    head.run(
        head.Inputs(*seen, landmarks=workspace.landmarks),
        head.Outputs(workspace.head, workspace.head_history, workspace.head_state, workspace.cache),
        settings.head,
    )
    torso.run(
        torso.Inputs(*seen, workspace.head),
        torso.Outputs(workspace.torso, workspace.torso_history, workspace.torso_state, workspace.cache),
        settings.torso,
    )
    workspace.head_state.unlink(missing_ok=True)
    workspace.torso_state.unlink(missing_ok=True)
    shutil.rmtree(workspace.cache, ignore_errors=True)


def babble(duration_s: float) -> Speech:
    """A buzz in syllables with the mouth that belongs to them; needs no voice."""
    count = round(duration_s * SAMPLE_RATE_HZ)
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    order = np.arange(int(duration_s / _SOUND_S) + 1)
    phonemes = tuple(
        Phoneme(_BABBLE[n % len(_BABBLE)], n * _SOUND_S, min((n + 1) * _SOUND_S, duration_s)) for n in order.tolist()
    )
    loud = np.array([0.0 if phoneme.symbol in ("", "m", "b", "p") else 0.3 for phoneme in phonemes])
    envelope = np.interp(time_s, (order + 0.5) * _SOUND_S, loud)
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    buzz = sum(np.sin(overtone * phase) / overtone for overtone in range(1, 12))
    return Speech((envelope * buzz / 2).astype(np.float32), phonemes)


def _draw(workspace: Workspace, motion: Motion, frames: int) -> None:
    """Write pictures, masks, torso layer, background and poses, all of them known."""
    subject = make_subject(SIZE_PX, _SEED)
    for path in (workspace.layers, workspace.parsing, workspace.track, workspace.landmarks):
        path.parent.mkdir(parents=True, exist_ok=True)
    workspace.background.write_bytes(encode_png(subject.empty_room()))
    poses, faces, seen = [], [], []
    with (
        atomic_path(workspace.layers) as layers_path,
        atomic_path(workspace.parsing) as parsing_path,
        ArchiveWriter(layers_path) as layers,
        ArchiveWriter(parsing_path) as parsing,
    ):
        drawn = draw_frames(subject, motion, range(frames), workers=2)
        for index, (placement, frame) in enumerate(track(drawn, "drawing a head", frames)):
            colour, alpha = _torso_layer(frame)
            layers.add(frame_name(index, ".truth.jpg"), encode_jpeg(frame.image))
            layers.add(frame_name(index, ".torso.jpg"), encode_jpeg(colour))
            layers.add(frame_name(index, ".torso.png"), encode_png(alpha))
            parsing.add(frame_name(index, ".png"), encode_png(frame.classes))
            poses.append((placement.rotation, placement.translation_cm))
            faces.append(frame.landmarks_cm)
            seen.append(frame.landmarks_px)
    _track(poses, np.stack(faces), motion).save(workspace.track)
    _landmarks(np.stack(seen), np.stack(faces)).save(workspace.landmarks)


def _torso_layer(frame: Frame) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The torso's colour, grown upwards under the head, and its alpha."""
    there = np.isin(frame.classes, (TORSO, NECK)).astype(np.uint8)
    down = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (SIZE_PX // 8, SIZE_PX // 8))
    grown = np.asarray(cv2.dilate(there, down)) & ((frame.classes != 0).astype(np.uint8))
    hidden = ((grown > 0) & (there == 0)).astype(np.uint8)
    colour = np.asarray(cv2.inpaint(frame.image, hidden, 3, cv2.INPAINT_TELEA), dtype=np.uint8)
    alpha = np.asarray(cv2.GaussianBlur(grown * np.uint8(255), (3, 3), 0), dtype=np.uint8)
    return colour, alpha


def _landmarks(pixels: NDArray[np.float64], faces_cm: NDArray[np.float64]) -> Landmarks:
    """The truth (N, 468, 2) px and (N, 468, 3) cm in the place of what a landmarker would find."""
    depth = -faces_cm[..., 2:] * FOCAL_SHARE * SIZE_PX / BASE_CM[2]
    points = np.concatenate([pixels, depth], axis=2)
    irises = np.repeat(points[:, _EYE_CORNERS].reshape(len(points), 2, 2, 3).mean(axis=2), 5, axis=1)
    points = np.concatenate([points, irises], axis=1).astype(np.float32)
    return Landmarks(points=points, found=np.ones(len(points), np.bool_), model="mesh", size_px=SIZE_PX)


def _track(
    poses: list[tuple[NDArray[np.float64], NDArray[np.float64]]], landmarks_cm: NDArray[np.float64], motion: Motion
) -> Track:
    """The truth in the place of what tracking would find."""
    measures = np.array([lip_measures_cm(face) for face in landmarks_cm])
    eyes = landmarks_cm[:, OUTER_EYE_CORNERS]
    unit = np.linalg.norm(eyes[:, 0] - eyes[:, 1], axis=1)
    brows_cm = landmarks_cm[:, list(BROWS), 1].mean(axis=1)
    return Track(
        rotation=np.stack([rotation for rotation, _ in poses]).astype(np.float32),
        translation=np.stack([translation for _, translation in poses]).astype(np.float32),
        eye_open=motion.eye_openness[: len(poses)].astype(np.float32),
        mouth_open=(measures[:, 0] / unit).astype(np.float32),
        mouth_wide=(measures[:, 1] / unit).astype(np.float32),
        mouth_shape=landmarks_cm[:, LIP_INDICES, :2].astype(np.float32),
        tracked=np.ones(len(poses), np.bool_),
        blinks=motion.blink_frames[motion.blink_frames < len(poses)].astype(np.int64),
        shape_offset_cm=np.zeros((468, 3), np.float32),
        focal_px=float(FOCAL_SHARE * SIZE_PX),
        centre_x_px=SIZE_PX / 2,
        centre_y_px=SIZE_PX / 2,
        reprojection_rms_px=0.0,
        size_px=SIZE_PX,
        brow_mm=(10 * (brows_cm - np.median(brows_cm))).astype(np.float32),
    )

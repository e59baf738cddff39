"""A data folder of RAD-NeRF, ER-NeRF or AD-NeRF as a prepared subject."""

from __future__ import annotations

import csv
import json
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages import formats, progress
from stages.archive import ArchiveWriter, frame_name
from stages.atomic_files import atomic_path, save_json
from stages.errors import BadInput
from stages.formats import FPS, SAMPLE_RATE_HZ, AudioFeatures, Landmarks, Track
from stages.media import decode_audio
from stages.peer_alignment import align_head, measured_track
from stages.peer_camera import from_euler, from_matrices
from stages.peer_files import BLINK_FULL, PeerFolder, read_classes, rows_of
from stages.vision.face_measures import find_blinks
from stages.vision.images import Rgb, decode_rgb, encode_jpeg, encode_png
from stages.vision.push_pull import fill
from stages.vision.reprojection import Pinhole
from stages.workspace import Workspace

GIVEN = ("frames", "landmarks", "parsing", "background", "pose")
"""Stages that never run for an imported subject."""

LEAST_FRAMES = 50
"""Fewer frames than two seconds make no portrait."""

_MOST_JSON_BYTES = 1_000_000_000
_HINT = "give a folder that one of these programs has prepared"

FindLandmarks = Callable[[Path, Path], None]
"""Writes the landmarks (second path) of a frames archive (first path)."""


@dataclass(frozen=True)
class Poses:
    """Camera and poses as the folder has them.

    Attributes:
        numbers: (N,) int64, the frames' numbers, ascending.
        camera: In pixels of the frames.
        rotation: (N, 3, 3), head to camera.
        translation: (N, 3), cm if a unit is a metre.
    """

    numbers: NDArray[np.int64]
    camera: Pinhole
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]


def read_poses(peer: PeerFolder) -> Poses:
    """The poses of ``transforms_*.json``, or where there are none of ``track_params.pt``.

    Raises:
        BadInput: There is neither, or what is there is damaged.
    """
    found = [peer.transforms(split) for split in ("train", "val") if peer.transforms(split).is_file()]
    if found:
        return _poses_of_json(found)
    if peer.track.is_file():
        return _poses_of_track(peer)
    raise BadInput(f"{peer.root} has neither transforms_train.json nor track_params.pt", hint=_HINT)


def _poses_of_json(paths: list[Path]) -> Poses:
    matrices: dict[int, Any] = {}
    camera = None
    for path in paths:
        try:
            if path.stat().st_size > _MOST_JSON_BYTES:
                raise BadInput(f"{path} is larger than any clip's poses", hint=_HINT)
            told = json.loads(path.read_text(encoding="utf-8"))
            camera = Pinhole(float(told["focal_len"]), float(told["cx"]), float(told["cy"]))
            for frame in told["frames"]:
                matrices[int(frame["img_id"])] = np.array(frame["transform_matrix"], np.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is damaged: {type(error).__name__} {error}", hint=_HINT) from error
    numbers = np.array(sorted(matrices), np.int64)
    if camera is None or len(numbers) < LEAST_FRAMES:
        raise BadInput(f"{paths[0]} has {len(numbers)} frames", hint=f"{LEAST_FRAMES} are the least")
    if any(matrices[number].shape != (4, 4) for number in numbers):
        raise BadInput(f"{paths[0]} has a transform_matrix that is not 4 x 4", hint=_HINT)
    rotation, translation = from_matrices(np.stack([matrices[number] for number in numbers]))
    return _checked(Poses(numbers, camera, rotation, translation), paths[0])


def _poses_of_track(peer: PeerFolder) -> Poses:
    """Read without unpickling: a torch file from anywhere may hold a program."""
    import torch

    try:
        told = torch.load(peer.track, map_location="cpu", weights_only=True)
        euler, trans = (told[key].double().numpy() for key in ("euler", "trans"))
        focal = float(told["focal"].reshape(-1)[0])
    except Exception as error:
        raise BadInput(f"{peer.track} cannot be read safely: {type(error).__name__}", hint=_HINT) from error
    picture = _picture(peer.picture("ori_imgs", 0))
    camera = Pinhole(focal, picture.shape[1] / 2, picture.shape[0] / 2)
    rotation, translation = from_euler(euler, trans)
    return _checked(Poses(np.arange(len(euler)), camera, rotation, translation), peer.track)


def _checked(poses: Poses, path: Path) -> Poses:
    """Raise unless every rotation is one and the head is before the camera."""
    flat = poses.rotation.reshape(-1, 9)
    finite = bool(np.isfinite(flat).all() and np.isfinite(poses.translation).all()) and poses.camera.focal_px > 1
    square = poses.rotation @ poses.rotation.transpose(0, 2, 1)
    turned = finite and np.abs(square - np.eye(3)).max() < 1e-2 and (np.linalg.det(poses.rotation) > 0).all()
    if not (turned and (poses.translation[:, 2] > 0).all()):
        raise BadInput(
            f"{path} holds poses that are none: rotations are not, or a head is behind the camera", hint=_HINT
        )
    return poses


def import_folder(
    folder: Path,
    workspace: Workspace,
    find_landmarks: FindLandmarks,
    *,
    deepspeech: bool = False,
    solve_poses: bool = False,
) -> Track | None:
    """Write everything that training reads but the sound's features.

    Args:
        folder: What another program has prepared.
        workspace: A new subject; nothing is there yet.
        find_landmarks: The landmarks stage: the mouth is measured as in any other subject.
        deepspeech: Whether the folder's own DeepSpeech features are taken too.
        solve_poses: Whether poses are left to the pose stage.

    Returns:
        The track, its poses brought into our head's frame; None when they are left to the pose stage.

    Raises:
        BadInput: The folder lacks what training needs, or does not fit together.
    """
    peer = PeerFolder(folder)
    poses = read_poses(peer)
    numbers = np.arange(poses.numbers[0], poses.numbers[-1] + 1)
    size_px = _write_pictures(peer, numbers, workspace)
    _write_sound(peer, numbers, workspace)
    find_landmarks(workspace.frames, workspace.landmarks)
    if deepspeech:
        _write_features(peer, numbers, workspace)
    info = {"frames": len(numbers), "fps": FPS, "size_px": size_px, "crop": [0, 0, size_px]}
    source = {"name": folder.name, "width": size_px, "height": size_px, "fps": FPS, "duration_s": len(numbers) / FPS}
    save_json(workspace.frames_info, {**info, "source": source})
    if solve_poses:
        return None
    track = _track(peer, poses, numbers, Landmarks.load(workspace.landmarks))
    track.save(workspace.track)
    return track


def _track(peer: PeerFolder, poses: Poses, numbers: NDArray[np.int64], landmarks: Landmarks) -> Track:
    """Their poses in our head's frame, the mouth measured, the eyes too unless they told them."""
    known = np.isin(numbers, poses.numbers)
    # Frames that they left out move with the nearest one that they have, and count as not tracked.
    nearest = np.abs(numbers[:, None] - poses.numbers[None]).argmin(1)
    rotation, translation = poses.rotation[nearest], poses.translation[nearest]
    seen = known & landmarks.found
    aligned = align_head(landmarks.points[seen], rotation[seen], translation[seen], poses.camera)
    ours = aligned.apply(rotation, translation)
    track = measured_track(landmarks, known, *ours, poses.camera)
    if peer.action_units.is_file():
        eye_open = _eyes(peer.action_units, numbers)
        track = replace(track, eye_open=eye_open, blinks=find_blinks(eye_open))
    return track


def _write_pictures(peer: PeerFolder, numbers: NDArray[np.int64], workspace: Workspace) -> int:
    """Frames, class maps, background and layers; returns the pictures' side."""
    background = _picture(peer.background)
    size_px = background.shape[0]
    if background.shape[0] != background.shape[1]:
        shape = f"{background.shape[1]}x{background.shape[0]}"
        raise BadInput(f"{peer.background} is {shape} pixels, not square", hint="crop the clip to a square first")
    for path in (workspace.frames, workspace.parsing, workspace.layers, workspace.background):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(workspace.background) as temporary:
        temporary.write_bytes(encode_png(background))
    with (
        atomic_path(workspace.frames) as first,
        atomic_path(workspace.parsing) as second,
        atomic_path(workspace.layers) as third,
        ArchiveWriter(first) as frames,
        ArchiveWriter(second) as parsing,
        ArchiveWriter(third) as layers,
    ):
        for index, number in enumerate(progress.track(numbers.tolist(), "import", len(numbers))):
            picture, data = _jpeg(peer.picture("ori_imgs", number), size_px)
            classes = _classes(peer.picture("parsing", number), size_px)
            truth, truth_data = _truth(peer, number, size_px, picture, classes, background)
            colour, alpha = _torso(peer.picture("torso_imgs", number), truth, classes)
            frames.add(frame_name(index, ".jpg"), data)
            parsing.add(frame_name(index, ".png"), encode_png(classes))
            layers.add(frame_name(index, ".truth.jpg"), truth_data)
            layers.add(frame_name(index, ".torso.jpg"), encode_jpeg(colour))
            layers.add(frame_name(index, ".torso.png"), encode_png(alpha))
    return size_px


def _jpeg(path: Path, size_px: int) -> tuple[Rgb, bytes]:
    """A JPEG, decoded and as it is: its bytes are kept, nothing is lost."""
    data = _bytes(path)
    picture = decode_rgb(data, path)
    if picture.shape != (size_px, size_px, 3):
        raise BadInput(
            f"{path} is {picture.shape[1]}x{picture.shape[0]} pixels, bc.jpg {size_px}x{size_px}", hint=_HINT
        )
    return picture, data if data[:3] == b"\xff\xd8\xff" else encode_jpeg(picture)


def _classes(path: Path, size_px: int) -> NDArray[np.uint8]:
    picture = decode_rgb(_bytes(path), path)
    if picture.shape[:2] != (size_px, size_px):
        picture = np.asarray(cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_NEAREST), np.uint8)
    try:
        return read_classes(picture)
    except ValueError as error:
        raise BadInput(f"{path} is no class map: {error}", hint="it has white, red, green and blue alone") from error


def _truth(
    peer: PeerFolder, number: int, size_px: int, picture: Rgb, classes: NDArray[np.uint8], background: Rgb
) -> tuple[Rgb, bytes]:
    """The person over the static background."""
    for kind in ("gt_imgs", "com_imgs"):
        if peer.picture(kind, number).is_file():
            return _jpeg(peer.picture(kind, number), size_px)
    truth = np.where((classes == formats.BACKGROUND)[..., None], background, picture)
    return truth, encode_jpeg(truth)


def _torso(path: Path, truth: Rgb, classes: NDArray[np.uint8]) -> tuple[Rgb, NDArray[np.uint8]]:
    """The torso's colour, extended beyond its edge, and its alpha; cut out of the frame where there is no picture."""
    if path.is_file():
        pixels = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.shape != (*truth.shape[:2], 4):
            raise BadInput(f"{path} is no picture with alpha of the frames' size", hint=_HINT)
        rgba = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
        colour, alpha = rgba[..., :3], rgba[..., 3]
    else:
        colour, alpha = truth, np.isin(classes, (formats.TORSO, formats.NECK)).astype(np.uint8) * 255
    filled = fill(colour.astype(np.float32), alpha.astype(np.float32) / 255)
    return np.asarray(filled.round().clip(0, 255), np.uint8), np.ascontiguousarray(alpha)


def _write_sound(peer: PeerFolder, numbers: NDArray[np.int64], workspace: Workspace) -> None:
    """The sound from the first frame on, as long as the frames."""
    if not peer.sound.is_file():
        raise BadInput(f"{peer.sound} is missing", hint="the clip's own sound is needed, 16 kHz or any other rate")
    sound = decode_audio(peer.sound, SAMPLE_RATE_HZ)
    first, length = (round(count * SAMPLE_RATE_HZ / FPS) for count in (int(numbers[0]), len(numbers)))
    part = sound[first : first + length]
    if len(part) < 0.5 * length:
        raise BadInput(f"{peer.sound} is much shorter than the frames", hint="give the whole clip's sound")
    part = np.pad(part, (0, length - len(part)))
    with atomic_path(workspace.audio) as temporary, wave.open(str(temporary), "wb") as stream:
        stream.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        stream.writeframes(np.clip(np.rint(part * 32768), -32768, 32767).astype("<i2").tobytes())


def _eyes(path: Path, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """How open the eyes are, from the intensity of blinking that OpenFace told."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [{key.strip(): value for key, value in row.items() if key} for row in csv.DictReader(stream)]
        shut = np.array([float(row["AU45_r"]) for row in rows])
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise BadInput(
            f"{path} has no usable column AU45_r", hint="give OpenFace's own table, or leave it away"
        ) from error
    if len(shut) == 0 or not np.isfinite(shut).all():
        raise BadInput(f"{path} holds values that are not finite", hint="give OpenFace's own table, or leave it away")
    seen = shut[numbers.clip(0, len(shut) - 1)]
    return np.asarray(1 - seen.clip(0, BLINK_FULL) / BLINK_FULL, np.float32)


def _write_features(peer: PeerFolder, numbers: NDArray[np.int64], workspace: Workspace) -> None:
    """The folder's own DeepSpeech features."""
    path = next((peer.root / name for name in ("aud_ds.npy", "aud.npy") if (peer.root / name).is_file()), None)
    if path is None:
        raise BadInput(f"{peer.root} has neither aud_ds.npy nor aud.npy", hint="leave --front-end deepspeech out")
    try:
        windows = np.load(path, allow_pickle=False).astype(np.float32)
        if windows.ndim != 3 or windows.shape[1:] != (16, 29):
            raise ValueError(f"{windows.shape}")  # noqa: TRY301 - worded below
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path} holds no DeepSpeech windows (frames, 16, 29): {error}", hint=_HINT) from error
    values = rows_of(windows[numbers.clip(0, len(windows) - 1)])
    from stages.sound.front_end import levels_db
    from stages.sound.wav import open_sound

    with open_sound(workspace.audio) as sound:
        level = levels_db(sound)
    level = np.pad(level[: len(values)], (0, max(0, len(values) - len(level))), constant_values=-100).astype(np.float32)
    AudioFeatures(values, level, "deepspeech", "").save(workspace.features)


def _picture(path: Path) -> Rgb:
    return decode_rgb(_bytes(path), path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}", hint=_HINT) from error

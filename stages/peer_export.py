"""A prepared subject as a data folder on which RAD-NeRF and ER-NeRF can train."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from stages import progress
from stages.archive import Archive, frame_name
from stages.errors import BadInput
from stages.formats import AudioFeatures, Landmarks, Track
from stages.peer_camera import to_euler, to_matrices
from stages.peer_files import BLINK_FULL, LANDMARKS_68, PeerFolder, paint_classes, windows_of
from stages.vision.clip import load_grey, load_rgb
from stages.vision.images import decode_rgb, encode_jpeg, encode_png
from stages.workspace import Workspace

FEATURE_FILES = {"deepspeech": "aud_ds.npy"}
"""Which of our front ends those programs know, and where they look for its features."""


def write_peer_folder(workspace: Workspace, folder: Path) -> list[str]:
    """Write a subject's data folder.

    Args:
        workspace: The subject, prepared.
        folder: A folder that is there and empty.

    Returns:
        What the other programs must still be asked for, a sentence each.

    Raises:
        BadInput: A file of the subject is missing or damaged.
    """
    peer = PeerFolder(folder)
    track = Track.load(workspace.track)
    landmarks = Landmarks.load(workspace.landmarks)
    for kind in ("ori_imgs", "gt_imgs", "torso_imgs", "parsing"):
        (folder / kind).mkdir()
    _write_transforms(peer, track)
    _write_track(peer, track)
    _write_action_units(peer, track)
    background = decode_rgb(_read(workspace.background), workspace.background)
    peer.background.write_bytes(encode_jpeg(background))
    shutil.copyfile(workspace.audio, peer.sound)
    with (
        Archive(workspace.frames) as frames,
        Archive(workspace.layers) as layers,
        Archive(workspace.parsing) as parsing,
    ):
        for number in progress.track(range(len(track.tracked)), "export", len(track.tracked)):
            peer.picture("ori_imgs", number).write_bytes(frames.read(frame_name(number, ".jpg")))
            peer.picture("gt_imgs", number).write_bytes(layers.read(frame_name(number, ".truth.jpg")))
            torso = np.dstack([load_rgb(layers, number, ".torso.jpg"), load_grey(layers, number, ".torso.png")])
            peer.picture("torso_imgs", number).write_bytes(_encode_rgba(torso))
            peer.picture("parsing", number).write_bytes(encode_png(paint_classes(load_grey(parsing, number))))
            points = landmarks.points[number, LANDMARKS_68, :2]
            np.savetxt(peer.landmarks(number), points, fmt="%.3f")
    return _write_features(workspace, folder, len(track.tracked))


def _write_transforms(peer: PeerFolder, track: Track) -> None:
    matrices = to_matrices(track.rotation.astype(np.float64), track.translation.astype(np.float64))
    count = len(matrices)
    # Their split: the first 10/11 train.
    cut = count * 10 // 11
    for split, numbers in (("train", range(cut)), ("val", range(cut, count))):
        frames = [
            {"img_id": number, "aud_id": number, "transform_matrix": matrices[number].tolist()} for number in numbers
        ]
        told: dict[str, Any] = {
            "focal_len": track.focal_px,
            "cx": track.centre_x_px,
            "cy": track.centre_y_px,
            "h": track.size_px,
            "w": track.size_px,
            "frames": frames,
        }
        peer.transforms(split).write_text(json.dumps(told, indent=1), encoding="utf-8")


def _write_track(peer: PeerFolder, track: Track) -> None:
    euler, trans = to_euler(track.rotation.astype(np.float64), track.translation.astype(np.float64))
    told = {"euler": torch.from_numpy(euler).float(), "trans": torch.from_numpy(trans).float()}
    torch.save({**told, "focal": torch.tensor([track.focal_px])}, peer.track)


def _write_action_units(peer: PeerFolder, track: Track) -> None:
    """Blinks as OpenFace would tell them; its column names begin with a blank, and ER-NeRF asks for them so."""
    shut = BLINK_FULL * (1 - track.eye_open.clip(0, 1))
    lines = ["frame, timestamp, confidence, success, AU45_r"]
    lines += [f"{number + 1}, {number / 25:.3f}, 0.98, 1, {value:.4f}" for number, value in enumerate(shut)]
    peer.action_units.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_features(workspace: Workspace, folder: Path, frames: int) -> list[str]:
    features = AudioFeatures.load(workspace.features) if workspace.features.is_file() else None
    name = FEATURE_FILES.get(features.front_end) if features is not None else None
    if features is None or name is None:
        return ["extract their audio features from aud.wav with their own script before training"]
    np.save(folder / name, windows_of(features.values, frames))
    return []


def _encode_rgba(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    if not done:
        raise BadInput(f"a {picture.shape} picture cannot be encoded as PNG")
    return bytes(data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", hint="prepare the subject first") from error

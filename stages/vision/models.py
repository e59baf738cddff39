"""Where optional model files lie. Nothing is ever downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from stages.user_folders import data_folder

FACE_LANDMARKER = "face_landmarker.task"
"""MediaPipe's Face Landmarker."""

MULTICLASS_SEGMENTER = "selfie_multiclass_256x256.tflite"
"""MediaPipe's multiclass selfie segmenter."""

SELFIE_SEGMENTER = "selfie_segmenter.tflite"
"""MediaPipe's selfie segmenter for its Tasks interface, which later MediaPipe does not bring."""

ALEXNET_FEATURES = "alexnet-features.safetensors"
"""AlexNet's convolutions, for LPIPS."""


def model_folders() -> list[Path]:
    """The folders that are searched, in order: ``$RADNERF_MODELS``, then the user's data folder."""
    folders = [Path(text).expanduser() for text in os.environ.get("RADNERF_MODELS", "").split(os.pathsep) if text]
    return [*folders, data_folder() / "models"]


def find_model(name: str) -> Path | None:
    """The file of an optional model, or None where it is not there.

    Args:
        name: File name, such as ``FACE_LANDMARKER``.
    """
    return next((path for folder in model_folders() if (path := folder / name).is_file()), None)


def find_network(name: str) -> Path | None:
    """The folder of a speech network that was added, or None where it is not there.

    Args:
        name: As a hub calls it, such as ``facebook/wav2vec2-base``.
    """
    wanted = network_folder(name)
    folders = (folder / wanted for folder in model_folders())
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def network_folder(name: str) -> str:
    """How the folder of a speech network is called.

    Args:
        name: As a hub calls it.
    """
    return name.replace("/", "--")

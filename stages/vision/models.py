"""Where optional model files lie. Nothing is ever downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from stages.user_folders import data_folder

FACE_LANDMARKER = "face_landmarker.task"
"""MediaPipe's Face Landmarker."""

MULTICLASS_SEGMENTER = "selfie_multiclass_256x256.tflite"
"""MediaPipe's multiclass selfie segmenter."""

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

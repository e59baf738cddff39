"""Heads on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from radnerf.grid import GridSpec
from radnerf.model import HeadModel, ModelShape
from stages.checkpoint import check_sizes, load_checkpoint, restore, save_checkpoint
from stages.errors import BadInput
from stages.formats import AudioFeatures
from stages.settings import HeadSettings
from stages.settings_reading import to_mapping

_LATER = (
    "linear_ear.weight", "linear_ear.offset", "ear_share", "closed_mouth", "closed_code", "voice_mean", "voice_std",
    "kernel_ear.heard", "kernel_ear.weight", "kernel_ear.offset", "kernel_ear.width",
    "fields.0.warp.side", "bends",
)  # fmt: skip


def save_head(path: Path, model: HeadModel, settings: HeadSettings, features: AudioFeatures) -> None:
    """Write a trained head.

    Args:
        path: Where to.
        model: The head; its parameters as they shall be rendered.
        settings: What it was trained with.
        features: What it was trained to hear; speaking must use the same front end.
    """
    header = {
        "shape": dataclasses.asdict(model.shape),
        "settings": to_mapping(settings),
        "front_end": features.front_end,
        "front_end_model": features.model,
    }
    save_checkpoint(path, "head", header, model.state_dict())


def load_head(
    path: Path, backend: str = "auto", device: torch.device | str = "cpu"
) -> tuple[HeadModel, dict[str, Any]]:
    """Read a trained head.

    Args:
        path: The file.
        backend: The kernels' name.
        device: Where to render.

    Returns:
        The model, ready to render, and the file's header.

    Raises:
        BadInput: The file is missing, damaged or does not fit.
    """
    header, tensors = load_checkpoint(path, "head")
    try:
        values = dict(header["shape"])
        for grid in ("space", "audio_plane"):
            values[grid] = GridSpec(**values[grid])
        shape = ModelShape(**values)
        check_sizes(lambda: HeadModel(shape, torch.zeros(2, 3)), tensors, path)
        model = HeadModel(shape, torch.zeros(2, 3))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged: {first}", hint="delete it and train again") from error
    # Heads from before these were kept: their mouth does not come to rest, other voices are taken as they are, and
    # eyelids move the eye below them.
    kept = model.state_dict()
    restore(model, {name: kept[name] for name in _LATER if name in kept} | tensors, path)
    model.use_backend(backend)
    model.to(device).eval().requires_grad_(requires_grad=False)
    return model, header

"""Torsos on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from radnerf.grid import GridSpec
from radnerf.torso import TorsoModel, TorsoShape
from stages.checkpoint import check_sizes, load_checkpoint, restore, save_checkpoint
from stages.errors import BadInput
from stages.settings import TorsoSettings
from stages.settings_reading import to_mapping


def save_torso(path: Path, model: TorsoModel, settings: TorsoSettings) -> None:
    """Write a trained torso.

    Args:
        path: Where to.
        model: The torso; its parameters as they shall be rendered.
        settings: What it was trained with.
    """
    header = {"shape": dataclasses.asdict(model.shape), "settings": to_mapping(settings)}
    save_checkpoint(path, "torso", header, model.state_dict())


def load_torso(path: Path, backend: str = "auto", device: torch.device | str = "cpu") -> TorsoModel:
    """Read a trained torso.

    Args:
        path: The file.
        backend: The kernels' name.
        device: Where to render.

    Raises:
        BadInput: The file is missing, damaged or does not fit.
    """
    header, tensors = load_checkpoint(path, "torso")
    try:
        values = dict(header["shape"])
        values["plane"] = GridSpec(**values["plane"])
        shape = TorsoShape(**values)
        check_sizes(lambda: TorsoModel(shape), tensors, path)
        model = TorsoModel(shape)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged: {first}", hint="delete it and train again") from error
    restore(model, tensors, path)
    model.plane.backend = backend
    model.to(device).eval().requires_grad_(requires_grad=False)
    return model

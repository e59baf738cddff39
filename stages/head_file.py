"""Heads on disk: the trained model, and what resuming its training needs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import torch

from radnerf.grid import GridSpec
from radnerf.model import HeadModel, ModelShape
from stages.checkpoint import flatten, load_checkpoint, restore, save_checkpoint, unflatten
from stages.errors import BadInput
from stages.formats import AudioFeatures
from stages.settings import HeadSettings, to_mapping


class Trainer(Protocol):
    """What can be saved and resumed."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


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


def load_head(path: Path, backend: str = "auto") -> tuple[HeadModel, dict[str, Any]]:
    """Read a trained head.

    Args:
        path: The file.
        backend: The kernels' name.

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
        model = HeadModel(ModelShape(**values), torch.zeros(2, 3))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is damaged: {error}", hint="delete it and train again") from error
    restore(model, tensors, path)
    model.use_backend(backend)
    model.eval().requires_grad_(requires_grad=False)
    return model, header


def save_training_state(
    path: Path, kind: str, fingerprint: str, model: torch.nn.Module, trainer: Trainer, history: list[dict[str, float]]
) -> None:
    """Write everything that going on needs, atomically.

    Args:
        path: Where to.
        kind: ``"head-state"`` or ``"torso-state"``.
        fingerprint: Of the settings and inputs; another one makes the state useless.
        model: What is trained.
        trainer: How far it is.
        history: Points so far.
    """
    skeleton, tensors = flatten({"model": model.state_dict(), "trainer": trainer.state_dict()})
    save_checkpoint(path, kind, {"fingerprint": fingerprint, "state": skeleton, "history": history}, tensors)


def load_training_state(
    path: Path, kind: str, fingerprint: str, model: torch.nn.Module, trainer: Trainer
) -> list[dict[str, float]] | None:
    """Go on from a state if it is there, whole, and of the same settings and inputs.

    Returns:
        The history so far; None when training begins anew.
    """
    try:
        header, tensors = load_checkpoint(path, kind)
    except BadInput:
        return None
    if header.get("fingerprint") != fingerprint:
        return None
    state = unflatten(header["state"], tensors)
    restore(model, state["model"], path)
    trainer.load_state_dict(state["trainer"])
    history: list[dict[str, float]] = header["history"]
    return history

"""Find the weights of the perceptual distance, in the models folder and in the installed lpips package."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from radnerf.perceptual import Lpips
from stages.errors import BadInput
from stages.vision.models import find_model


def _heads_path() -> Path | None:
    """LPIPS 0.1's linear heads inside the lpips distribution, found without importing it (it needs torchvision)."""
    try:
        files = metadata.files("lpips") or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.as_posix() == "lpips/weights/v0.1/alex.pth":
            return Path(str(file.locate()))
    return None


def load_perceptual() -> Lpips | None:
    """LPIPS (AlexNet) when both its convolutions' and its heads' weights are on this machine, else None.

    Raises:
        BadInput: A file is there but damaged.
    """
    features, heads = find_model("alexnet-features.safetensors"), _heads_path()
    if features is None or heads is None:
        return None
    try:
        linear = torch.load(heads, weights_only=True, map_location="cpu")
        layers = {layer: linear[f"lin{layer}.model.1.weight"] for layer in range(5)}
        return Lpips(load_file(features), layers).requires_grad_(requires_grad=False)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"the perceptual weights cannot be read: {error}", hint=f"replace {features}") from error

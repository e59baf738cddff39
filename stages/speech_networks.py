"""Brings a speech network's folder (wav2vec 2.0, HuBERT) in: configuration copied, weights as safetensors.

The published weights are a pickle. It is read by torch's restricted unpickler, which makes tensors and nothing else,
once, here; what is kept has no pickle in it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from stages.atomic_files import sha256_of
from stages.errors import BadInput

WEIGHTS = "model.safetensors"
PUBLISHED = "pytorch_model.bin"
_CONFIGURATION = ("config.json", "preprocessor_config.json")


def add_network(folder: Path, target: Path, sha256: str, *, unchecked: bool) -> Path:
    """Copy a network's folder.

    Args:
        folder: What the user has: ``config.json`` and the weights.
        target: Where it goes; replaced where it is there.
        sha256: Of the published weights.
        unchecked: Take other weights.

    Returns:
        The target.

    Raises:
        BadInput: A file is missing, or the weights are not the known ones or none at all.
    """
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} has no config.json", hint="give the folder of the network")
    weights = next((path for name in (PUBLISHED, WEIGHTS) if (path := folder / name).is_file()), None)
    if weights is None:
        raise BadInput(f"{folder} has neither {PUBLISHED} nor {WEIGHTS}", hint="give the folder of the network")
    if not unchecked:
        found = sha256_of(weights)
        if found != sha256:
            raise BadInput(
                f"{weights} is not the known one: its SHA-256 begins with {found[:16]}, not {sha256[:16]}",
                hint="get it from where 'radnerf models' says, or add --unchecked to take this one",
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        made = Path(name) / target.name
        made.mkdir()
        for file in _CONFIGURATION:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, made / file)
        if weights.name == WEIGHTS:
            shutil.copyfile(weights, made / WEIGHTS)
        else:
            _convert(weights, made / WEIGHTS)
        if target.exists():
            target.rename(Path(name) / "replaced")
        made.rename(target)
    return target


def _convert(pickled: Path, safe: Path) -> None:
    """Write a pickle of tensors as safetensors."""
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        found: Any = torch.load(pickled, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(f"{pickled} holds more than weights, or is damaged", hint="get it again") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise BadInput(f"{pickled} holds no weights", hint="give the network's own file")
    # Tensors that share memory cannot be saved as they are.
    save_file({str(name): value.clone().contiguous() for name, value in found.items()}, safe, metadata={"format": "pt"})

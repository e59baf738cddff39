"""The one checkpoint format: safetensors with a JSON header; nothing in it is ever executed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.atomic_files import atomic_path
from stages.errors import DELETE_AND_REPEAT, BadInput
from stages.plain_yaml import shown

VERSION = 2
"""Of the header and of the parameters' layout."""

Contents = tuple[dict[str, Any], dict[str, Tensor]]


def _sway_of_nine_points(header: dict[str, Any], tensors: dict[str, Tensor]) -> Contents:
    """Version 1 knew one shift of the whole body in each frame."""
    sway = tensors.get("sway")
    if header.get("kind") == "torso" and sway is not None and sway.ndim == 2:
        tensors = {**tensors, "sway": sway[:, None, None].expand(-1, 3, 3, -1).contiguous()}
    return header, tensors


MIGRATIONS: dict[int, Callable[[dict[str, Any], dict[str, Tensor]], Contents]] = {1: _sway_of_nine_points}
"""From a version of header and tensors to the next one; version 1 is the first."""

_MOST_MISSING = 1_000_000  # numbers of a tensor that an older file may lack
_KEY = "radnerf"
_TENSOR = "$tensor"


def save_checkpoint(path: Path, kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors and their header, atomically.

    Args:
        path: Where to.
        kind: ``"head"``, ``"torso"``, ``"head-state"`` or ``"torso-state"``.
        header: What JSON holds: sizes, settings, provenance.
        tensors: By name; bool is kept as uint8 is, one byte an element.

    Raises:
        RadnerfError: The disk is full or the folder cannot be written.
    """
    text = json.dumps({"kind": kind, "version": VERSION, **header}, allow_nan=False)
    with atomic_path(path) as temporary:
        # A clone of its own for each: safetensors refuses tensors that share memory.
        own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        try:
            save_file(own, temporary, {_KEY: text})
        except SafetensorError as error:
            # It words the system's errors itself, the number at their end.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def load_checkpoint(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read and check a checkpoint.

    Args:
        path: The file.
        kind: What it must hold.

    Returns:
        Header and tensors.

    Raises:
        BadInput: The file is missing, damaged, of another kind or of a newer version.
    """
    try:
        with safe_open(str(path), framework="pt") as stored:
            header = json.loads((stored.metadata() or {})[_KEY])
            if not isinstance(header, dict) or header.get("kind") != kind:
                raise BadInput(f"{path} holds no {kind}", hint=DELETE_AND_REPEAT)
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing", hint="run the stage that makes it") from error
    except (OSError, KeyError, ValueError, RecursionError, SafetensorError) as error:
        first = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} is damaged: {first}", hint=DELETE_AND_REPEAT) from error
    return _upgraded(path, header, tensors)


def _upgraded(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Contents:
    """Header and tensors as this version names them; the file itself stays as it is.

    Raises:
        BadInput: Of a later version, or of one that nothing leads here from.
    """
    version = header.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version > VERSION:
        raise BadInput(
            f"{path} has version {shown(version)}, and this radnerf reads {VERSION}",
            hint="use the radnerf that wrote it or a newer one, or delete it and train again",
        )
    while version < VERSION:
        if version not in MIGRATIONS:
            raise BadInput(
                f"{path} has version {version}, which this radnerf no longer reads", hint="delete it and train again"
            )
        header, tensors = MIGRATIONS[version](header, tensors)
        version += 1
    return {**header, "version": VERSION}, tensors


def flatten(tree: Any) -> tuple[Any, dict[str, Tensor]]:  # noqa: ANN401 - any nesting of containers
    """Part a nesting of dicts, lists, numbers and tensors into JSON and named tensors.

    Args:
        tree: The nesting; dict keys are strings or integers.

    Returns:
        The nesting with each tensor replaced by ``{"$tensor": name}`` and dicts written as lists of pairs (JSON
        would turn integer keys into strings), and the tensors by name.
    """
    tensors: dict[str, Tensor] = {}

    def part(node: Any) -> Any:  # noqa: ANN401
        if isinstance(node, Tensor):
            name = f"t{len(tensors):05d}"
            tensors[name] = node
            return {_TENSOR: name}
        if isinstance(node, dict):
            return {"$dict": [[key, part(value)] for key, value in node.items()]}
        if isinstance(node, list | tuple):
            return [part(value) for value in node]
        return node

    return part(tree), tensors


def unflatten(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - see flatten
    """Put together what ``flatten`` parted; tuples come back as lists."""
    if isinstance(skeleton, dict):
        if _TENSOR in skeleton:
            return tensors[skeleton[_TENSOR]]
        return {key: unflatten(value, tensors) for key, value in skeleton["$dict"]}
    if isinstance(skeleton, list):
        return [unflatten(value, tensors) for value in skeleton]
    return skeleton


def check_sizes(build: Callable[[], torch.nn.Module], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Compare the module that a header asks for with the tensors that the file holds, before memory is taken for it.

    Args:
        build: Makes the module.
        tensors: What the file holds.
        path: The file.

    Raises:
        BadInput: The header asks for other sizes.
    """
    with torch.device("meta"):
        wanted = build().state_dict()
    for name, value in wanted.items():
        if name in tensors and tensors[name].shape != value.shape:
            raise BadInput(
                f"{path} is damaged: {name} has shape {tuple(tensors[name].shape)}, not {tuple(value.shape)}",
                hint="delete it and train again",
            )
        if name not in tensors and value.numel() > _MOST_MISSING:
            raise BadInput(f"{path} is damaged: it lacks {name}", hint="delete it and train again")


def restore(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load parameters and buffers into a module.

    Raises:
        BadInput: Names or shapes differ.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise BadInput(f"{path} does not fit: {first}", hint="delete it and train again") from error

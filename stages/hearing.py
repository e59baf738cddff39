"""From audio features on disk to what the head hears, a stretch at a time, at constant memory."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radnerf.model import HeadModel
from radnerf.silence import mouth_gate
from radnerf.voice import Voice, VoiceMeter
from stages.errors import DELETE_AND_REPEAT, BadInput, RadnerfError
from stages.formats import FEATURE_RATE_HZ, FPS, AudioFeatures

ROWS_PER_FRAME = FEATURE_RATE_HZ // FPS
"""Feature rows that pass while one frame is shown."""

_LEADING_COLUMNS = {"both": 40}
_BLOCK_ROWS = 3000
_MARGIN_FRAMES = 16  # the audio net looks eight frames back at most, half a window included


@dataclass(frozen=True)
class Features:
    """Audio features that stay on disk.

    Attributes:
        values: (T, C) float32, 50 rows a second; a memory map.
        front_end: What made them.
        model: What identifies the front end's weights.
        voiced: (T,) float32 in [0, 1], whether somebody speaks.
    """

    values: NDArray[np.float32]
    front_end: str
    model: str
    voiced: NDArray[np.float32]

    @property
    def frames(self) -> int:
        """Frames that the sound lasts, the last one begun counted as whole: ``ceil(25 * seconds)``."""
        return -(-len(self.values) // ROWS_PER_FRAME)

    @cached_property
    def gate(self) -> Tensor:
        """How far the lips follow the sound, (frames,) float32 in [0, 1]."""
        return mouth_gate(torch.from_numpy(self.voiced), self.frames)

    @cached_property
    def voice(self) -> Voice:
        """Statistics of the rows in which somebody speaks, taken in one pass over the file."""
        meter = VoiceMeter(self.values.shape[1])
        for first in range(0, len(self.values), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            meter.hear(torch.from_numpy(np.array(self.values[block])), torch.from_numpy(self.voiced[block]))
        return meter.voice()


def net_features(features: AudioFeatures) -> int:
    """Leading columns that the audio net is to hear: of two front ends in one the log-mel bands; 0 for all.

    A net of this size does not learn to hear in many hundred columns from a short clip; the linear ear does.
    """
    return _LEADING_COLUMNS.get(features.front_end, 0)


@contextmanager
def open_features(path: Path) -> Iterator[Features]:
    """Open an ``AudioFeatures`` file without holding it in memory: its values are unpacked to a temporary file.

    Args:
        path: The npz.

    Raises:
        BadInput: The file is missing or damaged.
        RadnerfError: There is no space for the temporary file.
    """
    with tempfile.TemporaryDirectory(prefix="radnerf-features-") as folder:
        plain = Path(folder) / "values.npy"
        try:
            with zipfile.ZipFile(path) as stored:
                names = (
                    str(AudioFeatures.read_field(stored, "front_end")),
                    str(AudioFeatures.read_field(stored, "model")),
                )
                there = "voiced.npy" in stored.namelist()
                voiced = AudioFeatures.read_field(stored, "voiced") if there else None
                _check_room(stored.getinfo("values.npy"), Path(folder))
                with stored.open("values.npy") as packed:
                    _unpack(packed, plain)
            values = np.load(plain, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise BadInput(f"{path} is missing", hint="run the audio stage") from error
        except (
            OSError,
            ValueError,
            KeyError,
            EOFError,
            TypeError,
            RuntimeError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise BadInput(f"{path} is damaged: {error}", hint=DELETE_AND_REPEAT) from error
        if values.dtype != np.float32 or values.ndim != 2 or len(values) == 0:
            raise BadInput(f"{path} holds {values.dtype} {values.shape}, not (T, C) float32", hint=DELETE_AND_REPEAT)
        if voiced is None:
            # From before the voice was looked for: speech throughout.
            voiced = np.ones(len(values), np.float32)
        if voiced.shape != values.shape[:1]:
            raise BadInput(
                f"{path} has {len(voiced)} rows of voice beside {len(values)} of features", hint=DELETE_AND_REPEAT
            )
        yield Features(values, *names, voiced)


def _check_room(member: zipfile.ZipInfo, folder: Path) -> None:
    """Raise before anything is unpacked that there is no room for.

    Raises:
        RadnerfError: There is too little.
    """
    free = shutil.disk_usage(folder).free
    if member.file_size > free:
        raise RadnerfError(
            f"the audio features take {member.file_size / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB",
            hint="free some space there, or let TMPDIR name another folder",
        )


def _unpack(packed: Any, plain: Path) -> None:  # noqa: ANN401 - zipfile's stream type is private
    try:
        with plain.open("wb") as target:
            shutil.copyfileobj(packed, target)
    except OSError as error:
        raise RadnerfError(
            f"{plain} cannot be written: {error.strerror or error}", hint=f"free some space in {tempfile.gettempdir()}"
        ) from error


def check_heard(path: Path, head: HeadModel, header: dict[str, Any], features: Features) -> None:
    """Check that sound was analysed as the sound was that a head was trained on.

    Args:
        path: The head's file, for the message.
        head: The head.
        header: Its file's header.
        features: What it is to hear.

    Raises:
        BadInput: Front end, weights or width differ.
    """
    trained = (str(header.get("front_end", "")), str(header.get("front_end_model", "")), head.shape.features)
    given = (features.front_end, features.model, features.values.shape[1])
    if trained != given:
        raise BadInput(
            f"the sound was analysed with {_say(given)}, and {path} was trained with {_say(trained)}",
            hint="use the same front end and weights, or run 'prepare' and 'train' again with the new ones",
        )


def _say(front_end: tuple[str, str, int]) -> str:
    name, model, columns = front_end
    return f"{name} {model}".rstrip() + f" ({columns} columns)"


@torch.no_grad()
def hear(head: HeadModel, features: Features, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Audio codes and mouths of consecutive frames, from sound alone.

    Args:
        head: The trained head.
        features: Of the whole sound; only the rows around these frames are read.
        first: First frame.
        last: Frame after the last one.

    Returns:
        code: (last - first, A) float.
        mouth: (last - first, M) float.

    Raises:
        BadInput: The features hold values that are not finite.
    """
    # A picture may outlast its sound.
    begin = max(0, min(first, features.frames) - _MARGIN_FRAMES)
    rows = np.array(features.values[begin * ROWS_PER_FRAME : (last + _MARGIN_FRAMES) * ROWS_PER_FRAME])
    if not np.isfinite(rows).all():
        raise BadInput(
            f"the audio features near {first / FPS:.1f} s are not finite", hint="delete them and run the stage again"
        )
    # Beyond the sound's end, the mouth rests.
    gate = torch.zeros(last - first)
    heard = features.gate[first:last]
    gate[: len(heard)] = heard
    matched = head.standardised(head.in_own_voice(torch.from_numpy(rows), features.voice))
    return head.hear(matched, torch.arange(first - begin, last - begin), gate)

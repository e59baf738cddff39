"""Files that are whole or absent, whatever happens while they are written; JSON that is checked when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.errors import DELETE_AND_REPEAT, BadInput, RadnerfError

TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.part(\.\w+)?")
"""Names of files that are being written: ``.head.4711.part.safetensors``."""

_MOST_JSON_BYTES = 64_000_000


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """A temporary path beside ``final`` that becomes it when the block succeeds and vanishes when not.

    The temporary name keeps the suffix, since writers choose their format by it. What writers of the same file left
    when they were killed is removed. After a power cut the file is whole too, the old one or the new one.

    Raises:
        RadnerfError: The disk is full or the folder cannot be written.
    """
    temporary = final.with_name(f".{final.stem}.{os.getpid()}.part{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(final)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(final)
        _flush_folder(final.parent)
    except OSError as error:
        raise RadnerfError(
            f"cannot write {final}: {error.strerror or error}", hint="free some space or check the folder's rights"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_left_over(final: Path) -> None:
    """Remove the temporary files of processes of this machine that are gone."""
    for path in final.parent.iterdir():
        match = TEMPORARY.fullmatch(path.name)
        if match and match[1] == final.stem and int(match[2]) != os.getpid() and not lives(int(match[2])):
            path.unlink(missing_ok=True)


def lives(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _flush_folder(folder: Path) -> None:
    """Let a new name in a folder outlast a power cut."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        BadInput: The file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", hint="check its name and its rights") from error


def load_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        BadInput: The file is missing, damaged, or holds no object.
    """
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise BadInput(f"{path} holds {path.stat().st_size} bytes of JSON", hint=DELETE_AND_REPEAT)
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError as error:
        raise BadInput(f"{path} is missing", hint="run the stage that makes it") from error
    # A number of 5000 digits is a ValueError too, and brackets in brackets a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read: {error}", hint=DELETE_AND_REPEAT) from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds no JSON object", hint=DELETE_AND_REPEAT)
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def save_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def save_json_if_changed(path: Path, value: Mapping[str, Any]) -> bool:
    """Write the object only when the file does not hold it already, so that nothing downstream looks stale.

    Returns:
        Whether the file was written.
    """
    try:
        if load_json(path) == json.loads(json.dumps(value)):
            return False
    except BadInput:
        pass
    save_json(path, value)
    return True

"""``subject.yaml``: where a subject comes from, who agreed to it, and every setting that differs from the preset's."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from cli.plan import given_stages
from stages import formats
from stages.errors import BadInput
from stages.settings import STAGES, SubjectSettings
from stages.settings_reading import parse_assignment, resolve, to_mapping
from stages.workspace import FORMAT_VERSION, Workspace

_HEADER = """\
# Settings below may be edited; a run redoes what depends on a change, and nothing else.
# radnerf rewrites this file when an option changes it; comments of your own are not kept then.
"""


@dataclass(frozen=True)
class Source:
    """The file that a subject was made from.

    Attributes:
        name: The file's own name.
        sha256: Of its content, in hexadecimal.
        size_bytes: Of its content.
    """

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class SubjectRecord:
    """What ``subject.yaml`` holds.

    Attributes:
        name: The subject's name.
        created: When, ISO 8601.
        source: The video.
        consent: The note that its maker gave; empty when none was given.
        preset: Where settings start from.
        settings: What differs from the preset, ``{"head": {"steps": 500}}``.
        format: Version of the layout.
    """

    name: str
    created: str
    source: Source
    consent: str = ""
    preset: str = "standard"
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    format: int = FORMAT_VERSION

    def resolved(self) -> SubjectSettings:
        """Every stage's settings.

        Raises:
            BadInput: An unknown key or a value out of range.
        """
        return resolve(self.preset, self.settings)

    def changed(self, *, preset: str | None, assignments: Mapping[str, Mapping[str, Any]]) -> SubjectRecord:
        """This record with another preset or other settings, validated.

        Args:
            preset: The new preset; None keeps the old one.
            assignments: New values by stage and key; they win over what was there.

        Raises:
            BadInput: An unknown key or a value out of range.
        """
        settings = {stage: dict(values) for stage, values in self.settings.items()}
        for stage, values in assignments.items():
            settings.setdefault(stage, {}).update(values)
        record = replace(self, preset=preset or self.preset, settings=settings)
        record.resolved()
        return record


def read_assignments(texts: list[str]) -> dict[str, dict[str, Any]]:
    """``["head.steps=500"]`` as ``{"head": {"steps": 500}}``.

    Raises:
        BadInput: A text of another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        stage, key, value = parse_assignment(text)
        found.setdefault(stage, {})[key] = value
    return found


def _check_keys(values: Mapping[str, Any], kind: type, where: str) -> None:
    known = [item.name for item in fields(kind)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise BadInput(f"{where} has an unknown key {key!r}", hint=hint)


def load_record(path: Path) -> SubjectRecord:
    """Read and validate ``subject.yaml``.

    Raises:
        BadInput: Damaged, of a later version, an unknown key, a value of the wrong type.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())
        raise BadInput(f"{path} cannot be read: {first}", hint="mend it, or prepare the subject again") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path} holds no keys", hint="mend it, or prepare the subject again")
    if values.get("format") != FORMAT_VERSION:
        raise BadInput(
            f"{path} has format {values.get('format')!r}, and this radnerf reads {FORMAT_VERSION}",
            hint="use the radnerf that made it, or prepare the subject again",
        )
    _check_keys(values, SubjectRecord, str(path))
    source = values.get("source")
    if not isinstance(source, dict):
        raise BadInput(f"{path} does not say what its source is", hint="mend it, or prepare the subject again")
    _check_keys(source, Source, f"{path}, source,")
    values = {**values, "settings": values.get("settings") or {}, "consent": values.get("consent") or ""}
    try:
        record = SubjectRecord(**{**values, "source": Source(**source)})
    except TypeError as error:
        raise BadInput(f"{path} lacks a key: {error}", hint="mend it, or prepare the subject again") from error
    if not isinstance(record.settings, dict):
        raise BadInput(f"{path}: settings is {record.settings!r}", hint="write 'settings:' with indented stages below")
    record.resolved()
    return record


def save_record(path: Path, record: SubjectRecord) -> None:
    """Write ``subject.yaml``, atomically, and only when it says something else."""
    if path.is_file() and load_record(path) == record:
        return
    values = asdict(record)
    ordered = {"format": values.pop("format"), **values}
    text = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    with formats.atomic_path(path) as temporary:
        temporary.write_text(_HEADER + text, encoding="utf-8")


def write_settings(workspace: Workspace, settings: SubjectSettings) -> list[str]:
    """Write each stage's resolved settings where they differ from what is there.

    Returns:
        The stages whose settings changed; only these and what follows them will run again.
    """
    # Speeches are heard by the audio stage also where the subject's own features came from elsewhere.
    given = given_stages(workspace) - {"audio"}
    return [
        stage
        for stage in STAGES
        if stage not in given
        and formats.save_json_if_changed(workspace.settings(stage), to_mapping(getattr(settings, stage)))
    ]


def slug(text: str) -> str:
    """Text as a part of a safe file name: plain letters, digits, ``_``, ``.`` and ``-``; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-._")


def describe_source(path: Path) -> Source:
    """Name, hash and size of a file.

    Raises:
        BadInput: It is missing, a folder, or empty.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder", hint="give a file")
    if not path.exists():
        raise BadInput(f"there is no file {path}", hint="check the name")
    if not path.is_file():
        raise BadInput(f"{path} is no ordinary file", hint="give a file")
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise BadInput(f"{path} is empty", hint="give another file")
    return Source(path.name, formats.sha256_of(path), size_bytes)


def copy_file(source: Path, final: Path) -> None:
    """Copy a user's file, atomically; never a link, since the user may edit it in place.

    Raises:
        RadnerfError: The disk is full or the folder cannot be written.
    """
    with formats.atomic_path(final) as temporary:
        shutil.copyfile(source, temporary)


def create_subject(workspace: Workspace, record: SubjectRecord, video: Path) -> None:
    """Make a subject's folder with its video, record and settings; all of it appears at once.

    Raises:
        RadnerfError: The disk is full or the folder cannot be written.
    """
    staging_root = books_folder(workspace).with_name(f"new-{os.getpid()}")
    staging = Workspace(staging_root / workspace.root.name)
    try:
        copy_file(video, staging.source)
        save_record(staging.subject, record)
        write_settings(staging, record.resolved())
        shutil.rmtree(workspace.root, ignore_errors=True)
        shutil.rmtree(books_folder(workspace), ignore_errors=True)
        staging.root.replace(workspace.root)
    finally:
        shutil.rmtree(staging_root, ignore_errors=True)
        remove_empty(staging_root.parent)


def books_folder(workspace: Workspace) -> Path:
    """Where Snakemake keeps its own books for a subject: a folder of its own, so that its locks are its own too."""
    return workspace.root.parent / ".workflow" / workspace.root.name


def remove_subject(workspace: Workspace) -> None:
    """Take away a subject and what the workflow knew about it."""
    shutil.rmtree(workspace.root, ignore_errors=True)
    shutil.rmtree(books_folder(workspace), ignore_errors=True)
    remove_empty(books_folder(workspace).parent)


def remove_empty(books: Path) -> None:
    """Remove ``.workflow`` and ``subjects`` where nothing is left in them.

    Args:
        books: The folder ``.workflow``.
    """
    for folder in (books, books.parent):
        try:
            folder.rmdir()
        except OSError:
            return


def new_record(name: str, source: Source, consent: str) -> SubjectRecord:
    """The record of a subject that is made now."""
    return SubjectRecord(name, datetime.now(UTC).isoformat(timespec="seconds"), source, consent)


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise when a disk has too little room left.

    Args:
        folder: A folder on the disk; need not exist yet.
        needed_bytes: A generous guess.
        what: What needs the room, for the message.

    Raises:
        BadInput: Too little room.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise BadInput(
            f"{what} needs about {needed_bytes / 1e9:.1f} GB, and {there} has {free / 1e9:.1f} GB left",
            hint="free some space or give another --home",
        )

"""``subject.yaml``: where a subject comes from, who agreed to it, and every setting that differs from the preset's."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from cli.plan import given_stages
from stages.atomic_files import atomic_path, lives, save_json_if_changed, sha256_of
from stages.errors import BadInput
from stages.plain_yaml import MOST_CHARACTERS, read_yaml, shown
from stages.settings import STAGES, SubjectSettings
from stages.settings_reading import parse_assignment, resolve, to_mapping
from stages.workspace import FORMAT_VERSION, Workspace

_HEADER = """\
# Settings below may be edited; a run redoes what depends on a change, and nothing else.
# radnerf rewrites this file when an option changes it; comments of your own are not kept then.
"""

_MEND = "mend it, or prepare the subject again"

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From a format of ``subject.yaml`` to the next one; format 1 is the first."""


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
            raise BadInput(f"{where} has an unknown key {shown(key)}", hint=hint)


def load_record(path: Path) -> SubjectRecord:
    """Read and validate ``subject.yaml``.

    Raises:
        BadInput: Damaged, of a later version, an unknown key, a value of the wrong type.
    """
    values = _read_values(path)
    values = _upgraded(path, values)
    _check_keys(values, SubjectRecord, str(path))
    source = values.get("source")
    if not isinstance(source, dict):
        raise BadInput(f"{path} does not say what its source is", hint=_MEND)
    _check_keys(source, Source, f"{path}, source,")
    values = {**values, "settings": values.get("settings") or {}, "consent": values.get("consent") or ""}
    _check_types(source, {"name": str, "sha256": str, "size_bytes": int}, f"{path}: source.")
    _check_types(values, {"name": str, "created": str, "consent": str, "preset": str, "settings": dict}, f"{path}: ")
    try:
        record = SubjectRecord(**{**values, "source": Source(**source)})
    except TypeError as error:
        missing = str(error).rpartition(":")[2].strip()
        raise BadInput(f"{path} lacks a key: {missing}", hint=_MEND) from error
    record.resolved()
    return record


def _read_values(path: Path) -> dict[str, Any]:
    """The keys of ``subject.yaml``."""
    try:
        if path.stat().st_size > MOST_CHARACTERS:
            raise BadInput(f"{path} is {path.stat().st_size} bytes long", hint=_MEND)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}", hint=_MEND) from error
    values = read_yaml(text, str(path), _MEND)
    if not isinstance(values, dict):
        raise BadInput(f"{path} holds no keys", hint=_MEND)
    return values


def _upgraded(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The keys as this version names them; a file of an older one is only rewritten by ``save_record``.

    Raises:
        BadInput: Of a later version, or of one that nothing leads here from.
    """
    version = values.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version > FORMAT_VERSION:
        raise BadInput(
            f"{path} has format {shown(version)}, and this radnerf reads {FORMAT_VERSION}",
            hint="use the radnerf that made it, or a newer one",
        )
    while version < FORMAT_VERSION:
        if version not in MIGRATIONS:
            again = f"radnerf prepare {path.parent / 'source' / 'video'} --name {path.parent.name} --force"
            raise BadInput(
                f"{path} has format {version}, which this radnerf no longer reads", hint=f"make it again: '{again}'"
            )
        values = {**MIGRATIONS[version](values), "format": version + 1}
        version += 1
    return values


def _check_types(values: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    for key, kind in kinds.items():
        if key in values and type(values[key]) is not kind:
            name = {str: "a text", int: "a whole number"}.get(kind, "a block of indented keys")
            raise BadInput(f"{where}{key} is {shown(values[key])}", hint=f"write {name}")


def save_record(path: Path, record: SubjectRecord) -> None:
    """Write ``subject.yaml``, atomically, and only when it says something else.

    A file of an older format is kept beside the new one, as ``subject.yaml.format-N``.
    """
    if path.is_file():
        version = _read_values(path).get("format")
        if version == FORMAT_VERSION and load_record(path) == record:
            return
        if version != FORMAT_VERSION:
            copy_file(path, path.with_name(f"{path.name}.format-{version}"))
    values = asdict(record)
    ordered = {"format": values.pop("format"), **values}
    text = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    with atomic_path(path) as temporary:
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
        if stage not in given and save_json_if_changed(workspace.settings(stage), to_mapping(getattr(settings, stage)))
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
    # A name may hold bytes that are no text, which no YAML and no manifest can carry.
    name = os.fsencode(path.name).decode("utf-8", "replace")
    return Source(name, sha256_of(path), size_bytes)


def copy_file(source: Path, final: Path) -> None:
    """Copy a user's file, atomically; never a link, since the user may edit it in place.

    Raises:
        RadnerfError: The disk is full or the folder cannot be written.
    """
    with atomic_path(final) as temporary:
        shutil.copyfile(source, temporary)


def create_subject(workspace: Workspace, record: SubjectRecord, video: Path) -> None:
    """Make a subject's folder with its video, record and settings; all of it appears at once.

    Raises:
        RadnerfError: The disk is full or the folder cannot be written.
    """
    staging_root = books_folder(workspace).with_name(f"new-{os.getpid()}")
    staging = Workspace(staging_root / workspace.root.name)
    for left_over in staging_root.parent.glob("new-*"):
        # By a run that was killed.
        if left_over.name[4:].isdigit() and not lives(int(left_over.name[4:])):
            shutil.rmtree(left_over, ignore_errors=True)
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
    """Raise when a folder cannot be written, or its disk has too little room left.

    Args:
        folder: A folder on the disk; need not exist yet.
        needed_bytes: A generous guess.
        what: What needs the room, for the message.

    Raises:
        BadInput: Either.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{there} cannot be written", hint="check its rights, or give another folder")
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise BadInput(
            f"{what} needs about {needed_bytes / 1e9:.1f} GB, and {there} has {free / 1e9:.1f} GB left",
            hint="free some space or give another --home",
        )

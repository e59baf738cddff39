"""One file with a subject: written from its folder, and read back with every byte checked.

A zip whose first member lists the others with their sizes and hashes. Only names that a subject's folder has are ever
written or read, so that a pack from anywhere can neither reach other places nor smuggle other files in.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import progress
from stages.atomic_files import atomic_path, save_json, sha256_of
from stages.errors import BadInput, RadnerfError
from stages.provenance import radnerf_version
from stages.settings import STAGES
from stages.workspace import Workspace

PACK_FORMAT = 1
"""Version of the file."""

CONTENTS = "radnerf-pack.json"
"""The member that lists the others."""

MOST_BYTES = 200_000_000_000
"""More than any subject has: a pack that claims more is refused before anything is read."""

_MOST_CONTENTS_BYTES = 1_000_000
_PIECE = 1 << 20
_HINT = "get the file again from where it came"


@dataclass(frozen=True)
class Pack:
    """What a pack says about itself.

    Attributes:
        subject: The subject's name.
        made_with: Version of radnerf.
        made_at: ISO 8601.
        training: Whether it holds what training reads.
        files: Size in bytes and SHA-256 by the name within the subject's folder.
    """

    subject: str
    made_with: str
    made_at: str
    training: bool
    files: dict[str, tuple[int, str]]

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return sum(size for size, _ in self.files.values())


def _speaking(workspace: Workspace) -> tuple[list[Path], list[Path]]:
    """What speaking needs, and what is worth having with it."""
    ws = workspace
    needed = [ws.subject, ws.background, ws.track, ws.head, ws.torso]
    return needed, [ws.frames_info, ws.prepared, ws.head_history, ws.torso_history, ws.evaluation]


def _training(workspace: Workspace) -> list[Path]:
    """What training and evaluating read beside that, in an order in which it can be made."""
    ws = workspace
    return [ws.frames, ws.frames_info, ws.audio, ws.landmarks, ws.parsing, ws.layers, ws.features]


def _settings(workspace: Workspace) -> list[Path]:
    return [workspace.settings(stage) for stage in STAGES if stage != "frames"]


def _known(workspace: Workspace) -> dict[str, Path]:
    """Every file that a pack may hold, by its name in there, in an order in which it can be made."""
    needed, extra = _speaking(workspace)
    models = [workspace.head, workspace.head_history, workspace.torso, workspace.torso_history, workspace.evaluation]
    every = (*_settings(workspace), *_training(workspace), *needed, *extra, workspace.preview)
    first = [path for path in dict.fromkeys(every) if path not in models]
    return {path.relative_to(workspace.root).as_posix(): path for path in (*first, *models)}


def write_pack(workspace: Workspace, path: Path, *, training: bool = False) -> Pack:
    """Write a subject's pack.

    Args:
        workspace: The subject; trained.
        path: Where to.
        training: Whether what training reads goes in too: frames, masks, sound.

    Raises:
        BadInput: A file of the subject is missing.
        RadnerfError: The pack cannot be written.
    """
    needed, extra = _speaking(workspace)
    if training:
        needed, extra = [*needed, *_training(workspace)], [*extra, *_settings(workspace), workspace.preview]
    for wanted in needed:
        if not wanted.is_file():
            raise BadInput(f"the subject lacks {wanted}", hint="prepare and train it first")
    chosen = {*needed, *(one for one in extra if one.is_file())}
    members = {name: file for name, file in _known(workspace).items() if file in chosen}
    pack = Pack(
        subject=workspace.root.name,
        made_with=radnerf_version(),
        made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        training=training,
        files={name: (file.stat().st_size, sha256_of(file)) for name, file in members.items()},
    )
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as stored:
        stored.writestr(CONTENTS, json.dumps(_contents(pack), indent=2))
        for name, file in progress.track(list(members.items()), "pack", len(members)):
            stored.write(file, name)
    return pack


def _contents(pack: Pack) -> dict[str, Any]:
    files = {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in pack.files.items()}
    return {
        "format": PACK_FORMAT,
        "subject": pack.subject,
        "radnerf": pack.made_with,
        "made_at": pack.made_at,
        "training": pack.training,
        "files": files,
    }


def read_contents(path: Path) -> Pack:
    """What a pack says that it holds; nothing of it is written anywhere.

    Raises:
        BadInput: It is missing, no pack, damaged, of a later version, or holds what no subject has.
    """
    try:
        with zipfile.ZipFile(path) as stored:
            return _checked(stored, path)
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {path}", hint="check the name") from error
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path} is no pack that can be read: {error}", hint=_HINT) from error


def _checked(stored: zipfile.ZipFile, path: Path) -> Pack:
    names = stored.namelist()
    if CONTENTS not in names or stored.getinfo(CONTENTS).file_size > _MOST_CONTENTS_BYTES:
        raise BadInput(f"{path} is no pack of a subject", hint="give a file that 'radnerf pack' made")
    try:
        told = json.loads(stored.read(CONTENTS))
        if told["format"] != PACK_FORMAT:
            raise BadInput(
                f"{path} has format {told['format']!r}, and this radnerf reads {PACK_FORMAT}",
                hint="use the radnerf that made it",
            )
        files = {str(name): (int(one["bytes"]), str(one["sha256"])) for name, one in told["files"].items()}
        pack = Pack(str(told["subject"]), str(told["radnerf"]), str(told["made_at"]), bool(told["training"]), files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} has a damaged list of contents", hint=_HINT) from error
    _check_members(stored, names, pack, path)
    return pack


def _check_members(stored: zipfile.ZipFile, names: list[str], pack: Pack, path: Path) -> None:
    """Raise unless the members are those that the list names, are plain files, and all belong into a subject."""
    known = _known(Workspace(Path("subject")))
    strangers = sorted(name for name in {*names, *pack.files} - {CONTENTS} if name not in known)
    if strangers:
        raise BadInput(f"{path} holds {strangers[0]!r}, which no subject has", hint="don't use it")
    if sorted(names) != sorted([CONTENTS, *pack.files]):
        raise BadInput(f"{path} does not hold what its list says", hint=_HINT)
    needed = [name for name, file in known.items() if file in _speaking(Workspace(Path("subject")))[0]]
    missing = [name for name in needed if name not in pack.files]
    if missing:
        raise BadInput(f"{path} lacks {missing[0]}", hint=_HINT)
    for name, (size, _) in pack.files.items():
        member = stored.getinfo(name)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or member.is_dir() or member.flag_bits & 1:
            raise BadInput(f"{path}: {name} is no plain file", hint="don't use it")
        # Packs are stored as they are: what is compressed may be a bomb.
        if member.compress_type != zipfile.ZIP_STORED:
            raise BadInput(f"{path}: {name} is compressed, which no pack is", hint="don't use it")
        # A member that is larger than it says would be cut off below; one that says another size is damaged.
        if member.file_size != size or not 0 <= size <= MOST_BYTES:
            raise BadInput(f"{path}: {name} has {member.file_size} bytes, not the {size} of the list", hint=_HINT)
    if pack.total_bytes > MOST_BYTES:
        raise BadInput(f"{path} claims {pack.total_bytes / 1e9:.0f} GB", hint="don't use it")


def unpack(path: Path, pack: Pack, workspace: Workspace) -> None:
    """Write a pack's files into a new folder; the caller lets it appear whole, or throws it away.

    Args:
        path: The pack.
        pack: What ``read_contents`` said.
        workspace: Where to; nothing is there yet.

    Raises:
        BadInput: A file's content is not what the list says.
        RadnerfError: The disk is full or the folder cannot be written.
    """
    known = _known(workspace)
    # Each file is newer than what it was made from, as in the folder that it came from.
    moment = dt.datetime.now(dt.UTC).timestamp() - len(known)
    try:
        with zipfile.ZipFile(path) as stored:
            ordered = [name for name in known if name in pack.files]
            for number, name in enumerate(progress.track(ordered, "unpack", len(ordered))):
                _unpack_file(stored, name, known[name], pack.files[name])
                os.utime(known[name], (moment + number, moment + number))
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged: {error}", hint=_HINT) from error
    except OSError as error:
        raise RadnerfError(f"{path} cannot be unpacked: {error.strerror or error}", hint="free some space") from error
    given = ("frames",) if pack.training else tuple(stage for stage in STAGES if stage != "render")
    save_json(workspace.given, {"stages": list(given), "why": f"unpacked from {path.name}"})


def _unpack_file(stored: zipfile.ZipFile, name: str, final: Path, told: tuple[int, str]) -> None:
    size, sha256 = told
    digest = hashlib.sha256()
    left = size
    final.parent.mkdir(parents=True, exist_ok=True)
    with stored.open(name) as source, final.open("xb") as target:
        # One byte more than was said is asked for, so that too much is noticed.
        while piece := source.read(min(_PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                break
            digest.update(piece)
            target.write(piece)
    if left != 0 or digest.hexdigest() != sha256:
        raise BadInput(f"{name} in the pack is not what its list says", hint=_HINT)

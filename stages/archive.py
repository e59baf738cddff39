"""Archives of frames: uncompressed zips, one member a picture."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Self

from stages.errors import DELETE_AND_REPEAT, BadInput

_MOST_MEMBER_BYTES = 256_000_000


class ArchiveWriter:
    """Writes frames into an uncompressed zip, one member a picture (they are compressed already)."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` (a temporary one: see ``atomic_path``) for writing."""
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the archive."""
        self._zip.close()

    def add(self, name: str, data: bytes) -> None:
        """Append one member. The time stamp is fixed, so that equal frames make equal archives."""
        self._zip.writestr(zipfile.ZipInfo(name), data)


class Archive:
    """Reads members of a frame archive by name, in any order."""

    def __init__(self, path: Path) -> None:
        """Open an archive.

        Raises:
            BadInput: The file is missing or damaged.
        """
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise BadInput(f"{path} is missing", hint="run the stage that makes it") from error
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise BadInput(f"{path} is damaged: {error}", hint=DELETE_AND_REPEAT) from error
        strange = next((member for member in self._zip.infolist() if not _is_plain(member)), None)
        if strange is not None:
            self._zip.close()
            raise BadInput(f"{path} holds {strange.filename[:60]!r}, which is no frame", hint=DELETE_AND_REPEAT)
        self.names = frozenset(self._zip.namelist())

    def __enter__(self) -> Self:
        """Return the archive."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._zip.close()

    def read(self, name: str) -> bytes:
        """The bytes of one member.

        Raises:
            BadInput: There is no such member or it is damaged.
        """
        try:
            return self._zip.read(name)
        except (KeyError, OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(f"{self.path} has no intact {name}", hint=DELETE_AND_REPEAT) from error


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """Whether a member is what ``ArchiveWriter`` writes: a plain name, stored as it is, and no bomb."""
    name = member.filename
    named = bool(name) and not name.startswith(".") and "/" not in name and "\\" not in name
    stored = member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size
    return named and stored and member.file_size <= _MOST_MEMBER_BYTES


def frame_name(index: int, suffix: str) -> str:
    """The member name of a frame: ``frame_name(455, ".jpg") == "000455.jpg"``."""
    return f"{index:06d}{suffix}"

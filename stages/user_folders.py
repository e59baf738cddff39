"""Where the user's own files lie that belong to no subject (XDG Base Directory Specification)."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """For what must be kept: ``$XDG_DATA_HOME/radnerf``, else ``~/.local/share/radnerf``."""
    return _folder("XDG_DATA_HOME", Path(".local", "share"))


def cache_folder() -> Path:
    """For what can be made again: ``$XDG_CACHE_HOME/radnerf``, else ``~/.cache/radnerf``."""
    return _folder("XDG_CACHE_HOME", Path(".cache"))


def _folder(variable: str, usual: Path) -> Path:
    named = os.environ.get(variable, "")
    # The specification says that a relative path is to be ignored.
    root = Path(named) if named and Path(named).is_absolute() else Path.home() / usual
    return root / "radnerf"

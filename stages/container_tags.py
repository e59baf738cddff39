"""What a media file's container says about itself: the tags that players show, which anybody can write."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from stages.errors import BadInput
from stages.media_info import ffmpeg_path, file_url

_PATIENCE_S = 60.0


def read_tags(path: Path) -> dict[str, str]:
    """The container's global tags, ``title``, ``comment`` and so on; keys in small letters.

    Args:
        path: A media file from anywhere.

    Raises:
        BadInput: ffmpeg cannot read it.
    """
    command = [ffmpeg_path(), "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe"]
    command += ["-i", file_url(path), "-f", "ffmetadata", "-"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"{path} cannot be read", hint="ffmpeg hangs on it") from error
    if done.returncode != 0:
        raise BadInput(f"{path} is no media file that can be read", hint="give a video")
    return _parse(done.stdout.decode("utf-8", "replace"))


def _parse(text: str) -> dict[str, str]:
    r"""What ffmpeg writes as metadata: ``key=value`` lines, ``\`` before special signs and line ends, then sections."""
    found: dict[str, str] = {}
    line = ""
    for piece in text.splitlines():
        line += piece
        if len(piece) - len(piece.rstrip("\\")) & 1:
            line = line[:-1] + "\n"
            continue
        if line.startswith("["):
            break
        key, equals, value = line.partition("=")
        if equals and not line.startswith(";"):
            found[key.lower()] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        line = ""
    return found

"""Look at a trained subject in a browser: turn it, open its eyes and mouth, scrub through a speech."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stages.api import Portrait
from stages.window.puppet import Puppet
from stages.window.server import Door, check_packages, open_door, serving
from stages.window.speeches import Library, list_speeches

_LOOK_UP_S = 0.5  # between two looks whether the server still runs


def run(
    portrait: Portrait,
    speeches: Sequence[Path],
    *,
    consent: str,
    size_px: int,
    port: int,
    opened: Callable[[Door], None],
) -> None:
    """Serve the window until it is interrupted.

    Args:
        portrait: The subject.
        speeches: Sound files to play beside those that it was asked for before.
        consent: The note of the subject's maker; may be empty.
        size_px: The largest picture; 0 for what fits the subject.
        port: 0 for any free one.
        opened: Told the address once it answers.

    Raises:
        BadInput: A speech or the port cannot be used.
        RadnerfError: The packages of the extra ``window`` are missing.
    """
    check_packages()
    from stages.window.view_app import view_app

    # Not in parallel: the kernels use all cores for one picture, and some of them cannot be entered twice.
    with open_door(port) as door, Puppet(portrait) as puppet, ThreadPoolExecutor(1, "radnerf-artist") as artist:
        entries = list_speeches(portrait.workspace, speeches)
        with Library(puppet, entries) as library:
            app = view_app(puppet, library, artist, size_px, consent, door.port)
            with serving(app, door) as ended:
                opened(door)
                while not ended.wait(_LOOK_UP_S):
                    pass

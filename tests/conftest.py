"""Shared fixtures: where the real clips lie, and a skip with a reason where they do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import radnerf  # noqa: F401 - before anything imports torch

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with clips/ and models/ (``RADNERF_TEST_ASSETS``, else ``../shared``)."""
    folder = Path(os.environ.get("RADNERF_TEST_ASSETS", _ROOT / ".." / "shared")).resolve()
    if not (folder / "clips").is_dir():
        pytest.skip(f"no real clips: {folder} has no clips/ (set RADNERF_TEST_ASSETS)")
    return folder


@pytest.fixture(scope="session")
def german(assets: Path) -> Path:
    """The news anchor clip: 20 s, 512x512, 25 fps."""
    return assets / "clips" / "german.mp4"


@pytest.fixture(scope="session")
def katie(assets: Path) -> Path:
    """The long-hair clip: 8 s, 512x512, 25 fps."""
    return assets / "clips" / "katie.mp4"

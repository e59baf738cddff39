"""What the shell offers after Tab, beside commands and options: subjects, presets, stages and the like.

Everything here is asked at every Tab, so it looks at names in folders and imports nothing more.
"""

from __future__ import annotations

import os
from pathlib import Path

import typer


def subjects(context: typer.Context, incomplete: str) -> list[str]:
    """The subjects under the home that was typed, that ``RADNERF_HOME`` names, or here."""
    home = Path(context.params.get("home") or os.environ.get("RADNERF_HOME") or ".")
    try:
        found = sorted(path.parent.name for path in (home / "subjects").glob("*/subject.yaml"))
    except OSError:
        return []
    return [name for name in found if name.startswith(incomplete)]


def speeches(context: typer.Context, incomplete: str) -> list[str]:
    """The speeches of the subject that was typed, of all where the shell does not tell which."""
    home = Path(context.params.get("home") or os.environ.get("RADNERF_HOME") or ".")
    subject = str(context.params.get("subject") or "*")
    try:
        found = sorted(path.parent.name for path in (home / "subjects").glob(f"{subject}/speech/*/job.json"))
    except OSError:
        return []
    return [name for name in found if name.startswith(incomplete)]


def presets(incomplete: str) -> list[str]:
    """The presets."""
    from stages.settings import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def front_ends(incomplete: str) -> list[str]:
    """The audio front ends."""
    from typing import get_args

    from stages.settings import FrontEnd

    return [name for name in get_args(FrontEnd) if name.startswith(incomplete)]


def stages(incomplete: str) -> list[str]:
    """The stages."""
    from cli.plan import STAGES

    return [name for name in STAGES if name.startswith(incomplete)]


def settings(incomplete: str) -> list[str]:
    """``STAGE.KEY=`` for every setting."""
    import dataclasses
    import typing

    from stages.settings import STAGES, SubjectSettings

    kinds = typing.get_type_hints(SubjectSettings)
    keys = (f"{stage}.{item.name}=" for stage in STAGES for item in dataclasses.fields(kinds[stage]))
    return [key for key in keys if key.startswith(incomplete)]


def backends(incomplete: str) -> list[str]:
    """The kernels."""
    return [name for name in ("auto", "reference", "cpu", "triton", "tcnn") if name.startswith(incomplete)]


def devices(incomplete: str) -> list[str]:
    """Torch's devices."""
    return [name for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]


def profiles(incomplete: str) -> list[str]:
    """The profiles that come with radnerf."""
    from cli.snakemake_call import workflow_file

    return sorted(
        path.parent.name
        for path in workflow_file("profiles").glob("*/config.yaml")
        if path.parent.name.startswith(incomplete)
    )


def models(context: typer.Context, incomplete: str) -> list[str]:
    """``add`` and ``fetch``, and after ``fetch`` the files that can be fetched."""
    from stages.model_files import MODELS

    if context.params.get("action") != "fetch":
        return []
    return [model.name for model in MODELS if model.url and model.name.startswith(incomplete)]


def model_actions(incomplete: str) -> list[str]:
    """What ``radnerf models`` can do."""
    return [name for name in ("add", "fetch") if name.startswith(incomplete)]


def eyes(incomplete: str) -> list[str]:
    """The words that ``--eyes`` knows."""
    return [name for name in ("auto", "clip") if name.startswith(incomplete)]

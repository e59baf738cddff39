"""What Snakemake is called with: its words, its environment, and where its workflow is."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from cli import events, lock
from cli.slurm import without_accounting
from stages.errors import RadnerfError


@dataclass(frozen=True)
class Execution:
    """How stages run, which changes no result and so is no setting.

    Attributes:
        backend: Of the kernels: ``auto``, ``reference``, ``cpu`` …
        device: Of torch: ``auto``, ``cpu``, ``cuda`` …
        snakemake_args: What the user passed on to Snakemake.
        profile: Folder of a Snakemake profile, which says where stages run; empty for this machine.
        deployment: Snakemake's ``--sdm``: ``conda`` or ``apptainer``; empty for the running environment.
        keep_going: Whether stages that do not depend on a failed one still run.
        gpu_jobs: Stages that may use the GPU at the same time, where no profile says so.
    """

    backend: str = "auto"
    device: str = "auto"
    snakemake_args: tuple[str, ...] = ()
    profile: str = ""
    deployment: str = ""
    keep_going: bool = False
    gpu_jobs: int = 1


def workflow_file(name: str) -> Path:
    """A file or folder of the workflow, ``"Snakefile"`` or ``"profiles"``, in a checkout and in an installed wheel.

    Raises:
        RadnerfError: The installation lacks it.
    """
    import radnerf

    package = Path(radnerf.__file__).resolve().parent
    for candidate in (package / "workflow" / name, package.parent / name):
        if candidate.exists():
            return candidate
    raise RadnerfError(f"this installation of radnerf lacks its {name}", hint="install radnerf again")


def command(folder: Path, targets: list[Path], execution: Execution) -> list[str]:
    """Snakemake's argument list. ``-P`` keeps the user's own folder from shadowing Python's modules.

    Args:
        folder: Where it keeps its books, two levels below ``subjects/``.
        targets: Files of subjects.
        execution: How stages run.
    """
    return [
        *(sys.executable, "-P", "-m", "snakemake"),
        *("--snakefile", str(workflow_file("Snakefile"))),
        *("--directory", str(folder)),
        *arguments(folder, targets, execution),
    ]


def environment(folder: Path, token: str, event_file: Path, execution: Execution) -> dict[str, str]:
    """The same radnerf on PATH, the same home, and the ways back to this process.

    Args:
        folder: Where Snakemake keeps its books.
        token: Of the run.
        event_file: Where stages tell of themselves.
        execution: How stages run.
    """
    scratch = lock.scratch_folder(token)
    # A cluster says itself where its machines keep temporary files.
    here = {"TMPDIR": str(scratch)} if scratch.is_dir() and not execution.profile else {}
    # A conda environment finds this very code, which is not installed in it.
    code = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)} if execution.deployment == "conda" else {}
    return {
        **os.environ,
        **code,
        **here,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "RADNERF_HOME": str(folder.parents[2].resolve()),
        lock.VARIABLE: token,
        lock.OWNER_VARIABLE: lock.owner_mark(),
        events.VARIABLE: str(event_file),
    }


def _target(folder: Path, path: Path) -> str:
    """A subject's file as the Snakefile names it from a folder two levels below ``subjects/``."""
    return f"../../{path.relative_to(folder.parents[1]).as_posix()}"


def arguments(folder: Path, targets: list[Path], execution: Execution) -> list[str]:
    """What follows the workflow and the folder in Snakemake's argument list; as for ``command``."""
    config = {"backend": execution.backend, "device": execution.device, "sdm": execution.deployment or "auto"}
    chosen = [f"{key}={value}" for key, value in config.items() if value != "auto"]
    user = execution.snakemake_args
    # A profile or the user may say how many cores or cluster jobs there are.
    said = execution.profile or {"--cores", "-c", "--jobs", "-j", "--profile"} & {arg.split("=")[0] for arg in user}
    return [
        "--rerun-incomplete",
        "--show-failed-logs",
        "--nocolor",
        *(("--profile", execution.profile) if execution.profile else ("--resources", f"gpu={execution.gpu_jobs}")),
        *("--rerun-triggers", "mtime"),
        # The usual scheduler weighs which temporary files go soonest, for a second a job; no rule makes any.
        *("--scheduler", "greedy"),
        *(() if said else ("--cores", "all")),
        *(_shared_cores(execution.gpu_jobs) if execution.gpu_jobs > 1 and not said else ()),
        *(("--keep-going",) if execution.keep_going else ()),
        *(("--sdm", execution.deployment) if execution.deployment else ()),
        *(("--config", *chosen) if chosen else ()),
        *without_accounting(execution.profile, user),
        *user,
        "--",
        *(_target(folder, path) for path in targets),
    ]


def _shared_cores(jobs: int) -> list[str]:
    """Stages that would take every core get a share of them, so that several can run."""
    share = max(1, (os.cpu_count() or 1) // jobs)
    return ["--set-threads", *(f"{stage}={share}" for stage in ("head", "torso", "evaluate", "render"))]

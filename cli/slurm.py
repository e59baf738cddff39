"""What Snakemake's Slurm executor must be told of a cluster that keeps no accounts."""

from __future__ import annotations

import subprocess

from cli.profiles import profile_settings

_PATIENCE_S = 30.0


def without_accounting(profile: str, user: tuple[str, ...]) -> list[str]:
    """The options for a Slurm without accounting; none for any other cluster.

    The executor asks ``sacct`` how jobs are, and waits for ever where that cannot answer.

    Args:
        profile: Folder of a Snakemake profile, or empty.
        user: What the user passed on to Snakemake, which wins, as does what the profile says.
    """
    config = profile_settings(profile)
    if config.get("executor") != "slurm":
        return []
    said = {f"--{key}" for key in config} | {word.partition("=")[0] for word in user}
    options = {"--slurm-status-command": ["squeue"], "--slurm-no-account": []}
    missing = {name: words for name, words in options.items() if name not in said}
    if not missing or keeps_accounts():
        return []
    return [word for name, words in missing.items() for word in (name, *words)]


def keeps_accounts() -> bool:
    """Whether ``sacct`` can answer here; a database that is merely down counts as kept."""
    try:
        done = subprocess.run(
            ["sacct", "--noheader", "--starttime=now"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        # The executor takes squeue by itself where there is no sacct.
        return True
    except subprocess.TimeoutExpired:
        return True
    return "accounting storage is disabled" not in done.stderr.lower()

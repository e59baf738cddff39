"""What a Snakemake profile says of where stages run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def profile_settings(profile: str) -> dict[str, Any]:
    """What a profile's file holds; nothing without a profile, or where only Snakemake can read it.

    Args:
        profile: Its folder, or empty.
    """
    if not profile:
        return {}
    try:
        read = yaml.safe_load((Path(profile) / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return read if isinstance(read, dict) else {}


def submits_to_kubernetes(profile: str) -> bool:
    """Whether stages become Kubernetes jobs, which outlive the process that submitted them."""
    return "cli.kubernetes_jobs" in str(profile_settings(profile).get("cluster-generic-submit-cmd"))

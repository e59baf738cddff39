"""How many pixels of a prepared subject change their class from one frame to the next.

    python benchmarks/parsing_stability.py subjects/anchor
    python benchmarks/parsing_stability.py subjects/anchor --json

A head that moves changes some; a parsing that flickers changes many more.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from stages.archive import Archive
from stages.vision.images import decode_grey
from stages.workspace import Workspace


def main() -> None:
    """Compare neighbouring frames, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("subject", type=Path, help="a prepared subject's folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.subject)
    lines = [json.dumps(figures)] if options.json else [f"{name:28}{value}" for name, value in figures.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def measure(subject: Path) -> dict[str, float]:
    """Shares of pixels, in per cent, over all pairs of neighbouring frames.

    Args:
        subject: The subject's folder.
    """
    changed = []
    with Archive(Workspace(subject).parsing) as archive:
        names = sorted(archive.names)
        before = decode_grey(archive.read(names[0]), archive.path)
        for name in names[1:]:
            now = decode_grey(archive.read(name), archive.path)
            changed.append(100 * float((now != before).mean()))
            before = now
    return {
        "frames": len(names),
        "changed_mean_percent": round(float(np.mean(changed)), 3),
        "changed_median_percent": round(float(np.median(changed)), 3),
        "changed_most_percent": round(float(np.max(changed)), 3),
    }


if __name__ == "__main__":
    main()

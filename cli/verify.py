"""``radnerf verify``: what a video says about itself, and whether that can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import Console
from cli.options import AsJson, examples

EXAMPLES = examples(
    "radnerf verify out.mp4",
    "radnerf verify videos/*.mp4 --json",
    "radnerf verify out.mp4 && echo 'nobody changed it since it was signed'",
    codes={
        0: "every manifest is valid",
        1: "one is invalid: the video was changed after it was signed",
        2: "a file is missing or no video",
        3: "one is absent: nothing is signed",
    },
)

INVALID = 1
"""Exit code when a manifest does not hold: the video was changed after it was signed."""

ABSENT = 3
"""Exit code when a video has no manifest."""


def verify(
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="MP4 or MOV files, from anywhere.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Read a video's metadata and its signed C2PA manifest back, and say whether the manifest holds.

    Tells whether the video says that it is synthetic, which model and which subject it shows, when it was made, and
    the consent note. Ends with 0 when every manifest is valid, 1 when one is invalid (the video was changed after it
    was signed), 3 when one is absent, 2 when a file is no video. Nothing is fetched from anywhere.
    """
    console = Console(json=as_json)
    reports = [describe(video) for video in videos]
    console.result({"videos": reports}, "\n\n".join(map(_words, reports)))
    states = {report["state"] for report in reports}
    if "invalid" in states:
        raise typer.Exit(INVALID)
    if "absent" in states:
        raise typer.Exit(ABSENT)


def describe(video: Path) -> dict[str, Any]:
    """What ``verify --json`` says about a video.

    Raises:
        BadInput: It is missing or no MP4 video.
    """
    from stages.container_tags import read_tags
    from stages.provenance import NOTICE, read_provenance

    found = read_provenance(video)
    tags = read_tags(video)
    report: dict[str, Any] = {
        "video": str(video),
        "state": "absent" if found is None else "valid" if found.intact else "invalid",
        # Tags can be written by anybody: they are told apart from what is signed.
        "tagged_synthetic": NOTICE in tags.get("comment", "") or "trainedAlgorithmicMedia" in tags.get("keywords", ""),
        "tags": {key: tags[key] for key in ("title", "comment", "description", "keywords") if key in tags},
    }
    if found is not None:
        report |= {
            "synthetic": found.synthetic,
            "subject": found.subject,
            "model": found.model_version,
            "made_at": found.made_at,
            "consent": found.consent,
            "software": found.software,
            "signer": found.signer,
            "signed_here": found.signed_here,
            "problems": list(found.problems),
        }
    return report


def _words(report: dict[str, Any]) -> str:
    tagged = "says that it is synthetic" if report["tagged_synthetic"] else "says nothing of synthetic media"
    lines = [f"{report['video']}: the manifest is {report['state']}", f"  metadata   {tagged}"]
    if report["state"] == "absent":
        return "\n".join([*lines, "  nothing is signed: whatever the metadata says, anybody may have written it"])
    whose = "this machine's own key" if report["signed_here"] else "not this machine's key; whose it is, is not proven"
    if report["state"] == "invalid":
        whose = "does not hold"
    rows = {
        "synthetic": "yes" if report["synthetic"] else "not declared",
        "subject": report["subject"],
        "model": report["model"],
        "made": report["made_at"],
        "consent": report["consent"] or "no note was given",
        "software": report["software"],
        "signed by": f"{report['signer']} ({whose})",
    }
    lines += [f"  {name:<10} {text}" for name, text in rows.items() if text]
    lines += [f"  problem    {problem}" for problem in report["problems"]]
    if report["state"] == "invalid":
        lines.append("  the video or its manifest was changed after it was signed; don't believe the above")
    return "\n".join(lines)

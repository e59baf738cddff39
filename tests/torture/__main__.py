"""Everything that can go wrong, one after the other, and a table of how it went: ``make torture``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.torture.kills import torture

ROOT = Path(__file__).resolve().parents[2]


def bad_inputs() -> list[str]:
    """The files that hold the tests of bad input."""
    return sorted(str(path) for path in (ROOT / "tests").glob("test_bad_input*.py"))


def inputs_table(folder: Path, tests: list[str]) -> tuple[str, bool]:
    """Try bad input; how many kinds there were, how many messages were right, what was written.

    Args:
        folder: For pytest's report.
        tests: What pytest runs: files or single tests.
    """
    report = folder / "bad_input.xml"
    # The other form of the report has no place for a test's own notes.
    options = ["-q", "-o", "junit_family=xunit1", f"--junitxml={report}"]
    subprocess.run([sys.executable, "-m", "pytest", *options, "--", *tests], check=False, cwd=ROOT, stdout=sys.stderr)
    cases = [case for case in ET.parse(report).iter("testcase") if case.find("skipped") is None]
    wrong = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    written = sum(int(item.get("value", "0")) for item in ET.parse(report).iter("property"))
    lines = [
        f"{'inputs tried':40}{len(cases)}",
        f"{'messages right, or read as they should':40}{len(cases) - len(wrong)}",
        f"{'files written':40}{written}",
    ]
    return "\n".join([*lines, *(f"wrong: {case.get('name')}" for case in wrong)]), not wrong and not written


def long_run(module: str, minutes: float, folder: Path) -> tuple[str, bool]:
    """A long run in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", f"tests.torture.{module}", "--minutes", str(minutes), "--folder", str(folder)]
    done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip(), done.returncode == 0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speech-minutes", type=float, default=60.0)
    parser.add_argument("--clip-minutes", type=float, default=120.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radnerf-torture-") as name:
        folder = Path(name)
        inputs, inputs_well = inputs_table(folder, bad_inputs())
        print(inputs, flush=True)
        (folder / "kills").mkdir()
        tally = torture(folder / "kills", asked.kills, asked.seed)
        speech, speech_well = long_run("long_speech", asked.speech_minutes, folder / "speech")
        print(speech, flush=True)
        clip, clip_well = long_run("long_clip", asked.clip_minutes, folder / "clip")
    print("\n\n".join(["", inputs, tally.table(), speech, clip]))
    return 0 if inputs_well and tally.well and speech_well and clip_well else 1


if __name__ == "__main__":
    sys.exit(main())

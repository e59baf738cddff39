"""What the tests on clusters have done there: two subjects that came in packs, each with a speech."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from stages.provenance import read_provenance
from tests.speaking_subject import make_speaking_subject
from tests.test_batch import tone

PATIENCE_S = 1800

NAMES = ("anna", "bert")

FAILS_ONCE = """\
import os, sys
from pathlib import Path
from cli.app import main
once = Path(os.environ["RADNERF_HOME"]) / "failed-once"
if sys.argv[2] == "render" and "anna" in sys.argv and not once.exists():
    once.write_text(os.environ.get("SLURM_JOB_ID", "no job"))
    sys.exit("the machine was pulled from under this job")
main()
"""
"""The radnerf command, whose first rendering dies."""


NEVER_ENDS = """\
import os, time
from pathlib import Path
(Path(os.environ["RADNERF_HOME"]) / "began").touch()
time.sleep(600)
"""
"""The radnerf command, whose every stage waits to be ended."""


def make_batch(home: Path) -> None:
    """Write two subjects and ``jobs.csv``, which lets each speak, into a new folder."""
    home.mkdir()
    for name in NAMES:
        make_speaking_subject(home, name)
        pack = home.parent / f"{name}.radnerf"
        _radnerf("pack", name, "--home", str(home), "-o", str(pack))
        shutil.rmtree(home / "subjects" / name)
        _radnerf("unpack", str(pack), "--home", str(home))
    tone(home / "speech.wav")
    lines = [f"{name},speech.wav,{name}.mp4\n" for name in NAMES]
    (home / "jobs.csv").write_text("subject,speech,output\n" + "".join(lines))


def batch_command(python: Path, home: Path, profile: str) -> list[str]:
    """The command that brings all of it about, on a cluster."""
    words = ["batch", "jobs.csv", "--home", str(home), "--profile", profile, "--json"]
    return [str(python), "-P", "-m", "cli.app", *words]


def interrupt_once_begun(command: list[str], environment: dict[str, str], home: Path) -> None:
    """Start a batch of stages that never end, wait for the first, and type Ctrl-C."""
    process = subprocess.Popen(
        command, env=environment, cwd=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    end = time.monotonic() + PATIENCE_S
    while not (home / "began").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert not list((home / "subjects").rglob("*.mp4"))


def check_videos(home: Path) -> None:
    """Each speech is there, whole, and says whose it is."""
    for name in NAMES:
        found = read_provenance(home / f"{name}.mp4")
        assert found is not None
        assert (found.intact, found.subject) == (True, name)


def _radnerf(*words: str) -> None:
    subprocess.run([sys.executable, "-P", "-m", "cli.app", *words], check=True, capture_output=True)

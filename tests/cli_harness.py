"""What the command line's tests share: fabricated subjects, and an environment whose stages are stand-ins."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import app
from cli.plan import Step, speech_chain, speech_steps, subject_steps
from cli.subject import create_subject, describe_source, new_record
from stages.atomic_files import save_json
from stages.workspace import Workspace

SPEECH = "hello-0123abcd"

CONTENT = {"frames.json": '{"frames": 75, "fps": 25}'}
"""What fabricated files hold where anybody reads it."""

WORKING_STAGE = """\
import sys
from pathlib import Path
from cli import events
from cli.plan import find_step
from stages.workspace import open_subject
import os
name, subject = sys.argv[2:4]
speech = sys.argv[sys.argv.index("--speech") + 1] if "--speech" in sys.argv else None
step = find_step(open_subject(Path(os.environ["RADNERF_HOME"]), subject), name, speech)
events.tell_start(name)
for path in step.outputs.values():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"frames": 75, "seconds": 3.0, "fps": 25.0, "peak_rss_mb": 100.0}')
events.tell_end(name)
"""
"""A stage that writes every output without doing anything."""

REFUSING_STAGE = """\
import sys
from cli import events
events.tell_error("the face is lost from 3.0 to 5.2 s", "cut that part out", 2)
sys.exit(2)
"""
"""A stage that finds the input bad."""

SLEEPING_STAGE = """\
import os, time
from pathlib import Path
Path(os.environ["STAGE_PID_FILE"]).write_text(str(os.getpid()))
time.sleep(120)
"""
"""A stage that would take minutes."""


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        code: Exit code.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str


class Shell:
    """Types radnerf commands in this process, with a home of its own."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        """Work in ``home``."""
        self.home = home
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        monkeypatch.chdir(home)
        for name in ("RADNERF_HOME", "RADNERF_EVENTS", "RADNERF_RUN", "RADNERF_DEBUG"):
            monkeypatch.delenv(name, raising=False)

    def __call__(self, *words: str) -> Answer:
        """Type ``radnerf`` and these words."""
        self._monkeypatch.setattr(sys, "argv", ["radnerf", *words])
        self._capfd.readouterr()
        code = app.run()
        said = self._capfd.readouterr()
        return Answer(code, said.out, said.err)

    def use_stages(self, folder: Path, script: str) -> None:
        """Let the workflow find a stand-in for the ``radnerf stage`` command."""
        self._monkeypatch.setattr(sys, "executable", str(shim_environment(folder, script)))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """A shell in an empty folder."""
    home = tmp_path / "home"
    home.mkdir()
    return Shell(home, monkeypatch, capfd)


def shim_environment(folder: Path, script: str) -> Path:
    """A twin of the running environment whose ``radnerf`` is a stand-in for the stages.

    Args:
        folder: Where to make it.
        script: Python source that gets the stage command's arguments.

    Returns:
        Its Python.
    """
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    (folder / "pyvenv.cfg").write_bytes((Path(sys.prefix) / "pyvenv.cfg").read_bytes())
    python = folder / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    stand_in = folder / "bin" / "radnerf"
    stand_in.write_text(f"#!{python}\n{script}", encoding="utf-8")
    stand_in.chmod(0o755)
    return python


def fabricate(home: Path, name: str = "anchor", *, trained: bool = True, speech: bool = False) -> Workspace:
    """A subject whose files hold nothing, each newer than what it was made from."""
    video = home / f"{name}.mp4"
    video.write_bytes(name.encode())
    workspace = Workspace(home / "subjects" / name)
    record = new_record(name, describe_source(video), "").changed(preset="draft", assignments={})
    create_subject(workspace, record, video)
    steps = subject_steps(workspace)
    if not trained:
        steps = {key: step for key, step in steps.items() if key not in ("head", "torso", "evaluate", "report")}
    if speech:
        folder = workspace.speech(SPEECH)
        save_json(folder.job, {"format": 1})
        folder.source.write_bytes(b"speech")
        steps = {**speech_chain(workspace, SPEECH), "evaluate": steps["evaluate"], "report": steps["report"]}
    touch_outputs(steps, time.time() - 1000)
    return workspace


def touch_outputs(steps: dict[str, Step], start: float) -> None:
    """Make every input, then every output a second after the one before."""
    for step in steps.values():
        for path in step.reads():
            if path.exists():
                os.utime(path, (start, start))
    for later, step in enumerate(steps.values(), start=1):
        for path in step.outputs.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(CONTENT.get(path.name, "{}"), encoding="utf-8")
            os.utime(path, (start + later, start + later))


def all_steps(workspace: Workspace) -> dict[str, Step]:
    """Every rule of the workflow by its name there."""
    speech = speech_steps(workspace, SPEECH)
    return {**subject_steps(workspace), "speech_audio": speech["audio"], "render": speech["render"]}

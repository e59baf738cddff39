"""Machines that fail under a stage: a GPU vanishes, memory or disk is full, a process is killed for lack of memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import torch

from radnerf.head_training import HeadTrainer
from radnerf.schedule import StepReport
from stages.errors import RadnerfError
from stages.media import VideoWriter, probe, read_video
from stages.workers import end_with_parent, result_of
from tests.bad_inputs import assert_one_line, ffmpeg
from tests.cli_harness import Shell, fabricate, shell
from tests.torture.kills import NAME, small_disk
from tests.torture.trainable import make_trainable

__all__ = ["shell"]

FAILURES = [
    (RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later"),
     "the GPU failed: RuntimeError: CUDA error: unspecified launch failure"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "the GPU's memory is full ("),
    (MemoryError(), "memory is full ("),
]  # fmt: skip


WORDS = ("stage", "head", NAME, "--quiet", "--home")
_straight: list[bytes] = []


@pytest.fixture
def straight(shell: Shell, tmp_path: Path) -> bytes:
    """The head that an undisturbed training makes; trained once."""
    if not _straight:
        workspace = make_trainable(tmp_path / "straight")
        assert shell(*WORDS, str(tmp_path / "straight")).code == 0
        _straight.append(workspace.head.read_bytes())
    return _straight[0]


def test_a_machine_that_fails_is_named_and_training_goes_on_to_the_same_weights(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, straight: bytes, tmp_path: Path
) -> None:
    workspace = make_trainable(tmp_path / "failing")
    step = HeadTrainer.step
    for number, (error, said) in enumerate(FAILURES, start=1):

        def fail(self: HeadTrainer, at: int = 10 * number, error: BaseException = error) -> StepReport:
            if self.step_number == at:
                raise error
            return step(self)

        with monkeypatch.context() as patch:
            patch.setattr(HeadTrainer, "step", fail)
            assert_one_line(shell(*WORDS, str(tmp_path / "failing")), said, code=1)
        assert not workspace.head.exists()
        assert workspace.head_state.is_file()
    assert shell(*WORDS, str(tmp_path / "failing")).code == 0
    assert workspace.head.read_bytes() == straight


KILLED_STAGE = """\
import os, signal, sys
from cli import events
events.tell_start(sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""

KILLS_SNAKEMAKE = """\
import psutil
snakemake = next(process for process in psutil.Process().parents() if "snakemake" in process.cmdline())
snakemake.kill()
"""


def test_a_stage_that_was_killed_for_lack_of_memory_is_named_with_its_log(shell: Shell, tmp_path: Path) -> None:
    workspace = fabricate(shell.home, trained=False)
    shell.use_stages(tmp_path / "environment", KILLED_STAGE)
    answer = shell("train", "anchor", "--quiet")
    assert_one_line(answer, "the head stage was killed from outside (too little memory is the usual reason;", code=1)
    assert str(workspace.log("snakemake")) in answer.err


def test_a_workflow_that_was_killed_says_so(shell: Shell, tmp_path: Path) -> None:
    fabricate(shell.home, trained=False)
    shell.use_stages(tmp_path / "environment", KILLS_SNAKEMAKE)
    answer = shell("train", "anchor", "--quiet")
    assert_one_line(answer, "the workflow failed: it was killed from outside (signal 9) (the same command goes", code=1)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Eight seconds of a moving pattern."""
    path = tmp_path / "film.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x160:d=8:r=25", "-c:v", "libx264", "-preset", "ultrafast", path)
    return path


def test_an_ffmpeg_that_was_killed_is_not_the_films_fault(film: Path, tmp_path: Path) -> None:
    info = probe(film)
    size = (info.width, info.height)
    frames = read_video(info, [], size)
    first = next(frames)
    _kill_ffmpeg()
    with pytest.raises(RadnerfError, match=r"ffmpeg was killed from outside .*the same command goes on") as caught:
        list(frames)
    assert caught.value.exit_code == 1
    writer = VideoWriter(tmp_path / "out.mp4", size, 25)
    _kill_ffmpeg()
    with pytest.raises(RadnerfError, match="ffmpeg was killed from outside"):
        _write_all(writer, [first] * 100)


def _write_all(writer: VideoWriter, frames: list[npt.NDArray[np.uint8]]) -> None:
    with writer:
        for frame in frames:
            writer.write(frame)


def _kill_ffmpeg() -> None:
    (process,) = (child for child in psutil.Process().children() if "ffmpeg" in child.name())
    process.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_a_worker_that_was_killed_is_told() -> None:
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        assert result_of(pool.submit(abs, -1)) == 1
        with pytest.raises(RadnerfError, match="a process of this stage was killed from outside"):
            result_of(pool.submit(os.kill, pool.submit(os.getpid).result(), 9))


WITH_A_WORKER = """\
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from stages.workers import end_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_worker_does_not_outlive_its_stage(tmp_path: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(WITH_A_WORKER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    end = time.monotonic() + 20
    while psutil.pid_exists(int(done.stdout)) and psutil.Process(int(done.stdout)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own."""
    with small_disk(tmp_path / "disk") as mounted:
        if not mounted:
            pytest.skip("a disk of its own needs the right to mount one")
        yield tmp_path / "disk"


def test_a_training_whose_disk_fills_up_goes_on_to_the_same_weights(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, straight: bytes, disk: Path
) -> None:
    workspace = make_trainable(disk)
    step, ballast = HeadTrainer.step, disk / "ballast"

    def fill(self: HeadTrainer) -> StepReport:
        if self.step_number == 20:
            room = os.statvfs(disk)
            ballast.write_bytes(bytes(room.f_bavail * room.f_frsize))
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(HeadTrainer, "step", fill)
        answer = shell(*WORDS, str(disk))
    assert_one_line(answer, f"cannot write {workspace.head_state}: No space left on device (free some space", code=1)
    assert not workspace.head.exists()
    ballast.unlink()
    assert shell(*WORDS, str(disk)).code == 0
    assert workspace.head.read_bytes() == straight
    assert not [path for path in disk.rglob("*") if ".part" in path.name]


FILLING_STAGE = """\
import os
home = os.environ["RADNERF_HOME"]
room = os.statvfs(home)
with open(os.path.join(home, "ballast"), "wb") as ballast:
    ballast.write(bytes(room.f_bavail * room.f_frsize))
raise SystemExit(1)
"""


def test_a_workflow_that_finds_its_disk_full_says_so(shell: Shell, disk: Path, tmp_path: Path) -> None:
    fabricate(disk, trained=False)
    shell.use_stages(tmp_path / "environment", FILLING_STAGE)
    answer = shell("train", "anchor", "--quiet", "--home", str(disk))
    assert_one_line(answer, "the disk is full (free some space; the same command goes on where it stopped", code=1)

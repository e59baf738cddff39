"""The kill harness on a subject that trains in seconds; the whole pipeline is for ``make torture``."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from cli.lock import shared_lock, subject_lock
from stages.errors import RadnerfError
from tests.bad_inputs import voice, write_wav
from tests.cli_harness import WORKING_STAGE, fabricate, shim_environment
from tests.torture.faults import FAULTS
from tests.torture.kills import NAME, Stage, Torture, copy_tree
from tests.torture.trainable import make_trainable


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the machine to other tests."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


@pytest.mark.usefixtures("one_thread")
def test_a_training_killed_at_random_ends_with_the_same_weights(tmp_path: Path) -> None:
    work = Torture(tmp_path, seed=0)
    before = tmp_path / "before"
    make_trainable(before)
    copy_tree(before, tmp_path / "straight")
    command = ("train", NAME, "--quiet")
    began = time.monotonic()
    assert work.start(command, tmp_path / "straight").wait() == 0, work.said()
    stage = Stage(command, before, time.monotonic() - began)
    work.disturb("train", stage, FAULTS[:1])
    assert work.tally.well, work.tally.table()
    assert work.tally.resumed == 1
    assert work.tally.equal == 2


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_takes_its_stage_with_it(tmp_path: Path) -> None:
    work = Torture(tmp_path, seed=0)
    home = tmp_path / "home"
    workspace = make_trainable(home)
    run = work.start(("train", NAME, "--set", "head.steps=100000", "--quiet"), home)
    _wait(lambda: workspace.head_state.is_file())
    run.send_signal(signal.SIGKILL)
    run.wait()
    _wait(lambda: not _carriers(home))
    saved = workspace.head_state.stat().st_mtime_ns
    time.sleep(1.0)
    assert workspace.head_state.stat().st_mtime_ns == saved
    assert not workspace.head.exists()


def _carriers(home: Path) -> list[str]:
    done = subprocess.run(["ps", "eww", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if f"RADNERF_HOME={home}" in line]


def _wait(until: object, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not until():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_second_run_waits_when_it_is_asked_to(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with subject_lock(path, "second", waiting=lambda busy: told.append(busy.message)):
            order.append("second")

    with subject_lock(path, "radnerf train anchor"):
        waiting = threading.Thread(target=second)
        waiting.start()
        _wait(lambda: told)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert len(told) == 1
    assert told[0].startswith("'radnerf train anchor' (process ")
    assert " since 20" in told[0]


def test_speeches_share_a_subject_and_keep_others_from_changing_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    (tmp_path / "speech" / "hello").mkdir(parents=True)
    own = tmp_path / "speech" / "hello" / ".lock"
    busy = pytest.raises(RadnerfError, match=r"'radnerf speak anchor hello.wav' \(process")
    speaking = subject_lock(own, "radnerf speak anchor hello.wav")
    with shared_lock(path), shared_lock(path), speaking, busy, subject_lock(path, "radnerf train anchor"):
        pass
    busy = pytest.raises(RadnerfError, match="'radnerf train anchor'")
    with subject_lock(path, "radnerf train anchor"), busy, shared_lock(path):
        pass


SLOW_STAGE = WORKING_STAGE.replace("events.tell_start(name)", "events.tell_start(name)\nimport time\ntime.sleep(2)")


def test_two_speeches_of_a_subject_are_rendered_side_by_side(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    fabricate(home)
    python = shim_environment(tmp_path / "environment", SLOW_STAGE)
    runs = []
    for name in ("one", "two"):
        write_wav(home / f"{name}.wav", voice(0.5 if name == "one" else 0.7))
        words = ["speak", "anchor", f"{name}.wav", "-o", f"{name}.mp4", "--quiet", "--home", str(home)]
        runs.append(
            subprocess.Popen([python, "-P", "-m", "cli.app", *words], cwd=home, stderr=subprocess.PIPE, text=True)
        )
    _wait(lambda: sum(path.stat().st_size > 0 for path in home.rglob("speech/*/.lock")) == 2)
    refused = subprocess.run(
        [python, "-P", "-m", "cli.app", "train", "anchor", "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "has been working on this subject since 20" in refused.stderr
    for name, run in zip(("one", "two"), runs, strict=True):
        said = run.communicate()[1]
        assert run.returncode == 0, said
        assert (home / f"{name}.mp4").is_file()

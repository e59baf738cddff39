"""Kill the demo pipeline at random points, run the same commands again, and compare with an undisturbed run.

By hand: ``python -m tests.torture.kills --kills 30``; ``make torture`` does that and more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from stages.checkpoint import load_checkpoint
from stages.formats import TEMPORARY
from stages.media import probe, read_video
from stages.workspace import Workspace

NAME = "demo"

TINY = (
    "frames.size_px=128", "head.size_px=64", "head.steps=60", "head.lips_steps=6", "head.rays=256", "head.levels=4",
    "head.features_per_level=2", "head.log2_entries=10", "head.max_resolution=64", "head.audio_max_resolution=16",
    "head.mouth_lesson_steps=10", "head.occupancy_resolution=16", "head.hidden_width=16", "head.audio_code=16",
    "head.lips_lpips_weight=0", "head.checkpoint_every_s=0.3", "torso.size_px=64", "torso.steps=60",
    "torso.pixels=512", "torso.levels=4", "torso.log2_entries=10", "torso.max_resolution=64",
    "torso.checkpoint_every_s=0.3", "render.size_px=64",
)  # fmt: skip
"""A draft of a draft: every stage does its work, none for long."""


@dataclass(frozen=True)
class Fault:
    """A way to be killed.

    Attributes:
        name: For the table.
        strike: Does it to a run; says whether there was anything to strike.
    """

    name: str
    strike: Callable[[subprocess.Popen[bytes]], bool]


def _own(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(run.pid).children(recursive=True)
    except psutil.Error:
        return []


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _kill_first(run: subprocess.Popen[bytes], wanted: Callable[[list[str]], bool], number: int) -> bool:
    for process in _own(run):
        if wanted(_words(process)):
            try:
                process.send_signal(number)
            except psutil.Error:
                continue
            return True
    return False


def _is_stage(words: list[str]) -> bool:
    return "stage" in words and any(word.endswith(("radnerf", "cli.app")) for word in words)


def _is_snakemake(words: list[str]) -> bool:
    return "snakemake" in words and "-m" in words


def _signal(number: int) -> Callable[[subprocess.Popen[bytes]], bool]:
    def strike(run: subprocess.Popen[bytes]) -> bool:
        run.send_signal(number)
        return True

    return strike


def _signal_group(number: int) -> Callable[[subprocess.Popen[bytes]], bool]:
    """As a terminal does: to radnerf and whoever is in its group."""

    def strike(run: subprocess.Popen[bytes]) -> bool:
        os.killpg(run.pid, number)
        return True

    return strike


def _kill_all(run: subprocess.Popen[bytes]) -> bool:
    """As a power cut does: everything at once."""
    for process in [*_own(run), psutil.Process(run.pid)]:
        try:
            process.kill()
        except psutil.Error:
            continue
    return True


FAULTS = (
    Fault("kill -9 of a stage", lambda run: _kill_first(run, _is_stage, signal.SIGKILL)),
    Fault("kill -9 of Snakemake", lambda run: _kill_first(run, _is_snakemake, signal.SIGKILL)),
    Fault("kill -9 of radnerf", _signal(signal.SIGKILL)),
    Fault("kill -9 of everything", _kill_all),
    Fault("Ctrl-C", _signal_group(signal.SIGINT)),
    Fault("closed terminal", _signal_group(signal.SIGHUP)),
    Fault("kill", _signal(signal.SIGTERM)),
)


@dataclass
class Tally:
    """What happened, for the table.

    Attributes:
        injected: Faults by name.
        missed: Runs that had ended before their fault.
        resumed: Runs that went on to the end afterwards.
        equal: Results that were equal to the undisturbed run's, by what was compared.
        unequal: Those that were not.
        problems: Everything else that should not be.
        left_over: Files that nobody needs any more.
    """

    injected: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    resumed: int = 0
    equal: int = 0
    unequal: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    def table(self) -> str:
        """What happened, a line each."""
        rows = [(f"  {name}", str(count)) for name, count in sorted(self.injected.items())]
        total = sum(self.injected.values())
        head = [("faults injected", str(total))]
        tail = [
            ("runs that ended before their fault", str(self.missed)),
            ("runs resumed to the end", str(self.resumed)),
            ("results equal, of compared", f"{self.equal}, {self.equal + len(self.unequal)}"),
            ("files left over", str(len(self.left_over))),
            ("other problems", str(len(self.problems))),
        ]
        lines = [f"{name:40}{value}" for name, value in [*head, *rows, *tail]]
        return "\n".join([*lines, *self.unequal, *self.problems, *self.left_over])

    @property
    def well(self) -> bool:
        """Whether everything was as promised."""
        return not (self.unequal or self.problems or self.left_over)


@dataclass(frozen=True)
class Stage:
    """A part of the pipeline: one command, and what must be there before it.

    Attributes:
        command: What is typed.
        before: A home to start from.
        seconds: What an undisturbed run took.
    """

    command: tuple[str, ...]
    before: Path
    seconds: float


class Torture:
    """One clip, one speech, the undisturbed run, and then the disturbed ones."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Work in an empty folder."""
        self.folder, self.random, self.tally = folder, random.Random(seed), Tally()
        self.video, self.speech = folder / "demo.mp4", folder / "speech.wav"
        self.out = folder / "out.mp4"

    def make_sources(self, seconds: float = 3.4) -> None:
        """Draw the demo subject and a short speech."""
        from stages.demo.make import DemoSettings, make_demo_speech, make_demo_video

        if not self.video.is_file():
            make_demo_video(self.video, self.video.with_suffix(".npz"), DemoSettings(duration_s=seconds, size=160))
        if not self.speech.is_file():
            whole = self.speech.with_name("whole.wav")
            make_demo_speech(whole)
            import wave

            with wave.open(str(whole)) as read, wave.open(str(self.speech), "wb") as write:
                write.setparams(read.getparams())
                write.writeframes(read.readframes(2 * read.getframerate()))

    def commands(self) -> dict[str, tuple[str, ...]]:
        """What a user types, in order."""
        changes = [word for text in TINY for word in ("--set", text)]
        return {
            "prepare": ("prepare", str(self.video), "--name", NAME, "--preset", "draft", *changes, "--quiet"),
            "train": ("train", NAME, "--quiet"),
            "speak": ("speak", NAME, str(self.speech), "-o", str(self.out), "--quiet"),
        }

    def start(self, command: Sequence[str], home: Path) -> subprocess.Popen[bytes]:
        """Type a command; its words go to ``said.txt``."""
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        environment = {**os.environ, "RADNERF_HOME": str(home), "TMPDIR": str(scratch)}
        with (self.folder / "said.txt").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "cli.app", *command],
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self.folder,
            )

    def said(self) -> str:
        """What the last command said at the end."""
        lines = (self.folder / "said.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else "(nothing)"

    def undisturbed(self) -> dict[str, Stage]:
        """Run everything once and keep the home before each command."""
        found: dict[str, Stage] = {}
        home = self.folder / "straight"
        home.mkdir()
        for name, command in self.commands().items():
            before = self.folder / f"before-{name}"
            copy_tree(home, before)
            began = time.monotonic()
            code = self.start(command, home).wait()
            if code != 0:
                raise SystemExit(f"the undisturbed {name} ended with {code}: {self.said()}")
            found[name] = Stage(command, before, time.monotonic() - began)
            print(f"undisturbed {name}: {found[name].seconds:.1f} s", flush=True)
        shutil.copyfile(self.out, self.folder / "straight.mp4")
        return found

    def disturb(self, name: str, stage: Stage, kills: int, faults: Sequence[Fault] = FAULTS) -> None:
        """Run one command, killed a few times, until it is done; compare with the undisturbed run."""
        home = self.folder / "disturbed"
        shutil.rmtree(home, ignore_errors=True)
        copy_tree(stage.before, home)
        self.out.unlink(missing_ok=True)
        for _ in range(kills):
            fault = self.random.choice(faults)
            self._kill_once(name, stage, home, fault)
            self._check_finals(home, f"{name} after {fault.name}")
        run = self.start(stage.command, home)
        try:
            code = run.wait(timeout=max(300.0, 10 * stage.seconds))
        except subprocess.TimeoutExpired:
            _kill_all(run)
            code = -1
        if code != 0:
            self.tally.problems.append(f"{name} did not go on: {self.said()}")
            return
        self.tally.resumed += 1
        self._check_nothing_left(home, name)
        self._compare(name, home)

    def _kill_once(self, name: str, stage: Stage, home: Path, fault: Fault) -> None:
        run = self.start(stage.command, home)
        wait_s = self.random.uniform(0.5, max(1.0, 0.95 * stage.seconds))
        end = time.monotonic() + wait_s
        while time.monotonic() < end and run.poll() is None:
            time.sleep(0.02)
        # A stage that is between two jobs is struck when the next one begins.
        while run.poll() is None and not fault.strike(run):
            time.sleep(0.02)
        if run.poll() is not None and time.monotonic() < end:
            self.tally.missed += 1
            return
        self.tally.injected[fault.name] = self.tally.injected.get(fault.name, 0) + 1
        print(f"{name}: {fault.name} after {wait_s:.1f} s", flush=True)
        try:
            run.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.tally.problems.append(f"{name} did not end after {fault.name}")
            _kill_all(run)

    def _check_finals(self, home: Path, when: str) -> None:
        """Whatever stands under a final name is whole; a stage that is left running by a kill -9 has not begun it."""
        ws = Workspace(home / "subjects" / NAME)
        for path, kind in ((ws.head, "head"), (ws.torso, "torso"), (ws.head_state, "head-state")):
            if path.is_file():
                try:
                    load_checkpoint(path, kind)
                except Exception as error:
                    self.tally.problems.append(f"{when}: {path.name}: {error}")
        for path in ws.root.rglob("*.json"):
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                if path.exists():
                    self.tally.problems.append(f"{when}: {path}: {error}")

    def _check_nothing_left(self, home: Path, name: str) -> None:
        books = home / "subjects" / ".workflow"
        marks = [path for path in home.rglob("*") if TEMPORARY.fullmatch(path.name)]
        marks += list(home.rglob(".rendering-*"))
        marks += list(books.rglob("events-*")) + list(books.glob("new-*"))
        marks += list(books.rglob("locks/*"))
        marks += [path for path in home.rglob(".lock") if path.stat().st_size]
        marks += list(self.folder.glob(".*.part*"))
        self.tally.left_over += [f"left over after {name}: {path.relative_to(self.folder)}" for path in marks]
        carriers = [process for process in psutil.process_iter() if _carries(process, home)]
        self.tally.problems += [f"still running after {name}: {_words(process)}" for process in carriers]

    def _compare(self, name: str, home: Path) -> None:
        for what, same in _differences(home, self.folder / "straight", name):
            self._count(f"{name}: {what}", same)
        if name == "speak":
            self._count("speak: video frames", _same_pictures(self.out, self.folder / "straight.mp4"))

    def _count(self, what: str, same: bool) -> None:
        if same:
            self.tally.equal += 1
        else:
            self.tally.unequal.append(f"not equal: {what}")


def copy_tree(source: Path, target: Path) -> None:
    """Copy a home with its times, since they say what is up to date."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy2)


def _carries(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("RADNERF_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _differences(home: Path, straight: Path, name: str) -> list[tuple[str, bool]]:
    """Whether what a command made is what the undisturbed one made, bit for bit."""
    here, there = Workspace(home / "subjects" / NAME), Workspace(straight / "subjects" / NAME)
    if name == "prepare":
        names = ("frames", "audio", "landmarks", "parsing", "layers", "background", "track", "features")
        return [(what, getattr(here, what).read_bytes() == getattr(there, what).read_bytes()) for what in names]
    if name == "train":
        return [(what, _same_tensors(getattr(here, what), getattr(there, what), what)) for what in ("head", "torso")]
    return []


def _same_tensors(one: Path, other: Path, kind: str) -> bool:
    import torch

    first, second = load_checkpoint(one, kind)[1], load_checkpoint(other, kind)[1]
    same_bits = all(
        torch.equal(torch.nan_to_num(first[name]), torch.nan_to_num(second[name])) for name in first if name in second
    )
    return first.keys() == second.keys() and same_bits


def _same_pictures(one: Path, other: Path) -> bool:
    first, second = probe(one), probe(other)
    size = (first.width, first.height)
    if size != (second.width, second.height):
        return False
    frames = [list(read_video(info, [], size)) for info in (first, second)]
    return len(frames[0]) == len(frames[1]) and all(
        bool((a == b).all()) for a, b in zip(frames[0], frames[1], strict=True)
    )


def torture(folder: Path, kills: int, seed: int) -> Tally:
    """Inject so many faults, a third of them into each command, two or three into each run of one."""
    work = Torture(folder, seed)
    work.make_sources()
    stages = work.undisturbed()
    share = {"prepare": 0.34, "train": 0.4, "speak": 0.26}
    for name, stage in stages.items():
        left = max(1, round(kills * share[name]))
        while left > 0:
            now = min(left, work.random.choice((2, 3)))
            work.disturb(name, stage, now)
            left -= now
    return work.tally


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    tally = torture(asked.folder.resolve(), asked.kills, asked.seed)
    print(tally.table())
    return 0 if tally.well else 1


if __name__ == "__main__":
    sys.exit(main())

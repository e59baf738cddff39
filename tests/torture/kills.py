"""Disturb the demo pipeline at random points, run the same commands again, and compare with an undisturbed run.

By hand: ``python -m tests.torture.kills --kills 30 --folder DIR``; ``make torture`` does that and more.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from stages.atomic_files import TEMPORARY
from stages.checkpoint import load_checkpoint
from stages.media import probe, read_video
from stages.workspace import Workspace
from tests.torture.faults import FAULTS, Fault, kill_all, words_of

NAME = "demo"

TINY = (
    "frames.size_px=128", "head.size_px=64", "head.steps=30", "head.lips_steps=4", "head.rays=256", "head.levels=4",
    "head.features_per_level=2", "head.log2_entries=10", "head.max_resolution=64", "head.audio_max_resolution=16",
    "head.mouth_lesson_steps=6", "head.occupancy_resolution=16", "head.hidden_width=16", "head.audio_code=16",
    "head.lips_lpips_weight=0", "head.checkpoint_every_s=0.3", "torso.size_px=64", "torso.steps=30",
    "torso.pixels=512", "torso.levels=4", "torso.log2_entries=10", "torso.max_resolution=64",
    "torso.checkpoint_every_s=0.3", "render.size_px=64",
)  # fmt: skip
"""A draft of a draft: every stage does its work, none for long."""

DISK_MB = 256
"""Size of the disk that is filled up."""


@dataclass
class Tally:
    """What happened, for the table.

    Attributes:
        injected: Faults by name.
        into: Faults by command.
        missed: Runs that had ended before their fault.
        resumed: Runs that went on to the end afterwards.
        equal: Results that were equal to the undisturbed run's, by what was compared.
        unequal: Those that were not.
        problems: Everything else that should not be.
        left_over: Files that nobody needs any more.
    """

    injected: dict[str, int] = field(default_factory=dict)
    into: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    resumed: int = 0
    equal: int = 0
    unequal: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Faults in all."""
        return sum(self.injected.values())

    def count(self, command: str, fault: str) -> None:
        """One more fault."""
        self.injected[fault] = self.injected.get(fault, 0) + 1
        self.into[command] = self.into.get(command, 0) + 1

    def table(self) -> str:
        """What happened, a line each."""
        rows = [(f"  {name}", str(count)) for name, count in sorted(self.injected.items())]
        rows += [(f"  into {name}", str(count)) for name, count in self.into.items()]
        tail = [
            ("runs that ended before their fault", str(self.missed)),
            ("runs resumed to the end", str(self.resumed)),
            ("results equal, of compared", f"{self.equal}, {self.equal + len(self.unequal)}"),
            ("files left over", str(len(self.left_over))),
            ("other problems", str(len(self.problems))),
        ]
        lines = [f"{name:40}{value}" for name, value in [("faults injected", str(self.total)), *rows, *tail]]
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


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Let a folder be a small disk of its own for the length of the block, where that is permitted.

    Yields:
        Whether it is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    mounted = (
        shutil.which("mount") is not None and not subprocess.run(command, capture_output=True, check=False).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


class Torture:
    """One clip, one speech, the undisturbed run, and then the disturbed ones."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Work in an empty folder."""
        self.folder, self.random, self.tally = folder, random.Random(seed), Tally()
        self.video, self.speech = folder / "demo.mp4", folder / "speech.wav"
        self.out, self.home = folder / "out.mp4", folder / "disturbed"
        # Under nohup a closed terminal is ignored, by whoever is started from here too.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def make_sources(self, seconds: float = 3.2) -> None:
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
                write.writeframes(read.readframes(read.getframerate()))

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

    def fill_disk(self, _: subprocess.Popen[bytes]) -> bool:
        """Leave no room on the home's disk."""
        with (self.home / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
        return True

    def disturb(self, name: str, stage: Stage, faults: Sequence[Fault]) -> None:
        """Run one command, disturbed by one fault after the other, then to its end; compare the results."""
        copy_tree(stage.before, self.home)
        self.out.unlink(missing_ok=True)
        for fault in faults:
            self._strike_once(name, stage, fault, 0.95 / len(faults))
            self._check_finals(f"{name} after {fault.name}")
        run = self.start(stage.command, self.home)
        try:
            code = run.wait(timeout=max(900.0, 10 * stage.seconds))
        except subprocess.TimeoutExpired:
            kill_all(run)
            code = -1
        if code != 0:
            self.tally.problems.append(f"{name} did not go on: {self.said()}")
            return
        self.tally.resumed += 1
        self._check_nothing_left(name)
        self._compare(name)

    def _strike_once(self, name: str, stage: Stage, fault: Fault, share: float) -> None:
        """Strike somewhere in the share of the command's time that is this fault's; what was done stays done."""
        run = self.start(stage.command, self.home)
        wait_s = self.random.uniform(0.5, max(1.0, share * stage.seconds))
        end = time.monotonic() + wait_s
        while time.monotonic() < end and run.poll() is None:
            time.sleep(0.02)
        # A stage that is between two jobs is struck when the next one begins.
        struck = False
        while run.poll() is None and not (struck := fault.strike(run)):
            time.sleep(0.02)
        if not struck:
            self.tally.missed += 1
            return
        self.tally.count(name, fault.name)
        try:
            code = run.wait(timeout=600)
        except subprocess.TimeoutExpired:
            self.tally.problems.append(f"{name} did not end after {fault.name}")
            kill_all(run)
            return
        finally:
            (self.home / "ballast").unlink(missing_ok=True)
        print(f"{self.tally.total:3} {name}: {fault.name} after {wait_s:.1f} s: {code}, {self.said()}", flush=True)
        if code not in (0, *fault.codes):
            self.tally.problems.append(f"{name} ended with {code} after {fault.name}: {self.said()}")

    def _check_finals(self, when: str) -> None:
        """Whatever stands under a final name is whole; a stage that is left running by a kill -9 has not begun it."""
        ws = Workspace(self.home / "subjects" / NAME)
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

    def _check_nothing_left(self, name: str) -> None:
        books = self.home / "subjects" / ".workflow"
        marks = [path for path in self.home.rglob("*") if TEMPORARY.fullmatch(path.name)]
        marks += list(self.home.rglob(".rendering-*"))
        marks += list(books.rglob("events-*")) + list(books.glob("new-*"))
        marks += list(books.rglob("locks/*"))
        marks += [path for path in self.home.rglob(".lock") if path.stat().st_size]
        marks += list(self.folder.glob(".*.part*"))
        # PyTorch makes its own as soon as it is imported, and everybody shares it.
        marks += [path for path in (self.folder / "tmp").iterdir() if not path.name.startswith("torchinductor_")]
        self.tally.left_over += [f"left over after {name}: {path.relative_to(self.folder)}" for path in marks]
        carriers = [process for process in psutil.process_iter() if _carries(process, self.home)]
        self.tally.problems += [f"still running after {name}: {words_of(process)}" for process in carriers]

    def _compare(self, name: str) -> None:
        for what, same in _differences(self.home, self.folder / "straight", name):
            self._count(f"{name}: {what}", same)
        if name == "speak":
            self._count("speak: video frames", _same_pictures(self.out, self.folder / "straight.mp4"))

    def _count(self, what: str, same: bool) -> None:
        if same:
            self.tally.equal += 1
        else:
            self.tally.unequal.append(f"not equal: {what}")


def copy_tree(source: Path, target: Path) -> None:
    """Copy a home with its times, since they say what is up to date; the target stays, it may be a disk."""
    for path in target.iterdir() if target.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy2, dirs_exist_ok=True)


def _carries(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("RADNERF_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _differences(home: Path, straight: Path, name: str) -> list[tuple[str, bool]]:
    """Whether what a command made is what the undisturbed one made, byte for byte."""
    here, there = Workspace(home / "subjects" / NAME), Workspace(straight / "subjects" / NAME)
    names = {
        "prepare": ("frames", "audio", "landmarks", "parsing", "layers", "background", "track", "features"),
        "train": ("head", "torso"),
    }
    return [
        (what, getattr(here, what).read_bytes() == getattr(there, what).read_bytes()) for what in names.get(name, ())
    ]


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
    """Inject so many faults, a third of them into each command, three or four into each run of one."""
    work = Torture(folder, seed)
    work.make_sources()
    return disturb_all(work, work.undisturbed(), kills)


def disturb_all(work: Torture, stages: dict[str, Stage], kills: int) -> Tally:
    """Disturb each command in turn, until there were enough faults; prints how it goes."""
    share = {"prepare": 0.34, "train": 0.4, "speak": 0.26}
    left = {name: max(1, round(kills * share[name])) for name in stages}
    waiting: dict[str, list[Fault]] = {name: [] for name in stages}
    with small_disk(work.home) as fillable:
        every = (*FAULTS, Fault("full disk", work.fill_disk, (1, 2))) if fillable else FAULTS
        # A run may end before its fault; so there are more rounds than would do, but not for ever.
        for _ in range(kills):
            for name in [name for name, wanted in left.items() if wanted > 0]:
                before = work.tally.total
                faults = _next(work, every, waiting[name], name, min(left[name], work.random.choice((3, 4))))
                work.disturb(name, stages[name], faults)
                left[name] -= work.tally.total - before
                print(work.tally.table(), flush=True)
    return work.tally


def _next(work: Torture, every: Sequence[Fault], waiting: list[Fault], command: str, count: int) -> list[Fault]:
    """So many faults of a command: each kind comes once, in any order, before one comes again."""
    while len(waiting) < count:
        kinds = [fault for fault in every if command in fault.commands]
        waiting += work.random.sample(kinds, len(kinds))
    taken, waiting[:] = waiting[:count], waiting[count:]
    return taken


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
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

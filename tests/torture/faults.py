"""Ways in which a run is disturbed: killed in part or whole, interrupted, left by its terminal."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Fault:
    """A way to be disturbed.

    Attributes:
        name: For the table.
        strike: Does it to a run; says whether there was anything to strike.
        codes: What the run may end with; 0 always may, where it needed no more of what it lost.
        commands: Those that it is tried on.
    """

    name: str
    strike: Callable[[subprocess.Popen[bytes]], bool]
    codes: tuple[int, ...]
    commands: tuple[str, ...] = ("prepare", "train", "speak")


def _own(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(run.pid).children(recursive=True)
    except psutil.Error:
        return []


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty when it is gone."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _kill_first(wanted: Callable[[list[str]], bool]) -> Callable[[subprocess.Popen[bytes]], bool]:
    def strike(run: subprocess.Popen[bytes]) -> bool:
        for process in _own(run):
            if wanted(words_of(process)):
                try:
                    process.kill()
                except psutil.Error:
                    continue
                return True
        return False

    return strike


def _is_stage(words: list[str]) -> bool:
    return "stage" in words and any(word.endswith(("radnerf", "cli.app")) for word in words)


def _is_snakemake(words: list[str]) -> bool:
    return "snakemake" in words and "-m" in words


def _is_encoder(words: list[str]) -> bool:
    return "ffmpeg" in Path(words[0]).name and any("pipe:0" in word for word in words) if words else False


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


def kill_all(run: subprocess.Popen[bytes]) -> bool:
    """As a power cut does: everything at once."""
    for process in [*_own(run), psutil.Process(run.pid)]:
        try:
            process.kill()
        except psutil.Error:
            continue
    return True


# Asked to end, a run says so with 130; before Python has begun, the signal itself ends it.
FAULTS = (
    Fault("kill -9 of a stage", _kill_first(_is_stage), (1,)),
    Fault("kill -9 of Snakemake", _kill_first(_is_snakemake), (1,)),
    Fault("kill -9 of radnerf", _signal(signal.SIGKILL), (-signal.SIGKILL,)),
    Fault("kill -9 of everything", kill_all, (-signal.SIGKILL,)),
    Fault("kill -9 of the encoder", _kill_first(_is_encoder), (1,), ("speak",)),
    Fault("Ctrl-C", _signal_group(signal.SIGINT), (130, -signal.SIGINT)),
    Fault("closed terminal", _signal_group(signal.SIGHUP), (130, -signal.SIGHUP)),
    Fault("kill", _signal(signal.SIGTERM), (130, -signal.SIGTERM)),
)

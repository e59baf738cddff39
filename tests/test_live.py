"""Live speech: in step with its sound for hours, never short of sound, late by a bounded while."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import radnerf
from cli import app
from stages.errors import RadnerfError
from stages.live import LiveWish, run
from stages.live_clock import MOST_BEHIND, Delays, FrameClock
from stages.live_hearing import DELAY_SAMPLES, FRAME_SAMPLES
from stages.live_sound import AHEAD_S, GAP_S, SoundQueue
from stages.media import decode_audio, probe, read_video
from stages.provenance import read_provenance
from stages.window.broadcast import MOST_SOUND_BYTES, PICTURE, SOUND, WORDS, Listener
from stages.window.server import Door
from stages.workspace import Workspace
from tests.cli_harness import Shell, shell
from tests.live_subject import make_live_subject, pcm, speak_live, speech_like

__all__ = ["shell"]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A tiny subject."""
    return make_live_subject(tmp_path_factory.mktemp("home"))


HOUR = 3600 * 16_000


@settings(max_examples=10, deadline=None)
@given(st.integers(300, 4000), st.floats(0.001, 0.2), st.integers(0, 2**31))
def test_an_hour_of_sound_has_an_hour_of_frames_in_order_whatever_the_pace(
    piece: int, draws_s: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    clock = FrameClock(drops=True)
    samples, now, drawn, skipped, last, late = 0, 0.0, 0, 0, -1, 0
    # Pieces of every size, and stalls now and then; no drawing, only its time passes.
    while samples < HOUR:
        size = int(random.integers(1, 40) * piece + (random.random() < 0.01) * 50_000)
        size = min(size, HOUR - samples)
        samples += size
        now = max(now, samples / 16_000)
        clock.hear(size, now)
        ready = max((samples - DELAY_SAMPLES) // FRAME_SAMPLES + 1, 0)
        due = clock.due(ready)
        if due is not None:
            assert due.frame == last + 1 + due.skipped
            assert due.frame * FRAME_SAMPLES <= samples
            last, drawn, skipped = due.frame, drawn + 1, skipped + due.skipped
            late = max(late, ready - 1 - due.frame)
            now += draws_s
    while (due := clock.due(HOUR // FRAME_SAMPLES)) is not None:
        last, drawn, skipped = due.frame, drawn + 1, skipped + due.skipped
    assert clock.samples == HOUR
    assert drawn + skipped == last + 1 == 90_000, "not one frame too many or too few after an hour"
    assert late < MOST_BEHIND, "a picture is never drawn long after it is due"


def test_nothing_is_left_out_where_nothing_may_be() -> None:
    clock = FrameClock(drops=False)
    clock.hear(HOUR, 0.0)
    frames = []
    while (due := clock.due(1000)) is not None:
        frames.append((due.frame, due.skipped))
    assert frames == [(frame, 0) for frame in range(1000)]


def test_delays_are_counted_from_a_frames_first_sample() -> None:
    clock = FrameClock(drops=True)
    for index in range(10):
        clock.hear(640, 0.04 * (index + 1))
    assert clock.arrived_s(0) == pytest.approx(0.04)
    assert clock.arrived_s(7) == pytest.approx(0.32)
    delays = Delays()
    assert delays.quantile_ms(0.5) == 0
    for milliseconds in range(1, 101):
        delays.add(milliseconds / 1000)
    delays.add(1e9)
    assert delays.quantile_ms(0.5) == pytest.approx(51, abs=1)
    assert delays.quantile_ms(0.95) == pytest.approx(96, abs=1)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_sound_that_comes_too_early_waits_and_none_is_lost() -> None:
    clock = Clock()
    queue = SoundQueue(clock, live=True)
    sent = np.random.default_rng(0).integers(-30_000, 30_000, 80_001).astype("<i2").tobytes()
    for at in range(0, len(sent), 999):
        queue.put(sent[at : at + 999])
    queue.end()
    got: list[bytes] = []
    while (piece := queue.take(0.0)) is not None:
        got.append(piece.samples.astype("<i2").tobytes())
        assert sum(map(len, got)) / 2 <= (clock.now * 1.01 + AHEAD_S) * 16_000 + 1
        assert piece.came_s <= clock.now
        clock.now += 0.04
    assert b"".join(got) == sent
    assert clock.now == pytest.approx(80_001 / 16_000 - AHEAD_S, abs=0.15)


def test_a_live_sources_absence_is_silence_and_time_goes_on() -> None:
    clock = Clock()
    queue = SoundQueue(clock, live=True)
    samples = 0
    for _ in range(1000):
        clock.now += 0.02
        piece = queue.take(0.0)
        assert piece is not None
        assert not piece.samples.any()
        samples += len(piece.samples)
        assert samples <= clock.now * 16_000
        assert samples >= (clock.now - GAP_S - 0.03) * 16_000
    queue.put(pcm(np.full(160, 0.5, np.float32)))
    piece = queue.take(0.0)
    assert piece is not None
    assert len(piece.samples) == 160
    assert piece.samples.min() > 16_000


def test_a_sound_card_that_runs_fast_makes_no_delay_that_grows() -> None:
    clock = Clock()
    queue = SoundQueue(clock, live=True)
    sent = got = 0
    # A thousandth too fast, ten minutes long, in pieces of a tenth of a second.
    for index in range(6000):
        clock.now = 0.1 * index / 1.001
        queue.put(bytes(3200))
        sent += 1600
        piece = queue.take(0.0)
        assert piece is not None
        got += len(piece.samples)
    assert sent - got < 0.2 * 16_000


def test_a_source_that_fails_says_so_after_all_its_sound() -> None:
    queue = SoundQueue(Clock(), live=False)
    queue.put(bytes(100))
    queue.end(RadnerfError("the microphone is gone"))
    piece = queue.take(0.0)
    assert piece is not None
    assert len(piece.samples) == 50
    with pytest.raises(RadnerfError, match="gone"):
        queue.take(0.0)


def test_a_piped_speech_becomes_a_signed_file_in_step(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    make_live_subject(shell.home)
    samples = np.zeros(31_000, np.float32)
    samples[8_000:8_400] = 0.8 * np.sin(np.arange(400))
    code, out, err = speak_live(shell, monkeypatch, pcm(samples), "-o", "talk.mp4", "--no-drop", "--json", "--quiet")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["frames"], found["dropped"], found["seconds"]) == (49, 0, 1.94)
    assert found["latency_ms"]["algorithmic"] == 290
    assert set(found["latency_ms"]) == {"median", "p95", "algorithmic"}
    video = shell.home / "talk.mp4"
    info = probe(video)
    assert (info.width, info.height, info.fps, info.sample_rate_hz) == (48, 48, 25, 48_000)
    assert len(list(read_video(info, [], (48, 48)))) == 49
    sound = decode_audio(video, 16_000)
    loud = np.flatnonzero(np.abs(sound) > 0.3)
    assert loud[0] == pytest.approx(8_000, abs=100)
    assert len(sound) >= 31_000
    signed = read_provenance(video)
    assert signed is not None
    assert (signed.intact, signed.subject, signed.synthetic) == (True, "anna", True)
    assert list(shell.home.glob(".rendering-*")) == []


def test_late_pictures_are_left_out_and_sound_is_whole(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    make_live_subject(shell.home)
    from stages.window.puppet import Puppet

    draw = Puppet.draw

    def slowly(self: Puppet, *values: object) -> object:
        threading.Event().wait(0.15)
        return draw(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(Puppet, "draw", slowly)
    samples = 0.5 * np.sin(np.arange(24_000) * 0.05).astype(np.float32)
    code, out, _ = speak_live(shell, monkeypatch, pcm(samples), "-o", "late.mkv", "--json", "--background", "red")
    assert code == 0
    found = json.loads(out)
    assert found["dropped"] > 5
    video = shell.home / "late.mkv"
    pictures = list(read_video(probe(video), [], (48, 48)))
    assert abs(len(pictures) - found["frames"]) <= 1
    assert found["frames"] == -(-round(found["seconds"] * 16_000) // 640)
    sound = decode_audio(video, 16_000)
    active = np.abs(sound) > 0.05
    assert active.sum() >= 0.85 * len(samples)
    assert np.diff(np.flatnonzero(active)).max() < 200, "no hole in the sound"
    assert pictures[0][2, 2, 0] > 150


def test_an_input_without_any_sound_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    make_live_subject(shell.home)
    code, _, err = speak_live(shell, monkeypatch, b"", "-o", "none.mp4", "--no-drop")
    assert code == app.USAGE
    assert "without any sound" in err
    assert not (shell.home / "none.mp4").exists()


def test_live_words_that_cannot_be_are_refused(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    make_live_subject(shell.home)
    for words, complaint in (
        (("--input", "tape"), "--input is 'tape'"),
        (("--input", "ws", "--output", "x.avi"), "x.avi"),
        (("--input", "ws", "--background", "nocolour"), "nocolour"),
        (("--input", "ws", "--view", "99,0"), "--view"),
    ):
        answer = shell("live", "anna", *words)
        assert answer.code == app.USAGE
        assert complaint in answer.err
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(), isatty=lambda: True))
    assert shell("live", "anna", "--input", "-").code == app.USAGE


def test_pages_get_the_newest_picture_and_all_sound() -> None:
    import asyncio

    async def watch() -> list[bytes]:
        listener = Listener(asyncio.get_running_loop())
        for index in range(5):
            listener.offer(PICTURE, b"p%d" % index)
            listener.offer(SOUND, b"s%d" % index)
        found = [await listener.take() for _ in range(6)]
        listener.offer(SOUND, bytes(MOST_SOUND_BYTES + 1))
        await asyncio.sleep(0)
        assert listener.gone
        return found

    assert asyncio.run(watch()) == [b"s0", b"s1", b"s2", b"s3", b"s4", b"p4"]


def test_speech_by_socket_comes_out_as_picture_and_sound(subject: Workspace) -> None:
    wish = LiveWish(
        source="ws", target=None, size_px=48, background="clip", picture=None, view_deg=(0.0, 0.0), drops=True,
        seconds=3.0, port=0, consent="",
    )  # fmt: skip
    doors: queue.Queue[Door] = queue.Queue()
    figures: list[dict[str, Any]] = []
    portrait = radnerf.load(subject.root, backend="reference", device="cpu")
    speaking = threading.Thread(
        target=lambda: figures.append(run(portrait, wish, opened=doors.put, report=lambda _: None)), daemon=True
    )
    speaking.start()
    address = doors.get(timeout=60).address.replace("http", "ws")
    sent = np.random.default_rng(0).integers(-20_000, 20_000, 8_000).astype("<i2").tobytes()
    frames: list[int] = []
    sound, kinds = b"", set()
    with connect(f"{address}watch") as page, connect(f"{address}speak") as voice:
        # Nobody has spoken yet, and the portrait moves already.
        while len(frames) < 3:
            message = page.recv(timeout=60)
            assert isinstance(message, bytes)
            if message[0] == PICTURE:
                frames.append(int.from_bytes(message[1:9], "big"))
        for at in range(0, len(sent), 1001):
            voice.send(sent[at : at + 1001])
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = page.recv(timeout=60)
                assert isinstance(message, bytes)
                kinds.add(message[0])
                if message[0] == SOUND:
                    sound += message[9:]
                elif message[0] == PICTURE:
                    frames.append(int.from_bytes(message[1:9], "big"))
                    assert message[9:11] == b"\xff\xd8"
    speaking.join(60)
    assert sent in sound, "all that was said comes out, without a hole"
    assert frames == sorted(set(frames))
    assert kinds == {PICTURE, SOUND, WORDS}
    assert figures[0]["seconds"] >= 3.0
    # Seconds are told to the hundredth.
    assert -0.2 < figures[0]["frames"] - 25 * figures[0]["seconds"] < 1.2


def test_a_live_recording_that_is_interrupted_is_finished(tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys
    import time

    make_live_subject(tmp_path)
    (tmp_path / "data").mkdir()
    out = tmp_path / "talk.mp4"
    words = [
        "live",
        "anna",
        "--home",
        str(tmp_path),
        "--input",
        "-",
        "-o",
        str(out),
        "--backend",
        "reference",
        "--json",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.app", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(pcm(speech_like(1.0)))
    process.stdin.flush()
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".rendering-*/*")) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.5)
    os.kill(process.pid, signal.SIGINT)
    told, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"what was spoken until then is finished" in said
    figures = json.loads(told)
    info = probe(out)
    assert info.has_video
    assert abs(len(list(read_video(info, [], (48, 48)))) - figures["frames"]) <= 1
    assert list(tmp_path.glob(".rendering-*")) == []


def test_a_named_pipe_is_written_as_it_comes(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_live_subject(shell.home)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    code, _, err = speak_live(shell, monkeypatch, pcm(speech_like(0.6)), "-o", str(pipe), "--no-drop", "--quiet")
    reader.join(30)
    assert (code, err) == (0, "")
    (tmp_path / "copy.ts").write_bytes(got[0])
    info = probe(tmp_path / "copy.ts")
    assert (info.has_video, info.has_audio) == (True, True)

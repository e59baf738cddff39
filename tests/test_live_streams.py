"""Live speech for minutes, and into a stream: in step to the end, late by a bounded while, all sound there."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import radnerf
from stages.container_tags import read_tags
from stages.formats import FPS
from stages.live import LiveWish, Show, _perform
from stages.live_hearing import FRAME_SAMPLES
from stages.live_sound import SoundQueue
from stages.media import decode_audio, ffmpeg_path, probe, read_video
from stages.provenance import NOTICE
from stages.window.broadcast import Broadcast
from stages.window.puppet import Moment, Puppet
from tests.cli_harness import Shell, shell
from tests.live_subject import make_live_subject, pcm, speak_live, speech_like

__all__ = ["shell"]

WISH = LiveWish(
    source="-", target=None, size_px=48, background="clip", picture=None, view_deg=(0.0, 0.0), drops=True,
    seconds=0.0, port=0, consent="",
)  # fmt: skip


class Clock:
    """Time that passes where the test says so, and a little whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-4
        return self.now


class Notes:
    """An output that notes what came when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.heard = bytearray()
        self.frames: list[int] = []
        self.skipped: list[int] = []
        self.at_s: list[float] = []

    def sound(self, first: int, samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> None:
        assert 2 * first == len(self.heard)
        self.heard += samples.astype("<i2").tobytes()

    def picture(self, frame: int, picture: object, skipped: int) -> None:
        assert picture is not None
        self.frames.append(frame)
        self.skipped.append(skipped)
        self.at_s.append(self._clock.now)


@pytest.mark.parametrize(("draws_s", "minutes"), [(0.02, 1), (0.1, 2)])
def test_minutes_are_no_later_at_the_end_and_keep_all_sound(
    draws_s: float, minutes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pcm(np.tile(speech_like(20.0), 3 * minutes))
    portrait = radnerf.load(make_live_subject(tmp_path).root, backend="reference", device="cpu")
    clock = Clock()
    notes, sounds = Notes(clock), SoundQueue(clock, live=True)

    def draw(_: Puppet, moment: Moment, *__: object) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], None]:
        assert np.isfinite(moment.mouth.numpy()).all()
        clock.now += draws_s
        return np.zeros((48, 48, 3), np.uint8), None

    def take(self: SoundQueue, patience_s: float = 0.02, wait: object = SoundQueue.take) -> object:
        clock.now += patience_s
        return wait(self, 0.0)  # type: ignore[operator]

    monkeypatch.setattr(Puppet, "draw", draw)
    monkeypatch.setattr(SoundQueue, "take", take)
    sounds.put(sent)
    sounds.end()
    with Puppet(portrait) as puppet:
        show = Show(puppet, WISH, notes, clock)
        assert not _perform(show, sounds, Broadcast(), WISH, lambda _: None)
    frames = np.array(notes.frames)
    assert bytes(notes.heard) == sent, "all sound came out, in order"
    assert clock.now == pytest.approx(60 * minutes, abs=2), "and in no more time than it lasts"
    assert len(frames) + sum(notes.skipped) == 60 * minutes * FPS
    np.testing.assert_array_equal(frames, np.cumsum(np.array(notes.skipped) + 1) - 1)
    late_s = np.array(notes.at_s) - frames / FPS
    third = 20 * minutes * FPS
    # But for the last second, whose end falls due at once.
    end = (frames >= 2 * third) & (frames < 3 * third - FPS)
    assert late_s[end].max() < late_s[frames < third].max() + 0.05, "no later at the end"
    assert late_s.max() < 0.5
    assert (sum(notes.skipped) > 0) == (draws_s > 1 / FPS)
    assert len(frames) > 0.8 * min(1.0, 1 / FPS / draws_s) * 60 * minutes * FPS


def flashes(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Let every so manyth picture be white, and the others black."""
    drawn = iter(range(-1, 10**9))

    def draw(_: Puppet, __: Moment, ___: object, size_px: int, *____: object) -> tuple[object, None]:
        # The first is drawn for nobody.
        white = (number := next(drawn)) > 0 and number % every == 0
        return np.full((size_px, size_px, 3), 255 * white, np.uint8), None

    monkeypatch.setattr(Puppet, "draw", draw)


def clicks(seconds: float, every: int) -> bytes:
    """Sound with a short burst at the instant of every so manyth frame."""
    samples = 0.001 * np.sin(np.arange(round(seconds * 16_000)) * 0.1)
    for frame in range(every, round(seconds * FPS), every):
        at = frame * FRAME_SAMPLES
        samples[at : at + 160] = 0.9 * np.sin(np.arange(160) * 0.5)
    return pcm(samples.astype(np.float32))


def check_in_step(video: Path, seconds: float, every: int, within_s: float = 0.012) -> None:
    """Flash and click of a video are at the same instants, from the first to the last."""
    info = probe(video)
    white = np.array([index for index, shown in enumerate(read_video(info, [], (48, 48))) if shown.mean() > 128])
    sound = decode_audio(video, 16_000)
    loud = np.flatnonzero(np.abs(sound) > 0.3)
    begins = loud[np.diff(loud, prepend=-16_000) > 8_000] / 16_000
    flashes_s = np.arange(every, round(seconds * FPS), every) / FPS
    np.testing.assert_allclose(white / FPS, flashes_s, atol=0.041)
    np.testing.assert_allclose(begins, white / FPS, atol=within_s)


def test_a_file_of_minutes_is_in_step_to_its_end(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    make_live_subject(shell.home)
    flashes(monkeypatch, every=125)
    code, _, err = speak_live(shell, monkeypatch, clicks(120, every=125), "-o", "talk.mp4", "--no-drop", "--quiet")
    assert (code, err) == (0, "")
    check_in_step(shell.home / "talk.mp4", 120, every=125)


@pytest.fixture
def flashing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live subject that shows its clicks."""
    make_live_subject(shell.home)
    flashes(monkeypatch, every=25)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    """A program that takes one RTMP stream, as a streaming server does: its address, and the file that it writes."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("looks there for the receiver's port")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    address, copy = f"rtmp://127.0.0.1:{port}/live/anna", tmp_path / "copy.mkv"
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    command += ["-listen", "1", "-f", "flv", "-i", address, "-c", "copy", str(copy)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        hexadecimal, end = f"0100007F:{port:04X}", time.monotonic() + 30
        # Whoever tries the port takes the only place.
        while hexadecimal not in Path("/proc/net/tcp").read_text() and time.monotonic() < end:
            time.sleep(0.02)
        yield address, copy, process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("flashing")
def test_a_stream_arrives_in_step_and_says_what_it_is(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, receiver: tuple[str, Path, subprocess.Popen[bytes]]
) -> None:
    address, copy, process = receiver
    code, _, err = speak_live(shell, monkeypatch, clicks(6, every=25), "-o", address, "--no-drop", "--quiet")
    assert (code, err) == (0, "")
    assert process.wait(30) == 0, "the stream was ended as streams are"
    info = probe(copy)
    assert (info.width, info.height, info.fps) == (48, 48, 25)
    assert len(list(read_video(info, [], (48, 48)))) in (150, 151)
    # FLV leaves the sound encoder's 21 ms at the beginning of both; read at 25 frames a second, that is a frame.
    check_in_step(copy, 6, every=25, within_s=0.03)
    assert read_tags(copy)["comment"].startswith(NOTICE)


@pytest.mark.usefixtures("flashing")
def test_a_receiver_that_goes_away_ends_it_with_a_word(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, receiver: tuple[str, Path, subprocess.Popen[bytes]]
) -> None:
    address, copy, process = receiver

    def leave() -> None:
        end = time.monotonic() + 60
        while not (copy.exists() and copy.stat().st_size) and time.monotonic() < end:
            time.sleep(0.05)
        process.kill()

    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    code, _, err = speak_live(shell, monkeypatch, clicks(600, every=25), "-o", address, "--no-drop", "--quiet")
    leaving.join(60)
    assert code == 1
    assert err.startswith("error: the video cannot be written to rtmp://127.0.0.1")
    assert "anna:" not in err.partition("(")[0], "a stream's key is nobody's business"

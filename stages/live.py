"""A subject that speaks what it hears, as it hears it: sound in, picture and sound out, a bounded while later."""

from __future__ import annotations

import datetime as dt
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stages.api import Portrait
from stages.colours import Colour
from stages.errors import BadInput
from stages.formats import FPS, SAMPLE_RATE_HZ
from stages.live_clock import Delays, Due, FrameClock
from stages.live_hearing import DELAY_SAMPLES, FRAME_SAMPLES, LiveHearing, check_live
from stages.live_output import LiveEncoder, Target
from stages.live_sound import SoundQueue, as_floats, microphone, reading
from stages.provenance import Statement, container_metadata, model_version_of, radnerf_version, sign_video
from stages.render import usual_signer
from stages.video_encoder import choose_encoder
from stages.vision.images import encode_jpeg
from stages.window.broadcast import PICTURE, SOUND, WORDS, Broadcast
from stages.window.puppet import Moment, Puppet
from stages.window.server import Door, check_packages, open_door, serving

ALGORITHMIC_MS = 1000 * DELAY_SAMPLES // SAMPLE_RATE_HZ
"""The delay that the audio net's look ahead alone makes; rendering comes on top."""

_TELL_S = 1.0  # between two reports to pages
_REPORT_S = 5.0  # between two to the caller
_QUALITY = 85

Int16 = npt.NDArray[np.int16]
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LiveWish:
    """What was asked for.

    Attributes:
        source: ``"-"``, ``"ws"``, ``"mic"`` or ``"mic:NAME"``.
        target: Where video goes; None for the window.
        size_px: Side of the pictures, even.
        background: As ``Puppet.draw`` takes it.
        picture: JPEG or PNG for the background; None for none.
        view_deg: Turn of the head beyond its pose.
        drops: Whether pictures may be left out; else the source is made to wait.
        seconds: Sound after which to end; 0 for none.
        port: Of the window; 0 for any free one.
        consent: The note of the subject's maker.
    """

    source: str
    target: Target | None
    size_px: int
    background: str | Colour
    picture: bytes | None
    view_deg: tuple[float, float]
    drops: bool
    seconds: float
    port: int
    consent: str


class Output(Protocol):
    """What takes picture and sound."""

    def sound(self, first: int, samples: Int16) -> None:
        """Take the samples from ``first`` on."""

    def picture(self, frame: int, picture: Rgb, skipped: int) -> None:
        """Take a frame; the one before it stands for so many that were left out between."""


class WindowOutput:
    """Shows everything to the pages that are open."""

    def __init__(self, broadcast: Broadcast) -> None:
        """Show to these."""
        self._broadcast = broadcast

    def sound(self, first: int, samples: Int16) -> None:
        """Send sound."""
        self._broadcast.tell(SOUND, first, samples.astype("<i2").tobytes())

    def picture(self, frame: int, picture: Rgb, skipped: int) -> None:  # noqa: ARG002 - a page shows the newest
        """Send a picture, if anybody looks."""
        if self._broadcast.watched:
            self._broadcast.tell(PICTURE, frame, encode_jpeg(picture, _QUALITY))


class EncodedOutput:
    """Hands everything to the encoder, a picture for every frame."""

    def __init__(self, encoder: LiveEncoder) -> None:
        """Hand to this one."""
        self._encoder = encoder
        self._last: Rgb | None = None

    def sound(self, first: int, samples: Int16) -> None:  # noqa: ARG002 - nothing is ever left out
        """Append sound."""
        self._encoder.sound(samples)

    def picture(self, frame: int, picture: Rgb, skipped: int) -> None:  # noqa: ARG002 - as above
        """Append a picture, the one before it first for those that were left out."""
        for _ in range(skipped):
            self._encoder.picture(picture if self._last is None else self._last)
        self._encoder.picture(picture)
        self._last = picture


class Show:
    """One live speech: hears, moves, draws and counts."""

    def __init__(self, puppet: Puppet, wish: LiveWish, output: Output, clock: Callable[[], float]) -> None:
        """Be about to begin.

        Args:
            puppet: Who speaks.
            wish: How.
            output: Where to.
            clock: Seconds of some steady clock; only delays are read off it.
        """
        self._puppet, self._wish, self._output, self._clock = puppet, wish, output, clock
        self._hearing = LiveHearing(puppet.portrait.head)
        self._performance = puppet.endless()
        self._frames = FrameClock(drops=wish.drops)
        self._delays = Delays()
        self._picture: Rgb | None = None
        self._drawn = self._dropped = 0

    def warm_up(self) -> None:
        """Draw a picture for nobody, so that kernels are compiled and tables read before anybody waits."""
        self._draw(self._puppet.resting(self._performance))

    def hear(self, samples: Int16, came_s: float) -> None:
        """Take sound, and draw what is due."""
        # Frame by frame where none may be left out, so that each is heard with the same knowledge whoever is faster.
        step = len(samples) if self._wish.drops else FRAME_SAMPLES
        for first in range(0, len(samples), max(step, 1)):
            part = samples[first : first + step]
            self._output.sound(self._frames.samples, part)
            self._frames.hear(len(part), came_s)
            self._hearing.hear(as_floats(part))
            while (due := self._frames.due(self._hearing.frames_ready)) is not None:
                self._show(due)
                if self._wish.drops:
                    # There is newer sound by now.
                    break

    def catch_up(self) -> bool:
        """Draw a frame that is due, if any; whether there was one."""
        due = self._frames.due(self._hearing.frames_ready)
        if due is not None:
            self._show(due)
        return due is not None

    def end(self, *, hurry: bool) -> None:
        """Let picture last as long as sound.

        Args:
            hurry: Whether the last picture is to stand for what is left.
        """
        frames = -(-self._frames.samples // FRAME_SAMPLES)
        if hurry and self._picture is not None:
            left = frames - self._frames.next_frame
            if left > 0:
                self._output.picture(frames - 1, self._picture, left - 1)
                self._dropped += left
            return
        told, ended_s = self._hearing.frames_ready, self._clock()
        self._hearing.end()
        while self._frames.next_frame < frames:
            # What waited for sound that never comes falls due one by one, and is left out only where it is late.
            passed = told + int((self._clock() - ended_s) * FPS)
            due = self._frames.due(min(max(passed, self._frames.next_frame + 1), frames))
            if due is not None:
                self._show(due)

    @property
    def seconds(self) -> float:
        """How much sound has come."""
        return self._frames.samples / SAMPLE_RATE_HZ

    def figures(self) -> dict[str, Any]:
        """What there is to say."""
        return {
            "seconds": round(self.seconds, 2),
            "frames": self._drawn + self._dropped,
            "dropped": self._dropped,
            "latency_ms": {
                "median": self._delays.quantile_ms(0.5),
                "p95": self._delays.quantile_ms(0.95),
                "algorithmic": ALGORITHMIC_MS,
            },
        }

    def _show(self, due: Due) -> None:
        heard = self._hearing.frame(due.frame)
        while self._performance.frame < due.frame:
            self._performance.advance(heard.speaking)
        moment = Moment(self._performance.pose(), self._performance.eye(), heard.code, heard.mouth)
        self._picture = self._draw(moment)
        self._delays.add(self._clock() - self._frames.arrived_s(due.frame))
        self._output.picture(due.frame, self._picture, due.skipped)
        self._drawn += 1
        self._dropped += due.skipped

    def _draw(self, moment: Moment) -> Rgb:
        return self._puppet.draw(moment, self._wish.view_deg, self._wish.size_px, self._wish.background)[0]


def run(
    portrait: Portrait, wish: LiveWish, *, opened: Callable[[Door], None], report: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Speak live until the sound ends or somebody interrupts.

    Args:
        portrait: Who speaks.
        wish: How.
        opened: Told the window's address, where there is one.
        report: Told the figures every few seconds.

    Returns:
        ``seconds`` of sound, ``frames`` that they last, ``dropped`` of them, ``latency_ms`` from a frame's first
        sample to its picture, ``interrupted``.

    Raises:
        BadInput: The subject cannot hear live sound, or something of the wish cannot be used.
        RadnerfError: The source or the output failed.
    """
    check_live(portrait.header)
    with ExitStack() as stack:
        puppet = stack.enter_context(Puppet(portrait))
        if wish.picture is not None:
            puppet.set_picture(wish.picture)
        broadcast = Broadcast()
        paced = wish.drops and not wish.source.startswith("mic")
        queue = SoundQueue(time.monotonic, live=paced)
        if wish.target is None or wish.source == "ws":
            stack.enter_context(_window(broadcast, queue if wish.source == "ws" else None, portrait, wish, opened))
        finish = stack.enter_context(_encoding(portrait, wish)) if wish.target else None
        show = Show(puppet, wish, finish or WindowOutput(broadcast), time.monotonic)
        show.warm_up()
        queue.begin()
        stack.enter_context(_source(wish.source, queue))
        interrupted = _perform(show, queue, broadcast, wish, report)
        return {**show.figures(), "interrupted": interrupted}


def _perform(
    show: Show, queue: SoundQueue, broadcast: Broadcast, wish: LiveWish, report: Callable[[Mapping[str, Any]], None]
) -> bool:
    """The loop; whether it was interrupted."""
    told_s = reported_s = time.monotonic()
    try:
        while (piece := queue.take(0.0 if show.catch_up() else 0.02)) is not None:
            show.hear(piece.samples, piece.came_s)
            now = time.monotonic()
            if now - told_s >= _TELL_S:
                told_s = now
                broadcast.tell(WORDS, 0, _words(show))
            if now - reported_s >= _REPORT_S:
                reported_s = now
                report(show.figures())
            if wish.seconds and show.seconds >= wish.seconds:
                break
        if not show.seconds:
            raise BadInput("the input ended without any sound", hint="send 16-bit mono PCM at 16 kHz")
        show.end(hurry=False)
    except KeyboardInterrupt:
        show.end(hurry=True)
        return True
    return False


def _words(show: Show) -> bytes:
    figures = show.figures()
    delay = figures["latency_ms"]
    said = {"latency_ms": delay["median"], "p95_ms": delay["p95"], "dropped": figures["dropped"]}
    return json.dumps(said).encode()


@contextmanager
def _source(source: str, queue: SoundQueue) -> Iterator[None]:
    """Let sound flow into the queue."""
    if source == "-":
        with reading(sys.stdin.buffer, queue):
            yield
    elif source.partition(":")[0] == "mic":
        with microphone(source.partition(":")[2], queue):
            yield
    elif source == "ws":
        yield
    else:
        raise BadInput(f"there is no input {source!r}", hint="give -, mic, mic:NAME or ws")


@contextmanager
def _window(
    broadcast: Broadcast, queue: SoundQueue | None, portrait: Portrait, wish: LiveWish, opened: Callable[[Door], None]
) -> Iterator[None]:
    """Serve the page."""
    check_packages()
    from stages.window.live_app import live_app

    with open_door(wish.port) as door:
        app = live_app(broadcast, queue.put if queue else None, portrait.name, wish.consent, door.port)
        with serving(app, door):
            opened(door)
            yield


@contextmanager
def _encoding(portrait: Portrait, wish: LiveWish) -> Iterator[Output]:
    """Encode into the wished target; a file appears when it is whole, and signed where its format can be."""
    target = wish.target
    if target is None:
        raise ValueError("there is nothing to encode to")
    workspace = portrait.workspace
    version = model_version_of(workspace.head, workspace.torso)
    metadata = container_metadata(portrait.name, version, wish.consent)
    side = (wish.size_px, wish.size_px)
    encoder = choose_encoder(side, on_gpu=portrait.head.aabb.device.type == "cuda")
    with ExitStack() as stack:
        written, final = target, target.path
        if target.kind == "file" and final is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".rendering-", dir=final.parent))
            written = target.moved(Path(folder) / final.name)
        writer = LiveEncoder(written, wish.size_px, encoder, metadata)
        try:
            yield EncodedOutput(writer)
        except BaseException:
            writer.abandon()
            raise
        writer.close()
        if written.kind == "file" and written.path is not None and final is not None:
            settings = portrait.settings("render")
            if target.format == "mp4" and settings.sign:
                made = Statement(portrait.name, version, wish.consent, radnerf_version(), dt.datetime.now(dt.UTC))
                sign_video(written.path, made, usual_signer(settings))
            written.path.replace(final)

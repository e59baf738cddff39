"""An hour of speech: memory and speed from beginning to end, and whether sound and picture still go together.

By hand: ``python -m tests.torture.long_speech --minutes 60 --folder DIR``.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from stages import audio, progress, render
from stages.formats import FPS, save_json
from stages.head_file import load_head, save_head
from stages.media import probe, read_video, stream_audio
from stages.settings import AudioSettings, HeadSettings, RenderSettings
from tests.speaking_subject import make_speaking_subject
from tests.tiny_subject import SIZE_PX, make_features, make_track

RATE_HZ = 16_000
_WINDOW_S = 30.0
_LAGS = 12  # frames either way that are looked at

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What a long speech did.

    Attributes:
        seconds: Length of the speech.
        early_mb, late_mb: Most memory in the second tenth and in the last one.
        early_fps, late_fps: Frames a second in the same tenths.
        sound_lag_ms: Sound of the video after the source's, at the end.
        picture_lags: Picture after sound at the beginning and at the end, frames.
    """

    seconds: float
    early_mb: float
    late_mb: float
    early_fps: float
    late_fps: float
    sound_lag_ms: float
    picture_lags: tuple[int, int]

    def table(self) -> str:
        """In lines."""
        begin, end = self.picture_lags
        return "\n".join(
            [
                f"{'speech':40}{self.seconds / 60:.1f} min",
                f"{'memory early, late':40}{self.early_mb:.0f} MB, {self.late_mb:.0f} MB",
                f"{'speed early, late':40}{self.early_fps:.1f}, {self.late_fps:.1f} frames/s",
                f"{'sound after the source at the end':40}{self.sound_lag_ms:.1f} ms",
                f"{'picture after sound, begin and end':40}{begin}, {end} frames",
            ]
        )

    @property
    def well(self) -> bool:
        """Whether memory stayed, and picture and sound are within a frame of each other at the end."""
        together = abs(self.sound_lag_ms) < 1000 / FPS and abs(self.picture_lags[1] - self.picture_lags[0]) <= 1
        return self.late_mb < self.early_mb + 48 and together


def write_bursts(path: Path, seconds: float) -> None:
    """Bursts of noise of 0.3 to 1.5 s with pauses between, never in the same rhythm twice, as 16-bit WAV."""
    random = np.random.default_rng(0)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        left, loud = round(seconds * RATE_HZ), False
        while left:
            count = min(left, round(random.uniform(0.3, 1.5) * RATE_HZ))
            samples = random.normal(0, 3000 if loud else 3, count)
            out.writeframes(samples.clip(-30_000, 30_000).astype("<i2").tobytes())
            left, loud = left - count, not loud


def loud_head(path: Path) -> None:
    """Make an untrained head's picture answer to what it hears."""
    head, _ = load_head(path)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in head.named_parameters():
            if name.endswith(".table"):
                value.normal_(0, 0.7)
        head.mask.fill_(value=True)
    save_head(path, head, HeadSettings(size_px=SIZE_PX), make_features(2))


class _Meter:
    """Memory of this process and its children, and how far the rendering is, twice a second."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float, int]] = []
        self.done = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def heed(self, seen: progress.Progress) -> None:
        if seen.label == "render":
            self.done = seen.done

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(0.25):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.samples.append((time.monotonic(), total / 2**20, self.done))

    def part(self, first: float, last: float, frames: int) -> tuple[float, float]:
        """Most memory, MB, and speed, frames/s, between two shares of the frames."""
        inside = [sample for sample in self.samples if first * frames <= sample[2] <= last * frames]
        if len(inside) < 2:
            return 0.0, 0.0
        seconds = max(1e-3, inside[-1][0] - inside[0][0])
        return max(sample[1] for sample in inside), (inside[-1][2] - inside[0][2]) / seconds


def speak_long(folder: Path, seconds: float) -> Found:
    """Render so much speech of a tiny subject, and measure."""
    workspace = make_speaking_subject(folder)
    loud_head(workspace.head)
    make_track(frames=33).save(workspace.track)
    speech = workspace.speech("long")
    speech.root.mkdir(parents=True, exist_ok=True)
    write_bursts(speech.source, seconds)
    save_json(speech.job, {"format": 1, "subject": "anna", "eyes": 1})
    with _Meter() as meter, progress.listening(meter.heed):
        audio.run(audio.Inputs(speech.source), audio.Outputs(speech.features), AudioSettings())
        inputs = render.Inputs(
            speech.job,
            speech.source,
            speech.features,
            workspace.head,
            workspace.torso,
            workspace.background,
            workspace.track,
        )
        render.run(inputs, render.Outputs(speech.video, speech.summary), RenderSettings(sign=False))
    frames = round(seconds * FPS)
    early, late = meter.part(0.1, 0.2, frames), meter.part(0.9, 1.0, frames)
    window = min(_WINDOW_S, seconds / 3)
    return Found(
        seconds,
        early[0],
        late[0],
        early[1],
        late[1],
        _sound_lag_ms(speech.video, speech.source, seconds - window - 1, window),
        (
            _picture_lag(speech.video, speech.source, 1.0, window),
            _picture_lag(speech.video, speech.source, seconds - window - 1, window),
        ),
    )


def _sound(path: Path, start_s: float, length_s: float) -> Curve:
    """A stretch of a file's sound at 16 kHz, read from the beginning, since that is what a player's clock does."""
    first, last = round(start_s * RATE_HZ), round((start_s + length_s) * RATE_HZ)
    kept, at = [], 0
    for piece in stream_audio(path, RATE_HZ):
        kept.append(piece[max(0, first - at) : max(0, last - at)])
        at += len(piece)
    return np.concatenate(kept).astype(np.float64)


def _sound_lag_ms(video: Path, source: Path, start_s: float, length_s: float) -> float:
    """By how much the video's sound comes after the source's, by cross-correlation of the waveforms."""
    ours, theirs = _sound(video, start_s, length_s), _sound(source, start_s, length_s)
    size = 2 * max(len(ours), len(theirs))
    product = np.fft.rfft(ours, size) * np.conj(np.fft.rfft(theirs, size))
    likeness = np.fft.irfft(product, size)
    lag = int(np.argmax(likeness))
    return 1000 * (lag - size if lag > size // 2 else lag) / RATE_HZ


def _picture_lag(video: Path, source: Path, start_s: float, length_s: float) -> int:
    """By how many frames the picture comes after the source's sound, by cross-correlation of how much each changes."""
    first, count = round(start_s * FPS), round(length_s * FPS)
    info = probe(video)
    size = (info.width, info.height)
    pictures = read_video(info, [], size, fps=FPS, start_s=first / FPS, max_frames=count)
    seen = [picture.astype(np.float64) for picture in pictures]
    each = RATE_HZ // FPS
    level = _sound(source, first / FPS, count / FPS)[: len(seen) * each].reshape(-1, each).std(axis=1)
    loud = level > 0.01
    # The axis between the mean picture of sound and that of silence: how far along it a frame lies tells its state.
    stack = np.stack(seen[: len(loud)])
    axis = stack[loud].mean(axis=0) - stack[~loud].mean(axis=0)
    heard = loud - loud.mean()
    shown = (stack * axis).sum(axis=(1, 2, 3))
    shown -= shown.mean()
    scores = [
        float((shown[_LAGS + lag : len(shown) - _LAGS + lag] * heard[_LAGS : len(heard) - _LAGS]).sum())
        for lag in range(-_LAGS, _LAGS + 1)
    ]
    return int(np.argmax(scores)) - _LAGS


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    found = speak_long(asked.folder, 60 * asked.minutes)
    print(found.table())
    return 0 if found.well else 1


if __name__ == "__main__":
    sys.exit(main())

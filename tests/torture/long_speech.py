"""An hour of speech: memory and work from beginning to end, and whether sound and picture still go together.

By hand: ``python -m tests.torture.long_speech --minutes 60 --folder DIR``.
"""

from __future__ import annotations

import argparse
import dataclasses
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

from radnerf.linear_ear import REACH
from stages import audio, progress, render
from stages.atomic_files import save_json
from stages.formats import FPS, Track
from stages.head_file import load_head, save_head
from stages.media import probe, read_video, stream_audio
from stages.settings import AudioSettings, HeadSettings, RenderSettings
from tests.speaking_subject import make_speaking_subject
from tests.tiny_subject import SIZE_PX, make_features, make_track

RATE_HZ = 16_000
_WINDOW_S = 30.0
_LAGS = 12  # frames either way that are looked at
_SILENT_DB = -60.0

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """What a stretch of the rendering took.

    Attributes:
        mb: Most memory of this process and its children.
        cpu_ms: Their time on the processor, a frame.
        fps: Frames a second by the clock, which tells of other programs too.
    """

    mb: float
    cpu_ms: float
    fps: float


@dataclass(frozen=True)
class Found:
    """What a long speech did.

    Attributes:
        seconds: Length of the speech.
        early, late: What the second tenth and the last one took.
        sound_lag_ms: Sound of the video after the source's, at the end.
        picture_lags: How many frames the picture comes after the source's loudness, at the beginning and at the end.
    """

    seconds: float
    early: Part
    late: Part
    sound_lag_ms: float
    picture_lags: tuple[int, int]

    def table(self) -> str:
        """In lines."""
        early, late = self.early, self.late
        begin, end = self.picture_lags
        return "\n".join(
            [
                f"{'speech':40}{self.seconds / 60:.1f} min",
                f"{'memory early, late':40}{early.mb:.0f} MB, {late.mb:.0f} MB",
                f"{'processor time a frame early, late':40}{early.cpu_ms:.1f} ms, {late.cpu_ms:.1f} ms",
                f"{'speed early, late':40}{early.fps:.1f}, {late.fps:.1f} frames/s",
                f"{'sound after the source at the end':40}{self.sound_lag_ms:.1f} ms",
                f"{'picture after sound, begin and end':40}{begin}, {end} frames",
            ]
        )

    @property
    def together(self) -> bool:
        """Whether sound and picture are within a frame of the source, at the beginning and at the end."""
        return abs(self.sound_lag_ms) < 1000 / FPS and all(abs(lag) <= 1 for lag in self.picture_lags)

    @property
    def well(self) -> bool:
        """Whether they are, and memory and work stayed what they were."""
        steady = self.late.mb < self.early.mb + 48 and self.late.cpu_ms < 1.5 * self.early.cpu_ms + 2
        return steady and self.together


def write_bursts(path: Path, seconds: float) -> None:
    """Syllables in bursts of 0.4 to 1.6 s with pauses between, never in the same rhythm twice, as 16-bit WAV."""
    random = np.random.default_rng(0)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        left, loud = round(seconds * RATE_HZ), False
        while left:
            count = min(left, round(random.uniform(0.4, 1.6) * RATE_HZ))
            samples = random.normal(0, 1e-4, count) + (_syllables(count, random) if loud else 0)
            out.writeframes((samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())
            left, loud = left - count, not loud


def _syllables(count: int, random: np.random.Generator) -> Curve:
    """Something voiced that rises and falls four times a second, (count,) within ±1."""
    time = np.arange(count) / RATE_HZ
    pitch = random.uniform(110, 180)
    tone = np.sum([np.sin(2 * np.pi * pitch * k * time + k) / k for k in range(1, 14)], axis=0)
    return np.asarray(0.2 * tone * (0.65 + 0.35 * np.sin(2 * np.pi * 4 * time - 1)))


def listening_head(path: Path) -> None:
    """Let the picture of an untrained head follow how loud it is at the frame's instant, and nothing else."""
    head, _ = load_head(path)
    bands = head.shape.features
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in head.named_parameters():
            if name.endswith(".table"):
                value.normal_(0, 1)
            elif "_net.weights" in name:
                value.mul_(2.5)
            elif name.startswith("audio_net."):
                value.zero_()
        # Log-mel bands lie between 0, silence, and about 4.
        head.linear_ear.weight[REACH * bands : (REACH + 1) * bands] = 2 / bands
        head.linear_ear.offset.fill_(-2)
        head.ear_share.fill_(1)
        head.mask.fill_(value=True)
    save_head(path, head, HeadSettings(size_px=SIZE_PX), make_features(2))


def _stand_still(track: Track) -> Track:
    """A head that does not move, so that all that moves in the picture is what it says."""
    count = len(track.rotation)
    return dataclasses.replace(
        track,
        rotation=np.repeat(track.rotation[:1], count, axis=0),
        translation=np.repeat(track.translation[:1], count, axis=0),
        eye_open=np.ones(count, np.float32),
        blinks=np.zeros(0, np.int64),
    )


class _Meter:
    """Memory and time of this process and its children, and how far the rendering is, four times a second."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float, float, int]] = []
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
            memory = cpu = 0.0
            for process in [own, *own.children(recursive=True)]:
                try:
                    spent = process.cpu_times()
                    memory, cpu = memory + process.memory_info().rss, cpu + spent.user + spent.system
                except psutil.Error:
                    continue
            self.samples.append((time.monotonic(), memory / 2**20, cpu, self.done))

    def part(self, first: float, last: float, frames: int) -> Part:
        """What the frames between two shares of them took."""
        inside = [sample for sample in self.samples if first * frames <= sample[3] <= last * frames]
        if len(inside) < 2 or inside[-1][3] == inside[0][3]:
            return Part(max((sample[1] for sample in self.samples), default=0.0), 0.0, 0.0)
        seconds, cpu = inside[-1][0] - inside[0][0], inside[-1][2] - inside[0][2]
        count = inside[-1][3] - inside[0][3]
        return Part(max(sample[1] for sample in inside), 1000 * cpu / count, count / max(1e-3, seconds))


def speak_long(folder: Path, seconds: float) -> Found:
    """Render so much speech of a tiny subject, and measure."""
    workspace = make_speaking_subject(folder)
    listening_head(workspace.head)
    _stand_still(make_track(frames=33)).save(workspace.track)
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
    window = min(_WINDOW_S, seconds / 3)
    end = seconds - window - 1
    lags = [_picture_lag(speech.video, speech.source, start_s, window) for start_s in (1.0, end)]
    return Found(
        seconds,
        meter.part(0.1, 0.2, frames),
        meter.part(0.9, 1.0, frames),
        _sound_lag_ms(speech.video, speech.source, end, window),
        (lags[0], lags[1]),
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
    """By how many frames the picture follows the source's loudness too late, by cross-correlation."""
    info = probe(video)
    first, count = round(start_s * FPS), round(length_s * FPS)
    frames = read_video(info, [], (info.width, info.height), fps=FPS, start_s=first / FPS, max_frames=count)
    loud = _loudness_db(source, first - _LAGS, count + 2 * _LAGS)
    return lag_frames(np.stack(list(frames)).astype(np.float64), loud)


def _loudness_db(path: Path, first: int, count: int) -> Curve:
    """Loudness of the 40 ms around each of some frames' instants, dB, (count,); silence outside of the sound."""
    step = RATE_HZ // FPS
    begin = first * step - step // 2
    samples = _sound(path, max(0, begin) / RATE_HZ, (count * step + min(0, begin)) / RATE_HZ)
    padded = np.zeros(count * step)
    padded[max(0, -begin) : max(0, -begin) + len(samples)] = samples
    power = np.square(padded).reshape(count, step).mean(1)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (_SILENT_DB / 10))))


def lag_frames(pictures: Curve, loud_db: Curve) -> int:
    """By how many frames pictures come after the sound that they answer.

    Args:
        pictures: (F, H, W, 3), of consecutive frames.
        loud_db: (F + 2 * 12,), loudness at these frames and at 12 more before and after them.

    Returns:
        The lag at which how unlike silence the picture is goes best with how loud it was.
    """
    likeness = []
    for lag in range(-_LAGS, _LAGS + 1):
        heard = loud_db[_LAGS - lag :][: len(pictures)]
        silent = pictures[heard <= np.quantile(heard, 0.1)].mean(0)
        likeness.append(np.corrcoef(np.abs(pictures - silent).mean((1, 2, 3)), heard)[0, 1])
    return int(np.argmax(likeness)) - _LAGS


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

"""Measure on rendered lips what new speech does: silence that was put in, and the same speech very soft.

    python benchmarks/speaking.py SUBJECT --speech speech.wav
    python benchmarks/speaking.py SUBJECT --speech speech.wav --silences 4 --size 256 --json

The speech is rendered as it is, 20 dB softer, and with half a second of silence put in at so many places; lips are read
on pictures of at least 256 x 256. The closed lips are those at the end of a second of silence behind the speech.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import radnerf
from radnerf.metrics import correlation
from stages.evaluation_measures import LEAST_READING_PX, FaceReader
from stages.formats import FPS
from stages.media import stream_audio
from stages.vision.face_measures import OUTER_EYE_CORNERS

RATE_HZ = 16_000
SILENCE_S = 0.5
LAST_FRAMES = 2
"""At the end of a silence, by which the lips must be closed."""

UPPER_LIP, LOWER_LIP = 13, 14
"""MediaPipe's landmarks in the middle of the inner lips."""

Sound = NDArray[np.float32]
Curve = NDArray[np.float64]


def main() -> None:
    """Render, read, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("subject", help="a trained subject's name or folder")
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=6.0, help="of the speech that are used")
    parser.add_argument("--silences", type=int, default=3)
    parser.add_argument("--size", type=int, default=LEAST_READING_PX)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.subject, options.speech, options.seconds, options.silences, options.size)
    lines = [json.dumps(figures)] if options.json else [f"{name:44}{value}" for name, value in figures.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def measure(subject: str, speech: Path, seconds: float, silences: int, size_px: int) -> dict[str, float]:
    """All figures.

    Args:
        subject: Name or folder.
        speech: Any sound that ffmpeg reads.
        seconds: How much of it is used.
        silences: How many are put in, evenly.
        size_px: Side of the rendered pictures.
    """
    portrait = radnerf.load(subject)
    sound = np.concatenate(list(stream_audio(speech, RATE_HZ)))[: round(seconds * RATE_HZ)]
    frame = RATE_HZ // FPS
    sound = sound[: len(sound) // frame * frame]
    rest, gap = np.zeros(RATE_HZ, np.float32), np.zeros(round(SILENCE_S * RATE_HZ), np.float32)
    with tempfile.TemporaryDirectory(prefix="radnerf-speaking-") as folder:

        def opening(name: str, samples: Sound) -> Curve:
            path = Path(folder) / f"{name}.wav"
            _write(path, samples)
            return _openings(portrait.frames(path, eyes=1.0, size_px=size_px))

        plain, soft = opening("plain", np.concatenate([sound, rest])), opening("soft", 0.1 * sound)
        spoken = len(sound) // frame
        closed, open_ = float(np.nanmean(plain[-5:])), float(np.nanquantile(plain[:spoken], 0.95))
        cuts = [len(sound) * (n + 1) // (silences + 1) // frame * frame for n in range(silences)]
        pieces = [piece for start, end in zip([0, *cuts], [*cuts, len(sound)], strict=True)
                  for piece in (sound[start:end], gap)]  # fmt: skip
        paused = opening("paused", np.concatenate(pieces))
        ends = [(cut + len(gap) * (n + 1)) // frame for n, cut in enumerate(cuts)]
        left = [float(np.nanmean(paused[end - LAST_FRAMES : end])) - closed for end in ends]
    both = np.isfinite(plain[:spoken]) & np.isfinite(soft[:spoken])
    return {
        "opening_r_at_minus_20_db": round(correlation(plain[:spoken][both], soft[:spoken][both]), 3),
        "opening_closed": round(closed, 4),
        "opening_95th_percentile": round(open_, 4),
        "worst_left_open_after_half_a_second": round(max(abs(one) for one in left) / max(open_ - closed, 1e-6), 3),
        "mean_left_open_after_half_a_second": round(float(np.mean(np.abs(left))) / max(open_ - closed, 1e-6), 3),
        "silences": silences,
    }


def _write(path: Path, samples: Sound) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes((samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())


def _openings(frames: Iterable[NDArray[np.uint8]]) -> Curve:
    """The gap between the inner lips in every frame, over the eyes' outer corners' distance; NaN without a face."""
    with FaceReader() as reader:
        count = 0
        for count, picture in enumerate(frames, 1):
            reader.look("rendered", count - 1, np.ascontiguousarray(picture))
        reading = reader.reading("rendered")
    gap = np.linalg.norm(reading.points[:, UPPER_LIP] - reading.points[:, LOWER_LIP], axis=1)
    corners = reading.points[:, OUTER_EYE_CORNERS]
    found = np.full(count, np.nan)
    found[reading.frames] = gap / np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)
    return found


if __name__ == "__main__":
    main()

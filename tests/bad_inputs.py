"""Files that people give by mistake, made small and fast: what the tests of bad input have in common."""

from __future__ import annotations

import subprocess
import wave
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from tests.cli_harness import Answer

FACE_PX = 160
FACE_FRAMES = 90
FPS = 25
RATE_HZ = 16_000

Bytes = npt.NDArray[np.uint8]


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> None:
    """Run ffmpeg quietly; what it writes may exist."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, input=data, check=True, stdin=subprocess.DEVNULL if data is None else None)


@dataclass(frozen=True)
class Snapshot:
    """Every file and folder below some folders, with sizes and times: two that are equal saw no writing."""

    entries: frozenset[tuple[str, int, int]]

    def new_since(self, earlier: Snapshot) -> list[str]:
        """What was written since an earlier one."""
        return sorted({name for name, _, _ in self.entries - earlier.entries})


def snapshot(*folders: Path) -> Snapshot:
    """What lies below some folders now; a lock's empty file is nothing."""
    found = set()
    for folder in folders:
        for path in folder.rglob("*"):
            state = path.lstat()
            if path.is_dir():
                found.add((f"{path}/", 0, 0))
            elif not (path.name == ".lock" and state.st_size == 0):
                found.add((str(path), state.st_size, state.st_mtime_ns))
    return Snapshot(frozenset(found))


def assert_one_line(answer: Answer, words: str, code: int = 2) -> None:
    """The command ended with a code, said one line on standard error, and nothing on standard output."""
    assert answer.code == code, answer
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"error: {words}"), lines[0]
    assert lines[0].endswith(")"), f"no way out is named: {lines[0]}"
    assert len(lines[0]) < 600, f"{len(lines[0])} characters"


def voice(seconds: float, rate_hz: int = RATE_HZ) -> npt.NDArray[np.float32]:
    """Something that rises and falls as syllables do, (N,) float32 within ±0.5."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    level = np.clip(np.sin(2 * np.pi * 3.1 * time), 0, 1) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.4 * time))
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
    return (0.25 * level * tone).astype(np.float32)


def write_wav(path: Path, samples: npt.NDArray[np.float32], rate_hz: int = RATE_HZ) -> Path:
    """A 16-bit mono WAV."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def write_float_wav(path: Path, samples: npt.NDArray[np.float32]) -> Path:
    """A 32-bit float mono WAV, which may hold what 16 bits cannot."""
    ffmpeg("-f", "f32le", "-ar", RATE_HZ.__str__(), "-ac", "1", "-i", "pipe:0", "-c:a", "pcm_f32le", path,
           data=samples.astype("<f4").tobytes())  # fmt: skip
    return path


@lru_cache(maxsize=1)
def drawn_faces() -> tuple[Bytes, ...]:
    """A drawn head that nods and talks, then a quarter turned, then in profile: (S, S, 3) uint8 each."""
    from stages.demo.face import Pose
    from stages.demo.figure import place
    from stages.demo.render import BASE_CM, make_subject, render

    subject = make_subject(FACE_PX, seed=1)

    def draw(opening: float, yaw_deg: float, pitch_deg: float) -> Bytes:
        placement = place(np.array([yaw_deg, pitch_deg, 0.0]), np.zeros(3), BASE_CM)
        return render(subject, Pose(opening=opening), placement, np.zeros(2)).image

    nodding = [draw(0.5 - 0.5 * np.cos(k * 1.9), 6 * np.sin(k / 2), 3 * np.cos(k / 2)) for k in range(12)]
    return (*nodding, draw(0.2, 35.0, 0.0), draw(0.2, 90.0, 0.0))


def talking(count: int = FACE_FRAMES) -> Bytes:
    """Frames of the drawn head talking, (count, S, S, 3) uint8."""
    faces = drawn_faces()[:12]
    return np.stack([faces[(k * 5) % 12] for k in range(count)])


def encode(path: Path, frames: Bytes, *options: str | Path, sound: Path | None = None, fps: float = FPS) -> Path:
    """Write frames as a video.

    Args:
        path: Where to; its ending chooses the container.
        frames: (N, H, W, 3) uint8.
        options: Of the output, after the defaults of H.264.
        sound: Goes beside the picture.
        fps: Frames a second.
    """
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    heard = ("-i", sound) if sound is not None else ()
    ffmpeg("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(fps), "-i", "pipe:0", *heard,
           "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le" if
           path.suffix in {".mkv", ".avi", ".mov"} else "aac", *options, path, data=frames.tobytes())  # fmt: skip
    return path


@dataclass(frozen=True)
class Clips:
    """What other files are made from, written once.

    Attributes:
        folder: Where they lie.
        speech: 4 s that sound like talking (WAV).
        face: The drawn head talking, with that sound, lossless enough to be recoded (MKV).
        pattern: A moving test picture without a face, with that sound (MKV).
    """

    folder: Path
    speech: Path
    face: Path
    pattern: Path


def make_clips(folder: Path) -> Clips:
    """Write what other files are made from."""
    speech = write_wav(folder / "speech.wav", voice(4.0))
    face = encode(folder / "face.mkv", talking(), "-qp", "8", "-shortest", sound=speech)
    pattern = folder / "pattern.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:d=4:r=25", "-i", speech, "-c:v", "libx264", "-preset", "ultrafast",
           "-c:a", "pcm_s16le", pattern)  # fmt: skip
    return Clips(folder, speech, face, pattern)

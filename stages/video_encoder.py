"""Which H.264 encoder writes a video: the GPU's where ffmpeg has it and it opens, else x264."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from typing import Literal

from stages.errors import BadInput
from stages.media_info import ffmpeg_path

Encoder = Literal["libx264", "h264_nvenc"]
"""By ffmpeg's name."""

EncoderChoice = Literal["auto", "x264", "nvenc"]
"""As settings name them; ``auto`` takes NVENC where a GPU makes the pictures and it opens."""

Opens = Callable[[tuple[int, int]], bool]
"""Whether NVENC encodes pictures of a (width, height)."""

_PROBE_SECONDS = 20.0


@cache
def nvenc_opens(size: tuple[int, int]) -> bool:
    """Try the GPU's encoder on a few pictures; remembered, so that a process tries a size once.

    That ffmpeg lists it says little: the driver may be missing or too old, the GPU may have no encoder (A100, H100),
    all of its sessions may be taken, or the pictures may be too small for it.

    Args:
        size: (width, height), even.

    Returns:
        Whether it wrote them.
    """
    source = ["-f", "lavfi", "-i", f"color=gray:size={size[0]}x{size[1]}:rate=25", "-frames:v", "3"]
    command = [ffmpeg_path(), "-nostdin", "-loglevel", "error", *source]
    command += ["-pix_fmt", "yuv420p", "-c:v", "h264_nvenc", "-f", "null", "-"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def choose_encoder(
    size: tuple[int, int], choice: EncoderChoice = "auto", *, on_gpu: bool, opens: Opens | None = None
) -> Encoder:
    """Choose the encoder of a video.

    Args:
        size: (width, height) of its pictures; odd ones grow by one, as the writer makes them.
        choice: What is wanted.
        on_gpu: Whether an NVIDIA GPU makes the pictures; x264 is better at equal size, and keeps up with a CPU.
        opens: Tries NVENC; ``nvenc_opens`` when None.

    Returns:
        The encoder.

    Raises:
        BadInput: NVENC is wanted and does not open.
    """
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    opens = opens or nvenc_opens
    if choice == "nvenc" and not opens(even):
        raise BadInput(
            f"NVENC does not encode pictures of {even[0]} x {even[1]} on this machine",
            hint="set render.encoder to auto or x264",
        )
    wanted = choice == "nvenc" or (choice == "auto" and on_gpu and opens(even))
    return "h264_nvenc" if wanted else "libx264"


def encoder_options(encoder: Encoder, crf: int, preset: str) -> dict[str, str | int]:
    """What ffmpeg is told of an encoder.

    Args:
        encoder: Which one.
        crf: x264's constant rate factor; NVENC's constant quality counts the same way.
        preset: x264's speed preset; NVENC takes its own middle one.

    Returns:
        Options of ffmpeg's output.
    """
    if encoder == "libx264":
        return {"c:v": "libx264", "crf": crf, "preset": preset}
    return {"c:v": "h264_nvenc", "preset": "p5", "tune": "hq", "rc": "vbr", "cq": crf, "b:v": 0}

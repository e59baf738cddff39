"""The portrait without a background: ProRes 4444 with an alpha channel and the speech's sound, and PNG stills."""

from __future__ import annotations

import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from radnerf.camera import Camera
from radnerf.kernels.protocol import Backend
from radnerf.model import HeadModel
from radnerf.portrait import Pose, render_head
from radnerf.torso import TorsoModel
from stages import progress
from stages.archive import ArchiveWriter, frame_name
from stages.atomic_files import atomic_path
from stages.errors import RadnerfError
from stages.formats import FPS
from stages.hearing import Features, hear
from stages.media_info import check_not_killed, ffmpeg_path, file_url
from stages.motion import Performance
from stages.tracked_moment import posed_condition

Rgba = npt.NDArray[np.uint8]

_SAMPLE_RATE_HZ = 48_000
_FRAMES_AT_ONCE = 250  # whose sound is heard together; ten seconds
_PNG_START = 8 + 25  # the signature and the header chunk


@dataclass(frozen=True)
class Figure:
    """A portrait that moves and speaks, before anything stands behind it.

    Attributes:
        head, torso: The trained models.
        kernels: What marches and composites.
        camera: At the pictures' size.
        performance: Poses and eyes.
        turn: (3, 3) float32, of the head beyond its pose, in its own frame.
    """

    head: HeadModel
    torso: TorsoModel
    kernels: Backend
    camera: Camera
    performance: Performance
    turn: Tensor

    def layer(self, index: int, code: Tensor, mouth: Tensor) -> Tensor:
        """Head over torso in one frame.

        Args:
            index: Number of the frame.
            code: (1, A) float, audio code.
            mouth: (1, M) float, mouth components.

        Returns:
            (S, S, 4) float in [0, 1]: rgb premultiplied by alpha, and alpha.
        """
        pose = self.performance.pose(index)
        condition = posed_condition(self.head, pose, self.performance.eye(index), code, mouth)
        torso = self.torso.render(self.camera, pose.rotation, pose.translation, pose.clip_frame).cpu()
        turned = Pose(pose.rotation @ self.turn, pose.translation)
        head = render_head(self.head, self.kernels, self.camera, turned, condition)
        return head + (1 - head[..., 3:]) * torso

    def layers(self, features: Features) -> Iterator[Tensor]:
        """The layer of every frame of a speech, in order."""
        for first in range(0, features.frames, _FRAMES_AT_ONCE):
            last = min(first + _FRAMES_AT_ONCE, features.frames)
            code, mouth = hear(self.head, features, first, last)
            for index in range(first, last):
                row = slice(index - first, index - first + 1)
                yield self.layer(index, code[row], mouth[row])


def write_cutouts(
    figure: Figure,
    features: Features,
    speech: Path,
    *,
    video: Path | None,
    stills: Path | None,
    metadata: Mapping[str, str],
    sign: Callable[[Path], None],
) -> None:
    """Render a speech without a background; each file appears when it is whole.

    Args:
        figure: Who speaks.
        features: Of the speech.
        speech: Its sound.
        video: The QuickTime file to write; None for none.
        stills: The archive of PNG to write; None for none.
        metadata: What both say about themselves; ``comment`` goes into each still.
        sign: Called with the finished video.
    """
    with ExitStack() as stack:
        writer = archive = None
        temporary: Path | None = None
        final = Path()
        if video is not None:
            final = stack.enter_context(atomic_path(video))
            # In a folder of its own, so that it is signed under its own name.
            folder = tempfile.TemporaryDirectory(prefix=".rendering-", dir=video.parent)
            temporary = Path(stack.enter_context(folder)) / video.name
            writer = CutoutWriter(
                temporary, figure.camera.width_px, FPS, audio=speech, length=features.frames, metadata=metadata
            )
        if stills is not None:
            archive = stack.enter_context(ArchiveWriter(stack.enter_context(atomic_path(stills))))
        with writer or ExitStack():
            for index, layer in enumerate(progress.track(figure.layers(features), "cut-out", features.frames)):
                picture = straight_rgba(layer)
                if writer is not None:
                    writer.write(picture)
                if archive is not None:
                    archive.add(frame_name(index, ".png"), encode_still(picture, metadata.get("comment", "")))
        if temporary is not None:
            sign(temporary)
            temporary.replace(final)


def straight_rgba(layer: Tensor) -> Rgba:
    """A layer as pictures with alpha hold it.

    Args:
        layer: (H, W, 4) float in [0, 1]: rgb premultiplied by alpha, and alpha.

    Returns:
        (H, W, 4) uint8: the colour itself, not darkened by alpha, and alpha; black where nothing is.
    """
    values = layer.clamp(0, 1).numpy()
    alpha = values[..., 3:]
    colour = np.divide(values[..., :3], alpha, out=np.zeros_like(values[..., :3]), where=alpha > 1 / 1024)
    return np.asarray((np.concatenate([colour, alpha], axis=-1).clip(0, 1) * 255).round(), np.uint8)


def encode_still(picture: Rgba, note: str) -> bytes:
    """A picture with alpha as PNG, with a note that programs show.

    Args:
        picture: (H, W, 4) uint8 RGBA.
        note: Latin text, for the ``Comment``.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    if not done:
        raise RadnerfError(f"a {picture.shape} picture cannot be encoded as PNG")
    plain = bytes(data)
    body = b"tEXt" + b"Comment\0" + note.encode("latin-1", "replace")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return plain[:_PNG_START] + chunk + plain[_PNG_START:]


class CutoutWriter:
    """Writes RGBA frames as ProRes 4444 in a QuickTime file, with the user's own sound as PCM.

    Odd sizes grow by one empty row or column. Give it a temporary path.
    """

    def __init__(
        self, path: Path, side_px: int, fps: int, *, audio: Path, length: int, metadata: Mapping[str, str]
    ) -> None:
        """Start the encoder.

        Args:
            path: The mov to write.
            side_px: Of the square frames.
            fps: Frames a second.
            audio: A media file whose first sound stream goes into the video.
            length: Frames that will be written: the sound is filled up with silence or cut to them.
            metadata: Tags of the container.
        """
        self._path = path
        self._pad = side_px % 2
        side = side_px + self._pad
        samples = round(length / fps * _SAMPLE_RATE_HZ)
        sound = f"[1:a:0]aresample={_SAMPLE_RATE_HZ}:async=1:first_pts=0"
        sound += f",apad=whole_len={samples},atrim=end_sample={samples}"
        command = [ffmpeg_path(), "-v", "error", "-nostdin", "-y"]
        command += ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{side}x{side}", "-r", str(fps), "-i", "pipe:0"]
        command += ["-protocol_whitelist", "file", "-i", file_url(audio)]
        command += ["-filter_complex", f"[0:v]scale=out_color_matrix=bt709:out_range=tv[v];{sound}[a]"]
        command += ["-map", "[v]", "-map", "[a]", "-c:v", "prores_ks", "-profile:v", "4444"]
        command += ["-pix_fmt", "yuva444p10le", "-vendor", "apl0", "-c:a", "pcm_s16le"]
        command += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
        for key, value in metadata.items():
            command += ["-metadata", f"{key}={value}"]
        self._complaint = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [*command, "-f", "mov", file_url(path)], stdin=subprocess.PIPE, stderr=self._complaint
        )

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Finish the video, or stop at once when the block failed.

        Raises:
            RadnerfError: The encoder failed, as on a full disk.
        """
        if kind is not None:
            self._process.kill()
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            # The encoder has gone; its exit code says so.
            pass
        code = self._process.wait()
        if kind is None and code != 0:
            raise self._failure()
        self._complaint.close()

    def write(self, frame: Rgba) -> None:
        """Append a frame.

        Args:
            frame: (S, S, 4) uint8 RGBA, colours not premultiplied.

        Raises:
            RadnerfError: The encoder failed, as on a full disk.
        """
        if self._pad:
            frame = np.pad(frame, ((0, 1), (0, 1), (0, 0)))
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._failure() from error

    def _failure(self) -> RadnerfError:
        check_not_killed(self._process.wait())
        self._complaint.seek(0)
        said = " ".join(self._complaint.read().decode("utf-8", "replace").split())[:300]
        return RadnerfError(
            f"the video cannot be written to {self._path}: {said}", hint="free some space or check the folder's rights"
        )

"""Background: the still scene, the true frames over it, and the torso layer without its head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stages.archive import Archive, ArchiveWriter, frame_name
from stages.atomic_files import atomic_path
from stages.errors import BadInput
from stages.formats import BACKGROUND, Landmarks
from stages.progress import report
from stages.settings import BackgroundSettings
from stages.vision.chunks import chunks, map_chunks
from stages.vision.clip import count_frames, load_grey, load_rgb
from stages.vision.head_frame import HeadFrame, head_frames
from stages.vision.images import encode_jpeg, encode_png
from stages.vision.layers import UInt8, make_layers
from stages.vision.still_scene import still_scene
from stages.vision.torso_model import ClipTorso, learn_torso


@dataclass(frozen=True)
class Inputs:
    """Files that the stage reads.

    Attributes:
        frames: Square frames (zip of JPEG).
        parsing: Class maps (zip of PNG).
        landmarks: Face landmarks (npz).
    """

    frames: Path
    parsing: Path
    landmarks: Path


@dataclass(frozen=True)
class Outputs:
    """Files that the stage writes.

    Attributes:
        background: The still scene (PNG).
        layers: True frames over the still scene, and the torso layer with its alpha (zip).
    """

    background: Path
    layers: Path


def run(inputs: Inputs, outputs: Outputs, settings: BackgroundSettings) -> None:
    """Find the still scene and part every frame into layers.

    Raises:
        BadInput: An input is missing or damaged, or the inputs are of different clips.
    """
    landmarks = Landmarks.load(inputs.landmarks)
    with Archive(inputs.frames) as frames, Archive(inputs.parsing) as parsing:
        counts = (count_frames(frames), count_frames(parsing, ".png"), len(landmarks.found))
        if len(set(counts)) > 1:
            raise BadInput(
                f"there are {counts[0]} frames, {counts[1]} class maps and {counts[2]} sets of landmarks",
                hint="run the stages frames, landmarks and parsing again",
            )
        heads = head_frames(landmarks.points, landmarks.found, landmarks.size_px)
        report("background", 0, counts[0])
        pictures, labels = _samples(frames, parsing, settings.sample_frames, counts[0])
    scene, _ = still_scene(pictures, labels != BACKGROUND)
    torso = learn_torso(pictures, labels)
    del pictures, labels
    work = partial(layer_chunk, inputs.frames, inputs.parsing, scene, torso)
    jobs = [(stretch, heads[stretch.start : stretch.stop]) for stretch in chunks(counts[0])]
    with atomic_path(outputs.layers) as temporary, ArchiveWriter(temporary) as writer:
        done = 0
        for members in map_chunks(work, jobs):
            for truth, colour, alpha in members:
                writer.add(frame_name(done, ".truth.jpg"), truth)
                writer.add(frame_name(done, ".torso.jpg"), colour)
                writer.add(frame_name(done, ".torso.png"), alpha)
                done += 1
            report("background", done, counts[0])
    with atomic_path(outputs.background) as temporary:
        temporary.write_bytes(encode_png(scene))


def _samples(frames: Archive, parsing: Archive, wanted: int, count: int) -> tuple[UInt8, UInt8]:
    """Frames spread over the clip, (N, H, W, 3) uint8, and their class maps, (N, H, W) uint8."""
    indices = [int(index) for index in np.unique(np.linspace(0, count - 1, min(wanted, count)).round())]
    pictures = np.stack([load_rgb(frames, index) for index in indices])
    labels = np.stack([load_grey(parsing, index) for index in indices])
    if pictures.shape[:3] != labels.shape:
        raise BadInput(
            f"frames are {pictures.shape[1:3]}, class maps {labels.shape[1:]} pixels",
            hint="run the stage parsing again",
        )
    return pictures, labels


def layer_chunk(
    frames: Path, parsing: Path, scene: UInt8, torso: ClipTorso, job: tuple[range, list[HeadFrame]]
) -> list[tuple[bytes, bytes, bytes]]:
    """The layers of consecutive frames, encoded: truth and torso as JPEG, the torso's alpha as PNG.

    Args:
        frames: The frames' archive.
        parsing: The class maps' archive.
        scene: (H, W, 3) uint8, the still scene.
        torso: What the clip tells about the torso.
        job: The frames wanted and where the head is in each.
    """
    members = []
    with Archive(frames) as pictures, Archive(parsing) as maps:
        for index, head in zip(*job, strict=True):
            layers = make_layers(load_rgb(pictures, index), load_grey(maps, index), head, scene, torso)
            members.append((encode_jpeg(layers.truth), encode_jpeg(layers.torso), encode_png(layers.alpha)))
    return members

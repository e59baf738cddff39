"""Parsing: head with hair, neck, torso and background in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from stages.archive import Archive, ArchiveWriter, frame_name
from stages.atomic_files import atomic_path
from stages.errors import BadInput
from stages.formats import Landmarks
from stages.progress import report
from stages.settings import ParsingSettings
from stages.vision.chunks import chunks, map_chunks
from stages.vision.clip import count_frames, load_rgb
from stages.vision.guided_filter import guided_upsample
from stages.vision.head_frame import HeadFrame, head_frames
from stages.vision.images import encode_png
from stages.vision.label_map import label_frame
from stages.vision.segmentation import PARSERS, ClipFrame, Parser, choose_parser, luminance
from stages.vision.temporal import Moment, blend_over_time

UInt8 = npt.NDArray[np.uint8]

_SAMPLES = 40
_TIME_RADIUS = 3
_EDGE_RADIUS = 1 / 64  # of the working size
_EDGE_EPSILON = 2e-4


@dataclass(frozen=True)
class Inputs:
    """Files that the stage reads.

    Attributes:
        frames: Square frames (zip of JPEG).
        landmarks: Face landmarks (npz).
    """

    frames: Path
    landmarks: Path


@dataclass(frozen=True)
class Outputs:
    """Files that the stage writes.

    Attributes:
        parsing: Class maps at the frames' size (zip of PNG).
    """

    parsing: Path


def run(inputs: Inputs, outputs: Outputs, settings: ParsingSettings) -> None:
    """Part every frame into head, neck, torso and background.

    Raises:
        BadInput: An input is missing or damaged, frames and landmarks differ, no frame has a face, or the asked
            model's file is not there.
    """
    landmarks = Landmarks.load(inputs.landmarks)
    with Archive(inputs.frames) as archive:
        count = count_frames(archive)
        if count != len(landmarks.found):
            raise BadInput(
                f"{inputs.frames} has {count} frames, {inputs.landmarks} {len(landmarks.found)}",
                hint="run the stages frames and landmarks again",
            )
        heads = head_frames(landmarks.points, landmarks.found, landmarks.size_px)
        clip = sample_clip(archive, heads, settings.working_size_px)
    report("parsing", 0, count)
    parser = PARSERS[choose_parser(settings.model)](clip)
    work = partial(parse_chunk, inputs.frames, parser, settings.working_size_px)
    jobs = [
        ChunkJob(stretch, first := max(stretch.start - _TIME_RADIUS, 0), heads[first : stretch.stop + _TIME_RADIUS])
        for stretch in chunks(count)
    ]
    with atomic_path(outputs.parsing) as temporary, ArchiveWriter(temporary) as writer:
        done = 0
        for pngs in map_chunks(work, jobs):
            for png in pngs:
                writer.add(frame_name(done, ".png"), png)
                done += 1
            report("parsing", done, count)


def sample_clip(archive: Archive, heads: list[HeadFrame], size_px: int) -> list[ClipFrame]:
    """Small frames spread over the clip, with their heads, for a parser to learn from."""
    indices = np.unique(np.linspace(0, len(heads) - 1, min(_SAMPLES, len(heads))).round().astype(int))
    return [(_small(load_rgb(archive, int(index)), size_px), heads[index]) for index in indices]


@dataclass(frozen=True)
class ChunkJob:
    """Consecutive frames to parse.

    Attributes:
        stretch: The frames wanted.
        first: The first frame to look at; a few before and after those wanted are looked at too.
        heads: Where the head is in the frames to look at, from ``first`` on.
    """

    stretch: range
    first: int
    heads: list[HeadFrame]


def parse_chunk(frames: Path, parser: Parser, size_px: int, job: ChunkJob) -> list[bytes]:
    """Class maps of consecutive frames, as PNG.

    Args:
        frames: The frames' archive.
        parser: Says what each pixel is made of.
        size_px: Side at which it works.
        job: Which frames.
    """
    pngs: list[bytes] = []
    with Archive(frames) as archive:
        guides: dict[int, UInt8] = {}

        def moments() -> Iterator[Moment]:
            for index, head in enumerate(job.heads, start=job.first):
                rgb = load_rgb(archive, index)
                guides[index] = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
                small = _small(rgb, size_px)
                yield Moment(index, small, parser.shares(small, head))

        for moment in blend_over_time(moments(), _TIME_RADIUS):
            guide = guides.pop(moment.index)
            if moment.index in job.stretch:
                pngs.append(encode_png(_label(moment, guide, job.heads[moment.index - job.first])))
    return pngs


def _label(moment: Moment, guide: UInt8, head: HeadFrame) -> UInt8:
    small_guide = luminance(moment.rgb)
    radius = max(1, round(_EDGE_RADIUS * len(small_guide)))
    full_guide = guide.astype(np.float32) / 255
    hair, skin, cloth = cv2.split(
        guided_upsample(full_guide, small_guide, moment.shares[..., 1:], radius, _EDGE_EPSILON)
    )
    # The filter is linear and keeps constants: what is left of 1 is the fourth share, filtered.
    return label_frame(np.asarray(cv2.merge([1 - hair - skin - cloth, hair, skin, cloth]), np.float32), head)


def _small(rgb: UInt8, size_px: int) -> UInt8:
    return np.asarray(cv2.resize(rgb, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)

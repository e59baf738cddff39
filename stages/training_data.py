"""From a prepared subject's files to the tensors that training sees, by way of a rebuildable memory map."""

from __future__ import annotations

import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radnerf.camera import Camera
from stages import progress
from stages.archive import Archive
from stages.atomic_files import load_json, save_json
from stages.errors import BadInput, RadnerfError
from stages.formats import HEAD, Track
from stages.vision.canonical_face import vertices_cm
from stages.vision.clip import load_grey, load_rgb
from stages.vision.face_measures import LEFT_EYE, LIP_INDICES, RIGHT_EYE
from stages.vision.images import decode_rgb

Bytes = npt.NDArray[np.uint8]

_CACHE_VERSION = 1
_CHANNELS = {"truth": 3, "behind": 3, "torso": 4, "head": 1}


def first_held_out(frames: int) -> int:
    """The first frame that is kept for testing: the last 1/11 of the frames is.

    Args:
        frames: Frames of the clip.

    Returns:
        Number of the first held-out frame.
    """
    return math.ceil(frames * 10 / 11)


def camera_of(track: Track) -> Camera:
    """The camera of a prepared clip, at the size of its frames."""
    return Camera(track.focal_px, track.centre_x_px, track.centre_y_px, track.size_px, track.size_px)


def resize(picture: Bytes, size_px: int) -> Bytes:
    """Scale a square picture: area average when it shrinks, cubic when it grows."""
    if picture.shape[0] == size_px:
        return picture
    method = cv2.INTER_AREA if size_px < picture.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (size_px, size_px), interpolation=method), dtype=np.uint8)


@dataclass(frozen=True)
class LayerFiles:
    """Where the pictures of a prepared clip lie."""

    layers: Path
    parsing: Path
    background: Path


@dataclass(frozen=True)
class Pictures:
    """The pictures of one frame, S x S.

    Attributes:
        truth: (S, S, 3) uint8, the true frame over the static background.
        behind: (S, S, 3) uint8, the true torso over the static background.
        torso: (S, S, 4) uint8, the torso layer's colour and alpha.
        head: (S, S, 1) uint8, 255 times the share of a pixel that is head.
    """

    truth: Bytes
    behind: Bytes
    torso: Bytes
    head: Bytes


class LayerReader:
    """Reads the pictures of single frames at any size."""

    def __init__(self, files: LayerFiles, size_px: int) -> None:
        """Open the archives.

        Args:
            files: Where they lie.
            size_px: Side of the pictures that are given out.
        """
        self.files, self.size_px = files, size_px
        self._layers, self._parsing = Archive(files.layers), Archive(files.parsing)
        background = decode_rgb(files.background.read_bytes(), files.background)
        self.background = resize(background, size_px)

    def read(self, index: int) -> Pictures:
        """The pictures of a frame.

        Args:
            index: Frame number.

        Raises:
            BadInput: The archive lacks the frame or holds a damaged one.
        """
        truth, colour = load_rgb(self._layers, index, ".truth.jpg"), load_rgb(self._layers, index, ".torso.jpg")
        alpha, classes = load_grey(self._layers, index, ".torso.png"), load_grey(self._parsing, index)
        size = self.size_px
        head = resize(((classes == HEAD) * np.uint8(255)).astype(np.uint8), size)
        alpha, colour = resize(alpha, size), resize(colour, size)
        share = alpha[..., None].astype(np.float32) / 255
        behind = np.rint(share * colour + (1 - share) * self.background).astype(np.uint8)
        return Pictures(resize(truth, size), behind, np.dstack([colour, alpha]), head[..., None])


@dataclass(frozen=True)
class PictureMaps:
    """Memory maps of a whole clip's pictures; see ``Pictures`` for what each holds.

    Attributes:
        truth: (N, S, S, 3) uint8.
        behind: (N, S, S, 3) uint8.
        torso: (N, S, S, 4) uint8.
        head: (N, S, S) uint8.
    """

    truth: Tensor
    behind: Tensor
    torso: Tensor
    head: Tensor


def _stamp(files: LayerFiles, frames: int) -> dict[str, object]:
    """What a cache was built from; another stamp means that it is stale."""
    read = (files.layers, files.parsing, files.background)
    stats = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in read}
    return {"version": _CACHE_VERSION, "frames": frames, **stats}


def picture_maps(files: LayerFiles, frames: int, size_px: int, cache: Path) -> PictureMaps:
    """Map the clip's pictures into memory, building the cache when it is missing or stale.

    Args:
        files: Where the pictures lie.
        frames: How many there are.
        size_px: Side of the pictures.
        cache: Folder of rebuildable files.

    Returns:
        The maps; copy-on-write, so that nothing can damage the cache.
    """
    folder = cache / f"pictures-{size_px}"
    stamp = _stamp(files, frames)
    try:
        fresh = load_json(folder / "stamp.json") == stamp
    except BadInput:
        fresh = False
    if not fresh:
        _build(files, frames, size_px, folder)
        save_json(folder / "stamp.json", stamp)
    maps = {name: torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in _CHANNELS}
    return PictureMaps(maps["truth"], maps["behind"], maps["torso"], maps["head"][..., 0])


def _build(files: LayerFiles, frames: int, size_px: int, folder: Path) -> None:
    """Write the memory maps, two frames at a time."""
    needed = frames * size_px * size_px * sum(_CHANNELS.values())
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BadInput(
            f"the training cache needs {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free",
            hint="free some space or train at a smaller head.size_px",
        )
    (folder / "stamp.json").unlink(missing_ok=True)
    maps = {
        name: np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=(frames, size_px, size_px, channels)
        )
        for name, channels in _CHANNELS.items()
    }
    for name, channels in _CHANNELS.items():
        _reserve(folder / f"{name}.npy", frames * size_px * size_px * channels)
    with ThreadPoolExecutor(max_workers=2) as pool:
        readers = [LayerReader(files, size_px) for _ in range(2)]

        def fill(index: int, reader: LayerReader) -> None:
            pictures = reader.read(index)
            for name, values in maps.items():
                values[index] = getattr(pictures, name)

        def fill_half(which: int) -> None:
            for index in range(which, frames, 2):
                fill(index, readers[which])
                if which == 0:
                    progress.report("training pictures", min(index + 2, frames), frames)

        for finished in [pool.submit(fill_half, which) for which in range(2)]:
            finished.result()
    for values in maps.values():
        values.flush()


def _reserve(path: Path, content_bytes: int) -> None:
    """Take a map's room on the disk now: a full disk met while writing into the map would kill the process.

    Raises:
        RadnerfError: There is too little.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(content_bytes, path.stat().st_size))
    except OSError as error:
        raise RadnerfError(
            f"cannot write {path}: {error.strerror}", hint="free some space or train at a smaller head.size_px"
        ) from error


def head_boxes(head: Tensor, margin: float = 0.04) -> Tensor:
    """Bounding box of the head in every frame, with a margin of background.

    Args:
        head: (N, S, S) uint8, 255 times the share that is head.
        margin: Of the picture's side.

    Returns:
        (N, 4) int64, left, top, right, bottom; right and bottom excluded. The whole picture where there is no head.
    """
    size = head.shape[1]
    extra = max(1, round(margin * size))
    boxes = torch.empty(len(head), 4, dtype=torch.int64)
    for index, mask in enumerate(head):
        rows = torch.nonzero((mask > 127).any(1)).flatten()
        columns = torch.nonzero((mask > 127).any(0)).flatten()
        if len(rows) == 0:
            boxes[index] = torch.tensor([0, 0, size, size])
            continue
        edges = [columns[0] - extra, rows[0] - extra, columns[-1] + 1 + extra, rows[-1] + 1 + extra]
        boxes[index] = torch.stack(edges).clamp(0, size)
    return boxes


def part_boxes(track: Track, camera: Camera, landmarks: tuple[int, ...], grow: float, grow_down: float) -> Tensor:
    """Box around landmarks of the rigid face in every frame.

    Args:
        track: Poses and this face's shape.
        camera: At the pictures' size.
        landmarks: Which of the 468.
        grow: Margin on all sides over the box's width.
        grow_down: Further margin below over the box's width, for a jaw that opens.

    Returns:
        (N, 4) int64, left, top, right, bottom inside the picture; at least one pixel wide and high.
    """
    index = torch.tensor(landmarks)
    points = (torch.from_numpy(np.array(vertices_cm)) + torch.from_numpy(track.shape_offset_cm))[index]
    rotation, translation = torch.from_numpy(track.rotation), torch.from_numpy(track.translation)
    pixels = camera.project(points.float()[None], rotation[:, None], translation[:, None])
    low, high = pixels.amin(1), pixels.amax(1)
    width = high[:, :1] - low[:, :1]
    low = (low - grow * width).floor()
    high = (high + grow * width + torch.tensor([0.0, grow_down]) * width).ceil()
    low = low.clamp(0, camera.width_px - 1)
    high = torch.maximum(high.clamp(1, camera.width_px), low + 1)
    return torch.cat([low, high], dim=1).long()


def mouth_boxes(track: Track, camera: Camera) -> Tensor:
    """Box around the lips in every frame, (N, 4) int64; see ``part_boxes``."""
    return part_boxes(track, camera, tuple(LIP_INDICES), 0.2, 0.25)


def eyes_boxes(track: Track, camera: Camera) -> Tensor:
    """Box around both eyes in every frame, (N, 4) int64; see ``part_boxes``."""
    return part_boxes(track, camera, (*LEFT_EYE, *RIGHT_EYE), 0.08, 0.0)

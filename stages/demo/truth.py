"""How far what was tracked, parsed or rendered is from the truth that comes with the demo subject's video."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stages.errors import BadInput

Floats = NDArray[np.float64]
UInt8 = NDArray[np.uint8]
Reals = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What ``make_demo_video`` wrote beside the video, but for the class maps, which stay on disk.

    Attributes:
        path: The npz.
        rotation: (N, 3, 3), head to camera.
        lip_opening_cm, lip_width_cm: (N,), in the head.
        eye_openness: (N,) in [0, 1].
        brow: (N,) in [-1, 1], lowered to raised.
        blink_frames: (B,) int64, the middle of each blink.
    """

    path: Path
    rotation: Floats
    lip_opening_cm: Floats
    lip_width_cm: Floats
    eye_openness: Floats
    brow: Floats
    blink_frames: NDArray[np.int64]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a truth.

        Raises:
            BadInput: The file is missing or none.
        """
        names = ("rotation", "lip_opening_cm", "lip_width_cm", "eye_openness", "brow", "blink_frames")
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return cls(path, *(stored[name] for name in names))
        except FileNotFoundError as error:
            raise BadInput(f"{path} is missing", hint="make the demo's video again") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(f"{path} is no demo's truth: {error}", hint="make the demo's video again") from error

    def class_maps(self) -> Iterator[UInt8]:
        """Every frame's class map in turn, (S, S) uint8, one in memory at a time."""
        with zipfile.ZipFile(self.path) as archive, archive.open("classes.npy") as stream:
            np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)  # type: ignore[no-untyped-call]
            for _ in range(shape[0]):
                yield np.frombuffer(stream.read(shape[1] * shape[2]), dtype).reshape(shape[1:])


def rotation_errors_deg(tracked: Reals, true: Reals) -> Floats:
    """How far each frame's rotation, relative to the other frames', is from the truth.

    The tracker's head frame may be turned against the true one by a constant: that turn is found and taken out.

    Args:
        tracked: (N, 3, 3), head to camera.
        true: (N, 3, 3), head to camera.

    Returns:
        (N,) degrees.
    """
    between = Rotation.from_matrix(true.astype(np.float64).transpose(0, 2, 1) @ tracked.astype(np.float64))
    errors: Floats = np.degrees((between * between.mean().inv()).magnitude())
    return errors


def overlap(ours: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks (H, W); 1 when both are empty."""
    union = int((ours | true).sum())
    return 1.0 if union == 0 else int((ours & true).sum()) / union


def cropped(labels: UInt8, crop: tuple[int, int, int], size_px: int) -> UInt8:
    """A class map as the prepared frames show it.

    Args:
        labels: (S, S) uint8, of the whole picture.
        crop: x, y and side of the square that was cut out, px; it may reach beyond the picture.
        size_px: Side of the prepared frames.

    Returns:
        (size_px, size_px) uint8; 0 (background) beyond the picture.
    """
    x, y, side = crop
    matrix = np.array([[size_px / side, 0, -x * size_px / side], [0, size_px / side, -y * size_px / side]])
    # From pixel edges, which the crop counts in, to pixel centres, which warpAffine does.
    matrix[:, 2] += 0.5 * (size_px / side - 1)
    return np.asarray(cv2.warpAffine(labels, matrix, (size_px, size_px), flags=cv2.INTER_NEAREST), np.uint8)


def boundary_distances_px(ours: NDArray[np.bool_], true: NDArray[np.bool_]) -> Floats:
    """How far each pixel along our mask's edge is from the true edge, px; empty where a mask has no edge."""
    edges = [
        cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) for mask in (ours, true)
    ]
    if not all(edge.any() for edge in edges):
        return np.zeros(0)
    away = cv2.distanceTransform(1 - edges[1], cv2.DIST_L2, 5)
    distances: Floats = away[edges[0] > 0].astype(np.float64)
    return distances

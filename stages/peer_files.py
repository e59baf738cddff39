"""Names and codes in the data folders of AD-NeRF, RAD-NeRF and ER-NeRF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.formats import BACKGROUND, HEAD, NECK, TORSO
from stages.vision.images import Grey, Rgb

CLASS_COLOURS = {BACKGROUND: (255, 255, 255), TORSO: (255, 0, 0), NECK: (0, 255, 0), HEAD: (0, 0, 255)}
"""RGB of each class in ``parsing/``."""

LANDMARKS_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""MediaPipe's landmarks nearest to the 68 of iBUG 300-W, which ``.lms`` files hold."""

WINDOW_ROWS = 16
"""Rows of features, 50 a second, that ``aud*.npy`` holds for a frame; the ninth begins with the frame."""

BLINK_FULL = 2.0
"""Intensity of OpenFace's AU45 at which an eye counts as shut."""

_FAR = 96.0  # squared distance of colours beyond which a pixel is none of them


@dataclass(frozen=True)
class PeerFolder:
    """The paths of such a folder."""

    root: Path

    def transforms(self, split: str) -> Path:
        """Camera and poses of the ``train`` or the ``val`` frames (JSON)."""
        return self.root / f"transforms_{split}.json"

    def picture(self, kind: str, number: int) -> Path:
        """A frame's picture: ``ori_imgs``, ``gt_imgs``, ``com_imgs`` (JPEG), ``torso_imgs``, ``parsing`` (PNG)."""
        return self.root / kind / f"{number}{'.png' if kind in ('torso_imgs', 'parsing') else '.jpg'}"

    def landmarks(self, number: int) -> Path:
        """68 landmarks of a frame, x and y in pixels (text)."""
        return self.root / "ori_imgs" / f"{number}.lms"

    @property
    def background(self) -> Path:
        """The static background."""
        return self.root / "bc.jpg"

    @property
    def sound(self) -> Path:
        """The clip's sound; second 0 is frame 0."""
        return self.root / "aud.wav"

    @property
    def action_units(self) -> Path:
        """OpenFace's table, of which AU45 tells the blinks."""
        return self.root / "au.csv"

    @property
    def track(self) -> Path:
        """The face tracker's parameters (a torch file)."""
        return self.root / "track_params.pt"


def paint_classes(classes: Grey) -> Rgb:
    """A class map as the colours of ``parsing/``."""
    palette = np.array([CLASS_COLOURS[number] for number in sorted(CLASS_COLOURS)], np.uint8)
    return np.asarray(palette[classes], np.uint8)


def read_classes(picture: Rgb) -> Grey:
    """The inverse of ``paint_classes``, to the nearest colour; ``ValueError`` when a pixel is far from all of them."""
    numbers = sorted(CLASS_COLOURS)
    pixels = picture.astype(np.float32)[..., None, :] - np.array([CLASS_COLOURS[n] for n in numbers], np.float32)
    distance = (pixels**2).sum(-1)
    if float(distance.min(-1).max()) > _FAR**2:
        raise ValueError("a pixel is none of the four colours")
    return np.asarray(distance.argmin(-1), np.uint8)


def windows_of(values: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Features as ``aud_ds.npy`` holds them.

    Args:
        values: (T, C) float32, 50 rows a second.
        frames: Of the clip.

    Returns:
        (frames, 16, C) float32; zero beyond both ends.
    """
    half = WINDOW_ROWS // 2
    padded = np.pad(values, ((half, max(0, 2 * frames + half - len(values))), (0, 0)))
    return np.stack([padded[2 * frame : 2 * frame + WINDOW_ROWS] for frame in range(frames)])


def rows_of(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of ``windows_of``: (frames, 16, C) to (2 * frames, C)."""
    half = WINDOW_ROWS // 2
    return np.ascontiguousarray(windows[:, half : half + 2].reshape(-1, windows.shape[2]), dtype=np.float32)

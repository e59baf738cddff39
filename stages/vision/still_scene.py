"""The still scene behind the person: seen pixels from a temporal median, the rest filled in."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stages.vision.median import masked_median
from stages.vision.push_pull import fill

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_HALO = 1 / 40  # of the frame's side, kept clear around the person: hair, soft edges, shadow
_LEAST_FRAMES = 3  # a pixel seen less often may hold what moved there
_FILL_SIZE_PX = 256
_SWEEPS = 24
_SIDEWAYS = 3.0  # shelves, horizons and walls run sideways more often than not


def still_scene(pictures: UInt8, people: npt.NDArray[np.bool_]) -> tuple[UInt8, Float32]:
    """The scene without the person.

    Args:
        pictures: (N, H, W, 3) uint8, frames spread over the clip.
        people: (N, H, W) bool, where the person is.

    Returns:
        (H, W, 3) uint8 scene and (H, W) float32 in [0, 1], 1 where it was seen and 0 where it is made up.
    """
    reach = max(1, round(_HALO * people.shape[1]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    free = np.stack([cv2.dilate(mask.astype(np.uint8), kernel) == 0 for mask in people])
    median, count = masked_median(pictures, free)
    seen = (count >= min(_LEAST_FRAMES, len(pictures))).astype(np.float32)
    if seen.all():
        return median, seen
    return np.where(seen[:, :, None] > 0, median, fill_scene(median, seen)), seen


def fill_scene(scene: UInt8, seen: Float32) -> UInt8:
    """Make up the part of the scene that was never seen, from what is around it.

    Smooth, and stretched sideways, as most rooms are; structure at the hole's edge runs on a little way into it.

    Args:
        scene: (H, W, 3) uint8.
        seen: (H, W) float32, 1 where the scene is known.
    """
    height, width = seen.shape
    factor = min(1.0, _FILL_SIZE_PX / height)
    size = (max(2, round(width * factor)), max(2, round(height * factor)))
    weight = cv2.resize(seen, size, interpolation=cv2.INTER_AREA)
    colour = scene.astype(np.float32) * seen[:, :, None]
    small = cv2.resize(colour, size, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-6)[:, :, None]
    known = (weight > 0.5).astype(np.float32)
    smooth = fill(small.astype(np.float32), known, _SWEEPS, _SIDEWAYS)
    hole = (known == 0).astype(np.uint8)
    rough = cv2.inpaint(np.clip(smooth * known[:, :, None], 0, 255).astype(np.uint8), hole, 3, cv2.INPAINT_TELEA)
    # Near the edge inpainting carries lines on; far inside it only smears them.
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)
    near = np.exp(-0.5 * (depth / (0.03 * size[1])) ** 2)[:, :, None]
    made = cv2.resize(near * rough + (1 - near) * smooth, (width, height), interpolation=cv2.INTER_CUBIC)
    # What the two disagree on at the seam is spread over the hole, so that no edge is left.
    error = fill((colour - made) * seen[:, :, None], seen)
    grain = np.clip(made + error, 0, 255)
    return np.asarray(np.round(grain), np.uint8)

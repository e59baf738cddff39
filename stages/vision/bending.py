"""How a body bends from frame to frame: a smooth displacement, measured by bringing its usual picture onto each."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from radnerf.sway import NODES, influence
from stages.vision.registration import body_shift

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_TEMPLATE_FRAMES = 60
_SOLID = 250  # of 255: the torso's alpha where nothing of the background shines through
_FILLED = 24  # of 255: a torso further than this from the frame was filled in
_SMOOTHING_PX = 1.0
_ROUNDS = 6
_STILL_PX = 0.05  # a round that moves nothing further than this is the last
_NOISE = 3.0  # of 255: by how much a picture may differ from the usual one where nothing moved
_SPREAD = 0.018  # of the picture's side: by how much neighbouring control points differ, where nothing is seen of them
_FARTHEST = 0.3  # of the picture's side
_LEAST_PIXELS = 60
_LEAST_GAIN = 0.2


def body_sway(read: Callable[[int], tuple[UInt8, UInt8]], count: int, train: npt.NDArray[np.int64]) -> Float32:
    """How the body is displaced from its usual place in every frame of a clip.

    Args:
        read: Gives a frame by its number, (S, S, 3) uint8 RGB, and its torso layer, (S, S, 4) uint8, colour and alpha.
        count: Frames of the clip, N.
        train: (F,) int64, the frames that the usual place is taken from.

    Returns:
        (N, 3, 3, 2) float32, control points (see ``radnerf.sway``); between frames of which something certain can be
        said it passes evenly, and without any such frame it is zero.
    """
    some = [int(index) for index in train[:: max(1, len(train) // _TEMPLATE_FRAMES)]]
    usual = np.median(np.stack([read(index)[1][..., :3] for index in some]), axis=0)
    template = _smoothed(usual.astype(np.float32) @ _LUMA)
    # The frames brought back to their usual place make a sharper picture of it.
    stilled = []
    for index in some:
        grey, mask = _shown(*read(index))
        control = body_bend(template, grey, mask)
        stilled.append(grey if control is None else bent(grey, -control))
    template = np.median(np.stack(stilled), axis=0)
    found = [body_bend(template, *_shown(*read(index))) for index in range(count)]
    certain = [index for index, control in enumerate(found) if control is not None]
    if not certain:
        return np.zeros((count, NODES, NODES, 2), np.float32)
    known = np.stack([control.reshape(-1) for control in found if control is not None])
    numbers = [np.interp(np.arange(count), certain, column) for column in known.T]
    return np.stack(numbers, axis=1).reshape(count, NODES, NODES, 2).astype(np.float32)


def bent(picture: npt.NDArray[Scalar], control: Float32) -> npt.NDArray[Scalar]:
    """A picture displaced: what is seen at a place comes from the place less the displacement there.

    Args:
        picture: (S, S) or (S, S, C).
        control: (3, 3, 2) float32, control points (see ``radnerf.sway``).
    """
    size = len(picture)
    moved = size * (_influence(size) @ control.reshape(NODES * NODES, 2)).reshape(size, size, 2)
    pixels = np.arange(size, dtype=np.float32)
    across, down = pixels[None] - moved[..., 0], pixels[:, None] - moved[..., 1]
    result: npt.NDArray[Scalar] = cv2.remap(picture, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return result


def body_bend(template: Float32, grey: Float32, mask: UInt8) -> Float32 | None:
    """The displacement that brings a template onto a picture: least squares, step by step (Lucas and Kanade, 1981).

    The light may differ by a factor and a constant. Control points that nothing is seen of follow their neighbours.

    Args:
        template: (S, S) float32, luminance, 0 to 255.
        grey: (S, S) float32, luminance of the picture.
        mask: (S, S) uint8, 1 where the picture shows the body.

    Returns:
        (3, 3, 2) float32, control points (see ``radnerf.sway``); None where nothing certain can be said.
    """
    size, points = len(grey), NODES * NODES
    shift = body_shift(template, grey, mask)
    if not shift.any():
        return None
    inner = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
    # Every other row and column tells enough: the pictures are smooth.
    inner[1::2] = inner[:, 1::2] = False
    if np.count_nonzero(inner) < _LEAST_PIXELS:
        return np.broadcast_to(shift, (NODES, NODES, 2)).astype(np.float32)
    weights = _influence(size)[inner.reshape(-1)].astype(np.float64)
    prior = np.zeros((2 * points + 2, 2 * points + 2))
    prior[:points, :points] = prior[points:-2, points:-2] = _likeness_of_neighbours()
    seen = grey[inner].astype(np.float64)
    control = np.tile(shift.astype(np.float64), (points, 1))
    for _ in range(_ROUNDS):
        moved = bent(template, control.reshape(NODES, NODES, 2).astype(np.float32))
        slopes = (cv2.Sobel(moved, cv2.CV_32F, *axis, scale=size / 8)[inner][:, None] for axis in ((1, 0), (0, 1)))
        light = np.stack([moved[inner], np.ones_like(seen)], axis=1)
        # At x, the template displaced by d + e is moved(x) - slope(x) . e.
        change = np.concatenate([*(-weights * slope for slope in slopes), light], axis=1) / _NOISE
        pull = -prior @ np.concatenate([control.T.reshape(-1), [0.0, 0.0]])
        # The ridge, far below any picture's slopes, keeps a picture without texture solvable.
        system = change.T @ change + prior + 1e-6 * np.eye(len(prior))
        solved = np.linalg.solve(system, change.T @ (seen / _NOISE) + pull)
        step = solved[:-2].reshape(2, points).T / max(solved[-2], _LEAST_GAIN)
        control += step
        if np.abs(step).max() * size < _STILL_PX:
            break
    if np.abs(control).max() > _FARTHEST:
        return np.broadcast_to(shift, (NODES, NODES, 2)).astype(np.float32)
    return control.reshape(NODES, NODES, 2).astype(np.float32)


@lru_cache(maxsize=2)
def _influence(size: int) -> Float32:
    """How much each control point moves each pixel, (S * S, 9)."""
    along = (torch.arange(size) + 0.5) / size
    down, across = torch.meshgrid(along, along, indexing="ij")
    result: Float32 = influence(torch.stack([across, down], dim=-1)).reshape(-1, NODES * NODES).numpy()
    return result


def _likeness_of_neighbours() -> Float64:
    """(9, 9), how surely neighbouring control points move alike."""
    numbers = np.arange(NODES * NODES).reshape(NODES, NODES)
    pairs = [*zip(numbers[:, :-1].flat, numbers[:, 1:].flat), *zip(numbers[:-1].flat, numbers[1:].flat)]  # noqa: B905
    matrix = np.zeros((NODES * NODES, NODES * NODES))
    for one, other in pairs:
        matrix[[one, other], [one, other]] += 1
        matrix[[one, other], [other, one]] -= 1
    return matrix / _SPREAD**2


def _shown(picture: UInt8, layer: UInt8) -> tuple[Float32, UInt8]:
    """A torso layer's smoothed luminance, and where the frame itself shows it: under the head it is filled in."""
    shown = np.abs(picture.astype(np.int16) - layer[..., :3]).max(2) < _FILLED
    mask = ((layer[..., 3] >= _SOLID) & shown).astype(np.uint8)
    return _smoothed(layer[..., :3].astype(np.float32) @ _LUMA), mask


def _smoothed(grey: Float32) -> Float32:
    result: Float32 = cv2.GaussianBlur(grey, (0, 0), _SMOOTHING_PX)
    return result

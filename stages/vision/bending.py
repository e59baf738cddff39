"""How a body bends from frame to frame: a smooth displacement, measured by bringing its usual picture onto each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
_EDGE_NOISE = 24.0  # of 255: the same for the body's alpha
_EDGE_SMOOTHING_PX = 1.5
_EDGE_MARGIN_PX = 9  # around the outline, in which it is looked for; and beside the head, where it is not known
_SPREAD = 0.018  # of the picture's side: by how much neighbouring control points differ, where nothing is seen of them
_FARTHEST = 0.3  # of the picture's side
_LEAST_PIXELS = 60
_LEAST_GAIN = 0.2


@dataclass(frozen=True)
class Layer:
    """What a frame shows of a body.

    Attributes:
        grey: (S, S) float32, luminance, 0 to 255, smoothed.
        shown: (S, S) uint8, 1 where the frame shows the body, and nothing of the background shines through.
        alpha: (S, S) float32, the body's share of a pixel, 0 to 255, smoothed.
        known: (S, S) uint8, 1 where the alpha is seen and not filled in under the head.
    """

    grey: Float32
    shown: UInt8
    alpha: Float32
    known: UInt8


def seen_layer(picture: UInt8, behind: UInt8, layer: UInt8) -> Layer:
    """What can be told of a body from a frame and its torso layer.

    Args:
        picture: (S, S, 3) uint8 RGB, the frame.
        behind: (S, S, 3) uint8 RGB, the torso layer over the background.
        layer: (S, S, 4) uint8, the torso layer's colour and alpha.
    """
    shown = (layer[..., 3] >= _SOLID) & (_apart(picture, layer[..., :3]) < _FILLED)
    head = (_apart(picture, behind) >= _FILLED).astype(np.uint8)
    # A stray pixel is noise; a head is not.
    head = cv2.morphologyEx(head, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    beside = cv2.dilate(head, np.ones((_EDGE_MARGIN_PX, _EDGE_MARGIN_PX), np.uint8))
    return Layer(
        grey=_smoothed(layer[..., :3].astype(np.float32) @ _LUMA, _SMOOTHING_PX),
        shown=shown.astype(np.uint8),
        alpha=_smoothed(layer[..., 3].astype(np.float32), _EDGE_SMOOTHING_PX),
        known=(1 - beside).astype(np.uint8),
    )


def body_sway(read: Callable[[int], Layer], count: int, train: npt.NDArray[np.int64]) -> Float32:
    """How the body is displaced from its usual place in every frame of a clip.

    Args:
        read: Gives what is seen of the body in a frame, by its number.
        count: Frames of the clip, N.
        train: (F,) int64, the frames that the usual place is taken from.

    Returns:
        (N, 3, 3, 2) float32, control points (see ``radnerf.sway``); between frames of which something certain can be
        said it passes evenly, and without any such frame it is zero.
    """
    some = [read(int(index)) for index in train[:: max(1, len(train) // _TEMPLATE_FRAMES)]]
    usual = _usual(some)
    # The frames brought back to their usual place make a sharper picture of it.
    controls = [body_bend(usual, seen) for seen in some]
    pairs = zip(some, controls, strict=True)
    usual = _usual([seen if control is None else _brought_back(seen, control) for seen, control in pairs])
    found = [body_bend(usual, read(index)) for index in range(count)]
    certain = [index for index, control in enumerate(found) if control is not None]
    if not certain:
        return np.zeros((count, NODES, NODES, 2), np.float32)
    known = np.stack([control.reshape(-1) for control in found if control is not None])
    numbers = [np.interp(np.arange(count), certain, column) for column in known.T]
    return np.stack(numbers, axis=1).reshape(count, NODES, NODES, 2).astype(np.float32)


def _usual(layers: Sequence[Layer]) -> Layer:
    """The usual picture of a body, each pixel's median."""
    grey, alpha = (
        np.median(np.stack([getattr(layer, name) for layer in layers]), axis=0) for name in ("grey", "alpha")
    )
    return Layer(grey, layers[0].shown, alpha, layers[0].known)


def _brought_back(layer: Layer, control: Float32) -> Layer:
    return replace(layer, grey=bent(layer.grey, -control), alpha=bent(layer.alpha, -control))


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


def body_bend(usual: Layer, seen: Layer) -> Float32 | None:
    """The displacement that brings a body's usual picture onto a frame: least squares, step by step.

    As Lucas and Kanade, 1981. Cloth is told by luminance, which may differ by a factor and a constant, the outline by
    alpha: a dark shoulder has nothing else to show. Control points that nothing is seen of follow their neighbours.

    Args:
        usual: The usual picture; its luminance and alpha count.
        seen: The frame's.

    Returns:
        (3, 3, 2) float32, control points (see ``radnerf.sway``); None where nothing certain can be said.
    """
    size, points = len(seen.grey), NODES * NODES
    shift = body_shift(usual.grey, seen.grey, seen.shown)
    if not shift.any():
        return None
    inner = cv2.erode(seen.shown, np.ones((5, 5), np.uint8)) > 0
    # Every other row and column tells enough: the pictures are smooth.
    inner[1::2] = inner[:, 1::2] = False
    if np.count_nonzero(inner) < _LEAST_PIXELS:
        return np.broadcast_to(shift, (NODES, NODES, 2)).astype(np.float32)
    # The ridge, far below any picture's slopes, keeps a picture without texture solvable.
    prior = 1e-6 * np.eye(2 * points + 2)
    prior[:points, :points] += _likeness_of_neighbours()
    prior[points:-2, points:-2] += _likeness_of_neighbours()
    control = np.tile(shift.astype(np.float64), (points, 1))
    for _ in range(_ROUNDS):
        grid = control.reshape(NODES, NODES, 2).astype(np.float32)
        cloth, outline = bent(usual.grey, grid), bent(usual.alpha, grid)
        system, pull = prior.copy(), -prior @ np.concatenate([control.T.reshape(-1), [0.0, 0.0]])
        light = np.stack([cloth[inner], np.ones(np.count_nonzero(inner))], axis=1)
        edge = _edge(outline, seen)
        for moved, where, given, wanted, noise in (
            (cloth, inner, light, seen.grey[inner], _NOISE),
            (outline, edge, np.zeros((np.count_nonzero(edge), 2)), (seen.alpha - outline)[edge], _EDGE_NOISE),
        ):
            change = np.concatenate([_change(moved, where), given], axis=1) / noise
            system += change.T @ change
            pull += change.T @ (wanted / noise)
        solved = np.linalg.solve(system, pull)
        step = solved[:-2].reshape(2, points).T / max(solved[-2], _LEAST_GAIN)
        control += step
        if np.abs(step).max() * size < _STILL_PX:
            break
    if np.abs(control).max() > _FARTHEST:
        return np.broadcast_to(shift, (NODES, NODES, 2)).astype(np.float32)
    return control.reshape(NODES, NODES, 2).astype(np.float32)


def _change(moved: Float32, where: npt.NDArray[np.bool_]) -> Float64:
    """How the pixels of a displaced picture change with each control point, across and down, (N, 18)."""
    weights = _influence(len(moved))[where.reshape(-1)].astype(np.float64)
    # At x, the picture displaced by d + e is moved(x) - slope(x) . e.
    slopes = (cv2.Sobel(moved, cv2.CV_32F, *axis, scale=len(moved) / 8)[where][:, None] for axis in ((1, 0), (0, 1)))
    return np.concatenate([-weights * slope for slope in slopes], axis=1)


def _edge(outline: Float32, seen: Layer) -> npt.NDArray[np.bool_]:
    """(S, S), where a body's outline is and where it is thought to be, as far as it is known; of four pixels one."""
    edges = [((alpha > 25) & (alpha < 230)).astype(np.uint8) for alpha in (outline, seen.alpha)]
    near = cv2.dilate(edges[0] | edges[1], np.ones((_EDGE_MARGIN_PX, _EDGE_MARGIN_PX), np.uint8))
    where: npt.NDArray[np.bool_] = (near & seen.known) > 0
    where[1::2] = where[:, 1::2] = False
    return where


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


def _apart(one: UInt8, other: UInt8) -> npt.NDArray[np.int16]:
    """How far two pictures differ in their most different channel, (S, S)."""
    result: npt.NDArray[np.int16] = np.abs(one.astype(np.int16) - other).max(2)
    return result


def _smoothed(picture: Float32, sigma_px: float) -> Float32:
    result: Float32 = cv2.GaussianBlur(picture, (0, 0), sigma_px)
    return result

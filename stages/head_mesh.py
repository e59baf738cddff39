"""The head as a mesh with colours, for programs that know no radiance fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from radnerf.head import Condition
from radnerf.model import HeadModel
from stages import progress
from stages.atomic_files import atomic_path
from stages.errors import BadInput
from stages.provenance import NOTICE
from stages.surface_nets import surface_nets

SURFACE_PER_CM = 1.7
"""Density at which the surface is taken: half of the light is gone after 0.4 cm of it."""

_POINTS_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour at each vertex.

    Attributes:
        vertices: (V, 3) float32, cm, in the head's frame: x to the image's right, y up, z out of the face.
        normals: (V, 3) float32, unit, outwards.
        colours: (V, 3) uint8 RGB.
        faces: (F, 3) int64, counter-clockwise seen from outside.
    """

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.uint8]
    faces: NDArray[np.int64]


def at_rest(head: HeadModel) -> Condition:
    """What a head looks like that says nothing: lips closed where the training measured it, eyes open."""
    mouth = torch.nan_to_num(head.closed_mouth)[None]
    return head.condition(head.closed_code[None], mouth, torch.ones(1))


@torch.no_grad()
def head_mesh(head: HeadModel, condition: Condition, resolution: int, density_per_cm: float = SURFACE_PER_CM) -> Mesh:
    """The surface of a head.

    Args:
        head: The trained head.
        condition: Of one frame.
        resolution: Corners of the grid along the box's longest edge.
        density_per_cm: Where the surface is.

    Raises:
        BadInput: Nothing in the box is that dense.
    """
    low, high = head.aabb.cpu().double().numpy()
    step = float((high - low).max()) / (resolution - 1)
    counts = [math.ceil(edge / step) + 1 for edge in high - low]
    values = np.pad(_densities(head, condition, low, step, counts), 1)
    vertices, faces = surface_nets(values, density_per_cm)
    if not len(faces):
        raise BadInput(f"no part of the head is as dense as {density_per_cm:g} per cm", hint="give a smaller --density")
    vertices, faces = _largest(vertices, faces)
    world = (low + (vertices - 1) * step).astype(np.float32)
    normals = _normals(world, faces)
    return Mesh(world, normals, _colours(head, condition, world, normals), faces)


def _densities(
    head: HeadModel, condition: Condition, low: NDArray[np.float64], step: float, counts: list[int]
) -> NDArray[np.float32]:
    """Density at every corner; 0 in cells that rendering never looks at."""
    device = head.aabb.device
    axes = [
        torch.arange(count, dtype=torch.float32) * step + float(first) for count, first in zip(counts, low, strict=True)
    ]
    seen = np.zeros(counts, np.float32)
    forward = torch.tensor([[0.0, 0.0, -1.0]], device=device)
    for x in progress.track(range(counts[0]), "mesh", counts[0]):
        plane = torch.cartesian_prod(axes[0][x : x + 1], axes[1], axes[2]).to(device)
        wanted = torch.nonzero(_sampled(head, plane)).squeeze(1)
        for some in torch.split(wanted, _POINTS_AT_ONCE):
            sample = head.fields[-1](plane[some], forward.expand(len(some), -1), condition, None)
            seen[x].reshape(-1)[some.cpu().numpy()] = sample.sigma.cpu().numpy()
    return seen


def _sampled(head: HeadModel, points: Tensor) -> Tensor:
    """Whether each point lies in a cell that rendering samples."""
    size = head.mask.shape[0]
    unit = (points - head.aabb[0]) / (head.aabb[1] - head.aabb[0])
    x, y, z = (unit * size).long().clamp(0, size - 1).T
    return head.mask[x, y, z]


def _largest(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The largest connected part: specks that float beside a head are nobody's."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), (len(vertices), len(vertices)))
    _, part = connected_components(graph, directed=False)
    kept = part == np.bincount(part[faces[:, 0]]).argmax()
    number = np.cumsum(kept) - 1
    return vertices[kept], number[faces[kept[faces[:, 0]]]]


def _normals(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> NDArray[np.float32]:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    weighted = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], weighted)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(total, length, out=np.zeros_like(total), where=length > 0)
    return unit


def _colours(
    head: HeadModel, condition: Condition, vertices: NDArray[np.float32], normals: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """What each vertex looks like from the front."""
    device = head.aabb.device
    found = []
    for first in range(0, len(vertices), _POINTS_AT_ONCE):
        part = slice(first, first + _POINTS_AT_ONCE)
        # A little inside, where the colours that rendering adds up lie; from the front, as training saw it.
        points = torch.from_numpy(vertices[part] - 0.1 * normals[part]).to(device)
        views = torch.tensor([[0.0, 0.0, -1.0]], device=device).expand(len(points), -1)
        found.append(head.fields[-1](points, views, condition, None).rgb.cpu().numpy())
    return np.asarray((np.concatenate(found).clip(0, 1) * 255).round(), np.uint8)


def save_ply(path: Path, mesh: Mesh, note: str = NOTICE) -> None:
    """Write a mesh as binary PLY, atomically.

    Args:
        path: Where to.
        mesh: What.
        note: A comment in the file.
    """
    corner = np.dtype([("place", "<f4", 3), ("normal", "<f4", 3), ("colour", "u1", 3)])
    vertices = np.empty(len(mesh.vertices), corner)
    vertices["place"], vertices["normal"], vertices["colour"] = mesh.vertices, mesh.normals, mesh.colours
    faces = np.empty(len(mesh.faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    faces["count"], faces["corners"] = 3, mesh.faces
    names = [*(f"float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")), "uchar red", "uchar green", "uchar blue"]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {' '.join(note.split())}",
        "comment centimetres; x to the viewer's right, y up, z out of the face",
        f"element vertex {len(vertices)}",
        *(f"property {name}" for name in names),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(("\n".join(header) + "\n").encode("ascii", "replace"))
        stream.write(vertices.tobytes())
        stream.write(faces.tobytes())

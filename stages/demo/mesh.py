"""Meshes: smoothing by subdivision, lofts between rings, and normals."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A piece of the figure at rest.

    Attributes:
        vertices_cm: (v, 3) float64, head frame.
        triangles: (t, 3) int64, counter-clockwise from outside.
    """

    vertices_cm: Floats
    triangles: Ints


def boundary_edges(triangles: Ints) -> Ints:
    """The (e, 2) directed edges that only one triangle has, in the triangle's own direction."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    seen = {tuple(edge) for edge in edges.tolist()}
    return np.array([edge for edge in edges.tolist() if (edge[1], edge[0]) not in seen], dtype=np.int64)


def boundary_loop(triangles: Ints, through: int) -> Ints:
    """The closed boundary that passes through a vertex, in order, starting there.

    Args:
        triangles: (t, 3).
        through: A vertex on the boundary.

    Returns:
        (n,) vertex indices, each once.
    """
    follow = dict(boundary_edges(triangles).tolist())
    loop = [through]
    while (following := follow[loop[-1]]) != through:
        loop.append(following)
    return np.array(loop, dtype=np.int64)


def loop_subdivision(triangles: Ints, count: int, corners: tuple[int, ...]) -> tuple[sparse.csr_matrix, Ints]:
    """One step of Loop's subdivision (1987), as a matrix.

    Args:
        triangles: (t, 3) into ``count`` vertices; boundaries become smooth curves.
        count: Number of vertices; the new mesh keeps their order and adds one vertex an edge.
        corners: Boundary vertices that stay where they are.

    Returns:
        The (count + edges, count) matrix that makes new vertices (or attributes) from old ones, and the
        (4 t, 3) triangles.
    """
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    opposite = np.concatenate([triangles[:, 2], triangles[:, 0], triangles[:, 1]])
    unique, which = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    uses = np.bincount(which)
    across = np.zeros((len(unique), count))
    np.add.at(across, (which, opposite), 1.0)
    inner = uses == 2
    odd = np.zeros((len(unique), count))
    rows = np.arange(len(unique))
    for end in (0, 1):
        odd[rows, unique[:, end]] = np.where(inner, 3 / 8, 1 / 2)
    odd[inner] += across[inner] / 8
    even = _even_rule(unique, inner, count, corners)
    matrix = sparse.csr_matrix(np.concatenate([even, odd]))
    middle = count + which.reshape(3, -1).T
    a, b, c = triangles.T
    ab, bc, ca = middle.T
    quarters = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return matrix, np.concatenate([np.stack(quarter, axis=1) for quarter in quarters])


def _even_rule(edges: Ints, inner: NDArray[np.bool_], count: int, corners: tuple[int, ...]) -> Floats:
    neighbours = np.zeros((count, count))
    neighbours[edges[:, 0], edges[:, 1]] = neighbours[edges[:, 1], edges[:, 0]] = 1
    rim = np.zeros((count, count))
    outer = edges[~inner]
    rim[outer[:, 0], outer[:, 1]] = rim[outer[:, 1], outer[:, 0]] = 1
    valence = neighbours.sum(axis=1)
    with np.errstate(divide="ignore"):
        beta = np.where(valence == 3, 3 / 16, 3 / (8 * np.maximum(valence, 1)))
    even = neighbours * beta[:, None]
    even[np.arange(count), np.arange(count)] = 1 - valence * beta
    on_rim = rim.sum(axis=1) == 2
    even[on_rim] = rim[on_rim] / 8
    even[on_rim, on_rim.nonzero()[0]] = 3 / 4
    fixed = np.array(sorted({*corners, *np.nonzero(valence == 0)[0].tolist()}), dtype=np.int64)
    even[fixed] = 0
    even[fixed, fixed] = 1
    return np.asarray(even)


def ring_triangles(rings: Ints, *, closed: bool = True) -> Ints:
    """Triangles that join consecutive rings of vertices.

    Args:
        rings: (r, n) vertex indices; triangles face away from the side where a ring runs clockwise.
        closed: Whether the last vertex of a ring joins the first.

    Returns:
        (t, 3) int64.
    """
    following = np.roll(rings, -1, axis=1)
    a, b, c, d = rings[:-1], following[:-1], rings[1:], following[1:]
    quads = [np.stack([a, c, b], axis=-1), np.stack([b, c, d], axis=-1)]
    if not closed:
        quads = [quad[:, :-1] for quad in quads]
    return np.concatenate([quad.reshape(-1, 3) for quad in quads])


def tube(rings_cm: Floats, *, closed: bool = True) -> Part:
    """The surface through rings of points, (r, n, 3)."""
    rows, columns = rings_cm.shape[:2]
    return Part(
        rings_cm.reshape(-1, 3).astype(np.float64),
        ring_triangles(np.arange(rows * columns).reshape(rows, columns), closed=closed),
    )


def sphere(centre_cm: Floats, radii_cm: Floats, rows: int, columns: int) -> Part:
    """An ellipsoid with its poles on the z axis, so that its finest part looks at the viewer."""
    polar = np.linspace(0.02, np.pi - 0.02, rows)[:, None]
    around = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None, :]
    points = np.stack(
        [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar) * np.ones_like(around)],
        axis=-1,
    )
    return tube(centre_cm + radii_cm * points)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def vertex_normals(vertices: Floats, triangles: Ints, normals: Floats) -> None:
    """Write the area-weighted unit normal of each vertex.

    Args:
        vertices: (v, 3) float64.
        triangles: (t, 3) int64.
        normals: (v, 3) float64, overwritten.
    """
    normals[:] = 0.0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for k in range(normals.shape[0]):
        length = np.sqrt(normals[k, 0] ** 2 + normals[k, 1] ** 2 + normals[k, 2] ** 2) + 1e-12
        normals[k, 0] /= length
        normals[k, 1] /= length
        normals[k, 2] /= length

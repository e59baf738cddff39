"""How far the face reaches towards the viewer, from its mesh: where to look for its surface."""

from __future__ import annotations

import torch
from torch import Tensor


def heights(vertices: Tensor, triangles: Tensor, places: Tensor) -> Tensor:
    """Greatest z of a mesh over places of the x-y plane.

    Args:
        vertices: (V, 3) float, cm, head frame.
        triangles: (T, 3) int64.
        places: (N, 2) float, x and y in cm.

    Returns:
        (N,) float, cm; -inf where no triangle lies over a place.
    """
    result = places.new_full((len(places),), -torch.inf)
    for a, b, c in vertices[triangles]:
        edge_b, edge_c, offset = (b - a)[:2], (c - a)[:2], places - a[:2]
        area = edge_b[0] * edge_c[1] - edge_b[1] * edge_c[0]
        # A triangle seen edge-on covers nothing.
        if abs(float(area)) < 1e-9:
            continue
        share_b = (offset[:, 0] * edge_c[1] - offset[:, 1] * edge_c[0]) / area
        share_c = (offset[:, 1] * edge_b[0] - offset[:, 0] * edge_b[1]) / area
        inside = (share_b >= 0) & (share_c >= 0) & (share_b + share_c <= 1)
        z = a[2] + share_b * (b[2] - a[2]) + share_c * (c[2] - a[2])
        result = torch.where(inside, torch.maximum(result, z), result)
    return result


def near_face(points: Tensor, vertices: Tensor, triangles: Tensor, front_cm: float, depth_cm: float) -> Tensor:
    """Points where the face's visible surface may lie.

    A clip whose head hardly turns leaves the depth of its surface open, and a field would fill the whole box
    with haze. The tracked mesh knows better: over the mesh the surface lies close to it; beside it (hair, ears,
    the falling jaw) no further forward than its nearest edge, and up to a head's depth behind.

    Args:
        points: (G * G * G, 3) float, cm, head frame, the cells of a box, x slowest, z fastest.
        vertices: (V, 3) float, cm, head frame.
        triangles: (T, 3) int64.
        front_cm: How far in front of the mesh.
        depth_cm: How far behind it.

    Returns:
        (G * G * G,) bool.
    """
    size = round(len(points) ** (1 / 3))
    columns = points.reshape(size * size, size, 3)
    places = columns[:, 0, :2]
    z = heights(vertices, triangles, places)
    over = torch.isfinite(z)
    nearest = torch.cdist(places[~over], places[over]).argmin(1)
    z[~over] = z[over][nearest]
    beside_cm = 9.0
    depth = torch.where(over, depth_cm, beside_cm)
    above = columns[..., 2] - z[:, None]
    return ((above <= front_cm) & (above >= -depth[:, None])).flatten()

"""Everything around the face: skull and hair, ears, eyes, mouth, neck, and a suit. Rest shapes in the head frame."""

from __future__ import annotations

import numpy as np

from stages.demo.mesh import Floats, Ints, Part, ring_triangles, sphere, tube

SKULL_CENTRE_CM = np.array([0.0, 1.5, -4.0])
_SKULL_RINGS = 30
# depth behind the lips, how far it spreads up and down, how far it narrows
_MOUTH_RINGS = ((0.22, 0.02, 0.0), (0.6, 0.16, 0.0), (1.3, 0.9, 0.05), (2.6, 1.3, 0.2), (4.0, 0.7, 0.5))


def smoothstep(x: Floats) -> Floats:
    """0 below 0, 1 above 1, a cubic between."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))


def skull_rings(outline_cm: Floats) -> tuple[Floats, Floats, Floats]:
    """Carry the outline of the face round to the back of the head.

    Args:
        outline_cm: (n, 3), the edge of the face at rest.

    Returns:
        Rings (r, n, 3) without the outline itself, how much of each vertex is hair (r, n), and how far each ring
        still follows the outline when the face moves (r,).
    """
    share = np.linspace(0, 1, _SKULL_RINGS + 1)[1:] ** 1.25
    offset = outline_cm - SKULL_CENTRE_CM
    radius = np.linalg.norm(offset, axis=1)
    start = offset / radius[:, None]
    pole = np.array([0.0, -0.08, -1.0]) / np.hypot(0.08, 1.0)
    angle = np.arccos(np.clip(start @ pole, -1, 1))[None, :, None]
    s = share[:, None, None]
    direction = (np.sin((1 - s) * angle) * start + np.sin(s * angle) * pole) / np.sin(angle)
    axes = np.stack(
        [
            np.full(direction.shape[:2], 7.55),
            np.where(direction[..., 1] > 0, 10.2, 8.0),
            np.full(direction.shape[:2], 9.8),
        ],
        axis=-1,
    )
    ellipsoid = 1 / np.linalg.norm(direction / axes, axis=-1)
    blend = smoothstep(share[:, None] / 0.55)
    begins = np.interp(
        outline_cm[:, 1], [-9.5, -5.0, -2.0, 0.6, 2.2, 3.4, 5.0, 8.3], [0.56, 0.44, 0.38, 0.34, 0.16, 0.0, -0.08, -0.1]
    )
    hair = smoothstep((share[:, None] - begins) / 0.1)
    theta, phi = np.arctan2(direction[..., 0], direction[..., 2]), np.arcsin(direction[..., 1])
    clumps = (
        0.5 * np.sin(9 * theta + 3 * phi)
        + 0.35 * np.sin(17 * theta - 6 * phi + 1.7)
        + 0.3 * np.sin(7 * phi + 2 * theta)
    )
    thick = (0.55 + 0.75 * np.clip(direction[..., 1], 0, 1)) * (1 + 0.13 * clumps) * hair
    thick += 0.35 * np.exp(-(((share[:, None] - begins - 0.12) / 0.08) ** 2)) * (outline_cm[:, 1] > 5)
    rings = SKULL_CENTRE_CM + direction * (radius * (1 - blend) + ellipsoid * blend + thick)[..., None]
    return rings, hair, np.exp(-share / 0.12)


def ear(side: int) -> Part:
    """An ear, ``side`` -1 for the image's left and 1 for its right: a rim, a hollow and a lobe."""
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)[None, :]
    share = np.concatenate([np.linspace(0.62, 1, 5), np.linspace(0.97, 0.02, 18)])[:, None]
    back = (np.arange(23) < 4)[:, None]
    rim = 0.42 * np.exp(-(((share - 0.88) / 0.1) ** 2))
    fold = 0.26 * np.exp(-(((share - 0.55) / 0.1) ** 2)) * np.clip(np.sin(around + 0.5), 0, 1)
    hollow = -0.5 * np.exp(-((share / 0.42) ** 2))
    height = np.where(back, -0.9 + 0.9 * smoothstep((share - 0.62) / 0.38), rim + fold + hollow)
    shape = 1 + 0.14 * np.sin(around) - 0.1 * np.cos(2 * around)
    along, up = -1.75 * share * shape * np.cos(around), 3.05 * share * (1 + 0.04 * np.sin(around)) * np.sin(around)
    axis_back = np.array([0.42 * side, 0.0, -0.91])
    axis_up = np.array([0.1 * side, 0.98, -0.17])
    axis_out = np.array([0.91 * side, 0.0, 0.42])
    centre = np.array([7.85 * side, -0.3, -4.2])
    rings = (
        centre
        + along[..., None] * axis_back
        + up[..., None] * axis_up
        + (height * np.ones_like(along))[..., None] * axis_out
    )
    return oriented(tube(rings), axis_out)


def eyeball(centre_cm: Floats, radius_cm: float) -> Part:
    """The whole eyeball; iris and pupil are the shader's."""
    return oriented(sphere(centre_cm, np.full(3, radius_cm), 28, 40), None)


def teeth(*, upper: bool) -> Part:
    """A row of teeth as a curved strip; the gaps between them are the shader's."""
    x = np.linspace(-2.3, 2.3, 49)
    z = (4.45 if upper else 4.2) - 0.33 * x**2 * (1 - 0.02 * x**2)
    edge, root = (-4.36, -3.1) if upper else (-4.5, -5.7)
    scallop = 0.05 * np.abs(np.sin(np.pi * x / 0.78)) * (1 if upper else -1)
    heights = np.linspace(0, 1, 5)[:, None] * (root - edge) + edge - scallop * (1 - np.linspace(0, 1, 5)[:, None])
    inward = 0.16 * np.linspace(1, -1, 5)[:, None] ** 2
    front = np.stack([np.broadcast_to(x, heights.shape), heights, z - inward], axis=-1)
    under = front[:1] - np.array([0.0, 0.0, 0.45])
    rows = np.concatenate([under, front])
    return oriented(tube(rows, closed=False), np.array([0.0, 0.0, 1.0]))


def tongue() -> Part:
    """The tongue behind the lower teeth."""
    return oriented(sphere(np.array([0.0, -4.95, 2.15]), np.array([1.6, 0.62, 1.9]), 18, 24), None)


def mouth_rings(loop_cm: Floats, side: Floats) -> Floats:
    """The inside of the mouth as rings behind the edge of the lips: their inner side, the cheeks, the throat.

    Args:
        loop_cm: (n, 3) the edge of the lips.
        side: (n,) 1 on the upper lip, -1 on the lower, 0 at the corners.

    Returns:
        (6, n, 3).
    """
    centre = loop_cm.mean(axis=0)
    taper = side * np.sqrt(np.clip(1 - (loop_cm[:, 0] / 2.4) ** 2, 0, 1))
    rings = []
    for depth, spread, shrink in _MOUTH_RINGS:
        ring = loop_cm + np.stack([0 * taper, taper * spread, np.full_like(taper, -depth)], axis=1)
        ring[:, 0] *= 1 - shrink
        rings.append(ring)
    rings.append(np.broadcast_to(centre - np.array([0.0, 0.0, 4.6]), loop_cm.shape))
    return np.stack(rings)


def lid_rings(loop_cm: Floats, centre_cm: Floats) -> Floats:
    """(2, n, 3): the thickness of the lids, from their edge to inside the eyeball."""
    inward = loop_cm - 0.12 * (loop_cm - centre_cm) / np.linalg.norm(loop_cm - centre_cm, axis=1, keepdims=True)
    return np.stack([inward, loop_cm - np.array([0.0, 0.0, 0.9])])


def neck() -> tuple[Part, Floats]:
    """The neck, and how far each vertex follows the head (1) rather than the body (0)."""
    y = np.linspace(-3.5, -18.5, 31)
    half_x = np.interp(y, [-18.5, -16.5, -15.0, -13.0, -10.0, -6.0, -3.5], [9.0, 6.9, 6.0, 5.6, 5.45, 5.6, 5.6])
    half_z = np.interp(y, [-18.5, -15.0, -12.0, -9.5, -8.0, -6.0, -3.5], [6.4, 5.6, 5.3, 5.3, 4.6, 3.4, 2.6])
    z = np.interp(y, [-18.5, -12.0, -3.5], [-5.6, -5.0, -5.2])
    around = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    bulge = 0.4 * np.exp(-(((y[:, None] + 11.8) / 1.0) ** 2)) * np.exp(-((np.sin(around / 2) / 0.12) ** 2))
    cords = 0.22 * np.exp(-(((np.abs(np.sin(around)) - 0.55) / 0.16) ** 2)) * (np.cos(around) > 0)
    rings = np.stack(
        [
            half_x[:, None] * np.sin(around),
            np.broadcast_to(y[:, None], (len(y), 64)),
            z[:, None] + (half_z[:, None] + bulge + cords) * np.cos(around),
        ],
        axis=-1,
    )
    part = oriented(tube(rings), None)
    return part, smoothstep((part.vertices_cm[:, 1] + 16.0) / 8.5)


def torso() -> Part:
    """Shoulders and chest in a jacket, to below the picture."""
    y = np.array([-13.4, -14.6, -15.6, -16.5, -17.4, -18.4, -19.6, -21.2, -23.5, -26.5, -31.0, -37.0, -46.0])
    half_x = np.array([5.6, 7.0, 9.3, 12.2, 15.0, 17.2, 18.9, 20.2, 21.1, 21.7, 22.0, 22.0, 21.5])
    half_z = np.array([5.4, 6.3, 7.2, 7.8, 8.4, 8.9, 9.4, 10.0, 10.6, 11.1, 11.5, 11.6, 11.6])
    fine = np.linspace(0, len(y) - 1, 60)
    knots = np.arange(len(y))
    y, half_x, half_z = (np.interp(fine, knots, values) for values in (y, half_x, half_z))
    around = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    sin, cos = np.sin(around), np.cos(around)
    power = np.interp(y, [-46, -20, -14], [0.75, 0.85, 1.0])[:, None]
    rings = np.stack(
        [
            half_x[:, None] * np.sign(sin) * np.abs(sin) ** power,
            np.broadcast_to(y[:, None], (60, 120)),
            -5.4 + half_z[:, None] * np.sign(cos) * np.abs(cos) ** power,
        ],
        axis=-1,
    )
    rings[..., 1] -= 1.6 * smoothstep(cos - 0.1) * np.exp(-((rings[..., 0] / 6.5) ** 2))
    return oriented(tube(rings), None)


def collar() -> Part:
    """A turned-down shirt collar with two points in front."""
    around = np.linspace(0.03, 2 * np.pi - 0.03, 97)[None, :]
    front = np.clip(np.cos(around), 0, 1) ** 1.5
    down = np.linspace(0, 1, 9)[:, None]
    drop = 2.6 + 1.7 * np.exp(-((np.minimum(around, 2 * np.pi - around) / 0.42) ** 2))
    y = -12.0 - 2.9 * front - down * drop
    flare = 0.15 + 1.45 * down**0.9
    x = (6.0 + flare * (1 + 0.5 * front)) * np.sin(around)
    z = -5.3 + (5.75 + flare * 0.9) * np.cos(around)
    rows = np.stack([x, y, z], axis=-1)
    inner = rows[:1] * np.array([0.97, 1.0, 1.0]) - np.array([0.0, 1.6, 0.0])
    return oriented(tube(np.concatenate([inner, rows]), closed=False), None)


def tie() -> Part:
    """The knot of a tie and the blade below it, in front of the shirt."""
    y = np.linspace(-14.85, -40, 60)
    half = np.interp(y, [-40, -18.3, -17.4, -17.2, -15.3, -14.85], [3.6, 1.3, 1.15, 1.0, 1.6, 1.3])
    z = np.interp(y, [-40, -26, -20, -17.6, -16.4, -15.2, -14.3], [7.2, 6.5, 5.0, 3.8, 3.3, 2.4, 1.2])
    across = np.linspace(-1, 1, 13)[None, :]
    rings = np.stack(
        [half[:, None] * across, np.broadcast_to(y[:, None], (60, 13)), z[:, None] + 0.5 * (1 - across**2)], axis=-1
    )
    return oriented(tube(rings, closed=False), np.array([0.0, 0.0, 1.0]))


def oriented(part: Part, outwards: Floats | None) -> Part:
    """The part with its triangles turned so that normals point out (from its middle, or along a direction)."""
    a, b, c = (part.vertices_cm[part.triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    away = (a + b + c) / 3 - part.vertices_cm.mean(axis=0) if outwards is None else outwards
    if np.sum(normal * away) >= 0:
        return part
    return Part(part.vertices_cm, part.triangles[:, ::-1].copy())


def loft_triangles(first: Ints, rings: Ints) -> Ints:
    """Triangles between an existing loop of vertices (n,) and the rings (r, n) that continue it."""
    return ring_triangles(np.concatenate([first[None], rings]))

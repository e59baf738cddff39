"""The whole figure: its parts as one mesh, and where every vertex goes in a pose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from stages.demo import body
from stages.demo.face import (
    EYE_RADIUS_CM,
    LOWER_LIP,
    FaceRig,
    Pose,
    build_rig,
    jaw_angle,
    jaw_rotated,
    lip_attribute,
    rim_attribute,
)
from stages.demo.mesh import Floats, Ints, Part, boundary_loop, vertex_normals
from stages.demo.rasterise import depth_only
from stages.demo.texture import head_coordinates

NECK_PIVOT_CM = np.array([0.0, -10.0, -5.0])
FACING = np.diag([1.0, -1.0, -1.0])
_NOSTRILS_CM = np.array([[-0.78, -1.4, 6.5], [0.78, -1.4, 6.5]])


class Material(IntEnum):
    """What a triangle is made of."""

    HEAD = 0
    EYE = 1
    TEETH = 2
    MOUTH = 3
    NECK = 4
    CLOTH = 5
    SHIRT = 6
    TIE = 7


class Attribute(IntEnum):
    """Columns of ``Figure.attributes``."""

    S = 0
    T = 1
    LIP = 2
    RIM = 3
    HAIR = 4
    OPENNESS = 5  # ambient: 1 where all of the sky is seen
    LOCAL_X = 6  # of an eye: direction from its centre, the gaze being z; of other parts: position in cm
    LOCAL_Y = 7
    LOCAL_Z = 8


@dataclass(frozen=True)
class Placement:
    """Where the head and the body are.

    Attributes:
        rotation: (3, 3) of the head, head frame to camera axes.
        translation_cm: (3,) of the head: x_cam = rotation @ x_head + translation_cm.
        body_translation_cm: (3,) of the body, which doesn't turn.
    """

    rotation: Floats
    translation_cm: Floats
    body_translation_cm: Floats


@dataclass(frozen=True)
class Figure:
    """The mesh with everything that doesn't change from frame to frame.

    Attributes:
        rig: The face.
        triangles: (t, 3) of the whole figure.
        material: (t,) uint8, ``Material``.
        attributes: (v, 9) float64, columns ``Attribute``.
        head_weight: (v,) 1 where a vertex moves with the head, 0 where it moves with the body.
        slices: The rows of each part.
        skull_rest_cm, skull_follow: As from ``body.skull_rings``.
        loops: Vertex indices of the outline, the two eyes and the mouth in the smooth face.
        mouth_side: (n,) 1 for the upper lip, -1 for the lower, 0 at the corners.
        rest_cm: (v, 3) everything at rest.
    """

    rig: FaceRig
    triangles: Ints
    material: NDArray[np.uint8]
    attributes: Floats
    head_weight: Floats
    slices: dict[str, slice]
    skull_rest_cm: Floats
    skull_follow: Floats
    loops: dict[str, Ints]
    mouth_side: Floats
    rest_cm: Floats

    def shaped_cm(self, pose: Pose) -> Floats:
        """Every vertex in a pose of the face, (v, 3), head frame, head and body facing the viewer."""
        points = self.rest_cm.copy()
        surface = self.rig.surface_cm(pose)
        points[self.slices["face"]] = surface
        outline = self.loops["outline"]
        moved = surface[outline] - self.rest_cm[outline]
        skull = self.skull_rest_cm + self.skull_follow[:, None, None] * moved
        points[self.slices["skull"]] = skull.reshape(-1, 3)
        for side in (0, 1):
            rings = body.lid_rings(surface[self.loops[f"eye{side}"]], self.rig.eyes_cm[side])
            points[self.slices[f"lids{side}"]] = rings.reshape(-1, 3)
        rings = body.mouth_rings(surface[self.loops["mouth"]], self.mouth_side)
        points[self.slices["mouth"]] = rings.reshape(-1, 3)
        for name in ("lower_teeth", "tongue"):
            points[self.slices[name]] = jaw_rotated(self.rest_cm[self.slices[name]], jaw_angle(pose))
        return points

    def placed_cm(self, shaped_cm: Floats, placement: Placement) -> Floats:
        """Vertices (v, 3) from the head frame to camera axes, head and body each in their place."""
        head = shaped_cm @ placement.rotation.T + placement.translation_cm
        still = shaped_cm @ FACING.T + placement.body_translation_cm
        weight = self.head_weight[:, None]
        return np.asarray(weight * head + (1 - weight) * still)

    def with_gaze(self, placement: Placement, gaze_deg: Floats) -> Floats:
        """The attributes (v, 9) with the eyes turned to the camera, plus (yaw, pitch) degrees."""
        attributes = self.attributes.copy()
        for side in (0, 1):
            rows = self.slices[f"eyeball{side}"]
            centre = self.rig.eyes_cm[side]
            ahead = -placement.rotation.T @ (placement.rotation @ centre + placement.translation_cm)
            yaw = np.arctan2(ahead[0], ahead[2]) + np.radians(gaze_deg[0])
            pitch = np.arcsin(ahead[1] / np.linalg.norm(ahead)) + np.radians(gaze_deg[1])
            turned = head_rotation(yaw, pitch, 0.0)
            offset = (self.rest_cm[rows] - centre) / EYE_RADIUS_CM
            attributes[rows, Attribute.LOCAL_X :] = offset @ turned
        return attributes


def head_rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """The (3, 3) turn within the head frame: yaw to the image's right, pitch up, roll clockwise; radians."""
    cy, sy, cp, sp, cr, sr = (f(angle) for angle in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    turn_z = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return np.asarray(turn_y @ turn_x @ turn_z)


def place(angles_deg: Floats, shift_cm: Floats, base_cm: Floats) -> Placement:
    """Turn the head about the top of the neck.

    Args:
        angles_deg: (3,) yaw, pitch, roll.
        shift_cm: (3,) of head and body, camera axes.
        base_cm: (3,) translation of a head that faces the camera.
    """
    rotation = FACING @ head_rotation(*np.radians(angles_deg))
    body_translation = base_cm + shift_cm
    pivot = FACING @ NECK_PIVOT_CM + body_translation
    return Placement(rotation, pivot - rotation @ NECK_PIVOT_CM, body_translation)


class _Builder:
    """Collects parts into one mesh."""

    def __init__(self) -> None:
        self.count = 0
        self.vertices: list[Floats] = []
        self.triangles: list[Ints] = []
        self.materials: list[NDArray[np.uint8]] = []
        self.slices: dict[str, slice] = {}

    def add(self, name: str, part: Part, material: Material) -> None:
        self.add_rows(name, part.vertices_cm, part.triangles + self.count, material)

    def add_rows(self, name: str, vertices: Floats, triangles: Ints, material: Material) -> None:
        self.slices[name] = slice(self.count, self.count + len(vertices))
        self.count += len(vertices)
        self.vertices.append(vertices)
        self.triangles.append(triangles)
        self.materials.append(np.full(len(triangles), material, dtype=np.uint8))

    def add_loft(self, name: str, first: Ints, rings: Floats, material: Material) -> None:
        rows = self.count + np.arange(rings.shape[0] * rings.shape[1]).reshape(rings.shape[:2])
        triangles = body.loft_triangles(first, rows)
        self.add_rows(name, rings.reshape(-1, 3), triangles, material)


def build_figure() -> Figure:
    """Put all parts together, and measure how open to the sky each vertex is."""
    rig = build_rig()
    rest = rig.surface_cm(Pose())
    loops = {
        "outline": boundary_loop(rig.triangles, 10),
        "eye0": boundary_loop(rig.triangles, 33),
        "eye1": boundary_loop(rig.triangles, 263),
        "mouth": boundary_loop(rig.triangles, 78),
    }
    builder = _Builder()
    builder.add("face", Part(rest, rig.triangles), Material.HEAD)
    skull, hair, follow = body.skull_rings(rest[loops["outline"]])
    builder.add_loft("skull", loops["outline"], skull, Material.HEAD)
    for side, sign in enumerate((-1, 1)):
        builder.add(f"ear{side}", body.ear(sign), Material.HEAD)
        rings = body.lid_rings(rest[loops[f"eye{side}"]], rig.eyes_cm[side])
        builder.add_loft(f"lids{side}", loops[f"eye{side}"], rings, Material.HEAD)
        builder.add(f"eyeball{side}", body.eyeball(rig.eyes_cm[side], EYE_RADIUS_CM), Material.EYE)
    mouth_side = _mouth_side(loops["mouth"])
    mouth = body.mouth_rings(rest[loops["mouth"]], mouth_side)
    builder.add_loft("mouth", loops["mouth"], mouth, Material.MOUTH)
    builder.add("upper_teeth", body.teeth(upper=True), Material.TEETH)
    builder.add("lower_teeth", body.teeth(upper=False), Material.TEETH)
    builder.add("tongue", body.tongue(), Material.MOUTH)
    neck, neck_weight = body.neck()
    builder.add("neck", neck, Material.NECK)
    builder.add("torso", body.torso(), Material.CLOTH)
    builder.add("collar", body.collar(), Material.SHIRT)
    builder.add("tie", body.tie(), Material.TIE)
    points = np.concatenate(builder.vertices)
    head_weight = np.ones(builder.count)
    head_weight[builder.slices["neck"].start :] = 0
    head_weight[builder.slices["neck"]] = neck_weight
    attributes = _attributes(rig, points, builder.slices, hair)
    triangles, material = np.concatenate(builder.triangles), np.concatenate(builder.materials)
    figure = Figure(
        rig, triangles, material, attributes, head_weight, builder.slices, skull, follow, loops, mouth_side, points
    )
    attributes[:, Attribute.OPENNESS] = _sky_seen(figure)
    return replace(figure, attributes=attributes)


def _mouth_side(loop: Ints) -> Floats:
    """1 along the upper lip, -1 along the lower one, 0 at the corners; the loop starts at a corner."""
    order = loop.tolist()
    far = order.index(308)
    side = np.ones(len(order))
    lower_first = order.index(LOWER_LIP[5]) < far
    side[:far], side[far:] = (-1, 1) if lower_first else (1, -1)
    side[[0, far]] = 0
    return side


def _attributes(rig: FaceRig, points: Floats, slices: dict[str, slice], hair: Floats) -> Floats:
    attributes = np.zeros((len(points), len(Attribute)))
    attributes[:, [Attribute.S, Attribute.T]] = head_coordinates(points)
    attributes[:, Attribute.LOCAL_X :] = points
    face = slices["face"]
    neck = points[slices["neck"]]
    around = np.arctan2(neck[:, 0], neck[:, 2] + 5)
    # The plain skin at the back of the skull's map, which hair covers, serves the neck as well.
    attributes[slices["neck"], Attribute.S] = 0.12 + 0.11 * np.sin(around)
    attributes[slices["neck"], Attribute.T] = 0.5 - neck[:, 1] / 60
    attributes[face, Attribute.LIP] = rig.smooth @ lip_attribute()
    attributes[face, Attribute.RIM] = rig.smooth @ rim_attribute()
    for nostril in _NOSTRILS_CM:
        near = np.exp(-np.sum(((points[face] - nostril) / (0.26, 0.2, 0.5)) ** 2, axis=1))
        attributes[face, Attribute.RIM] += near
    x, y = np.abs(points[face, 0]), points[face, 1]
    hairline = np.maximum((y - 6.9 - 0.02 * x**2) / 1.3, np.minimum((x - 6.35) / 0.9, (y - 3.0) / 1.2))
    attributes[face, Attribute.HAIR] = body.smoothstep(hairline)
    attributes[slices["skull"], Attribute.HAIR] = hair.reshape(-1)
    for side in (0, 1):
        attributes[slices[f"lids{side}"], Attribute.RIM] = 0.5
    mouth = slices["mouth"]
    rings = np.repeat([1.0, 0.75, 0.0, 0.0, 0.0, 0.0], (mouth.stop - mouth.start) // 6)
    attributes[mouth, Attribute.LIP] = rings
    attributes[slices["tongue"], Attribute.LIP] = 0.5
    return attributes


def _sky_seen(figure: Figure) -> Floats:
    """(v,): the part of the sky over each vertex that nothing hides, from parallel depth maps all around."""
    points = figure.shaped_cm(Pose(opening=0.35))
    normals = np.empty_like(points)
    vertex_normals(points, figure.triangles, normals)
    index = np.arange(64) + 0.5
    polar, around = np.arccos(1 - 2 * index / 64), np.pi * (1 + 5**0.5) * index
    seen, total = np.full(len(points), 1e-9), np.full(len(points), 1e-9)
    depth = np.empty((256, 256), dtype=np.float32)
    for p, a in zip(polar, around, strict=True):
        direction = np.array([np.sin(p) * np.cos(a), np.cos(p), np.sin(p) * np.sin(a)])
        projected = parallel_projection(points, direction, NECK_PIVOT_CM, 60.0, 256)
        depth_only(projected, figure.triangles, depth)
        x, y = (np.clip(projected[:, k].astype(np.int64), 0, 255) for k in (0, 1))
        visible = projected[:, 2] > depth[y, x] - 0.5
        weight = np.maximum(normals @ direction, 0.0)
        seen += weight * visible
        total += weight
    return np.asarray(seen / total)


def parallel_projection(points_cm: Floats, towards: Floats, centre_cm: Floats, span_cm: float, size: int) -> Floats:
    """Look at points (v, 3) along a direction: pixels x, y of a square picture and the nearness, (v, 3)."""
    side = np.cross(towards, [0.0, 0.0, 1.0] if abs(towards[2]) < 0.9 else [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    up = np.cross(side, towards)
    offset = points_cm - centre_cm
    scale = size / span_cm
    return np.stack([offset @ side * scale + size / 2, offset @ up * scale + size / 2, offset @ towards], axis=1)

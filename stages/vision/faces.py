"""Where the faces are in a whole picture, small ones too, before it is cropped."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, Self

import cv2
import numpy as np

from stages.vision.face_mesh import FaceMesh, brings_models, mediapipe, silenced
from stages.vision.images import Rgb

_FOREHEAD, _CHIN = 10, 152
_PATCH_PX = 256
_SHORT_RANGE, _FULL_RANGE = 0, 1
_LEAST_SCORE = 0.5
_MOST_FACES = 4

_Box = tuple[float, float, float, float]


class _Detections(Protocol):
    detections: list[Any] | None


@dataclass(frozen=True)
class Face:
    """A face in a picture, from its mesh.

    Attributes:
        left, top, right, bottom: Bounds of the mesh, px.
        height: From the top of the forehead to the chin, px.
    """

    left: float
    top: float
    right: float
    bottom: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the bounds, px."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def scaled(self, factor: float, offset: tuple[float, float] = (0.0, 0.0)) -> Face:
        """The same face in a picture ``factor`` times as big that begins at ``-offset``."""
        x, y = offset
        return Face(
            self.left * factor + x,
            self.top * factor + y,
            self.right * factor + x,
            self.bottom * factor + y,
            self.height * factor,
        )


class FaceFinder:
    """Finds faces of any size: detectors propose, the face mesh confirms; a context manager."""

    def __init__(self) -> None:
        """Load the bundled models; where MediaPipe brings none, the Face Landmarker's file.

        Raises:
            BadInput: Neither is here.
        """
        self._stack = ExitStack()
        if brings_models():
            self._proposals: _Proposals = _Detectors(self._stack)
            self._mesh = self._stack.enter_context(FaceMesh("mesh"))
        else:
            self._proposals = _Landmarker(self._stack)
            self._mesh = self._stack.enter_context(FaceMesh("tasks"))

    def __enter__(self) -> Self:
        """Return the finder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the native graphs."""
        self._stack.close()

    def find(self, rgb: Rgb) -> list[Face]:
        """The faces in a picture, biggest first.

        Looks at the whole picture, and at overlapping tiles of it when there is nothing to be seen in it.

        Args:
            rgb: (H, W, 3) uint8 RGB.
        """
        faces = self._find_in(rgb, (0, 0))
        if not faces:
            for x, y, side in _tiles(rgb.shape[1], rgb.shape[0]):
                faces += self._find_in(np.ascontiguousarray(rgb[y : y + side, x : x + side]), (x, y))
        return _distinct(sorted(faces, key=lambda face: -face.height))

    def _find_in(self, rgb: Rgb, offset: tuple[int, int]) -> list[Face]:
        faces = (self._confirm(rgb, box) for box in self._proposals.boxes(rgb))
        return [face.scaled(1.0, offset) for face in faces if face is not None]

    def _confirm(self, rgb: Rgb, box: _Box) -> Face | None:
        """The mesh of the face in a box, unless there is none or it is somebody else's."""
        left, top, right, bottom = box
        side = max(8, round(2 * max(right - left, bottom - top)))
        x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
        height, width = rgb.shape[:2]
        inside = rgb[max(0, y) : min(height, y + side), max(0, x) : min(width, x + side)]
        if inside.size == 0:
            return None
        before = (max(0, -y), max(0, -x))
        after = (side - inside.shape[0] - before[0], side - inside.shape[1] - before[1])
        patch = np.pad(inside, ((before[0], after[0]), (before[1], after[1]), (0, 0)), mode="edge")
        points = self._mesh.detect(np.asarray(cv2.resize(patch, (_PATCH_PX, _PATCH_PX)), np.uint8))
        if points is None:
            return None
        points = points[:, :2] * (side / _PATCH_PX) + np.array([x, y], np.float32)
        low, high = points.min(0), points.max(0)
        middle = (low + high) / 2
        if not (left <= middle[0] <= right and top <= middle[1] <= bottom):
            return None
        tall = float(np.linalg.norm(points[_FOREHEAD] - points[_CHIN]))
        return Face(float(low[0]), float(low[1]), float(high[0]), float(high[1]), tall)


class _Proposals(Protocol):
    def boxes(self, rgb: Rgb) -> list[_Box]:
        """Where faces may be."""
        ...


class _Detectors:
    """The bundled detectors for faces far and near."""

    def __init__(self, stack: ExitStack) -> None:
        detection = mediapipe().solutions.face_detection
        with silenced():
            self._detectors = [
                stack.enter_context(
                    detection.FaceDetection(model_selection=selection, min_detection_confidence=_LEAST_SCORE)
                )
                for selection in (_FULL_RANGE, _SHORT_RANGE)
            ]
            for detector in self._detectors:
                detector.process(np.zeros((64, 64, 3), np.uint8))

    def boxes(self, rgb: Rgb) -> list[_Box]:
        return [box for detector in self._detectors for box in _boxes(detector.process(rgb), rgb.shape)]


class _Landmarker:
    """The Face Landmarker's own detector, for faces that take a good part of the picture."""

    def __init__(self, stack: ExitStack) -> None:
        self._landmarker = stack.enter_context(FaceMesh("tasks", max_faces=_MOST_FACES))

    def boxes(self, rgb: Rgb) -> list[_Box]:
        found = self._landmarker.detect_all(rgb)[:, :, :2]
        corners = ((points.min(0), points.max(0)) for points in found)
        return [(float(low[0]), float(low[1]), float(high[0]), float(high[1])) for low, high in corners]


def _boxes(found: _Detections, shape: tuple[int, ...]) -> list[_Box]:
    height, width = shape[:2]
    boxes: list[_Box] = []
    for detection in found.detections or []:
        box = detection.location_data.relative_bounding_box
        left, top = box.xmin * width, box.ymin * height
        boxes.append((left, top, left + box.width * width, top + box.height * height))
    return boxes


def _tiles(width: int, height: int) -> list[tuple[int, int, int]]:
    """Half-overlapping squares, half as high as the shorter side: (x, y, side)."""
    side = max(64, min(width, height) // 2)
    if side > min(width, height):
        return []
    columns = max(1, -(-(width - side) // (side // 2)))
    rows = max(1, -(-(height - side) // (side // 2)))
    xs = np.linspace(0, width - side, columns + 1).round().astype(int)
    ys = np.linspace(0, height - side, rows + 1).round().astype(int)
    return [(int(x), int(y), side) for y in ys for x in xs]


def _distinct(faces: list[Face]) -> list[Face]:
    """Without the repetitions of a face found twice."""
    kept: list[Face] = []
    for face in faces:
        x, y = face.centre
        if not any(
            abs(x - other.centre[0]) < 0.5 * other.height and abs(y - other.centre[1]) < 0.5 * other.height
            for other in kept
        ):
            kept.append(face)
    return kept

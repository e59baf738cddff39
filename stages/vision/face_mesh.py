"""478 face landmarks of a picture, from MediaPipe's Face Landmarker or its bundled face mesh."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from stages.errors import BadInput
from stages.vision.images import Rgb
from stages.vision.models import FACE_LANDMARKER, find_model, model_folders

POINTS = 478
"""Landmarks a face: 468 of the mesh and 5 for each iris."""

Model = Literal["auto", "tasks", "mesh"]
Points = npt.NDArray[np.float32]


@contextmanager
def silenced() -> Iterator[None]:
    """Drop what native code writes to standard error inside the block (start-up chatter that no flag stops)."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def mediapipe() -> ModuleType:
    """The mediapipe package, imported on first use and without its noise."""
    with silenced():
        package = importlib.import_module("mediapipe")

    warnings.filterwarnings("ignore", category=UserWarning, module=r"google\.protobuf.*")
    return package


def brings_models() -> bool:
    """Whether the installed MediaPipe is one whose wheel carries its models and the interface to them.

    Releases up to 0.10.21 do. Later ones, 1.0 and newer among them, have the Tasks interface alone, which reads files.
    """
    spec = importlib.util.find_spec("mediapipe")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    mesh = Path("modules", "face_landmark", "face_landmark_with_attention.tflite")
    return any((Path(folder) / mesh).is_file() for folder in folders)


def mediapipe_version() -> str:
    """The installed MediaPipe's version; empty where there is none."""
    try:
        return importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        return ""


def without_models(needed: str) -> BadInput:
    """The error of a MediaPipe that brings no models, where a file is missing that would do instead.

    Args:
        needed: The file's name.
    """
    return BadInput(
        f"MediaPipe {mediapipe_version()} brings no models, and there is no {needed} in "
        f"{' or '.join(map(str, model_folders()))}",
        hint="get it as 'radnerf models' says, or install mediapipe==0.10.21, which brings its own",
    )


def choose_model(model: Model) -> Literal["tasks", "mesh"]:
    """Which model a setting means on this machine.

    Raises:
        BadInput: ``tasks`` is asked for and its file is not there, or nothing finds landmarks here.
    """
    bundled = brings_models()
    if model == "mesh" and not bundled:
        raise BadInput(
            f"landmarks.model is mesh, which MediaPipe {mediapipe_version()} does not bring",
            hint=f"leave it at auto and have {FACE_LANDMARKER}, or install mediapipe==0.10.21",
        )
    if model == "mesh":
        return "mesh"
    if find_model(FACE_LANDMARKER) is not None:
        return "tasks"
    if not bundled:
        raise without_models(FACE_LANDMARKER)
    if model == "tasks":
        raise BadInput(
            f"there is no {FACE_LANDMARKER} in {' or '.join(map(str, model_folders()))}",
            hint="put it there, or use the bundled model with landmarks.model=mesh",
        )
    return "mesh"


class _Detector(Protocol):
    def detect(self, rgb: Rgb, time_ms: int) -> list[Any]: ...

    def close(self) -> None: ...


class FaceMesh:
    """Finds faces; keeps a native graph open, so use it as a context manager.

    With ``video`` a face is tracked from frame to frame: give every frame, in order. Without, each picture is
    looked at alone.

    Attributes:
        model: ``tasks`` or ``mesh``: what is really used.
    """

    def __init__(self, model: Model = "auto", *, video: bool = False, max_faces: int = 1, fps: float = 25.0) -> None:
        """Load the model.

        Args:
            model: ``tasks`` needs the Face Landmarker's file; ``auto`` takes it where it is present.
            video: Whether the pictures follow each other.
            max_faces: Faces to look for.
            fps: Rate of the pictures when they follow each other.

        Raises:
            BadInput: ``tasks`` is asked for and its file is not there.
        """
        self.model = choose_model(model)
        self._step_ms = 1000.0 / fps
        self._count = 0
        self._settled = False
        package = mediapipe()
        with silenced():
            self._detector: _Detector = (
                _Tasks(package, video, max_faces) if self.model == "tasks" else _Bundled(package, video, max_faces)
            )
            # The graph's threads start, and talk, with the first picture.
            self._detector.detect(np.zeros((64, 64, 3), np.uint8), 0)

    def __enter__(self) -> Self:
        """Return the detector."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Free the native graph."""
        self._detector.close()

    def detect(self, rgb: Rgb) -> Points | None:
        """The landmarks of the clearest face.

        Args:
            rgb: (H, W, 3) uint8 RGB.

        Returns:
            (478, 3) float32 px, x right, y down, z relative to the head's centre and growing away from the viewer
            at x's scale; None when there is no face.
        """
        faces = self.detect_all(rgb)
        return faces[0] if len(faces) else None

    def detect_all(self, rgb: Rgb) -> Points:
        """The landmarks of up to ``max_faces`` faces.

        Args:
            rgb: (H, W, 3) uint8 RGB.

        Returns:
            (F, 478, 3) float32, as ``detect``.
        """
        self._count += 1
        time_ms = round(self._count * self._step_ms)
        # The first face sets off the rest of the graph, which talks as well.
        with nullcontext() if self._settled else silenced():
            faces = self._detector.detect(np.ascontiguousarray(rgb), time_ms)
        self._settled = self._settled or bool(faces)
        height, width = rgb.shape[:2]
        points = np.array([[(p.x, p.y, p.z) for p in face] for face in faces], np.float32).reshape(-1, POINTS, 3)
        return points * np.array([width, height, width], np.float32)


class _Tasks:
    def __init__(self, package: ModuleType, video: bool, max_faces: int) -> None:
        vision = package.tasks.vision
        self._image = package.Image
        self._format = package.ImageFormat.SRGB
        self._video = video
        options = vision.FaceLandmarkerOptions(
            base_options=package.tasks.BaseOptions(model_asset_path=str(find_model(FACE_LANDMARKER))),
            running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
            # With one face MediaPipe smooths over time, which delays the lips by half a frame and shrinks their
            # movement by an eighth; with two it does not.
            num_faces=max(2, max_faces) if video else max_faces,
        )
        self._most = max_faces
        self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def detect(self, rgb: Rgb, time_ms: int) -> list[Any]:
        image = self._image(image_format=self._format, data=rgb)
        found = self._landmarker.detect_for_video(image, time_ms) if self._video else self._landmarker.detect(image)
        return list(found.face_landmarks)[: self._most]

    def close(self) -> None:
        self._landmarker.close()


class _Bundled:
    def __init__(self, package: ModuleType, video: bool, max_faces: int) -> None:
        self._mesh = package.solutions.face_mesh.FaceMesh(
            static_image_mode=not video, max_num_faces=max_faces, refine_landmarks=True
        )

    def detect(self, rgb: Rgb, time_ms: int) -> list[Any]:  # noqa: ARG002 - the graph counts frames itself
        return [face.landmark for face in self._mesh.process(rgb).multi_face_landmarks or []]

    def close(self) -> None:
        self._mesh.close()

"""The file formats of a subject: a ``load_``/``save_`` pair for each, validating, never unpickling."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from stages.atomic_files import atomic_path
from stages.errors import DELETE_AND_REPEAT, BadInput

FPS = 25
"""Frames a second of every prepared clip and every rendered video."""

FEATURE_RATE_HZ = 50
"""Rows a second of audio features."""

SAMPLE_RATE_HZ = 16_000
"""Samples a second of the sound that features are computed from."""

BACKGROUND, TORSO, NECK, HEAD = 0, 1, 2, 3
"""Classes of a parsing map."""

Shape = tuple[int | str, ...]

_MOST_TEXT_BYTES = 4096
_DAMAGED = (
    OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, NotImplementedError, RuntimeError, SyntaxError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
"""What a damaged npz makes numpy and zipfile raise."""


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a stored array, read without its content."""
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"its arrays have version {version}")
    shape, _, dtype = read(stream)  # type: ignore[no-untyped-call]
    return shape, dtype


@dataclass(frozen=True)
class _Arrays:
    """A bundle of arrays kept in an npz; subclasses say names, shapes and types.

    ``SCHEMA`` maps a field to its dtype and shape; a letter in a shape is a size shared by all fields.
    """

    SCHEMA: ClassVar[dict[str, tuple[str, Shape]]]

    def __post_init__(self) -> None:
        """Check every array against the schema.

        Raises:
            BadInput: A dtype or shape differs, or a float is not finite.
        """
        sizes: dict[str, int] = {}
        for name, (dtype, shape) in self.SCHEMA.items():
            array = getattr(self, name)
            if array.dtype != np.dtype(dtype) or array.ndim != len(shape):
                raise BadInput(f"{name} is {array.dtype} {array.shape}, not {dtype} {shape}")
            for size, wanted in zip(array.shape, shape, strict=True):
                expected = sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted
                if size != expected:
                    raise BadInput(f"{name} has shape {array.shape}, not {shape} with {sizes}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise BadInput(f"{name} holds values that are not finite", hint="this is a bug; please report it")
        self._check_scalars()

    def _check_scalars(self) -> None:
        """Check the fields that are no arrays: texts, whole numbers, finite numbers."""
        kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int)}
        for item in fields(self):
            if item.name in self.SCHEMA:
                continue
            value = getattr(self, item.name)
            known = kinds[str(item.type)]
            if not isinstance(value, (*known, np.generic)) or isinstance(value, bool):
                raise BadInput(f"{item.name} is {value!r}")
            if isinstance(value, int | float | np.number) and not math.isfinite(value):
                raise BadInput(f"{item.name} is {value!r}")

    def save(self, path: Path) -> None:
        """Write the bundle as a compressed npz, atomically."""
        arrays = {name: getattr(self, name) for name in self.SCHEMA}
        texts = {item.name: np.asarray(getattr(self, item.name)) for item in fields(self)} | arrays
        # Not numpy's own: it stamps the time into the file, and on a full disk leaves its zip open.
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as stored:
            for name, array in texts.items():
                member = zipfile.ZipInfo(f"{name}.npy")
                member.compress_type = zipfile.ZIP_DEFLATED
                with stored.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)  # type: ignore[no-untyped-call]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and validate a bundle.

        Raises:
            BadInput: The file is missing, damaged, or not of this format.
        """
        try:
            # Opened here, since numpy leaves open what turns out to be a damaged zip.
            with path.open("rb") as stream, zipfile.ZipFile(stream) as stored:
                names = set(stored.namelist())
                values: dict[str, Any] = {
                    item.name: cls.read_field(stored, item.name)
                    for item in fields(cls)
                    # A field that came later has a default, and older files lack it.
                    if item.default_factory is MISSING or f"{item.name}.npy" in names
                }
        except FileNotFoundError as error:
            raise BadInput(f"{path} is missing", hint="run the stage that makes it") from error
        except _DAMAGED as error:
            first = " ".join(str(error).split())[:200]
            raise BadInput(f"{path} is damaged: {first}", hint=DELETE_AND_REPEAT) from error
        try:
            return cls(**values)
        except BadInput as error:
            raise BadInput(f"{path} is damaged: {error.message}", hint=DELETE_AND_REPEAT) from error

    @classmethod
    def read_field(cls, stored: zipfile.ZipFile, name: str) -> Any:  # noqa: ANN401 - an array, a text or a number
        """One field, once its header says that it is of the right kind and that there is room for it.

        Raises:
            ValueError: It is not, or claims more than there is; other errors of zipfile and numpy where it is damaged.
        """
        member = stored.getinfo(f"{name}.npy")
        with stored.open(member) as stream:
            shape, dtype = _array_header(stream)
            needed = math.prod(shape) * dtype.itemsize
            if name in cls.SCHEMA:
                wanted = cls.SCHEMA[name]
                if dtype != np.dtype(wanted[0]) or len(shape) != len(wanted[1]):
                    raise ValueError(f"{name} is {dtype} {shape}")
            elif shape or dtype.kind not in "Uif" or needed > _MOST_TEXT_BYTES:
                raise ValueError(f"{name} is {dtype} {shape}")
            if needed > member.file_size or needed > _free_memory():
                raise ValueError(f"{name} claims {needed} bytes")
        with stored.open(member) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)  # type: ignore[no-untyped-call]
        return array if name in cls.SCHEMA else array.item()


@dataclass(frozen=True)
class Landmarks(_Arrays):
    """Face landmarks of every frame.

    Attributes:
        points: (N, 478, 3) float32. x right and y down in pixels of the prepared frame; z in pixels,
            relative to the head's centre, growing away from the viewer. Zero where no face was found.
        found: (N,) bool, whether a face was found in the frame.
        model: ``"tasks"`` (Face Landmarker) or ``"mesh"`` (bundled face mesh with refined irises).
        size_px: Side of the prepared frames.
    """

    SCHEMA: ClassVar[dict[str, tuple[str, Shape]]] = {
        "points": ("float32", ("N", 478, 3)),
        "found": ("bool", ("N",)),
    }

    points: npt.NDArray[np.float32]
    found: npt.NDArray[np.bool_]
    model: str
    size_px: int


@dataclass(frozen=True)
class Track(_Arrays):
    """Camera, head pose, eyes, brows and mouth of every frame.

    Attributes:
        rotation: (N, 3, 3) float32, head to camera (OpenCV axes: x right, y down, z forward).
        translation: (N, 3) float32, cm, head to camera.
        eye_open: (N,) float32 in [0, 1.5], mean eye aspect ratio over the clip's open value; 0 is shut.
        mouth_open: (N,) float32 >= 0, gap between the inner lips over the distance between the outer
            eye corners, frontalised by the head pose.
        mouth_wide: (N,) float32 > 0, distance between the mouth's corners over that of the outer eye corners,
            frontalised by the head pose.
        mouth_shape: (N, 40, 2) float32, the 40 lip landmarks in the head frame (x, y in cm), pose removed.
        tracked: (N,) bool, whether the pose comes from landmarks (not bridged over a gap).
        blinks: (B,) int64, the frames in which a blink is deepest.
        shape_offset_cm: (468, 3) float32, this face minus the canonical face.
        focal_px, centre_x_px, centre_y_px: The one camera, in pixels of the prepared frame.
        reprojection_rms_px: Root mean square over rigid landmarks and frames.
        size_px: Side of the prepared frames.
        brow_mm: (N,) float32, how far the brows are above their usual place in the head's frame; 0 throughout where
            nobody looked.
    """

    SCHEMA: ClassVar[dict[str, tuple[str, Shape]]] = {
        "rotation": ("float32", ("N", 3, 3)),
        "translation": ("float32", ("N", 3)),
        "eye_open": ("float32", ("N",)),
        "mouth_open": ("float32", ("N",)),
        "mouth_wide": ("float32", ("N",)),
        "mouth_shape": ("float32", ("N", 40, 2)),
        "tracked": ("bool", ("N",)),
        "blinks": ("int64", ("B",)),
        "shape_offset_cm": ("float32", (468, 3)),
        "brow_mm": ("float32", ("N",)),
    }

    rotation: npt.NDArray[np.float32]
    translation: npt.NDArray[np.float32]
    eye_open: npt.NDArray[np.float32]
    mouth_open: npt.NDArray[np.float32]
    mouth_wide: npt.NDArray[np.float32]
    mouth_shape: npt.NDArray[np.float32]
    tracked: npt.NDArray[np.bool_]
    blinks: npt.NDArray[np.int64]
    shape_offset_cm: npt.NDArray[np.float32]
    focal_px: float
    centre_x_px: float
    centre_y_px: float
    reprojection_rms_px: float
    size_px: int
    brow_mm: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        """Check the arrays; a track from before brows were measured has none, and counts as never raising them."""
        if not self.brow_mm.size:
            object.__setattr__(self, "brow_mm", np.zeros(len(self.tracked), np.float32))
        super().__post_init__()


@dataclass(frozen=True)
class AudioFeatures(_Arrays):
    """Features of a piece of sound at 50 Hz.

    Attributes:
        values: (T, C) float32; row t describes [t/50, (t+1)/50) seconds.
        level_db: (T,) float32, root mean square of the row's sound in dB below full scale, floored at -100.
        front_end: Name of the front end that made them.
        model: What identifies the front end's weights; empty when it has none.
        voiced: (T,) float32 in [0, 1], whether somebody speaks; 1 throughout where nobody looked.
    """

    SCHEMA: ClassVar[dict[str, tuple[str, Shape]]] = {
        "values": ("float32", ("T", "C")),
        "level_db": ("float32", ("T",)),
        "voiced": ("float32", ("T",)),
    }

    values: npt.NDArray[np.float32]
    level_db: npt.NDArray[np.float32]
    front_end: str
    model: str
    voiced: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        """Check the arrays; a file from before the voice was looked for has none, and counts as speech throughout."""
        if not self.voiced.size:
            object.__setattr__(self, "voiced", np.ones(len(self.level_db), np.float32))
        super().__post_init__()

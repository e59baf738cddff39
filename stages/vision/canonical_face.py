"""MediaPipe's canonical face mesh: the world in which heads, poses and cameras are described.

The mesh is the one that the face landmarker carries in its geometry metadata (Apache-2.0, see NOTICE in this
folder). Its first 468 landmarks are the first 468 points of every MediaPipe face mesh, in the same order.
Frame: centimetres, x to the image's right for a frontal face, y up, z out of the face towards the viewer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_DATA = Path(__file__).with_name("canonical_face.npz")

__all__ = ["rigid_weights", "triangles", "uv", "vertices_cm"]


def _load() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    with np.load(_DATA, allow_pickle=False) as data:
        arrays = (
            data["vertices_cm"].astype(np.float32),
            data["triangles"].astype(np.int64),
            data["rigid_weights"].astype(np.float32),
            data["uv"].astype(np.float32),
        )
    for array in arrays:
        array.setflags(write=False)
    return arrays


vertices_cm: NDArray[np.float32]
"""(468, 3) float32, cm: the landmarks of the mean face at rest. Read-only."""

triangles: NDArray[np.int64]
"""(898, 3) int64: indices into ``vertices_cm``, counter-clockwise seen from outside. Read-only."""

rigid_weights: NDArray[np.float32]
"""(468,) float32 in [0, 0.121]: how much each landmark counts in MediaPipe's own rigid alignment.

Non-zero for 33 landmarks that expressions hardly move; they sum to 1.055. Read-only.
"""

uv: NDArray[np.float32]
"""(468, 2) float32 in [0, 1]: texture coordinates, v upwards. Read-only."""

vertices_cm, triangles, rigid_weights, uv = _load()

"""Software rasteriser: which triangle each pixel sees, with a z-buffer, in compiled loops."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def rasterise(
    points: Floats,
    triangles: Ints,
    depth: NDArray[np.float32],
    seen: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> None:
    """Find the nearest triangle of every pixel.

    Args:
        points: (v, 3) float64: x and y in pixels (pixel centres at .5) and a nearness that is linear on the
            screen (1 / z for a pinhole, -z for a parallel projection); larger is nearer.
        triangles: (t, 3) int64, of either winding.
        depth: (h, w) float32, overwritten: the nearness, -1e30 where nothing is.
        seen: (h, w) int32, overwritten: the triangle, or -1.
        weights: (h, w, 2) float32, overwritten: screen-space barycentric weights of its first two corners.
    """
    height, width = depth.shape
    depth[:] = -1e30
    seen[:] = -1
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        scale = 1.0 / area
        left = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        top = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for y in range(top, bottom + 1):
            py = y + 0.5
            for x in range(left, right + 1):
                px = x + 0.5
                u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * scale
                v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * scale
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                near = u * az + v * bz + w * cz
                if near > depth[y, x]:
                    depth[y, x] = near
                    seen[y, x] = t
                    weights[y, x, 0] = u
                    weights[y, x, 1] = v


def depth_only(points: Floats, triangles: Ints, depth: NDArray[np.float32]) -> None:
    """As ``rasterise``, but give nothing except the nearness: for shadow maps.

    Args:
        points: (v, 3) float64.
        triangles: (t, 3) int64.
        depth: (h, w) float32, overwritten.
    """
    seen = np.empty(depth.shape, dtype=np.int32)
    weights = np.empty((*depth.shape, 2), dtype=np.float32)
    rasterise(points, triangles, depth, seen, weights)

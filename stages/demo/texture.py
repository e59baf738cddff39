"""What the figure is painted with: skin, hair, cloth and the room behind, drawn once from seeded noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.demo.body import SKULL_CENTRE_CM, smoothstep
from stages.vision import canonical_face

Floats = NDArray[np.float64]

HEAD_HEIGHT, HEAD_WIDTH = 1024, 2048
CLOTH_SIZE, CLOTH_SPAN_CM, CLOTH_TOP_CM = 768, 50.0, -8.0
_BROWS = ((70, 63, 105, 66, 107), (46, 53, 52, 65, 55)), ((300, 293, 334, 296, 336), (276, 283, 282, 295, 285))


def head_coordinates(points_cm: Floats) -> Floats:
    """(n, 2) in [0, 1]: longitude and latitude of points (n, 3) seen from the middle of the skull."""
    offset = points_cm - SKULL_CENTRE_CM
    longitude = np.arctan2(offset[:, 0], offset[:, 2])
    latitude = np.arctan2(offset[:, 1], np.hypot(offset[:, 0], offset[:, 2]))
    return np.stack([longitude / (2 * np.pi) + 0.5, 0.5 - latitude / np.pi], axis=1)


def head_texture(seed: int) -> NDArray[np.float32]:
    """Skin and hair of the head, in ``head_coordinates``.

    Args:
        seed: Of freckles, pores, strands.

    Returns:
        (HEAD_HEIGHT, HEAD_WIDTH, 5) float32: skin colour (linear RGB), hair brightness around 1, and a noise in
        [-1, 1] that makes the hairline ragged.
    """
    random = np.random.default_rng([seed, 2])
    shape = (HEAD_HEIGHT, HEAD_WIDTH)
    skin = np.tile(np.array([0.52, 0.285, 0.19]), (*shape, 1))
    blotch = _noise(shape, 40, random) + 0.6 * _noise(shape, 14, random)
    skin *= 1 + 0.035 * blotch[..., None] * np.array([0.6, 1.0, 1.1])
    pores = _noise(shape, 1.3, random) + 0.7 * _noise(shape, 3.0, random)
    skin *= 1 + 0.035 * pores[..., None]
    landmarks = canonical_face.vertices_cm.astype(np.float64)
    for index, size, strength in ((50, 2.0, 0.10), (280, 2.0, 0.10), (4, 1.1, 0.10), (152, 1.5, 0.04)):
        skin *= 1 + strength * _spot(landmarks[index], size)[..., None] * np.array([0.5, -1.0, -0.8])
    for index in (119, 348):
        skin *= 1 - 0.10 * _spot(landmarks[index] + np.array([0, 0.3, 0]), 0.9)[..., None] * np.array([0.7, 1.0, 0.8])
    freckle_field = np.clip(_noise(shape, 2.2, random) - 1.9, 0, 1)
    freckled = sum(_spot(landmarks[index], 2.6) for index in (50, 280, 6))
    skin *= 1 - 0.55 * (freckle_field * np.clip(freckled, 0, 1))[..., None] * np.array([0.6, 0.9, 1.0])
    skin *= _beard(landmarks, shape, random)[..., None] * np.array([1.0, 1.0, 1.0])
    _paint_brows(skin, landmarks, random)
    strands = _stretched((0.9, 26), shape, random) + 0.8 * _stretched((2.5, 60), shape, random)
    strands += 0.8 * _stretched((7, 90), shape, random)
    hair = np.exp(0.33 * strands)
    ragged = np.clip(0.5 * _stretched((1.6, 14), shape, random) + 0.4 * _noise(shape, 9, random), -1, 1)
    return np.asarray(np.concatenate([skin, hair[..., None], ragged[..., None]], axis=2), dtype=np.float32)


def cloth_texture(seed: int) -> NDArray[np.float32]:
    """Jacket and shirt seen from the front, (CLOTH_SIZE, CLOTH_SIZE, 3) linear RGB; x and y span CLOTH_SPAN_CM."""
    random = np.random.default_rng([seed, 3])
    shape = (CLOTH_SIZE, CLOTH_SIZE)
    y, x = np.mgrid[0:CLOTH_SIZE, 0:CLOTH_SIZE] * (CLOTH_SPAN_CM / CLOTH_SIZE)
    x, y = x - CLOTH_SPAN_CM / 2, CLOTH_TOP_CM - y
    weave = 0.6 * _noise(shape, 0.8, random) + 0.5 * _noise(shape, 5, random)
    stripes = np.exp(-((((x + 100) % 1.6) - 0.8) ** 2) / 0.004)
    jacket = np.array([0.020, 0.025, 0.042]) * (1 + 0.16 * weave[..., None] + 0.5 * stripes[..., None])
    below = -(y + 13.0)
    opening = np.interp(below, [0, 3, 9, 18, 26], [6.4, 6.9, 5.6, 2.6, 0.0])
    lapel_width = np.interp(below, [0, 2, 7, 10, 26], [2.0, 3.0, 5.2, 4.6, 0.0])
    inside = smoothstep((opening - np.abs(x)) / 0.12 + 0.5)[..., None]
    outside_lapel = np.abs(x) - opening - lapel_width
    seam = np.exp(-((outside_lapel / 0.22) ** 2)) * (lapel_width > 0.1)
    lapel = smoothstep(-outside_lapel / 0.1 + 0.5)
    jacket = jacket * (1 + 0.35 * lapel[..., None]) * (1 - 0.6 * seam[..., None])
    folds = 1 + 0.08 * _noise(shape, 22, random)
    edge = 1 - 0.35 * np.exp(-(((opening - np.abs(x)) / 0.7) ** 2))
    shirt = np.array([0.42, 0.47, 0.56]) * (folds * edge * (1 + 0.02 * weave))[..., None]
    return np.asarray(jacket * (1 - inside) + shirt * inside, dtype=np.float32)


def background(size: int, seed: int) -> NDArray[np.float32]:
    """A quiet room out of focus: wall, shelves with books, a lamp and a plant; (size, size, 3) linear RGB."""
    random = np.random.default_rng([seed, 4])
    n = 512
    y, x = np.mgrid[0:n, 0:n] / n
    room = np.tile(np.array([0.16, 0.19, 0.22]), (n, n, 1))
    room *= (1.1 - 0.45 * y + 0.25 * np.exp(-(((x - 0.15) / 0.35) ** 2)))[..., None]
    for shelf in range(4):
        top, bottom = 0.06 + 0.235 * shelf, 0.06 + 0.235 * shelf + 0.2
        at = 0.6
        while at < 1.0:
            wide, high = random.uniform(0.012, 0.035), random.uniform(0.55, 0.95)
            colour = random.uniform(0.02, 0.22) * np.array([1.0, 0.75, 0.55]) * random.uniform(0.5, 1.3, 3)
            book = (x >= at) & (x < at + wide) & (y > bottom - high * (bottom - top)) & (y < bottom)
            room[book] = colour * (0.8 + 0.3 * np.cos((x[book] - at) / wide * 2.5)[:, None])
            at += wide + (random.uniform(0.02, 0.08) if random.random() < 0.15 else 0.001)
        board = (x >= 0.585) & (y >= bottom) & (y < bottom + 0.025)
        room[board] = np.array([0.16, 0.10, 0.06])
    frame = (np.abs(x - 0.2) < 0.13) & (np.abs(y - 0.24) < 0.16)
    inner = (np.abs(x - 0.2) < 0.115) & (np.abs(y - 0.24) < 0.145)
    room[frame] = np.array([0.05, 0.04, 0.035])
    hills = 0.27 + 0.05 * np.sin(17 * x) + 0.03 * np.sin(41 * x + 1)
    picture = np.where((y < hills)[..., None], np.array([0.30, 0.38, 0.44]), np.array([0.10, 0.16, 0.07]))
    room[inner] = picture[inner]
    lamp = np.exp(-(((x - 0.08) / 0.05) ** 2) - ((y - 0.72) / 0.05) ** 2)
    room += lamp[..., None] * np.array([0.9, 0.6, 0.3]) * 0.6
    room = gaussian_filter(room, (4.0, 4.0, 0)) * (1 + 0.03 * _noise((n, n), 1.5, random)[..., None])
    return np.asarray(np.clip(_enlarged(room, (size, size)), 0, 1), dtype=np.float32)


def _beard(landmarks: Floats, shape: tuple[int, int], random: np.random.Generator) -> Floats:
    """A factor on the skin: shaved stubble on chin, jaw and upper lip."""
    places = ((152, 3.2), (172, 2.6), (397, 2.6), (164, 1.3), (136, 2.6), (365, 2.6), (18, 1.8))
    where = np.clip(sum(_spot(landmarks[index], size) for index, size in places), 0, 1)
    dots = np.clip(_noise(shape, 0.8, random) - 0.9, 0, 2)
    return np.asarray(1 - where * (0.09 + 0.14 * dots))


def _paint_brows(skin: Floats, landmarks: Floats, random: np.random.Generator) -> None:
    """Draw two brows of fine strokes over the skin, in place."""
    scale = np.array([HEAD_WIDTH, HEAD_HEIGHT])
    ink = np.zeros(skin.shape[:2])
    for upper_ids, lower_ids in _BROWS:
        upper, lower = (head_coordinates(landmarks[list(ids)]) * scale for ids in (upper_ids, lower_ids))
        for _ in range(420):
            along, across = random.uniform(0, 1), random.triangular(0.05, 0.5, 0.95)
            k = along * 4
            top = np.array([np.interp(k, np.arange(5), upper[:, axis]) for axis in (0, 1)])
            bottom = np.array([np.interp(k, np.arange(5), lower[:, axis]) for axis in (0, 1)])
            squeeze = 0.55 + 0.25 * along
            start = top + (0.5 + (across - 0.5) * squeeze) * (bottom - top)
            outer = upper[0] - upper[4]
            heading = outer / np.linalg.norm(outer) + np.array([0, -0.55 * along - 0.05 + random.normal(0, 0.12)])
            for step in np.linspace(0, random.uniform(7, 13), 14):
                px, py = (start + step * heading).astype(int)
                ink[py, px] += 0.5
    ink = np.clip(gaussian_filter(ink, 0.9) * 2.0 + 0.35 * np.clip(gaussian_filter(ink, 4.0) * 2.5, 0, 1), 0, 0.80)
    skin *= 1 - ink[..., None]
    skin += ink[..., None] * np.array([0.030, 0.018, 0.011])


def _spot(centre_cm: Floats, size_cm: float) -> Floats:
    """A soft round spot on the head texture, 1 in its middle; the size is a standard deviation."""
    s, t = head_coordinates(centre_cm[None])[0]
    distance_cm = float(np.linalg.norm(centre_cm - SKULL_CENTRE_CM))
    y, x = np.mgrid[0:HEAD_HEIGHT:4, 0:HEAD_WIDTH:4] + 2.0
    latitude = (0.5 - t) * np.pi
    dx = (x / HEAD_WIDTH - s) * 2 * np.pi * distance_cm * np.cos(latitude)
    dy = (y / HEAD_HEIGHT - t) * np.pi * distance_cm
    return _enlarged(np.exp(-0.5 * (dx**2 + dy**2) / size_cm**2), (HEAD_HEIGHT, HEAD_WIDTH))


def _noise(shape: tuple[int, int], scale_px: float, random: np.random.Generator) -> Floats:
    """Smooth noise of zero mean and unit deviation."""
    return _stretched((scale_px, scale_px), shape, random)


def _stretched(scale_px: tuple[float, float], shape: tuple[int, int], random: np.random.Generator) -> Floats:
    """As ``_noise``, with its own scale along x and along y."""
    # Smooth noise needs few samples: it is made coarse and enlarged.
    steps = tuple(max(int(scale / 3), 1) for scale in (scale_px[1], scale_px[0]))
    coarse = (-(-shape[0] // steps[0]), -(-shape[1] // steps[1]))
    rough = random.standard_normal(coarse)
    fine = gaussian_filter(rough, (scale_px[1] / steps[0], scale_px[0] / steps[1]), mode="wrap")
    fine = _enlarged(fine, shape)
    return np.asarray((fine - fine.mean()) / fine.std())


def _enlarged(values: Floats, shape: tuple[int, int]) -> Floats:
    """The values (h, w[, channels]) at another height and width, interpolated linearly."""
    return np.asarray(cv2.resize(values, shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float64)

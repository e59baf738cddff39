"""Light: colour of every visible pixel from its material, three lamps, a soft shadow and the open sky."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

KEY = np.array([-0.42, -0.52, -0.74]) / np.linalg.norm([-0.42, -0.52, -0.74])
_FILL = np.array([0.80, -0.05, -0.60])
_BACK = np.array([0.62, -0.45, 0.64])
_CLASSES = np.array([3, 3, 3, 3, 2, 1, 1, 1], dtype=np.uint8)
_CLOTH_SPAN_CM, _CLOTH_TOP_CM = 50.0, -8.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sample(texture: Floats32, s: float, t: float, out: Floats) -> None:
    height, width, channels = texture.shape
    x = min(max(s * width - 0.5, 0.0), width - 1.001)
    y = min(max(t * height - 0.5, 0.0), height - 1.001)
    x0, y0 = int(x), int(y)
    fx, fy = x - x0, y - y0
    for c in range(channels):
        top = texture[y0, x0, c] * (1 - fx) + texture[y0, x0 + 1, c] * fx
        low = texture[y0 + 1, x0, c] * (1 - fx) + texture[y0 + 1, x0 + 1, c] * fx
        out[c] = top * (1 - fy) + low * fy


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _step(low: float, high: float, x: float) -> float:
    x = min(max((x - low) / (high - low), 0.0), 1.0)
    return x * x * (3 - 2 * x)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _eye(a: Floats, colour: Floats) -> None:
    """White, iris and pupil from the direction (x, y, z) within the eye; sets colour and returns nothing."""
    radius = np.sqrt(a[6] * a[6] + a[7] * a[7])
    if a[8] < 0:
        radius = 2.0
    angle = np.arctan2(a[7], a[6])
    iris = 1 - _step(0.375, 0.405, radius)
    pupil = 1 - _step(0.150, 0.172, radius)
    fibres = 0.75 + 0.22 * np.sin(23 * angle + 2 * np.sin(5 * angle)) + 0.12 * np.sin(41 * angle)
    glow = 0.5 + 0.8 * _step(0.14, 0.3, radius) - 1.0 * _step(0.31, 0.41, radius)
    red = 0.10 * _step(0.55, 0.95, radius)
    white = (0.60, 0.56 - red, 0.53 - red)
    brown = (0.085, 0.105, 0.095)
    for c in range(3):
        colour[c] = white[c] * (1 - iris) + iris * brown[c] * fibres * glow * (1 - pupil) + iris * pupil * 0.004


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _albedo(material: int, a: Floats, head: Floats32, cloth: Floats32, texel: Floats, colour: Floats) -> float:
    """Colour of a surface point from its attributes; returns its gloss (negative: hair)."""
    if material == 0 or material == 4:
        _sample(head, a[0], a[1], texel)
        hair = _step(0.40, 0.62, a[4] + 0.28 * texel[4] * min(4 * a[4], 1.0)) if a[4] > 0.02 else 0.0
        lip = _step(0.42, 0.75, a[2])
        lash = _step(0.80, 0.97, a[3]) + 0.3 * _step(0.30, 0.46, a[3]) * (1 - _step(0.6, 0.7, a[3]))
        lines = 1 + 0.06 * np.sin(19 * a[6] + 2 * np.sin(3 * a[6])) if lip > 0 else 1.0
        lips = (0.37 * lines, 0.108 * lines, 0.098 * lines)
        dark = (0.022 * texel[3], 0.0135 * texel[3], 0.0085 * texel[3])
        for c in range(3):
            skin = texel[c] * (1 - 0.8 * lip) + 0.8 * lip * lips[c]
            skin *= 1 - 0.88 * min(lash, 1.0)
            colour[c] = skin * (1 - hair) + dark[c] * hair
        return -texel[3] if hair > 0.5 else 0.16 + 0.30 * lip
    if material == 1:
        _eye(a, colour)
        return 1.6
    if material == 2:
        phase = np.abs(a[6]) / 0.78
        gap = np.abs(phase - np.floor(phase + 0.5)) if np.abs(a[6]) > 0.2 else min(np.abs(phase), 1.0)
        shade = (0.45 + 0.55 * _step(0.0, 0.09, gap)) * (1 - 0.55 * _step(1.0, 2.4, np.abs(a[6])))
        colour[0], colour[1], colour[2] = 0.66 * shade, 0.62 * shade, 0.54 * shade
        return 0.5
    if material == 3:
        m = a[2]
        colour[0], colour[1], colour[2] = 0.06 + 0.38 * m, 0.012 + 0.135 * m, 0.012 + 0.125 * m
        return 0.2
    if material == 5:
        _sample(cloth, a[6] / _CLOTH_SPAN_CM + 0.5, (_CLOTH_TOP_CM - a[7]) / _CLOTH_SPAN_CM, texel)
        colour[0], colour[1], colour[2] = texel[0], texel[1], texel[2]
        return 0.03
    if material == 6:
        colour[0], colour[1], colour[2] = 0.46, 0.51, 0.60
        return 0.03
    stripe = 0.5 + 0.5 * np.sin((a[6] + a[7]) * 4.0)
    band = _step(0.75, 0.85, stripe)
    colour[0], colour[1], colour[2] = 0.17 + 0.2 * band, 0.015 + 0.2 * band, 0.03 + 0.2 * band
    return 0.12


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lit(shadow: Floats32, basis: Floats, p: Floats) -> float:
    """Share of the key lamp that reaches a point: percentage-closer filtering over 5 x 5 texels of the map."""
    size = shadow.shape[0]
    x = p[0] * basis[0, 0] + p[1] * basis[0, 1] + p[2] * basis[0, 2] + basis[0, 3]
    y = p[0] * basis[1, 0] + p[1] * basis[1, 1] + p[2] * basis[1, 2] + basis[1, 3]
    near = p[0] * basis[2, 0] + p[1] * basis[2, 1] + p[2] * basis[2, 2] + basis[2, 3] + 0.35
    fx, fy = x - 0.5 - np.floor(x - 0.5), y - 0.5 - np.floor(y - 0.5)
    x0, y0 = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    if x0 < 3 or y0 < 3 or x0 >= size - 4 or y0 >= size - 4:
        return 1.0
    total = 0.0
    for dy in range(-2, 4):
        row = 0.0
        for dx in range(-1, 3):
            row += 1.0 if near >= shadow[y0 + dy, x0 + dx] else 0.0
        row += 1 - fx if near >= shadow[y0 + dy, x0 - 2] else 0.0
        row += fx if near >= shadow[y0 + dy, x0 + 3] else 0.0
        total += row * ((1 - fy) if dy == -2 else (fy if dy == 3 else 1.0))
    return total / 25.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _light(
    n: Floats, p: Floats, colour: Floats, gloss: float, sky: float, lit: float, skin: float, out: Floats
) -> None:
    """Colour times light, plus shine, into a pixel (3,)."""
    length = np.sqrt(p[0] ** 2 + p[1] ** 2 + p[2] ** 2)
    vx, vy, vz = -p[0] / length, -p[1] / length, -p[2] / length
    facing = max(n[0] * vx + n[1] * vy + n[2] * vz, 0.0)
    key = n[0] * KEY[0] + n[1] * KEY[1] + n[2] * KEY[2]
    fill = n[0] * _FILL[0] + n[1] * _FILL[1] + n[2] * _FILL[2]
    back = max(n[0] * _BACK[0] + n[1] * _BACK[1] + n[2] * _BACK[2], 0.0)
    hx, hy, hz = KEY[0] + vx, KEY[1] + vy, KEY[2] + vz
    half = max((n[0] * hx + n[1] * hy + n[2] * hz) / np.sqrt(hx * hx + hy * hy + hz * hz), 0.0)
    fresnel = (1 - facing) ** 4
    up = 0.5 - 0.5 * n[1]
    half9 = half**9
    if gloss >= 0:
        shine = gloss * (half9 * half9 * half9 * half9 * 0.55 + half9 * 0.10) * lit
        shine += 0.10 * fresnel * sky * min(gloss * 4, 1.0)
    else:
        shine = -gloss * (0.045 * half9 * lit + 0.05 * fresnel * sky + 0.06 * back**2 * sky)
    if gloss > 1.0:
        shine = 1.5 * lit * half**300 + 0.05 * fresnel * sky
    wraps = (0.30, 0.14, 0.10)
    key_colour, fill_colour, sky_colour = (1.98, 1.86, 1.71), (0.42, 0.46, 0.54), (0.40, 0.43, 0.48)
    for c in range(3):
        wrap = wraps[c] * skin
        direct = max((key + wrap) / (1 + wrap), 0.0)
        side = max((fill + 0.35) / 1.35, 0.0) * (0.35 + 0.65 * sky)
        ambient = sky_colour[c] * sky * (0.45 + 0.65 * up)
        light = key_colour[c] * direct * lit + fill_colour[c] * side + ambient + 0.9 * back * sky * (1 - 0.6 * skin)
        out[c] = colour[c] * light + shine * key_colour[c] * 0.5


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mix(
    i: int,
    j: int,
    k: int,
    u: float,
    v: float,
    w: float,
    attributes: Floats,
    normals: Floats,
    camera_cm: Floats,
    a: Floats,
    n: Floats,
    p: Floats,
) -> None:
    """Attributes, unit normal and position between three vertices, by unnormalised weights, into a, n and p."""
    total = u + v + w
    u, v, w = u / total, v / total, w / total
    for c in range(a.shape[0]):
        a[c] = u * attributes[i, c] + v * attributes[j, c] + w * attributes[k, c]
    for c in range(3):
        n[c] = u * normals[i, c] + v * normals[j, c] + w * normals[k, c]
        p[c] = u * camera_cm[i, c] + v * camera_cm[j, c] + w * camera_cm[k, c]
    length = np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2) + 1e-12
    for c in range(3):
        n[c] /= length


@numba.njit(cache=True, nogil=True, error_model="numpy")
def shade(
    seen: NDArray[np.int32],
    weights: Floats32,
    near: Floats,
    triangles: Ints,
    material: NDArray[np.uint8],
    camera_cm: Floats,
    normals: Floats,
    attributes: Floats,
    head: Floats32,
    cloth: Floats32,
    shadow: Floats32,
    shadow_basis: Floats,
    image: Floats32,
    classes: NDArray[np.uint8],
) -> None:
    """Colour the picture in place where the figure is seen.

    Args:
        seen: (h, w) int32 triangle of each pixel, -1 for none.
        weights: (h, w, 2) float32 screen-space barycentric weights.
        near: (v,) float64, 1 / z of each vertex.
        triangles: (t, 3) int64.
        material: (t,) uint8.
        camera_cm: (v, 3) float64 vertices in camera axes.
        normals: (v, 3) float64, unit, camera axes.
        attributes: (v, 9) float64, columns of ``figure.Attribute``.
        head: Texture of skin and hair.
        cloth: Texture of the jacket.
        shadow: (s, s) float32 nearness to the key lamp.
        shadow_basis: (3, 4) from camera axes to the shadow map's x, y and nearness.
        image: (h, w, 3) float32 linear RGB; holds the background, overwritten where the figure is.
        classes: (h, w) uint8, overwritten: 0 background, 1 torso, 2 neck, 3 head.
    """
    height, width = seen.shape
    a, n, p = np.empty(attributes.shape[1]), np.empty(3), np.empty(3)
    texel, colour, pixel = np.empty(8), np.empty(3), np.empty(3)
    for y in range(height):
        for x in range(width):
            t = seen[y, x]
            if t < 0:
                classes[y, x] = 0
                continue
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u, v = weights[y, x, 0] * near[i], weights[y, x, 1] * near[j]
            w = (1.0 - weights[y, x, 0] - weights[y, x, 1]) * near[k]
            _mix(i, j, k, u, v, w, attributes, normals, camera_cm, a, n, p)
            kind = material[t]
            classes[y, x] = _CLASSES[kind]
            gloss = _albedo(kind, a, head, cloth, texel, colour)
            sky, lit = a[5], 1.0
            if kind == 2 or kind == 3:
                # A shadow map is too coarse for the inside of the mouth: light falls off with depth instead.
                front = _step(0.6, 4.6, a[8])
                sky, lit = 0.15 + 0.5 * front, 0.32 * front
            elif n[0] * KEY[0] + n[1] * KEY[1] + n[2] * KEY[2] > -0.3:
                lit = _lit(shadow, shadow_basis, p)
            skin = 1.0 if (kind == 0 and gloss >= 0) or kind == 4 else 0.0
            _light(n, p, colour, gloss, sky, lit, skin, pixel)
            image[y, x, 0], image[y, x, 1], image[y, x, 2] = pixel[0], pixel[1], pixel[2]

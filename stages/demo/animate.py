"""From sound to movement: lip shapes from phonemes, head pose, blinks, gaze and brows, all at 25 frames/s."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from stages.demo.speech import SAMPLE_RATE_HZ, Speech

Floats = NDArray[np.float64]

FPS = 25
_CURVE_HZ = 400
_BLOCKS = 6  # of sound in a frame, when its level is measured
_ARTICULATION_SIGMA_S = 0.042
_PRESS_SIGMA_S = 0.026
_ANTICIPATION_S = 0.02
_YAW_DEG, _PITCH_DEG, _ROLL_DEG = 12.0, 8.0, 4.0

_SHAPES: dict[str, tuple[float, float, float, float, float]] = {
    # opening, width, protrusion, press (lips together), tuck (lower lip to upper teeth)
    "a": (1.00, 0.20, 0.0, 0, 0), "ɑ": (1.00, -0.05, 0.05, 0, 0), "æ": (0.92, 0.55, 0.0, 0, 0),
    "ɐ": (0.75, 0.10, 0.0, 0, 0), "ʌ": (0.78, 0.10, 0.0, 0, 0), "ɛ": (0.62, 0.50, 0.0, 0, 0),
    "e": (0.48, 0.65, 0.0, 0, 0), "ə": (0.42, 0.05, 0.05, 0, 0), "ɜ": (0.45, -0.1, 0.25, 0, 0),
    "ɚ": (0.42, -0.2, 0.35, 0, 0), "ɪ": (0.34, 0.60, 0.0, 0, 0), "ᵻ": (0.34, 0.45, 0.0, 0, 0),
    "i": (0.26, 0.95, 0.0, 0, 0), "ɔ": (0.72, -0.55, 0.55, 0, 0), "o": (0.55, -0.75, 0.75, 0, 0),
    "ʊ": (0.34, -0.65, 0.75, 0, 0), "u": (0.24, -0.95, 1.0, 0, 0), "y": (0.24, -0.85, 1.0, 0, 0),
    "ʏ": (0.30, -0.70, 0.85, 0, 0), "ø": (0.40, -0.70, 0.85, 0, 0), "œ": (0.55, -0.60, 0.70, 0, 0),
    "p": (0.0, 0.0, 0.1, 1, 0), "b": (0.0, 0.0, 0.1, 1, 0), "m": (0.0, 0.05, 0.05, 1, 0),
    "f": (0.14, 0.15, 0.0, 0.0, 1), "v": (0.16, 0.10, 0.0, 0.0, 1),
    "w": (0.14, -0.95, 1.0, 0, 0), "ɹ": (0.26, -0.45, 0.6, 0, 0), "r": (0.34, 0.0, 0.1, 0, 0),
    "ʃ": (0.24, -0.45, 0.8, 0, 0), "ʒ": (0.24, -0.45, 0.8, 0, 0), "ç": (0.24, 0.55, 0.0, 0, 0),
    "s": (0.15, 0.55, 0.0, 0, 0), "z": (0.15, 0.50, 0.0, 0, 0), "t": (0.22, 0.30, 0.0, 0, 0),
    "d": (0.24, 0.25, 0.0, 0, 0), "n": (0.24, 0.25, 0.0, 0, 0), "l": (0.36, 0.25, 0.0, 0, 0),
    "ɾ": (0.28, 0.20, 0.0, 0, 0), "θ": (0.26, 0.20, 0.0, 0, 0), "ð": (0.26, 0.20, 0.0, 0, 0),
    "k": (0.34, 0.10, 0.0, 0, 0), "ɡ": (0.34, 0.10, 0.0, 0, 0), "ŋ": (0.34, 0.10, 0.0, 0, 0),
    "x": (0.36, 0.00, 0.0, 0, 0), "h": (0.45, 0.05, 0.0, 0, 0), "j": (0.24, 0.75, 0.0, 0, 0),
    "ʔ": (0.25, 0.0, 0.0, 0, 0),
}  # fmt: skip
_REST = (0.0, 0.0, 0.0, 1.0, 0.0)
_UNKNOWN = (0.3, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Motion:
    """Everything that moves, one row a frame.

    Attributes:
        opening: (n,) in [0, 1], how far the lips part.
        width: (n,) in [-1, 1], corners drawn in (round) to apart (spread).
        protrusion: (n,) in [0, 1], lips pushed forward.
        tuck: (n,) in [0, 1], lower lip drawn to the upper teeth.
        eye_openness: (n,) in [0, 1], 0 shut.
        brow: (n,) in [-1, 1], lowered to raised.
        gaze_deg: (n, 2) yaw and pitch of the eyes from the direction to the camera.
        angles_deg: (n, 3) yaw (to the image's right), pitch (upwards), roll (clockwise in the image) of the head.
        shift_cm: (n, 3) of the body, in camera axes.
        blink_frames: The frame in the middle of each blink.
    """

    opening: Floats
    width: Floats
    protrusion: Floats
    tuck: Floats
    eye_openness: Floats
    brow: Floats
    gaze_deg: Floats
    angles_deg: Floats
    shift_cm: Floats
    blink_frames: NDArray[np.int64]


def animate(speech: Speech, seed: int) -> Motion:
    """Invent the movement that goes with a speech.

    Args:
        speech: What is heard.
        seed: Of everything that the sound doesn't determine.

    Returns:
        The motion, ``round(duration * 25)`` frames; row i is the state at i / 25 s.
    """
    count = round(speech.duration_s * FPS)
    random = np.random.default_rng([seed, 1])
    lips = lip_curves(speech, count)
    blink_frames = _blink_frames(count, random)
    openness = _eye_openness(count, blink_frames, random)
    angles = np.stack([_wander(count, 0.65, limit, random) for limit in (_YAW_DEG, _PITCH_DEG, _ROLL_DEG)], axis=1)
    shift = np.stack([_wander(count, 1.0, limit, random) for limit in (0.8, 0.4, 0.8)], axis=1)
    loudness = gaussian_filter1d(_loudness(speech, count), 6.0)
    brow = np.clip(_wander(count, 0.45, 0.7, random) + 0.3 * (loudness - loudness.mean()), -1, 1)
    return Motion(
        lips[:, 0],
        lips[:, 1],
        lips[:, 2],
        lips[:, 3],
        openness,
        brow,
        _gaze(count, random),
        angles,
        shift,
        blink_frames,
    )


def lip_curves(speech: Speech, count: int) -> Floats:
    """The lips' targets, blended over neighbouring sounds (co-articulation).

    Each phoneme holds its target for its own time; Gaussian smoothing mixes neighbours, as in the dominance
    model (Cohen and Massaro, 1993). A closure (p, b, m, and silence) is smoothed less, so that it is reached.

    Args:
        speech: Phonemes and sound; quiet stretches open the mouth less than loud ones.
        count: Number of frames.

    Returns:
        (count, 4): opening [0, 1], width [-1, 1], protrusion [0, 1], tuck [0, 1].
    """
    length = max(round(count / FPS * _CURVE_HZ), 1)
    targets = np.tile(np.array(_REST), (length, 1))
    for phoneme in speech.phonemes:
        begin = max(round((phoneme.start_s - _ANTICIPATION_S) * _CURVE_HZ), 0)
        end = max(round((phoneme.end_s - _ANTICIPATION_S) * _CURVE_HZ), begin)
        shapes = [_SHAPES[letter] for letter in phoneme.symbol if letter in _SHAPES]
        if phoneme.symbol and not shapes:
            shapes = [_UNKNOWN]
        for part, piece in zip(
            shapes, np.array_split(np.arange(begin, min(end, length)), max(len(shapes), 1)), strict=False
        ):
            targets[piece] = part
    loudness = np.interp(np.arange(length) / _CURVE_HZ, np.arange(count) / FPS, _loudness(speech, count))
    targets[:, 0] *= 0.62 + 0.5 * loudness
    smooth = gaussian_filter1d(targets[:, [0, 1, 2, 4]], _ARTICULATION_SIGMA_S * _CURVE_HZ, axis=0, mode="nearest")
    press = gaussian_filter1d(targets[:, 3], _PRESS_SIGMA_S * _CURVE_HZ, mode="nearest")
    smooth[:, 0] *= 1 - np.clip(1.35 * press, 0, 1)
    at = np.minimum((np.arange(count) * _CURVE_HZ) // FPS, length - 1)
    curves = smooth[at]
    return np.asarray(np.clip(curves, (0, -1, 0, 0), (1, 1, 1, 1)))


def _loudness(speech: Speech, count: int) -> Floats:
    """(count,) in [0, 1]: the sound's short-time level at each frame, against its own loud passages."""
    block = SAMPLE_RATE_HZ // FPS // _BLOCKS
    power = np.zeros(count * _BLOCKS * block)
    samples = speech.samples[: len(power)].astype(np.float64)
    power[: len(samples)] = samples**2
    smooth = gaussian_filter1d(power.reshape(-1, block).mean(axis=1), 0.03 * FPS * _BLOCKS)
    level = np.sqrt(smooth[::_BLOCKS])
    return np.asarray(np.clip(level / max(float(np.percentile(level, 90)), 1e-6), 0, 1))


def _wander(count: int, sigma_s: float, limit: float, random: np.random.Generator) -> Floats:
    """(count,): smooth noise that is centred and just reaches +-``limit`` in a long clip."""
    margin = round(4 * sigma_s * FPS)
    noise = gaussian_filter1d(random.standard_normal(count + 2 * margin), sigma_s * FPS)[margin : margin + count]
    noise -= noise.mean()
    peak = max(float(np.abs(noise).max()), 1e-9)
    expected = 2.6 / np.sqrt(2 * np.sqrt(np.pi) * sigma_s * FPS)
    return np.asarray(limit * noise / max(peak, 0.6 * expected))


def _blink_frames(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    frames = []
    at_s = random.uniform(1.0, 2.5)
    while at_s * FPS < count - 6:
        frames.append(round(at_s * FPS))
        at_s += random.uniform(2.6, 5.2)
    return np.array(frames, dtype=np.int64)


def _eye_openness(count: int, blinks: NDArray[np.int64], random: np.random.Generator) -> Floats:
    """Lids that shut in 0.08 s, rest for one frame and open in 0.14 s, and otherwise vary a little."""
    openness = 1 - 0.06 * np.abs(_wander(count, 0.6, 1.0, random))
    offset = np.arange(count)[:, None] - blinks[None, :]
    profile = np.interp(offset, [-2.6, -0.4, 0.9, 4.4], [1.0, 0.0, 0.0, 1.0])
    return np.asarray(openness * profile.min(axis=1, initial=1.0))


def _gaze(count: int, random: np.random.Generator) -> Floats:
    """(count, 2) degrees: the eyes rest near the camera and jump a little every second or so."""
    gaze = np.zeros((count, 2))
    at = 0
    while at < count:
        hold = round(random.uniform(0.5, 2.0) * FPS)
        gaze[at : at + hold] = random.normal(0, (1.6, 1.0))
        at += hold
    return np.asarray(gaussian_filter1d(np.clip(gaze, -4, 4), 0.6, axis=0))

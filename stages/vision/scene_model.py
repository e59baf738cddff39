"""What the place behind the person looks like at a small size, as evidence for where the person is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stages.vision.colour_model import Sample
from stages.vision.median import masked_median
from stages.vision.temporal import change_of_colour

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_LEAST_SEEN = 0.1  # share of the samples in which a pixel must be free to be known
_STRENGTH = 2.0  # largest evidence, in log odds, that one pixel's colour may give
_NOISE = 5.0  # 8-bit levels; compression alone makes a still wall differ by so much


@dataclass(frozen=True)
class SceneModel:
    """Colour of the scene at each pixel of the small frame.

    Attributes:
        rgb: (S, S, 3) uint8.
        noise: (S, S) float32, deviation to expect, 8-bit levels.
        known: (S, S) float32 in [0, 1]; 0 where the scene was never seen.
    """

    rgb: UInt8
    noise: Float32
    known: Float32

    def log_odds(self, rgb: UInt8) -> Float32:
        """Evidence for the person: (S, S) float32 in [-2, 2], 0 where nothing is known.

        Args:
            rgb: (S, S, 3) uint8, a frame.
        """
        change = change_of_colour(rgb, self.rgb).astype(np.float32)
        ratio = change / self.noise
        odds: Float32 = np.clip(0.5 * (ratio * ratio - 6.0), -_STRENGTH, _STRENGTH) * self.known
        return odds


def learn_scene(samples: Sequence[Sample]) -> SceneModel:
    """Learn the scene from frames in which parts of it are free of the person.

    Args:
        samples: Frames spread over the clip, each with a first guess of the person.
    """
    size = samples[0].rgb.shape[0]
    reach = max(1, size // 64)
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    pictures = np.stack([sample.rgb for sample in samples])
    taken = np.stack([cv2.dilate((sample.person > 0.1).astype(np.uint8), kernel) > 0 for sample in samples])
    median, count = masked_median(pictures, ~taken)
    deviations = np.stack([cv2.absdiff(picture, median).max(axis=2) for picture in pictures])
    deviation, _ = masked_median(deviations[..., None], ~taken)
    noise = _NOISE + 2 * cv2.GaussianBlur(deviation[..., 0].astype(np.float32), (0, 0), 2.0)
    known = (count >= max(3, _LEAST_SEEN * len(samples))).astype(np.float32)
    return SceneModel(median, noise, known)

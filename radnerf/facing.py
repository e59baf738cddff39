"""Where a face looks, as yaw and pitch, and how far it may be turned without leaving what training has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BEYOND_DEG = 5.0
"""Degrees beyond the clip's own attitudes that a head may be turned: a field goes on so far before it guesses."""


def facing_deg(rotation: Tensor) -> Tensor:
    """Which way faces look.

    Args:
        rotation: (..., 3, 3) float, head to camera (OpenCV axes).

    Returns:
        (..., 2) float, degrees: yaw towards the image's right and pitch upwards, as
        ``radnerf.camera.yaw_pitch_rotation`` takes them; (0, 0) looks along the camera's axis.
    """
    # The camera's axes with y up and z towards it are the head's own for a frontal face.
    x, y, z = rotation[..., 0, 2], -rotation[..., 1, 2], -rotation[..., 2, 2]
    return torch.rad2deg(torch.stack((torch.atan2(x, z), torch.asin(y.clamp(-1, 1))), dim=-1))


@dataclass(frozen=True)
class TurnLimits:
    """Attitudes that may be shown.

    Attributes:
        yaw_deg, pitch_deg: Least and greatest, in the camera's frame.
    """

    yaw_deg: tuple[float, float]
    pitch_deg: tuple[float, float]

    def within(self, rotation: Tensor, turn_deg: tuple[float, float]) -> tuple[float, float]:
        """The part of a turn that does not lead out of the limits.

        Args:
            rotation: (3, 3) float, the pose that is turned, head to camera.
            turn_deg: Yaw and pitch, about the head's own axes.

        Returns:
            Yaw and pitch, each between 0 and what was asked for where the pose itself lies within the limits.
        """
        yaw, pitch = facing_deg(rotation).tolist()
        return _held(yaw, turn_deg[0], self.yaw_deg), _held(pitch, turn_deg[1], self.pitch_deg)


def _held(now: float, turn: float, limits: tuple[float, float]) -> float:
    """As much of a turn as stays within limits; a pose beyond them is never turned back."""
    if turn >= 0:
        return min(turn, max(limits[1] - now, 0.0))
    return max(turn, min(limits[0] - now, 0.0))


def turn_limits(rotation: Tensor, beyond_deg: float = BEYOND_DEG) -> TurnLimits:
    """The attitudes of a clip, and a little more.

    Args:
        rotation: (N, 3, 3) float, the poses that training saw.
        beyond_deg: How much more, either way.
    """
    seen = facing_deg(rotation)
    low, high = (seen.amin(0) - beyond_deg).tolist(), (seen.amax(0) + beyond_deg).tolist()
    yaw, pitch = (
        (math.floor(least * 10) / 10, math.ceil(most * 10) / 10) for least, most in zip(low, high, strict=True)
    )
    return TurnLimits(yaw, pitch)

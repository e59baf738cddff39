"""A frame of a subject's own clip: where its head was, and what its face did besides speaking."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.head import Condition
from radnerf.model import HeadModel
from radnerf.portrait import Pose
from stages.formats import Track


def tracked_pose(track: Track, frame: int) -> Pose:
    """The pose that was measured in a frame.

    Args:
        track: Of the clip.
        frame: Its number, in [0, N).
    """
    rotation, translation = torch.from_numpy(track.rotation[frame]), torch.from_numpy(track.translation[frame])
    return Pose(rotation, translation, frame, float(track.brow_mm[frame]))


def tracked_condition(head: HeadModel, track: Track, frame: int, code: Tensor, mouth: Tensor) -> Condition:
    """What a head does that speaks so while its eyes and brows do what they did in a frame; the mean appearance.

    Args:
        head: The head.
        track: Of its clip.
        frame: The frame's number, in [0, N).
        code: (1, A) float, audio code.
        mouth: (1, M) float, mouth components.
    """
    eye, brow = (torch.from_numpy(values[frame : frame + 1]) for values in (track.eye_open, track.brow_mm))
    return head.condition(code, mouth, eye, brow=brow)

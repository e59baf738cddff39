"""A moment of a subject's own clip: where its head was, and what its face and hair did besides speaking."""

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
    return posed_condition(head, tracked_pose(track, frame), float(track.eye_open[frame]), code, mouth)


def posed_condition(head: HeadModel, pose: Pose, eye: float, code: Tensor, mouth: Tensor) -> Condition:
    """What a head does that speaks so in a pose: brows and bend come with the pose; the mean appearance.

    Args:
        head: The head.
        pose: Of its own clip or another.
        eye: How open the eyes are.
        code: (1, A) float, audio code.
        mouth: (1, M) float, mouth components.
    """
    brow = torch.tensor([pose.brow_mm])
    return head.condition(code, mouth, torch.tensor([eye]), brow=brow, clip_frame=pose.clip_frame)

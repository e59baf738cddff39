"""What a head's training is given: the clip, and the numbers of its schedule."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from radnerf.camera import Camera

SHUT_BELOW = 0.6
"""Openness of the eyes below which a frame counts as a blink's."""


@dataclass(frozen=True)
class Clip:
    """What training sees of a clip, N frames of S x S pixels; memory maps serve as well as memory.

    Attributes:
        truth: (N, S, S, 3) uint8, the true frame over the static background.
        behind: (N, S, S, 3) uint8, the true torso over the static background.
        head: (N, S, S) uint8, 255 times the share of a pixel that is head.
        camera: At S x S.
        rotation: (N, 3, 3) float32, head to camera.
        translation: (N, 3) float32, cm, head to camera.
        eye: (N,) float32 in [0, 1.5].
        brow: (N,) float32, mm, how far the brows are above their usual place.
        mouth: (N, M) float32, standardised mouth components.
        features: (T, C) float32, standardised audio features.
        head_box, mouth_box, eyes_box: (N, 4) int64, left, top, right, bottom in pixels; right and bottom excluded.
        train: (F,) int64, the frames to train on, ascending.
    """

    truth: Tensor
    behind: Tensor
    head: Tensor
    camera: Camera
    rotation: Tensor
    translation: Tensor
    eye: Tensor
    brow: Tensor
    mouth: Tensor
    features: Tensor
    head_box: Tensor
    mouth_box: Tensor
    eyes_box: Tensor
    train: Tensor

    @property
    def picture_bytes(self) -> int:
        """Memory that the pictures take."""
        return self.truth.nbytes + self.behind.nbytes + self.head.nbytes

    def drives(self, mouth: int) -> Tensor:
        """What drives the face in each frame, (N, mouth + 2) float32: the mouth's first components, eyes, brows."""
        return torch.cat([self.mouth[:, :mouth], self.eye[:, None], self.brow[:, None]], dim=1)

    def to(self, device: torch.device, *, pictures: bool) -> Clip:
        """The clip on a device.

        Args:
            device: Where the training computes.
            pictures: Whether the pictures go there too; else they stay where they are and are read a step at a time.

        Returns:
            The clip; what lies there already is shared.
        """
        seen = (self.truth, self.behind, self.head)
        truth, behind, head = (picture.to(device) for picture in seen) if pictures else seen
        return dataclasses.replace(
            self,
            truth=truth,
            behind=behind,
            head=head,
            rotation=self.rotation.to(device),
            translation=self.translation.to(device),
            eye=self.eye.to(device),
            brow=self.brow.to(device),
            mouth=self.mouth.to(device),
            features=self.features.to(device),
            head_box=self.head_box.to(device),
            mouth_box=self.mouth_box.to(device),
            eyes_box=self.eyes_box.to(device),
            train=self.train.to(device),
        )


@dataclass(frozen=True)
class HeadSchedule:
    """Numbers of a head's training.

    Attributes:
        steps: Of the main phase.
        lips_steps: After it, looking at the mouth, with the occupancy frozen.
        rays: A step.
        frames: A step; the rays are shared among them.
        mouth_share, eyes_share: Shares of the rays drawn in these boxes.
        error_share: Share of the rays drawn where the error last was.
        grid_rate, network_rate: Adam's rates at the start.
        pose_rate: The same, of corrections of the training frames' poses; 0 corrects none.
        bend_rate: The same, of what moves in single training frames; 0 bends none.
        attention_gain: The audio net's attention's rate over ``network_rate``.
        ema_decay: Of the averaged weights.
        entropy_weight, still_weight, mask_weight: Of the loss's terms; the second one rises from 0.
        code_drop: Probability that a frame's audio code is hidden in a step, leaving the mouth alone to drive.
        lips_weight: Of the perceptual term on the mouth patch.
        density_threshold: Per cm; cells below are empty.
        visible_threshold: Weight below which a cell counts as never seen.
    """

    steps: int
    lips_steps: int
    rays: int
    frames: int
    mouth_share: float
    eyes_share: float
    error_share: float
    grid_rate: float
    network_rate: float
    pose_rate: float
    bend_rate: float
    attention_gain: float
    ema_decay: float
    entropy_weight: float
    still_weight: float
    mask_weight: float
    code_drop: float
    lips_weight: float
    density_threshold: float = 0.05
    visible_threshold: float = 0.02

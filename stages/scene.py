"""A portrait before a background at one size: what every frame is drawn from, whoever asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from radnerf.camera import Camera
from radnerf.gpu_portrait import PortraitPainter
from radnerf.kernels.protocol import Backend
from radnerf.model import HeadModel
from radnerf.portrait import Pose, paint_portrait
from radnerf.torso import TorsoModel
from stages.frame_queue import Frame, Pending
from stages.tracked_moment import posed_condition


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that a frame is made of, but its moment.

    Attributes:
        head, torso: The trained models.
        kernels: What marches and composites.
        camera: At the picture's size.
        background: (S, S, 3) float in [0, 1].
        painter: Draws frames on a GPU; None where the backend has none.
    """

    head: HeadModel
    torso: TorsoModel
    kernels: Backend
    camera: Camera
    background: Tensor
    painter: PortraitPainter | None = None

    def picture(self, pose: Pose, turn: Tensor, eye: float, code: Tensor, mouth: Tensor) -> Frame | Pending:
        """Draw a frame.

        The torso follows the motion's own pose: a head turned by ``turn`` turns on its neck.

        Args:
            pose: Of the head, before it is turned.
            turn: (3, 3) float32, of the head beyond its pose, in its own frame.
            eye: How open the eyes are.
            code: (1, A) float, audio code.
            mouth: (1, M) float, mouth components.

        Returns:
            (S, S, 3) uint8 RGB, or what waits for it.
        """
        condition = posed_condition(self.head, pose, eye, code, mouth)
        turned = Pose(pose.rotation @ turn, pose.translation)
        if self.painter is not None:
            return self.painter.paint(turned, pose, condition)
        picture = paint_portrait(
            self.head, self.torso, self.kernels, self.camera, turned, pose, condition, self.background
        )
        return picture.numpy()

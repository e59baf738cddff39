"""A trained subject on strings: any moment of it, turned, before any background, at any size."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from radnerf.camera import yaw_pitch_rotation
from radnerf.devices import pick_device
from radnerf.facing import facing_deg, turn_limits
from radnerf.gape import Gape, find_gape
from radnerf.gpu_portrait import painter_for
from radnerf.kernels import get_backend
from radnerf.portrait import Pose
from stages.api import Portrait
from stages.backdrop import clip_background, picture_background, plain_background
from stages.blinks import learn_style
from stages.colours import Colour
from stages.endless_motion import EndlessPerformance
from stages.errors import BadInput
from stages.formats import Track
from stages.hearing import check_heard, hear, open_features
from stages.motion import own_motion
from stages.scene import Scene
from stages.speech_job import SpeechJob
from stages.training_data import camera_of, first_held_out
from stages.vision.images import Rgb
from stages.window.controls import CLIP, PICTURE

_SCENES = 6
_PICTURE_CHECK_PX = 16


@dataclass(frozen=True)
class Moment:
    """What a portrait does at one time.

    Attributes:
        pose: Of the head.
        eye: How open the eyes are.
        code: (1, A) float, audio code.
        mouth: (1, M) float, mouth components.
    """

    pose: Pose
    eye: float
    code: Tensor
    mouth: Tensor


class Puppet:
    """Draws a subject; to be used by one thread at a time. A context manager.

    Attributes:
        portrait: The subject.
        limits: How far its head may be turned.
        seen: The attitudes that the clip shows.
        gape: Its shut and its widest mouth; the same twice where its features are not at hand.
        opens: Whether the mouth can be opened by hand.
    """

    def __init__(self, portrait: Portrait) -> None:
        """Read what the subject's clip says of it.

        Raises:
            BadInput: A file of it is damaged.
        """
        self.portrait = portrait
        track = Track.load(portrait.workspace.track)
        self._camera = camera_of(track)
        self._motion = own_motion(track)
        self._style = learn_style(track.eye_open, track.tracked)
        trained = slice(0, first_held_out(len(track.tracked)))
        rotation = torch.from_numpy(track.rotation[trained][track.tracked[trained]])
        self.limits = turn_limits(rotation)
        self.seen = turn_limits(rotation, 0.0)
        self._kernels = get_backend(portrait.backend, pick_device(portrait.device))
        found = self._find_gape(track)
        self.opens = found is not None
        at_rest = (portrait.head.closed_code, portrait.head.closed_mouth)
        self.gape = found or Gape(*at_rest, *at_rest)
        self._scenes: OrderedDict[tuple[int, str | Colour], Scene] = OrderedDict()
        self._folder = tempfile.TemporaryDirectory(prefix="radnerf-window-")
        self.folder = Path(self._folder.name)
        """For files that live as long as this."""

    def __enter__(self) -> Self:
        """Return the puppet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Remove what it wrote."""
        self._folder.cleanup()

    @torch.no_grad()
    def _find_gape(self, track: Track) -> Gape | None:
        """The subject's mouths; None where the sound of its clip is not there, as in a packed subject."""
        head, workspace = self.portrait.head, self.portrait.workspace
        if not workspace.features.is_file() or not head.shape.mouth + head.shape.audio_code:
            return None
        with open_features(workspace.features) as features:
            try:
                check_heard(workspace.head, head, self.portrait.header, features)
            except BadInput:
                return None
            frames = min(features.frames, len(track.mouth_open))
            code, mouth = hear(head, features, 0, frames)
        rest = (head.closed_code, head.closed_mouth) if bool(head.voice_std.any()) else None
        return find_gape(code, mouth, torch.from_numpy(track.mouth_open[:frames]), rest)

    def endless(self, seed: int | None = None) -> EndlessPerformance:
        """A movement without an end.

        Args:
            seed: Of its blinks; the subject's own when None.
        """
        own = SpeechJob(self.portrait.name).seed if seed is None else seed
        return EndlessPerformance(self._motion, self._style, own)

    def resting(self, performance: EndlessPerformance) -> Moment:
        """The moment at which a movement is, its lips at rest."""
        return Moment(performance.pose(), performance.eye(), *self.gape.at(0.0))

    def set_picture(self, data: bytes) -> None:
        """Take a picture as the background that ``PICTURE`` means.

        Args:
            data: JPEG or PNG.

        Raises:
            BadInput: It is no picture.
        """
        given = self.folder / "given picture"
        given.write_bytes(data)
        try:
            picture_background(given, _PICTURE_CHECK_PX)
        except BadInput as error:
            raise BadInput("this file is no picture that can be used", hint="give a PNG or JPEG") from error
        given.replace(self.folder / PICTURE)
        for key in [key for key in self._scenes if key[1] == PICTURE]:
            del self._scenes[key]

    def draw(
        self, moment: Moment, turn_deg: tuple[float, float], size_px: int, background: str | Colour = CLIP
    ) -> tuple[Rgb, tuple[float, float]]:
        """Draw a moment.

        Args:
            moment: What to draw.
            turn_deg: Yaw and pitch beyond the pose; held within ``limits``.
            size_px: Side of the picture.
            background: ``CLIP``, ``PICTURE`` or a colour.

        Returns:
            (S, S, 3) uint8 RGB, and the turn that was made of the one that was wanted.
        """
        turned = self.limits.within(moment.pose.rotation, turn_deg)
        scene = self._scene(size_px, background)
        frame = scene.picture(moment.pose, yaw_pitch_rotation(*turned), moment.eye, moment.code, moment.mouth)
        return np.asarray(frame() if callable(frame) else frame, np.uint8), turned

    def resting_facing_deg(self) -> tuple[float, float]:
        """Yaw and pitch of the head where its movement begins."""
        yaw, pitch = facing_deg(self.endless().pose().rotation).tolist()
        return yaw, pitch

    def _scene(self, size_px: int, background: str | Colour) -> Scene:
        """The scene of this size and background; the last few are kept."""
        key = (size_px, background)
        if key not in self._scenes:
            head, torso, camera = self.portrait.head, self.portrait.torso, self._camera.scaled(size_px)
            behind = torch.from_numpy(self._behind(size_px, background)).float() / 255
            painter = painter_for(head, torso, self._kernels, camera, behind)
            self._scenes[key] = Scene(
                head=head, torso=torso, kernels=self._kernels, camera=camera, background=behind, painter=painter
            )
            while len(self._scenes) > _SCENES:
                self._scenes.popitem(last=False)
        self._scenes.move_to_end(key)
        return self._scenes[key]

    def _behind(self, size_px: int, background: str | Colour) -> Rgb:
        if isinstance(background, tuple):
            return plain_background(background, size_px)
        if background == PICTURE and (self.folder / PICTURE).is_file():
            return picture_background(self.folder / PICTURE, size_px)
        return clip_background(self.portrait.workspace.background, size_px)

"""A subject's head as one module: audio net, field, per-frame codes; the factory that wires it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from radnerf.audio_net import AudioNet
from radnerf.frame_bend import NODES, bend_at, moments_of
from radnerf.grid import GridSpec, HashGrid
from radnerf.head import Condition, HeadField, HeadShape
from radnerf.kernel_ear import KernelEar
from radnerf.kernels.protocol import Backend
from radnerf.linear_ear import LinearEar
from radnerf.nerf import NerfField, render_rays_hierarchical
from radnerf.rendering import RayColours, Region, render_rays
from radnerf.voice import Voice, matched

BASELINE_RAYS = 64
"""Rays of the baseline that are rendered together: of 8 to 1024, those with which it is fastest on a CPU."""


@dataclass(frozen=True)
class ModelShape:
    """Everything that decides which parameters a head model has.

    Attributes:
        backbone: ``"radnerf"`` or ``"nerf"``.
        features: Columns C of the audio features.
        frames: Training frames, each with an appearance code.
        mouth: Components M of the mouth shape that drive the field beside the audio code.
        audio_code: Width of the audio code.
        appearance_code: Width of the per-frame code.
        hidden_width: Of the field's hidden layers.
        space, audio_plane: The grids; unused by the ``nerf`` backbone.
        occupancy_resolution: Cells along an edge of the box.
        samples_per_ray: At most so many samples a ray.
        min_step_cm: Finest spacing of samples.
        warp_anchors: Landmarks whose measured motion is taken away before the field is asked; 0 for none.
        warp_brows: Whether that motion goes with the brows too; heads from before brows were measured have none.
        net_features: Leading columns of the features that the audio net and the kernel ear hear, the linear ear hears
            all; 0 for all.
        kernel_frames: Frames that the kernel ear keeps; 0 for no such ear.
        further_nets: Audio nets beside the first, whose foretold mouths are averaged with its own.
        bent_frames: Frames of the clip whose bends are kept, to be played along with its poses; 0 where nothing bends.
    """

    backbone: str
    features: int
    frames: int
    mouth: int
    audio_code: int
    appearance_code: int
    hidden_width: int
    space: GridSpec
    audio_plane: GridSpec
    occupancy_resolution: int
    samples_per_ray: int
    min_step_cm: float
    warp_anchors: int = 0
    net_features: int = 0
    kernel_frames: int = 0
    further_nets: int = 0
    warp_brows: bool = False
    bent_frames: int = 0


class HeadModel(nn.Module):
    """What training makes and rendering needs.

    Attributes:
        shape: Sizes.
        feature_mean, feature_std: (C,) float32, statistics of the training features.
        audio_net: Gives the audio code, and foretells the mouth.
        further_nets: Foretell the mouth too, each as much as the audio net: what one alone has learnt by chance
            differs from net to net.
        linear_ear, kernel_ear: Foretell the mouth beside the audio nets, each as much as the other.
        ear_share: (M,) float32 in [0, 1], the ears' part in the foretold mouth.
        mouth_gain: (M,) float32, amplification of the foretold mouth.
        closed_mouth: (M,) float32, the mouth at rest.
        closed_code: (A,) float32, the audio code of a mouth at rest.
        voice_mean, voice_std: (C,) float32, statistics of the training clip's speech. Both are 0 in a head from before
            they were kept: its mouth never comes to rest, and other voices are taken as they are.
        bends: (K, X, Y, 2) float32, cm, how the head was bent at moments of its clip (see ``radnerf.frame_bend``).
        mask: (G, G, G) bool, the cells worth sampling.
        aabb: (2, 3) float32, the box, cm, world.
    """

    feature_mean: Tensor
    feature_std: Tensor
    ear_share: Tensor
    mouth_gain: Tensor
    closed_mouth: Tensor
    closed_code: Tensor
    voice_mean: Tensor
    voice_std: Tensor
    bends: Tensor
    mask: Tensor
    aabb: Tensor

    def __init__(self, shape: ModelShape, aabb: Tensor) -> None:
        """Make all parts, untrained.

        Args:
            shape: Sizes.
            aabb: (2, 3) float32, the box's least and greatest corner, cm, world.
        """
        super().__init__()
        self.shape = shape
        self.audio_net = self.fresh_net()
        self.further_nets = nn.ModuleList(self.fresh_net() for _ in range(shape.further_nets))
        self.linear_ear = LinearEar(shape.features, shape.mouth)
        self.kernel_ear = KernelEar(shape.net_features or shape.features, shape.kernel_frames, shape.mouth)
        self.appearance = nn.Parameter(torch.randn(shape.frames, shape.appearance_code).mul_(0.01))
        condition = shape.audio_code + shape.mouth
        if shape.backbone == "nerf":
            self.fields = nn.ModuleList(NerfField(aabb, condition, shape.appearance_code) for _ in range(2))
        else:
            sizes = HeadShape(
                shape.space,
                shape.audio_plane,
                shape.hidden_width,
                condition,
                shape.appearance_code,
                shape.mouth,
                shape.warp_anchors,
                shape.warp_brows,
            )
            self.fields = nn.ModuleList([HeadField(sizes, aabb)])
        self.register_buffer("feature_mean", torch.zeros(shape.features))
        self.register_buffer("feature_std", torch.ones(shape.features))
        self.register_buffer("ear_share", torch.zeros(shape.mouth))
        self.register_buffer("mouth_gain", torch.ones(shape.mouth))
        self.register_buffer("closed_mouth", torch.zeros(shape.mouth))
        self.register_buffer("closed_code", torch.zeros(shape.audio_code))
        self.register_buffer("voice_mean", torch.zeros(shape.features))
        self.register_buffer("voice_std", torch.zeros(shape.features))
        moments = moments_of(shape.bent_frames) if shape.bent_frames else 0
        self.register_buffer("bends", torch.zeros(moments, *NODES, 2))
        size = shape.occupancy_resolution
        self.register_buffer("mask", torch.ones(size, size, size, dtype=torch.bool))
        self.register_buffer("aabb", aabb.clone())

    def fresh_net(self) -> AudioNet:
        """An audio net of this head's sizes, untrained."""
        shape = self.shape
        return AudioNet(shape.net_features or shape.features, shape.audio_code, max(shape.mouth, 1))

    @property
    def region(self) -> Region:
        """Where there is anything to sample."""
        return Region(self.aabb, self.mask, self.shape.samples_per_ray, self.shape.min_step_cm)

    def use_backend(self, name: str) -> None:
        """Encode both grids with the kernels of this name.

        Args:
            name: One of ``radnerf.kernels.BACKENDS``.
        """
        for module in self.modules():
            if isinstance(module, HashGrid):
                module.backend = name

    def standardised(self, features: Tensor) -> Tensor:
        """Features by the training clip's statistics.

        Args:
            features: (T, C) float.

        Returns:
            (T, C) float, about zero mean and unit spread for speech like the training clip's.
        """
        return (features.to(self.aabb.device) - self.feature_mean) / self.feature_std

    def in_own_voice(self, features: Tensor, voice: Voice) -> Tensor:
        """Features of another voice, brought to the training clip's.

        Args:
            features: (T, C) float, not standardised.
            voice: Statistics of the whole speech that they are of.

        Returns:
            (T, C) float; the same when the training clip's voice was not measured.
        """
        if not bool(self.voice_std.any()):
            return features
        return matched(features, voice, self.voice_mean.to(features), self.voice_std.to(features))

    def hear(self, features: Tensor, frames: Tensor, gate: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Audio code and mouth of frames, from sound alone.

        Args:
            features: (T, C) float, standardised; on any device.
            frames: (B,) int64, frame numbers at 25 a second; on any device.
            gate: (B,) float in [0, 1], how far the lips follow the sound; 0 brings them to rest. All the way if None.

        Returns:
            code: (B, A) float, on the model's device, as all that follows.
            mouth: (B, M) float, amplified to the true spread.
        """
        device, shape = self.aabb.device, self.shape
        features, frames = features.to(device), frames.to(device)
        for_nets = features[:, : shape.net_features or shape.features]
        code, mouth = self.audio_net(for_nets, frames)
        others = [net(for_nets, frames)[1] for net in self.further_nets]
        mouth = torch.stack([mouth, *others]).mean(0)[:, : shape.mouth]
        if bool((self.ear_share > 0).any()):
            ears = self.linear_ear(features, frames)
            if shape.kernel_frames:
                ears = 0.5 * (ears + self.kernel_ear(features, frames))
            mouth = mouth + self.ear_share * (ears - mouth)
        mouth = mouth * self.mouth_gain
        if gate is not None and shape.mouth and bool(self.voice_std.any()):
            follows = gate.to(device)[:, None]
            mouth = self.closed_mouth + follows * (mouth - self.closed_mouth)
            code = self.closed_code + follows * (code - self.closed_code)
        return code, mouth

    def condition(
        self,
        code: Tensor,
        mouth: Tensor,
        eye: Tensor,
        appearance: Tensor | None = None,
        *,
        brow: Tensor | None = None,
        clip_frame: float | None = None,
    ) -> Condition:
        """Put a frame's condition together.

        Args:
            code: (B, A) float, audio code.
            mouth: (B, M) float, mouth components.
            eye: (B,) float in [0, 1.5].
            appearance: (B,) int64, training frames whose codes are used; the mean code when None.
            brow: (B,) float, mm above their usual place; there when None.
            clip_frame: The frame of the head's own clip, or a place between two frames, whose bend all B frames have;
                None for none.

        Returns:
            The condition of B frames.
        """
        device = self.aabb.device
        if appearance is None:
            codes = self.appearance.mean(0, keepdim=True).expand(len(eye), -1)
        else:
            codes = self.appearance[appearance.to(device)]
        audio = torch.cat([code.to(device), mouth.to(device)], dim=1)
        brow = torch.zeros_like(eye) if brow is None else brow
        bent = None if self.shape.bent_frames == 0 else self._bend_at(clip_frame).expand(len(eye), -1, -1, -1)
        return Condition(audio, eye[:, None].to(device), codes, brow[:, None].to(device), bent)

    def _bend_at(self, clip_frame: float | None) -> Tensor:
        """The bend at a place in the clip, (1, X, Y, 2); of no size for None, so that all frames are made alike."""
        if clip_frame is None:
            return torch.zeros_like(self.bends[:1])
        place = torch.full((1,), clip_frame, device=self.bends.device)
        return bend_at(self.bends, self.shape.bent_frames, place)

    def render(
        self,
        kernels: Backend,
        rays: tuple[Tensor, Tensor],
        condition: Condition,
        membership: Tensor | None = None,
        jitter: Tensor | None = None,
    ) -> list[RayColours]:
        """Render rays.

        Args:
            kernels: What marches and composites.
            rays: Origins (R, 3) cm and unit directions (R, 3), float32, world.
            condition: Of B frames.
            membership: (R, B) float, one 1 in each row: the frame of a ray; None when B is 1.
            jitter: (R,) float in [0, 1), where in its share of the ray a sample lies; the middle when None.

        Returns:
            What each field sees; the last one is the picture.
        """
        if self.shape.backbone == "nerf":
            coarse, fine = self.fields
            if not (isinstance(coarse, NerfField) and isinstance(fine, NerfField)):
                raise TypeError("the nerf backbone has two NerfFields")
            return list(render_rays_hierarchical(coarse, fine, kernels, rays, condition, membership, jitter))
        return [render_rays(self.fields[0], kernels, self.region, rays, condition, membership, jitter)]

    @torch.no_grad()
    def render_image(
        self, kernels: Backend, rays: tuple[Tensor, Tensor], condition: Condition
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Render the rays of one frame; the memory that it takes beyond the result does not grow with their number.

        Args:
            kernels: What marches, evaluates and composites.
            rays: Origins (R, 3) cm and unit directions (R, 3), float32, world.
            condition: Of the one frame.

        Returns:
            image: (R, 3) float, premultiplied by alpha.
            alpha: (R,) float in [0, 1].
            depth: (R,) float, cm, premultiplied by alpha.
        """
        origins, directions = rays[0].contiguous(), rays[1].contiguous()
        field, region = self.fields[0], self.region
        if isinstance(field, HeadField):
            frozen = field.frozen(condition)
            seen = kernels.render(frozen, origins, directions, region.mask, region.max_samples, region.min_step_cm)
            return seen[:, :3], seen[:, 3], seen[:, 4]
        some = zip(torch.split(origins, BASELINE_RAYS), torch.split(directions, BASELINE_RAYS), strict=True)
        chunks = [self.render(kernels, pair, condition)[-1] for pair in some]
        return (
            torch.cat([chunk.image for chunk in chunks]),
            torch.cat([chunk.alpha for chunk in chunks]),
            torch.cat([chunk.depth for chunk in chunks]),
        )

"""The head: a radiance field decomposed into a 3-D spatial grid and a 2-D audio grid (arXiv 2211.12368)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from radnerf.encoding import spherical_harmonics
from radnerf.grid import GridSpec, HashGrid
from radnerf.joint_lattice import JointLattice
from radnerf.kernels.protocol import FrozenHead
from radnerf.mlp import ConditionedMLP
from radnerf.warp import NODES, FaceWarp, bend

DENSITY_SHIFT = -5.0
"""Added before the exponential: an untrained field is thin (0.007 / cm), so that occupancy prunes it early."""

AUDIO_PLANE_SPREAD = 1e3
"""The audio plane's first features over those of a plain hash grid (±1e-4)."""

MAX_LOG_DENSITY = 7.0
"""Above it density says nothing more, and its gradient would overflow."""


@dataclass(frozen=True)
class Condition:
    """What a rendered frame depends on besides the viewpoint, for B frames at once.

    Attributes:
        audio: (B, A) float, audio code followed by the mouth shape.
        eye: (B, 1) float in [0, 1.5], how open the eyes are; 0 is shut.
        appearance: (B, C) float, per-frame code.
        brow: (B, 1) float, mm, how far the brows are above their usual place.
        bend: (B, X, Y, 2) float, cm, over the head's box: the way from what is seen to where it usually is, besides
            what the warp knows of; None where nothing bends.
    """

    audio: Tensor
    eye: Tensor
    appearance: Tensor
    brow: Tensor
    bend: Tensor | None = None


@dataclass(frozen=True)
class FieldSample:
    """What a field says about N points.

    Attributes:
        sigma: (N,) float >= 0, density per cm.
        rgb: (N, 3) float in [0, 1].
        motion: (N, 2) float in [-1, 1], the 2-D audio coordinate; empty (N, 0) for a field without one.
    """

    sigma: Tensor
    rgb: Tensor
    motion: Tensor


class _TruncatedExp(torch.autograd.Function):
    """exp whose gradient stays finite: density may saturate, training must not."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        """Exponential of the clamped value."""
        y = torch.exp(x.clamp(max=MAX_LOG_DENSITY))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        """The clamped exponential itself: a saturated density may still fall."""
        (y,) = ctx.saved_tensors  # type: ignore[attr-defined]
        slope: Tensor = grad * y
        return slope


def density_activation(raw: Tensor) -> Tensor:
    """Density per cm from a network's output: exp(raw + DENSITY_SHIFT), saturating.

    Args:
        raw: (N,) float.

    Returns:
        (N,) float > 0.
    """
    result: Tensor = _TruncatedExp.apply(raw + DENSITY_SHIFT)  # type: ignore[no-untyped-call]
    return result


@dataclass(frozen=True)
class HeadShape:
    """Everything that decides which parameters a head has.

    Attributes:
        space: The 3-D grid.
        audio_plane: The 2-D audio grid.
        hidden_width: Of every hidden layer; a multiple of 16.
        condition_width: Columns of the audio condition (code and mouth shape).
        appearance_code: Width of the per-frame code.
        mouth: The last so many columns of the audio condition are the mouth shape, which drives the warp.
        anchors: Landmarks whose measured motion is taken away first; 0 for the published form, without.
        brows: Whether that motion goes with the brows too.
    """

    space: GridSpec
    audio_plane: GridSpec
    hidden_width: int
    condition_width: int
    appearance_code: int
    mouth: int = 0
    anchors: int = 0
    brows: bool = False


class HeadField(nn.Module):
    """The decomposed field.

    With x moved to where it lies on the face at rest, when the face's motion is known (``FaceWarp``): f = E3(x);
    w = tanh(MLP([f, a])); g = E2(w); (sigma, geometry) = MLP([f, g, eye]); rgb = sigmoid(MLP([SH(d), geometry, c])),
    with E3 and E2 the two grids, a the audio condition and c the per-frame code.
    """

    aabb: Tensor

    def __init__(self, shape: HeadShape, aabb: Tensor) -> None:
        """Make grids and networks.

        Args:
            shape: Sizes.
            aabb: (2, 3) float32, the box's least and greatest corner, cm, world.
        """
        super().__init__()
        self.shape = shape
        self.register_buffer("aabb", aabb.clone())
        self.warp = FaceWarp(shape.anchors, shape.mouth + 1 + shape.brows) if shape.anchors else None
        self._joint: tuple[Tensor, int, JointLattice] | None = None
        width = shape.hidden_width
        self.space = HashGrid(shape.space)
        self.audio_plane = HashGrid(shape.audio_plane)
        # With features near 0 the plane looks the same everywhere: no gradient would reach the audio coordinate,
        # and it would be regularised away before the plane had learnt anything.
        with torch.no_grad():
            self.audio_plane.table.mul_(AUDIO_PLANE_SPREAD)
        self.motion_net = ConditionedMLP(shape.space.output_width, shape.condition_width, width, 2, layers=3)
        encoded = shape.space.output_width + shape.audio_plane.output_width
        self.density_net = ConditionedMLP(encoded, 1, width, width // 2, layers=3)
        self.colour_net = ConditionedMLP(16 + width // 2 - 1, shape.appearance_code, width, 3, layers=2)

    def _drive(self, condition: Condition) -> Tensor:
        """What drives the warp, (B, mouth + 1 or 2): the mouth's shape, how open the eyes are, how high the brows."""
        first = condition.audio.shape[1] - self.shape.mouth
        drives = [condition.audio[:, first:], condition.eye]
        return torch.cat([*drives, condition.brow] if self.shape.brows else drives, dim=1)

    def density(self, points: Tensor, condition: Condition, membership: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Density and geometry feature of points.

        Args:
            points: (N, 3) float32, cm, world; outside the box they are moved to its surface.
            condition: Of B frames.
            membership: (N, B) float, one 1 in each row: the frame of a point; None when B is 1.

        Returns:
            sigma: (N,) float > 0, per cm.
            geometry: (N, hidden_width / 2 - 1) float.
            motion: (N, 2) float in [-1, 1].
        """
        frame = None if membership is None else membership.argmax(1)
        if condition.bend is not None:
            points = bend(points, condition.bend, self.aabb[:, :2], frame)
        if self.warp is not None:
            points = bend(points, self.warp.lattice(self._drive(condition)), self.warp.box, frame)
        unit = ((points - self.aabb[0]) / (self.aabb[1] - self.aabb[0])).clamp(0, 1)
        spatial = self.space(unit)
        motion = torch.tanh(self.motion_net(spatial, condition.audio, membership))
        deformed = self.audio_plane(motion * 0.5 + 0.5)
        raw = self.density_net(torch.cat([spatial, deformed], dim=-1), condition.eye, membership)
        return density_activation(raw[:, 0]), raw[:, 1:], motion

    def forward(
        self,
        points: Tensor,
        directions: Tensor,
        condition: Condition,
        membership: Tensor | None,
        ray: Tensor | None = None,
    ) -> FieldSample:
        """Density and colour of points seen from directions.

        Args:
            points: (N, 3) float32, cm, world.
            directions: (R, 3) float32, unit, world, of the rays; (N, 3), of the points, when ``ray`` is None.
            condition: Of B frames.
            membership: (N, B) float, one 1 in each row: the frame of a point; None when B is 1.
            ray: (N,) int64 in [0, R), the ray of a point: directions are encoded once a ray.

        Returns:
            The field's sample, N points.
        """
        sigma, geometry, motion = self.density(points, condition, membership)
        views = spherical_harmonics(directions)
        seen = torch.cat([views if ray is None else views[ray], geometry], dim=-1)
        rgb = torch.sigmoid(self.colour_net(seen, condition.appearance, membership))
        return FieldSample(sigma, rgb, motion)

    def _displacement(self, condition: Condition) -> tuple[Tensor | None, Tensor | None]:
        """How one frame moves points before the grid is asked, bend and warp together.

        Returns:
            (X, Y, 2) float32, cm, and the box that it lies over, (2, 2) float32, cm; None for both where nothing moves.
        """
        bent, sides = condition.bend, self.aabb[:, :2]
        if self.warp is None:
            return (None, None) if bent is None else (bent[0], sides)
        warped = self.warp.lattice(self._drive(condition))
        if bent is None:
            return warped[0], self.warp.box
        joint = self._joint_lattice(self.warp.box)
        return joint.join(bent, warped), joint.box

    def _joint_lattice(self, box: Tensor) -> JointLattice:
        """Where bend and warp meet, laid out once: a GPU would have to be waited for."""
        if self._joint is not None:
            original, version, joint = self._joint
            if original is box and version == box._version:
                return joint
        joint = JointLattice(box, NODES, self.aabb[:, :2])
        self._joint = (box, box._version, joint)
        return joint

    @torch.no_grad()
    def frozen(self, condition: Condition) -> FrozenHead:
        """The field as it is during one frame, for the fused kernels.

        Args:
            condition: Of the one frame.

        Returns:
            The field with the condition folded in; it shares the tables' memory.
        """
        motion, motion_bias = self.motion_net.folded(condition.audio)
        density, density_bias = self.density_net.folded(condition.eye)
        colour, colour_bias = self.colour_net.folded(condition.appearance)
        moved, moved_box = self._displacement(condition)
        return FrozenHead(
            aabb=self.aabb,
            space=self.space.table.detach(),
            space_spec=self.shape.space,
            plane=self.audio_plane.table.detach(),
            plane_spec=self.shape.audio_plane,
            motion=(motion[0], motion[1], motion[2]),
            motion_bias=motion_bias,
            density=(density[0], density[1], density[2]),
            density_bias=density_bias,
            colour=(colour[0], colour[1]),
            colour_bias=colour_bias,
            density_shift=DENSITY_SHIFT,
            max_log_density=MAX_LOG_DENSITY,
            warp=moved,
            warp_box=moved_box,
        )

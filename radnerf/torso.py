"""The torso: a 2-D layer that deforms with the head's pose (arXiv 2211.12368, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from radnerf.camera import Camera
from radnerf.encoding import frequency_encode
from radnerf.grid import GridSpec, HashGrid
from radnerf.mlp import ConditionedMLP
from radnerf.sway import NODES, displacement

COORDINATE_BANDS = 6
ANCHOR_BANDS = 3
MAX_OFFSET = 0.25
"""Farthest that a pixel may be deformed, in picture sides."""

_FIRST_OFFSETS = 0.01
_FIRST_ANCHORS_CM = ((-8.0, -14.0, -6.0), (8.0, -14.0, -6.0), (0.0, -10.0, 2.0))


@dataclass(frozen=True)
class TorsoShape:
    """Everything that decides which parameters a torso has.

    Attributes:
        plane: The 2-D grid.
        hidden_width: Of every hidden layer; a multiple of 16.
        appearance_code: Width of the per-frame code.
        frames: Training frames, each with a code.
        anchors: Learnt points in the head's frame whose projections tell the pose (ER-NeRF, arXiv 2307.09323,
            section 3.4).
        mask_resolution: Cells along an edge of the 2-D occupancy grid.
        clip_frames: Frames of the whole clip, each with a measured sway.
    """

    plane: GridSpec
    hidden_width: int
    appearance_code: int
    frames: int
    anchors: int
    mask_resolution: int
    clip_frames: int


class TorsoModel(nn.Module):
    """y = x - sway(x); offset = MLP([PE(y), PE(anchors), code]); (alpha, rgb) = sigmoid(MLP([E2(y + offset), code])).

    Coordinates are pixels over the picture's side, so that the layer can be rendered at any size. The head's pose
    does not tell how a body sways from foot to foot: that is measured, as the pose is, and taken away first.

    Attributes:
        mask: (G, G) bool, the cells of the picture where the torso ever is, indexed [row, column].
        sway: (N, 3, 3, 2) float32, the body's measured displacement in each frame of the clip, as control points
            (see ``radnerf.sway``).
    """

    mask: Tensor
    sway: Tensor

    def __init__(self, shape: TorsoShape) -> None:
        """Make the parts, untrained.

        Args:
            shape: Sizes.
        """
        super().__init__()
        self.shape = shape
        first = torch.tensor(_FIRST_ANCHORS_CM)
        repeats = -(-shape.anchors // len(first))
        first = first.repeat(repeats, 1)[: shape.anchors]
        # In place: a product on the meta device, where sizes are checked, makes torch import its compiler.
        self.anchors = nn.Parameter(torch.randn(shape.anchors, 3).mul_(0.1).add_(first))
        self.appearance = nn.Parameter(torch.randn(shape.frames, shape.appearance_code).mul_(0.01))
        told = 2 * shape.anchors * (1 + 2 * ANCHOR_BANDS) + shape.appearance_code
        coordinate = 2 * (1 + 2 * COORDINATE_BANDS)
        self.offset_net = ConditionedMLP(coordinate, told, shape.hidden_width, 2, layers=3)
        with torch.no_grad():
            # The first steps paint where things are: a picture learnt under a scramble of offsets keeps its tears.
            self.offset_net.weights[-1].mul_(_FIRST_OFFSETS)
        self.plane = HashGrid(shape.plane)
        self.colour_net = ConditionedMLP(
            shape.plane.output_width, shape.appearance_code, shape.hidden_width, 4, layers=3
        )
        self.register_buffer("mask", torch.ones(shape.mask_resolution, shape.mask_resolution, dtype=torch.bool))
        self.register_buffer("sway", torch.zeros(shape.clip_frames, NODES, NODES, 2))

    def pose_code(self, camera: Camera, rotation: Tensor, translation: Tensor) -> Tensor:
        """Where the anchors appear: the pose as the picture shows it.

        Args:
            camera: At any size.
            rotation: (B, 3, 3) float32, head to camera.
            translation: (B, 3) float32, cm.

        Returns:
            (B, 2 * anchors * (1 + 2 * ANCHOR_BANDS)) float.
        """
        pixels = camera.project(self.anchors[None], rotation[:, None], translation[:, None])
        return frequency_encode((pixels / camera.width_px - 0.5).flatten(1), ANCHOR_BANDS)

    def code(self, frames: Tensor | None, count: int) -> Tensor:
        """Per-frame codes; the mean one for new frames.

        Args:
            frames: (B,) int64, training frames; None for new ones.
            count: B.

        Returns:
            (B, appearance_code) float.
        """
        if frames is None:
            return self.appearance.mean(0, keepdim=True).expand(count, -1)
        return self.appearance[frames]

    def forward(self, places: Tensor, pose: Tensor, code: Tensor, membership: Tensor | None) -> tuple[Tensor, Tensor]:
        """Colour and opacity of places in the picture.

        Args:
            places: (N, 2) float32, x and y over the picture's side, the body's sway taken away.
            pose: (B, P) float from ``pose_code``.
            code: (B, appearance_code) float.
            membership: (N, B) float, one 1 in each row: the frame of a place; None when B is 1.

        Returns:
            rgb: (N, 3) float in [0, 1], not premultiplied.
            alpha: (N,) float in [0, 1].
        """
        encoded = frequency_encode(places * 2 - 1, COORDINATE_BANDS)
        offset = MAX_OFFSET * torch.tanh(self.offset_net(encoded, torch.cat([pose, code], dim=1), membership))
        features = self.plane((places + offset).clamp(0, 1))
        raw = torch.sigmoid(self.colour_net(features, code, membership))
        return raw[:, 1:], raw[:, 0]

    def sway_at(self, clip_frame: float | None) -> Tensor:
        """The body's sway at a place in the clip, linear between frames, (3, 3, 2); the mean one for None."""
        if clip_frame is None:
            return self.sway.mean(0)
        before = min(int(clip_frame), len(self.sway) - 1)
        return torch.lerp(self.sway[before], self.sway[min(before + 1, len(self.sway) - 1)], clip_frame - before)

    @torch.no_grad()
    def render(self, camera: Camera, rotation: Tensor, translation: Tensor, clip_frame: float | None = None) -> Tensor:
        """The layer for one new frame, at the camera's size.

        Args:
            camera: Decides the size.
            rotation: (3, 3) float32, head to camera.
            translation: (3,) float32, cm.
            clip_frame: The frame of the clip that the pose is from, or a place between two frames, whose sway
                comes with it; None for a body at rest.

        Returns:
            (H, W, 4) float in [0, 1], on the CPU: rgb premultiplied by alpha, and alpha.
        """
        device = self.mask.device
        rotation, translation = rotation.to(device), translation.to(device)
        pixels = camera.pixels(device)
        places = (pixels.float() + 0.5) / camera.width_px
        cells = (places * self.shape.mask_resolution).long().clamp(0, self.shape.mask_resolution - 1)
        there = self.mask[cells[:, 1], cells[:, 0]].nonzero().squeeze(1)
        layer = torch.zeros(len(pixels), 4, device=device)
        pose = self.pose_code(camera, rotation[None], translation[None])
        places = places - displacement(self.sway_at(clip_frame), places)
        for some in torch.split(there, 1 << 16):
            rgb, alpha = self(places[some], pose, self.code(None, 1), None)
            layer[some] = torch.cat([rgb * alpha[:, None], alpha[:, None]], dim=1)
        return layer.cpu().reshape(camera.height_px, camera.width_px, 4)

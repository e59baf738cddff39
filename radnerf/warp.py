"""The face's measured motion, taken away before the field is asked: lips, jaw and eyelids at rest.

A field that must learn from colours alone that lips move takes long and moves them too little. Where a tracked face's
landmarks go is known, and it is nearly linear in the numbers that drive the head. So a sample's place is first moved
to where that piece of the face lies at rest, as deformable fields do (Nerfies, arXiv 2011.12948), by a displacement
that is interpolated between the landmarks; what motion reveals, teeth and shadows, is left to the 2-D audio
coordinate, as in HyperNeRF (arXiv 2106.13228).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NODES = (64, 72)
"""Places across and up the face at which a frame's displacement is worked out."""

MARGIN_CM = 4.0
"""By how much the lattice reaches beyond the landmarks; there the displacement has faded."""

_NEAR = 12  # landmarks that a node looks at: beyond them a Gaussian's weight is next to nothing
_LEAST_SPREAD_CM, _MOST_SPREAD_CM = 0.12, 1.0
_SPREAD = 0.45  # a landmark's Gaussian over its distance to its neighbours
_STILL_CM = 1e-4  # for a driving number's whole unit
_REACH = 4.5  # spreads at which a Gaussian's weight is nothing beside that of standing still
_USUAL_DRIVE = 3.0  # driving numbers are standardised: beyond that they hardly come
_FADE = 1e-2  # weight of standing still, which wins where no landmark is near
_EDGE_CM = 0.1  # half the width of the seam along an edge that covers what lies beyond it


class FaceWarp(nn.Module):
    """Displacements of V landmarks, linear in K driving numbers, and what lies between them.

    Displacements are across and up the face (x and y of the head's frame); a landmark's depth stays.

    Attributes:
        anchors: (V, 2) float32, cm, the landmarks at rest.
        basis: (K, V, 2) float32, cm, their displacement for each driving number.
        rest: (K,) float32, the driving numbers at rest.
        spread: (V,) float32, cm, each landmark's reach.
        side: (V,) float32, 1 or -1 for a landmark on the edge of what lies above or below it and slides over what lies
            beyond, as eyelids do over the eye: it moves nothing there. 0 for one that moves all around it.
        near: (NODES[0] * NODES[1], 12 or V) int64, the landmarks nearest to each node.
        active: (NODES[0] * NODES[1],) bool, the nodes within reach of a landmark that ever moves.
        box: (2, 2) float32, cm, least and greatest corner of the lattice.
        nodes: (NODES[0] * NODES[1], 2) float32, cm, the lattice's places, x before y.
    """

    anchors: Tensor
    basis: Tensor
    rest: Tensor
    spread: Tensor
    side: Tensor
    near: Tensor
    active: Tensor
    box: Tensor
    nodes: Tensor

    def __init__(self, anchors: int, drives: int) -> None:
        """Make a warp that moves nothing.

        Args:
            anchors: Landmarks V, at least 1.
            drives: Driving numbers K.
        """
        super().__init__()
        nodes = NODES[0] * NODES[1]
        self.register_buffer("anchors", torch.zeros(anchors, 2))
        self.register_buffer("basis", torch.zeros(drives, anchors, 2))
        self.register_buffer("rest", torch.zeros(drives))
        self.register_buffer("spread", torch.ones(anchors))
        self.register_buffer("side", torch.zeros(anchors))
        self.register_buffer("near", torch.zeros(nodes, min(_NEAR, anchors), dtype=torch.int64))
        self.register_buffer("active", torch.zeros(nodes, dtype=torch.bool))
        self.register_buffer("box", torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
        self.register_buffer("nodes", torch.zeros(nodes, 2))
        self._found: tuple[Tensor, int, Tensor] | None = None

    @torch.no_grad()
    def fit(self, anchors: Tensor, basis: Tensor, rest: Tensor, side: Tensor) -> None:
        """Take over a face's motion.

        Args:
            anchors: (V, 2) float, cm.
            basis: (K, V, 2) float, cm.
            rest: (K,) float.
            side: (V,) float, -1, 0 or 1.
        """
        self.anchors.copy_(anchors)
        self.basis.copy_(basis)
        self.rest.copy_(rest)
        self.side.copy_(side)
        apart = torch.cdist(self.anchors, self.anchors)
        neighbours = apart.topk(min(4, len(anchors)), largest=False).values[:, 1:]
        spacing = neighbours.mean(1) if neighbours.shape[1] else apart.new_ones(len(anchors))
        self.spread.copy_((_SPREAD * spacing).clamp(_LEAST_SPREAD_CM, _MOST_SPREAD_CM))
        self.box.copy_(torch.stack([self.anchors.min(0).values - MARGIN_CM, self.anchors.max(0).values + MARGIN_CM]))
        axes = [torch.linspace(float(self.box[0, axis]), float(self.box[1, axis]), NODES[axis]) for axis in range(2)]
        self.nodes.copy_(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2))
        moves = self.basis.norm(dim=-1).amax(0) > _STILL_CM
        distance = torch.cdist(self.nodes, self.anchors)
        self.near.copy_((distance / self.spread).topk(self.near.shape[1], largest=False).indices)
        travel = _USUAL_DRIVE * self.basis.square().sum((0, 2)).sqrt()
        reached = moves & (distance < _REACH * self.spread + travel)
        self.active.copy_(reached.gather(1, self.near).any(1))

    @torch.no_grad()
    def lattice(self, drive: Tensor) -> Tensor:
        """Where what is seen at each node lies at rest.

        Args:
            drive: (B, K) float, the driving numbers of B frames.

        Returns:
            (B, NODES[0], NODES[1], 2) float, cm: the way from a node to its place at rest.
        """
        shift = torch.einsum("bk,kvc->bvc", drive - self.rest, self.basis)
        active = self._active_nodes()
        near, frames = self.near[active], len(drive)
        # Coordinate by coordinate and in place: this runs for every step and every frame.
        shift_x, shift_y = (shift[..., axis][:, near] for axis in range(2))
        away = self.nodes[active][:, None] - self.anchors[near]
        above = away[..., 1] - shift_y
        squared = (away[..., 0] - shift_x).square_()
        squared += above.square()
        weight = squared.mul_(-0.5 / self.spread[near].square()).exp_()
        # A shut eye's lids meet: did both move what lies on either side of the line, half of the eye would be seen.
        side = self.side[near]
        weight *= above.mul_(side / (2 * _EDGE_CM)).add_(1 - 0.5 * side.abs()).clamp_(0, 1)
        total = weight.sum(2) + _FADE
        lattice = torch.zeros(frames, len(self.active), 2, dtype=shift.dtype, device=shift.device)
        lattice[:, active] = -torch.stack(
            [(weight * shift_x).sum(2) / total, (weight * shift_y).sum(2) / total], dim=-1
        )
        return lattice.reshape(frames, *NODES, 2)

    def _active_nodes(self) -> Tensor:
        """The numbers of the active nodes, (A,) int64, looked for once: a GPU would have to be waited for."""
        if self._found is not None:
            original, version, nodes = self._found
            if original is self.active and version == original._version:
                return nodes
        nodes = self.active.nonzero()[:, 0]
        self._found = (self.active, self.active._version, nodes)
        return nodes


def bend(points: Tensor, lattice: Tensor, box: Tensor, frame: Tensor | None = None) -> Tensor:
    """Move points by a displacement interpolated bilinearly between a lattice's nodes; none outside of it.

    Args:
        points: (N, 3) float32, cm, world.
        lattice: (B, X, Y, 2) float32, cm, over the box, x before y.
        box: (2, 2) float32, cm, least and greatest corner in x and y.
        frame: (N,) int64 in [0, B), which lattice a point takes; the first one when None.

    Returns:
        (N, 3) float32, cm, world.
    """
    _, across, up, _ = lattice.shape
    # Filled in on the device: a list would have to be copied there.
    most = points.new_full((2,), across - 1)
    most[1:].fill_(up - 1)
    place = (points[:, :2] - box[0]) / (box[1] - box[0]) * most
    inside = ((place >= 0) & (place <= most)).all(1)
    place = torch.minimum(place.clamp(min=0), most)
    cell = torch.minimum(place.floor(), most - 1)
    share = place - cell
    column, row = cell.long().unbind(1)
    first = column * up + row if frame is None else (frame * across + column) * up + row
    flat = lattice.reshape(-1, 2)
    x, y = share[:, :1], share[:, 1:]
    low = flat[first] * (1 - x) + flat[first + up] * x
    high = flat[first + 1] * (1 - x) + flat[first + up + 1] * x
    moved = points[:, :2] + (low * (1 - y) + high * y) * inside[:, None]
    return torch.cat([moved, points[:, 2:]], dim=1)


def fit_basis(shift: Tensor, drive: Tensor, prior: Tensor, trust: Tensor) -> Tensor:
    """The linear motion that explains measured displacements best, where they tell; the expected one where not.

    Least squares with a ridge towards the prior: minimises |shift - drive B|^2 + sum_k trust_k |B_k - prior_k|^2.

    Args:
        shift: (F, V, 2) float, cm, the landmarks' measured displacements from rest.
        drive: (F, K) float, the driving numbers less those at rest.
        prior: (K, V, 2) float, cm.
        trust: (K,) float > 0, how many frames with a driving number of 1 the prior is worth.

    Returns:
        (K, V, 2) float, cm.
    """
    frames, anchors, _ = shift.shape
    drives = drive.double()
    left = shift.double().reshape(frames, -1) - drives @ prior.double().flatten(1)
    normal = drives.T @ drives + torch.diag(trust.double())
    basis: Tensor = prior.double().flatten(1) + torch.linalg.solve(normal, drives.T @ left)
    return basis.reshape(len(trust), anchors, 2).float()

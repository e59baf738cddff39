"""The baseline that every speed-up is measured against: the original NeRF with an audio condition.

Mildenhall et al. 2020 (arXiv 2003.08934), sections 5.1 to 5.3, with the audio code concatenated to the encoded
position as AD-NeRF does (Guo et al. 2021, arXiv 2103.11078, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radnerf.encoding import frequency_encode
from radnerf.head import Condition, FieldSample, density_activation
from radnerf.kernels.protocol import Backend
from radnerf.mlp import ConditionedMLP
from radnerf.rays import intersect_aabb
from radnerf.rendering import RayColours

POSITION_BANDS = 10
DIRECTION_BANDS = 4
COARSE_SAMPLES = 64
FINE_SAMPLES = 128
WIDTH = 256


class NerfField(nn.Module):
    """Eight layers of 256 with a skip connection at the fifth, then a colour layer of 128."""

    aabb: Tensor

    def __init__(self, aabb: Tensor, condition_width: int, appearance_code: int) -> None:
        """Make the layers.

        Args:
            aabb: (2, 3) float32, the box, cm, world.
            condition_width: Columns of the audio condition.
            appearance_code: Width of the per-frame code.
        """
        super().__init__()
        self.register_buffer("aabb", aabb.clone())
        position = 3 * (1 + 2 * POSITION_BANDS)
        direction = 3 * (1 + 2 * DIRECTION_BANDS)
        condition = condition_width + 1
        self.before = ConditionedMLP(position, condition, WIDTH, WIDTH, layers=5)
        self.after = ConditionedMLP(position + WIDTH, condition, WIDTH, WIDTH, layers=3)
        self.density_layer = nn.Linear(WIDTH, 1)
        self.feature_layer = nn.Linear(WIDTH, WIDTH)
        self.colour_net = ConditionedMLP(WIDTH + direction, appearance_code, WIDTH // 2, 3, layers=2)

    def forward(
        self,
        points: Tensor,
        directions: Tensor,
        condition: Condition,
        membership: Tensor | None,
        ray: Tensor | None = None,
    ) -> FieldSample:
        """Density and colour; arguments as for ``HeadField.forward``, without a 2-D audio coordinate."""
        unit = (points - self.aabb[0]) / (self.aabb[1] - self.aabb[0]) * 2 - 1
        encoded = frequency_encode(unit, POSITION_BANDS)
        sound = torch.cat([condition.audio, condition.eye], dim=-1)
        hidden = torch.relu(self.before(encoded, sound, membership))
        hidden = torch.relu(self.after(torch.cat([encoded, hidden], dim=-1), sound, membership))
        views = frequency_encode(directions, DIRECTION_BANDS)
        seen = torch.cat([self.feature_layer(hidden), views if ray is None else views[ray]], dim=-1)
        rgb = torch.sigmoid(self.colour_net(seen, condition.appearance, membership))
        return FieldSample(density_activation(self.density_layer(hidden)[:, 0]), rgb, points.new_zeros(len(points), 0))


def sample_fine(edges: Tensor, weights: Tensor, places: Tensor) -> Tensor:
    """Draw distances where the coarse weights lie, by inverting their cumulative sum (NeRF, section 5.2).

    Args:
        edges: (R, K + 1) float, ends of the coarse intervals, ascending.
        weights: (R, K) float >= 0.
        places: (R, F) float in [0, 1), where in the cumulative sum to look.

    Returns:
        (R, F) float, distances within the edges.
    """
    # A ray that met nothing has no weights: the small amount makes its distribution flat, not 0 / 0.
    shares = weights + 1e-5
    cumulative = torch.cumsum(shares / shares.sum(-1, keepdim=True), dim=-1)
    cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], dim=-1)
    above = torch.searchsorted(cumulative, places.contiguous(), right=True).clamp(1, edges.shape[1] - 1)
    low, high = cumulative.gather(1, above - 1), cumulative.gather(1, above)
    inside = (places - low) / (high - low).clamp(min=1e-8)
    start, stop = edges.gather(1, above - 1), edges.gather(1, above)
    return start + inside.clamp(0, 1) * (stop - start)


def _render_distances(
    field: NerfField,
    kernels: Backend,
    rays: tuple[Tensor, Tensor],
    edges: Tensor,
    condition: Condition,
    membership: Tensor | None,
) -> RayColours:
    """Composite the field's samples at the middles of each ray's intervals, (R, K + 1) edges."""
    count, intervals = edges.shape[0], edges.shape[1] - 1
    middle = ((edges[:, 1:] + edges[:, :-1]) / 2).flatten()
    ray = torch.arange(count, device=edges.device).repeat_interleave(intervals)
    points = rays[0][ray] + middle[:, None] * rays[1][ray]
    sample = field(points, rays[1], condition, None if membership is None else membership[ray], ray)
    lengths = (edges[:, 1:] - edges[:, :-1]).flatten()
    offsets = torch.arange(count + 1, device=edges.device) * intervals
    seen = kernels.composite(sample.sigma, sample.rgb, middle, lengths, offsets)
    return RayColours(seen.image, seen.alpha, seen.depth, seen.weights, sample.motion, points, ray, offsets[-1])


def render_rays_hierarchical(
    coarse: NerfField,
    fine: NerfField,
    kernels: Backend,
    rays: tuple[Tensor, Tensor],
    condition: Condition,
    membership: Tensor | None,
    jitter: Tensor | None = None,
) -> tuple[RayColours, RayColours]:
    """Render with 64 coarse samples, then with those and 128 more where the coarse ones found something.

    Args:
        coarse: The field that finds where things are.
        fine: The field that is seen.
        kernels: What composites.
        rays: Origins (R, 3) cm and unit directions (R, 3), float32, world.
        condition: Of B frames.
        membership: (R, B) float, the frame of a ray; None when B is 1.
        jitter: (R,) float in [0, 1), shifts the coarse samples; none when None.

    Returns:
        What the coarse and the fine field see.
    """
    near, far = intersect_aabb(*rays, coarse.aabb)
    far = torch.maximum(far, near)
    steps = torch.linspace(0, 1, COARSE_SAMPLES + 1, device=near.device)
    if jitter is not None:
        steps = (steps + (jitter[:, None] - 0.5) / COARSE_SAMPLES).clamp(0, 1)
    edges = near[:, None] + (far - near)[:, None] * steps
    first = _render_distances(coarse, kernels, rays, edges, condition, membership)
    weights = first.weights.detach().reshape(len(near), COARSE_SAMPLES)
    places = (torch.arange(FINE_SAMPLES, device=near.device) + 0.5) / FINE_SAMPLES
    drawn = sample_fine(edges, weights, places.expand(len(near), -1))
    both = torch.sort(torch.cat([edges, drawn], dim=-1), dim=-1).values
    return first, _render_distances(fine, kernels, rays, both, condition, membership)

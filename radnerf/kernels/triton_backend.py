"""The Triton backend: kernels for NVIDIA GPUs that are compiled at their first call."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from radnerf.kernels.checks import check_composite, check_encode, check_march, check_render
from radnerf.kernels.protocol import MIN_TRANSMITTANCE, Composite, FrozenHead, Samples
from radnerf.kernels.triton_composite import CompositeRays
from radnerf.kernels.triton_encode import Encode
from radnerf.kernels.triton_halves import Halves
from radnerf.kernels.triton_jit import require_device, require_dtype
from radnerf.kernels.triton_march import march
from radnerf.kernels.triton_shade import shade
from radnerf.kernels.triton_trace import trace

if TYPE_CHECKING:
    from radnerf.grid import GridSpec

# Rays whose samples' places are held at once: 64 MB at 16 samples a ray.
_RAYS_AT_ONCE = 1 << 20


class TritonBackend:
    """Kernels on the GPU; see ``Backend`` for the contract.

    Attributes:
        half: Whether ``render`` reads tables and multiplies matrices in half precision, summing in float32.
    """

    name = "triton"

    def __init__(self, *, half: bool) -> None:
        """Choose the precision of pictures; training is in float32 either way."""
        self.half = half
        self._halves = Halves()

    def encode(self, x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
        """Interpolate a hash grid at points, (N, dim) -> (N, levels * features_per_level)."""
        check_encode(x, table, spec)
        require_device("encode", x)
        require_dtype("encode", x, torch.float32, torch.float16)
        encoded: Tensor = Encode.apply(x, table.contiguous(), spec)  # type: ignore[no-untyped-call]
        return encoded

    def march(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        near: Tensor,
        far: Tensor,
        occupancy: Tensor,
        aabb: Tensor,
        max_samples: int,
        min_step: float,
        jitter: Tensor,
    ) -> Samples:
        """Place samples along the occupied part of each ray."""
        check_march(rays_o, rays_d, near, far, occupancy, aabb, max_samples, min_step, jitter)
        require_device("march", rays_o)
        require_dtype("march", rays_o, torch.float32)
        with torch.no_grad():
            return march(rays_o, rays_d, near, far, occupancy, aabb, max_samples, min_step, jitter)

    def march_within(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        near: Tensor,
        far: Tensor,
        occupancy: Tensor,
        aabb: Tensor,
        max_samples: int,
        min_step: float,
        jitter: Tensor,
        room: int,
    ) -> Samples:
        """Place samples along the occupied part of each ray, in lists of a fixed length."""
        check_march(rays_o, rays_d, near, far, occupancy, aabb, max_samples, min_step, jitter)
        require_device("march", rays_o)
        require_dtype("march", rays_o, torch.float32)
        with torch.no_grad():
            return march(rays_o, rays_d, near, far, occupancy, aabb, max_samples, min_step, jitter, room)

    def composite(
        self,
        sigma: Tensor,
        rgb: Tensor,
        t: Tensor,
        dt: Tensor,
        offsets: Tensor,
        min_transmittance: float = MIN_TRANSMITTANCE,
    ) -> Composite:
        """Integrate samples along rays."""
        # On a GPU looking at the offsets would wait for it in every step.
        check_composite(sigma, rgb, t, dt, offsets, look=sigma.device.type == "cpu")
        require_device("composite", sigma)
        require_dtype("composite", sigma, torch.float32)
        limit = -math.log(min_transmittance) if min_transmittance > 0 else math.inf
        rays, weights = CompositeRays.apply(sigma, rgb, t, dt, offsets, limit)  # type: ignore[no-untyped-call]
        return Composite(rays[:, :3], rays[:, 3], rays[:, 4], weights)

    @torch.no_grad()
    def render(
        self,
        head: FrozenHead,
        rays_o: Tensor,
        rays_d: Tensor,
        occupancy: Tensor,
        max_samples: int,
        min_step: float,
        min_transmittance: float = MIN_TRANSMITTANCE,
    ) -> Tensor:
        """March, evaluate and composite the rays of one frame, without waiting for the device."""
        check_render(rays_o, rays_d, occupancy, head.aabb, max_samples, min_step)
        require_device("render", rays_o)
        require_dtype("render", rays_o, torch.float32)
        if self.half:
            head = dataclasses.replace(head, space=self._halves.of(head.space), plane=self._halves.of(head.plane))
        parts = []
        for rays in zip(torch.split(rays_o, _RAYS_AT_ONCE), torch.split(rays_d, _RAYS_AT_ONCE), strict=True):
            some = (rays[0].contiguous(), rays[1].contiguous())
            traced = trace(*some, occupancy, head.aabb, max_samples, min_step)
            parts.append(shade(head, some, traced, min_transmittance, self.half))
        return torch.cat(parts)


BACKEND = TritonBackend(half=True)

"""The CPU backend: numba kernels in float32 behind torch's autograd, sharing memory with torch."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from radnerf.errors import BackendUnavailable, BadInput
from radnerf.kernels.checks import check_composite, check_encode, check_march
from radnerf.kernels.cpu_encode import forward_kernel, point_gradient_kernel, table_gradient_kernel
from radnerf.kernels.cpu_frame import render_frame
from radnerf.kernels.cpu_jit import follow_torch_threads
from radnerf.kernels.cpu_rays import composite_backward, composite_forward, measure_rays, place_samples
from radnerf.kernels.cpu_torso import paint
from radnerf.kernels.protocol import MIN_TRANSMITTANCE, Composite, FrozenHead, FrozenTorso, Samples

if TYPE_CHECKING:
    from radnerf.grid import GridSpec


class CpuBackend:
    """Kernels on several threads, as many as torch uses; see ``Backend`` for the contract."""

    name = "cpu"

    def encode(self, x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
        """Interpolate a hash grid at points, (N, dim) -> (N, levels * features_per_level)."""
        check_encode(x, table, spec)
        _require_cpu_float32("encode", x)
        if not table.is_contiguous():
            raise BadInput("encode: the table is not contiguous", hint="keep it as one (entries, F) tensor")
        encoded: Tensor = _Encode.apply(x, table, spec)  # type: ignore[no-untyped-call]
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
        _require_cpu_float32("march", rays_o)
        follow_torch_threads()
        rays = [_array(tensor) for tensor in (rays_o, rays_d, near, far, occupancy, aabb)]
        lengths = np.empty(len(rays_o))
        counts = np.empty(len(rays_o), np.int64)
        measure_rays(*rays, max_samples, float(min_step), lengths, counts)
        offsets = np.zeros(len(rays_o) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        total = int(offsets[-1])
        t, dt, ray = np.empty(total, np.float32), np.empty(total, np.float32), np.empty(total, np.int64)
        place_samples(*rays, _array(jitter), lengths, offsets, t, dt, ray)
        return Samples(*(torch.from_numpy(array) for array in (offsets, t, dt, ray)))

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
        check_composite(sigma, rgb, t, dt, offsets)
        _require_cpu_float32("composite", sigma)
        limit = -math.log(min_transmittance) if min_transmittance > 0 else math.inf
        rays, weights = _Composite.apply(sigma, rgb, t, dt, offsets, limit)  # type: ignore[no-untyped-call]
        return Composite(rays[:, :3], rays[:, 3], rays[:, 4], weights)

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
        """March, evaluate and composite the rays of one frame."""
        near = torch.zeros(len(rays_o), dtype=rays_o.dtype, device=rays_o.device)
        check_march(rays_o, rays_d, near, near, occupancy, head.aabb, max_samples, min_step, near)
        _require_cpu_float32("render", rays_o)
        return render_frame(head, rays_o, rays_d, occupancy, max_samples, min_step, min_transmittance)

    def paint(self, head: Tensor, torso: FrozenTorso, background: Tensor) -> Tensor:
        """Put a head over a torso over a background, (H, W, 3) uint8."""
        _require_cpu_float32("paint", head)
        return paint(head, torso, background)


class _Encode(torch.autograd.Function):
    """The grid's features, with gradients to the points and to the table."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:  # noqa: ANN401
        follow_torch_threads()
        ctx.save_for_backward(x, table)
        ctx.spec = spec
        out = np.empty((len(x), spec.output_width), np.float32)
        kernel = forward_kernel(spec.dim, spec.features_per_level)
        kernel(_array(x), _array(table), *_level_arrays(spec), out)
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401
        threads = follow_torch_threads()
        x, table = ctx.saved_tensors
        spec: GridSpec = ctx.spec
        shape = (spec.dim, spec.features_per_level)
        grad_x = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.zeros(x.shape)
            kernel = point_gradient_kernel(*shape)
            kernel(_array(x), _array(grad), _array(table), *_level_arrays(spec), _array(grad_x))
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros(table.shape)
            kernel = table_gradient_kernel(*shape)
            kernel(_array(x), _array(grad), *_level_arrays(spec), threads, _array(grad_table))
        return grad_x, grad_table, None


class _Composite(torch.autograd.Function):
    """(R, 5) colour, alpha and depth, and (S,) weights, with gradients to density and colour."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        sigma: Tensor,
        rgb: Tensor,
        t: Tensor,
        dt: Tensor,
        offsets: Tensor,
        limit: float,
    ) -> tuple[Tensor, Tensor]:
        follow_torch_threads()
        rays = torch.empty(len(offsets) - 1, 5)
        weights, after = torch.empty(len(sigma)), torch.empty(len(sigma))
        given = [_array(tensor) for tensor in (sigma, rgb, t, dt, offsets)]
        composite_forward(*given, limit, _array(rays), _array(weights), _array(after))
        ctx.save_for_backward(rgb, t, dt, offsets, weights, after)
        return rays, weights

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_rays: Tensor,
        grad_weights: Tensor,
    ) -> tuple[Tensor, Tensor, None, None, None, None]:
        follow_torch_threads()
        kept = [_array(tensor) for tensor in ctx.saved_tensors]
        grad_sigma, grad_rgb = torch.empty(len(grad_weights)), torch.empty(len(grad_weights), 3)
        composite_backward(_array(grad_rays), _array(grad_weights), *kept, _array(grad_sigma), _array(grad_rgb))
        return grad_sigma, grad_rgb, None, None, None, None


def _require_cpu_float32(where: str, tensor: Tensor) -> None:
    """Raise unless a tensor (and with it all those checked to be like it) is what the kernels read."""
    if tensor.device.type != "cpu":
        raise BackendUnavailable(
            f"backend cpu: {where} was given tensors on {tensor.device}", hint="move them, or use reference"
        )
    if tensor.dtype != torch.float32:
        raise BadInput(f"backend cpu: {where} was given {tensor.dtype}", hint="use float32, or backend reference")


def _array(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor's memory as an array; of a strided view, such as an expanded gradient, packed."""
    array: NDArray[Any] = tensor.detach().contiguous().numpy()
    return array


@lru_cache(maxsize=64)
def _level_arrays(spec: GridSpec) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Return scales (L,) and resolution, offset, entries, hashed (L, 4)."""
    layout = spec.level_layout()
    scales = np.array([level.scale for level in layout], np.float32)
    rows = [(level.resolution, level.offset, level.entries, level.hashed) for level in layout]
    return scales, np.array(rows, np.uint32)


BACKEND = CpuBackend()

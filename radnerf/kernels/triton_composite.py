"""Compositing with early termination, and its gradients; a lane walks a ray."""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from radnerf.kernels.triton_jit import kernel, piece, programs

_BLOCK = 64
_SMALL = tl.constexpr(0.03)


@piece
def opacity(optical: tl.tensor) -> tl.tensor:
    """1 - exp(-optical), exact where optical is small: the series' next term is 2e-10 of it there."""
    thin = optical < _SMALL
    x = tl.where(thin, optical, 0.0)
    series = x * (1.0 - x * (0.5 - x * (1.0 / 6.0 - x * (1.0 / 24.0 - x / 120.0))))
    return tl.where(thin, series, 1.0 - tl.exp(-optical))


@kernel
def _forward(
    sigma: tl.tensor,
    rgb: tl.tensor,
    t: tl.tensor,
    dt: tl.tensor,
    offsets: tl.tensor,
    out: tl.tensor,
    weights: tl.tensor,
    after: tl.tensor,
    rays: tl.tensor,
    limit: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = r < rays
    s = tl.load(offsets + r, mask=live, other=0)
    beyond = tl.load(offsets + r + 1, mask=live, other=0)
    red = tl.zeros([BLOCK], tl.float32)
    green = tl.zeros([BLOCK], tl.float32)
    blue = tl.zeros([BLOCK], tl.float32)
    alpha = tl.zeros([BLOCK], tl.float32)
    depth = tl.zeros([BLOCK], tl.float32)
    # In float64: the sample at which a ray ends must not depend on rounding.
    total = tl.zeros([BLOCK], tl.float64)
    going = s < beyond
    while tl.max(going.to(tl.int32), axis=0) > 0:
        optical = tl.load(sigma + s, mask=going, other=0.0) * tl.load(dt + s, mask=going, other=0.0)
        before = total.to(tl.float32)
        total += optical.to(tl.float64)
        counted = going & (before <= limit)
        reaching = tl.where(counted, tl.exp(-before), 0.0)
        weight = reaching * opacity(optical)
        tl.store(weights + s, weight, mask=going)
        tl.store(after + s, reaching * tl.exp(-optical), mask=going)
        red += weight * tl.load(rgb + 3 * s, mask=counted, other=0.0)
        green += weight * tl.load(rgb + 3 * s + 1, mask=counted, other=0.0)
        blue += weight * tl.load(rgb + 3 * s + 2, mask=counted, other=0.0)
        alpha += weight
        depth += weight * tl.load(t + s, mask=counted, other=0.0)
        s += 1
        going = s < beyond
    tl.store(out + 5 * r, red, mask=live)
    tl.store(out + 5 * r + 1, green, mask=live)
    tl.store(out + 5 * r + 2, blue, mask=live)
    tl.store(out + 5 * r + 3, tl.minimum(alpha, 1.0), mask=live)
    tl.store(out + 5 * r + 4, depth, mask=live)


@kernel
def _backward(
    grad_out: tl.tensor,
    grad_weights: tl.tensor,
    rgb: tl.tensor,
    t: tl.tensor,
    dt: tl.tensor,
    offsets: tl.tensor,
    weights: tl.tensor,
    after: tl.tensor,
    grad_sigma: tl.tensor,
    grad_rgb: tl.tensor,
    rays: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """Far to near: a sample's optical depth takes from all weights behind it (see ``cpu_rays``)."""
    r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = r < rays
    first = tl.load(offsets + r, mask=live, other=0)
    s = tl.load(offsets + r + 1, mask=live, other=0) - 1
    red = tl.load(grad_out + 5 * r, mask=live, other=0.0)
    green = tl.load(grad_out + 5 * r + 1, mask=live, other=0.0)
    blue = tl.load(grad_out + 5 * r + 2, mask=live, other=0.0)
    alpha = tl.load(grad_out + 5 * r + 3, mask=live, other=0.0)
    depth = tl.load(grad_out + 5 * r + 4, mask=live, other=0.0)
    behind = tl.zeros([BLOCK], tl.float32)
    going = live & (s >= first)
    while tl.max(going.to(tl.int32), axis=0) > 0:
        weight = tl.load(weights + s, mask=going, other=0.0)
        slope = tl.load(grad_weights + s, mask=going, other=0.0) + alpha
        slope += depth * tl.load(t + s, mask=going, other=0.0)
        slope += red * tl.load(rgb + 3 * s, mask=going, other=0.0)
        slope += green * tl.load(rgb + 3 * s + 1, mask=going, other=0.0)
        slope += blue * tl.load(rgb + 3 * s + 2, mask=going, other=0.0)
        own = slope * tl.load(after + s, mask=going, other=0.0) - behind
        tl.store(grad_sigma + s, tl.load(dt + s, mask=going, other=0.0) * own, mask=going)
        tl.store(grad_rgb + 3 * s, weight * red, mask=going)
        tl.store(grad_rgb + 3 * s + 1, weight * green, mask=going)
        tl.store(grad_rgb + 3 * s + 2, weight * blue, mask=going)
        behind += tl.where(going, slope * weight, 0.0)
        s -= 1
        going = live & (s >= first)


class CompositeRays(torch.autograd.Function):
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
        """Integrate float32 samples; samples behind an optical depth of ``limit`` weigh nothing."""
        rays = len(offsets) - 1
        sigma, rgb, t, dt, offsets = (tensor.contiguous() for tensor in (sigma, rgb, t, dt, offsets))
        out, weights, after = sigma.new_empty(rays, 5), torch.zeros_like(sigma), torch.zeros_like(sigma)
        if rays:
            grid = (programs(rays, _BLOCK),)
            _forward[grid](sigma, rgb, t, dt, offsets, out, weights, after, rays, limit, _BLOCK, num_warps=2)
        ctx.save_for_backward(rgb, t, dt, offsets, weights, after)
        return out, weights

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_out: Tensor,
        grad_weights: Tensor,
    ) -> tuple[Tensor, Tensor, None, None, None, None]:
        """Gradients of density and colour."""
        rgb, t, dt, offsets, weights, after = ctx.saved_tensors
        rays = len(offsets) - 1
        grad_sigma, grad_rgb = torch.zeros_like(weights), torch.zeros_like(rgb)
        if rays:
            grads = (grad_out.contiguous(), grad_weights.contiguous())
            kept = (rgb, t, dt, offsets, weights, after)
            _backward[(programs(rays, _BLOCK),)](*grads, *kept, grad_sigma, grad_rgb, rays, _BLOCK, num_warps=2)
        return grad_sigma, grad_rgb, None, None, None, None

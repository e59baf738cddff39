"""Checks of what is given to a kernel, the same for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from radnerf.errors import BadInput

if TYPE_CHECKING:
    from radnerf.grid import GridSpec


def check_encode(x: Tensor, table: Tensor, spec: GridSpec) -> None:
    """Raise BadInput unless points and table fit the grid and each other."""
    if x.ndim != 2 or x.shape[1] != spec.dim:
        raise BadInput(f"encode: x has shape {tuple(x.shape)}, expected (N, {spec.dim})")
    expected = (spec.total_entries, spec.features_per_level)
    if tuple(table.shape) != expected:
        raise BadInput(
            f"encode: the table has shape {tuple(table.shape)}, expected {expected}",
            hint="it belongs to a grid with other settings",
        )
    _same("encode", {"x": x, "table": table})


def check_march(
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    occupancy: Tensor,
    aabb: Tensor,
    max_samples: int,
    min_step: float,
    jitter: Tensor,
) -> None:
    """Raise BadInput unless rays, bounds, grid and settings fit each other."""
    rays = rays_o.shape[0]
    shapes = {"rays_o": (rays_o, (rays, 3)), "rays_d": (rays_d, (rays, 3)), "near": (near, (rays,))}
    shapes |= {"far": (far, (rays,)), "jitter": (jitter, (rays,)), "aabb": (aabb, (2, 3))}
    for name, (tensor, shape) in shapes.items():
        _shape("march", name, tensor, shape)
    _same("march", {name: tensor for name, (tensor, _) in shapes.items()})
    _region("march", rays_o, occupancy, max_samples, min_step)


def check_render(
    rays_o: Tensor, rays_d: Tensor, occupancy: Tensor, aabb: Tensor, max_samples: int, min_step: float
) -> None:
    """Raise BadInput unless rays, occupancy and settings fit each other."""
    rays = rays_o.shape[0]
    shapes = {"rays_o": (rays_o, (rays, 3)), "rays_d": (rays_d, (rays, 3)), "aabb": (aabb, (2, 3))}
    for name, (tensor, shape) in shapes.items():
        _shape("render", name, tensor, shape)
    _same("render", {name: tensor for name, (tensor, _) in shapes.items()})
    _region("render", rays_o, occupancy, max_samples, min_step)


def check_composite(sigma: Tensor, rgb: Tensor, t: Tensor, dt: Tensor, offsets: Tensor, *, look: bool = True) -> None:
    """Raise BadInput unless the samples' tensors fit each other; ``look`` at the offsets too, which a GPU waits for."""
    count = sigma.shape[0] if sigma.ndim else -1
    shapes = {"sigma": (sigma, (count,)), "rgb": (rgb, (count, 3)), "t": (t, (count,)), "dt": (dt, (count,))}
    for name, (tensor, shape) in shapes.items():
        _shape("composite", name, tensor, shape)
    _same("composite", {name: tensor for name, (tensor, _) in shapes.items()})
    if offsets.ndim != 1 or offsets.shape[0] < 1 or offsets.dtype != torch.int64:
        raise BadInput(
            f"composite: offsets is {offsets.dtype} of shape {tuple(offsets.shape)}, expected (R + 1,) int64"
        )
    if offsets.device != sigma.device:
        raise BadInput(f"composite: sigma lies on {sigma.device} and offsets on {offsets.device}")
    if not look:
        return
    if int(offsets[0]) != 0 or int(offsets[-1]) != count or bool((offsets[1:] < offsets[:-1]).any()):
        raise BadInput(f"composite: offsets do not rise from 0 to the number of samples, {count}")


def _region(where: str, rays_o: Tensor, occupancy: Tensor, max_samples: int, min_step: float) -> None:
    """Raise BadInput unless the occupied cells and the sampling are ones that rays can be marched through."""
    if occupancy.ndim != 3 or len(set(occupancy.shape)) != 1 or occupancy.dtype != torch.bool:
        raise BadInput(
            f"{where}: occupancy is {occupancy.dtype} of shape {tuple(occupancy.shape)}, expected (G, G, G) bool"
        )
    if occupancy.device != rays_o.device:
        raise BadInput(f"{where}: rays lie on {rays_o.device} and occupancy on {occupancy.device}")
    if max_samples < 1 or not min_step > 0:
        raise BadInput(
            f"{where}: max_samples = {max_samples}, min_step = {min_step}", hint="use at least 1, and above 0"
        )


def _shape(where: str, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise BadInput(f"{where}: {name} has shape {tuple(tensor.shape)}, expected {shape}")


def _same(where: str, tensors: dict[str, Tensor]) -> None:
    """Raise BadInput unless all are floating point tensors of one dtype on one device."""
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.dtype != first.dtype:
            raise BadInput(
                f"{where}: {first_name} is {first.dtype} and {name} is {tensor.dtype}",
                hint="give all of them in one floating point type",
            )
        if tensor.device != first.device:
            raise BadInput(
                f"{where}: {first_name} lies on {first.device} and {name} on {tensor.device}",
                hint="nothing is moved between devices silently; move it where it belongs",
            )

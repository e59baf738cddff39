"""The tiny-cuda-nn backend: its grids and fully fused networks on our own parameters; rays by the Triton kernels.

Parameters stay ours, in float32 and in the layout on disk, which is tiny-cuda-nn's: it gets them anew in every call,
narrowed to half precision, and its gradients are of the float32 originals. So the same checkpoint serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tinycudann
import torch
from torch import Tensor, nn

from radnerf.encoding import spherical_harmonics
from radnerf.errors import BackendUnavailable, BadInput
from radnerf.kernels.checks import check_encode, check_render
from radnerf.kernels.frozen import RAYS_AT_ONCE
from radnerf.kernels.protocol import MIN_TRANSMITTANCE, Composite, FrozenHead, Samples
from radnerf.kernels.triton_backend import TritonBackend
from radnerf.rays import intersect_aabb
from radnerf.warp import bend

if TYPE_CHECKING:
    from radnerf.grid import GridSpec

WIDTHS = (16, 32, 64, 128)
"""Hidden widths of a fully fused network."""

_DEVICE = "cuda"
_ALIGNED = 16


class TcnnBackend:
    """Encoding and networks by tiny-cuda-nn; see ``Backend`` for the contract."""

    name = "tcnn"

    def __init__(self) -> None:
        """Start without any module; each is made when first needed."""
        self._rays = TritonBackend(half=False)
        self._modules: dict[object, nn.Module] = {}

    def encode(self, x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
        """Interpolate a hash grid at points in half precision, (N, dim) -> (N, levels * features_per_level)."""
        check_encode(x, table, spec)
        if x.device.type != _DEVICE:
            hint = "move them, or use backend cpu or reference"
            raise BackendUnavailable(f"backend tcnn: encode was given tensors on {x.device}", hint=hint)
        if x.dtype != torch.float32:
            raise BadInput(f"backend tcnn: encode was given {x.dtype}", hint="use float32, or backend reference")
        if not len(x):
            return self._rays.encode(x, table, spec)
        module = self._encoding(spec, x.device)
        encoded: Tensor = torch.func.functional_call(module, {"params": table.reshape(-1)}, (x,))
        return encoded.to(x.dtype)

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
        return self._rays.march(rays_o, rays_d, near, far, occupancy, aabb, max_samples, min_step, jitter)

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
        given = (rays_o, rays_d, near, far, occupancy, aabb, max_samples, min_step, jitter)
        return self._rays.march_within(*given, room)

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
        return self._rays.composite(sigma, rgb, t, dt, offsets, min_transmittance)

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
        """March, evaluate and composite the rays of one frame."""
        check_render(rays_o, rays_d, occupancy, head.aabb, max_samples, min_step)
        parts = []
        for origins, directions in zip(
            torch.split(rays_o, RAYS_AT_ONCE), torch.split(rays_d, RAYS_AT_ONCE), strict=True
        ):
            near, far = intersect_aabb(origins, directions, head.aabb)
            middle = torch.full_like(near, 0.5)
            samples = self.march(origins, directions, near, far, occupancy, head.aabb, max_samples, min_step, middle)
            points = torch.addcmul(origins[samples.ray], directions[samples.ray], samples.t[:, None])
            sigma, rgb = self._evaluate(head, points, spherical_harmonics(directions)[samples.ray])
            seen = self.composite(sigma, rgb, samples.t, samples.dt, samples.offsets, min_transmittance)
            parts.append(torch.cat([seen.image, seen.alpha[:, None], seen.depth[:, None]], dim=1))
        return torch.cat(parts)

    def _evaluate(self, head: FrozenHead, points: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Density and colour of points, as ``radnerf.kernels.frozen.evaluate_frozen``."""
        if not len(points):
            return points.new_zeros(0), points.new_zeros(0, 3)
        if head.warp is not None and head.warp_box is not None:
            points = bend(points, head.warp[None], head.warp_box)
        unit = ((points - head.aabb[0]) / (head.aabb[1] - head.aabb[0])).clamp(0, 1)
        spatial = self.encode(unit, head.space, head.space_spec)
        motion = torch.tanh(self._network(spatial, head.motion, head.motion_bias))
        deformed = self.encode(motion * 0.5 + 0.5, head.plane, head.plane_spec)
        raw = self._network(torch.cat([spatial, deformed], dim=1), head.density, head.density_bias)
        sigma = torch.exp((raw[:, 0] + head.density_shift).clamp(max=head.max_log_density))
        rgb = torch.sigmoid(self._network(torch.cat([views, raw[:, 1:]], dim=1), head.colour, head.colour_bias))
        return sigma, rgb

    def _network(self, x: Tensor, weights: Sequence[Tensor], bias: Tensor) -> Tensor:
        """A network whose first layer's bias is the weight of one more input, which is 1."""
        count, width = weights[-1].shape
        module = self._fused(x.shape[1] + 1, count, width, len(weights) - 1, x.device)
        given = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        result: Tensor = torch.func.functional_call(module, {"params": network_parameters(weights, bias)}, (given,))
        return result.to(x.dtype)

    def _encoding(self, spec: GridSpec, device: torch.device) -> nn.Module:
        key = (spec, device)
        if key not in self._modules:
            module = tinycudann.Encoding(spec.dim, encoding_config(spec), dtype=torch.float16)
            expected = spec.total_entries * spec.features_per_level
            self._modules[key] = _prepared(module, device, expected, spec.output_width, f"a grid like {spec}")
        return self._modules[key]

    def _fused(self, inputs: int, outputs: int, width: int, hidden_layers: int, device: torch.device) -> nn.Module:
        if width not in WIDTHS:
            some = ", ".join(map(str, WIDTHS))
            hint = f"its fully fused networks are {some} wide; use backend triton"
            raise BackendUnavailable(f"backend tcnn: a network {width} wide", hint=hint)
        key = (inputs, outputs, width, hidden_layers, device)
        if key not in self._modules:
            module = tinycudann.Network(inputs, outputs, network_config(width, hidden_layers))
            expected = width * (_aligned(inputs) + (hidden_layers - 1) * width + _aligned(outputs))
            self._modules[key] = _prepared(module, device, expected, outputs, f"a network {inputs} → {outputs}")
        return self._modules[key]


def encoding_config(spec: GridSpec) -> dict[str, Any]:
    """How tiny-cuda-nn is told of a grid.

    Args:
        spec: The grid's shape.

    Returns:
        Its ``Grid`` encoding of type ``Hash``.
    """
    return {
        "otype": "Grid",
        "type": "Hash",
        "n_levels": spec.levels,
        "n_features_per_level": spec.features_per_level,
        "log2_hashmap_size": spec.log2_entries,
        "base_resolution": spec.base_resolution,
        "per_level_scale": spec.per_level_scale,
        "interpolation": "Linear",
    }


def network_config(width: int, hidden_layers: int) -> dict[str, Any]:
    """How tiny-cuda-nn is told of a network.

    Args:
        width: Of the hidden layers, one of ``WIDTHS``.
        hidden_layers: How many; there is one matrix more.

    Returns:
        Its ``FullyFusedMLP``, without an activation at the end.
    """
    return {
        "otype": "FullyFusedMLP",
        "activation": "ReLU",
        "output_activation": "None",
        "n_neurons": width,
        "n_hidden_layers": hidden_layers,
    }


def network_parameters(weights: Sequence[Tensor], bias: Tensor) -> Tensor:
    """A network's parameters in tiny-cuda-nn's order: matrix after matrix, each (outputs, inputs), row after row.

    Inputs and outputs are filled up to multiples of 16; tiny-cuda-nn fills the inputs with ones, so the weights
    of these are 0.

    Args:
        weights: Matrices (W, inputs), (W, W) …, (outputs, W).
        bias: (W,) of the first layer, the weights of a last input that is 1.

    Returns:
        (P,) of the weights' dtype.
    """
    first = torch.cat([weights[0], bias[:, None]], dim=1)
    first = nn.functional.pad(first, (0, _aligned(first.shape[1]) - first.shape[1]))
    last = weights[-1]
    last = nn.functional.pad(last, (0, 0, 0, _aligned(len(last)) - len(last)))
    return torch.cat([matrix.flatten() for matrix in (first, *weights[1:-1], last)])


def _aligned(width: int) -> int:
    return -(-width // _ALIGNED) * _ALIGNED


def _prepared(module: Any, device: torch.device, parameters: int, outputs: int, what: str) -> nn.Module:  # noqa: ANN401
    """A module of tiny-cuda-nn that takes our parameters, fused just in time where it can be.

    Raises:
        BackendUnavailable: It lays parameters out otherwise, as where its C library rounds a level's scale otherwise.
    """
    found, wanted = (module.params.numel(), module.n_output_dims), (parameters, outputs)
    if found != wanted:
        numbers = f"{found[0]} parameters and {found[1]} outputs there, not {wanted[0]} and {wanted[1]}"
        raise BackendUnavailable(f"backend tcnn: {what} has {numbers}", hint="use backend triton")
    supports = getattr(tinycudann, "supports_jit_fusion", None)
    if hasattr(module, "jit_fusion") and supports is not None:
        module.jit_fusion = bool(supports())
    prepared: nn.Module = module.to(device)
    return prepared


BACKEND = TcnnBackend()

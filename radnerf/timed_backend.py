"""A backend that times another one's kernels and counts what passes through them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from radnerf.frame_costs import needed_samples
from radnerf.grid import GridSpec
from radnerf.kernels.protocol import MIN_TRANSMITTANCE, Backend, Composite, FrozenHead, Samples
from radnerf.machine_rates import synchronise


class TimedBackend:
    """Passes every call on; see ``Backend`` for the contract.

    Attributes:
        seconds: Time spent in ``"march"``, ``"encode"``, ``"composite"`` and ``"render"`` so far.
        samples: Composited so far.
        needed: Those of them before which their ray was not opaque yet.
        counting_seconds: Time spent in finding ``needed``, outside of any kernel.
    """

    def __init__(self, kernels: Backend, device: torch.device) -> None:
        """Wrap a backend.

        Args:
            kernels: What does the work.
            device: Where; each kernel's end is waited for.
        """
        self._kernels, self._device = kernels, device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.samples = 0
        self.needed = 0
        self.counting_seconds = 0.0

    @property
    def name(self) -> str:
        """The wrapped backend's name."""
        return self._kernels.name

    @contextmanager
    def _timing(self, what: str) -> Iterator[None]:
        synchronise(self._device)
        begin = time.perf_counter()
        yield
        synchronise(self._device)
        self.seconds[what] += time.perf_counter() - begin

    def encode(self, x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
        """Interpolate a hash grid at points."""
        with self._timing("encode"):
            return self._kernels.encode(x, table, spec)

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
        with self._timing("march"):
            return self._kernels.march(rays_o, rays_d, near, far, occupancy, aabb, max_samples, min_step, jitter)

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
        synchronise(self._device)
        begin = time.perf_counter()
        self.samples += len(sigma)
        self.needed += needed_samples(sigma.detach(), dt, offsets, min_transmittance)
        self.counting_seconds += time.perf_counter() - begin
        with self._timing("composite"):
            return self._kernels.composite(sigma, rgb, t, dt, offsets, min_transmittance)

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
        """March, evaluate and composite the rays of one frame at once."""
        with self._timing("render"):
            return self._kernels.render(head, rays_o, rays_d, occupancy, max_samples, min_step, min_transmittance)

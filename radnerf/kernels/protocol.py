"""What every kernel backend offers, and the tensors that pass through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from radnerf.grid import GridSpec

MIN_TRANSMITTANCE = 1e-4
"""Default below which a ray counts as opaque and its remaining samples weigh nothing."""


@dataclass(frozen=True)
class Samples:
    """Samples on R rays, packed ray after ray, near to far within a ray; S in all.

    Attributes:
        offsets: (R + 1,) int64; ray r owns samples offsets[r] to offsets[r + 1] - 1.
        t: (S,) distance along the ray in units of its direction's length, the rays' dtype.
        dt: (S,) the part of the occupied length that the sample stands for, same units and dtype.
        ray: (S,) int64, the ray of each sample.
    """

    offsets: Tensor
    t: Tensor
    dt: Tensor
    ray: Tensor

    @property
    def count(self) -> int:
        """Number of samples S."""
        return self.t.shape[0]


class Composite(NamedTuple):
    """What R rays see through S samples.

    Attributes:
        image: (R, 3) colour, without any background (premultiplied by alpha).
        alpha: (R,) in [0, 1], accumulated opacity.
        depth: (R,) expected distance, the sum of weight * t (premultiplied by alpha).
        weights: (S,) in [0, 1], each sample's share in its ray.
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor
    weights: Tensor


@dataclass(frozen=True)
class FrozenHead:
    """A trained head as it is during one frame: the frame's condition is folded in, nothing is differentiated.

    Where there is a warp, points are moved by ``radnerf.warp.bend`` before all else. Each network's first layer has a
    bias, the share of what is the same for the whole frame (audio, eyes, the appearance code). With W the hidden
    width, E3 and E2 the grids, SH the spherical harmonics up to degree 3:
    f = E3(x); w = tanh(motion(f)); g = E2(w / 2 + 1 / 2); (raw, geometry) = density([f, g]);
    sigma = exp(min(raw + density_shift, max_log_density)); rgb = sigmoid(colour([SH(d), geometry])).
    Networks have ReLU between their layers.

    Attributes:
        aabb: (2, 3) the box's lower and upper corner, cm, world; points outside move to its surface.
        space: (total_entries, F) the 3-D grid's table.
        space_spec: Its shape.
        plane: (total_entries, F) the 2-D audio grid's table.
        plane_spec: Its shape.
        motion: Three matrices (W, E3), (W, W), (2, W).
        motion_bias: (W,) of the first layer.
        density: Three matrices (W, E3 + E2), (W, W), (W / 2, W).
        density_bias: (W,) of the first layer.
        colour: Two matrices (W, 16 + W / 2 - 1), (3, W).
        colour_bias: (W,) of the first layer.
        density_shift, max_log_density: Of the density's activation.
        warp: (X, Y, 2) cm, what is added to x and y of a point, over the warp's box, x before y; None for nothing.
        warp_box: (2, 2) cm, least and greatest corner of the warp in x and y.
    """

    aabb: Tensor
    space: Tensor
    space_spec: GridSpec
    plane: Tensor
    plane_spec: GridSpec
    motion: tuple[Tensor, Tensor, Tensor]
    motion_bias: Tensor
    density: tuple[Tensor, Tensor, Tensor]
    density_bias: Tensor
    colour: tuple[Tensor, Tensor]
    colour_bias: Tensor
    density_shift: float
    max_log_density: float
    warp: Tensor | None = None
    warp_box: Tensor | None = None


@dataclass(frozen=True)
class FrozenTorso:
    """A trained torso as it is during one frame (see ``radnerf.torso.TorsoModel``); the frame is in the biases.

    Attributes:
        mask: (G, G) bool, the cells of the picture where the torso ever is, indexed [row, column].
        plane: (total_entries, F) float32 or float16, the 2-D grid's table.
        spec: Its shape.
        offset: Three matrices (W, 2 + 4 * bands), (W, W), (2, W).
        offset_bias: (W,) of the first layer.
        colour: Three matrices (W, E2), (W, W), (4, W).
        colour_bias: (W,) of the first layer.
        sway: (3, 3, 2) float32, the body's displacement as a polynomial (see ``radnerf.sway.as_powers``).
        bands: Octaves in which a place is encoded.
        max_offset: Farthest that a pixel may be deformed, in picture sides.
    """

    mask: Tensor
    plane: Tensor
    spec: GridSpec
    offset: tuple[Tensor, Tensor, Tensor]
    offset_bias: Tensor
    colour: tuple[Tensor, Tensor, Tensor]
    colour_bias: Tensor
    sway: Tensor
    bands: int
    max_offset: float


class Backend(Protocol):
    """Kernels of one kind. All tensors of a call lie on one device; nothing is moved between devices."""

    @property
    def name(self) -> str:
        """The backend's name, as given to ``get_backend``."""

    def encode(self, x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
        """Interpolate a hash grid at points.

        Args:
            x: (N, dim) in [0, 1].
            table: (total_entries, features_per_level), same dtype as x.
            spec: The grid's shape.

        Returns:
            (N, levels * features_per_level), level after level; differentiable once in x and in table.

        Raises:
            BadInput: A shape, dtype or device does not fit.
        """

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
        """Place samples along the occupied part of each ray.

        The occupied length l of a ray is what of [near, far] lies in occupied cells of the box. The ray gets
        n = min(max_samples, ceil(l / min_step)) samples, each standing for l / n, at (1 - 2^-16) (i + jitter) l / n
        along the occupied length, so that a tie between two stretches goes to the nearer one. The whole of it is
        always covered, and no sample lies in an empty cell, up to the rounding of t to the rays' dtype. All of it is
        reckoned in float64, in the same order by every backend on the CPU, so that they agree bit for bit.

        Args:
            rays_o: (R, 3) origins, world.
            rays_d: (R, 3) directions, world; unit, or t is in units of their length.
            near: (R,) where to begin; a ray with far <= near has no sample.
            far: (R,) where to end.
            occupancy: (G, G, G) bool, indexed [x, y, z], over the box; outside of it is empty.
            aabb: (2, 3) the box's lower and upper corner, world.
            max_samples: Most samples of one ray, at least 1.
            min_step: Finest sampling, in units of t, above 0.
            jitter: (R,) in [0, 1); 0.5 puts samples in the middle of their share.

        Returns:
            The samples; nothing in them requires a gradient.

        Raises:
            BadInput: A shape, dtype, device or value does not fit.
        """

    def composite(
        self,
        sigma: Tensor,
        rgb: Tensor,
        t: Tensor,
        dt: Tensor,
        offsets: Tensor,
        min_transmittance: float = MIN_TRANSMITTANCE,
    ) -> Composite:
        """Integrate samples along rays by the volume rendering quadrature of Max 1995 (NeRF, equation 3).

        A sample before which the transmittance has fallen below min_transmittance weighs nothing and gets no
        gradient.

        Args:
            sigma: (S,) density, at least 0, in inverse units of dt.
            rgb: (S, 3) colours.
            t: (S,) distances; not differentiated.
            dt: (S,) lengths; not differentiated.
            offsets: (R + 1,) int64, from ``march``.
            min_transmittance: 0 keeps every sample.

        Returns:
            Colour, alpha, depth and weights, each differentiable once in sigma and rgb.

        Raises:
            BadInput: A shape, dtype or device does not fit.
        """

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
        """March, evaluate and composite the rays of one frame at once; not differentiable.

        It gives what ``encode``, ``march`` (each ray from where it enters the head's box to where it leaves it,
        samples in the middle of their shares) and ``composite`` give one after the other, up to rounding; see
        ``radnerf.kernels.frozen.render_by_parts``, its specification.

        Args:
            head: The head in this frame.
            rays_o: (R, 3) origins, cm, world.
            rays_d: (R, 3) unit directions, world.
            occupancy: (G, G, G) bool, indexed [x, y, z], over the head's box.
            max_samples: Most samples of one ray, at least 1.
            min_step: Finest sampling, cm, above 0.
            min_transmittance: As for ``composite``.

        Returns:
            (R, 5) colour premultiplied by alpha, alpha, and depth in cm premultiplied by alpha.

        Raises:
            BadInput: A shape, dtype, device or value does not fit.
        """


@runtime_checkable
class Painter(Protocol):
    """Kernels that also finish a frame; ``radnerf.portrait.paint_portrait`` does without where a backend has none."""

    def paint(self, head: Tensor, torso: FrozenTorso, background: Tensor) -> Tensor:
        """Put a head over a torso over a background.

        Args:
            head: (H * W, 5) float32, as ``Backend.render``, pixels in reading order.
            torso: In this frame.
            background: (H, W, 3) float32 in [0, 1].

        Returns:
            (H, W, 3) uint8 RGB.
        """


@runtime_checkable
class RoomyMarcher(Protocol):
    """Kernels that march into a list of fixed length, so that nobody waits to learn how many samples there are."""

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
        """Place samples along the occupied part of each ray, as ``Backend.march``, whose arguments are explained there.

        ``room`` is the length of the lists, at least 1.

        Returns:
            The samples. Behind ``offsets[-1]`` the lists hold zeros; rays whose samples find no room have none.

        Raises:
            BadInput: A shape, dtype, device or value does not fit.
        """

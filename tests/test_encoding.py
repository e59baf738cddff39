"""Encodings against their formulas."""

from __future__ import annotations

import math

import numpy as np
import torch

from radnerf.encoding import frequency_encode, spherical_harmonics


def _sphere(polar: int, around: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions and weights of a quadrature that is exact for polynomials of degree 2 * polar - 1."""
    heights, shares = np.polynomial.legendre.leggauss(polar)
    angles = 2 * np.pi * np.arange(around) / around
    z, angle = np.meshgrid(heights, angles, indexing="ij")
    radius = np.sqrt(1 - z**2)
    directions = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=-1).reshape(-1, 3)
    weights = np.repeat(shares * 2 * np.pi / around, around)
    return torch.from_numpy(directions), torch.from_numpy(weights)


def test_spherical_harmonics_are_orthonormal_over_the_sphere() -> None:
    directions, weights = _sphere(polar=8, around=16)
    basis = spherical_harmonics(directions)
    torch.testing.assert_close(basis.T @ (weights[:, None] * basis), torch.eye(16, dtype=torch.float64))


def test_spherical_harmonics_of_a_degree_sum_to_a_constant_for_random_directions() -> None:
    # Unsoeld's theorem: the squares of one degree's functions sum to (2 l + 1) / (4 pi) everywhere.
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    squares = spherical_harmonics(directions).square()
    for degree, part in enumerate(squares.split([1, 3, 5, 7], dim=1)):
        torch.testing.assert_close(part.sum(1), torch.full((200,), (2 * degree + 1) / (4 * math.pi)))


def test_frequency_encoding_matches_its_formula() -> None:
    values = torch.tensor([[0.3, -0.7], [1.0, 0.0]], dtype=torch.float64)
    encoded = frequency_encode(values, bands=3)
    assert encoded.shape == (2, 2 * 7)
    for row, value in enumerate(values.tolist()):
        octaves = [2**octave * math.pi for octave in range(3)]
        expected = [
            *value,
            *(math.sin(octave * one) for octave in octaves for one in value),
            *(math.cos(octave * one) for octave in octaves for one in value),
        ]
        torch.testing.assert_close(encoded[row], torch.tensor(expected, dtype=torch.float64))

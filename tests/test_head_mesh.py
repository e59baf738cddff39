"""A head's surface as triangles: closed, turned outwards, and coloured as it looks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from radnerf.model import HeadModel
from stages.errors import BadInput
from stages.head_mesh import at_rest, head_mesh, save_ply
from stages.surface_nets import surface_nets
from tests.cli_harness import Shell, shell
from tests.speaking_subject import make_speaking_subject
from tests.synthetic import head_model

__all__ = ["shell"]


def volume(vertices: np.ndarray[Any, Any], faces: np.ndarray[Any, Any]) -> float:
    """Of what triangles enclose; positive when they are turned outwards."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def test_a_ball_becomes_a_closed_ball() -> None:
    places = np.stack(np.meshgrid(np.arange(24), np.arange(26), np.arange(28), indexing="ij"), axis=-1)
    values = (8.3 - np.linalg.norm(places - [11.2, 12.7, 13.1], axis=-1)).astype(np.float32)
    vertices, faces = surface_nets(values, 0.0)
    radius = np.linalg.norm(vertices - [11.2, 12.7, 13.1], axis=1)
    assert np.abs(radius - 8.3).max() < 0.35
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * 8.3**3, rel=0.05)


def test_nothing_dense_gives_no_triangle() -> None:
    vertices, faces = surface_nets(np.zeros((4, 4, 4), np.float32), 1.0)
    assert vertices.shape == (0, 3)
    assert faces.shape == (0, 3)


def painted_ball() -> HeadModel:
    """A head whose field is a ball of 5 cm, red on its left and green on its right, and a speck beside it."""

    def field(points: torch.Tensor, *_: object) -> SimpleNamespace:
        ball = 10.0 * (5.0 - points.norm(dim=1)).clamp(0, 1)
        speck = 10.0 * (1.0 - (points - torch.tensor([8.0, 8.0, 0.0])).norm(dim=1)).clamp(0, 1)
        red = (points[:, :1] < 0).float()
        return SimpleNamespace(sigma=ball + speck, rgb=torch.cat([red, 1 - red, 0 * red], dim=1))

    model = head_model()
    fake = SimpleNamespace(fields=[field], aabb=model.aabb, mask=model.mask)
    return cast(HeadModel, fake)


def test_a_heads_mesh_lies_where_the_head_is_and_looks_like_it(tmp_path: Path) -> None:
    condition = at_rest(head_model())
    mesh = head_mesh(painted_ball(), condition, 48)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert radius.min() > 4.5
    assert radius.max() < 5.2
    assert volume(mesh.vertices, mesh.faces) > 0
    assert (np.einsum("ij,ij->i", mesh.normals, mesh.vertices) > 0).all()
    left = mesh.vertices[:, 0] < -0.5
    assert (mesh.colours[left] == [255, 0, 0]).all()
    assert (mesh.colours[mesh.vertices[:, 0] > 0.5] == [0, 255, 0]).all()

    save_ply(tmp_path / "ball.ply", mesh, "a ball,\nnobody's")
    data = (tmp_path / "ball.ply").read_bytes()
    header, _, body = data.partition(b"end_header\n")
    assert b"comment a ball, nobody's\n" in header
    assert f"element vertex {len(mesh.vertices)}\n".encode() in header
    assert len(body) == 27 * len(mesh.vertices) + 13 * len(mesh.faces)
    np.testing.assert_array_equal(np.frombuffer(body[:12], "<f4"), mesh.vertices[0])


def test_a_level_that_nothing_reaches_is_refused() -> None:
    with pytest.raises(BadInput, match="no part of the head is as dense as 99 per cm"):
        head_mesh(painted_ball(), at_rest(head_model()), 16, 99.0)


def test_export_writes_a_mesh_of_a_subject(shell: Shell) -> None:
    make_speaking_subject(shell.home)
    answer = shell("export", "anna", "-o", "anna.ply", "--resolution", "20", "--density", "0.003", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["faces"] > 100
    assert b"Consent: Anna, by mail" in Path("anna.ply").read_bytes()[:400]
    assert shell("export", "anna", "-o", "none/anna.ply").code == 2
    assert shell("export", "anna", "-o", "anna.obj", "--format", "mesh").code == 2
    assert shell("export", "anna", "-o", "x", "--format", "obj").code == 2
    answer = shell("export", "anna", "-o", "folder")
    assert answer.err.endswith("if it was packed with --training)\n")
    assert not Path("folder").exists()

"""The still scene and the layers: on a made-up clip whose truth is known, and the pieces."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stages import background
from stages.archive import Archive, ArchiveWriter, frame_name
from stages.errors import BadInput
from stages.formats import BACKGROUND, HEAD, NECK, TORSO, Landmarks
from stages.settings import BackgroundSettings
from stages.vision.clip import load_grey, load_rgb
from stages.vision.head_frame import HeadFrame, head_frames
from stages.vision.images import decode_rgb, encode_jpeg, encode_png
from stages.vision.layers import make_layers, soft_matte
from stages.vision.median import masked_median
from stages.vision.push_pull import fill
from stages.vision.registration import body_shift, shifted
from stages.vision.still_scene import fill_scene, still_scene
from stages.vision.torso_model import learn_torso

UInt8 = npt.NDArray[np.uint8]
SIZE = 128
SKIN, COAT = (200, 150, 120), (40, 40, 110)
OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A head that nods and sways over a coat, before a textured wall."""

    wall: UInt8
    pictures: UInt8
    labels: UInt8
    points: npt.NDArray[np.float32]

    @property
    def heads(self) -> list[HeadFrame]:
        return head_frames(self.points, np.ones(len(self.points), bool), SIZE)


def make_clip(count: int = 24) -> Clip:
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.float32), (0, 0), 2)
    wall = np.clip(128 + 4 * (noise - 128), 0, 255).astype(np.uint8)
    pictures, labels, points = [], [], []
    for index in range(count):
        x = SIZE // 2 + round(14 * np.sin(2 * np.pi * index / count))
        y = 52 + round(4 * np.cos(2 * np.pi * index / count))
        label = np.zeros((SIZE, SIZE), np.uint8)
        cv2.ellipse(label, (SIZE // 2, SIZE + 4), (48, 36), 0, 0, 360, TORSO, -1)
        cv2.rectangle(label, (SIZE // 2 - 9, 70), (SIZE // 2 + 9, 98), NECK, -1)
        cv2.ellipse(label, (x, y), (20, 26), 0, 0, 360, HEAD, -1)
        picture = wall.copy()
        picture[label == TORSO], picture[label == NECK], picture[label == HEAD] = COAT, SKIN, (230, 180, 150)
        angle = np.arange(36) * np.pi / 18
        point = np.full((478, 3), SIZE / 2, np.float32)
        point[:, 2] = 0
        point[OVAL, 0], point[OVAL, 1] = x + 18 * np.sin(angle), y - 24 * np.cos(angle)
        pictures.append(picture)
        labels.append(label)
        points.append(point)
    return Clip(wall, np.stack(pictures), np.stack(labels), np.stack(points))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return make_clip()


@pytest.fixture(scope="module")
def inputs(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> background.Inputs:
    folder = tmp_path_factory.mktemp("clip")
    files = background.Inputs(folder / "frames.zip", folder / "parsing.zip", folder / "landmarks.npz")
    with ArchiveWriter(files.frames) as frames, ArchiveWriter(files.parsing) as parsing:
        for index, (picture, label) in enumerate(zip(clip.pictures, clip.labels, strict=True)):
            frames.add(frame_name(index, ".jpg"), encode_jpeg(picture))
            parsing.add(frame_name(index, ".png"), encode_png(label))
    Landmarks(clip.points, np.ones(len(clip.points), bool), "mesh", SIZE).save(files.landmarks)
    return files


@pytest.fixture(scope="module")
def outputs(inputs: background.Inputs) -> background.Outputs:
    folder = inputs.frames.parent
    files = background.Outputs(folder / "background.png", folder / "layers.zip")
    background.run(inputs, files, BackgroundSettings())
    return files


def test_median_of_valid_pixels_matches_sorting_them() -> None:
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 256, (9, 21, 5, 3)).astype(np.uint8)
    valid = rng.random((9, 21, 5)) < 0.5
    valid[:, 0, 0] = False
    median, count = masked_median(pictures, valid)
    np.testing.assert_array_equal(count, valid.sum(axis=0))
    for y in range(21):
        for x in range(5):
            seen = np.sort(pictures[valid[:, y, x], y, x], axis=0)
            expected = seen[(len(seen) - 1) // 2] if len(seen) else np.zeros(3)
            np.testing.assert_array_equal(median[y, x], expected)


def test_seen_part_of_the_scene_is_exact(clip: Clip) -> None:
    scene, seen = still_scene(clip.pictures, clip.labels != BACKGROUND)
    assert 0.4 < seen.mean() < 0.95
    np.testing.assert_array_equal(scene[seen > 0], clip.wall[seen > 0])


def test_no_ghost_stays_in_the_unseen_part() -> None:
    """A bright person before a dark wall: what is made up must be dark."""
    pictures = np.full((8, 96, 96, 3), 30, np.uint8)
    people = np.zeros((8, 96, 96), bool)
    people[:, 30:, 30:66] = True
    pictures[people] = 250
    scene, seen = still_scene(pictures, people)
    assert seen.min() == 0
    assert scene.max() <= 31


def test_lines_run_on_behind_the_person() -> None:
    scene = np.full((128, 128, 3), 200, np.uint8)
    scene[60:] = 60
    seen = np.ones((128, 128), np.float32)
    seen[20:110, 40:90] = 0
    hidden = np.where(seen[:, :, None] > 0, scene, 0).astype(np.uint8)
    made = fill_scene(hidden, seen)
    off = np.abs(made.astype(int) - scene)
    assert off[:52].max() <= 12
    assert off[68:].max() <= 12


def test_fill_is_exact_where_known_and_smooth_where_not() -> None:
    y, x = np.mgrid[:65, :50].astype(np.float32)
    plane = (2 * x + 3 * y)[:, :, None]
    known = np.ones((65, 50), np.float32)
    known[20:40, 10:40] = 0
    filled = fill(plane * known[:, :, None], known, sweeps=100)
    np.testing.assert_allclose(filled[known > 0], plane[known > 0], atol=1e-3)
    # A plane is harmonic, so that it is what relaxation tends to.
    assert np.abs(filled - plane).max() < 6
    nothing = fill(plane, np.zeros((65, 50), np.float32))
    assert (nothing == 0).all()


def test_matte_is_soft_at_the_edge_and_certain_elsewhere() -> None:
    picture = np.full((128, 128, 3), 20, np.uint8)
    mask = np.zeros((128, 128), bool)
    mask[40:90, 40:90] = True
    picture[mask] = 220
    matte = soft_matte(picture, mask)
    assert (matte[42:88, 42:88] > 0.95).all()
    assert (matte[:38] == 0).all()
    assert (matte[:, 92:] == 0).all()


def test_body_is_registered_to_a_fraction_of_a_pixel() -> None:
    rng = np.random.default_rng(5)
    template = cv2.GaussianBlur(rng.random((128, 128)).astype(np.float32), (0, 0), 4)
    moved = np.asarray(shifted(template, np.array([3.3, -2.4], np.float32) / 128), np.float32)
    mask = np.zeros((128, 128), np.uint8)
    mask[50:120, 20:110] = 1
    moved[mask == 0] = 0
    found = body_shift(template, 0.8 * moved + 0.1, mask) * 128
    np.testing.assert_allclose(found, [3.3, -2.4], atol=0.2)
    assert (body_shift(template, moved, np.zeros_like(mask)) == 0).all()
    assert (body_shift(np.zeros_like(template), np.zeros_like(moved), mask) == 0).all()


def test_truth_is_the_frame_inside_the_person_and_the_scene_outside(clip: Clip) -> None:
    scene = np.full_like(clip.wall, 7)
    torso = learn_torso(clip.pictures, clip.labels)
    for index in (0, 6, 17):
        picture, label = clip.pictures[index], clip.labels[index]
        truth = make_layers(picture, label, clip.heads[index], scene, torso).truth
        person = (label != BACKGROUND).astype(np.uint8)
        inside = cv2.erode(person, np.ones((5, 5), np.uint8)) > 0
        outside = cv2.dilate(person, np.ones((5, 5), np.uint8)) == 0
        np.testing.assert_array_equal(truth[inside], picture[inside])
        np.testing.assert_array_equal(truth[outside], scene[outside])


def test_torso_is_opaque_under_the_chin_and_skin_there(clip: Clip) -> None:
    torso = learn_torso(clip.pictures, clip.labels)
    for index in (0, 6, 17):
        head = clip.heads[index]
        layers = make_layers(clip.pictures[index], clip.labels[index], head, clip.wall, torso)
        x, chin = (int(value * SIZE) for value in head.chin)
        hidden = (slice(chin - 7, chin), slice(x - 3, x + 4))
        assert (layers.alpha[hidden] > 250).all()
        neck = (slice(chin - 4, chin), slice(SIZE // 2 - 3, SIZE // 2 + 4))
        if clip.labels[index][neck].min() == HEAD:
            assert np.abs(layers.torso[neck].astype(int) - SKIN).max() < 30


def test_a_head_that_moves_uncovers_no_hole(clip: Clip) -> None:
    """Under the chin, a head moved by 3 px shows neck, not the wall."""
    torso = learn_torso(clip.pictures, clip.labels)
    layers = make_layers(clip.pictures[0], clip.labels[0], clip.heads[0], clip.wall, torso)
    head = (clip.labels[0] == HEAD).astype(np.uint8)
    for dx, dy in ((0, -3), (-2, -3), (2, -3)):
        moved = np.asarray(shifted(head, np.array([dx, dy], np.float32) / SIZE))
        bare = (head > 0) & (moved == 0)
        bare[:, : SIZE // 2 - 9] = False
        bare[:, SIZE // 2 + 9 :] = False
        bare[:60] = False
        assert bare.any()
        assert (layers.alpha[bare] > 250).all()


def test_torso_keeps_its_own_pixels_and_stays_off_the_wall(clip: Clip) -> None:
    torso = learn_torso(clip.pictures, clip.labels)
    picture, label = clip.pictures[6], clip.labels[6]
    layers = make_layers(picture, label, clip.heads[6], clip.wall, torso)
    body = ((label == TORSO) | (label == NECK)).astype(np.uint8)
    own = cv2.erode(body, np.ones((9, 9), np.uint8)) > 0
    assert own.any()
    assert np.abs(layers.torso[own].astype(int) - picture[own]).max() <= 2
    assert (layers.alpha[own] == 255).all()
    # Beyond its edge the colour goes on, so that none of the wall bleeds in.
    rim = (cv2.dilate(body, np.ones((5, 5), np.uint8)) > 0) & (label == BACKGROUND)
    rim[:100] = False
    assert rim.any()
    assert np.abs(layers.torso[rim].astype(int) - COAT).max() < 40
    assert (layers.alpha[:20] == 0).all()


def test_made_up_part_does_not_flicker(clip: Clip) -> None:
    torso = learn_torso(clip.pictures, clip.labels)
    layers = [
        make_layers(clip.pictures[index], clip.labels[index], clip.heads[index], clip.wall, torso).torso.astype(int)
        for index in range(8)
    ]
    always = (clip.labels[:8] == HEAD).all(axis=0)
    always[:60] = False
    changes = [np.abs(one - other)[always].mean() for one, other in pairwise(layers)]
    assert max(changes) < 3


def test_run_writes_every_layer_of_every_frame(clip: Clip, outputs: background.Outputs) -> None:
    scene = decode_rgb(outputs.background.read_bytes(), outputs.background)
    corner = np.abs(scene[:12].astype(int) - clip.wall[:12])
    assert corner.mean() < 4  # JPEG frames
    with Archive(outputs.layers) as archive:
        kinds = (".truth.jpg", ".torso.jpg", ".torso.png")
        assert archive.names == {frame_name(index, kind) for index in range(len(clip.pictures)) for kind in kinds}
        assert load_rgb(archive, 5, ".truth.jpg").shape == (SIZE, SIZE, 3)
        assert load_rgb(archive, 5, ".torso.jpg").shape == (SIZE, SIZE, 3)
        alpha = load_grey(archive, 5, ".torso.png")
        assert alpha.shape == (SIZE, SIZE)
        assert (alpha.min(), alpha.max()) == (0, 255)


def test_equal_runs_write_equal_bytes(
    inputs: background.Inputs, outputs: background.Outputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.vision import chunks

    monkeypatch.setattr(chunks, "CHUNK_FRAMES", 7)
    monkeypatch.setattr(chunks, "_MOST_WORKERS", 1)
    again = background.Outputs(tmp_path / "background.png", tmp_path / "layers.zip")
    background.run(inputs, again, BackgroundSettings())
    assert again.background.read_bytes() == outputs.background.read_bytes()
    assert again.layers.read_bytes() == outputs.layers.read_bytes()


def test_inputs_of_different_clips_are_refused(inputs: background.Inputs, tmp_path: Path) -> None:
    landmarks = Landmarks.load(inputs.landmarks)
    short = tmp_path / "short.npz"
    Landmarks(landmarks.points[:5], landmarks.found[:5], "mesh", SIZE).save(short)
    results = background.Outputs(tmp_path / "background.png", tmp_path / "layers.zip")
    with pytest.raises(BadInput, match="5 sets of landmarks"):
        background.run(background.Inputs(inputs.frames, inputs.parsing, short), results, BackgroundSettings())
    assert not list(tmp_path.glob("*.zip"))

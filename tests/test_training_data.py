"""From a subject's files to tensors: right pictures, right boxes, a cache that is never stale, and clear refusals."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.archive import ArchiveWriter, frame_name
from stages.errors import BadInput
from stages.training_data import (
    LayerFiles,
    LayerReader,
    camera_of,
    eyes_boxes,
    first_held_out,
    head_boxes,
    mouth_boxes,
    part_boxes,
    picture_maps,
)
from stages.vision.images import encode_png
from stages.workspace import Workspace
from tests.synthetic import FRAMES, ball, write_subject
from tests.tiny_subject import SIZE_PX


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The made-up subject's files."""
    return write_subject(tmp_path_factory.mktemp("subjects") / "ball")


@pytest.fixture
def own(prepared: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may damage."""
    shutil.copytree(prepared.root, tmp_path / "ball")
    return Workspace(tmp_path / "ball")


def _files(workspace: Workspace) -> LayerFiles:
    return LayerFiles(workspace.layers, workspace.parsing, workspace.background)


@pytest.mark.parametrize(("frames", "first"), [(11, 10), (33, 30), (500, 455), (66, 60), (1, 1)])
def test_the_last_eleventh_is_held_out(frames: int, first: int) -> None:
    assert first_held_out(frames) == first


def test_maps_hold_what_was_written(prepared: Workspace, tmp_path: Path) -> None:
    maps, subject = picture_maps(_files(prepared), FRAMES, SIZE_PX, tmp_path), ball()
    assert torch.equal(maps.head, torch.from_numpy(subject.head))
    assert torch.equal(maps.torso[..., 3], torch.from_numpy(subject.torso[..., 3]))
    # JPEG changes colours a little.
    for stored, drawn in ((maps.truth, subject.truth), (maps.behind, subject.behind)):
        assert stored.shape == (FRAMES, SIZE_PX, SIZE_PX, 3)
        assert (stored.float() - torch.from_numpy(drawn).float()).abs().mean() < 3


def test_the_torso_over_the_background_is_behind_the_head(prepared: Workspace) -> None:
    pictures = LayerReader(_files(prepared), SIZE_PX).read(20)
    none, whole = pictures.torso[..., 3] == 0, pictures.torso[..., 3] == 255
    assert np.array_equal(pictures.behind[none], ball().background[none])
    assert np.array_equal(pictures.behind[whole], pictures.torso[whole][:, :3])


@pytest.mark.parametrize("size_px", [24, 96])
def test_pictures_are_given_at_any_size(prepared: Workspace, size_px: int) -> None:
    pictures = LayerReader(_files(prepared), size_px).read(7)
    assert pictures.truth.shape == pictures.behind.shape == (size_px, size_px, 3)
    assert pictures.torso.shape == (size_px, size_px, 4)
    assert pictures.head.shape == (size_px, size_px, 1)
    share = ball().head[7].mean()
    assert pictures.head.mean() == pytest.approx(share, rel=0.05)
    assert pictures.truth.mean() == pytest.approx(ball().truth[7].mean(), rel=0.05)


def test_a_fresh_cache_is_used_and_a_stale_one_rebuilt(own: Workspace) -> None:
    picture_maps(_files(own), FRAMES, SIZE_PX, own.cache)
    stored = own.cache / f"pictures-{SIZE_PX}" / "head.npy"
    marked = np.load(stored)
    marked[3] = 77
    np.save(stored, marked)
    assert bool((picture_maps(_files(own), FRAMES, SIZE_PX, own.cache).head[3] == 77).all())
    own.parsing.touch()
    assert torch.equal(picture_maps(_files(own), FRAMES, SIZE_PX, own.cache).head[3], torch.from_numpy(ball().head[3]))


def test_another_background_makes_the_cache_stale(own: Workspace) -> None:
    before = picture_maps(_files(own), FRAMES, SIZE_PX, own.cache).behind[0, 0, 0].tolist()
    own.background.write_bytes(encode_png(np.full((SIZE_PX, SIZE_PX, 3), 200, np.uint8)))
    after = picture_maps(_files(own), FRAMES, SIZE_PX, own.cache).behind[0, 0, 0].tolist()
    assert before != after == [200, 200, 200]


def test_a_cache_whose_building_was_killed_is_rebuilt(own: Workspace) -> None:
    picture_maps(_files(own), FRAMES, SIZE_PX, own.cache)
    folder = own.cache / f"pictures-{SIZE_PX}"
    (folder / "stamp.json").unlink()
    (folder / "truth.npy").write_bytes(b"half")
    assert picture_maps(_files(own), FRAMES, SIZE_PX, own.cache).truth.shape[0] == FRAMES


def test_nothing_that_training_does_reaches_the_cache(own: Workspace) -> None:
    maps = picture_maps(_files(own), FRAMES, SIZE_PX, own.cache)
    truth = maps.truth[0].clone()
    maps.truth[0] = 0
    assert torch.equal(picture_maps(_files(own), FRAMES, SIZE_PX, own.cache).truth[0], truth)


def test_an_archive_that_lacks_a_frame_is_refused(own: Workspace) -> None:
    with pytest.raises(BadInput, match=r"layers\.zip"):
        picture_maps(_files(own), FRAMES + 1, SIZE_PX, own.cache)
    assert not (own.cache / f"pictures-{SIZE_PX}" / "stamp.json").exists()


def test_a_damaged_picture_is_named(own: Workspace) -> None:
    with ArchiveWriter(own.parsing) as parsing:
        parsing.add(frame_name(0, ".png"), b"")
        parsing.add(frame_name(1, ".png"), b"no picture")
    for index in range(2):
        with pytest.raises(BadInput, match=r"parsing\.zip"):
            LayerReader(_files(own), SIZE_PX).read(index)
    own.background.write_bytes(b"")
    with pytest.raises(BadInput, match=r"background\.png"):
        LayerReader(_files(own), SIZE_PX)


def test_head_boxes_hold_the_head_with_a_margin() -> None:
    head = torch.zeros(3, 50, 50, dtype=torch.uint8)
    head[0, 10:20, 30:41] = 255
    head[1, 0, 49] = 200
    head[2, 5, 5] = 100  # less than half a pixel is no head
    boxes = head_boxes(head)
    assert boxes.tolist() == [[28, 8, 43, 22], [47, 0, 50, 3], [0, 0, 50, 50]]


def test_mouth_and_eyes_lie_in_their_boxes_and_apart() -> None:
    track = ball().track
    camera = camera_of(track).scaled(96)
    mouth, eyes = mouth_boxes(track, camera), eyes_boxes(track, camera)
    for boxes in (mouth, eyes):
        assert boxes.shape == (FRAMES, 4)
        assert bool((boxes[:, :2] >= 0).all())
        assert bool((boxes[:, 2:] <= 96).all())
        assert bool((boxes[:, 2:] > boxes[:, :2]).all())
    # Eyes above the mouth, and the mouth that is painted inside its box.
    assert bool((eyes[:, 3] <= mouth[:, 1]).all())
    dark = torch.from_numpy(ball().truth[..., 0] == 90)
    for frame in range(0, FRAMES, 7):
        rows, columns = dark[frame].nonzero().float().mul(2).mean(0).tolist()
        left, top, right, bottom = mouth[frame].tolist()
        assert left < columns < right
        assert top < rows < bottom


def test_boxes_of_a_face_outside_the_picture_stay_inside() -> None:
    track = ball().track
    for shift in ([500.0, 0, 0], [-500.0, 0, 0], [0, 500.0, 0], [0, -500.0, 0]):
        away = dataclasses.replace(track, translation=track.translation + np.array(shift, np.float32))
        boxes = part_boxes(away, camera_of(track), (0, 17), 0.1, 0.0)
        assert bool((boxes[:, 2:] > boxes[:, :2]).all())
        assert bool((boxes >= 0).all())
        assert bool((boxes <= SIZE_PX).all())

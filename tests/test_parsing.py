"""Class maps: on real frames, and the pieces on made-up ones."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from stages import media, parsing
from stages.archive import Archive, ArchiveWriter, frame_name
from stages.errors import BadInput
from stages.formats import BACKGROUND, HEAD, NECK, TORSO, Landmarks
from stages.settings import ParsingSettings
from stages.vision import segmentation
from stages.vision.clip import load_grey
from stages.vision.colour_model import lab_cells
from stages.vision.face_mesh import FaceMesh
from stages.vision.guided_filter import guided_upsample
from stages.vision.head_frame import HeadFrame, head_frames
from stages.vision.images import Rgb, encode_jpeg
from stages.vision.label_map import clean, label_frame
from stages.vision.models import MULTICLASS_SEGMENTER
from stages.vision.temporal import Moment, blend_over_time

Labels = npt.NDArray[np.uint8]
SIZE = 256
OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]  # fmt: skip


def prepare(folder: Path, clip: Path, frames: range) -> parsing.Inputs:
    """Frames of a clip at 256 px and their landmarks, as the stages before leave them."""
    scale = [("scale", {"w": SIZE, "h": SIZE})]
    pictures = list(media.read_video(media.probe(clip), scale, (SIZE, SIZE), max_frames=frames.stop))
    inputs = parsing.Inputs(folder / "frames.zip", folder / "landmarks.npz")
    points = []
    with ArchiveWriter(inputs.frames) as writer, FaceMesh("mesh", video=True) as mesh:
        for index, picture in enumerate(pictures[frames.start : frames.stop]):
            writer.add(frame_name(index, ".jpg"), encode_jpeg(picture))
            found = mesh.detect(picture)
            assert found is not None
            points.append(found)
    Landmarks(np.stack(points), np.ones(len(points), bool), "mesh", SIZE).save(inputs.landmarks)
    return inputs


def parse(inputs: parsing.Inputs, output: Path, model: str = "selfie") -> list[Labels]:
    settings = ParsingSettings(model=model)  # type: ignore[arg-type]
    parsing.run(inputs, parsing.Outputs(output), settings)
    with Archive(output) as archive:
        return [load_grey(archive, index) for index in range(len(archive.names))]


@pytest.fixture(scope="module")
def anchor(tmp_path_factory: pytest.TempPathFactory, german: Path) -> tuple[parsing.Inputs, list[Labels]]:
    """Ten frames of the news anchor and their class maps."""
    folder = tmp_path_factory.mktemp("anchor")
    inputs = prepare(folder, german, range(10))
    return inputs, parse(inputs, folder / "parsing.zip")


@pytest.fixture(scope="module")
def long_hair(tmp_path_factory: pytest.TempPathFactory, katie: Path) -> tuple[parsing.Inputs, list[Labels]]:
    """Forty frames of the clip with long hair and a turning head, and their class maps."""
    folder = tmp_path_factory.mktemp("long_hair")
    inputs = prepare(folder, katie, range(16, 56))
    return inputs, parse(inputs, folder / "parsing.zip")


@pytest.fixture
def head() -> HeadFrame:
    """A round face in the middle of the frame, its chin at 0.65 of the height."""
    return made_up_heads(1)[0]


def made_up_points(size: int = SIZE) -> npt.NDArray[np.float32]:
    """(478, 3) landmarks of a face whose oval is an ellipse."""
    points = np.full((478, 3), size / 2, np.float32)
    angle = np.arange(36) * np.pi / 18
    points[OVAL, 0] = size * (0.5 + 0.12 * np.sin(angle))
    points[OVAL, 1] = size * (0.5 - 0.15 * np.cos(angle))
    points[:, 2] = 0
    return points


def made_up_heads(count: int) -> list[HeadFrame]:
    return head_frames(np.stack([made_up_points()] * count), np.ones(count, bool), SIZE)


def components(mask: npt.NDArray[np.bool_]) -> int:
    return int(cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0]) - 1


def test_real_frames_hold_every_class_and_nothing_else(anchor: tuple[parsing.Inputs, list[Labels]]) -> None:
    _, maps = anchor
    assert len(maps) == 10
    for labels in maps:
        assert labels.shape == (SIZE, SIZE)
        assert set(np.unique(labels)) == {BACKGROUND, TORSO, NECK, HEAD}


def test_head_is_one_piece_that_holds_the_face(anchor: tuple[parsing.Inputs, list[Labels]]) -> None:
    inputs, maps = anchor
    for labels, points in zip(maps, Landmarks.load(inputs.landmarks).points, strict=True):
        assert components(labels == HEAD) == 1
        assert components(labels != BACKGROUND) == 1
        # A pixel inside of the oval: the line itself may fall on either side.
        oval = points[OVAL, :2]
        inside = (oval + 0.04 * (oval.mean(axis=0) - oval)).astype(int)
        assert (labels[inside[:, 1], inside[:, 0]] == HEAD).all()
        holes, parts = cv2.connectedComponents((labels != HEAD).astype(np.uint8), connectivity=4)
        assert all(np.isin(parts[[0, -1]], part).any() or np.isin(parts[:, [0, -1]], part).any()
                   for part in range(1, holes))  # fmt: skip


def test_anchor_is_parted_where_people_see_it(anchor: tuple[parsing.Inputs, list[Labels]]) -> None:
    """Places in the first frame, at 256 px, read off the picture by eye."""
    labels = anchor[1][0]
    places = {
        HEAD: [(140, 30), (100, 60), (180, 70), (81, 122), (200, 122), (140, 190), (120, 150)],
        NECK: [(142, 211)],
        TORSO: [(112, 210), (170, 212), (142, 235), (40, 235), (230, 230), (100, 195)],
        BACKGROUND: [(10, 10), (60, 100), (220, 100), (60, 180), (220, 180), (10, 190)],
    }
    for kind, points in places.items():
        assert [int(labels[y, x]) for x, y in points] == [kind] * len(points)


def test_long_hair_belongs_to_the_head_and_stays_there(long_hair: tuple[parsing.Inputs, list[Labels]]) -> None:
    _, maps = long_hair
    changed = np.mean([np.mean(one != other) for one, other in pairwise(maps)])
    # The head turns in these frames, so that part of the change is true.
    assert changed < 0.025
    for labels in maps:
        lower = labels[int(0.8 * SIZE) : int(0.95 * SIZE)]
        person = lower != BACKGROUND
        assert np.mean(lower[person] == TORSO) < 0.15
        assert np.mean(lower[person] == HEAD) > 0.3
        assert (lower == NECK).any()


def test_equal_runs_write_equal_bytes(anchor: tuple[parsing.Inputs, list[Labels]], tmp_path: Path) -> None:
    inputs, maps = anchor
    again = parse(inputs, tmp_path / "again.zip")
    assert all((one == other).all() for one, other in zip(maps, again, strict=True))
    assert (tmp_path / "again.zip").read_bytes() == (inputs.frames.parent / "parsing.zip").read_bytes()


def test_chunks_join_without_a_trace(anchor: tuple[parsing.Inputs, list[Labels]], tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from stages.vision import chunks

    monkeypatch.setattr(chunks, "CHUNK_FRAMES", 4)
    monkeypatch.setattr(chunks, "_MOST_WORKERS", 1)
    inputs, maps = anchor
    cut = parse(inputs, tmp_path / "cut.zip")
    assert all((one == other).all() for one, other in zip(maps, cut, strict=True))


def test_working_size_and_frame_size_are_independent(anchor: tuple[parsing.Inputs, list[Labels]],
                                                     tmp_path: Path) -> None:  # fmt: skip
    inputs, maps = anchor
    parsing.run(inputs, parsing.Outputs(tmp_path / "small.zip"), ParsingSettings("selfie", 128))
    with Archive(tmp_path / "small.zip") as archive:
        small = load_grey(archive, 0)
    assert small.shape == maps[0].shape
    assert np.mean(small != maps[0]) < 0.03


def test_frames_without_a_face_take_it_from_their_neighbours() -> None:
    points = np.stack([made_up_points() + np.float32([index, 0, 0]) for index in range(9)])
    points[3:6] = 0
    found = np.ones(9, bool)
    found[3:6] = False
    heads = head_frames(points, found, SIZE)
    centres = np.array([head.centre[0] for head in heads]) * SIZE
    np.testing.assert_allclose(np.diff(centres)[1:-1], 1, atol=0.3)
    with pytest.raises(BadInput, match="face"):
        head_frames(points, np.zeros(9, bool), SIZE)


def test_head_coordinates_follow_the_head() -> None:
    points = made_up_points()
    turned = points.copy()
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    turned[:, :2] = 1.5 * (points[:, :2] - 128) @ turn.T + [120, 140]
    for shape, angle_rad in ((points, 0.0), (turned, angle)):
        (head,) = head_frames(shape[None], np.ones(1, bool), SIZE)
        assert head.roll_rad == pytest.approx(angle_rad, abs=1e-4)
        matrix = head.to_head(SIZE)
        ears = (shape[[234, 454], :2] - 0.5) @ matrix[:, :2].T + matrix[:, 2]
        np.testing.assert_allclose(ears, [[-0.5, 0], [0.5, 0]], atol=1e-3)
        chin = (shape[152, :2] - 0.5) @ matrix[:, :2].T + matrix[:, 2]
        ear = np.radians(80)  # where the oval meets the ears
        assert chin == pytest.approx([0, 0.15 * (1 + np.cos(ear)) / (0.24 * np.sin(ear))], abs=1e-3)


def test_jaw_parts_face_from_neck(head: HeadFrame) -> None:
    above = head.above_jaw(SIZE)
    face = head.face_mask(SIZE)
    assert (above[face > 0]).mean() > 0.99
    chin = round(float(head.chin[1]) * SIZE)
    assert above[chin - 4, 128] == 1
    assert above[chin + 3, 128] == 0
    assert above[128, 2] == 1  # beside the ears everything above their lobes
    assert above[chin, 10] == 0


def shares_of(painter: Callable[[npt.NDArray[np.float32]], None]) -> npt.NDArray[np.float32]:
    shares = np.zeros((SIZE, SIZE, 4), np.float32)
    shares[..., 0] = 1
    painter(shares)
    return shares


def paint(shares: npt.NDArray[np.float32], box: tuple[slice, slice], kind: int) -> None:
    shares[box] = 0
    shares[(*box, kind)] = 1


def test_holes_and_islands_vanish(head: HeadFrame) -> None:
    def painter(shares: npt.NDArray[np.float32]) -> None:
        paint(shares, (slice(60, 190), slice(80, 176)), 1)  # hair
        paint(shares, (slice(190, 256), slice(40, 216)), 3)  # cloth
        paint(shares, (slice(100, 106), slice(84, 90)), 0)  # a hole in the hair
        paint(shares, (slice(20, 26), slice(20, 26)), 1)  # a speck of hair in the background
        paint(shares, (slice(220, 226), slice(60, 66)), 1)  # a speck of hair on the cloth
        paint(shares, (slice(120, 150), slice(165, 175)), 3)  # cloth that hangs in the air

    labels = label_frame(shares_of(painter), head)
    assert (labels[60:190, 80:176] == HEAD).all()
    assert (labels[20:26, 20:26] == BACKGROUND).all()
    assert (labels[220:226, 60:66] == TORSO).all()


def test_skin_is_head_above_the_jaw_and_neck_below(head: HeadFrame) -> None:
    labels = label_frame(shares_of(lambda shares: paint(shares, (slice(70, 256), slice(96, 160)), 2)), head)
    chin = round(float(head.chin[1]) * SIZE)
    assert (labels[80 : chin - 1, 128] == HEAD).all()
    assert (labels[chin + 2 : chin + 20, 128] == NECK).all()
    assert labels[250, 128] == TORSO  # bare skin far below is chest


def test_clean_leaves_clean_maps_alone(head: HeadFrame) -> None:
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[180:, 60:200] = TORSO
    labels[150:180, 110:146] = NECK
    labels[60:170, 90:166] = HEAD
    assert (clean(labels, head) == labels).all()


def test_a_dark_lock_stays_with_the_head_and_the_corner_of_a_shoulder_with_the_torso(head: HeadFrame) -> None:
    labels = np.full((SIZE, SIZE), HEAD, np.uint8)
    labels[:40] = BACKGROUND
    labels[150:, 30:38] = TORSO
    labels[-9:, -9:] = TORSO
    cleaned = clean(labels, head)
    assert (cleaned[150:, 30:38] == HEAD).all()
    assert (cleaned[-9:, -9:] == TORSO).all()
    labels[150:, :90] = TORSO  # as wide as a shoulder
    assert (clean(labels, head)[150:, :90] == TORSO).all()


def test_guided_filter_keeps_constants_and_snaps_to_edges() -> None:
    guide = np.zeros((128, 128), np.float32)
    guide[:, 60:] = 1
    small_guide = cv2.resize(guide, (64, 64), interpolation=cv2.INTER_AREA)
    values = np.zeros((64, 64, 2), np.float32)
    values[:, 33:, 0] = 1  # three pixels off the edge at the full size
    values[..., 1] = 0.25
    filtered = guided_upsample(guide, small_guide, values, 4, 1e-4)
    assert filtered.shape == (128, 128, 2)
    np.testing.assert_allclose(filtered[..., 1], 0.25, atol=1e-3)
    edge = np.abs(np.diff(filtered[64, :, 0])).argmax()
    assert edge == 59


def moments(shares: list[float], colours: list[int]) -> list[Moment]:
    return [
        Moment(index, np.full((8, 8, 3), colour, np.uint8), np.full((8, 8, 1), share, np.float32))
        for index, (share, colour) in enumerate(zip(shares, colours, strict=True))
    ]


def test_time_blends_what_looks_the_same_and_nothing_else() -> None:
    flicker = [0.0, 1.0] * 6
    still = np.array([moment.shares.mean() for moment in blend_over_time(moments(flicker, [90] * 12), 3)])
    assert np.ptp(still[3:9]) < 0.3
    moving = [moment.shares.mean() for moment in blend_over_time(moments(flicker, [0, 200] * 6), 1)]
    np.testing.assert_allclose(moving, flicker, atol=1e-3)


def test_time_looks_only_as_far_as_it_says() -> None:
    rng = np.random.default_rng(1)
    clip = moments(list(rng.random(30)), list(rng.integers(90, 110, 30)))
    whole = {moment.index: moment.shares for moment in blend_over_time(clip, 3)}
    assert list(whole) == list(range(30))
    part = {moment.index: moment.shares for moment in blend_over_time(clip[7:21], 3)}
    for index in range(10, 18):
        np.testing.assert_array_equal(part[index], whole[index])


def test_lab_cells_tell_colours_apart_and_fit_their_table() -> None:
    rng = np.random.default_rng(2)
    cells = lab_cells(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    assert cells.min() >= 0
    assert cells.max() < 32**3
    colours = np.array([[[200, 160, 140], [40, 30, 25], [250, 250, 250], [30, 30, 90]]], np.uint8)
    assert len(np.unique(lab_cells(colours))) == 4


def test_multiclass_classes_fold_into_ours(head: HeadFrame) -> None:
    one_hot = np.zeros((SIZE, SIZE, 6), np.float32)
    for kind in range(6):
        one_hot[:, kind::6, kind] = 1
    shares = segmentation.multiclass_to_shares(one_hot, head)
    np.testing.assert_allclose(shares.sum(axis=2), 1, atol=1e-6)
    row = shares[10]  # above the jaw
    assert [int(row[column].argmax()) for column in range(6)] == [0, 1, 2, 2, 3, 1]
    assert int(shares[250, 5].argmax()) == 3  # jewellery below the jaw goes with the clothes
    with pytest.raises(BadInput, match="classes"):
        segmentation.multiclass_to_shares(one_hot[..., :2], head)


def test_parser_is_chosen_by_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("RADNERF_MODELS", str(tmp_path))
    assert segmentation.choose_parser("auto") == "selfie"
    with pytest.raises(BadInput, match="selfie_multiclass"):
        segmentation.open_multiclass([])
    with pytest.raises(BadInput, match="unknown parser"):
        segmentation.choose_parser("oracle")
    (tmp_path / MULTICLASS_SEGMENTER).write_bytes(b"no model")
    assert segmentation.choose_parser("auto") == "multiclass"
    assert segmentation.choose_parser("selfie") == "selfie"


def test_damaged_multiclass_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: HeadFrame) -> None:
    monkeypatch.setenv("RADNERF_MODELS", str(tmp_path))
    (tmp_path / MULTICLASS_SEGMENTER).write_bytes(b"no model")
    parser = pickle.loads(pickle.dumps(segmentation.open_multiclass([])))
    with pytest.raises(BadInput, match="no segmentation model"):
        parser.shares(np.zeros((SIZE, SIZE, 3), np.uint8), head)


def test_another_parser_takes_the_place_of_the_bundled_one(
    anchor: tuple[parsing.Inputs, list[Labels]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Boxes:
        def shares(self, rgb: Rgb, head: HeadFrame) -> npt.NDArray[np.float32]:
            del head
            shares = np.zeros((*rgb.shape[:2], 4), np.float32)
            shares[..., 0] = 1
            shares[:200, 60:220] = [0, 1, 0, 0]
            shares[200:, 60:220] = [0, 0, 0, 1]
            return shares

    monkeypatch.setitem(segmentation.PARSERS, "selfie", lambda _: Boxes())
    labels = parse(anchor[0], tmp_path / "boxes.zip")[5]
    assert (labels[20:190, 70:210] == HEAD).all()
    assert (labels[:, :50] == BACKGROUND).all()
    assert (labels[225:, 70:210] == TORSO).all()


def test_inputs_of_different_clips_are_refused(anchor: tuple[parsing.Inputs, list[Labels]], tmp_path: Path) -> None:
    inputs, _ = anchor
    landmarks = Landmarks.load(inputs.landmarks)
    short = Landmarks(landmarks.points[:4], landmarks.found[:4], "mesh", SIZE)
    short.save(tmp_path / "short.npz")
    output = tmp_path / "parsing.zip"
    with pytest.raises(BadInput, match="10 frames"):
        parsing.run(parsing.Inputs(inputs.frames, tmp_path / "short.npz"), parsing.Outputs(output), ParsingSettings())
    shutil.copy(inputs.landmarks, tmp_path / "frames.zip")
    with pytest.raises(BadInput):
        parsing.run(parsing.Inputs(tmp_path / "frames.zip", inputs.landmarks), parsing.Outputs(output),
                    ParsingSettings())  # fmt: skip
    assert not output.exists()

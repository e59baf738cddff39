"""File formats: written atomically, read back equal, refused when damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from stages.archive import Archive, ArchiveWriter, frame_name
from stages.atomic_files import atomic_path, load_json, save_json, save_json_if_changed
from stages.errors import BadInput, RadnerfError
from stages.formats import AudioFeatures, Landmarks


def features(rows: int = 5) -> AudioFeatures:
    """Features of a fifth of a second a row."""
    values = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    return AudioFeatures(values, np.full(rows, -20, np.float32), "logmel", "")


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "folder" / "a.txt"
    with atomic_path(final) as temporary:
        temporary.write_text("new")
        assert temporary.parent == final.parent
        assert temporary.suffix == ".txt"
        assert not final.exists()
    assert final.read_text() == "new"
    assert [path.name for path in final.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    final.write_text("old")

    def write_half() -> None:
        with atomic_path(final) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert final.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    with pytest.raises(RadnerfError, match=r"cannot write .*a\.txt: No space left on device"), atomic_path(final):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_json_is_written_only_when_it_says_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert save_json_if_changed(path, {"crop": (1, 2), "name": "é"})
    os.utime(path, (1, 1))
    assert not save_json_if_changed(path, {"name": "é", "crop": [1, 2]})
    assert path.stat().st_mtime == 1
    assert save_json_if_changed(path, {"crop": [1, 3]})
    assert load_json(path) == {"crop": [1, 3]}


def test_damaged_json_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{")
    assert save_json_if_changed(path, {"a": 1})
    assert load_json(path) == {"a": 1}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b""])
def test_damaged_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        load_json(path)


def test_json_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_json(tmp_path / "a.json", {"psnr": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_an_archive_gives_back_its_members_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    members = {frame_name(index, ".jpg"): bytes([index]) * index for index in range(5)}
    with ArchiveWriter(path) as writer:
        for name, data in members.items():
            writer.add(name, data)
    with Archive(path) as archive:
        assert archive.names == set(members)
        for name in reversed(members):
            assert archive.read(name) == members[name]
        with pytest.raises(BadInput, match=r"has no intact 000009\.jpg"):
            archive.read("000009.jpg")


def test_equal_frames_make_equal_archives(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        with ArchiveWriter(tmp_path / name) as writer:
            writer.add("000000.jpg", b"x")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_a_missing_or_damaged_archive_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput):
        Archive(path)


def test_features_are_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    features().save(path)
    loaded = AudioFeatures.load(path)
    np.testing.assert_array_equal(loaded.values, features().values)
    assert (loaded.front_end, loaded.model) == ("logmel", "")


@pytest.mark.parametrize(
    "arrays",
    [
        {"values": np.zeros((5, 3), np.float64)},
        {"values": np.zeros((4, 3), np.float32)},
        {"values": np.zeros(5, np.float32)},
        {"values": np.full((5, 3), np.nan, np.float32)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray]) -> None:
    good = {"level_db": np.zeros(5, np.float32), "front_end": "logmel", "model": ""}
    with pytest.raises(BadInput):
        AudioFeatures(**{**good, **arrays})


def test_a_bundle_of_another_kind_or_half_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    features().save(path)
    with pytest.raises(BadInput, match="is damaged"):
        Landmarks.load(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match="is damaged"):
        AudioFeatures.load(path)
    with pytest.raises(BadInput, match="is missing"):
        AudioFeatures.load(tmp_path / "none.npz")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    values = np.empty((1, 1), object)
    values[0, 0] = Path
    np.savez(path, values=values, level_db=np.zeros(1, np.float32), front_end="x", model="")
    with pytest.raises(BadInput, match="is damaged"):
        AudioFeatures.load(path)

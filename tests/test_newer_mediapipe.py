"""A MediaPipe without models of its own and without ``solutions``: files do instead, and what lacks is told first.

The Tasks interface is the one that later releases have, so it is tried with the installed one, made to look like them.
"""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from cli import app, doctor
from stages.errors import BadInput
from stages.vision import face_mesh, faces, segmentation
from stages.vision.models import FACE_LANDMARKER, MULTICLASS_SEGMENTER, SELFIE_SEGMENTER
from tests.cli_harness import Shell, shell

__all__ = ["shell"]

Picture = npt.NDArray[np.uint8]

_bundles = pytest.mark.skipif(not face_mesh.brings_models(), reason="this MediaPipe brings no models to compare with")


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A MediaPipe that brings nothing; the folder for models is empty."""
    for module in (face_mesh, faces, segmentation):
        monkeypatch.setattr(module, "brings_models", lambda: False)
    monkeypatch.setattr(face_mesh, "mediapipe_version", lambda: "1.2.2")
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("RADNERF_MODELS", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folder


@pytest.fixture(scope="session")
def picture(german: Path) -> Picture:
    """The first frame of the news anchor's clip."""
    ok, bgr = cv2.VideoCapture(str(german)).read()
    assert ok
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _landmarker(assets: Path, folder: Path) -> None:
    file = assets / "models" / FACE_LANDMARKER
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    (folder / FACE_LANDMARKER).symlink_to(file)


def test_what_lacks_is_told_with_its_version(newer: Path) -> None:
    with pytest.raises(BadInput, match=r"MediaPipe 1\.2\.2 brings no models, and there is no face_landmarker\.task"):
        face_mesh.choose_model("auto")
    with pytest.raises(BadInput, match=r"no selfie_segmenter\.tflite or selfie_multiclass"):
        segmentation.choose_parser("auto")
    with pytest.raises(BadInput, match=r"landmarks\.model is mesh"):
        face_mesh.choose_model("mesh")
    with pytest.raises(BadInput, match=r"or install mediapipe==0\.10\.21"):
        segmentation.PersonSegmenter().person(np.zeros((8, 8, 3), np.uint8))
    (newer / FACE_LANDMARKER).touch()
    assert face_mesh.choose_model("auto") == "tasks"
    (newer / SELFIE_SEGMENTER).touch()
    assert segmentation.choose_parser("auto") == "selfie"
    (newer / MULTICLASS_SEGMENTER).touch()
    assert segmentation.choose_parser("auto") == "multiclass"


def test_doctor_says_which_files_lack(newer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_mesh, "brings_models", lambda: False)
    told = doctor._face_mesh()
    assert not told["ok"]
    assert "no face_landmarker.task" in told["found"]
    assert "selfie_segmenter.tflite" in told["found"]
    for name in (FACE_LANDMARKER, SELFIE_SEGMENTER):
        (newer / name).touch()
    told = doctor._face_mesh()
    assert told["ok"]
    assert "brings no models" in told["found"]


def test_preparing_is_refused_before_anything_is_written(newer: Path, shell: Shell, german: Path) -> None:
    answer = shell("prepare", str(german), "--name", "x", "--consent", "a test")
    assert answer.code == app.USAGE
    assert "brings no models" in answer.err
    assert not list(newer.parent.joinpath("home").rglob("*.zip"))
    assert not Path("subjects/x/subject.yaml").exists()


@_bundles
def test_the_landmarker_alone_finds_the_face(assets: Path, newer: Path, picture: Picture) -> None:
    _landmarker(assets, newer)
    wide = np.full((720, 1280, 3), 90, np.uint8)
    wide[100:612, 500:1012] = picture
    with faces.FaceFinder() as finder:
        near, far = finder.find(picture), finder.find(wide)
        nothing = finder.find(np.full((256, 256, 3), 128, np.uint8))
    assert (len(near), len(far), nothing) == (1, 1, [])
    assert np.abs(np.subtract(far[0].centre, near[0].centre) - (500, 100)).max() < 8
    assert far[0].height == pytest.approx(near[0].height, rel=0.05)


@_bundles
def test_the_tasks_segmenter_tells_the_person(newer: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled network, given what the Tasks interface wants to know of it, says what it says by itself."""
    writers = pytest.importorskip("mediapipe.tasks.python.metadata.metadata_writers.image_segmenter")
    package = face_mesh.mediapipe()
    bundled = Path(package.__file__).parent / "modules/selfie_segmentation/selfie_segmentation.tflite"
    with warnings.catch_warnings():
        # It leaves its temporary folder to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        content, _ = writers.MetadataWriter.create(bytearray(bundled.read_bytes()), [0.0], [255.0]).populate()
        gc.collect()
    (newer / SELFIE_SEGMENTER).write_bytes(content)
    small = np.asarray(cv2.resize(picture, (256, 256)), np.uint8)
    found = segmentation.PersonSegmenter().person(small)
    monkeypatch.setattr(segmentation, "brings_models", lambda: True)
    wanted = segmentation.PersonSegmenter().person(small)
    assert found.shape == wanted.shape == (256, 256)
    assert np.abs(found - wanted).mean() < 0.02
    assert 0.2 < wanted.mean() < 0.8

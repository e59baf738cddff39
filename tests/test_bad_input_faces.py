"""Videos that decode well and show no usable talking face: refused before anything is written, by their first look."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

from stages import frames
from stages.vision import faces
from tests.bad_inputs import (
    FACE_FRAMES,
    FACE_PX,
    Bytes,
    Clips,
    assert_one_line,
    drawn_faces,
    encode,
    make_clips,
    snapshot,
    talking,
)
from tests.cli_harness import Shell, shell

__all__ = ["shell"]

Draw = Callable[[], Bytes]
"""The frames of a video, (N, H, W, 3) uint8."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return make_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module", autouse=True)
def _one_finder() -> Iterator[None]:
    """Load the detectors once for all videos; finding a face does not depend on what was looked at before."""
    finder = faces.FaceFinder()
    leave = faces.FaceFinder.__exit__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "FaceFinder", lambda: finder)
        patch.setattr(faces.FaceFinder, "__exit__", lambda *_: None)
        yield
    leave(finder)


def _room(seed: int) -> Bytes:
    """A wall with things on it, (S, S, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (FACE_PX, FACE_PX), interpolation=cv2.INTER_NEAREST), np.uint8)


def _still() -> Bytes:
    return np.repeat(drawn_faces()[:1], FACE_FRAMES, axis=0)


def _profile() -> Bytes:
    picture = drawn_faces()[13]
    return np.stack([np.roll(picture, round(3 * np.sin(k / 5)), axis=1) for k in range(FACE_FRAMES)])


def _turning_away() -> Bytes:
    found = talking()
    found[30:] = drawn_faces()[13]
    return found


def _two_people() -> Bytes:
    return np.concatenate([talking(), talking()[::-1]], axis=2)


def _cartoon() -> Bytes:
    """A robot with lamps for eyes."""
    pictures = []
    for k in range(FACE_FRAMES):
        picture = np.full((FACE_PX, FACE_PX, 3), 235, np.uint8)
        cv2.rectangle(picture, (25, 25), (135, 140), (60, 120, 220), -1)
        for x in (45, 95):
            cv2.rectangle(picture, (x, 45), (x + 20, 55), (250, 250, 0), -1)
        cv2.rectangle(picture, (40, 105), (120, 108 + k % 12), (20, 20, 20), -1)
        pictures.append(picture)
    return np.stack(pictures)


def _landscape() -> Bytes:
    return np.stack([np.roll(_room(0), k, axis=1) for k in range(FACE_FRAMES)])


def _black() -> Bytes:
    return np.zeros((FACE_FRAMES, FACE_PX, FACE_PX, 3), np.uint8)


def _noise() -> Bytes:
    return np.random.default_rng(0).integers(0, 255, (FACE_FRAMES, FACE_PX, FACE_PX, 3)).astype(np.uint8)


def _smaller_elsewhere(seed: int) -> Bytes:
    """Another shot: the same head half as big, in another room."""
    found = np.repeat(_room(seed)[None], FACE_FRAMES, axis=0)
    for k, picture in enumerate(talking()):
        found[k, 80:, 70:150] = cv2.resize(picture, (80, 80), interpolation=cv2.INTER_AREA)
    return found


def _cut() -> Bytes:
    found = talking()
    found[45:] = _smaller_elsewhere(1)[45:]
    return found


def _dissolve() -> Bytes:
    share = np.clip((np.arange(FACE_FRAMES) - 40) / 12, 0, 1)[:, None, None, None]
    return ((1 - share) * talking() + share * _smaller_elsewhere(2)).astype(np.uint8)


def _there_and_back() -> Bytes:
    found = talking()
    found[35:60] = _smaller_elsewhere(3)[35:60]
    return found


def _masked_out() -> Bytes:
    """The face behind a board."""
    found = talking()
    found[:, 30:105, 40:120] = 60
    return found


VIDEOS: list[tuple[str, Draw, str]] = [
    ("nobody", _landscape, "no face is found in a.mkv (looked at 11 pictures from 0.0 s to "),
    ("black", _black, "no face is found in a.mkv ("),
    ("noise", _noise, "no face is found in a.mkv ("),
    ("cartoon", _cartoon, "no face is found in a.mkv ("),
    ("profile", _profile, "no face is found in a.mkv ("),
    ("turning away", _turning_away, "a face is in only "),
    ("a board before the face", _masked_out, "no face is found in a.mkv ("),
    ("two people", _two_people, "two faces are in the picture of a.mkv, first at 0.0 s (give a video of one person"),
    ("photograph", _still, "nothing moves in a.mkv (looked at 11 pictures) (give a video of a person talking"),
    ("cut", _cut, "a.mkv changes to another shot between 1.7 s and 2.0 s (cut the video to one shot)"),
    ("dissolve", _dissolve, "a.mkv changes to another shot between 1."),
    ("cut there and back", _there_and_back, "a.mkv changes to another shot between 1.3 s and 1.7 s (cut"),
]


@pytest.mark.parametrize(("draw", "words"), [case[1:] for case in VIDEOS], ids=[case[0] for case in VIDEOS])
def test_a_video_without_a_usable_face_is_refused(
    shell: Shell, clips: Clips, draw: Draw, words: str, record_property: Callable[[str, object], None]
) -> None:
    encode(shell.home / "a.mkv", draw(), "-qp", "12", sound=clips.speech)
    before = snapshot(shell.home)
    answer = shell("prepare", "a.mkv", "--quiet")
    written = snapshot(shell.home).new_since(before)
    record_property("files_written", len(written))
    assert_one_line(answer, words)
    assert written == []

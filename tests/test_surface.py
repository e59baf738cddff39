"""Poses by the skin: better where landmarks slide over it, refused where it says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stages import pose
from stages.archive import ArchiveWriter, frame_name
from stages.demo.face import Pose
from stages.demo.figure import place
from stages.demo.render import BASE_CM, make_subject, render
from stages.demo.truth import rotation_errors_deg
from stages.errors import BadInput
from stages.formats import Landmarks
from stages.settings import PoseSettings
from stages.vision import surface_refinement
from stages.vision.images import encode_jpeg
from stages.vision.reprojection import Pinhole, project
from stages.vision.surface_tracks import even, follow

SIZE_PX = 256
FRAMES = 20


@dataclass(frozen=True)
class Drawn:
    """A drawn head that nods and turns, seen by a detector that underrates its nods by a quarter."""

    landmarks: Landmarks
    pictures: list[NDArray[np.uint8]]
    rotation: NDArray[np.float64]

    def archive(self, path: Path, *, blank: bool = False) -> Path:
        """Its frames; blank ones show nothing but noise."""
        random = np.random.default_rng(0)
        with ArchiveWriter(path) as writer:
            for index, picture in enumerate(self.pictures):
                noise = random.integers(118, 138, picture.shape).astype(np.uint8)
                writer.add(frame_name(index, ".jpg"), encode_jpeg(noise if blank else picture))
        return path


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    subject = make_subject(SIZE_PX, 3)
    camera = Pinhole(2.0 * SIZE_PX, SIZE_PX / 2, SIZE_PX / 2)
    at = np.arange(FRAMES)
    angles = np.stack([9 * np.sin(at / 7), 7 * np.cos(at / 5), 2 * np.sin(at / 9)], axis=1)
    points = np.zeros((FRAMES, 478, 3), np.float32)
    pictures, rotations = [], []
    for index, angle in enumerate(angles):
        true = place(angle, np.zeros(3), BASE_CM)
        frame = render(subject, Pose(), true, np.zeros(2))
        seen = place(angle * (1, 0.75, 1), np.zeros(3), BASE_CM).rotation
        face = frame.landmarks_cm
        points[index, :468, :2] = project(face, seen[None], true.translation_cm[None], camera)[0]
        points[index, :468, 2] = (face @ seen.T)[:, 2] * camera.focal_px / true.translation_cm[2]
        pictures.append(frame.image)
        rotations.append(true.rotation)
    landmarks = Landmarks(points, np.ones(FRAMES, dtype=bool), "mesh", SIZE_PX)
    return Drawn(landmarks, pictures, np.stack(rotations))


def test_the_skin_corrects_landmarks_that_slide_over_it(drawn: Drawn, tmp_path: Path) -> None:
    frames = drawn.archive(tmp_path / "frames.zip")
    plain = pose.solve_track(drawn.landmarks, PoseSettings(skin=False), frames)
    better = pose.solve_track(drawn.landmarks, PoseSettings(), frames)
    before = np.sqrt(np.mean(rotation_errors_deg(plain.rotation, drawn.rotation) ** 2))
    after = np.sqrt(np.mean(rotation_errors_deg(better.rotation, drawn.rotation) ** 2))
    assert before > 1
    assert after < 0.5 * before
    alone = pose.solve_track(drawn.landmarks, PoseSettings())
    np.testing.assert_array_equal(alone.rotation, plain.rotation)


def test_skin_that_shows_nothing_leaves_the_landmarks_poses(drawn: Drawn, tmp_path: Path) -> None:
    frames = drawn.archive(tmp_path / "frames.zip", blank=True)
    track = pose.solve_track(drawn.landmarks, PoseSettings(), frames)
    np.testing.assert_array_equal(track.rotation, pose.solve_track(drawn.landmarks, PoseSettings()).rotation)


def test_skin_that_aligns_the_clip_no_better_is_not_believed(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = drawn.archive(tmp_path / "frames.zip")
    monkeypatch.setattr(surface_refinement, "LEAST_GAIN", 0.9)
    track = pose.solve_track(drawn.landmarks, PoseSettings(), frames)
    np.testing.assert_array_equal(track.rotation, pose.solve_track(drawn.landmarks, PoseSettings()).rotation)


def test_frames_of_another_clip_are_refused(drawn: Drawn, tmp_path: Path) -> None:
    other = Landmarks(drawn.landmarks.points[:5], drawn.landmarks.found[:5], "mesh", SIZE_PX)
    with pytest.raises(BadInput, match="20 frames, the landmarks 5"):
        pose.solve_track(other, PoseSettings(), drawn.archive(tmp_path / "frames.zip"))


def test_a_shifted_texture_is_followed_to_a_tenth_of_a_pixel() -> None:
    import cv2

    random = np.random.default_rng(1)
    picture = cv2.GaussianBlur(random.integers(0, 256, (120, 120)).astype(np.float32), (0, 0), 2)
    picture = np.asarray(cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX), np.float32)
    shift = np.array([[1, 0, 1.3], [0, 1, -2.6]], np.float32)
    moved = cv2.warpAffine(picture, shift, (120, 120), flags=cv2.INTER_CUBIC)
    points = np.stack(np.meshgrid([40, 60, 80], [40, 60, 80]), axis=-1).reshape(-1, 2).astype(np.float32)
    # Half as bright: only the texture counts.
    places, sure = follow(even(picture.astype(np.uint8)), even((0.5 * moved).astype(np.uint8)), points)
    assert sure.all()
    np.testing.assert_allclose(places - points, np.tile([1.3, -2.6], (9, 1)), atol=0.1)


def test_turns_are_read_off_the_true_head(drawn: Drawn) -> None:
    # The fixture's own check: its angles are what the errors are measured against.
    turns = Rotation.from_matrix(drawn.rotation[1:] @ drawn.rotation[:-1].transpose(0, 2, 1)).magnitude()
    assert 1 < np.degrees(turns).max() < 3

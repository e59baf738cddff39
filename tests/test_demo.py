"""The demo subject: its speech, its movement, its picture, and whether a face tracker believes in it."""

from __future__ import annotations

import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the demo's voice is not installed (radnerf[demo])")

from stages.demo import make, speech, text
from stages.demo.animate import FPS, Motion, animate
from stages.demo.face import LOWER_LIP, UPPER_LIP, Pose, build_rig, lip_measures_cm
from stages.demo.figure import place
from stages.demo.mesh import boundary_edges, boundary_loop
from stages.demo.render import BASE_CM, Frame, Subject, make_subject, render
from stages.errors import BadInput, RadnerfError
from stages.media import probe
from stages.vision import canonical_face

SIZE = 256
STRAIGHT = (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return make_subject(SIZE, seed=1)


@pytest.fixture(scope="module")
def spoken() -> speech.Speech:
    return speech.speak_for(20.0, 3, speech.Voice())


@pytest.fixture(scope="module")
def motion(spoken: speech.Speech) -> Motion:
    return animate(spoken, 3)


@pytest.fixture(scope="module")
def tracker() -> Iterator[object]:
    import mediapipe as mp

    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=3) as mesh:
        yield mesh


def drawn(subject: Subject, pose: Pose, angles_deg: tuple[float, float, float] = STRAIGHT) -> Frame:
    return render(subject, pose, place(np.array(angles_deg), np.zeros(3), BASE_CM), np.zeros(2))


def tracked(tracker: object, image: np.ndarray) -> np.ndarray:
    faces = tracker.process(image).multi_face_landmarks  # type: ignore[attr-defined]
    assert faces is not None
    assert len(faces) == 1
    return np.array([(p.x, p.y) for p in faces[0].landmark]) * image.shape[0]


def aspect_ratio(points: np.ndarray) -> float:
    """Of both eyes: height over width."""
    ratios = []
    for left, right, pairs in ((33, 133, ((160, 144), (158, 153))), (263, 362, ((387, 373), (385, 380)))):
        heights = [np.linalg.norm(points[a] - points[b]) for a, b in pairs]
        ratios.append(np.mean(heights) / np.linalg.norm(points[left] - points[right]))
    return float(np.mean(ratios))


def test_canonical_face_is_a_disc_facing_the_viewer() -> None:
    vertices, triangles = canonical_face.vertices_cm, canonical_face.triangles
    assert vertices.shape == (468, 3)
    assert triangles.shape == (898, 3)
    assert len(boundary_loop(triangles, 10)) == len(boundary_edges(triangles)) == 36
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    assert np.cross(b - a, c - a)[:, 2].mean() > 0
    assert vertices[1, 2] > vertices[234, 2] + 8  # the nose is in front of the ears
    assert vertices[10, 1] > vertices[152, 1] + 15  # the forehead is above the chin
    assert np.count_nonzero(canonical_face.rigid_weights) == 33


def test_smooth_surface_weights_are_affine_and_holes_stay_open() -> None:
    rig = build_rig()
    np.testing.assert_allclose(np.asarray(rig.smooth.sum(axis=1)).ravel(), 1, atol=1e-12)
    loops = [boundary_loop(rig.triangles, through) for through in (10, 33, 263, 78)]
    assert sum(map(len, loops)) == len(boundary_edges(rig.triangles))
    assert {UPPER_LIP[5], LOWER_LIP[5]} <= set(loops[3].tolist())


def test_speech_is_louder_than_its_pauses(spoken: speech.Speech) -> None:
    assert spoken.samples.dtype == np.float32
    assert len(spoken.samples) == 20 * speech.SAMPLE_RATE_HZ
    assert np.abs(spoken.samples).max() <= 1
    said, silent = [], []
    for phoneme in spoken.phonemes:
        first, last = (round(t * speech.SAMPLE_RATE_HZ) for t in (phoneme.start_s, phoneme.end_s))
        if phoneme.symbol:
            said.append(spoken.samples[first:last])
        elif phoneme.end_s - phoneme.start_s > 0.15:
            silent.append(spoken.samples[first:last])
    assert len(silent) >= 4
    assert np.concatenate(said).std() > 0.03
    assert np.concatenate(said).std() > 10 * np.concatenate(silent).std()


def test_phonemes_follow_each_other_without_gaps(spoken: speech.Speech) -> None:
    ends = [phoneme.end_s for phoneme in spoken.phonemes]
    starts = [phoneme.start_s for phoneme in spoken.phonemes]
    assert starts[0] == 0
    assert ends[-1] == pytest.approx(20.0)
    np.testing.assert_allclose(starts[1:], ends[:-1], atol=1e-9)


@pytest.mark.parametrize("duration_s", [5.0, 20.0, 33.0, 60.0])
def test_the_end_that_portraits_are_compared_on_is_spoken(duration_s: float) -> None:
    said = speech.speak_for(duration_s, 0, speech.Voice())
    last = max(phoneme.end_s for phoneme in said.phonemes if phoneme.symbol)
    assert duration_s - 0.6 < last < duration_s
    held_out = np.abs(said.samples[-round(duration_s / 11 * speech.SAMPLE_RATE_HZ) :])
    blocks = held_out[: len(held_out) // 441 * 441].reshape(-1, 441).max(1)
    assert np.mean(blocks > 0.02) > 0.4
    assert held_out[-100:].max() == 0


def test_short_clip_still_speaks() -> None:
    short = speech.speak_for(1.5, 0, speech.Voice())
    assert len(short.samples) == round(1.5 * speech.SAMPLE_RATE_HZ)
    assert any(phoneme.symbol for phoneme in short.phonemes)
    assert np.abs(short.samples).max() > 0.1


def test_three_minutes_repeat_no_sentence() -> None:
    long = speech.speak_for(180.0, 0, speech.Voice())
    symbols = [phoneme.symbol for phoneme in long.phonemes]
    stretches = [tuple(symbols[i : i + 20]) for i in range(len(symbols) - 20)]
    assert len(symbols) > 1000
    assert len(set(stretches)) == len(stretches)


def test_german_voice_says_other_sentences() -> None:
    assert text.sentences_for("de") == text.GERMAN
    german = speech.speak(text.GERMAN[:1], speech.Voice(name="de"))[0]
    assert german.duration_s > 1


def test_held_out_sentences_are_not_spoken_in_training() -> None:
    assert text.ENGLISH_HELD_OUT not in text.ENGLISH
    assert text.GERMAN_HELD_OUT not in text.GERMAN


def test_unknown_voice_is_refused() -> None:
    with pytest.raises(RadnerfError, match="no voice 'klingonese'"):
        speech.speak(("hello",), speech.Voice(name="klingonese"))


def test_missing_espeak_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(RadnerfError) as caught:
        speech.speak(("hello",), speech.Voice())
    assert "radnerf[demo]" in caught.value.hint


def test_mouth_closes_in_silences_and_opens_on_vowels(spoken: speech.Speech, motion: Motion) -> None:
    at_s = np.arange(len(motion.opening)) / FPS
    silent, vowel = np.zeros(len(at_s), dtype=bool), np.zeros(len(at_s), dtype=bool)
    for phoneme in spoken.phonemes:
        if not phoneme.symbol:
            silent |= (at_s > phoneme.start_s + 0.12) & (at_s < phoneme.end_s - 0.12)
        if "æ" in phoneme.symbol or "ɑ" in phoneme.symbol:
            vowel |= (at_s > phoneme.start_s) & (at_s < phoneme.end_s)
    assert silent.sum() > 20
    assert motion.opening[silent].max() < 0.02
    assert motion.opening[vowel].mean() > 0.35


def test_lips_meet_on_bilabials(spoken: speech.Speech, motion: Motion) -> None:
    closures = [p for p in spoken.phonemes if p.symbol in ("p", "b", "m") and p.end_s - p.start_s > 0.06]
    assert len(closures) >= 5
    for phoneme in closures:
        first = max(round((phoneme.start_s - 0.02) * FPS) - 1, 0)
        assert motion.opening[first : round(phoneme.end_s * FPS) + 1].min() < 0.1


def test_motion_is_smooth_within_its_limits_and_blinks(motion: Motion) -> None:
    assert (np.abs(motion.angles_deg).max(axis=0) <= (12 + 1e-9, 8 + 1e-9, 4 + 1e-9)).all()
    assert np.abs(motion.angles_deg).max(axis=0)[0] > 6
    assert np.abs(np.diff(motion.angles_deg, axis=0)).max() < 2
    assert 3 <= len(motion.blink_frames) <= 8
    assert motion.eye_openness[motion.blink_frames].max() < 0.1
    assert np.median(motion.eye_openness) > 0.9


def test_same_seed_same_motion(spoken: speech.Speech, motion: Motion) -> None:
    again, other = animate(spoken, 3), animate(spoken, 4)
    np.testing.assert_array_equal(again.angles_deg, motion.angles_deg)
    np.testing.assert_array_equal(again.eye_openness, motion.eye_openness)
    assert not np.array_equal(other.angles_deg, motion.angles_deg)


def test_lips_shut_and_part_in_the_rig() -> None:
    rig = build_rig()
    measures = [lip_measures_cm(rig.surface_cm(Pose(opening=o))) for o in (0.0, 0.5, 1.0)]
    openings = [opening for opening, _ in measures]
    assert openings[0] < 0.1
    assert openings[2] > 1.2
    assert openings == sorted(openings)
    narrow, wide = (lip_measures_cm(rig.surface_cm(Pose(width=w)))[1] for w in (-1.0, 1.0))
    assert wide > narrow + 0.8


def test_background_pixels_are_the_empty_room(subject: Subject) -> None:
    frame = drawn(subject, Pose(opening=0.5), (6.0, -4.0, 2.0))
    assert set(np.unique(frame.classes)) == {0, 1, 2, 3}
    outside = cv2.erode((frame.classes == 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert outside.mean() > 0.2
    np.testing.assert_array_equal(frame.image[outside], subject.empty_room()[outside])


def test_classes_lie_where_the_body_is(subject: Subject) -> None:
    classes = drawn(subject, Pose()).classes
    rows = {kind: np.nonzero(classes == kind)[0].mean() for kind in (1, 2, 3)}
    assert rows[3] < rows[2] < rows[1]
    inside = drawn(subject, Pose()).landmarks_px.astype(int)
    assert (classes[inside[:, 1], inside[:, 0]] == 3).mean() > 0.97


def test_landmarks_project_with_the_pose(subject: Subject) -> None:
    placement = place(np.array([9.0, -5.0, 3.0]), np.array([0.4, -0.2, 0.3]), BASE_CM)
    frame = render(subject, Pose(opening=0.4), placement, np.zeros(2))
    camera = frame.landmarks_cm @ placement.rotation.T + placement.translation_cm
    expected = 2.0 * SIZE * camera[:, :2] / camera[:, 2:] + SIZE / 2
    np.testing.assert_allclose(frame.landmarks_px, expected, atol=1e-6)
    np.testing.assert_allclose(placement.rotation @ placement.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(placement.rotation) == pytest.approx(1)


@pytest.mark.parametrize(
    ("angles_deg", "pose"),
    [
        (STRAIGHT, Pose()),
        ((12.0, 8.0, 4.0), Pose(opening=1.0)),
        ((-12.0, -8.0, -4.0), Pose(opening=0.5, width=1.0)),
        ((12.0, -8.0, 4.0), Pose(eye_openness=0.0)),
        ((-12.0, 8.0, 0.0), Pose(opening=0.3, width=-1.0, protrusion=1.0, brow=1.0)),
    ],
)
def test_tracker_finds_one_face_where_it_is(
    subject: Subject, tracker: object, angles_deg: tuple[float, float, float], pose: Pose
) -> None:
    frame = drawn(subject, pose, angles_deg)
    found = tracked(tracker, frame.image)[:468]
    assert np.linalg.norm(found - frame.landmarks_px, axis=1).mean() < 4.0


def test_tracked_opening_follows_the_truth(subject: Subject, tracker: object) -> None:
    truth, seen = [], []
    for opening in np.linspace(0, 1, 6):
        frame = drawn(subject, Pose(opening=float(opening)), (4.0, 2.0, 0.0))
        points = tracked(tracker, frame.image)
        truth.append(np.linalg.norm(frame.landmarks_px[13] - frame.landmarks_px[14]))
        seen.append(np.linalg.norm(points[13] - points[14]))
    assert np.corrcoef(truth, seen)[0, 1] > 0.95
    assert 0.6 < np.polyfit(truth, seen, 1)[0] < 1.5


def test_tracked_eyes_shut_with_the_lids(subject: Subject, tracker: object) -> None:
    ratios = [aspect_ratio(tracked(tracker, drawn(subject, Pose(eye_openness=o)).image)) for o in (0.0, 1.0)]
    assert ratios[0] < 0.12
    assert ratios[1] > 0.2


def test_video_has_the_frames_that_the_truth_describes(tmp_path: Path) -> None:
    video, truth = tmp_path / "demo.mp4", tmp_path / "truth.npz"
    make.make_demo_video(video, truth, make.DemoSettings(duration_s=2.0, size=96, seed=5))
    info = probe(video)
    assert (info.width, info.height) == (96, 96)
    assert info.fps == pytest.approx(25)
    assert info.duration_s == pytest.approx(2.0, abs=0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.mp4", "truth.npz"]
    with np.load(truth, allow_pickle=False) as arrays:
        assert arrays["rotation"].shape == (50, 3, 3)
        assert arrays["translation_cm"].shape == (50, 3)
        assert arrays["classes"].shape == (50, 96, 96)
        assert arrays["landmarks_px"].shape == (50, 468, 2)
        assert arrays["background"].shape == (96, 96, 3)
        assert float(arrays["focal_px"]) == 192
        for name in ("lip_opening_cm", "lip_width_cm", "lip_opening_px", "lip_width_px", "eye_openness"):
            assert arrays[name].shape == (50,)
            assert np.isfinite(arrays[name]).all()
        assert arrays["lip_opening_cm"].max() > 0.3


def test_threads_do_not_change_the_frames(motion: Motion) -> None:
    small = make_subject(64, seed=1)
    one, two = ([frame.image for _, frame in make.draw_frames(small, motion, range(4), n)] for n in (1, 3))
    np.testing.assert_array_equal(one, two)


def test_demo_speech_is_a_wav_with_quiet_ends(tmp_path: Path) -> None:
    make.make_demo_speech(tmp_path / "speech.wav")
    with wave.open(str(tmp_path / "speech.wav")) as sound:
        assert (sound.getnchannels(), sound.getframerate()) == (1, speech.SAMPLE_RATE_HZ)
        samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype=np.int16)
    assert 3 < len(samples) / speech.SAMPLE_RATE_HZ < 12
    assert np.abs(samples[:5000]).max() == 0
    assert np.abs(samples).max() > 5000


@pytest.mark.parametrize("wrong", [{"duration_s": 0.2}, {"size": 33}, {"size": 32}, {"duration_s": float("nan")}])
def test_impossible_demo_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        make.DemoSettings(**wrong)  # type: ignore[arg-type]

"""Rendering a speech: length, sound, motion, background, provenance, and what is refused."""

from __future__ import annotations

import json
import math
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from radnerf.camera import yaw_pitch_rotation
from radnerf.head import Condition
from radnerf.model import HeadModel
from stages import render, scene
from stages.atomic_files import save_json
from stages.backdrop import picture_background, plain_background
from stages.blinks import BlinkStyle, closures, draw_blinks, without_blinks
from stages.colours import CSS_COLOURS, parse_colour
from stages.errors import BadInput
from stages.formats import AudioFeatures, Track
from stages.head_file import load_head
from stages.hearing import hear, open_features
from stages.media import decode_audio, probe, read_video
from stages.motion import borrowed_motion, own_motion, perform, plan_places
from stages.provenance import read_provenance
from stages.settings import RenderSettings
from stages.speech_job import load_job
from stages.vision.images import encode_png
from stages.workspace import SpeechFolder, Workspace
from tests.tiny_subject import SIZE_PX, make_features, make_subject, make_track

RATE_HZ = 44_100
JOB: dict[str, Any] = {
    "format": 1,
    "subject": "tiny",
    "consent": "It is nobody.",
    "speech": {"name": "hello.wav", "sha256": "0" * 64},
    "eyes": "clip",
    "view_deg": [0.0, 0.0],
    "size_px": 0,
    "background_colour": None,
    "background_image": None,
    "pose": None,
}


def _speech(workspace: Workspace, seconds: float, job: dict[str, Any] | None = None) -> SpeechFolder:
    """A speech of so many seconds: a click in the left channel at 0.1 s, silence in the right."""
    folder = workspace.speech("hello-0123abcd")
    folder.root.mkdir(parents=True, exist_ok=True)
    samples = np.zeros((round(seconds * RATE_HZ), 2), np.int16)
    samples[RATE_HZ // 10 : RATE_HZ // 10 + 400, 0] = 20_000
    with wave.open(str(folder.source), "wb") as stream:
        stream.setnchannels(2)
        stream.setsampwidth(2)
        stream.setframerate(RATE_HZ)
        stream.writeframes(samples.tobytes())
    make_features(math.ceil(seconds * 50), seed=3).save(folder.features)
    save_json(folder.job, {**JOB, **(job or {})})
    return folder


def _render(workspace: Workspace, folder: SpeechFolder, settings: RenderSettings | None = None) -> dict[str, Any]:
    inputs = render.Inputs(
        folder.job,
        folder.source,
        folder.features,
        workspace.head,
        workspace.torso,
        workspace.background,
        workspace.track,
    )
    outputs = render.Outputs(folder.video, folder.summary)
    render.run(inputs, outputs, settings or RenderSettings(sign=False), backend="reference")
    summary: dict[str, Any] = json.loads(folder.summary.read_text())
    return summary


def _pictures(path: Path) -> list[NDArray[np.uint8]]:
    info = probe(path)
    return list(read_video(info, [], (info.width, info.height)))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A tiny subject."""
    return make_subject(tmp_path_factory.mktemp("subjects") / "tiny")


@pytest.mark.parametrize(("seconds", "frames"), [(1.0, 25), (1.01, 26), (0.22, 6)])
def test_a_video_has_as_many_frames_as_its_sound_lasts(subject: Workspace, seconds: float, frames: int) -> None:
    folder = _speech(subject, seconds)
    summary = _render(subject, folder)
    assert summary["frames"] == len(_pictures(folder.video)) == frames
    assert summary["duration_s"] == frames / 25
    assert summary["seconds"] > 0
    assert summary["peak_rss_mb"] > 10
    assert (summary["width"], summary["height"]) == (SIZE_PX, SIZE_PX)


def test_the_sound_is_the_users_own_in_stereo_and_begins_with_the_picture(subject: Workspace) -> None:
    folder = _speech(subject, 1.0)
    _render(subject, folder)
    info = probe(folder.video)
    assert (info.video_codec, info.audio_codec, info.pixel_format) == ("h264", "aac", "yuv420p")
    assert info.channel_layout == "stereo"
    assert info.sample_rate_hz == 48_000
    assert info.fps == 25
    sound = decode_audio(folder.video, 48_000, 2)
    loud = np.flatnonzero(np.abs(sound[:, 0]) > 0.3)
    assert loud[0] / 48_000 == pytest.approx(0.1, abs=0.002)
    assert np.abs(sound[:, 1]).max() < 0.05


def test_the_video_says_in_its_metadata_and_its_manifest_that_it_is_synthetic(
    subject: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = _speech(subject, 0.4)
    assert _render(subject, folder, RenderSettings(sign=True))["signed"] is True
    told = read_provenance(folder.video)
    assert told is not None
    assert told.intact
    assert told.synthetic
    assert (told.subject, told.consent) == ("tiny", "It is nobody.")
    assert b"Synthetic media" in folder.video.read_bytes()
    _render(subject, folder, RenderSettings(sign=False))
    assert read_provenance(folder.video) is None


def test_a_colour_stands_behind(subject: Workspace) -> None:
    folder = _speech(subject, 0.2, {"background_colour": [250, 10, 20], "size_px": 32})
    assert _render(subject, folder)["width"] == 32
    corner = _pictures(folder.video)[0][2:6, 2:6].reshape(-1, 3).mean(axis=0)
    untrained = _speech(subject, 0.2, {"size_px": 32})
    _render(subject, untrained)
    own = _pictures(untrained.video)[0][2:6, 2:6].reshape(-1, 3).mean(axis=0)
    # The untrained torso covers about half of everything.
    assert corner[0] > own[0] + 60


@pytest.mark.parametrize("eyes", [None, "clip", "sequence", 0.25, "auto"])
def test_eyes_are_fixed_or_follow_the_clip_or_blink_anew(
    subject: Workspace, monkeypatch: pytest.MonkeyPatch, eyes: float | str | None
) -> None:
    told: list[float] = []
    condition = HeadModel.condition

    def listen(
        head: HeadModel,
        code: torch.Tensor,
        mouth: torch.Tensor,
        eye: torch.Tensor,
        *,
        brow: torch.Tensor,
        clip_frame: float,
    ) -> Condition:
        told.append(float(eye))
        return condition(head, code, mouth, eye, brow=brow, clip_frame=clip_frame)

    monkeypatch.setattr(HeadModel, "condition", listen)
    sometime = BlinkStyle(rate_per_min=120, spread=0.01)
    monkeypatch.setattr(render, "learn_style", lambda *_: sometime)
    monkeypatch.setattr(render, "load_activity", lambda _, frames: np.ones(frames))
    _render(subject, _speech(subject, 1.2, {"eyes": eyes, "size_px": 16}))
    motion = own_motion(Track.load(subject.track))
    if eyes == 0.25:
        assert told == pytest.approx([0.25] * 30)
    elif eyes == "auto":
        begins = draw_blinks(sometime, 30, load_job(subject.speech("hello-0123abcd").job).seed)
        assert told == pytest.approx(without_blinks(motion.eye_open)[0] * (1 - closures(sometime, begins, 30)))
        assert min(told) < 0.3
    else:
        places = plan_places(motion, 30)
        assert told == pytest.approx(np.interp(places, np.arange(len(motion.eye_open)), motion.eye_open))


def test_a_view_turns_the_head_and_leaves_the_torso(subject: Workspace) -> None:
    seen: dict[str, torch.Tensor] = {}
    with pytest.MonkeyPatch.context() as patch:

        def paint(*arguments: Any) -> torch.Tensor:
            seen["head"], seen["torso"] = arguments[4].rotation, arguments[5].rotation
            return torch.zeros(SIZE_PX, SIZE_PX, 3, dtype=torch.uint8)

        patch.setattr(scene, "paint_portrait", paint)
        _render(subject, _speech(subject, 0.04, {"view_deg": [10.0, -5.0]}))
    pose = perform(own_motion(Track.load(subject.track)), 1).pose(0).rotation
    torch.testing.assert_close(seen["head"], pose @ yaw_pitch_rotation(10, -5))
    torch.testing.assert_close(seen["torso"], pose)


def test_rendering_is_deterministic_whatever_was_left_behind(subject: Workspace) -> None:
    folder = _speech(subject, 0.3)
    (folder.root / ".rendering-killed").mkdir()
    _render(subject, folder)
    assert not (folder.root / ".rendering-killed").exists()
    first = _pictures(folder.video)
    _render(subject, folder)
    np.testing.assert_array_equal(first, _pictures(folder.video))


def test_a_picture_and_another_subjects_motion_go_into_the_video(
    subject: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes: list[render._Scene] = []
    monkeypatch.setattr(render, "_write", lambda *values: scenes.append(values[4]))
    files = {
        key: {"file": name, "sha256": "0" * 64}
        for key, name in (("background_image", "background"), ("pose", "pose.npz"))
    }
    folder = _speech(subject, 0.2, files)
    (folder.root / "background").write_bytes(encode_png(np.full((9, 30, 3), (255, 0, 51), np.uint8)))
    other = make_track(frames=60, distance_cm=80.0, eye_open=0.5)
    other.save(folder.root / "pose.npz")
    _render(subject, folder)
    own = Track.load(subject.track)
    torch.testing.assert_close(scenes[0].background[0, 0], torch.tensor([1.0, 0.0, 0.2]))
    assert scenes[0].background.shape == (SIZE_PX, SIZE_PX, 3)
    assert scenes[0].performance.eyes.max() == 0.5
    np.testing.assert_array_equal(scenes[0].performance.motion.rotation, borrowed_motion(own, other).rotation)


def test_a_failure_leaves_no_video_and_nothing_half_made(subject: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _speech(subject, 1.0)
    before = set(folder.root.iterdir()) - {folder.video, folder.summary}
    folder.video.unlink(missing_ok=True)
    folder.summary.unlink(missing_ok=True)
    frame = render._Scene.frame

    def fail_later(scene: render._Scene, index: int, code: torch.Tensor, mouth: torch.Tensor) -> NDArray[np.uint8]:
        if index == 20:
            raise KeyboardInterrupt
        return frame(scene, index, code, mouth)

    monkeypatch.setattr(render._Scene, "frame", fail_later)
    with pytest.raises(KeyboardInterrupt):
        _render(subject, folder)
    assert set(folder.root.iterdir()) == before


def test_another_front_end_is_refused(subject: Workspace) -> None:
    folder = _speech(subject, 0.2)
    make_features(10, front_end="hubert").save(folder.features)
    with pytest.raises(BadInput, match="hubert"):
        _render(subject, folder)


def test_hearing_in_stretches_is_hearing_the_whole(subject: Workspace, tmp_path: Path) -> None:
    head, _ = load_head(subject.head, "reference")
    stored = make_features(401, seed=5)
    stored.save(tmp_path / "features.npz")
    frames = 201
    code, mouth = head.hear(head.standardised(torch.from_numpy(stored.values)), torch.arange(frames))
    with open_features(tmp_path / "features.npz") as features:
        assert features.frames == frames
        assert (features.front_end, features.model) == ("logmel", "")
        parts = [hear(head, features, first, min(first + 30, frames)) for first in range(0, frames, 30)]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), code, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), mouth, atol=1e-5, rtol=1e-4)


def test_pictures_may_outlast_their_sound(subject: Workspace, tmp_path: Path) -> None:
    head, _ = load_head(subject.head, "reference")
    stored = make_features(40, seed=5)
    stored.save(tmp_path / "features.npz")
    whole, _ = head.hear(head.standardised(torch.from_numpy(stored.values)), torch.arange(100, 110))
    with open_features(tmp_path / "features.npz") as features:
        code, _ = hear(head, features, 100, 110)
    torch.testing.assert_close(code, whole)


def test_damaged_features_are_told(subject: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    with pytest.raises(BadInput, match="missing"), open_features(path):
        pass
    path.write_bytes(b"no zip")
    with pytest.raises(BadInput, match="damaged"), open_features(path):
        pass
    values = np.full((100, 8), np.nan, np.float32)
    np.savez(path, values=values, level_db=values[:, 0], front_end="logmel", model="")
    head, _ = load_head(subject.head, "reference")
    with pytest.raises(BadInput, match="finite"), open_features(path) as features:
        hear(head, features, 0, 10)
    with pytest.raises(BadInput, match="finite"):
        AudioFeatures.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eyse": 1}, "unknown key 'eyse'"),
        ({"format": 2}, "format 2"),
        ({"eyes": 1.5}, "eyes is 1.5"),
        ({"eyes": True}, "eyes is True"),
        ({"view_deg": [1]}, r"view_deg is \[1\]"),
        ({"view_deg": [0, 200]}, "view_deg"),
        ({"size_px": -2}, "size_px is -2"),
        ({"size_px": 64.0}, "size_px is 64.0"),
        ({"background_colour": [1, 2]}, "background_colour"),
        ({"background_colour": [1, 2, 256]}, "background_colour"),
        ({"background_colour": "blurple"}, "'blurple' is no colour"),
        ({"background_image": "studio.png"}, "background_image"),
        ({"background_image": {"file": "../../x"}}, "not a file beside it"),
        ({"background_image": {"file": ".."}}, "not a file beside it"),
        ({"pose": {"file": "pose.npz", "sha256": ""}}, "missing"),
        ({"subject": 3}, "subject is 3"),
    ],
)
def test_a_bad_job_is_refused_by_name(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    save_json(tmp_path / "job.json", {**JOB, **change})
    with pytest.raises(BadInput, match=words):
        load_job(tmp_path / "job.json")


def test_a_good_job_is_read(tmp_path: Path) -> None:
    (tmp_path / "background").write_bytes(b"x")
    save_json(
        tmp_path / "job.json",
        {**JOB, "eyes": 1, "view_deg": [3, -4.5], "background_image": {"file": "background", "sha256": "ab"}},
    )
    job = load_job(tmp_path / "job.json")
    assert (job.eyes, job.view_deg, job.background_image) == (1.0, (3.0, -4.5), tmp_path / "background")
    save_json(tmp_path / "job.json", {"format": 1, "subject": "tiny"})
    assert load_job(tmp_path / "job.json").background_colour is None


@pytest.mark.parametrize(
    ("text", "colour"),
    [("#204060", (32, 64, 96)), ("#FFF", (255, 255, 255)), ("SteelBlue", (70, 130, 180)), (" red ", (255, 0, 0))],
)
def test_colours_are_read(text: str, colour: tuple[int, int, int]) -> None:
    assert parse_colour(text) == colour


def test_every_name_is_a_colour_and_other_words_are_not() -> None:
    assert all(len(parse_colour(name)) == 3 for name in CSS_COLOURS)
    for text in ("", "#12", "#12345g", "204060", "rgb(1,2,3)"):
        with pytest.raises(BadInput, match="no colour"):
            parse_colour(text)
    with pytest.raises(BadInput, match="steelblue"):
        parse_colour("stelblue")


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20), (30, 30)])
def test_a_picture_covers_the_frame_from_its_middle(tmp_path: Path, height: int, width: int) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    picture[top : top + side, left : left + side] = (10, 200, 30)
    (tmp_path / "picture").write_bytes(encode_png(picture))
    assert (picture_background(tmp_path / "picture", 40) == (10, 200, 30)).all()
    assert (plain_background((1, 2, 3), 4) == (1, 2, 3)).all()


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"text"):
        (tmp_path / "picture").write_bytes(data)
        with pytest.raises(BadInput):
            picture_background(tmp_path / "picture", 40)


def test_the_own_background_is_the_clips(subject: Workspace) -> None:
    background = cv2.imread(str(subject.background))
    assert background is not None
    job = load_job(_speech(subject, 0.1).job)
    np.testing.assert_array_equal(render._background(job, subject.background, SIZE_PX), background[..., ::-1])

"""What looks odd and is fine: it is taken, by the same first look that refuses what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages import audio, frames, media
from stages.formats import SAMPLE_RATE_HZ
from stages.vision import faces
from tests.bad_inputs import (
    FACE_FRAMES,
    FACE_PX,
    Bytes,
    Clips,
    drawn_faces,
    encode,
    ffmpeg,
    make_clips,
    talking,
    voice,
    write_float_wav,
    write_wav,
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return make_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module", autouse=True)
def _one_finder() -> Iterator[None]:
    """Load the detectors once for all videos, and look at four pictures of each."""
    finder = faces.FaceFinder()
    leave = faces.FaceFinder.__exit__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "FaceFinder", lambda: finder)
        patch.setattr(faces.FaceFinder, "__exit__", lambda *_: None)
        patch.setattr(frames, "_CHECK_PICTURES", 4)
        yield
    leave(finder)


CONVERTED: list[tuple[str, str, tuple[str, ...]]] = [
    ("10 bits", "a.mkv", ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le")),
    ("full chroma", "a.mkv", ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p")),
    ("alpha", "a.mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
    ("VP9 in WebM", "a.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")),
    ("MPEG-4 in AVI", "a.avi", ("-c:v", "mpeg4", "-q:v", "3", "-c:a", "libmp3lame")),
    ("transport stream", "a.ts", ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac")),
    ("Motion JPEG", "a.mov", ("-c:v", "mjpeg", "-q:v", "3", "-c:a", "pcm_s16le")),
    ("odd size", "a.mkv", ("-vf", "scale=151:147", "-c:v", "ffv1", "-c:a", "copy")),
    ("grey", "a.mkv", ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "gray")),
    ("interlaced", "a.mkv", ("-vf", "setfield=tff", "-c:v", "libx264", "-preset", "ultrafast", "-flags",
                             "+ilme+ildct")),
    ("wide pixels", "a.mkv", ("-vf", "scale=80:160,setsar=2/1", "-c:v", "libx264", "-preset", "ultrafast")),
    ("HDR", "a.mkv", ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-color_trc", "smpte2084",
                      "-color_primaries", "bt2020", "-colorspace", "bt2020nc")),
    ("240 pictures a second", "a.mkv", ("-r", "240", "-c:v", "libx264", "-preset", "ultrafast")),
    ("12 pictures a second", "a.mkv", ("-r", "12", "-c:v", "libx264", "-preset", "ultrafast")),
    ("variable rate", "a.mkv", ("-vf", "select='not(between(mod(n,9),2,4))'", "-fps_mode", "vfr", "-c:v", "libx264",
                                "-preset", "ultrafast")),
    ("two sounds", "a.mkv", ("-map", "0:v", "-map", "0:a", "-map", "0:a", "-c", "copy")),
    ("5.1 sound", "a.mkv", ("-c:v", "copy", "-af", "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0", "-c:a", "aac")),
    ("8-bit sound", "a.avi", ("-c:v", "mpeg4", "-q:v", "3", "-c:a", "pcm_u8")),
    ("float sound", "a.mkv", ("-c:v", "copy", "-c:a", "pcm_f32le")),
    ("sound at 8 kHz", "a.mkv", ("-c:v", "copy", "-ar", "8000", "-c:a", "pcm_s16le")),
    ("clipped sound", "a.mkv", ("-c:v", "copy", "-af", "volume=40dB", "-c:a", "pcm_s16le")),
    ("no ending", "clip", ("-c", "copy", "-f", "matroska")),
    ("wrong ending", "a.txt", ("-c", "copy", "-f", "matroska")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), [case[1:] for case in CONVERTED], ids=[case[0] for case in CONVERTED])
def test_any_form_of_a_good_clip_is_taken(clips: Clips, tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = tmp_path / name
    ffmpeg("-i", clips.face, *options, path)
    info = frames.check(path)
    assert info.duration_s == pytest.approx(3.6, abs=0.15)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_clip_is_taken_upright(clips: Clips, tmp_path: Path, turn: int) -> None:
    lying, path = tmp_path / "lying.mp4", tmp_path / "turned.mp4"
    transposed = {90: "transpose=1", 180: "hflip,vflip", 270: "transpose=2"}[turn]
    ffmpeg("-i", clips.face, "-vf", transposed, "-preset", "ultrafast", "-c:a", "aac", lying)
    ffmpeg("-display_rotation", str(turn), "-i", lying, "-c", "copy", path)
    assert frames.check(path).rotation_deg == (360 - turn) % 360


def _hand() -> Bytes:
    """A hand before the mouth for half a second."""
    found = talking()
    for picture in found[40:52]:
        cv2.ellipse(picture, (80, 100), (22, 16), 20, 0, 360, (225, 175, 150), -1)
    return found


def _glasses() -> Bytes:
    found = talking()
    for picture in found:
        for x in (68, 92):
            cv2.circle(picture, (x, 62), 10, (20, 20, 20), 2)
        cv2.line(picture, (78, 62), (82, 62), (20, 20, 20), 2)
    return found


def _quarter_view() -> Bytes:
    found = talking()
    found[30:60] = drawn_faces()[12]
    return found


def _flash() -> Bytes:
    """Someone takes a photograph."""
    found = talking()
    found[33:35] = 255
    return found


def _small_in_a_big_picture() -> Bytes:
    found = np.full((FACE_FRAMES, 360, 640, 3), (90, 110, 120), np.uint8)
    found[:, 100 : 100 + FACE_PX, 400 : 400 + FACE_PX] = talking()
    return found


def _dim() -> Bytes:
    return (talking() * 0.35).astype(np.uint8)


@pytest.mark.parametrize("draw", [_hand, _glasses, _quarter_view, _flash, _small_in_a_big_picture, _dim])
def test_a_face_that_is_mostly_seen_is_taken(clips: Clips, tmp_path: Path, draw: Callable[[], Bytes]) -> None:
    path = encode(tmp_path / "a.mkv", draw(), "-qp", "12", sound=clips.speech)
    frames.check(path)


def test_music_in_place_of_speech_is_taken(clips: Clips, tmp_path: Path) -> None:
    """What is sung or played cannot be told from speech for sure, so nobody is turned away for it."""
    time = np.arange(4 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (262, 330, 392)) / 6
    music = write_wav(tmp_path / "music.wav", chord.astype(np.float32))
    path = tmp_path / "a.mkv"
    ffmpeg("-i", clips.face, "-i", music, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    frames.check(path)
    assert audio.check(music) == pytest.approx(4.0, abs=0.01)


SOUNDS: list[tuple[str, str, tuple[str, ...]]] = [
    ("8 bits", "a.wav", ("-c:a", "pcm_u8")),
    ("24 bits", "a.wav", ("-c:a", "pcm_s24le")),
    ("float", "a.wav", ("-c:a", "pcm_f32le")),
    ("double", "a.wav", ("-c:a", "pcm_f64le")),
    ("A-law", "a.wav", ("-ar", "8000", "-c:a", "pcm_alaw")),
    ("5.1", "a.wav", ("-af", "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0")),
    ("192 kHz", "a.wav", ("-ar", "192000")),
    ("4 kHz", "a.wav", ("-ar", "4000")),
    ("MP3", "a.mp3", ()),
    ("Opus", "a.opus", ("-c:a", "libopus")),
    ("FLAC", "a.flac", ()),
    ("AAC", "a.m4a", ("-c:a", "aac")),
    ("clipped", "a.wav", ("-af", "volume=40dB")),
    ("quiet", "a.wav", ("-af", "volume=-25dB")),
]


@pytest.mark.parametrize(("name", "options"), [case[1:] for case in SOUNDS], ids=[case[0] for case in SOUNDS])
def test_any_form_of_a_speech_is_taken(clips: Clips, tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = tmp_path / name
    ffmpeg("-i", clips.speech, *options, path)
    assert audio.check(path) == pytest.approx(4.0, abs=0.1)


def test_a_sample_that_is_no_number_is_silence(tmp_path: Path) -> None:
    samples = voice(1.0)
    samples[5000:5003] = np.nan, np.inf, -np.inf
    path = write_float_wav(tmp_path / "a.wav", samples)
    assert audio.check(path) == pytest.approx(1.0)
    assert np.isfinite(media.decode_audio(path, SAMPLE_RATE_HZ)).all()


def test_a_film_can_be_a_speech(clips: Clips) -> None:
    assert audio.check(clips.face) == pytest.approx(3.6, abs=0.1)

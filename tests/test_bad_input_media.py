"""Files that are no usable video, or no usable sound: one line, exit code 2, and nothing is written."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.bad_inputs import Clips, assert_one_line, ffmpeg, make_clips, snapshot, voice, write_float_wav, write_wav
from tests.cli_harness import Shell, fabricate, shell

__all__ = ["shell"]

Make = Callable[[Clips, Path], None]
"""Writes the bad file to a path."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return make_clips(tmp_path_factory.mktemp("clips"))


def _content(data: bytes) -> Make:
    return lambda _, path: path.write_bytes(data) and None


def _from_pattern(*options: str) -> Make:
    return lambda clips, path: ffmpeg("-i", clips.pattern, *options, path)


def _cut(container: str, keep: float, *options: str) -> Make:
    """A file of which only the beginning was copied."""

    def make(clips: Clips, path: Path) -> None:
        whole = path.with_name(f"whole.{container}")
        ffmpeg("-i", clips.pattern, "-c:v", "libx264", "-preset", "ultrafast", *options, whole)
        data = whole.read_bytes()
        whole.unlink()
        path.write_bytes(data[: int(keep * len(data))])

    return make


def _patched(old: bytes, new: bytes) -> Make:
    """A file in which some bytes are others."""

    def make(clips: Clips, path: Path) -> None:
        ffmpeg("-i", clips.pattern, "-c:v", "libx264", "-preset", "ultrafast", path)
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))

    return make


def _archive(_: Clips, path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("word/document.xml", "<w/>" * 200)
    path.write_bytes(data.getvalue())


def _picture(clips: Clips, path: Path) -> None:
    made = path.with_name("made.png")
    ffmpeg("-i", clips.pattern, "-frames:v", "1", made)
    made.replace(path)


def _scrambled(clips: Clips, path: Path) -> None:
    """Bought or rented films come like this."""
    key = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "00" * 15 + "01", "-encryption_kid", "00" * 16)
    ffmpeg("-i", clips.pattern, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", *key, path)


def _two_seconds_of_sound(clips: Clips, path: Path) -> None:
    ffmpeg("-i", clips.pattern, "-af", "atrim=end=1.5", "-c:v", "copy", "-c:a", "pcm_s16le", path)


def _level(db: float) -> Make:
    sound = f"volume={db}dB"
    return _from_pattern("-af", sound, "-c:v", "copy", "-c:a", "pcm_s16le")


def _all_nan(clips: Clips, path: Path) -> None:
    nan = write_float_wav(path.with_name("nan.wav"), np.full(4 * 16_000, np.nan, np.float32))
    ffmpeg("-i", clips.pattern, "-i", nan, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "pcm_f32le", path)
    nan.unlink()


def _huge(_: Clips, path: Path) -> None:
    source = ("-f", "lavfi", "-i", "color=gray:s=20000x64:d=4:r=10", "-f", "lavfi", "-i", "sine=d=4")
    ffmpeg(*source, "-c:v", "mjpeg", "-q:v", "31", path)


def _link_to_itself(_: Clips, path: Path) -> None:
    path.symlink_to(path.name)


def _no_frames(clips: Clips, path: Path) -> None:
    ffmpeg("-i", clips.pattern, "-c:v", "libx264", "-bsf:v", "noise=drop=1", "-c:a", "aac", path)


VIDEOS: list[tuple[str, str, Make | None, str]] = [
    # kind, file name, how it is made, what is said
    ("missing", "none.mp4", None, "there is no file none.mp4 (check the name)"),
    ("empty", "a.mp4", _content(b""), "a.mp4 is empty (give another file)"),
    ("folder", "a.mp4", lambda _, path: path.mkdir(), "a.mp4 is a folder (give a file)"),
    ("pipe", "a.mp4", lambda _, path: os.mkfifo(path), "a.mp4 is no ordinary file (give a file)"),
    ("link to itself", "a.mp4", _link_to_itself, "there is no file a.mp4"),
    ("link to nothing", "a.mp4", lambda _, path: path.symlink_to("gone.mp4"), "there is no file a.mp4"),
    ("text", "a.mp4", _content(b"hello, I am text\n" * 50), "a.mp4 is not a media file"),
    ("web page", "a.mp4", _content(b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 9),
     "a.mp4 is not a media file"),
    ("random bytes", "a.mov", _content(np.random.default_rng(0).bytes(5000)), "a.mov is not a media file"),
    ("zeros", "a.mp4", _content(bytes(10_000)), "a.mp4 is not a media file"),
    ("document", "a.mp4", _archive, "a.mp4 is not a media file"),
    ("subtitles", "a.srt", _content(b"1\n00:00:01,000 --> 00:00:02,000\nhello\n"), "a.srt "),
    ("playlist", "a.m3u8", _content(b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile:///etc/passwd\n"
                                    b"#EXT-X-ENDLIST\n"), "a.m3u8 is not a media file"),
    ("list of files", "a.mp4", _content(b"ffconcat version 1.0\nfile '/etc/passwd'\n"), "a.mp4 is not a media file"),
    ("still picture", "a.png", _picture, "a.png is a picture, not a video (give a video"),
    ("picture with a wrong ending", "a.mp4", _picture, "a.mp4 is a picture, not a video (give a video"),
    ("MP4 cut before its index", "a.mp4", _cut("mp4", 0.6), "a.mp4 was never finished: its index is missing (copy"),
    ("MP4 cut in its data", "a.mp4", _cut("mp4", 0.5, "-movflags", "+faststart"), "the "),
    ("MKV cut in its header", "a.mkv", _cut("mkv", 0.005), "a.mkv "),
    ("MKV cut after a second", "a.mkv", _cut("mkv", 0.3, "-c:a", "copy"), "the video in a.mkv breaks off after 1."),
    ("unknown codec", "a.mp4", _patched(b"avc1", b"zzzz"), "the video in a.mp4 cannot be decoded ("),
    ("encrypted", "a.mp4", _scrambled, "the sound in a.mp4 cannot be decoded ("),
    ("no frame", "a.mp4", _no_frames, "a.mp4 has no video stream"),
    ("one frame", "a.mkv", _from_pattern("-frames:v", "1", "-c:a", "copy"), "a.mkv is 0.0 s long; at least 3 s"),
    ("a second", "a.mp4", _from_pattern("-t", "1"), "a.mp4 is 1.0 s long; at least 3 s"),
    ("no sound", "a.mp4", _from_pattern("-an"), "a.mp4 has no audio stream (give"),
    ("animated GIF", "a.gif", _from_pattern("-an"), "a.gif has no audio stream (give"),
    ("bare H.264", "a.h264", _from_pattern("-an", "-c:v", "libx264"), "a.h264 has no audio stream"),
    ("sound alone", "a.wav", _from_pattern("-vn"), "a.wav has no video stream (give a video"),
    ("sound with a film's ending", "a.mp4", _from_pattern("-vn", "-f", "mp3"), "a.mp4 has no video stream"),
    ("silent sound", "a.mkv", _level(-200), "the sound of a.mkv is silent (give"),
    ("hiss", "a.mkv", _level(-75), "the sound of a.mkv is silent (give"),
    ("sound of NaN", "a.mkv", _all_nan, "the sound of a.mkv is silent (give"),
    ("half a frame a second", "a.mkv", _from_pattern("-r", "0.5", "-c:a", "copy"), "a.mkv shows 0.5 pictures a second"),
    ("three frames a second", "a.mkv", _from_pattern("-r", "3", "-c:a", "copy"), "a.mkv shows 3 pictures a second"),
    ("thumbnail", "a.mkv", _from_pattern("-s", "32x24", "-c:a", "copy"), "a.mkv is 36x24 pixels small (give"),
    ("huge", "a.avi", _huge, "a.avi is 20000x64 pixels big"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "words"), [case[1:] for case in VIDEOS], ids=[case[0] for case in VIDEOS])
def test_what_is_no_usable_video_is_refused(
    shell: Shell, clips: Clips, name: str, make: Make | None, words: str, record_property: Callable[[str, object], None]
) -> None:
    if make is not None:
        make(clips, shell.home / name)
    before = snapshot(shell.home)
    answer = shell("prepare", name, "--quiet")
    written = snapshot(shell.home).new_since(before)
    record_property("files_written", len(written))
    assert_one_line(answer, words)
    assert written == []


def _wav(seconds: float) -> Make:
    return lambda _, path: write_wav(path, voice(seconds)) and None


def _headless_wav(_: Clips, path: Path) -> None:
    write_wav(path, voice(1.0))
    path.write_bytes(path.read_bytes()[44:])


SOUNDS: list[tuple[str, str, Make | None, str]] = [
    ("missing", "none.wav", None, "there is no file none.wav (check the name)"),
    ("empty", "a.wav", _content(b""), "a.wav is empty (give another file)"),
    ("folder", "a.wav", lambda _, path: path.mkdir(), "a.wav is a folder (give a file)"),
    ("text", "a.wav", _content(b"Good evening.\n" * 20), "a.wav is not a media file"),
    ("picture", "a.png", _picture, "a.png is a picture, not a video"),
    ("video without sound", "a.mp4", _from_pattern("-an"), "a.mp4 has no audio stream"),
    ("header alone", "a.wav", _wav(0.0), "the sound in a.wav lasts 0 s (give"),
    ("samples alone", "a.wav", _headless_wav, "a.wav is not a media file"),
    ("a tenth of a second", "a.wav", _wav(0.1), "a.wav holds 0.10 s of sound (give at least 0.2 s)"),
    ("silence", "a.wav", lambda _, path: write_wav(path, np.zeros(32_000, np.float32)) and None,
     "a.wav is a speech file with no sound in it"),
    ("NaN", "a.wav", lambda _, path: write_float_wav(path, np.full(32_000, np.nan, np.float32)) and None,
     "a.wav is a speech file with no sound in it"),
    ("infinity", "a.wav", lambda _, path: write_float_wav(path, np.full(32_000, np.inf, np.float32)) and None,
     "a.wav is a speech file with no sound in it"),
    ("FLAC cut short", "a.flac", _cut("flac", 0.4, "-vn"), "the sound in a.flac breaks off after "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "words"), [case[1:] for case in SOUNDS], ids=[case[0] for case in SOUNDS])
def test_what_is_no_usable_speech_is_refused(
    shell: Shell, clips: Clips, name: str, make: Make | None, words: str, record_property: Callable[[str, object], None]
) -> None:
    fabricate(shell.home)
    if make is not None:
        make(clips, shell.home / name)
    before = snapshot(shell.home)
    answer = shell("speak", "anchor", name, "--quiet")
    written = snapshot(shell.home).new_since(before)
    record_property("files_written", len(written))
    assert_one_line(answer, words)
    assert written == []

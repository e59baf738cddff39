"""ffmpeg as streams of arrays: what is in a file, pictures and sound on one timeline, the finished video."""

from __future__ import annotations

import collections
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest

from stages import media
from stages.errors import BadInput, RadnerfError

BITS = 8
BAR_PX = 16


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)], input=data, check=True)


def numbered(count: int) -> bytes:
    """Raw grey frames that show their own number in black and white bars."""
    bits = (np.arange(count)[:, None] >> np.arange(BITS)) & 1
    bars = np.repeat(bits * 255, BAR_PX, axis=1).astype(np.uint8)
    return np.repeat(bars[:, None], 64, axis=1).tobytes()


def number_of(frame: npt.NDArray[np.uint8]) -> int:
    bars = frame[:, :, 1].reshape(frame.shape[0], BITS, BAR_PX).mean(axis=(0, 2)) > 127
    return int((bars << np.arange(BITS)).sum())


def counted(path: Path, fps: float, count: int, *options: str) -> Path:
    raw = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{BITS * BAR_PX}x64", "-r", str(fps), "-i", "pipe:0")
    ffmpeg(*raw, *options, "-c:v", "libx264", "-pix_fmt", "yuv420p", path, data=numbered(count))
    return path


def shown(path: Path, start_s: float = 0.0, max_frames: int | None = None) -> list[int]:
    size = (BITS * BAR_PX, 64)
    frames = media.read_video(media.probe(path), [], size, fps=25, start_s=start_s, max_frames=max_frames)
    return [number_of(frame) for frame in frames]


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30, 50, 60])
def test_resampled_frames_are_the_nearest_in_time(tmp_path: Path, fps: float) -> None:
    path = counted(tmp_path / "rate.mp4", fps, round(4 * fps))
    numbers = shown(path)
    assert abs(len(numbers) - 100) <= 1
    for index, number in enumerate(numbers[:99]):
        assert abs(number / fps - index / 25) <= 0.5 / fps + 0.002, (index, number)


def test_frames_at_25_fps_pass_unchanged(tmp_path: Path) -> None:
    assert shown(counted(tmp_path / "same.mkv", 25, 90)) == list(range(90))


def test_variable_rate_keeps_to_the_clock(tmp_path: Path) -> None:
    kept = [n for n in range(120) if n % 7 not in {2, 3} and not 50 <= n < 56]
    expression = "not(eq(mod(n,7),2)+eq(mod(n,7),3)+between(n,50,55))"
    path = counted(tmp_path / "vfr.mkv", 30, 120, "-vf", f"select='{expression}'", "-fps_mode", "vfr")
    numbers = shown(path)
    assert abs(len(numbers) - 100) <= 1
    for index, number in enumerate(numbers):
        # Of the pictures that there are, the last that has begun, or begins within half a frame.
        following = min((n for n in kept if n > number), default=1000)
        assert number / 30 <= index / 25 + 0.021, index
        assert following / 30 >= index / 25 + 0.016, index


def test_late_picture_is_held_from_time_zero(tmp_path: Path) -> None:
    silent = counted(tmp_path / "silent.mkv", 25, 75)
    path = tmp_path / "late.mkv"
    sound = ("-f", "lavfi", "-i", "sine=d=3.4")
    ffmpeg(*sound, "-itsoffset", "0.4", "-i", silent, "-map", "0:a", "-map", "1:v", "-c:v", "copy", path)
    assert shown(path)[:14] == [0] * 11 + [1, 2, 3]


def test_late_sound_begins_with_silence(tmp_path: Path) -> None:
    picture = counted(tmp_path / "picture.mkv", 25, 75)
    path = tmp_path / "late.mkv"
    sound = ("-itsoffset", "0.5", "-f", "lavfi", "-i", "sine=d=2")
    ffmpeg("-i", picture, *sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "flac", path)
    samples = media.decode_audio(path, 16_000)
    assert np.abs(samples[: 16_000 // 2 - 40]).max() < 1e-4
    assert np.abs(samples[16_000 // 2 + 40 :][:400]).max() > 0.05
    assert len(samples) == pytest.approx(2.5 * 16_000, abs=40)


def test_start_s_begins_there(tmp_path: Path) -> None:
    assert shown(counted(tmp_path / "seek.mp4", 25, 100), start_s=2.0, max_frames=3) == [50, 51, 52]


@pytest.mark.parametrize(
    "name", ["a b.mp4", 'it\'s "quoted".mp4', "-dash.mp4", "新闻 主播.mp4", "a:b.mp4", "50%d [x].mp4", "noending"]
)
def test_any_file_name_works(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(tmp_path / "made.mp4", 25, 10)
    made.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    info = media.probe(Path(name))
    assert (info.width, info.height, info.fps) == (BITS * BAR_PX, 64, 25.0)
    assert shown(Path(name)) == list(range(10))


def test_rotation_flag_is_obeyed(tmp_path: Path) -> None:
    upright = counted(tmp_path / "upright.mp4", 25, 40)
    ffmpeg("-i", upright, "-vf", "transpose=2", tmp_path / "lying.mp4")
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "270", "-i", tmp_path / "lying.mp4", "-c", "copy", turned)
    info = media.probe(turned)
    assert (info.coded_width, info.coded_height, info.rotation_deg) == (64, BITS * BAR_PX, 90)
    assert (info.width, info.height) == (BITS * BAR_PX, 64)
    assert shown(turned) == list(range(40))


def test_pixels_that_are_not_square_are_told(tmp_path: Path) -> None:
    path = counted(tmp_path / "sar.mp4", 25, 10, "-vf", "setsar=4/3")
    info = media.probe(path)
    assert (info.width, info.height, info.coded_width) == (round(128 * 4 / 3), 64, 128)


def test_ten_bits_and_odd_sizes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ten.mkv"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=33x17:d=1:r=25", "-pix_fmt", "yuv444p10le", "-c:v", "libx264", path)
    info = media.probe(path)
    assert (info.width, info.height, info.pixel_format) == (33, 17, "yuv444p10le")
    frame = next(media.read_video(info, [], (33, 17), fps=25))
    assert np.abs(frame.astype(int).mean(axis=(0, 1)) - (254, 0, 0)).max() < 4


def test_cover_picture_is_no_video(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", tmp_path / "cover.jpg")
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "sound.m4a")
    path = tmp_path / "song.m4a"
    cover = ("-i", tmp_path / "cover.jpg", "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic")
    ffmpeg("-i", tmp_path / "sound.m4a", *cover, path)
    info = media.probe(path)
    media.require_audio(info)
    with pytest.raises(BadInput, match="no video stream"):
        media.require_video(info)


def test_video_without_sound_is_told(tmp_path: Path) -> None:
    path = counted(tmp_path / "mute.mp4", 25, 10)
    with pytest.raises(BadInput, match="no audio stream"):
        media.require_audio(media.probe(path))
    with pytest.raises(BadInput, match="no audio stream"):
        media.decode_audio(path, 16_000)


def test_recording_without_duration_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "live.webm"
    source = ("-f", "lavfi", "-i", "testsrc=s=64x64:d=2:r=25")
    ffmpeg(*source, "-c:v", "libvpx", "-f", "webm", "-live", "1", path)
    assert media.probe(path).duration_s == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not exist"), (b"", "is empty"), (b"hello, I am text\n" * 50, "not a media file")],
)
def test_bad_files_get_one_clear_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=words) as caught:
        media.probe(path)
    assert "\n" not in str(caught.value)
    assert str(path) in caught.value.message


def test_directory_and_picture_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a directory"):
        media.probe(tmp_path)
    picture = tmp_path / "still.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", picture)
    with pytest.raises(BadInput, match="a picture, not a video"):
        media.probe(picture)


def test_playlist_is_never_followed(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://localhost:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(BadInput):
        media.probe(path)


def test_broken_stream_names_the_last_good_time(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:d=8:r=25", "-c:v", "libx264", whole)
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    info = media.probe(path)
    with pytest.raises(BadInput, match=r"breaks off after [345]\.\d\d s"):
        collections.deque(media.read_video(info, [], (320, 240), fps=25), maxlen=0)


def test_reading_can_be_given_up_early(tmp_path: Path) -> None:
    frames = media.read_video(media.probe(counted(tmp_path / "long.mp4", 25, 200)), [], (128, 64), fps=25)
    assert number_of(next(frames)) == 0
    frames.close()


def test_streamed_audio_joins_to_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    ffmpeg("-f", "lavfi", "-i", "sine=f=300:r=48000:d=2.5", "-ac", "2", path)
    pieces = list(media.stream_audio(path, 16_000, channels=2, chunk_s=0.4))
    assert [len(piece) for piece in pieces] == [6_400] * 6 + [1_600]
    np.testing.assert_array_equal(np.concatenate(pieces), media.decode_audio(path, 16_000, channels=2))


@pytest.mark.parametrize("channels", [1, 2])
def test_written_video_holds_frames_sound_and_tags(tmp_path: Path, channels: int) -> None:
    speech = tmp_path / "my speech.flac"
    ffmpeg("-f", "lavfi", "-i", "sine=f=440:r=44100:d=1.3", "-ac", str(channels), speech)
    path = tmp_path / "out 'x'.mp4"
    frame = np.zeros((33, 65, 3), np.uint8)
    frame[:, :, 0] = 200
    tags = {"title": "a=b; 'c'", "comment": "ü"}
    with media.VideoWriter(path, (65, 33), 25, audio=speech, length=50, metadata=tags) as writer:
        for _ in range(50):
            writer.write(frame)
    info = media.probe(path)
    assert (info.width, info.height, info.pixel_format, info.video_codec) == (66, 34, "yuv420p", "h264")
    assert (info.audio_codec, info.sample_rate_hz) == ("aac", 48_000)
    assert info.channel_layout == ("mono" if channels == 1 else "stereo")
    read = list(media.read_video(info, [], (66, 34), fps=25))
    assert len(read) == 50
    assert np.abs(read[20].astype(int).mean(axis=(0, 1)) - (200, 0, 0)).max() < 6
    sound = media.decode_audio(path, 48_000)
    assert len(sound) == pytest.approx(2.0 * 48_000, abs=1024)
    assert np.abs(sound[:2000]).max() > 0.05
    assert np.abs(sound[round(1.35 * 48_000) :]).max() < 1e-3
    told = subprocess.run([media.ffmpeg_path(), "-i", path], capture_output=True, text=True, check=False).stderr
    assert "a=b; 'c'" in told


def test_long_sound_is_cut_with_the_picture(tmp_path: Path) -> None:
    speech, path = tmp_path / "long.wav", tmp_path / "out.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=f=440:r=16000:d=3", speech)
    with media.VideoWriter(path, (64, 64), 25, audio=speech, length=25) as writer:
        for _ in range(25):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    assert media.probe(path).duration_s == pytest.approx(1.0, abs=0.03)


def test_sound_of_the_writer_starts_with_the_picture(tmp_path: Path) -> None:
    click = np.zeros(48_000, np.float32)
    click[24_000:24_048] = 0.9
    ffmpeg("-f", "f32le", "-ar", "48000", "-i", "pipe:0", tmp_path / "click.wav", data=click.tobytes())
    path = tmp_path / "click.mp4"
    with media.VideoWriter(path, (64, 64), 25, audio=tmp_path / "click.wav", length=25) as writer:
        for index in range(25):
            writer.write(np.full((64, 64, 3), 255 * (index >= 12), np.uint8))
    sound = media.decode_audio(path, 48_000)
    assert abs(int(np.abs(sound).argmax()) - 24_024) < 96


def test_writer_refuses_other_shapes(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="not uint8"),
        media.VideoWriter(tmp_path / "shape.mp4", (64, 64), 25) as writer,
    ):
        writer.write(np.zeros((32, 64, 3), np.uint8))


def test_writer_says_why_it_failed(tmp_path: Path) -> None:
    def write() -> None:
        with media.VideoWriter(tmp_path / "missing" / "out.mp4", (640, 640), 25) as writer:
            for _ in range(20):
                writer.write(np.zeros((640, 640, 3), np.uint8))

    with pytest.raises(RadnerfError, match="cannot be written"):
        write()

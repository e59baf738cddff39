"""From any video to square frames at 25 fps with their sound, and clear refusals."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from stages import frames, media
from stages.archive import Archive, frame_name
from stages.atomic_files import load_json
from stages.errors import BadInput
from stages.settings import FramesSettings
from stages.vision.clip import load_rgb
from stages.vision.faces import Face, FaceFinder
from stages.vision.framing import FACE_SHARE, choose_crop
from stages.vision.images import Rgb

FAST = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-c:a", "aac")


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="session")
def anchor(german: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s of the news anchor."""
    path = tmp_path_factory.mktemp("anchor") / "anchor.mp4"
    ffmpeg("-ss", "2", "-t", "3", "-i", german, *FAST, path)
    return path


def changed(source: Path, folder: Path, *options: str, name: str = "changed.mp4") -> Path:
    path = folder / name
    ffmpeg("-i", source, *options, *FAST, path)
    return path


def prepare(video: Path, folder: Path, settings: FramesSettings | None = None) -> frames.Outputs:
    outputs = frames.Outputs(folder / "frames.zip", folder / "frames.json", folder / "audio.wav")
    frames.run(frames.Inputs(video), outputs, settings or FramesSettings())
    return outputs


def frame(outputs: frames.Outputs, index: int) -> Rgb:
    with Archive(outputs.frames) as archive:
        return load_rgb(archive, index)


def sound(outputs: frames.Outputs) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    with wave.open(str(outputs.audio)) as stream:
        assert (stream.getframerate(), stream.getnchannels(), stream.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(stream.readframes(stream.getnframes()), np.int16)


def test_framed_clip_is_kept_whole(anchor: Path, tmp_path: Path) -> None:
    outputs = prepare(anchor, tmp_path)
    info = load_json(outputs.info)
    assert (info["frames"], info["fps"], info["size_px"], info["crop"]) == (75, 25, 512, [0, 0, 512])
    assert info["source"]["name"] == "anchor.mp4"
    assert info["source"]["video_codec"] == "h264"
    assert len(sound(outputs)) == 75 * 640
    with Archive(outputs.frames) as archive:
        assert archive.names == {frame_name(i, ".jpg") for i in range(75)}
    source = list(media.read_video(media.probe(anchor), [], (512, 512)))
    for index in (0, 40, 74):
        assert np.abs(frame(outputs, index).astype(int) - source[index]).mean() < 1.5
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_same_video_makes_the_same_files(anchor: Path, tmp_path: Path) -> None:
    settings = FramesSettings(size_px=128, crop=(0, 0, 512))
    first = prepare(anchor, tmp_path / "a", settings)
    second = prepare(anchor, tmp_path / "b", settings)
    for one, other in zip(vars(first).values(), vars(second).values(), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_person_in_a_wide_picture_is_cropped(anchor: Path, tmp_path: Path) -> None:
    wide = changed(anchor, tmp_path, "-vf", "scale=300:300,pad=1280:720:700:200:gray")
    outputs = prepare(wide, tmp_path)
    info = load_json(outputs.info)
    x, y, side = info["crop"]
    assert 300 < side < 420
    assert info["size_px"] == side // 16 * 16
    with FaceFinder() as finder:
        (face,) = finder.find(frame(outputs, 30))
    assert face.height / info["size_px"] == pytest.approx(FACE_SHARE, abs=0.05)
    assert face.centre[0] / info["size_px"] == pytest.approx(0.5, abs=0.06)
    assert 0.35 < face.centre[1] / info["size_px"] < 0.55
    assert 0 <= x <= 1280 - side
    assert 0 <= y <= 720 - side


@pytest.mark.parametrize("where", [(0, 0), (1080, 0), (540, 520)])
def test_small_faces_are_found_anywhere(anchor: Path, where: tuple[int, int]) -> None:
    picture = np.full((720, 1280, 3), 128, np.uint8)
    info = media.probe(anchor)
    small = next(media.read_video(info, frames.picture_filters(info, None, 200, 200), (200, 200)))
    x, y = where
    picture[y : y + 200, x : x + 200] = small
    with FaceFinder() as finder:
        (face,) = finder.find(picture)
    assert face.centre == pytest.approx((x + 105, y + 109), abs=12)
    assert face.height == pytest.approx(98, abs=10)


def test_lying_and_stretched_pictures_come_out_upright(anchor: Path, tmp_path: Path) -> None:
    settings = FramesSettings(size_px=256, crop=(0, 0, 512))
    plain = frame(prepare(anchor, tmp_path / "plain", settings), 20)
    lying = changed(anchor, tmp_path, "-vf", "scale=384:512,setsar=4/3,transpose=2")
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "270", "-i", lying, "-c", "copy", turned)
    outputs = prepare(turned, tmp_path / "turned", settings)
    assert load_json(outputs.info)["source"]["rotation_deg"] == 90
    assert np.abs(frame(outputs, 20).astype(int) - plain).mean() < 4


def test_ten_bit_alpha_and_odd_sizes_come_out_the_same(anchor: Path, tmp_path: Path) -> None:
    settings = FramesSettings(size_px=256, crop=(0, 0, 511))
    plain = frame(prepare(anchor, tmp_path / "plain", settings), 10).astype(int)
    ten = tmp_path / "ten.mkv"
    ffmpeg("-i", anchor, "-pix_fmt", "yuv420p10le", "-c:v", "ffv1", "-c:a", "flac", ten)
    odd = tmp_path / "odd.mkv"
    ffmpeg("-i", anchor, "-vf", "format=bgra,crop=511:511:0:0", "-pix_fmt", "bgra", "-c:v", "ffv1", "-c:a", "flac", odd)
    for video in (ten, odd):
        assert np.abs(frame(prepare(video, tmp_path / video.stem, settings), 10) - plain).mean() < 2.5


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_comes_out_as_it_looks_in_sdr(anchor: Path, tmp_path: Path, transfer: str) -> None:
    if not media.has_filters("zscale", "tonemap"):
        pytest.skip("this ffmpeg has no zscale and tonemap")
    graded = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv,scale=256:256"
    to_hdr = f"zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt2020,zscale=t={transfer}:m=bt2020nc:r=tv:npl=203"
    sdr, hdr = tmp_path / "sdr.mkv", tmp_path / "hdr.mkv"
    ffmpeg("-t", "0.2", "-i", anchor, "-vf", graded, "-c:v", "ffv1", "-c:a", "copy", sdr)
    ffmpeg("-i", sdr, "-vf", to_hdr, "-pix_fmt", "yuv420p10le", "-c:v", "ffv1", "-c:a", "copy", hdr)
    pictures = []
    for path in (sdr, hdr):
        info = media.probe(path)
        pictures.append(next(media.read_video(info, frames.picture_filters(info, None, 128, 128), (128, 128))))
    assert media.probe(hdr).transfer == transfer
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < 12
    assert np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1] > 0.98


def test_interlaced_video_is_deinterlaced(tmp_path: Path) -> None:
    video = tmp_path / "inter.mpg"
    combed = "scale=s=360x288,tinterlace=interleave_top,fieldorder=tff"
    flags = ("-flags", "+ildct+ilme", "-c:v", "mpeg2video", "-b:v", "4M")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=360x288:r=50:d=1", "-vf", combed, *flags, video)
    info = media.probe(video)
    assert info.interlaced
    filters = frames.picture_filters(info, None, 360, 288)
    assert filters[0][0] == "yadif"
    with_it, without = (next(media.read_video(info, chain, (360, 288))) for chain in (filters, filters[1:]))
    combing = [np.abs(np.diff(p[:, :, 1].astype(int), 2, axis=0)).mean() for p in (with_it, without)]
    assert combing[0] < 0.9 * combing[1]


def test_short_sound_ends_the_clip(anchor: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.mp4"
    ffmpeg("-stream_loop", "1", "-i", anchor, "-c", "copy", long)
    short = changed(long, tmp_path, "-af", "atrim=0:4")
    outputs = prepare(short, tmp_path, FramesSettings(size_px=128, crop=(0, 0, 512)))
    info = load_json(outputs.info)
    assert 100 <= info["frames"] <= 106
    assert len(sound(outputs)) == info["frames"] * 640


def test_high_frame_rate_keeps_sound_and_picture_together(tmp_path: Path) -> None:
    """A flash and a click at 1.6 s of a 30 fps video meet in the prepared clip."""
    video = tmp_path / "flash.mp4"
    flash = "color=black:s=256x256:r=30:d=4,drawbox=c=white:t=fill:enable='gte(t,1.6)'"
    click = "aevalsrc='if(gte(t,1.6),0.5*sin(2000*t),0)':d=4:s=44100"
    ffmpeg("-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", click, *FAST, video)
    outputs = prepare(video, tmp_path, FramesSettings(size_px=128, crop=(0, 0, 256)))
    bright = [frame(outputs, index).mean() > 128 for index in range(100)]
    assert bright.index(True) == 40
    loud = int((np.abs(sound(outputs).astype(int)) > 3000).argmax())
    assert loud / 16_000 == pytest.approx(1.6, abs=0.005)


def refusal(video: Path, settings: FramesSettings | None = None) -> str:
    before = sorted(video.parent.iterdir()) if video.parent.exists() else []
    with pytest.raises(BadInput) as caught:
        frames.check(video, settings)
    assert sorted(video.parent.iterdir()) == before
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_check_passes_a_good_clip(anchor: Path) -> None:
    info = frames.check(anchor)
    assert (info.width, info.height) == (512, 512)
    assert info.duration_s == pytest.approx(3.0, abs=0.05)


def test_check_refuses_a_picture_without_a_face(anchor: Path, tmp_path: Path) -> None:
    source = ("-f", "lavfi", "-i", "testsrc=d=4:s=320x240:r=25")
    ffmpeg(*source, "-i", anchor, "-map", "0:v", "-map", "1:a", *FAST, tmp_path / "noface.mp4")
    assert "no face is found" in refusal(tmp_path / "noface.mp4")


def test_check_refuses_two_faces_unless_cropped(anchor: Path, katie: Path, tmp_path: Path) -> None:
    video = tmp_path / "two.mp4"
    ffmpeg("-i", anchor, "-t", "3", "-i", katie, "-filter_complex", "[0:v][1:v]hstack", "-map", "0:a", *FAST, video)
    assert "two faces" in refusal(video)
    frames.check(video, FramesSettings(crop=(512, 0, 512)))


def test_check_refuses_a_face_that_is_hardly_there(anchor: Path, tmp_path: Path) -> None:
    video = changed(anchor, tmp_path, "-vf", "drawbox=c=gray:t=fill:enable='gt(t,0.8)'")
    assert "in only" in refusal(video)


def test_check_refuses_short_silent_and_mute_clips(anchor: Path, tmp_path: Path) -> None:
    assert "at least 3 s" in refusal(changed(anchor, tmp_path, "-t", "2.5", name="short.mp4"))
    assert "silent" in refusal(changed(anchor, tmp_path, "-af", "volume=0", name="silent.mp4"))
    assert "no audio stream" in refusal(changed(anchor, tmp_path, "-an", name="mute.mp4"))


@pytest.mark.parametrize("crop", [(-2, 0, 200), (400, 0, 200), (0, 0, 600), (0, 0, 4)])
def test_crops_outside_of_the_picture_are_refused(anchor: Path, crop: tuple[int, int, int]) -> None:
    assert "does not lie in the picture of 512x512" in refusal(anchor, FramesSettings(crop=crop))


def test_failure_leaves_nothing_behind(anchor: Path, tmp_path: Path) -> None:
    video = changed(anchor, tmp_path, "-an")
    with pytest.raises(BadInput):
        prepare(video, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("side", "asked", "made"), [(720, 512, 512), (512, 512, 512), (500, 512, 496), (90, 512, 128), (1000, 1024, 992)]
)
def test_output_size_never_invents_detail(side: int, asked: int, made: int) -> None:
    assert frames.output_size(side, asked) == made


def face_at(x: float, y: float, height: float) -> Face:
    return Face(x - 0.4 * height, y - 0.5 * height, x + 0.4 * height, y + 0.5 * height, height)


def test_crop_stays_in_the_picture_and_holds_the_head() -> None:
    for x, y in [(60, 300), (1240, 300), (640, 90), (640, 650)]:
        left, top, side = choose_crop([face_at(x, y, 100)], 1280, 720)
        assert 0 <= left <= 1280 - side
        assert 0 <= top <= 720 - side
        assert left <= max(0, x - 40)
        assert left + side >= min(1280, x + 40)


def test_crop_follows_the_whole_movement() -> None:
    left, _, side = choose_crop([face_at(x, 300, 100) for x in (400, 500, 600, 900)], 1280, 720)
    assert left <= 360
    assert left + side >= 940


def test_crop_wider_than_the_picture_repeats_its_edge(tmp_path: Path) -> None:
    video = tmp_path / "flat.mkv"
    ffmpeg("-f", "lavfi", "-i", "gradients=s=320x128:d=1:c0=red:c1=blue:x0=0:y0=0:x1=320:y1=0:speed=0.00001", video)
    crop = choose_crop([face_at(x, 64, 60) for x in (60, 160, 260)], 320, 128)
    assert crop[2] > 128
    info = media.probe(video)
    side = crop[2]
    picture = next(media.read_video(info, frames.picture_filters(info, crop, side, side), (side, side)))
    inside = picture[-crop[1] + 4]
    assert np.abs(picture[2].astype(int) - inside).max() < 24
    assert np.abs(picture[-2].astype(int) - inside).max() < 24
    assert inside.std() > 20

"""Stage 1: any video becomes square frames at 25 fps around the head, and sound at 16 kHz."""

from __future__ import annotations

import itertools
import wave
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages import media
from stages.archive import ArchiveWriter, frame_name
from stages.atomic_files import atomic_path, save_json, sha256_of
from stages.errors import BadInput
from stages.formats import FPS, SAMPLE_RATE_HZ
from stages.progress import report
from stages.settings import FramesSettings
from stages.vision.faces import Face, FaceFinder
from stages.vision.framing import Crop, choose_crop
from stages.vision.images import Rgb, encode_jpeg
from stages.vision.takes import Thumbnail, free_of, jumped, moves, same_scene, thumbnail

MIN_DURATION_S = 3.0
MIN_SIDE_PX = 128
MIN_FPS = 8.0
"""Below it, lips cannot be seen to move."""

_LEAST_PX, _MOST_PX = 64, 16_384

_CHECK_PICTURES, _CROP_PICTURES = 12, 40
_SAMPLE_PX = 1280
_DECODE_ALL_PIXELS = 3e9
_QUIET_RMS = 1e-3
_SOUND_SLACK_S = 0.2
_OTHER_FACE_SHARE = 0.4
_JPEG_THREADS = 2
_HDR_WHITE_NITS = 203  # diffuse white in HDR, ITU-R BT.2408


@dataclass(frozen=True)
class Inputs:
    """What the stage reads.

    Attributes:
        video: The user's video, in any form that ffmpeg reads.
    """

    video: Path


@dataclass(frozen=True)
class Outputs:
    """What the stage writes.

    Attributes:
        frames: Zip of JPEGs, ``000000.jpg`` …
        info: Count, size, crop and source (JSON).
        audio: 16 kHz mono 16-bit WAV, as long as the frames.
    """

    frames: Path
    info: Path
    audio: Path


def check(video: Path, settings: FramesSettings | None = None) -> media.MediaInfo:
    """Whether a video can become a portrait, found out in seconds and without writing anything.

    Args:
        video: The user's video.
        settings: How it would be cropped; faces outside of a crop that the user set don't count.

    Returns:
        What the file holds.

    Raises:
        BadInput: It is no video, lacks picture or sound, is silent, under 3 s long, shows no face or several, stands
            still, or changes to another shot.
    """
    crop = (settings or FramesSettings()).crop
    info = _check_media(video, crop)
    _speaker(info, _faces(info, crop, _CHECK_PICTURES, "looking for a face"), crop)
    return info


def run(inputs: Inputs, outputs: Outputs, settings: FramesSettings) -> None:
    """Write frames, sound and their description.

    Frame i is the picture nearest to i/25 s of the file's timeline, sample 0 of the sound is its time 0. The clip
    ends with the shorter of the two, of which sound may be short by 0.2 s.

    Raises:
        BadInput: As ``check``, or the video breaks off.
    """
    info = _check_media(inputs.video, settings.crop)
    crop = settings.crop
    if crop is None:
        faces = _faces(info, None, _CROP_PICTURES, "choosing the crop")
        crop = choose_crop(_speaker(info, faces, None), info.width, info.height)
    size_px = output_size(crop[2], settings.size_px)
    with ExitStack() as stack:
        audio = stack.enter_context(atomic_path(outputs.audio))
        samples = audio.with_suffix(".pcm")
        stack.callback(samples.unlink, missing_ok=True)
        heard = _write_samples(inputs.video, samples)
        limit = int((heard / SAMPLE_RATE_HZ + _SOUND_SLACK_S) * FPS)
        zipped = stack.enter_context(atomic_path(outputs.frames))
        frames = _write_frames(info, crop, size_px, limit, zipped)
        if frames < MIN_DURATION_S * FPS - 2:
            raise _too_short(inputs.video, frames / FPS)
        _write_wav(samples, audio, frames * SAMPLE_RATE_HZ // FPS)
    save_json(outputs.info, _describe(info, crop, size_px, frames))


def output_size(side_px: int, size_px: int) -> int:
    """Side of the prepared frames: what was asked for, or less where the crop has less; never under 128.

    Args:
        side_px: Side of the crop in the source.
        size_px: What was asked for.
    """
    return size_px if side_px >= size_px else max(MIN_SIDE_PX, side_px // 16 * 16)


def _too_short(video: Path, seconds: float) -> BadInput:
    return BadInput(
        f"{video} is {seconds:.1f} s long; at least {MIN_DURATION_S:.0f} s of picture and sound are needed",
        hint="a minute or more of talking makes a good portrait",
    )


def _check_media(video: Path, crop: Crop | None) -> media.MediaInfo:
    info = media.probe(video)
    media.require_video(info)
    media.require_audio(info)
    if info.duration_s < MIN_DURATION_S - 0.02:
        raise _too_short(video, info.duration_s)
    _check_picture(info)
    if crop is not None:
        x, y, side = crop
        if side < 16 or x < 0 or y < 0 or x + side > info.width or y + side > info.height:
            raise BadInput(
                f"the crop {x},{y},{side} does not lie in the picture of {info.width}x{info.height}",
                hint="give X,Y,SIDE in pixels of the upright picture, or leave it out",
            )
    _check_sound(info)
    return info


def _check_picture(info: media.MediaInfo) -> None:
    """Refuse sizes and frame rates that no portrait comes of."""
    size = f"{info.width}x{info.height}"
    if min(info.width, info.height) < _LEAST_PX:
        raise BadInput(f"{info.path} is {size} pixels small", hint=f"give a video of {_LEAST_PX} pixels at least")
    if max(info.width, info.height) > _MOST_PX:
        raise BadInput(f"{info.path} is {size} pixels big", hint=f"scale it to {_MOST_PX} pixels at most")
    if 0 < info.fps < MIN_FPS:
        raise BadInput(
            f"{info.path} shows {info.fps:g} pictures a second",
            hint=f"lips need at least {MIN_FPS:g}; give the original recording",
        )


def _check_sound(info: media.MediaInfo) -> None:
    """Listen until something is heard: most files are told from their first seconds."""
    window = SAMPLE_RATE_HZ // 10
    for chunk in media.stream_audio(info.path, SAMPLE_RATE_HZ, chunk_s=1.0):
        whole = chunk[: len(chunk) // window * window].reshape(-1, window)
        if len(whole) and float(np.sqrt((whole**2).mean(axis=1)).max()) > _QUIET_RMS:
            return
    raise BadInput(f"the sound of {info.path} is silent", hint="give a video in which the person is heard talking")


def picture_filters(info: media.MediaInfo, crop: Crop | None, width: int, height: int) -> list[media.Filter]:
    """Filters from the stored picture to an upright, cropped, scaled one with square pixels.

    Args:
        info: What the file holds.
        crop: (x, y, side) px of the upright picture, which may leave it; None for all of it.
        width: Of the result, px.
        height: Of the result, px.
    """
    filters: list[media.Filter] = []
    if info.interlaced:
        filters.append(("yadif", {"deint": "interlaced"}))
    coded = (info.coded_width, info.coded_height)
    if (info.width, info.height) not in {coded, coded[::-1]}:
        filters += [("scale", {"w": info.width, "h": info.height, "flags": "lanczos"}), ("setsar", {"sar": "1"})]
    side = max(info.width, info.height)
    if crop is not None:
        x, y, side = crop
        pad = max(0, -x, -y, x + side - info.width, y + side - info.height)
        pad += pad % 2
        if pad:
            size = {"w": info.width + 2 * pad, "h": info.height + 2 * pad, "x": pad, "y": pad}
            edges = dict.fromkeys(("left", "right", "top", "bottom"), pad)
            filters += [("pad", size), ("fillborders", {**edges, "mode": "smear"})]
        filters.append(("crop", {"w": side, "h": side, "x": x + pad, "y": y + pad, "exact": 1}))
    # Lanczos widens with the reduction; beyond three times averaging is as good and much faster.
    kernel = "area" if side > 3 * max(width, height) else "lanczos"
    scale: dict[str, str | int | float] = {"w": width, "h": height, "flags": f"{kernel}+accurate_rnd+full_chroma_int"}
    if not info.matrix_told and info.pixel_format.startswith("yuv") and info.height >= 720:
        scale["in_color_matrix"] = "bt709"  # what players assume for untagged HD; ffmpeg would take BT.601
    filters.append(("scale", scale))
    if info.transfer in {"smpte2084", "arib-std-b67"} and media.has_filters("zscale", "tonemap"):
        return [*filters, *_tonemap(info.transfer)]
    # Said here, so that this conversion to RGB, and not a later one, knows the matrix.
    return [*filters, ("format", {"pix_fmts": "rgb24"})]


def _tonemap(transfer: str) -> list[media.Filter]:
    """From HDR (Rec. 2100) to BT.709; says all of the input's colour, since files often tell only a part of it."""
    told = {"transferin": transfer, "matrixin": "bt2020nc", "primariesin": "bt2020"}
    return [
        ("zscale", {**told, "transfer": "linear", "npl": _HDR_WHITE_NITS}),
        ("format", {"pix_fmts": "gbrpf32le"}),
        ("zscale", {"primaries": "bt709"}),
        ("tonemap", {"tonemap": "mobius", "desat": 0}),
        ("zscale", {"transfer": "bt709", "matrix": "bt709", "range": "tv"}),
        ("format", {"pix_fmts": "yuv444p"}),
    ]


def sample_pictures(info: media.MediaInfo, crop: Crop | None, count: int) -> Iterator[tuple[float, Rgb]]:
    """Pictures spread evenly over the clip.

    Args:
        info: What the file holds.
        crop: (x, y, side) px of the upright picture, or None for all of it.
        count: How many.

    Yields:
        (time in s, (H, W, 3) uint8 RGB with the longer side at most 1280 px).
    """
    wide, high = (info.width, info.height) if crop is None else (crop[2], crop[2])
    shrink = min(1.0, _SAMPLE_PX / max(wide, high))
    size = (max(16, round(wide * shrink)), max(16, round(high * shrink)))
    filters = picture_filters(info, crop, *size)
    if info.duration_s * max(info.fps, 1.0) * info.coded_width * info.coded_height <= _DECODE_ALL_PIXELS:
        rate = count / info.duration_s
        pictures = media.read_video(info, filters, size, fps=rate, max_frames=count)
        yield from ((i / rate, picture) for i, picture in enumerate(pictures))
        return
    for i in range(count):
        time_s = (i + 0.5) / count * info.duration_s
        for picture in media.read_video(info, filters, size, start_s=time_s, max_frames=1):
            yield time_s, picture


@dataclass(frozen=True)
class _Seen:
    """One picture: its faces, biggest first, in px of the upright source; a thumbnail, and where the faces are not."""

    time_s: float
    faces: list[Face]
    thumbnail: Thumbnail
    free: npt.NDArray[np.bool_]


def _faces(info: media.MediaInfo, crop: Crop | None, count: int, label: str) -> list[_Seen]:
    seen: list[_Seen] = []
    report(label, 0, count)
    with FaceFinder() as finder:
        for time_s, picture in sample_pictures(info, crop, count):
            scale = (info.width if crop is None else crop[2]) / picture.shape[1]
            offset = (0.0, 0.0) if crop is None else (float(crop[0]), float(crop[1]))
            faces = finder.find(picture)
            small = thumbnail(picture)
            free = free_of(faces, picture.shape[1], picture.shape[0])
            seen.append(_Seen(time_s, [face.scaled(scale, offset) for face in faces], small, free))
            report(label, len(seen), count)
    return seen


def _speaker(info: media.MediaInfo, seen: list[_Seen], crop: Crop | None) -> list[Face]:
    """The one person's face in the pictures that show it.

    Raises:
        BadInput: No face, hardly ever a face, two people at once, a photograph, or several shots.
    """
    where = "the crop" if crop is not None else "the picture"
    looked = f"{len(seen)} pictures from {seen[0].time_s:.1f} s to {seen[-1].time_s:.1f} s" if seen else "0 pictures"
    shown = [moment for moment in seen if moment.faces]
    if not shown:
        raise BadInput(
            f"no face is found in {info.path} (looked at {looked})",
            hint="give a video of one person facing the camera, well lit",
        )
    crowded = [m for m in shown if len(m.faces) > 1 and m.faces[1].height > _OTHER_FACE_SHARE * m.faces[0].height]
    if len(crowded) >= max(2, round(0.2 * len(shown))):
        most = max(len(moment.faces) for moment in crowded)
        raise BadInput(
            f"{'two' if most == 2 else most} faces are in {where} of {info.path}, first at {crowded[0].time_s:.1f} s",
            hint="give a video of one person, or choose one with --crop X,Y,SIDE",
        )
    if 2 * len(shown) < len(seen):
        missing = ", ".join(f"{moment.time_s:.1f}" for moment in seen if not moment.faces)
        raise BadInput(
            f"a face is in only {len(shown)} of {looked} of {info.path}; none at {missing} s",
            hint="cut the video to where the face is seen",
        )
    _check_take(info, seen, shown)
    return [moment.faces[0] for moment in shown]


def _check_take(info: media.MediaInfo, seen: list[_Seen], shown: list[_Seen]) -> None:
    """Refuse a picture that stands still, and a film of several shots.

    Raises:
        BadInput: Either.
    """
    if len(seen) > 1 and not any(moves(a.thumbnail, b.thumbnail) for a, b in itertools.pairwise(seen)):
        raise BadInput(
            f"nothing moves in {info.path} (looked at {len(seen)} pictures)",
            hint="give a video of a person talking, not a photograph",
        )
    for one, other in itertools.pairwise(shown):
        if jumped(one.faces[0], other.faces[0]) and not same_scene(
            one.thumbnail, other.thumbnail, one.free & other.free
        ):
            raise BadInput(
                f"{info.path} changes to another shot between {one.time_s:.1f} s and {other.time_s:.1f} s",
                hint="cut the video to one shot",
            )


def _write_samples(video: Path, path: Path) -> int:
    """The clip's sound as raw 16-bit samples; returns how many."""
    count = 0
    with path.open("wb") as stream:
        for chunk in media.stream_audio(video, SAMPLE_RATE_HZ):
            stream.write(np.clip(np.rint(chunk * 32768), -32768, 32767).astype("<i2").tobytes())
            count += len(chunk)
    return count


def _write_wav(samples: Path, path: Path, length: int) -> None:
    """The first ``length`` raw samples as a WAV, silence added where there are fewer."""
    with samples.open("rb") as stream, wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE_HZ)
        missing = 2 * length
        while missing and (data := stream.read(min(missing, 1 << 20))):
            out.writeframesraw(data)
            missing -= len(data)
        out.writeframesraw(bytes(missing))


def _write_frames(info: media.MediaInfo, crop: Crop, size_px: int, limit: int, path: Path) -> int:
    """Write at most ``limit`` frames into a zip; returns how many there were."""
    filters = picture_filters(info, crop, size_px, size_px)
    frames = media.read_video(info, filters, (size_px, size_px), fps=FPS, max_frames=limit)
    expected = max(1, min(limit, round(info.duration_s * FPS)))
    pending: deque[Future[bytes]] = deque()
    written = 0
    with closing(frames), ArchiveWriter(path) as archive, ThreadPoolExecutor(_JPEG_THREADS) as pool:
        report("frames", 0, expected)
        for frame in frames:
            pending.append(pool.submit(encode_jpeg, frame))
            if len(pending) > 4 * _JPEG_THREADS:
                archive.add(frame_name(written, ".jpg"), pending.popleft().result())
                written += 1
                report("frames", written, max(expected, written))
        while pending:
            archive.add(frame_name(written, ".jpg"), pending.popleft().result())
            written += 1
        report("frames", written, written)
    return written


def _describe(info: media.MediaInfo, crop: Crop, size_px: int, frames: int) -> dict[str, object]:
    source = {
        "name": info.path.name,
        "sha256": sha256_of(info.path),
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "duration_s": info.duration_s,
        "rotation_deg": info.rotation_deg,
        "video_codec": info.video_codec,
        "audio_codec": info.audio_codec,
    }
    return {"frames": frames, "fps": FPS, "size_px": size_px, "crop": list(crop), "source": source}

"""The report: its numbers are those of the files, its pictures those that were compared, its page holds them all."""

from __future__ import annotations

import base64
import json
import re
import wave
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radnerf.camera import yaw_pitch_rotation
from stages import evaluate, report
from stages.archive import Archive
from stages.atomic_files import load_json, save_json
from stages.errors import BadInput
from stages.evaluation_series import load_series
from stages.formats import FPS, Track
from stages.media import probe, read_video
from stages.provenance import read_provenance
from stages.report_numbers import (
    MOST_CLIP_POINTS,
    MOST_POINTS,
    clip_curves,
    load_history,
    load_times,
    mouth_places,
    pose_angles,
    waveform,
)
from stages.report_pictures import ERROR_RANGE, FrameSheets, error_map, parse_overlay, timeline
from stages.settings import EvaluateSettings, ReportSettings
from stages.vision.images import decode_rgb
from stages.workspace import Workspace
from tests.tiny_report import make_reported_subject, page_data, report_inputs, write_page
from tests.tiny_subject import SIZE_PX, make_track

HELD_OUT = [30, 31, 32]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An evaluated tiny subject with everything that a report reads."""
    return make_reported_subject(tmp_path_factory.mktemp("subjects") / "tiny")


@pytest.fixture(scope="module")
def page(subject: Workspace) -> str:
    """Its page."""
    return write_page(subject)


class Outline(HTMLParser):
    """Collects what a page refers to, and whether its elements nest."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "poster", "data-src")]
        if tag not in ("meta", "link", "input", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing: it is closed already."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    return found


def test_the_page_loads_nothing(page: str) -> None:
    found = outline(page)
    assert found.wrong == []
    assert found.open == []
    assert {address.split(":")[0] for address in found.addresses if not address.startswith("#")} == {"data"}
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:; media-src data: blob:;")
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}


def test_every_link_leads_to_a_section(page: str) -> None:
    wanted = re.findall(r'href="#([^"]+)"', page)
    assert len(wanted) > 8
    for name in wanted:
        assert f'id="{name}"' in page


def test_the_page_tells_the_figures_of_the_evaluation_in_both_modes(subject: Workspace, page: str) -> None:
    figures = load_json(subject.evaluation)
    for mode in ("head", "composite"):
        for key, digits in (("psnr_full", 2), ("psnr_mouth", 2), ("ssim_full", 4), ("lpips_full", 4)):
            value = figures[mode][key]
            shown = "–" if value is None else f"{value:.{digits}f}"
            assert f'<td class="number">{shown}</td>' in page
    assert "head over true torso" in page
    assert "full learnt composite" in page


def test_the_scripts_numbers_are_those_of_the_files(subject: Workspace, page: str) -> None:
    data = page_data(page)
    assert data["series"] == load_series(subject.evaluation_series)
    assert data["series"]["frames"] == data["video"]["frames"] == HELD_OUT
    assert data["clip"]["blinks"] == [5]
    assert data["training"]["head"]["step"][-1] == 40
    assert data["lips_from"] == 30
    assert len(data["mouth"]["centre"]) == 3


def test_the_video_holds_every_tile_of_every_frame(subject: Workspace, page: str, tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(video_of(page))
    info = probe(video)
    side = page_data(page)["video"]["tile_px"]
    assert (info.width, info.height, info.fps) == (3 * side, 2 * side, FPS)
    assert info.has_audio
    shown = list(read_video(info, [], (3 * side, 2 * side)))
    assert len(shown) == 3
    sheets = FrameSheets(report_files(subject))
    for frame, picture in zip(HELD_OUT, shown, strict=True):
        wanted = sheets.sheet(frame, side)
        assert np.abs(picture.astype(int) - wanted).mean() < 8
    # The tiles are not all alike.
    tiles = sheets.tiles(30)
    assert np.abs(tiles["head"].astype(int) - tiles["composite"]).mean() > 1


def video_of(page: str) -> bytes:
    found = re.search(r'src="data:video/mp4;base64,([^"]+)"', page)
    assert found is not None
    return base64.b64decode(found[1])


def report_files(subject: Workspace) -> report.PictureFiles:
    return report.PictureFiles(subject.frames, subject.parsing, subject.evaluation_pictures)


def test_the_video_says_that_it_is_synthetic_and_who_agreed(
    subject: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    signed = write_page(subject, ReportSettings(sign=True))
    video = tmp_path / "video.mp4"
    video.write_bytes(video_of(signed))
    told = read_provenance(video)
    assert told is not None
    assert told.intact
    assert told.synthetic
    assert told.consent == "Anna, <by> & mail"


def test_the_video_is_made_to_fit(subject: Workspace, page: str) -> None:
    whole = len(video_of(page))
    tighter = write_page(subject, ReportSettings(video_mb=0.9e-6 * whole, sign=False))
    assert len(video_of(tighter)) <= 0.9 * whole
    assert page_data(tighter)["video"]["frames"] == HELD_OUT
    least = write_page(subject, ReportSettings(video_mb=1e-6, sign=False))
    assert len(page_data(least)["video"]["frames"]) == 1
    assert page_data(least)["video"]["tile_px"] < page_data(page)["video"]["tile_px"]
    assert "2 more did not fit" in least
    assert page_data(least)["series"]["frames"] == HELD_OUT


def test_the_size_of_moving_pictures_can_be_chosen(subject: Workspace) -> None:
    chosen = write_page(subject, ReportSettings(size_px=32, sign=False))
    assert page_data(chosen)["video"]["tile_px"] == 32


def test_words_of_the_user_cannot_become_markup(page: str) -> None:
    assert "Anna, &lt;by&gt; &amp; mail" in page
    assert "<by>" not in page
    assert "&lt;/script&gt;" in page


def test_settings_that_the_subject_changes_are_marked(page: str) -> None:
    assert re.search(r'steps</th><td class="number changed">30 \(changed\)', page)
    assert re.search(r'size_px</th><td class="number">48<', page)


def test_times_are_those_of_the_benchmarks_and_their_absence_is_said(page: str) -> None:
    assert '<th scope="row">head</th><td class="number">2 min 5 s</td>' in page
    assert '<th scope="row">pose</th><td class="number">–</td>' in page
    assert "No times of frames, landmarks," in page
    assert "render-hello" in page


def test_pictures_without_a_face_are_told(page: str) -> None:
    assert "Pictures without a face, out of 3 of each kind: 3 true, 3 head, 3 composite." in page
    assert page_data(page)["series"]["truth"]["lip_opening"] == [None, None, None]


def test_a_subject_without_history_or_evaluation_names_the_file(subject: Workspace, tmp_path: Path) -> None:
    inputs = report_inputs(subject)
    for field in ("evaluation", "series", "pictures", "head_history", "audio"):
        values = {**vars(inputs), field: tmp_path / "absent"}
        with pytest.raises(BadInput, match="absent"):
            report.run(report.Inputs(**values), report.Outputs(tmp_path / "page.html"), ReportSettings(sign=False))
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"fps": 25, "frames": []},
        {"fps": 25, "frames": [1], "truth": {}, "head": {}, "composite": {}},
        {"fps": 25, "frames": [1], "truth": {"lip_opening": ["a"]}, "head": {}, "composite": {}},
    ],
)
def test_damaged_curves_are_refused(tmp_path: Path, value: dict[str, Any]) -> None:
    save_json(tmp_path / "series.json", value)
    with pytest.raises(BadInput, match="holds no whole curves"):
        load_series(tmp_path / "series.json")


def test_the_series_are_what_the_figures_are_means_of(subject: Workspace) -> None:
    series, figures = load_series(subject.evaluation_series), load_json(subject.evaluation)
    for mode in ("head", "composite"):
        for key in ("psnr_full", "psnr_mouth"):
            assert np.mean(series[mode][key]) == pytest.approx(figures[mode][key], abs=2e-4)


def test_pictures_are_kept_of_every_frame_compared(subject: Workspace) -> None:
    with Archive(subject.evaluation_pictures) as archive:
        names = {f"{frame:06d}.{series}.jpg" for frame in HELD_OUT for series in ("truth", "head", "composite")}
        assert archive.names == names
        assert decode_rgb(archive.read("000030.truth.jpg"), archive.path).shape == (SIZE_PX, SIZE_PX, 3)


def test_evaluation_without_them_writes_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_reported_subject(tmp_path / "tiny", evaluated=False)
    monkeypatch.setattr(evaluate, "LEAST_READING_PX", 16)
    inputs = evaluate.Inputs(**{name: getattr(workspace, name) for name in evaluate.Inputs.__annotations__})
    outputs = evaluate.Outputs(workspace.evaluation, workspace.preview)
    evaluate.run(inputs, outputs, EvaluateSettings(), backend="reference")
    assert {path.name for path in workspace.evaluation.parent.iterdir()} == {"evaluation.json"}


@pytest.mark.parametrize("angles", [(10, 0, 0), (0, 7, 0), (0, 0, 5), (12, -6, 4), (-20, 15, -9)])
def test_angles_are_those_that_a_pose_was_made_of(angles: tuple[float, float, float]) -> None:
    yaw, pitch, roll = angles
    clockwise = -np.radians(roll)
    tilt = np.array([[np.cos(clockwise), -np.sin(clockwise), 0], [np.sin(clockwise), np.cos(clockwise), 0], [0, 0, 1]])
    rotation = np.diag([1.0, -1.0, -1.0]) @ yaw_pitch_rotation(yaw, pitch).numpy() @ tilt
    assert pose_angles(rotation[None].astype(np.float32))[0] == pytest.approx(angles, abs=1e-3)


def test_a_long_clips_curves_are_thinned_and_keep_every_blink_and_raised_brow() -> None:
    track = make_track(frames=5000)
    track.eye_open[4321] = 0.05
    track.brow_mm[1234] = 4.0
    track.tracked[:2] = False
    curves = clip_curves(track)
    assert len(curves["frame"]) == len(curves["yaw"]) == MOST_CLIP_POINTS
    assert min(curves["eye_open"][1000:]) == pytest.approx(0.05)
    assert max(curves["brow_mm"]) == 4
    assert curves["yaw"][0] is None
    assert curves["untracked"] == 2


def test_a_history_is_thinned_without_losing_its_end_or_its_extremes(tmp_path: Path) -> None:
    points = [
        {"step": step, "seconds": step / 10, "loss": 0.1, "psnr_db": 20.0, "rate": 0.01} for step in range(10, 9000, 10)
    ]
    points[500]["loss"] = 7.0
    points[600]["loss"] = None
    save_json(tmp_path / "history.json", {"steps": 8990, "seconds": 899.0, "points": points})
    history = load_history(tmp_path / "history.json")
    assert len(history["step"]) == MOST_POINTS
    assert history["step"][-1] == 8990
    assert max(history["loss_high"]) == 7.0
    assert history["lips_loss"] is None
    assert all(value == pytest.approx(0.1, rel=2) for value in history["loss"])


def test_a_training_that_has_just_begun_has_an_empty_history(tmp_path: Path) -> None:
    save_json(tmp_path / "history.json", {"steps": 0, "seconds": 0.0, "points": []})
    assert load_history(tmp_path / "history.json")["step"] == []
    save_json(tmp_path / "history.json", {"steps": 0, "points": [{}]})
    with pytest.raises(BadInput, match="no whole history"):
        load_history(tmp_path / "history.json")


def test_the_waveform_spans_the_frames_and_follows_the_sound(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "audio.wav"), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16_000)
        samples = np.zeros(16_000 * 4, np.int16)
        samples[32_000:33_600] = 16_384
        stream.writeframes(samples.tobytes())
    drawn = waveform(tmp_path / "audio.wav", [40, 74])
    assert drawn["second"][0] == pytest.approx(1.6)
    assert drawn["second"][-1] < 75 / FPS
    loud = [second for second, high in zip(drawn["second"], drawn["high"], strict=True) if high > 0.4]
    assert min(loud) == pytest.approx(2.0, abs=0.02)
    assert max(loud) == pytest.approx(2.1, abs=0.02)
    assert drawn["heard"] == pytest.approx(3 / 35, abs=0.01)
    nothing = waveform(tmp_path / "audio.wav", [200, 210])
    assert (nothing["second"], nothing["heard"]) == ([], 0.0)


def test_held_out_frames_without_speech_are_remarked_on(tmp_path: Path, page: str) -> None:
    assert "the figures of the lips say little" not in page
    workspace = make_reported_subject(tmp_path / "tiny")
    with wave.open(str(workspace.audio), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16_000)
        stream.writeframes(bytes(2 * 16_000 * 2))
    assert "Only 0 % of these frames have sound above −45 dB" in write_page(workspace)


def test_times_pass_over_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "pose.tsv").write_text("s\th:m:s\tmax_rss\n2.5\t0:00:02\t-\n")
    (tmp_path / "head.tsv").write_text("s\th:m:s\tmax_rss\n125.2\t0:02:05\t700.5\n")
    (tmp_path / "bad.tsv").write_text("nothing")
    (tmp_path / "worse.tsv").write_bytes(b"\xff\xfe")
    assert load_times(tmp_path) == {
        "head": {"seconds": 125.2, "memory_mb": 700.5},
        "pose": {"seconds": 2.5, "memory_mb": None},
    }
    assert load_times(tmp_path / "none") == {}


def test_the_mouths_square_lies_on_the_mouth() -> None:
    track: Track = make_track()
    places = mouth_places(track, HELD_OUT)
    assert 0.02 < places["side"] < 0.5
    for x, y in places["centre"]:
        assert 0.4 < x < 0.6
        assert 0.5 < y < 0.7


@pytest.mark.parametrize(
    ("frames", "shown"),
    [
        ([7], [7]),
        ([4, 5, 6], [4, 5, 6]),
        ([4, 5, 8, 9], [4, 5, 6, 7, 8, 9]),
        ([4, 48], [4, 48]),
    ],
)
def test_few_gaps_are_shown_and_sparse_frames_follow_each_other(frames: list[int], shown: list[int]) -> None:
    assert timeline(frames) == shown


def test_frames_that_were_not_compared_are_shown_as_gaps(subject: Workspace) -> None:
    sheets = FrameSheets(report_files(subject))
    assert set(sheets.tiles(3)) == {"truth", "parsing"}
    sheet = sheets.sheet(3, 16)
    assert (sheet[:16, 16:32] == 96).all()
    assert sheet[:16, :16].std() > 5


def test_an_error_map_is_dark_where_pictures_are_equal_and_bright_where_not() -> None:
    truth = np.full((4, 4, 3), 100, np.uint8)
    rendered = truth.copy()
    rendered[0] += round(255 * ERROR_RANGE) + 1
    shown = error_map(rendered, truth)
    assert shown[1:].max() < 10
    assert shown[0].min() > 150
    assert (error_map(truth, rendered) == shown).all()


def test_a_parse_overlay_tints_each_class_and_dims_the_background() -> None:
    frame = np.full((40, 40, 3), 120, np.uint8)
    classes = np.repeat(np.arange(4, dtype=np.uint8), 10)[None].repeat(40, axis=0)
    shown = parse_overlay(frame, classes)
    colours = [tuple(shown[20, column].tolist()) for column in (5, 15, 25, 35)]
    assert len(set(colours)) == 4
    assert max(colours[0]) < 60
    assert tuple(shown[20, 10].tolist()) == (255, 255, 255)


def test_the_data_survives_a_name_that_would_end_its_element(page: str) -> None:
    assert page.count("</script>") == 2
    assert "<h1>tiny</h1>" in page
    assert json.loads(json.dumps(page_data(page)))["fps"] == FPS

"""One page about a trained subject: pictures, curves and figures of its held-out frames, and how it came to be."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import yaml

from stages import progress
from stages.atomic_files import atomic_path, load_json, sha256_of
from stages.errors import DELETE_AND_REPEAT, BadInput
from stages.evaluation_series import load_series
from stages.formats import FPS, Track
from stages.provenance import Statement, radnerf_version
from stages.report_numbers import QUIET_DB, clip_curves, load_history, load_times, mouth_places, waveform
from stages.report_page import (
    MODES,
    data_uri,
    definitions,
    duration,
    figure_table,
    fill,
    number,
    parsing_row,
    remarks,
    setting_lists,
    still_rows,
    tiles,
    time_table,
)
from stages.report_pictures import (
    COLUMNS,
    ERROR_RANGE,
    TILES,
    FrameSheets,
    PictureFiles,
    TiledVideo,
    compared_stills,
    parsing_stills,
    tiled_video,
)
from stages.settings import STAGES, ReportSettings

_SHOWN_STAGES = tuple(stage for stage in STAGES if stage not in ("render", "report"))
_LEAST_HEARD = 0.3
_LIPS_WORDS = {
    "lpips-alex": " The lips phase looked at the mouth with LPIPS (AlexNet).",
    "structural": " The lips phase looked at the mouth with a structural loss, since LPIPS’s weights were not there.",
}
_CLASSES = "".join(f'<span class="class {name}">{name}</span>' for name in ("head", "neck", "torso"))


@dataclass(frozen=True)
class Inputs:
    """An evaluated subject; see ``Workspace`` for each file.

    Attributes:
        benchmarks: Folder of what the workflow measured; need not be there.
        settings: Folder of each stage's settings; need not be there.
    """

    subject: Path
    frames: Path
    info: Path
    audio: Path
    parsing: Path
    track: Path
    head: Path
    torso: Path
    head_history: Path
    torso_history: Path
    evaluation: Path
    series: Path
    pictures: Path
    benchmarks: Path
    settings: Path


@dataclass(frozen=True)
class Outputs:
    """What the stage writes.

    Attributes:
        page: HTML that loads nothing from anywhere.
    """

    page: Path


@dataclass(frozen=True)
class _Subject:
    """All that the page tells, but pictures."""

    record: dict[str, Any]
    info: dict[str, Any]
    figures: dict[str, Any]
    series: dict[str, Any]
    track: Track
    histories: dict[str, dict[str, Any]]
    times: dict[str, dict[str, float | None]]
    settings: dict[str, dict[str, Any]]

    @property
    def frames(self) -> list[int]:
        """Numbers of the frames compared."""
        return [int(frame) for frame in self.series["frames"]]


def run(inputs: Inputs, outputs: Outputs, settings: ReportSettings) -> None:
    """Write the page.

    Args:
        inputs: The evaluated subject.
        outputs: Where to write.
        settings: How.

    Raises:
        BadInput: A file is missing, damaged or does not fit the others.
        RadnerfError: The video cannot be encoded or signed, or the page not be written.
    """
    subject = _read(inputs)
    sheets = FrameSheets(PictureFiles(inputs.frames, inputs.parsing, inputs.pictures))
    statement = Statement(
        str(subject.figures["subject"]),
        "-".join(sha256_of(path)[:12] for path in (inputs.head, inputs.torso)),
        str(subject.record.get("consent") or ""),
        radnerf_version(),
        dt.datetime.now(dt.UTC),
    )
    video = tiled_video(
        sheets,
        subject.frames,
        inputs.audio,
        settings.size_px,
        int(settings.video_mb * 1e6),
        statement,
        sign=settings.sign,
    )
    progress.report("page", 0, 1)
    drawn = _data(subject, video, inputs.audio)
    pieces = {
        **_words(subject, video, statement, drawn["waveform"]["heard"]),
        **_pictures(subject, sheets),
        "video": data_uri(video.data, "video/mp4"),
    }
    page = fill(pieces, drawn)
    with atomic_path(outputs.page) as temporary:
        temporary.write_text(page, encoding="utf-8")
    progress.report("page", 1, 1)


def _read(inputs: Inputs) -> _Subject:
    figures = load_json(inputs.evaluation)
    if not all(isinstance(figures.get(mode), dict) for mode in MODES) or "frames" not in figures:
        raise BadInput(f"{inputs.evaluation} holds no figures", hint=DELETE_AND_REPEAT)
    return _Subject(
        record=_read_record(inputs.subject),
        info=load_json(inputs.info),
        figures=figures,
        series=load_series(inputs.series),
        track=Track.load(inputs.track),
        histories={"head": load_history(inputs.head_history), "torso": load_history(inputs.torso_history)},
        times=load_times(inputs.benchmarks),
        settings=_read_settings(inputs.settings),
    )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}", hint="mend it") from error
    if not isinstance(record, dict):
        raise BadInput(f"{path} holds no keys", hint="mend it, or prepare the subject again")
    return record


def _read_settings(folder: Path) -> dict[str, dict[str, Any]]:
    found = {stage: folder / f"{stage}.json" for stage in _SHOWN_STAGES}
    return {stage: load_json(path) for stage, path in found.items() if path.is_file()}


def _data(subject: _Subject, video: TiledVideo, sound: Path) -> dict[str, Any]:
    """What the script draws."""
    head = subject.settings.get("head", {})
    lips_from = head.get("steps") if head.get("lips_steps") else None
    return {
        "fps": FPS,
        "video": {
            "frames": video.frames,
            "fps": FPS,
            "tile_px": video.tile_px,
            "columns": COLUMNS,
            "tiles": TILES,
            "sound": video.sound,
        },
        "series": subject.series,
        "waveform": waveform(sound, subject.frames),
        "training": subject.histories,
        "lips_from": lips_from,
        "clip": clip_curves(subject.track),
        "mouth": mouth_places(subject.track, subject.frames),
        "held_out": subject.figures["frames"],
    }


def _pictures(subject: _Subject, sheets: FrameSheets) -> dict[str, str]:
    scores = subject.series["head"]["psnr_head"]
    ranked = sorted((score, frame) for score, frame in zip(scores, subject.frames, strict=True) if score is not None)
    chosen: dict[int, str] = {}
    if ranked:
        for word, place in (("worst", 0), ("middle", len(ranked) // 2), ("best", len(ranked) - 1)):
            score, frame = ranked[place]
            chosen.setdefault(frame, f"<b>The {word}</b>: frame {frame}, {number(score, 1)} dB")
    stills = [(title, compared_stills(sheets, frame)) for frame, title in chosen.items()]
    return {
        "stills": still_rows(stills),
        "parsing": parsing_row(parsing_stills(sheets, len(subject.track.tracked)), FPS),
    }


def _words(subject: _Subject, video: TiledVideo, statement: Statement, heard: float) -> dict[str, str]:
    """Every piece of text; ``heard`` is the share of the time in which there is something to hear."""
    figures = subject.figures
    name = escape(statement.subject)
    first, last = figures["frames"]
    frames = int(figures.get("frames_compared") or len(subject.frames))
    summary = (
        f"Preset {escape(str(figures.get('preset')))}, backbone {escape(str(figures.get('backbone')))}. Everything "
        f"below is of frames {first} to {last}, the last eleventh of the clip, which training never saw; {frames} "
        f"were compared, at {figures.get('size_px')} pixels."
    )
    return {
        "title": f"{name} – radnerf report",
        "generator": f"radnerf {escape(statement.radnerf_version)}",
        "subject": name,
        "summary": summary,
        "tiles": tiles(figures),
        "remarks": remarks(_remarks(subject, video, heard)),
        "watch": _watch_words(subject, video),
        "error_range": f"{100 * ERROR_RANGE:.0f}",
        "classes": _CLASSES,
        "lips": f"Read off true and rendered pictures by the same face landmarks ({_model(figures)}), at "
        f"{figures.get('reading_size_px')} pixels. Only the sound decides the rendered mouth.",
        "eyes": _eye_words(subject),
        "figures_text": f"Means over {frames} frames. <em>{MODES['head'].capitalize()}</em> is how papers compare, "
        f"<em>{MODES['composite']}</em> is what a video shows; don’t mix them.",
        "figures": figure_table(figures),
        **_making_words(subject),
        "origin": _origin(subject, statement),
        "footer": f"Made by radnerf {escape(statement.radnerf_version)} on {statement.made_at:%d %B %Y, %H:%M} UTC. "
        "The rendered pictures are synthetic; the true ones are the clip’s own.",
    }


def _eye_words(subject: _Subject) -> str:
    blinks = [frame for frame in subject.track.blinks.tolist() if subject.frames[0] <= frame <= subject.frames[-1]]
    text = "The eyes of rendered pictures are driven by the openness measured in the true ones, as papers do. "
    if not blinks:
        return text + "Nobody blinks in these frames, so that their correlation says little."
    return text + f"Blinks in frame{'' if len(blinks) == 1 else 's'} {', '.join(map(str, blinks))}."


def _model(figures: Mapping[str, Any]) -> str:
    models = {"tasks": "MediaPipe’s Face Landmarker", "mesh": "MediaPipe’s bundled face mesh"}
    return models.get(str(figures.get("landmark_model")), "MediaPipe")


def _watch_words(subject: _Subject, video: TiledVideo) -> str:
    shown = (
        f"{len(video.frames)} frames, {video.tile_px} pixels, {'with' if video.sound else 'without'} the clip’s sound, "
        f"compressed for this page (H.264, {len(video.data) / 1e6:.1f} MB); figures are of the pictures before that."
    )
    if video.tile_px != subject.figures.get("size_px"):
        shown += f" Figures compare at {subject.figures.get('size_px')} pixels; these are rendered larger, to be seen."
    return shown


def _remarks(subject: _Subject, video: TiledVideo, heard: float) -> list[str]:
    """What is missing, was cut, or makes figures say less than they seem to."""
    notes = subject.figures.get("notes") or {}
    texts = [f"{topic}: {text}." for topic, text in notes.items()]
    missed = {series: count for series, count in (subject.figures.get("faces_missed") or {}).items() if count}
    if missed:
        counts = ", ".join(f"{count} {'true' if series == 'truth' else series}" for series, count in missed.items())
        texts.append(f"Pictures without a face, out of {len(subject.frames)} of each kind: {counts}.")
    if heard < _LEAST_HEARD:
        texts.append(
            f"Only {100 * heard:.0f} % of these frames have sound above −{-QUIET_DB:.0f} dB: with hardly any speech, "
            "the figures of the lips say little."
        )
    if video.left_out:
        texts.append(
            f"The video shows the first {len(video.frames)} frames; {video.left_out} more did not fit "
            "(report.video_mb). Curves and figures are of all."
        )
    absent = [stage for stage in _SHOWN_STAGES if stage not in subject.times]
    if absent:
        texts.append(f"No times of {', '.join(absent)}: the workflow has not measured them.")
    return texts


def _making_words(subject: _Subject) -> dict[str, str]:
    head, torso = subject.histories["head"], subject.histories["torso"]
    lips = _LIPS_WORDS.get(head["lips_loss"], "") if subject.settings.get("head", {}).get("lips_steps") else ""
    track, info = subject.track, subject.info
    blinks = len(track.blinks)
    seconds = len(track.tracked) / FPS
    untracked = int((~track.tracked).sum())
    changed = subject.record.get("settings") or {}
    return {
        "training": f"The head: {head['steps']} steps in {duration(head['seconds'])}. The torso: {torso['steps']} "
        f"steps in {duration(torso['seconds'])}.{lips}",
        "clip": f"{len(track.tracked)} frames, {seconds:.1f} s at {FPS} a second, prepared at {info.get('size_px')} "
        f"pixels. The pose fits the landmarks to {track.reprojection_rms_px:.2f} px; "
        f"{blinks} blink{'' if blinks == 1 else 's'}; "
        f"{untracked or 'no'} frame{'' if untracked == 1 else 's'} without a measured pose. "
        "The shaded part was held out.",
        "parsing_text": f"How the clip was taken apart, at frames spread over all of it: {_CLASSES}",
        "times_text": "As the workflow measured each stage when it last ran; memory is the most of all its processes.",
        "times": time_table(subject.times, _SHOWN_STAGES),
        "settings_text": f"Preset {escape(str(subject.record.get('preset')))}; what the subject changes is marked.",
        "settings": setting_lists(subject.settings, changed if isinstance(changed, dict) else {}),
    }


def _origin(subject: _Subject, statement: Statement) -> str:
    record, info = subject.record, subject.info.get("source") or {}
    source = record.get("source") if isinstance(record.get("source"), dict) else {}
    filmed = f"{info.get('width')} × {info.get('height')} pixels, {info.get('fps')} frames a second"
    return definitions(
        {
            "Video": f"{(source or {}).get('name', 'unknown')} ({filmed if info else 'of unknown size'})",
            "SHA-256": str((source or {}).get("sha256", "unknown")),
            "Consent": statement.consent or "no consent note was given",
            "Subject made": str(record.get("created", "unknown")),
            "Model": statement.model_version,
            "radnerf": statement.radnerf_version,
        }
    )

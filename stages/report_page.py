"""A report's HTML: one file that loads nothing, with its style, its script, its pictures and its numbers inside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from stages.report_pictures import Still

_TEMPLATE = Path(__file__).parent / "report_template"
_SCRIPTS = ("chart.js", "player.js", "page.js")

SECTIONS = {
    "watch": "Pictures",
    "compare": "Compare",
    "lips": "Lips",
    "eyes": "Eyes",
    "figures": "Figures",
    "training": "Training",
    "clip": "Clip",
    "times": "Times",
    "settings": "Settings",
    "origin": "Origin",
}
"""The page's sections and what its links call them."""

MODES = {"head": "head over true torso", "composite": "full learnt composite"}
"""The two ways in which figures are taken, and what to call them."""

_FIGURES: dict[str, tuple[tuple[str, str, int, str], ...]] = {
    "Picture": (
        ("psnr_full", "PSNR, whole picture (dB)", 2, "higher is better"),
        ("psnr_head", "PSNR, head (dB)", 2, "higher is better"),
        ("psnr_mouth", "PSNR, mouth (dB)", 2, "higher is better"),
        ("ssim_full", "SSIM, whole picture", 4, "1 is equal"),
        ("lpips_full", "LPIPS, whole picture", 4, "lower is better; by AlexNet"),
    ),
    "Lips": (
        ("lip_opening_r", "Opening, correlation", 3, "1 moves with the truth, 0 is unrelated"),
        ("lip_opening_gain", "Opening, amplitude", 3, "1 moves as far as the truth, less is too little"),
        ("lip_width_r", "Width, correlation", 3, "1 moves with the truth, 0 is unrelated"),
        ("lip_width_gain", "Width, amplitude", 3, "1 moves as far as the truth, less is too little"),
        ("lmd_px", "Lip landmarks’ distance (px)", 3, "lower is better; at the size at which faces were read"),
    ),
    "Eyes, brows and head": (
        ("blink_r", "Eye openness, correlation", 3, "1 moves with the truth; says little where nobody blinks"),
        ("blinks_missed", "Blinks missed", 0, "of those read in the true pictures"),
        ("blinks_invented", "Blinks invented", 0, "read in the rendered pictures alone"),
        ("brow_r", "Brows’ height, correlation", 3, "1 moves with the truth; says little where they hardly move"),
        ("brow_gain", "Brows’ height, amplitude", 3, "1 moves as far as the truth, less is too little"),
        ("jitter_ratio", "Jitter, rendered over true", 3, "1 trembles as much as the truth, less is calmer"),
    ),
}
_TILES = (
    ("psnr_head", "Head, PSNR", 1, "dB", "higher is better"),
    ("psnr_mouth", "Mouth, PSNR", 1, "dB", "higher is better"),
    ("lpips_full", "Picture, LPIPS", 4, "", "lower is better"),
    ("lip_opening_r", "Lip opening", 2, "", "correlation, 1 is best"),
    ("lip_width_r", "Lip width", 2, "", "correlation, 1 is best"),
    ("jitter_ratio", "Jitter", 2, "", "of the true one"),
)
_STILL_NAMES = {
    "truth": "True",
    "head": "Head mode",
    "composite": "Composite",
    "head_error": "Error, head mode",
    "composite_error": "Error, composite",
}


def fill(pieces: Mapping[str, str], data: Mapping[str, Any]) -> str:
    """The page.

    Args:
        pieces: HTML for each ``{{name}}`` of the template that is not filled here.
        data: What the script draws.
    """
    script = '"use strict";\n(() => {\n' + "\n".join(_read(name) for name in _SCRIPTS) + "\n})();"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {
        "policy": f"default-src 'none'; img-src data:; media-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        "style": _read("page.css"),
        "script": script,
        # Nothing inside may end the element that holds it.
        "data": json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "links": "".join(f'<li><a href="#{name}">{label}</a></li>' for name, label in SECTIONS.items()),
    }
    everything = {**pieces, **own}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: everything[match[1]], _read("page.html"))


def _read(name: str) -> str:
    return (_TEMPLATE / name).read_text(encoding="utf-8")


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def number(value: object, digits: int) -> str:
    """A figure for people; a dash where there is none."""
    return f"{value:.{digits}f}".replace("-", "−") if isinstance(value, int | float) else "–"


def tiles(figures: Mapping[str, Any]) -> str:
    """The figures that matter most, of head mode, those of the composite beside them in small."""
    cells = []
    for key, name, digits, unit, meaning in _TILES:
        head, composite = (number(figures[mode].get(key), digits) for mode in MODES)
        cells.append(
            f"<div><dt>{name}</dt><dd>{head}<small> {unit}</small></dd>"
            f"<dd>composite {composite}</dd><dd>{meaning}</dd></div>"
        )
    return "".join(cells)


def figure_table(figures: Mapping[str, Any]) -> str:
    """All figures in both modes."""
    head = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in MODES.values())
    rows = []
    for group, entries in _FIGURES.items():
        rows.append(f'<tr class="group"><th colspan="3" scope="colgroup">{group}</th></tr>')
        for key, name, digits, meaning in entries:
            cells = "".join(f'<td class="number">{number(figures[mode].get(key), digits)}</td>' for mode in MODES)
            rows.append(f'<tr><th scope="row">{name} <small>{meaning}</small></th>{cells}</tr>')
    return (
        f'<table class="figures"><thead><tr><th scope="col">Figure</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def still_rows(rows: Sequence[tuple[str, Sequence[Still]]]) -> str:
    """Pictures in rows, each with a title."""
    parts = []
    for title, stills in rows:
        shown = "".join(_figure(still, _STILL_NAMES[still.name]) for still in stills)
        parts.append(f'<p class="still-title">{title}</p><div class="stills">{shown}</div>')
    return "".join(parts)


def parsing_row(stills: Iterable[Still], fps: int) -> str:
    """The parse overlays of a few frames."""
    shown = (_figure(still, f"frame {still.frame}, {still.frame / fps:.1f} s") for still in stills)
    return f'<div class="stills six">{"".join(shown)}</div>'


def _figure(still: Still, caption: str) -> str:
    text = escape(f"{caption}, frame {still.frame}" if "frame" not in caption else f"Parsing of {caption}")
    return (
        f'<figure><img src="{data_uri(still.jpeg, "image/jpeg")}" alt="{text}" width="{still.side_px}" '
        f'height="{still.side_px}" decoding="async"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def time_table(times: Mapping[str, Mapping[str, float | None]], order: Sequence[str]) -> str:
    """What each stage took, those of the pipeline first; a row without times for a stage that has none."""
    names = [*order, *sorted(set(times) - set(order))]
    most = max((float(row["seconds"] or 0) for row in times.values()), default=0.0)
    rows = []
    for name in names:
        row = times.get(name)
        seconds = None if row is None else row["seconds"]
        share = 100 * (seconds or 0) / most if most else 0
        bar = f'<svg width="100%" height="100%" aria-hidden="true"><rect width="{share:.2f}%" height="100%"/></svg>'
        memory = None if row is None else row["memory_mb"]
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="number">{duration(seconds)}</td>'
            f'<td class="bar"><span class="track">{bar}</span></td>'
            f'<td class="number">{"–" if memory is None else f"{memory:.0f} MB"}</td></tr>'
        )
    return (
        '<div class="scroll"><table class="times"><thead><tr><th scope="col">Stage</th>'
        '<th scope="col" class="number">Time</th><td class="bar"></td>'
        '<th scope="col" class="number">Most memory</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def duration(seconds: float | None) -> str:
    """``75.2`` as ``"1 min 15 s"``."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", "" if hours else f"{rest} s"]
    return " ".join(part for part in parts if part)


def setting_lists(settings: Mapping[str, Mapping[str, Any]], changed: Mapping[str, Mapping[str, Any]]) -> str:
    """Every stage's settings.

    Args:
        settings: Values by stage and key.
        changed: Those that the subject changes in its preset.
    """
    parts = []
    for stage, values in settings.items():
        own = changed.get(stage) or {}
        rows = "".join(
            f'<tr><th scope="row">{escape(key)}</th><td class="number{" changed" if key in own else ""}">'
            f"{escape(_setting(value))}{' (changed)' if key in own else ''}</td></tr>"
            for key, value in values.items()
        )
        count = f"{len(own)} changed" if own else "as in the preset"
        opened = " open" if own else ""
        parts.append(
            f"<details{opened}><summary>{escape(stage)} <small>{count}</small></summary>"
            f"<table><tbody>{rows}</tbody></table></details>"
        )
    return f'<div class="settings">{"".join(parts)}</div>'


def _setting(value: object) -> str:
    if value is None:
        return "chosen"
    return "default" if value == "" else "yes" if value is True else "no" if value is False else str(value)


def definitions(entries: Mapping[str, str]) -> str:
    """Terms and what is said of them, as text."""
    cells = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries.items())
    return f'<dl class="origin">{cells}</dl>'


def remarks(texts: Sequence[str]) -> str:
    """What the reader should know before believing the rest; nothing where there is nothing."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="remark">{items}</ul>' if items else ""

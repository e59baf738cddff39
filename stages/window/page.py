"""The window's pages: one file each, with style, script and numbers inside; nothing comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from stages.provenance import NOTICE

_FOLDER = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        kind: ``view`` or ``live``.
        name: Of the subject.
        about: A line beside the name.
        consent: The note of the subject's maker; may be empty.
        data: What the script is told.
    """

    kind: str
    name: str
    about: str
    consent: str
    data: Mapping[str, Any]


def fill(page: Page, port: int) -> tuple[str, str]:
    """A page.

    Args:
        page: What it shows.
        port: Of the server, for the policy.

    Returns:
        The HTML and its ``Content-Security-Policy``.
    """
    own = '"use strict";\n(() => {\n' + script(page.kind) + "\n})();"
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    # Not every browser takes 'self' for a WebSocket's address too.
    sockets = " ".join(f"ws://{host}:{port}" for host in ("127.0.0.1", "localhost"))
    policy = (
        f"default-src 'none'; connect-src 'self' {sockets}; img-src data: blob:; media-src 'self'; "
        f"style-src 'unsafe-inline'; script-src 'self' 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    texts = {
        "kind": page.kind,
        "name": page.name,
        "about": page.about,
        "notice": NOTICE,
        "consent": f"Consent: {page.consent}" if page.consent else "No consent note was given.",
    }
    pieces = {key: escape(text) for key, text in texts.items()} | {
        "main": _read(f"{page.kind}.html"),
        "style": _read("page.css"),
        "script": own,
        # Nothing inside may end the element that holds it.
        "data": json.dumps(page.data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: pieces[match[1]], _read("frame.html")), policy


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def script(name: str) -> str:
    """A script that a page loads by itself."""
    return _read(f"{name}.js")

"""Reads the project's pages: their links, headings, blocks of code, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]
"""Every page that people read."""

_FENCE = re.compile(r"^( *)(```+)(\w*)[^\n]*\n(.*?)^\1\2 *$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+(?:\([^()]*\))?)\)")
_SOURCE = re.compile(r"""\b(?:src|href)=["']([^"']+)["']|<source[^>]*srcset=["']([^"']+)["']""")
_SEPARATORS = ("&&", "||", "|", ";", "&")
_REDIRECTIONS = (">", ">>", "<", "2>")


@dataclass(frozen=True)
class Command:
    """A command as a page shows it.

    Attributes:
        page: Where.
        words: The program and its arguments.
    """

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        """The page's name and the command, for a test's name."""
        return f"{self.page.stem}: {' '.join(self.words)}"


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of one language.

    Args:
        page: A Markdown file.
        language: As after the fence.
    """
    return [match[4] for match in _FENCE.finditer(page.read_text(encoding="utf-8")) if match[3] == language]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Where a page's links and pictures lead."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [match[3] for match in _LINK.finditer(text)] + [one or two for one, two in _SOURCE.findall(text)]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as the usual renderers make them."""
    found: set[str] = set()
    for title in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = sum(name == slug or re.fullmatch(re.escape(slug) + r"-\d+", name) is not None for name in found)
        found.add(f"{slug}-{count}" if count else slug)
    return found


def commands(page: Path) -> Iterator[Command]:
    """Every command in a page's ``sh`` blocks."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from _line(page, line)


def _line(page: Path, line: str) -> Iterator[Command]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.wordchars += "~-./*?=:,%@+^…²"
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if word in _SEPARATORS:
            if words:
                yield Command(page, tuple(words))
            words = []
        elif word in _REDIRECTIONS:
            skip = True
        elif skip:
            skip = False
        elif words or not re.fullmatch(r"[A-Z_]+=.*", word):
            words.append(word)


def spoken_commands(page: Path) -> list[str]:
    """What a page's prose calls commands: code that begins with ``radnerf`` and a word."""
    return re.findall(r"`(radnerf [a-z][^`\n]*)`", prose(page))

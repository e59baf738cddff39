"""The Containerfile: what it copies is there and enough, it pins, cleans up, and does not run as root."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instructions and what follows them."""
    plain = "\n".join(line for line in _TEXT.splitlines() if not line.startswith("#"))
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in plain.replace("\\\n", " ").splitlines())
        if word.isupper()
    ]


def _copied(steps: list[tuple[str, str]]) -> list[str]:
    return [name for word, rest in steps if word == "COPY" for name in rest.split()[:-1]]


def test_everything_copied_is_there_and_not_ignored(steps: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[0] == "*"
    for name in _copied(steps):
        assert (ROOT / name).exists(), name
        assert name.split("/")[0] in kept, name
    assert set(kept) == {name.split("/")[0] for name in _copied(steps)}


def test_the_wheel_finds_all_that_it_is_made_of(steps: list[tuple[str, str]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "LICENSE", "pyproject.toml"}
    assert needed <= set(_copied(steps))


def test_dependencies_are_pinned_and_come_before_the_code(steps: list[tuple[str, str]]) -> None:
    installs = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    assert ["--constraint /tmp/constraints.txt" in rest for rest in installs] == [True, False]
    assert "envs/constraints-cpu.txt > /tmp/constraints.txt" in installs[0]
    assert "--no-deps" in installs[1]
    assert all("--no-cache-dir" in rest for rest in installs)
    order = [word + rest for word, rest in steps]
    assert order.index(f"RUN{installs[0]}") < order.index("COPYradnerf radnerf")
    source = re.search(r'python -c "(.*?)"', installs[0], re.DOTALL)
    assert source is not None
    compile(source[1], "Containerfile", "exec")


def test_it_cleans_up_and_does_not_run_as_root(steps: list[tuple[str, str]]) -> None:
    (packages,) = (rest for word, rest in steps if word == "RUN" and "apt-get install" in rest)
    assert "--no-install-recommends" in packages
    assert packages.endswith("rm -rf /var/lib/apt/lists/*")
    words = [word for word, _ in steps]
    users = [rest for word, rest in steps if word == "USER"]
    assert users
    assert not fnmatch.fnmatch(users[-1], "root*")
    assert words.index("USER") > max(index for index, word in enumerate(words) if word == "RUN")
    assert ("VOLUME", "/home/radnerf") in steps
    # Whoever runs it may have a number without a name, and Snakemake asks for one.
    assert any(re.search(r"\bUSER=\w", rest) for word, rest in steps if word == "ENV")
    base = next(rest for word, rest in steps if word == "FROM")
    assert re.fullmatch(r"docker\.io/library/python:3\.1[12]-slim-\w+", base)

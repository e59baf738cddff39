"""The pages: links lead somewhere, commands exist as they are shown, what is made from the code is as the code is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cli.app import app
from cli.commands_page import commands_page
from cli.speech_plan import Wishes, hand_out, plan_speech, write_job
from cli.subject import write_settings
from stages.settings_reading import parse_assignment, resolve
from tests.cli_harness import Shell, shell
from tests.doc_pages import PAGES, ROOT, Command, anchors, blocks, commands, links, prose, spoken_commands
from tests.speaking_subject import make_speaking_subject
from tests.test_batch import tone

__all__ = ["shell"]

_GROUP: Any = typer.main.get_command(app)
_SHOWN = [command for page in PAGES for command in commands(page)]
_OWN = [command for command in _SHOWN if command.words[0] == "radnerf"]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the project"
        if anchor:
            assert anchor in anchors(target), f"{link} leads to no heading; there are {sorted(anchors(target))}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        found = {(page.parent / link.partition("#")[0]).resolve() for link in links(page) if ":" not in link}
        waiting += [path for path in found if path.suffix == ".md" and path not in reached]
    assert {_name(page) for page in PAGES} <= {_name(page) for page in reached}


def test_every_picture_is_used() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    assert set((ROOT / "docs" / "images").iterdir()) <= shown


def test_the_reader_of_pages_sees_what_is_there(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '# A `b` c\n## Same\n## Same\n[x](y.md#z) ![p](q.png) `[no](link)`\n<img src="r.svg">\n'
        "```sh\nradnerf a \\\n  'b c'   # d\nX=1 radnerf e > f && echo g | cat\n```\n```text\n[no](link)\n```\n"
    )
    assert links(page) == ["y.md#z", "q.png", "r.svg"]
    assert anchors(page) == {"a-b-c", "same", "same-1"}
    assert [command.words for command in commands(page)] == [
        ("radnerf", "a", "b c"), ("radnerf", "e"), ("echo", "g"), ("cat",)
    ]  # fmt: skip


def parsed(words: tuple[str, ...]) -> dict[str, Any]:
    """What typer makes of ``radnerf WORDS``, without running it; it fails as the command line would."""
    if words and words[0].startswith("-"):
        names = {name for param in _GROUP.get_params(_GROUP.make_context("radnerf", [], resilient_parsing=True))
                 for name in param.opts}  # fmt: skip
        assert words[0] in names, f"radnerf knows no {words[0]}"
        return {}
    assert words[0] in _GROUP.commands, f"there is no command {words[0]}"
    command = _GROUP.commands[words[0]]
    if "--help" in words:
        return {}
    parent = _GROUP.make_context("radnerf", [], resilient_parsing=True)
    context = command.make_context(words[0], list(words[1:]), parent=parent)
    found: dict[str, Any] = context.params
    return found


@pytest.mark.parametrize("command", _OWN, ids=str)
def test_a_command_is_taken_as_it_is_shown(command: Command) -> None:
    found = parsed(command.words[1:])
    changes: dict[str, dict[str, Any]] = {}
    for text in found.get("assignments") or []:
        stage, key, value = parse_assignment(text)
        changes.setdefault(stage, {})[key] = value
    resolve(found.get("preset") or "draft", changes)


def test_many_commands_are_shown() -> None:
    shown = {command.words[1] for command in _OWN}
    assert set(_GROUP.commands) <= shown
    assert len(_OWN) > 60


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_options_in_the_text_belong_to_the_command(page: Path) -> None:
    for text in spoken_commands(page):
        words = shlex.split(text.replace("…", "").replace("'", ""))
        name = words[1]
        assert name in _GROUP.commands, f"{_name(page)} tells of {text!r}"
        known = {option for param in _GROUP.commands[name].params for option in (*param.opts, *param.secondary_opts)}
        given = {word.partition("=")[0] for word in words[2:] if word.startswith("-") and word != "--"}
        before = words[2 : words.index("--")] if "--" in words else words[2:]
        assert given & {word.partition("=")[0] for word in before} <= known | {"--help", "-h"}, (
            f"{_name(page)} tells of {text!r}"
        )


def test_other_commands_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in _SHOWN:
        program, *rest = command.words
        if program == "make":
            assert {word for word in rest if "=" not in word} <= targets, command
        elif program == "python" and rest[0] == "-m":
            parts = rest[1].split(".")
            assert (ROOT.joinpath(*parts).with_suffix(".py")).exists() or ROOT.joinpath(*parts).is_dir(), command
        elif program == "python" and rest[0] != "-c":
            assert (ROOT / rest[0]).is_file(), command


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_compiles_and_yaml_is_yaml(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
    for block in blocks(page, "yaml"):
        yaml.safe_load(block)


def test_settings_in_the_text_exist() -> None:
    from stages.settings import STAGES

    known = resolve("draft", {})
    # What benchmarks print has parts of the same names.
    for page in (page for page in PAGES if page.parent.name != "benchmarks"):
        for stage, key in re.findall(rf"`({'|'.join(STAGES)})\.([a-z_]+)[`:= ]", prose(page)):
            if (ROOT / "stages" / f"{stage}.py").is_file() and key in ("py", "npz", "json", "safetensors", "zip"):
                continue
            if key in ("run", "check", "html"):
                continue
            assert hasattr(getattr(known, stage), key), f"{_name(page)} tells of {stage}.{key}"


def test_the_list_of_commands_is_as_the_code_is() -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == commands_page(), "run 'make docs'"


RUN = (
    "radnerf status",
    "radnerf status anchor",
    "radnerf models",
    "radnerf stage audio anchor --speech hello-0123abcd",
    "radnerf stage render anchor --speech hello-0123abcd",
    "radnerf verify out.mp4",
    "radnerf pack anchor",
    "radnerf unpack anchor.radnerf --name anna",
)
"""Commands of the pages that are really run here, on a subject of 48 pixels.

What starts a workflow has tests of its own (``test_batch``, ``test_demo``); the pages' Python is run by ``test_api``.
"""


def test_commands_of_the_pages_run(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(shell.home / "data"))
    monkeypatch.delenv("RADNERF_MODELS", raising=False)
    workspace = make_speaking_subject(shell.home, "anchor")
    plan = plan_speech(shell.home, "anchor", tone(Path("speech.wav")), Wishes(output=Path("out.mp4")))
    write_settings(workspace, plan.record.resolved())
    write_job(plan, "hello-0123abcd")
    shown = {" ".join(command.words) for command in _OWN}
    assert set(RUN) <= shown, f"no page shows {sorted(set(RUN) - shown)} now"
    for line in RUN:
        if "verify" in line:
            hand_out(plan, "hello-0123abcd")
        answer = shell(*line.split()[1:])
        assert answer.code == 0, f"{line}: {answer.err}"
    for made in ("out.mp4", "anchor.radnerf", "subjects/anna/subject.yaml"):
        assert Path(made).stat().st_size

"""Help pages and completion: grouped, with examples and exit codes; Tab offers what can be typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import app
from cli.help_pages import RUNNING, SAYING, PageCommand, examples, panels
from tests.cli_harness import Shell, fabricate, shell

__all__ = ["shell"]

_GROUP: Any = typer.main.get_command(app.app)


@pytest.mark.parametrize("name", list(_GROUP.commands))
def test_a_page_tells_everything(shell: Shell, name: str) -> None:
    command = _GROUP.commands[name]
    assert isinstance(command, PageCommand)
    page = shell(name, "--help").out
    assert page.startswith(f"Usage: radnerf {name} [OPTIONS]")
    for param in command.params:
        assert param.help, f"{name} says nothing of {param.name}"
        assert param.opts[-1] in page or param.param_type_name == "argument"
    shown, _, codes = page.partition("Exit codes:")
    lines = [line.strip() for line in shown.partition("Examples:")[2].splitlines() if line.strip()]
    assert lines
    assert all(f"radnerf {name}" in line for line in lines)
    assert [line.split()[0] for line in codes.splitlines() if line.strip()][:3] == ["0", "1", "2"]
    assert max(map(len, page.splitlines())) <= 120
    assert not re.search(r"<[a-z ]+>", page), "a type says less than a name"


def test_options_are_grouped_and_common_ones_come_last(shell: Shell) -> None:
    page = shell("speak", "--help").out
    titles = re.findall(r"^(\w[\w ]*):$", page, re.MULTILINE)
    assert titles[0] == "Arguments"
    assert titles[-4:] == [RUNNING, SAYING, "Examples", "Exit codes"]
    looks = page.partition("What it looks like:")[2].partition("\n\n")[0]
    assert {"--background", "--eyes", "--view", "--size"} <= set(re.findall(r"--[a-z-]+", looks))
    assert "--json" not in looks


def test_panels_keep_every_parameter() -> None:
    for command in _GROUP.commands.values():
        grouped = [param for members in panels(command.params).values() for param in members]
        assert sorted(map(id, grouped)) == sorted(map(id, command.params))


def test_commands_are_grouped(shell: Shell) -> None:
    page = shell("--help").out
    for name in _GROUP.commands:
        assert re.search(rf"^  {name} +\S", page, re.MULTILINE), name
    assert (
        page.index("Make a portrait:") < page.index("  prepare") < page.index("Let it speak:") < page.index("  speak")
    )


def test_an_exit_code_of_its_own_replaces_the_usual_one() -> None:
    page = examples("radnerf x", codes={1: "a job failed", 3: "absent"})
    assert re.findall(r"^  (\d+) +(.*)$", page, re.MULTILINE)[1:4:2] == [("1", "a job failed"), ("3", "absent")]


def _offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str) -> list[str]:
    """What bash would offer for ``radnerf …`` with the cursor at its end."""
    words = typed.split(" ")
    monkeypatch.setenv("_RADNERF_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setattr(sys, "argv", ["radnerf"])
    with pytest.raises(SystemExit):
        app.run()
    return capsys.readouterr().out.split()


def test_tab_offers_commands_options_and_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RADNERF_HOME", raising=False)
    fabricate(tmp_path, "anchor", speech=True)
    fabricate(tmp_path, "anna", trained=False)
    for typed, wanted in {
        "radnerf sp": ["speak"],
        "radnerf train a": ["anchor", "anna"],
        "radnerf speak anc": ["anchor"],
        "radnerf train anchor --pre": ["--preset"],
        "radnerf train anchor --preset d": ["draft"],
        "radnerf train anchor --set head.lips_s": ["head.lips_steps="],
        "radnerf train anchor --profile sl": ["slurm"],
        "radnerf prepare x.mp4 --front-end who": [],
        "radnerf prepare x.mp4 --front-end w": ["whisper", "wav2vec2"],
        "radnerf speak anchor s.wav --pose-from ann": ["anna"],
        "radnerf stage ren": ["render"],
        "radnerf models f": ["fetch"],
        "radnerf models fetch face": ["face_landmarker.task"],
        "radnerf bench --backend r": ["reference"],
        "radnerf bench --device c": ["cpu", "cuda"],
        "radnerf speak anchor s.wav --eyes c": ["clip"],
    }.items():
        assert _offered(monkeypatch, capsys, typed) == wanted, typed
    offered = _offered(monkeypatch, capsys, "radnerf stage render anchor --speech ")
    assert offered == [path.name for path in (tmp_path / "subjects/anchor/speech").iterdir()]


def test_bash_completes_with_the_script_that_is_shown(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    program = tmp_path / "radnerf"
    program.write_text(f"#!{bash}\nexec '{sys.executable}' -P -m cli.app \"$@\"\n", encoding="utf-8")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "_RADNERF_COMPLETE": "source_bash"}
    script = subprocess.run([str(program)], env=environment, capture_output=True, text=True, check=True).stdout
    name = re.search(r"complete .*-F (\S+) radnerf", script)
    assert name is not None
    tried = f'{script}\nCOMP_WORDS=(radnerf evalu); COMP_CWORD=1; {name[1]} radnerf; echo "${{COMPREPLY[@]}}"'
    del environment["_RADNERF_COMPLETE"]
    done = subprocess.run([bash, "-c", tried], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "evaluate"

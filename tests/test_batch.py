"""Many jobs in one run: lists are read as commands, bad rows stop all of it, bad speeches stop only themselves."""

from __future__ import annotations

import io
import json
import os
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console as RichConsole

from cli.batch_board import Board, Job, State
from cli.batch_file import Row, ask, option_columns, read_rows
from cli.console import Console
from cli.snakemake_call import Execution, arguments
from cli.speech_plan import Wishes, plan_speech
from stages.errors import BadInput
from stages.media import probe
from stages.progress import Progress
from tests.cli_harness import Shell, fabricate, shell
from tests.speaking_subject import make_speaking_subject

__all__ = ["shell"]

STAGE = """\
import os, sys
from pathlib import Path
from cli import events
from cli.plan import find_step
from stages.workspace import open_subject
name, subject = sys.argv[2:4]
speech = sys.argv[sys.argv.index("--speech") + 1] if "--speech" in sys.argv else None
events.tell_about(subject, speech)
if name == "render" and speech.startswith("stubborn"):
    events.tell_error("the sound was analysed with another front end", "prepare again", 2)
    sys.exit(2)
if name == "render" and speech.startswith("silent"):
    sys.exit("killed by something that words nothing")
step = find_step(open_subject(Path(os.environ["RADNERF_HOME"]), subject), name, speech)
events.tell_start(name)
for path in step.outputs.values():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"made for": "%s"}' % speech)
events.tell_end(name)
"""
"""A stage that writes its outputs, and fails for speeches of some names."""


def tone(path: Path, hertz: int = 220) -> Path:
    """A third of a second that can be heard."""
    samples = 8000 * np.sin(np.arange(5600) * 2 * np.pi * hertz / 16_000)
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 16_000, 0, "NONE", ""))
        stream.writeframes(samples.astype(np.int16).tobytes())
    return path


def test_a_csv_a_yaml_and_a_pattern_say_the_same(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        tone(tmp_path / name)
    table, listing = tmp_path / "jobs.csv", tmp_path / "jobs.yaml"
    a, b = tmp_path / "a.wav", tmp_path / "b.wav"
    table.write_text(f"subject; speech; options; view\nanna; {a}; --eyes 1; 10,-5\n\n; {b}\n", encoding="utf-8-sig")
    listing.write_text(
        f"defaults: {{subject: anna}}\njobs:\n- {{speech: {a}, options: {{eyes: 1}}, view: [10, -5]}}\n"
        f"- {{speech: {b}}}\n"
    )
    wanted = [Wishes(eyes="1", view="10,-5"), Wishes()]
    for source in (table, listing):
        asked = [ask(row, "anna", None) for row in read_rows([str(source)])]
        assert [(one.subject, one.speech, one.wishes) for one in asked] == [
            ("anna", path, wishes) for path, wishes in zip((a, b), wanted, strict=True)
        ]
    found = [ask(row, "anna", tmp_path / "out") for row in read_rows([str(tmp_path / "*.wav")])]
    assert [one.wishes.output for one in found] == [tmp_path / "out" / f"anna_{name}.mp4" for name in "ab"]


def test_each_option_of_speak_that_changes_a_picture_is_a_column() -> None:
    assert {"background", "eyes", "view", "pose-from", "size"} <= set(option_columns())
    assert not {"home", "json", "device", "output"} & set(option_columns())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"speech": "a.wav"}, "names no subject"),
        ({"subject": "anna"}, "names no speech"),
        ({"subject": "anna", "speech": "a.wav", "options": "--eyez 1"}, "No such option"),
        ({"subject": "anna", "speech": "a.wav", "options": "--json"}, "options say 'json', which is not for one job"),
        ({"subject": "anna", "speech": "a.wav", "options": "--eyes '1"}, "options cannot be read"),
        ({"subject": "anna", "speech": "a.wav", "size": "huge"}, "Invalid value for '--size'"),
        ({"subject": "anna", "speech": "a.wav", "options": "stray"}, "which is not for one job"),
    ],
)
def test_a_row_that_is_no_speak_command_is_refused(values: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        ask(Row("jobs.csv, line 2", values), None, None)


def test_every_bad_row_is_named_before_any_work_starts(shell: Shell) -> None:
    fabricate(shell.home)
    fabricate(shell.home, "raw", trained=False)
    for name in ("a.wav", "b.wav"):
        tone(Path(name))
    Path("jobs.csv").write_text(
        "subject,speech,output,options\nanchor,a.wav,out.mp4,\nanchor,none.wav,,\nraw,a.wav,,\nanchor,b.wav,out.mp4,\n"
        "anchor,b.wav,b.mp4,--eyes 7\n"
    )
    there = {path for path in shell.home.rglob("*") if path.is_file()}
    answer = shell("batch", "jobs.csv")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: 4 jobs of 5 cannot be used: jobs.csv, line 3: there is no file none.wav")
    for said in (
        "line 4: the subject 'raw' is not trained yet",
        "line 5: writes out.mp4, as jobs.csv, line 2 does",
        "line 6: --eyes is '7'",
    ):
        assert said in answer.err
    assert {path for path in shell.home.rglob("*") if path.is_file()} == there


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("subject,speach\n", "error: jobs.csv has an unknown column 'speach' (did you mean speech?)"),
        ("subject,speech,subject\n", "error: jobs.csv names a column twice"),
        ("subject,speech\na,b,c\n", "error: jobs.csv, line 2 has 3 values under 2 columns"),
        ("subject,speech\n", "error: jobs.csv holds no jobs"),
    ],
)
def test_a_list_that_is_no_list_is_refused(shell: Shell, text: str, said: str) -> None:
    Path("jobs.csv").write_text(text)
    answer = shell("batch", "jobs.csv")
    assert answer.code == 2
    assert answer.err.startswith(said)


def test_a_batch_keeps_going_and_does_only_what_is_missing(shell: Shell, tmp_path: Path) -> None:
    for name in ("anchor", "anna"):
        fabricate(shell.home, name)
    for number, name in enumerate(("good", "stubborn", "silent")):
        tone(Path(f"{name}.wav"), 220 + number)
    Path("broken.wav").write_text("no sound")
    Path("jobs.csv").write_text(
        "subject,speech\nanchor,good.wav\nanna,good.wav\nanna,stubborn.wav\nanchor,broken.wav\nanchor,silent.wav\n"
    )
    shell.use_stages(tmp_path / "environment", STAGE)
    answer = shell("batch", "jobs.csv", "--output-dir", "out", "--json")
    assert answer.code == 1, answer.err
    told = json.loads(answer.out)
    assert (told["made"], told["kept"], told["failed"]) == (2, 0, 3)
    errors = {Path(job["speech"]).stem: job["error"] for job in told["jobs"] if job["state"] == "failed"}
    assert errors["stubborn"] == "the sound was analysed with another front end (prepare again)"
    assert errors["broken"].startswith("broken.wav is not a media file")
    assert errors["silent"].startswith("killed by something that words nothing (read ")
    assert sorted(path.name for path in Path("out").iterdir()) == ["anchor_good.mp4", "anna_good.mp4"]
    assert answer.err.count("\n[") + answer.err.startswith("[") == 5
    made = {path: path.stat().st_mtime_ns for path in Path("subjects").rglob("video.mp4")}
    assert len(made) == 2

    tone(Path("broken.wav"))
    Path("out/anna_good.mp4").unlink()
    answer = shell("batch", "jobs.csv", "--output-dir", "out")
    assert answer.code == 1
    assert answer.out.endswith("1 made, 2 up to date, 2 failed, in " + answer.out.rpartition(" in ")[2])
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert Path("out/anna_good.mp4").is_file()


def test_one_speech_with_several_looks_has_a_folder_for_each(shell: Shell, tmp_path: Path) -> None:
    fabricate(shell.home)
    tone(Path("a.wav"))
    Path("jobs.yaml").write_text(
        "- {subject: anchor, speech: a.wav, output: plain.mp4}\n"
        "- {subject: anchor, speech: a.wav, output: red.mp4, background: red}\n"
        "- {subject: anchor, speech: a.wav, output: again.mp4}\n"
    )
    shell.use_stages(tmp_path / "environment", STAGE)
    answer = shell("batch", "jobs.yaml", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    plain, red, again = (Path(f"{name}.mp4").read_text() for name in ("plain", "red", "again"))
    assert plain == again != red
    assert len(list(Path("subjects/anchor/speech").iterdir())) == 2


def test_gpu_jobs_share_the_machine_only_when_told(tmp_path: Path) -> None:
    folder = tmp_path / "subjects" / ".workflow" / ".batch-0"
    target = [tmp_path / "subjects" / "anna" / "speech" / "x" / "video.mp4"]
    alone = arguments(folder, target, Execution(keep_going=True))
    assert alone[alone.index("--resources") + 1] == "gpu=1"
    assert "--keep-going" in alone
    assert "--set-threads" not in alone
    assert alone[-1] == "../../anna/speech/x/video.mp4"
    shared = arguments(folder, target, Execution(gpu_jobs=3))
    assert shared[shared.index("--resources") + 1] == "gpu=3"
    assert any(word.startswith("render=") for word in shared)
    assert "--keep-going" not in shared


@pytest.mark.skipif("RADNERF_BATCH_JOBS" not in os.environ, reason="renders in earnest; say RADNERF_BATCH_JOBS=200")
def test_a_real_batch_makes_all_but_the_bad_ones(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Real stages on a subject of 48 pixels; of 200 speeches 5 are bad."""
    count = int(os.environ["RADNERF_BATCH_JOBS"])
    bad = max(2, count // 40)
    step = count // bad
    monkeypatch.setenv("XDG_DATA_HOME", str(shell.home / "data"))
    make_speaking_subject(shell.home, "filmed")
    # Unpacked, its own stages are given: what is left to do is what a batch does.
    assert shell("pack", "filmed").code == shell("unpack", "filmed.radnerf", "--name", "anchor").code == 0
    speeches = [tone(Path(f"{number:03}.wav"), 150 + number) for number in range(count)]
    broken = speeches[step - 1 :: step]
    for path in broken:
        path.write_bytes(path.read_bytes()[:30])

    def run(made: int, kept: int, failed: int) -> dict[str, Any]:
        answer = shell("batch", "*.wav", "--subject", "anchor", "--output-dir", "out", "--json")
        assert answer.code == 1, answer.err
        told: dict[str, Any] = json.loads(answer.out)
        assert (told["made"], told["kept"], told["failed"]) == (made, kept, failed)
        assert answer.err.count("\n[") + answer.err.startswith("[") == count
        with capfd.disabled():
            sys.stdout.write(f"\n{made} made, {kept} kept, {failed} failed, exit code 1, {told['seconds']:.0f} s\n")
        return told

    for job in run(made=count - bad, kept=0, failed=bad)["jobs"]:
        assert (job["state"] == "failed") == (Path(job["speech"]) in broken)
        if job["state"] == "failed":
            assert "is not a media file" in job["error"]
            assert not Path(job["video"]).exists()
        else:
            assert probe(Path(job["video"])).duration_s == pytest.approx(0.36, abs=0.08)

    # One speech is mended, one video is lost; nothing else is made again.
    tone(broken.pop())
    there = {path: path.stat().st_mtime_ns for path in sorted(Path("subjects").rglob("video.mp4"))}
    assert len(there) == count - bad
    lost, *others = there
    lost.unlink()
    for job in run(made=2, kept=count - bad - 1, failed=bad - 1)["jobs"]:
        assert Path(job["video"]).exists() == (job["state"] != "failed")
    assert {path: path.stat().st_mtime_ns for path in others} == {path: there[path] for path in others}


def test_the_table_shows_what_matters_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fabricate(tmp_path)
    jobs = []
    for number in range(5):
        wishes = Wishes(output=tmp_path / f"{number}.mp4")
        plan = plan_speech(tmp_path, "anchor", tone(tmp_path / f"{number}.wav", 200 + number), wishes)
        jobs.append(Job(f"line {number}", plan, plan.speech_id))
    jobs[0].end(State.MADE)
    jobs[1].work("render", Progress("frames", 30, 60))
    jobs[2].end(State.FAILED, BadInput("no sound", hint="give some"))
    jobs[3].end(State.KEPT)
    board = Board(jobs, Console())
    board.subjects["anchor"] = "head 5/9"
    picture = RichConsole(width=120, record=True, file=io.StringIO())
    picture.print(board.table(4))
    text = picture.export_text()
    lines = text.splitlines()
    assert lines[0].startswith("5 jobs: 1 waiting, 1 working, 1 made, 1 up to date, 1 failed")
    assert lines[1].strip() == "anchor: head 5/9"
    shown = [line.split()[1] for line in lines[3:]]
    assert shown == ["1.wav", "2.wav", "4.wav", "0.wav"]
    assert "render 30/60" in text
    assert "no sound (give some)" in text

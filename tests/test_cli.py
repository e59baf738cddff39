"""The commands as they are typed: what they say, where, and with which exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer

import stages.audio
import stages.frames
from cli import app
from cli import prepare as prepare_module
from cli.subject import load_record, slug
from cli.workflow import Held
from stages import formats
from stages.atomic_files import load_json, save_json
from stages.settings import AudioSettings
from stages.workspace import Workspace
from tests.cli_harness import REFUSING_STAGE, WORKING_STAGE, Shell, fabricate, shell

__all__ = ["shell"]


@pytest.fixture
def accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file pass for a video and for a speech of four seconds."""
    monkeypatch.setattr(stages.frames, "check", lambda *_: SimpleNamespace(duration_s=4.0))
    monkeypatch.setattr(stages.audio, "check", lambda _: 4.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prepare"], "error: Missing argument 'VIDEO'. (see 'radnerf prepare --help')"),
        (["prepare", "none.mp4"], "error: there is no file none.mp4 (check the name)"),
        (["prepare", "."], "error: . is a folder (give a file)"),
        (["prepare", "empty.mp4"], "error: empty.mp4 is empty (give another file)"),
        (["prepare", "text.mp4", "--name", "../x"], "error: '../x' cannot be a subject's name"),
        (["prepare", "text.mp4", "--crop", "1,2"], "error: --crop is '1,2' (give 3 numbers"),
        (
            ["prepare", "text.mp4", "--set", "head.stepz=1"],
            "error: unknown setting head.stepz (did you mean head.steps?)",
        ),
        (["prepare", "text.mp4", "--set", "head"], "error: 'head' is no setting (write STAGE.KEY=VALUE"),
        (["prepare", "text.mp4", "--front-end", "mp3"], "error: audio.front_end is 'mp3' (choose one of: logmel"),
        (["train", "nobody"], "error: there is no subject 'nobody'"),
        (["train", "raw", "--preset", "best"], "error: unknown preset 'best' (choose one of: draft, standard"),
        (["train", "raw", "--device", "gpu"], "error: 'gpu' is no device"),
        (["train", "raw", "--backend", "gpu"], "error: 'gpu' is no backend"),
        (["train", "raw", "stray"], "error: unexpected extra argument 'stray'"),
        (["train", "raw", "--stepz", "3"], "error: No such option: --stepz"),
        (["speak", "nobody", "text.mp4"], "error: there is no subject 'nobody'"),
        (["speak", "raw", "text.mp4"], "error: the subject 'raw' is not trained yet (run 'radnerf train raw' first)"),
        (["speak", "anchor", "none.wav"], "error: there is no file none.wav (check the name)"),
        (
            ["speak", "anchor", "text.mp4", "--eyes", "2"],
            "error: --eyes is '2' (give auto, clip, or 0 (shut) to 1 (open)",
        ),
        (["speak", "anchor", "text.mp4", "--view", "90,0"], "error: --view is '90,0' (give at most 45 degrees"),
        (["speak", "anchor", "text.mp4", "--background", "blueish"], "error: --background is 'blueish', neither"),
        (["speak", "anchor", "text.mp4", "--background", "text.mp4"], "error: text.mp4 "),
        (["speak", "anchor", "text.mp4", "--pose-from", "nobody"], "error: there is no subject 'nobody'"),
        (["speak", "anchor", "text.mp4", "-o", "out.avi"], "error: the video cannot be written to out.avi"),
        (["speak", "anchor", "text.mp4", "-o", "no/out.mp4"], "error: there is no folder no (make it first)"),
        (["evaluate", "raw"], "error: the subject 'raw' is not trained yet"),
        (["evaluate", "anchor", "--save-frames", "subjects"], "error: subjects holds other files, "),
        (["status", "nobody"], "error: there is no subject 'nobody'"),
        (["stage", "heads", "raw"], "error: there is no stage 'heads' (the stages are: frames, landmarks"),
        (["stage", "render", "raw"], "error: the render stage needs a speech"),
        (["stage", "head", "raw", "--speech", "x"], "error: the head stage belongs to the subject"),
        (["stage", "audio", "raw", "--speech", "../x"], "error: '../x' is no speech's name"),
        (["sing", "raw"], "error: No such command 'sing'."),
    ],
)
def test_what_cannot_be_used_gets_one_line_and_exit_code_2(shell: Shell, words: list[str], said: str) -> None:
    fabricate(shell.home)
    fabricate(shell.home, "raw", trained=False)
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("no video")
    there = _files(shell.home)

    answer = shell(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith(said)
    assert answer.err.count("\n") == 1
    assert _files(shell.home) == there


def test_what_is_chosen_is_told_after_what_is_wrong(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("text.mp4").write_text("no video")
    monkeypatch.setattr("stages.sound.both.best_present", lambda: AudioSettings("both", "base"))
    answer = shell("prepare", "text.mp4", "--set", "head.stepz=1")
    assert answer.err == "error: unknown setting head.stepz (did you mean head.steps?)\n"


def test_a_file_that_is_no_video_is_refused_and_leaves_nothing(shell: Shell) -> None:
    Path("text.mp4").write_text("no video")
    answer = shell("prepare", "text.mp4")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("error: text.mp4 is not a media file")
    assert not Path("subjects").exists()


def test_a_speech_without_sound_is_refused_and_leaves_nothing(shell: Shell) -> None:
    fabricate(shell.home)
    with wave.open("silence.wav", "wb") as stream:
        stream.setparams((1, 2, 16_000, 0, "NONE", ""))
        stream.writeframes(np.zeros(16_000, np.int16).tobytes())
    there = _files(shell.home)
    answer = shell("speak", "anchor", "silence.wav")
    assert answer.code == 2
    assert "no sound in it" in answer.err
    assert _files(shell.home) == there


@pytest.mark.usefixtures("accepting")
def test_too_little_room_is_refused_before_anything_is_written(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.mp4").write_bytes(b"video")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    answer = shell("prepare", "a.mp4", "--quiet")
    assert answer.code == 2
    assert answer.err.startswith("error: preparing this video needs about ")
    assert not Path("subjects").exists()


@pytest.mark.usefixtures("accepting")
def test_input_found_bad_by_a_later_stage_leaves_nothing(shell: Shell, tmp_path: Path) -> None:
    Path("a.mp4").write_bytes(b"video")
    shell.use_stages(tmp_path / "environment", REFUSING_STAGE)
    answer = shell("prepare", "a.mp4", "--quiet")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: the face is lost from 3.0 to 5.2 s (cut that part out)\n"
    assert not Path("subjects").exists()


@pytest.mark.usefixtures("accepting")
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ('it\'s "my" clip {x}.mp4', "it-s-my-clip-x"),
        ("Müller & Söhne.MOV", "Muller-Sohne"),
        ("-dash.mp4", "dash"),
        ("视频.mp4", "subject-0cab1c96"),
        ("$(touch gone); a.mp4", "touch-gone-a"),
    ],
)
def test_awkward_names_become_safe_subjects(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, file: str, name: str
) -> None:
    Path(file).write_bytes(b"video")
    monkeypatch.setattr(prepare_module, "run_preparation", _prepared)
    answer = shell("prepare", "--json", "--quiet", "--", file)
    workspace = Workspace(shell.home / "subjects" / name)
    assert answer.code == 0, answer.err
    assert workspace.source.read_bytes() == Path(file).read_bytes()
    record = load_record(workspace.subject)
    assert (record.name, record.source.name) == (name, file)


def _prepared(held: Held, *_: object) -> SimpleNamespace:
    """What preparation would leave of what ``prepare`` itself reads."""
    workspace = held.workspace
    save_json(workspace.frames_info, {"frames": 100, "fps": 25})
    workspace.track.parent.mkdir(exist_ok=True)
    still = np.zeros((100, 3), np.float32)
    formats.Track(
        rotation=np.tile(np.eye(3, dtype=np.float32), (100, 1, 1)),
        translation=still,
        eye_open=still[:, 0],
        mouth_open=still[:, 0],
        mouth_wide=still[:, 0],
        mouth_shape=np.zeros((100, 40, 2), np.float32),
        tracked=np.ones(100, bool),
        blinks=np.array([45], np.int64),
        shape_offset_cm=np.zeros((468, 3), np.float32),
        focal_px=1024.0,
        centre_x_px=256.0,
        centre_y_px=256.0,
        reprojection_rms_px=0.63,
        size_px=512,
    ).save(workspace.track)
    return SimpleNamespace(seconds=12.0, ran=["frames"])


@pytest.mark.usefixtures("accepting")
def test_prepare_answers_with_one_json_object(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.mp4").write_bytes(b"video")
    monkeypatch.setattr(prepare_module, "run_preparation", _prepared)
    answer = shell("prepare", "a.mp4", "--json", "--consent", "Anna, by mail")
    assert json.loads(answer.out) == {
        "seconds": 12.0,
        "frames": 100,
        "fps": 25,
        "reprojection_rms_px": 0.63,
        "blinks": [45],
    }
    assert load_record(Path("subjects/a/subject.yaml")).consent == "Anna, by mail"


@pytest.mark.usefixtures("accepting")
def test_another_video_needs_another_name_or_force(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "run_preparation", _prepared)
    Path("a.mp4").write_bytes(b"video")
    Path("b.mp4").write_bytes(b"another")
    assert shell("prepare", "a.mp4", "--quiet").code == 0
    assert shell("prepare", "a.mp4", "--quiet").code == 0

    answer = shell("prepare", "b.mp4", "--name", "a", "--quiet")
    assert answer.code == 2
    assert answer.err.startswith("error: the subject 'a' was made from another video, a.mp4 (give another --name")

    assert shell("prepare", "b.mp4", "--name", "a", "--force", "--quiet").code == 0
    assert Path("subjects/a/source/video").read_bytes() == b"another"


@pytest.mark.usefixtures("accepting")
def test_speaking_writes_the_video_where_it_was_asked_for(shell: Shell, tmp_path: Path) -> None:
    fabricate(shell.home)
    Path("it's {a}.wav").write_bytes(b"speech")
    shell.use_stages(tmp_path / "environment", WORKING_STAGE)
    answer = shell("speak", "anchor", "it's {a}.wav", "--json", "-o", "my out.mp4", "--background", "#204060")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert set(told) == {"video", "frames", "seconds", "fps", "peak_rss_mb"}
    assert told["video"] == str(shell.home / "my out.mp4")
    assert Path("my out.mp4").is_file()
    (job,) = Path("subjects/anchor/speech").glob("*/job.json")
    assert job.parent.name.startswith("it-s-a-")
    assert load_json(job)["background_colour"] == [32, 64, 96]

    written = job.stat().st_mtime_ns
    assert shell("speak", "anchor", "it's {a}.wav", "-o", "my out.mp4", "--background", "#204060").code == 0
    assert job.stat().st_mtime_ns == written


@pytest.mark.usefixtures("accepting")
def test_the_demo_makes_a_subject_and_lets_it_speak(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("stages.demo.make.make_demo_video", lambda output, *_: output.write_bytes(b"video"))
    monkeypatch.setattr("stages.demo.make.make_demo_speech", lambda output: output.write_bytes(b"speech"))
    monkeypatch.setattr(prepare_module, "run_preparation", _prepared)
    shell.use_stages(tmp_path / "environment", WORKING_STAGE)
    answer = shell("demo", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["video"] == str(shell.home / "demo_speaks.mp4")
    assert Path("demo_speaks.mp4").is_file()
    record = load_record(Path("subjects/demo/subject.yaml"))
    assert (record.preset, record.consent) == ("draft", "a drawn head, nobody's likeness")


@pytest.mark.usefixtures("accepting")
def test_a_demo_that_was_killed_draws_nothing_twice_and_leaves_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Path] = []

    def draw(output: Path, *_: object) -> None:
        drawn.append(output)
        output.write_bytes(b"video")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    scratch = tmp_path / "scratch"
    left_over = scratch / "radnerf-demo-99999999-x"
    left_over.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("stages.demo.make.make_demo_video", draw)
    monkeypatch.setattr("stages.demo.make.make_demo_speech", lambda output: output.write_bytes(b"speech"))
    monkeypatch.setattr(prepare_module, "run_preparation", killed)
    assert shell("demo", "--quiet").code == 130
    monkeypatch.setattr(prepare_module, "run_preparation", _prepared)
    shell.use_stages(tmp_path / "environment", WORKING_STAGE)
    assert shell("demo", "--quiet").code == 0
    assert Path("subjects/demo/prepared.json").is_file()
    assert len(drawn) == 1
    assert list(scratch.iterdir()) == []


def test_options_are_kept_in_the_subject_and_hand_edits_are_obeyed(shell: Shell, tmp_path: Path) -> None:
    workspace = fabricate(shell.home)
    shell.use_stages(tmp_path / "environment", WORKING_STAGE)
    assert shell("train", "anchor", "--set", "head.steps=70", "--backbone", "nerf", "--quiet").code == 0
    record = load_record(workspace.subject)
    assert record.settings == {"head": {"steps": 70, "backbone": "nerf"}}

    workspace.subject.write_text(workspace.subject.read_text().replace("steps: 70", "steps: 80"))
    report = json.loads(shell("status", "anchor", "--json").out)
    assert report["stages"]["head"] | {"bytes": 0, "last_seconds": 0} == {
        "state": "stale",
        "why": "steps 70 -> 80",
        "bytes": 0,
        "last_seconds": 0,
    }
    assert report["stages"]["pose"]["state"] == "done"
    answer = shell("train", "anchor", "--json")
    assert json.loads(answer.out)["head_steps"] == 80 + load_record(workspace.subject).resolved().head.lips_steps


def test_an_unknown_key_in_the_subject_names_the_close_one(shell: Shell) -> None:
    workspace = fabricate(shell.home)
    workspace.subject.write_text(workspace.subject.read_text().replace("consent:", "concent:"))
    answer = shell("train", "anchor")
    assert answer.code == 2
    assert "has an unknown key 'concent' (did you mean consent?)" in answer.err


def test_a_damaged_subject_does_not_hide_the_others(shell: Shell) -> None:
    fabricate(shell.home)
    fabricate(shell.home, "broken").subject.write_text("format: [")
    answer = shell("status", "--json")
    assert answer.code == 0
    anchor, broken = json.loads(answer.out)["subjects"]
    assert anchor["stages"]["head"]["state"] == "done"
    assert "cannot be read" in broken["error"]


def test_an_unforeseen_error_is_one_line_that_calls_itself_a_bug(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("cli.status.describe_subject", broken)
    fabricate(shell.home)
    answer = shell("status", "anchor")
    assert answer.code == 1
    assert (
        answer.err == "error: ZeroDivisionError: a b (this is a bug; RADNERF_DEBUG=1 shows where, please report it)\n"
    )
    monkeypatch.setenv("RADNERF_DEBUG", "1")
    assert "Traceback" in shell("status", "anchor").err


def test_every_command_shows_examples(shell: Shell) -> None:
    for command in typer.main.get_command(app.app).commands:  # type: ignore[attr-defined]
        answer = shell(command, "--help")
        assert answer.code == 0
        assert f"radnerf {command}" in answer.out.partition("Examples:")[2]


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; import cli.app; "
        "print(*{'torch', 'cv2', 'mediapipe', 'snakemake', 'numba', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -P -m cli.app status --home '{tmp_path}' | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_doctor_tells_what_is_here(shell: Shell) -> None:
    answer = shell("doctor", "--json")
    report = json.loads(answer.out)
    found = {check["what"]: check["ok"] for check in report["checks"]}
    assert answer.code == (0 if report["healthy"] else 1)
    assert found["kernels: reference"]
    assert found["ffmpeg"]


@pytest.mark.parametrize(
    ("text", "name"), [("a b", "a-b"), ("..x..", "x"), ("é", "e"), ("中", ""), ("a/b", "a-b"), ("_A.1-", "A.1")]
)
def test_slugs_are_safe_names(text: str, name: str) -> None:
    assert slug(text) == name


def _files(folder: Path) -> set[str]:
    """Every file below a folder, locks left out."""
    return {str(path) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}

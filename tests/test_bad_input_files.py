"""Settings, subjects, models, folders and names that cannot be used: one line, exit code 2, and nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import stages.audio
import stages.frames
from cli.subject import MIGRATIONS, load_record, save_record
from stages.checkpoint import VERSION
from stages.formats import Track
from stages.workspace import Workspace
from tests import tiny_subject
from tests.bad_inputs import assert_one_line, snapshot, voice, write_wav
from tests.cli_harness import WORKING_STAGE, Shell, fabricate, shell

__all__ = ["shell"]

Note = Callable[[str, object], None]


def refused(shell: Shell, words: list[str], said: str, note: Note, code: int = 2) -> None:
    """A command is refused in one line and writes nothing."""
    before = snapshot(shell.home)
    answer = shell(*words)
    written = snapshot(shell.home).new_since(before)
    note("files_written", len(written))
    assert_one_line(answer, said, code)
    assert written == []


SETTINGS: list[tuple[str, str]] = [
    ("head.steps=many", "head.steps is 'many', a text (give a whole number)"),
    ("head.steps=1.5", "head.steps is 1.5, a number (give a whole number)"),
    ("head.steps=true", "head.steps is True, true or false (give a whole number)"),
    ("head.steps=yes", "head.steps is True, true or false (give a whole number)"),
    ("head.steps=", "head.steps is None, nothing (give a whole number)"),
    ("head.steps=[1, 2]", "head.steps is [1, 2], a list (give a whole number)"),
    ("head.steps={a: 1}", "head.steps is {'a': …}, a block of keys (give a whole number)"),
    ("head.steps=-1", "head.steps is -1 (give a value from 0 to 1e+07)"),
    (f"head.steps={'9' * 400}", "head.steps is a huge number (give a value from 0 to 1e+07)"),
    ("head.steps=2026-02-30", "head.steps is '2026-02-30', a text (give a whole number)"),
    ("head.grid_rate=.nan", "head.grid_rate is nan (give a value from 0 to 1)"),
    ("head.grid_rate=.inf", "head.grid_rate is inf (give a value from 0 to 1)"),
    (f"head.grid_rate={'9' * 400}", "head.grid_rate is a huge number, a whole number (give a number)"),
    ("head.size_px=0", "head.size_px is 0 (give a value from 16 to 4096)"),
    ("frames.size_px=100000", "frames.size_px is 100000 (give a value from 128 to 4096)"),
    ("head.hidden_width=50", "head.hidden_width is 50 (give a multiple of 16, 1024 at most)"),
    ("head.features_per_level=3", "head.features_per_level is 3 (choose one of: 2, 4)"),
    ("head.backbone=gaussians", "head.backbone is 'gaussians' (choose one of: radnerf, nerf)"),
    ("head.max_resolution=8", "head.base_resolution is 16, more than head.max_resolution, which is 8 (change one"),
    ("head.frames_per_step=64 rays", "head.frames_per_step is '64 rays', a text (give a whole number)"),
    ("frames.crop=[1, 2]", "frames.crop is [1, 2] (give 3 values)"),
    ("frames.crop=everything", "frames.crop is 'everything' (give 3 values)"),
    ("head.stepz=3", "unknown setting head.stepz (did you mean head.steps?)"),
    ("heads.steps=3", "unknown stage 'heads' in the settings (known: "),
    ("head.steps", "'head.steps' is no setting (write STAGE.KEY=VALUE"),
    ("=3", "'=3' is no setting (write STAGE.KEY=VALUE"),
    ("head.steps=[1", "the value '[1' cannot be read: "),
    ("head.steps=" + "[" * 3000, "the value '[[["),
    ("head.steps=*x", "the value '*x' cannot be read: aliases (*name) are not read"),
    ("head.steps=!!python/object/apply:os.system ['touch hacked']", 'the value "!!python/object/apply'),
    ("head.steps=!!timestamp x", "the value '!!timestamp x' cannot be read: "),
    ("head.steps=\x1b[31mred", "the value '\\x1b[31mred' cannot be read: "),
    ("head.st\neps=3", "unknown setting head.'st\\neps' (did you mean head.steps?)"),
]


@pytest.mark.parametrize(("change", "said"), SETTINGS, ids=[change[:24] for change, _ in SETTINGS])
def test_settings_that_cannot_be_are_refused(shell: Shell, change: str, said: str, record_property: Note) -> None:
    fabricate(shell.home)
    refused(shell, ["train", "anchor", "--set", change], said, record_property)


LAUGHS = "\n".join(["a: &a [x, x, x, x, x, x, x, x]", *(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]" for a, b in
                                                         zip("abcdefghij", "bcdefghijk", strict=True))])  # fmt: skip

RECORDS: list[tuple[str, Callable[[str], str | bytes], str]] = [
    ("tab for spaces", lambda text: text.replace("settings:", "settings:\n\thead: {}"), "cannot be read: "),
    ("no YAML", lambda _: "format: [", "cannot be read: "),
    ("no keys", lambda _: "hello", "holds no keys (mend it"),
    ("empty", lambda _: "", "holds no keys (mend it"),
    ("bytes", lambda _: b"\xff\xfe\x00", "cannot be read: "),
    ("a key twice", lambda text: text + "preset: max\n", "cannot be read: the key 'preset' is there twice"),
    ("unknown key", lambda text: text.replace("consent:", "concent:"), "has an unknown key 'concent' (did you mean"),
    ("no format", lambda text: text.replace("format: 1", "x: 1"), "has format None, and this radnerf reads 1"),
    ("later format", lambda text: text.replace("format: 1", "format: 99"), "has format 99, and this radnerf reads 1"),
    ("older format", lambda text: text.replace("format: 1", "format: 0"), "has format 0, which this radnerf no"),
    ("text for format", lambda text: text.replace("format: 1", "format: one"), "has format 'one', and this"),
    ("number for name", lambda text: text.replace("name: anchor\n", "name: 5\n"), ": name is 5 (write a text)"),
    ("number for preset", lambda text: text.replace("preset: draft", "preset: 3"), ": preset is 3 (write a text)"),
    ("list for settings", lambda text: text.replace("settings: {}", "settings: [1]"), ": settings is [1] (write a"),
    ("no source", lambda text: text.replace("source:", "#"), "does not say what its source is (mend"),
    ("laughs", lambda text: text + LAUGHS, "cannot be read: aliases (*name) are not read"),
    ("code", lambda text: text + "x: !!python/object/apply:os.system ['touch hacked']", "cannot be read: could not"),
    ("long", lambda text: text + "#" * 1_100_000, "is 11"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in RECORDS], ids=[case[0] for case in RECORDS])
def test_a_subject_that_was_edited_badly_is_refused(
    shell: Shell, change: Callable[[str], str | bytes], said: str, record_property: Note
) -> None:
    record = fabricate(shell.home).subject
    new = change(record.read_text())
    record.write_bytes(new if isinstance(new, bytes) else new.encode())
    colon = "" if said.startswith(":") else " "
    refused(shell, ["train", "anchor"], f"{record}{colon}{said}", record_property)
    assert not (shell.home / "hacked").exists()


def test_an_older_subject_is_migrated_with_a_backup(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fabricate(shell.home).subject
    older = path.read_text().replace("format: 1", "format: 0").replace("consent: ''", "note: Anna")
    path.write_text(older)
    monkeypatch.setitem(
        MIGRATIONS, 0, lambda values: {"consent" if key == "note" else key: value for key, value in values.items()}
    )
    record = load_record(path)
    assert (record.format, record.consent) == (1, "Anna")
    assert path.read_text() == older
    save_record(path, record)
    assert path.with_name("subject.yaml.format-0").read_text() == older
    assert load_record(path) == record


@pytest.fixture
def subject(shell: Shell) -> Workspace:
    """A subject with models, whose speech waits to be rendered."""
    workspace = tiny_subject.make_subject(shell.home / "subjects" / "anchor")
    text = (
        "format: 1\nname: anchor\ncreated: now\nsource: {name: a, sha256: b, size_bytes: 1}\npreset: draft\n"
        "settings:\n  render: {sign: false}\n"
    )
    workspace.subject.write_text(text)
    folder = workspace.speech("hello")
    folder.root.mkdir(parents=True)
    folder.job.write_text('{"format": 1, "subject": "anchor"}')
    write_wav(folder.source, voice(0.4))
    tiny_subject.make_features(20).save(folder.features)
    workspace.settings("render").parent.mkdir()
    assert shell("stage", "render", "anchor", "--speech", "hello", "--quiet").code == 0
    folder.video.unlink()
    return workspace


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _other_kind(path: Path) -> None:
    path.write_bytes((path.parent.parent / "torso" / "torso.safetensors").read_bytes())


def _newer(path: Path) -> None:
    ours = f'\\"version\\": {VERSION}'.encode()
    assert ours in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(ours, b'\\"version\\": 7'))


def _giant(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'\\"frames\\": 30', b'\\"frames\\": 99'))


def _pickle(path: Path) -> None:
    torch.save({"x": torch.zeros(3)}, path)


def _foreign(path: Path) -> None:
    save_file({"x": torch.zeros(3)}, path)


def _outside(path: Path) -> None:
    elsewhere = path.parents[3] / "elsewhere"
    path.replace(elsewhere)
    path.symlink_to(elsewhere)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _nan_track(path: Path) -> None:
    values = dict(np.load(path))
    values["rotation"] = values["rotation"] * np.nan
    np.savez(path, **values)


def _short_track(path: Path) -> None:
    values = dict(np.load(path))
    values["translation"] = values["translation"][:3]
    np.savez(path, **values)


MODELS: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("cut head", "head", _cut, "{path} is damaged: "),
    ("empty head", "head", lambda path: path.write_bytes(b"") and None, "{path} is damaged: "),
    ("text for a head", "head", lambda path: path.write_text("hello" * 99) and None, "{path} is damaged: "),
    ("pickle for a head", "head", _pickle, "{path} is damaged: "),
    ("another program's weights", "head", _foreign, "{path} is damaged: "),
    ("torso for a head", "head", _other_kind, "{path} holds no head (delete it"),
    ("later version", "head", _newer, f"{{path}} has version 7, and this radnerf reads {VERSION} (use"),
    ("header that asks for more", "head", _giant, "{path} is damaged: appearance has shape (30, 4), not (99, 4)"),
    ("folder for a head", "head", _folder, "{path} is damaged: "),
    ("link to elsewhere", "head", _outside, "{path} is a link that leads out of the subject (put"),
    ("missing torso", "torso", lambda path: path.unlink(), "the render stage needs {path}, which is not there ("),
    ("cut torso", "torso", _cut, "{path} is damaged: "),
    ("cut poses", "track", _cut, "{path} is damaged: "),
    ("text for poses", "track", lambda path: path.write_text("hello") and None, "{path} is damaged: "),
    ("poses of NaN", "track", _nan_track, "{path} is damaged: rotation holds values that are not finite"),
    ("poses of two lengths", "track", _short_track, "{path} is damaged: translation has shape (3, 3), not"),
    ("no picture for a background", "background", lambda path: path.write_text("hello") and None, "{path} "),
]  # fmt: skip


@pytest.mark.parametrize(("what", "harm", "said"), [case[1:] for case in MODELS], ids=[case[0] for case in MODELS])
def test_a_damaged_file_of_a_subject_is_named(
    shell: Shell, subject: Workspace, what: str, harm: Callable[[Path], None], said: str, record_property: Note
) -> None:
    path: Path = getattr(subject, what)
    harm(path)
    words = ["stage", "render", "anchor", "--speech", "hello", "--quiet"]
    refused(shell, words, said.format(path=path), record_property)


JOBS: list[tuple[str, object, str]] = [
    ("no JSON", "{", "cannot be read: "),
    ("list", [1], "holds no JSON object"),
    ("deep", "[" * 100_000, "cannot be read: "),
    ("NaN", '{"format": 1, "subject": "a", "size_px": NaN}', "cannot be read: NaN is no number"),
    ("later format", {"format": 2}, "has format 2, and this radnerf reads 1"),
    ("unknown key", {"format": 1, "colour": 1}, "has an unknown key 'colour' (known: "),
    ("file elsewhere", {"format": 1, "pose": {"file": "/etc/passwd"}}, ": pose is '/etc/passwd', not a file beside"),
    ("file above", {"format": 1, "pose": {"file": "../speech"}}, ": pose is '../speech', not a file beside it"),
    ("text for a size", {"format": 1, "size_px": "big"}, ": size_px is 'big' (give 16 to 4096"),
    ("huge size", {"format": 1, "size_px": 10**9}, ": size_px is 1000000000 (give 16 to 4096"),
]


@pytest.mark.parametrize(("job", "said"), [case[1:] for case in JOBS], ids=[case[0] for case in JOBS])
def test_a_job_that_cannot_be_is_refused(
    shell: Shell, subject: Workspace, job: object, said: str, record_property: Note
) -> None:
    path = subject.speech("hello").job
    path.write_text(job if isinstance(job, str) else json.dumps(job))
    colon = "" if said.startswith(":") else " "
    words = ["stage", "render", "anchor", "--speech", "hello", "--quiet"]
    refused(shell, words, f"{path}{colon}{said}", record_property)


@pytest.fixture
def accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file pass for a video of four seconds."""
    from types import SimpleNamespace

    monkeypatch.setattr(stages.frames, "check", lambda *_: SimpleNamespace(duration_s=4.0))
    monkeypatch.setattr(stages.audio, "check", lambda _: 4.0)


@pytest.mark.usefixtures("accepting")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "audio.front_end=whisper", "--set", "audio.model=/nowhere"], ""),
        (["--set", "landmarks.model=tasks"], "there is no face_landmarker.task in "),
    ],
    ids=["front end's weights", "landmarks' model"],
)
def test_a_missing_model_is_told_before_the_work(
    shell: Shell, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, record_property: Note
) -> None:
    monkeypatch.setenv("RADNERF_MODELS", "/nowhere")
    monkeypatch.setenv("XDG_DATA_HOME", str(shell.home / "data"))
    Path("a.mp4").write_bytes(b"video")
    refused(shell, ["prepare", "a.mp4", "--quiet", *words], said, record_property)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("a small disk needs the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.usefixtures("accepting")
def test_a_disk_without_room_is_told_before_the_work(shell: Shell, small_disk: Path, record_property: Note) -> None:
    Path("a.mp4").write_bytes(b"video")
    refused(shell, ["prepare", "a.mp4", "--quiet", "--home", str(small_disk)], "preparing this video needs about",
            record_property)  # fmt: skip
    assert list(small_disk.iterdir()) == []


@pytest.mark.usefixtures("accepting")
def test_a_disk_that_cannot_be_written_is_told_before_the_work(
    shell: Shell, small_disk: Path, record_property: Note
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    Path("a.mp4").write_bytes(b"video")
    words = ["prepare", "a.mp4", "--quiet", "--home", str(small_disk)]
    refused(shell, words, f"{small_disk} cannot be written (check its rights", record_property)


def test_a_disk_that_fills_up_half_way_leaves_nothing_half_made(small_disk: Path, subject: Workspace) -> None:
    (small_disk / "other").write_bytes(bytes(1_900_000))
    final = small_disk / "track.npz"
    whole = Track.load(subject.track)
    (small_disk / "more").write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize))
    with pytest.raises(Exception, match=r"cannot write .*No space left on device") as caught:
        whole.save(final)
    assert caught.value.exit_code == 1  # type: ignore[attr-defined]
    assert {path.name for path in small_disk.iterdir()} == {"other", "more"}


HOMES: list[tuple[str, list[str], str]] = [
    ("home is a file", ["train", "anchor", "--home", "a.mp4"], "a.mp4 is no folder (give --home a folder)"),
    ("below a file", ["prepare", "a.mp4", "--home", "a.mp4/x"], ""),
    ("name that climbs", ["prepare", "a.mp4", "--name", "../x"], "'../x' cannot be a subject's name (use letters"),
    ("empty name", ["prepare", "a.mp4", "--name", ""], "'' cannot be a subject's name (use letters"),
    ("absolute name", ["train", "/etc"], "'/etc' cannot be a subject's name"),
    ("hidden name", ["train", ".workflow"], "'.workflow' cannot be a subject's name"),
    ("name with a line break", ["train", "a\nb"], "'a\\nb' cannot be a subject's name"),
    ("long name", ["train", "a" * 65], f"'{'a' * 65}' cannot be a subject's name"),
    ("name of other letters", ["train", "Ünal"], "'Ünal' cannot be a subject's name"),
    ("speech that climbs", ["stage", "render", "anchor", "--speech", "../x"], "'../x' is no speech's name"),
    ("output over the speech", ["speak", "anchor", "a.mp4", "-o", "a.mp4"], "the video would overwrite a.mp4"),
    ("output in no folder", ["speak", "anchor", "a.mp4", "-o", "no/o.mp4"], "there is no folder no (make it"),
    ("output of another kind", ["speak", "anchor", "a.mp4", "-o", "o.avi"], "the video cannot be written to o.avi"),
    ("output with a long name", ["speak", "anchor", "a.mp4", "-o", f"{'o' * 260}.mp4"], "the name 'oooo"),
    ("background that is no picture", ["speak", "anchor", "a.mp4", "--background", "a.mp4"], "a.mp4 "),
]


@pytest.mark.usefixtures("accepting")
@pytest.mark.parametrize(("words", "said"), [case[1:] for case in HOMES], ids=[case[0] for case in HOMES])
def test_names_and_folders_that_cannot_be_are_refused(
    shell: Shell, words: list[str], said: str, record_property: Note
) -> None:
    fabricate(shell.home)
    Path("a.mp4").write_bytes(b"video")
    refused(shell, [*words, "--quiet"], said, record_property)


NAMES = ["a b.mp4", "it's \"q\".mp4", "-dash.mp4", "新闻.mp4", "a:b.mp4", "50%d [x]*?.mp4", "noending", "tab\there.mp4",
         "line\nbreak.mp4", "$(touch hacked).mp4", "; touch hacked.mp4", "{wild}.mp4", "emoji 🙂.mp4", "~.mp4", "é.mp4",
         "bytes\udcff\udcfe.mp4", f"{'n' * 240}.mp4", "..mp4", "a\\b.mp4", "&amp;<b>.mp4"]  # fmt: skip


@pytest.mark.usefixtures("accepting")
@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:20] for name in NAMES])
def test_any_file_name_makes_a_subject_and_a_speech(shell: Shell, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import cli.prepare
    from cli.workflow import Outcome

    monkeypatch.setattr(cli.prepare, "run_preparation", lambda *_: Outcome())
    monkeypatch.setattr(cli.prepare, "summarise", lambda *_: {"frames": 1, "reprojection_rms_px": 0.1, "blinks": []})
    try:
        Path(name).write_bytes(b"video")
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    answer = shell("prepare", "--quiet", "--", f"./{name}")
    assert answer.code == 0, answer.err
    (made,) = (path for path in Path("subjects").iterdir() if path.name != ".workflow")
    assert load_record(made / "subject.yaml").source.size_bytes == 5
    assert not Path("hacked").exists()


@pytest.mark.usefixtures("accepting")
def test_awkward_names_reach_the_workflow_unharmed(shell: Shell, tmp_path: Path) -> None:
    fabricate(shell.home)
    shell.use_stages(tmp_path / "environment", WORKING_STAGE)
    name = "$(touch hacked) {x} 'y' 新.wav"
    Path(name).write_bytes(b"speech")
    assert shell("speak", "anchor", name, "-o", "out {z} $HOME.mp4", "--quiet").code == 0
    assert Path("out {z} $HOME.mp4").is_file()
    assert not list(shell.home.rglob("hacked"))

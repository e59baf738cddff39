"""A subject in one file: whole when it arrives, or not at all, and never anywhere else."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.console import Console
from cli.plan import speech_chain, speech_steps, stale_steps, subject_steps
from cli.speech_plan import Wishes, plan_speech, write_job
from cli.stage import run_step
from cli.subject import load_record, write_settings
from stages.atomic_files import load_json, sha256_of
from stages.errors import BadInput
from stages.subject_pack import CONTENTS, read_contents, write_pack
from stages.workspace import open_subject
from tests.cli_harness import Shell, fabricate, shell
from tests.speaking_subject import make_speaking_subject
from tests.test_batch import tone

__all__ = ["shell"]


def test_an_unpacked_subject_speaks_and_holds_no_frame(shell: Shell, tmp_path: Path) -> None:
    workspace = make_speaking_subject(shell.home)
    assert shell("pack", "anna", "-o", str(tmp_path / "anna.radnerf")).code == 0
    with zipfile.ZipFile(tmp_path / "anna.radnerf") as stored:
        assert not [name for name in stored.namelist() if "frames" in name or "layers" in name or "parsing" in name]
    answer = shell("unpack", str(tmp_path / "anna.radnerf"), "--name", "copy", "--json")
    assert json.loads(answer.out)["consent"] == "Anna, by mail"
    copy = open_subject(shell.home, "copy")
    for name in ("head", "torso", "track", "background"):
        assert getattr(copy, name).read_bytes() == getattr(workspace, name).read_bytes()
    record = load_record(copy.subject)
    assert (record.name, record.resolved().render.crf) == ("copy", 30)

    assert "all of it was given" in shell("status", "copy").out
    for answer in (shell("report", "copy"), shell("report", "copy", "--json")):
        assert (answer.code, answer.out) == (2, "")
        assert "came without the frames that a report compares with" in answer.err
    answer = shell("export", "copy", "-o", "copy.stl")
    assert (answer.code, answer.err) == (
        2,
        "error: no .stl can be written (a mesh is written as .ply, which mesh editors read)\n",
    )
    answer = shell("speak", "hello.wav", "copy")
    assert answer.code == 2
    assert "a subject is given by its name" in answer.err

    plan = plan_speech(shell.home, "copy", tone(shell.home / "a.wav"), Wishes(output=shell.home / "a.mp4"))
    write_settings(copy, record.resolved())
    write_job(plan, plan.speech_id)
    assert list(stale_steps(speech_chain(copy, plan.speech_id))) == ["audio", "render"]
    steps = speech_steps(copy, plan.speech_id)
    run_step(steps["audio"], backend="auto", device="cpu", console=Console(quiet=True))
    run_step(steps["render"], backend="auto", device="cpu", console=Console(quiet=True))
    assert load_json(copy.speech(plan.speech_id).summary)["frames"] == 9


def test_a_pack_with_training_leaves_nothing_stale(shell: Shell, tmp_path: Path) -> None:
    workspace = fabricate(shell.home)
    assert stale_steps(subject_steps(workspace)) == {}
    assert shell("pack", "anchor", "--training", "-o", str(tmp_path / "all.radnerf")).code == 0
    assert shell("unpack", str(tmp_path / "all.radnerf"), "--force").code == 0
    copy = open_subject(shell.home, "anchor")
    write_settings(copy, load_record(copy.subject).resolved())
    again = stale_steps(subject_steps(copy))
    assert not {"landmarks", "parsing", "background", "pose", "audio", "head", "torso"} & set(again)
    assert not copy.source.exists()
    answer = shell("stage", "frames", "anchor")
    assert answer.err.startswith(
        "error: the frames stage has nothing to work on: the subject was unpacked from all.radn"
    )
    assert json.loads(shell("status", "--json").out)["subjects"][0]["stages"]["head"]["state"] == "done"
    assert shell("status").code == 0


def test_an_existing_subject_stays_unless_forced(shell: Shell, tmp_path: Path) -> None:
    make_speaking_subject(shell.home)
    shell("pack", "anna", "-o", str(tmp_path))
    answer = shell("unpack", str(tmp_path / "anna.radnerf"))
    assert (answer.code, answer.err.split(" (")[0]) == (2, "error: there is a subject 'anna' already")
    assert shell("pack", "anna", "-o", "none/x.radnerf").code == 2


Change = Callable[[dict[str, bytes], dict[str, object]], None]


def _flip(members: dict[str, bytes], _: dict[str, object]) -> None:
    data = bytearray(members["head/head.safetensors"])
    data[len(data) // 2] ^= 1
    members["head/head.safetensors"] = bytes(data)


def _climb(members: dict[str, bytes], told: dict[str, object]) -> None:
    members["../../evil.txt"] = b"evil"
    told["files"]["../../evil.txt"] = {"bytes": 4, "sha256": hashlib.sha256(b"evil").hexdigest()}  # type: ignore[index]


def _smuggle(members: dict[str, bytes], _: dict[str, object]) -> None:
    members["settings/../../x"] = b""


def _unlisted(members: dict[str, bytes], _: dict[str, object]) -> None:
    members["prepared.json"] = b"{}"


def _lack(members: dict[str, bytes], told: dict[str, object]) -> None:
    del members["torso/torso.safetensors"], told["files"]["torso/torso.safetensors"]  # type: ignore[attr-defined]


def _lie(_: dict[str, bytes], told: dict[str, object]) -> None:
    told["files"]["pose/track.npz"]["bytes"] = 10**15  # type: ignore[index]


def _later(_: dict[str, bytes], told: dict[str, object]) -> None:
    told["format"] = 99


def _no_list(members: dict[str, bytes], _: dict[str, object]) -> None:
    del members[CONTENTS]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_flip, "head/head.safetensors in the pack is not what its list says"),
        (_climb, "holds '../../evil.txt', which no subject has"),
        (_smuggle, "holds 'settings/../../x', which no subject has"),
        (_unlisted, "does not hold what its list says"),
        (_lack, "lacks torso/torso.safetensors"),
        (_lie, "pose/track.npz has"),
        (_later, "has format 99"),
        (_no_list, "is no pack of a subject"),
    ],
)
def test_a_pack_that_was_tampered_with_leaves_nothing(shell: Shell, tmp_path: Path, change: Change, said: str) -> None:
    workspace = make_speaking_subject(tmp_path)
    write_pack(workspace, tmp_path / "anna.radnerf")
    with zipfile.ZipFile(tmp_path / "anna.radnerf") as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    told = json.loads(members[CONTENTS])
    members[CONTENTS] = b""
    change(members, told)
    with zipfile.ZipFile(tmp_path / "bad.radnerf", "w") as stored:
        for name, data in members.items():
            stored.writestr(name, json.dumps(told) if name == CONTENTS else data)
    answer = shell("unpack", str(tmp_path / "bad.radnerf"), "--quiet")
    assert answer.code == 2
    assert said in answer.err
    assert not list(shell.home.iterdir())
    assert not list(tmp_path.rglob("evil.txt"))


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    write_pack(make_speaking_subject(tmp_path), tmp_path / "anna.radnerf")
    with zipfile.ZipFile(tmp_path / "anna.radnerf") as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(tmp_path / "bomb.radnerf", "w", zipfile.ZIP_DEFLATED) as stored:
        for name, data in members.items():
            stored.writestr(name, data)
    with pytest.raises(BadInput, match="is compressed, which no pack is"):
        read_contents(tmp_path / "bomb.radnerf")


def test_links_and_double_members_are_refused(tmp_path: Path) -> None:
    write_pack(make_speaking_subject(tmp_path), tmp_path / "anna.radnerf")
    with zipfile.ZipFile(tmp_path / "anna.radnerf") as stored:
        members = [(stored.getinfo(name), stored.read(name)) for name in stored.namelist()]
    with zipfile.ZipFile(tmp_path / "link.radnerf", "w") as stored:
        for info, data in members:
            if info.filename == "pose/track.npz":
                info.external_attr = 0o120777 << 16
            stored.writestr(info, data)
    with pytest.raises(BadInput, match="no plain file"):
        read_contents(tmp_path / "link.radnerf")
    with zipfile.ZipFile(tmp_path / "twice.radnerf", "w") as stored:
        for info, data in members:
            stored.writestr(info.filename, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            stored.writestr(*members[-1])
    with pytest.raises(BadInput, match="does not hold what its list says"):
        read_contents(tmp_path / "twice.radnerf")
    (tmp_path / "text.radnerf").write_text("no zip")
    with pytest.raises(BadInput, match="no pack that can be read"):
        read_contents(tmp_path / "text.radnerf")


def test_the_list_names_what_is_in_the_file(tmp_path: Path) -> None:
    workspace = make_speaking_subject(tmp_path)
    made = write_pack(workspace, tmp_path / "anna.radnerf")
    assert read_contents(tmp_path / "anna.radnerf") == made
    assert made.files["pose/track.npz"] == (workspace.track.stat().st_size, sha256_of(workspace.track))
    assert load_json(workspace.head_history) == {}

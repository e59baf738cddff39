"""``radnerf verify`` tells what a video says and whether it holds; keys and consent notes reach the video."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import stages.frames
from cli import prepare as prepare_module
from cli.console import Console
from cli.plan import speech_steps
from cli.speech_plan import Wishes, plan_speech, write_job
from cli.stage import run_step
from cli.subject import load_record, write_settings
from stages.atomic_files import load_json
from stages.container_tags import _parse
from stages.errors import BadInput
from stages.media import VideoWriter
from stages.provenance import Statement, container_metadata, read_provenance, sign_video
from stages.signing_key import Credentials, local_credentials
from tests.cli_harness import Shell, shell
from tests.speaking_subject import make_speaking_subject
from tests.test_batch import tone
from tests.test_cli import _prepared

__all__ = ["shell"]

NOTE = "Anna; by mail = yes\nsecond line"


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signing folder of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Half a second of grey, not signed yet."""
    path = tmp_path / "out.mp4"
    with VideoWriter(path, (32, 32), 25, metadata=container_metadata("anna", "3f2a", NOTE)) as writer:
        for _ in range(12):
            writer.write(np.full((32, 32, 3), 99, np.uint8))
    return path


def sign(path: Path) -> None:
    sign_video(path, Statement("anna", "3f2a", NOTE, "0.1.0", dt.datetime(2026, 5, 3, 10, tzinfo=dt.UTC)))


def test_a_signed_video_is_valid_and_says_what_it_is(shell: Shell, video: Path) -> None:
    sign(video)
    answer = shell("verify", str(video), "--json")
    assert answer.code == 0
    (told,) = json.loads(answer.out)["videos"]
    assert (told["state"], told["synthetic"], told["tagged_synthetic"]) == ("valid", True, True)
    assert (told["subject"], told["model"], told["made_at"]) == ("anna", "3f2a", "2026-05-03T10:00:00Z")
    assert (told["consent"], told["signed_here"], told["problems"]) == (NOTE, True, [])
    assert "Anna; by mail = yes second line" in told["tags"]["comment"]
    words = shell("verify", str(video)).out
    assert "the manifest is valid" in words
    assert "this machine's own key" in words


def test_a_changed_video_is_invalid_and_an_unsigned_one_has_none(shell: Shell, video: Path, tmp_path: Path) -> None:
    answer = shell("verify", str(video), "--json")
    assert answer.code == 3
    assert json.loads(answer.out)["videos"][0] | {"tags": {}} == {
        "video": str(video),
        "state": "absent",
        "tagged_synthetic": True,
        "tags": {},
    }
    assert "anybody may have written it" in shell("verify", str(video)).out

    changed = tmp_path / "changed.mp4"
    changed.write_bytes(video.read_bytes())
    sign(changed)
    data = bytearray(changed.read_bytes())
    data[-5] ^= 1
    changed.write_bytes(data)
    answer = shell("verify", str(changed), str(video))
    assert answer.code == 1
    assert "don't believe the above" in answer.out
    assert "problem" in answer.out


def test_other_files_are_refused(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert shell("verify", str(tmp_path / "text.mp4")).code == 2
    assert shell("verify", str(tmp_path / "none.mp4")).code == 2
    answer = shell("verify", "nowhere.mp4")
    assert (answer.code, answer.err) == (2, "error: there is no file nowhere.mp4 (check the name)\n")


def test_tags_with_every_special_sign_are_read_back() -> None:
    text = ";FFMETADATA1\ntitle=a\\=b\\;c\\#d\\\\e\ncomment=one\\\ntwo\nEncoder=x\n[CHAPTER]\ntitle=other\n"
    assert _parse(text) == {"title": "a=b;c#d\\e", "comment": "one\ntwo", "encoder": "x"}


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """A key of somebody else: another machine's, moved into plain files."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_DATA_HOME", str(tmp_path / "studio"))
        made = local_credentials()
    found = Credentials(tmp_path / "studio.pem", tmp_path / "studio.key")
    found.certificates.write_bytes(made.certificates.read_bytes())
    found.key.write_bytes(made.key.read_bytes())
    return found


def test_the_users_own_key_signs_by_option_and_by_setting(shell: Shell, studio: Credentials) -> None:
    workspace = make_speaking_subject(shell.home)
    local_credentials()
    speech = tone(shell.home / "a.wav")
    both = shell.home / "both.pem"
    both.write_bytes(studio.key.read_bytes() + studio.certificates.read_bytes())
    by_option = Wishes(signing_key=studio.key, signing_certificates=studio.certificates)
    by_setting = {"render": {"signing_key": str(both)}}
    for wishes, changes, here in ((Wishes(), {}, True), (by_option, {}, False), (Wishes(), by_setting, False)):
        plan = plan_speech(shell.home, "anna", speech, wishes)
        record = load_record(workspace.subject).changed(preset=None, assignments=changes)
        write_settings(workspace, record.resolved())
        write_job(plan, plan.speech_id)
        steps = speech_steps(workspace, plan.speech_id)
        if not workspace.speech(plan.speech_id).features.is_file():
            run_step(steps["audio"], backend="auto", device="cpu", console=Console(quiet=True))
        run_step(steps["render"], backend="auto", device="cpu", console=Console(quiet=True))
        found = read_provenance(workspace.speech(plan.speech_id).video)
        assert found is not None
        assert (found.intact, found.signed_here, found.consent) == (True, here, "Anna, by mail")
        key = studio.key.read_text().splitlines()[1]
        assert key not in workspace.speech(plan.speech_id).job.read_text()


def test_keys_that_cannot_sign_are_refused_before_any_work(shell: Shell, studio: Credentials) -> None:
    make_speaking_subject(shell.home)
    speech = tone(shell.home / "a.wav")
    other = local_credentials().certificates
    for key, certificates, said in (
        (shell.home / "none.key", None, "there is no file"),
        (studio.key, None, "holds no certificate"),
        (studio.certificates, None, "no usable private key"),
        (studio.key, other, "is not the key of the first certificate"),
        (None, other, "--signing-certificates needs --signing-key"),
    ):
        with pytest.raises(BadInput, match=said):
            plan_speech(shell.home, "anna", speech, Wishes(signing_key=key, signing_certificates=certificates))


def test_whose_face_it_is_is_asked_once_where_somebody_sits(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.frames, "check", lambda *_: SimpleNamespace(duration_s=4.0))
    monkeypatch.setattr(prepare_module, "run_preparation", _prepared)
    asked: list[str] = []
    monkeypatch.setattr("typer.prompt", lambda question, **_: asked.append(question) or "  Anna,  by mail ")
    Path("a.mp4").write_bytes(b"video")
    Path("b.mp4").write_bytes(b"other")
    assert shell("prepare", "b.mp4", "--name", "nobody").code == 0
    assert asked == []
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in range(2):
        assert shell("prepare", "a.mp4").code == 0
    assert len(asked) == 1
    assert load_record(Path("subjects/a/subject.yaml")).consent == "Anna, by mail"
    assert load_record(Path("subjects/nobody/subject.yaml")).consent == ""
    assert load_json(Path("subjects/a/prepared.json"))["frames"] == 100

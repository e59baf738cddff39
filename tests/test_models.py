"""The optional models: listed truly, added whole or not at all, fetched only when asked for and only as known."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from cli import app
from stages import model_files
from stages.errors import BadInput, RadnerfError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = b"a model" * 1000
KNOWN = dataclasses.replace(
    model_files.MODELS[0], sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT), url="https://a.b/c"
)


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty data folder, no other models, and a first model whose content is known."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("RADNERF_MODELS", raising=False)
    monkeypatch.setattr(model_files, "MODELS", (KNOWN, *model_files.MODELS[1:]))
    monkeypatch.setattr("socket.socket.connect", _no_network)
    return tmp_path / "data" / "radnerf" / "models"


def _no_network(*_: object) -> None:
    raise AssertionError("something tried to reach the network")


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["radnerf", "models", *words])
    return app.run()


def _given(tmp_path: Path, name: str = KNOWN.name, content: bytes = CONTENT) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_the_list_says_what_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, folders: Path
) -> None:
    assert _run(monkeypatch, "--json") == 0
    before = {one["name"]: one for one in json.loads(capsys.readouterr().out)["models"]}
    assert not before[KNOWN.name]["present"]
    assert str(folders / KNOWN.name) in before[KNOWN.name]["searched"]
    assert {"whisper base", "whisper tiny.en", "wav2vec 2.0", "HuBERT", "output_graph.pb"} <= before.keys()
    model_files.add(_given(tmp_path))
    _run(monkeypatch)
    listing = capsys.readouterr().out
    assert f"{KNOWN.name}: {folders / KNOWN.name}" in listing
    assert KNOWN.sha256 in listing
    assert all(f"from: {model.source}" in listing for model in model_files.MODELS)


def test_an_added_model_is_found(tmp_path: Path, folders: Path) -> None:
    added = model_files.add(_given(tmp_path, "downloaded (1).task"), KNOWN.name)
    assert added == folders / KNOWN.name == model_files.find(KNOWN)
    assert added.read_bytes() == CONTENT
    assert model_files.add(added) == added
    assert [path.name for path in folders.iterdir()] == [KNOWN.name]


def test_another_content_is_refused_unless_asked_for(tmp_path: Path, folders: Path) -> None:
    other = _given(tmp_path, content=b"something else")
    with pytest.raises(BadInput, match="is not the known") as caught:
        model_files.add(other)
    assert "--unchecked" in caught.value.hint
    assert not folders.exists() or not list(folders.iterdir())
    assert model_files.add(other, unchecked=True).read_bytes() == b"something else"


@pytest.mark.parametrize("name", ["face.task", "whisper base"])
def test_names_that_are_no_file_are_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        model_files.add(_given(tmp_path), name)
    with pytest.raises(BadInput, match="is no file"):
        model_files.add(tmp_path / KNOWN.name / "none", KNOWN.name)


@contextmanager
def _sends(content: bytes) -> Iterator[IO[bytes]]:
    yield io.BytesIO(content)


def test_a_fetched_model_is_the_known_one_or_none(folders: Path) -> None:
    asked: list[str] = []

    def opener(url: str) -> object:
        asked.append(url)
        return _sends(CONTENT)

    assert model_files.fetch(KNOWN.name, opener).read_bytes() == CONTENT  # type: ignore[arg-type]
    assert asked == [KNOWN.url]
    (folders / KNOWN.name).unlink()
    for wrong in (b"a page that says no", CONTENT * 5):
        with pytest.raises(RadnerfError, match="not the known"):
            model_files.fetch(KNOWN.name, lambda _, wrong=wrong: _sends(wrong))  # type: ignore[misc]
    assert not list(folders.iterdir())


def test_a_model_without_a_known_content_is_never_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "fetch", "output_graph.pb") == 2
    assert "cannot be fetched" in capsys.readouterr().err
    for words in (("remove", "x"), ("add",), ("fetch", KNOWN.name, "--unchecked")):
        assert _run(monkeypatch, *words) == 2


def _network(folder: Path, content: object) -> Path:
    """A network's folder as it is published: a configuration and a pickle."""
    import torch

    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "hubert"}')
    torch.save(content, folder / "pytorch_model.bin")
    return folder


def test_a_network_comes_in_without_its_pickle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, folders: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    from stages.vision.models import find_network

    shared = torch.arange(6.0)
    folder = _network(tmp_path / "download", {"a": shared, "b": shared[:3]})
    assert _run(monkeypatch, "add", str(folder), "--as", "HuBERT") == 2
    assert "is not the known one" in capsys.readouterr().err
    assert _run(monkeypatch, "add", str(folder), "--as", "HuBERT", "--unchecked") == 0
    added = folders / "facebook--hubert-base-ls960"
    assert sorted(path.name for path in added.iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(load_file(added / "model.safetensors")["b"], shared[:3])
    assert find_network("facebook/hubert-base-ls960") == added
    assert _run(monkeypatch, "add", str(folder), "--as", "HuBERT", "--unchecked") == 0
    assert [path.name for path in folders.iterdir()] == [added.name]
    capsys.readouterr()
    _run(monkeypatch, "--json")
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)["models"]}
    assert listed["HuBERT"]["path"] == str(added)


class _Evil:
    """Unpickling it calls something."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


@pytest.mark.parametrize("content", [{"a": _Evil()}, [1, 2], {"a": 1}])
def test_a_pickle_that_is_more_than_weights_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folders: Path, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = _network(tmp_path / "download", content)
    with pytest.raises(BadInput, match="holds"):
        model_files.add(folder, "HuBERT", unchecked=True)
    assert not Path("touched").exists()
    assert not list(folders.iterdir())


def test_folders_that_are_no_network_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder") as caught:
        model_files.add(tmp_path)
    assert "'wav2vec 2.0' or 'HuBERT'" in caught.value.hint
    with pytest.raises(BadInput, match=r"has no config\.json"):
        model_files.add(tmp_path, "HuBERT")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="has neither"):
        model_files.add(tmp_path, "HuBERT")


def test_a_model_known_by_its_md5_alone_is_checked(tmp_path: Path, folders: Path) -> None:
    graph = _given(tmp_path, model_files.DEEPSPEECH_GRAPH)
    with pytest.raises(BadInput, match="its MD5 begins with"):
        model_files.add(graph)
    assert model_files.add(graph, unchecked=True) == folders / graph.name


def test_every_model_says_what_the_list_promises() -> None:
    wanted = {
        "face_landmarker.task", "selfie_multiclass_256x256.tflite", "alexnet-features.safetensors", "wav2vec 2.0",
        "HuBERT", "output_graph.pb",
    }  # fmt: skip
    known = {model.name: model for model in model_files.MODELS}
    assert wanted <= known.keys()
    for model in known.values():
        assert model.improves
        assert model.licence
        assert model.source
        assert len(model.sha256) == 64 or len(model.md5) == 32
        assert not model.url or (model.sha256 and model.size_bytes)
    assert {model.name for model in known.values() if not model.size_bytes} <= {"output_graph.pb"}

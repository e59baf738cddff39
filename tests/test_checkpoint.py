"""Checkpoints: what goes in comes out, nothing in them runs, and what is not whole or not ours is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from radnerf.sway import displacement
from stages.checkpoint import VERSION, flatten, load_checkpoint, restore, save_checkpoint, unflatten
from stages.errors import BadInput
from stages.head_file import load_head, save_head
from stages.settings import HeadSettings, TorsoSettings
from stages.torso_file import load_torso, save_torso
from stages.training_loop import Resumable
from tests.synthetic import ball, head_model, head_schedule, head_trainer, torso_model, torso_trainer


def _save(path: Path) -> Path:
    save_checkpoint(path, "head", {"note": "ä"}, {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True])})
    return path


def test_header_and_tensors_come_back(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"view": whole.T[1:], "same": whole, "empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}
    tensors |= {"bool": torch.tensor([True, False]), "bytes": torch.arange(5, dtype=torch.uint8)}
    save_checkpoint(tmp_path / "new" / "a.safetensors", "torso", {"sizes": [1, 2.5, None]}, tensors)
    header, read = load_checkpoint(tmp_path / "new" / "a.safetensors", "torso")
    assert header == {"kind": "torso", "version": VERSION, "sizes": [1, 2.5, None]}
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)


def test_equal_content_makes_equal_files(tmp_path: Path) -> None:
    assert _save(tmp_path / "a").read_bytes() == _save(tmp_path / "b").read_bytes()


@pytest.mark.parametrize("keep", [0, 4, 7, 40, 200, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, keep: int) -> None:
    data = _save(tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data[:keep])
    with pytest.raises(BadInput, match="damaged"):
        load_checkpoint(tmp_path / "a.safetensors", "head")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for data in (b"\xff" * 300, pickle.dumps({"weights": [1.0]}), b"<html>not found</html>" * 20):
        path.write_bytes(data)
        with pytest.raises(BadInput, match="damaged"):
            load_checkpoint(path, "head")
    with pytest.raises(BadInput, match="missing"):
        load_checkpoint(tmp_path / "none.safetensors", "head")
    with pytest.raises(BadInput):
        load_checkpoint(tmp_path, "head")


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"radnerf": "no json"}, {"radnerf": "[]"}, {"radnerf": '{"kind": "torso"}'}]
)
def test_a_foreign_safetensors_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(BadInput, match=r"a\.safetensors"):
        load_checkpoint(tmp_path / "a.safetensors", "head")


def test_a_torso_of_version_1_sways_as_a_whole_as_it_did(tmp_path: Path) -> None:
    shifts = torch.rand(5, 2)
    header = json.dumps({"kind": "torso", "version": 1})
    save_file({"sway": shifts}, tmp_path / "a.safetensors", {"radnerf": header})
    read, tensors = load_checkpoint(tmp_path / "a.safetensors", "torso")
    assert read["version"] == VERSION
    moved = displacement(tensors["sway"], torch.rand(5, 7, 2))
    torch.testing.assert_close(moved, shifts[:, None].expand(5, 7, 2))


def test_another_version_is_told_apart(tmp_path: Path) -> None:
    header = json.dumps({"kind": "head", "version": VERSION + 1})
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {"radnerf": header})
    with pytest.raises(BadInput, match=f"version {VERSION + 1}"):
        load_checkpoint(tmp_path / "a.safetensors", "head")


def test_numbers_that_json_cannot_hold_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path / "a.safetensors", "head", {"loss": float("nan")}, {})
    assert list(tmp_path.iterdir()) == []


def _same(one: Any, other: Any) -> bool:
    """Whether two nestings are equal; tuples count as lists."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return type(one) is type(other) and one == other


def test_any_nesting_comes_back_with_integer_keys() -> None:
    tree = {
        "state": {0: {"step": torch.tensor(3.0)}, 12: {"step": torch.tensor(4.0)}},
        "groups": [{"lr": 1e-3, "betas": (0.9, 0.99), "fused": True, "foreach": None}],
        "$tensor": {"$dict": [1, "two", torch.arange(3)]},
        "nothing": {},
        "small": 5e-324,
        "": [],
    }
    skeleton, tensors = flatten(tree)
    assert len(tensors) == 3
    again = unflatten(json.loads(json.dumps(skeleton)), tensors)
    assert _same(tree, again)
    assert list(again["state"]) == [0, 12]


def test_an_optimisers_state_comes_back() -> None:
    values = [torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(2, 2))]
    optimiser = torch.optim.Adam(values, lr=0.1, betas=(0.9, 0.99))
    torch.stack([value.square().sum() for value in values]).sum().backward()
    optimiser.step()
    skeleton, tensors = flatten(optimiser.state_dict())
    assert _same(optimiser.state_dict(), unflatten(json.loads(json.dumps(skeleton)), tensors))


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    for wrong in (
        {},
        {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)},
        {**module.state_dict(), "c": torch.ones(1)},
    ):
        with pytest.raises(BadInput, match="does not fit"):
            restore(module, wrong, tmp_path / "a")


def test_a_head_comes_back(tmp_path: Path) -> None:
    model = head_model()
    model.mouth_gain.fill_(1.5)
    model.mask[3:] = False
    save_head(tmp_path / "head.safetensors", model, HeadSettings(size_px=48), ball().features)
    again, header = load_head(tmp_path / "head.safetensors", "reference")
    assert again.shape == model.shape
    assert header["front_end"] == "logmel"
    assert header["settings"]["size_px"] == 48
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not any(value.requires_grad for value in again.parameters())
    assert not again.training


def test_a_torso_comes_back(tmp_path: Path) -> None:
    model = torso_model()
    save_torso(tmp_path / "torso.safetensors", model, TorsoSettings())
    again = load_torso(tmp_path / "torso.safetensors", "reference")
    assert again.shape == model.shape
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_torso_is_no_head(tmp_path: Path) -> None:
    save_torso(tmp_path / "torso.safetensors", torso_model(), TorsoSettings())
    with pytest.raises(BadInput, match="holds no head"):
        load_head(tmp_path / "torso.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": None},
        {"shape": {}},
        {"frames": 7},
        {"frames": -7},
        {"frames": "many"},
        {"space": [1, 2]},
        {"space": {"dim": 3}},
        {"unknown": 1},
    ],
)
def test_a_head_whose_header_lies_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path, model = tmp_path / "head.safetensors", head_model()
    save_head(path, model, HeadSettings(), ball().features)
    header, tensors = load_checkpoint(path, "head")
    shape = {"shape": change["shape"]} if "shape" in change else {"shape": {**header["shape"], **change}}
    save_checkpoint(path, "head", {**header, **shape}, tensors)
    with pytest.raises(BadInput, match=r"head\.safetensors"):
        load_head(path)


def test_no_checkpoint_holds_a_pickle(tmp_path: Path) -> None:
    model = head_model()
    trainer = head_trainer(model, head_schedule(2))
    trainer.step()
    save_head(tmp_path / "head.safetensors", model, HeadSettings(), ball().features)
    save_torso(tmp_path / "torso.safetensors", torso_model(), TorsoSettings())
    Resumable(tmp_path / "state.safetensors", "head-state", "a", 60.0).save(model, trainer, [])
    for path in tmp_path.glob("*.safetensors"):
        data = path.read_bytes()
        # Eight bytes of length, JSON of so many bytes, then the plain numbers that the JSON lists, to the last byte.
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        json.loads(header.pop("__metadata__")["radnerf"])
        assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - length


def test_another_fingerprint_or_kind_starts_anew(tmp_path: Path) -> None:
    model = torso_model()
    trainer = torso_trainer(model)
    trainer.step()
    path = tmp_path / "state.safetensors"
    Resumable(path, "torso-state", "a", 60.0).save(model, trainer, [{"step": 1}])
    before = torso_model(seed=5)
    fresh = torso_model(seed=5)
    waiting = torso_trainer(fresh)
    assert Resumable(path, "torso-state", "b", 60.0).load(fresh, waiting) is None
    assert Resumable(path, "head-state", "a", 60.0).load(fresh, waiting) is None
    assert Resumable(tmp_path / "none", "torso-state", "a", 60.0).load(fresh, waiting) is None
    assert waiting.step_number == 0
    for one, other in zip(before.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)
    assert Resumable(path, "torso-state", "a", 60.0).load(fresh, waiting) == [{"step": 1}]
    assert waiting.step_number == 1


def test_a_damaged_state_starts_anew(tmp_path: Path) -> None:
    model = torso_model()
    trainer = torso_trainer(model)
    state = Resumable(tmp_path / "state.safetensors", "torso-state", "a", 60.0)
    state.save(model, trainer, [])
    state.path.write_bytes(state.path.read_bytes()[:-100])
    assert state.load(model, trainer) is None


def test_a_state_of_an_older_format_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torso_model()
    trainer = torso_trainer(model)
    state = Resumable(tmp_path / "state.safetensors", "torso-state", "a", 60.0)
    with monkeypatch.context() as earlier:
        earlier.setattr("stages.training_loop._STATE_FORMAT", 2)
        state.save(model, trainer, [{"step": 0}])
    assert state.load(model, trainer) is None
    state.save(model, trainer, [{"step": 0}])
    assert state.load(model, trainer) == [{"step": 0}]

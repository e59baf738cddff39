"""The head and torso stages on a small synthetic subject: files in, files out, resumed to the last bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from radnerf.errors import Diverged
from radnerf.head_training import HeadTrainer
from radnerf.schedule import StepReport
from stages import head, progress, torso
from stages.checkpoint import load_checkpoint
from stages.formats import load_json
from stages.head_file import load_head
from stages.settings import HeadSettings, TorsoSettings
from stages.torso_file import load_torso
from stages.workspace import Workspace
from tests.synthetic import SIZE_PX, write_subject

_HEAD = HeadSettings(
    size_px=SIZE_PX,
    levels=4,
    features_per_level=2,
    log2_entries=10,
    max_resolution=32,
    audio_max_resolution=8,
    hidden_width=16,
    audio_code=16,
    occupancy_resolution=16,
    steps=8,
    lips_steps=2,
    rays=128,
    mouth_components=3,
    mouth_lesson_steps=4,
    lips_lpips_weight=0.0,
)
_TORSO = TorsoSettings(
    size_px=SIZE_PX, levels=4, features_per_level=2, log2_entries=10, max_resolution=32, steps=6, pixels=256
)


def _train_head(workspace: Workspace, settings: HeadSettings = _HEAD) -> dict[str, torch.Tensor]:
    """The head's parameters after the stage."""
    ws = workspace
    inputs = head.Inputs(ws.layers, ws.parsing, ws.background, ws.track, ws.features)
    head.run(inputs, head.Outputs(ws.head, ws.head_history, ws.head_state, ws.cache), settings)
    return load_checkpoint(ws.head, "head")[1]


def _train_torso(workspace: Workspace) -> None:
    ws = workspace
    inputs = torso.Inputs(ws.layers, ws.parsing, ws.background, ws.track, ws.features, ws.head)
    torso.run(inputs, torso.Outputs(ws.torso, ws.torso_history, ws.torso_state, ws.cache, ws.preview), _TORSO)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A subject with head and torso."""
    workspace = write_subject(tmp_path_factory.mktemp("trained") / "subject")
    _train_head(workspace)
    _train_torso(workspace)
    return workspace


def test_training_leaves_models_histories_and_a_contact_sheet(trained: Workspace) -> None:
    model, header = load_head(trained.head)
    assert model.mask.any()
    assert header["front_end"] == "logmel"
    history = load_json(trained.head_history)
    assert history["steps"] == history["points"][-1]["step"] == 10
    assert history["lips_loss"] == "structural"
    assert load_torso(trained.torso).mask.any()
    assert load_json(trained.torso_history)["points"][-1]["step"] == 6
    assert trained.preview.read_bytes().startswith(b"\x89PNG")


def test_the_audio_net_keeps_its_lesson_while_the_field_is_trained(trained: Workspace, tmp_path: Path) -> None:
    longer = _train_head(write_subject(tmp_path / "longer"), _replaced(steps=24))
    shorter = load_checkpoint(trained.head, "head")[1]
    for name in (name for name in shorter if name.startswith("audio_net.")):
        assert torch.equal(longer[name], shorter[name]), name
    assert not torch.equal(longer["fields.0.space.table"], shorter["fields.0.space.table"])


def test_an_interrupted_training_goes_on_to_the_same_weights(
    trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = write_subject(tmp_path / "interrupted")
    step = HeadTrainer.step

    def stop_at_five(self: HeadTrainer) -> StepReport:
        if self.step_number == 5:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(HeadTrainer, "step", stop_at_five)
        with pytest.raises(KeyboardInterrupt):
            _train_head(workspace)
    assert not workspace.head.exists()
    begun: list[int] = []
    with progress.listening(lambda seen: begun.append(seen.done) if seen.label == "listening" else None):
        resumed = _train_head(workspace)
    assert begun == []
    straight = load_checkpoint(trained.head, "head")[1]
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), name


def test_a_diverged_training_writes_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = write_subject(tmp_path / "diverged")

    def diverge(_: HeadTrainer) -> StepReport:
        raise Diverged("numbers were not finite", hint="lower the rates")

    monkeypatch.setattr(HeadTrainer, "step", diverge)
    with pytest.raises(Diverged):
        _train_head(workspace)
    assert not workspace.head.exists()
    assert not workspace.head_state.exists()


def test_the_published_form_trains_its_audio_code_through_the_picture(tmp_path: Path) -> None:
    workspace = write_subject(tmp_path / "published")
    few = _train_head(workspace, _replaced(mouth_components=0, steps=4))
    more = _train_head(workspace, _replaced(mouth_components=0, steps=12))
    assert not torch.equal(few["audio_net.windows.0.weight"], more["audio_net.windows.0.weight"])


def test_the_baseline_trains_too(tmp_path: Path) -> None:
    workspace = write_subject(tmp_path / "baseline")
    _train_head(workspace, _replaced(backbone="nerf", steps=2, lips_steps=0, rays=16, frames_per_step=1))
    assert load_head(workspace.head)[0].shape.backbone == "nerf"


def _replaced(**changes: object) -> HeadSettings:
    """The small settings with changes."""
    return dataclasses.replace(_HEAD, **changes)  # type: ignore[arg-type]

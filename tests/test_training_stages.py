"""The head and torso stages on a small synthetic subject: files in, files out, resumed to the last bit."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from radnerf.errors import Diverged
from radnerf.head_training import HeadTrainer
from radnerf.schedule import StepReport
from radnerf.warp import FaceWarp
from stages import head, progress, torso
from stages.atomic_files import load_json
from stages.checkpoint import load_checkpoint
from stages.formats import Landmarks, Track
from stages.head_file import load_head
from stages.settings import HeadSettings, TorsoSettings
from stages.torso_file import load_torso
from stages.training_data import camera_of
from stages.vision.canonical_face import vertices_cm
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
    inputs = head.Inputs(
        ws.layers, ws.parsing, ws.background, ws.track, ws.features, ws.landmarks if ws.landmarks.exists() else None
    )
    head.run(inputs, head.Outputs(ws.head, ws.head_history, ws.head_state, ws.cache), settings)
    return load_checkpoint(ws.head, "head")[1]


def _write_landmarks(workspace: Workspace) -> None:
    """Landmarks of a face whose lower lip falls with the mouth's opening."""
    track = Track.load(workspace.track)
    camera = camera_of(track)
    lower_lip = [14, 17, 84, 314, 87, 317]
    points = np.zeros((len(track.rotation), 478, 3), np.float32)
    for frame, opening in enumerate(track.mouth_open):
        face = torch.from_numpy(vertices_cm + track.shape_offset_cm).float()
        face[lower_lip, 1] -= 5 * float(opening)
        poses = torch.from_numpy(track.rotation[frame]), torch.from_numpy(track.translation[frame])
        points[frame, : len(face), :2] = camera.project(face, *poses).numpy()
    found = np.ones(len(points), bool)
    Landmarks(points=points, found=found, model="mesh", size_px=camera.width_px).save(workspace.landmarks)


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
        if self.step_number == 4:
            # In the middle of a step, as it comes from a keyboard.
            signal.raise_signal(signal.SIGINT)
        return step(self)

    # What runs the tests may have started them in the background, where an interruption is ignored.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(HeadTrainer, "step", stop_at_five)
            with pytest.raises(KeyboardInterrupt):
                _train_head(workspace)
    finally:
        signal.signal(signal.SIGINT, former)
    assert not workspace.head.exists()
    begun: list[int] = []
    with progress.listening(lambda seen: begun.append(seen.done) if seen.label == "listening" else None):
        resumed = _train_head(workspace)
    assert begun == []
    straight = load_checkpoint(trained.head, "head")[1]
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), name


def test_a_training_that_goes_astray_again_and_again_writes_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = write_subject(tmp_path / "diverged")

    def diverge(_: HeadTrainer) -> StepReport:
        raise Diverged("numbers were not finite", hint="lower the rates")

    monkeypatch.setattr(HeadTrainer, "step", diverge)
    with pytest.raises(Diverged, match="after going back 5 times to half the rates"):
        _train_head(workspace)
    assert not workspace.head.exists()


def test_a_training_that_goes_astray_goes_back_on_with_half_the_rates_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = write_subject(tmp_path / "astray")
    step, poisoned = HeadTrainer.step, []

    def poison_once(self: HeadTrainer) -> StepReport:
        if self.step_number == 6 and not poisoned:
            poisoned.append(self.first_rates[0])
            with torch.no_grad():
                next(self.model.fields[0].parameters()).fill_(torch.nan)
        return step(self)

    monkeypatch.setattr(HeadTrainer, "step", poison_once)
    notes: list[str] = []
    with progress.listening(lambda seen: notes.append(seen.note) if seen.label == "head went astray" else None):
        trained = _train_head(workspace, _replaced(steps=24, checkpoint_every_s=0.1))
    assert all(bool(torch.isfinite(value).all()) for value in trained.values() if value.is_floating_point())
    (note,) = notes
    assert "back to step " in note
    assert note.endswith("with half the rates")
    points = load_json(workspace.head_history)["points"]
    (gone_back,) = (point for point in points if "went_back_from" in point)
    assert gone_back["step"] <= 6 <= gone_back["went_back_from"]
    assert gone_back["rate"] == poisoned[0] / 2


def test_an_error_that_grows_is_noticed_though_it_stays_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = write_subject(tmp_path / "growing")
    step = HeadTrainer.step

    def worse(self: HeadTrainer) -> StepReport:
        found = step(self)
        mse = 1e-4 if self.step_number < 6 or self.first_rates[0] < 0.02 else 50.0
        return StepReport(torch.tensor([found.loss, mse, 1.0]))

    monkeypatch.setattr(HeadTrainer, "step", worse)
    _train_head(workspace)
    points = load_json(workspace.head_history)["points"]
    assert any(point.get("why", "").startswith("the error grew to ") for point in points)


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


def test_the_tracked_motion_of_the_lips_reaches_the_head(tmp_path: Path) -> None:
    workspace = write_subject(tmp_path / "subject")
    workspace.landmarks.parent.mkdir(parents=True, exist_ok=True)
    _write_landmarks(workspace)
    _train_head(workspace)
    warp = load_head(workspace.head)[0].fields[0].warp
    assert isinstance(warp, FaceWarp)
    falls = warp.basis[0, :, 1]  # the first component is the opening
    assert falls[14] < -0.1
    assert falls[1].abs() < 0.02  # the nose stays
    lattice = warp.lattice(warp.rest[None] + torch.eye(len(warp.rest))[:1])
    assert lattice[..., 1].max() > 0.5 * -falls[14]


def test_without_the_warp_the_field_is_the_published_one(tmp_path: Path) -> None:
    workspace = write_subject(tmp_path / "subject")
    workspace.landmarks.parent.mkdir(parents=True, exist_ok=True)
    _write_landmarks(workspace)
    names = _train_head(workspace, dataclasses.replace(_HEAD, warp=False))
    assert not [name for name in names if ".warp." in name]

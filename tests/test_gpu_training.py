"""A step as a GPU does it: nothing in it waits for the device, samples have a fixed room, pictures go where they fit.

Without a GPU a step runs on torch's meta device, which knows shapes and no numbers: whatever would have to be read back
fails there. Kernels are left out of it; the Triton kernels' own numbers are tested elsewhere.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from radnerf import devices
from radnerf.audio_net import AudioNet, frame_windows
from radnerf.descent import Descent
from radnerf.devices import pick_precision, pictures_fit, send
from radnerf.error_map import ErrorMap
from radnerf.errors import BadInput
from radnerf.grid import HashGrid
from radnerf.head_training import UPDATE_EVERY, HeadTrainer
from radnerf.kernels import get_backend
from radnerf.model import HeadModel
from radnerf.schedule import StepReport, read_reports, step_report
from radnerf.torso_training import TorsoTrainer
from radnerf.warp import FaceWarp
from tests.synthetic import head_clip, head_model, head_schedule, head_trainer, torso_model, torso_trainer
from tests.triton_harness import DEVICE, SINGLE, kernel_modules

META = torch.device("meta")


class _Unlaunched:
    """Stands for a kernel; its launch does nothing."""

    def __getitem__(self, _: object) -> Callable[..., None]:
        return lambda *_, **__: None


class _Watch(TorchDispatchMode):
    """Notes every copy between the CPU and the device that the program would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.count += 1
        result = func(*args, **kwargs)
        given = [value.device.type for value in args if isinstance(value, Tensor) and value.dim()]
        there = isinstance(result, Tensor) and result.device.type == "meta"
        if func in {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default} and there and "cpu" in given:
            blocking = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
            if blocking:
                self.waited.append(str(func))
        return result


def _from_a_list(*_: object, **__: object) -> Tensor:
    raise AssertionError("a list is copied to the device, which is waited for")


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's backend for all encoding, without its kernels, on the meta device."""
    for module in kernel_modules():
        for name in ("_forward", "_backward", "_table_gradient", "_point_gradient", "_walk"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, _Unlaunched())
        if hasattr(module, "require_device"):
            monkeypatch.setattr(module, "require_device", lambda *_: None)
    monkeypatch.setattr("radnerf.grid.get_backend", lambda *_: SINGLE)
    importlib.import_module("torch._meta_registrations")
    for package in ("torch.optim.optimizer", "torch.optim.adam"):
        # Which of them asks whether a device has the fused kernel depends on the version.
        asking = importlib.import_module(package)
        name = "_get_fused_kernels_supported_devices"
        monkeypatch.setattr(asking, name, lambda: ["cpu", "cuda", "meta"], raising=False)


def _moved_descent(descent: Descent, values: list[torch.nn.Parameter], *, scaled: bool) -> Descent:
    groups: list[dict[str, Any]] = [{"params": values, "lr": 0.01}]
    return Descent(groups, values, descent.average.decay, scaled=scaled, label="head")


def _head_on_meta(trainer: HeadTrainer) -> None:
    """Bring a trainer, made on the CPU, to the meta device, pictures and all."""
    drawer, model = trainer.drawer, trainer.model.to(META)
    trainer.device = META
    trainer.clip = trainer.clip.to(META, pictures=True)
    trainer.hull = trainer.hull.to(META)
    trainer.occupancy.to(META)
    trainer.visibility.to(META)
    values = [value for name, value in model.named_parameters() if not name.startswith("audio_net.")]
    assert trainer.corrections is not None
    assert trainer.bend is not None
    values += [*trainer.corrections.to(META).parameters(), *trainer.bend.to(META).parameters()]
    trainer.descent = _moved_descent(trainer.descent, values, scaled=True)
    trainer.average, trainer.first_rates = trainer.descent.average, [0.01]
    trainer._room, trainer._most_samples = trainer._most_room, torch.zeros((), dtype=torch.int64, device=META)
    drawer._clip, drawer._device = trainer.clip, META
    drawer._boxes, drawer._blinks = drawer._boxes.to(META), drawer._blinks.to(META)
    drawer._pixel_generator = None  # type: ignore[assignment]
    drawer.errors = ErrorMap(META, META)


def _with_warp(model: HeadModel) -> HeadModel:
    """A head whose lips' and brows' motion is taken away first."""
    shape = dataclasses.replace(model.shape, warp_anchors=6, warp_brows=True)
    model = HeadModel(shape, model.aabb)
    warp = model.fields[0].warp
    assert isinstance(warp, FaceWarp)
    generator = torch.Generator().manual_seed(0)
    anchors, basis = torch.rand(6, 2, generator=generator), torch.rand(shape.mouth + 2, 6, 2, generator=generator)
    warp.fit(anchors, basis, torch.zeros(shape.mouth + 2), torch.zeros(len(anchors)))
    return model


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
@pytest.mark.parametrize("lips", [False, True])
def test_nothing_in_a_step_of_the_head_waits_for_the_device(
    precision: torch.dtype, lips: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _with_warp(head_model())
    schedule = dataclasses.replace(
        head_schedule(1 if lips else 1000, 40 if lips else 0), pose_rate=1e-4, bend_rate=5e-3
    )
    hull = torch.ones_like(model.mask)
    trainer = HeadTrainer(model, head_clip(), schedule, SINGLE, hull, None, 0, precision=precision)
    _head_on_meta(trainer)
    trainer.model.fields[0].warp._found = (model.fields[0].warp.active, model.fields[0].warp.active._version,
                                           torch.arange(9, device=META))  # fmt: skip
    trainer.step_number = 1
    trainer.step()  # tables that describe the grids are sent once
    monkeypatch.setattr(torch, "tensor", _from_a_list)
    with _Watch() as watch:
        reports = [trainer.step() for _ in range(2 if lips else 3)]
    assert watch.count > 200
    assert watch.waited == []
    assert all(report.is_late for report in reports)


@pytest.mark.usefixtures("no_kernels")
def test_nothing_in_a_step_of_the_torso_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = torso_trainer(torso_model())
    trainer = TorsoTrainer(usual.model, usual.clip, usual.schedule, 0, precision=torch.float16)
    model = trainer.model.to(META)
    trainer.device, trainer.clip = META, trainer.clip.to(META, pictures=True)
    trainer._cells = trainer._cells.to(META)
    trainer.pixel_generator = None  # type: ignore[assignment]
    trainer.descent = _moved_descent(trainer.descent, list(model.parameters()), scaled=True)
    trainer.average, trainer.first_rates = trainer.descent.average, [0.01]
    trainer.step_number = 1
    trainer.step()
    monkeypatch.setattr(torch, "tensor", _from_a_list)
    with _Watch() as watch:
        for _ in range(3):
            assert trainer.step().is_late
    assert watch.count > 100
    assert watch.waited == []


def test_the_watch_notices_what_is_waited_for() -> None:
    with _Watch() as watch:
        send(torch.ones(3), META)
        assert watch.waited == []
        torch.ones(3).to(META)
        assert len(watch.waited) == 1
    with pytest.raises((NotImplementedError, RuntimeError)):
        bool(torch.ones(1, device=META))
    with pytest.raises((NotImplementedError, RuntimeError)):
        torch.ones(3, device=META)[torch.ones(3, dtype=torch.bool, device=META)]


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_on_a_gpu_no_step_waits_between_updates_of_the_occupancy() -> None:
    model = _with_warp(head_model()).to(DEVICE)
    hull = torch.ones_like(model.mask)
    kernels = get_backend("auto", DEVICE)
    schedule = head_schedule(3 * UPDATE_EVERY, 16)
    trainer = HeadTrainer(model, head_clip(), schedule, kernels, hull, None, 0, resident=True)
    reports = []
    while trainer.step_number < trainer.total_steps:
        waits = trainer.step_number % UPDATE_EVERY == 0 or trainer.step_number < UPDATE_EVERY
        torch.cuda.set_sync_debug_mode("default" if waits else "error")
        try:
            reports.append(trainer.step())
        finally:
            torch.cuda.set_sync_debug_mode("default")
    errors = [report.mse for report in read_reports(reports)]
    assert errors[-1] < errors[0]
    assert trainer.skipped == 0


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
@pytest.mark.parametrize("resident", [False, True])
def test_a_gpu_learns_what_a_cpu_learns(precision: torch.dtype, resident: bool) -> None:
    errors = []
    for device in (torch.device("cpu"), DEVICE):
        model = head_model().to(device)
        kernels, hull = get_backend("auto", device), torch.ones_like(model.mask)
        kind = precision if device.type == "cuda" else torch.float32
        trainer = HeadTrainer(
            model, head_clip(), head_schedule(120), kernels, hull, None, 0, precision=kind, resident=resident
        )
        reports = read_reports([trainer.step() for _ in range(120)])
        errors.append(sum(report.mse for report in reports[-20:]) / 20)
    assert errors[1] < 1.15 * errors[0]


def _loss_with_room(room: int | None) -> tuple[float, int, Tensor]:
    """A step's loss, its number of samples, and the table's gradient, through the Triton kernels."""
    model = head_model()
    schedule = dataclasses.replace(head_schedule(1000), rays=12, still_weight=0.02)
    hull = torch.zeros_like(model.mask)
    hull[4:12, 4:12, 4:12] = True
    trainer = HeadTrainer(model.to(DEVICE), head_clip(), schedule, SINGLE, hull, None, 0, precision=torch.float32)
    trainer.step_number, trainer._room = 900, room
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("radnerf.grid.get_backend", lambda *_: SINGLE)
        # On a GPU nobody looks at whether the offsets end with the last sample.
        patched.setattr("radnerf.kernels.triton_backend.check_composite", lambda *_, **__: None)
        draw = trainer.drawer.take(900)
        loss, report = trainer._ray_loss(draw)
        loss.backward()
    grid = model.fields[0].space
    assert isinstance(grid, HashGrid)
    assert grid.table.grad is not None
    samples = round((report.samples_per_ray or 0.0) * 12)
    return report.loss, samples, grid.table.grad.cpu()


def test_spare_room_changes_no_loss_and_no_gradient() -> None:
    loss, samples, gradient = _loss_with_room(None)
    assert samples > 10
    assert float(gradient.abs().max()) > 0
    for room, same in ((samples + 37, True), (samples - 9, False)):
        roomy_loss, found, roomy_gradient = _loss_with_room(room)
        assert (roomy_loss == pytest.approx(loss, rel=1e-6)) == same
        assert torch.allclose(roomy_gradient, gradient, rtol=1e-4, atol=1e-9) == same
        assert (found == samples) == same


def test_room_follows_what_is_needed_and_grows_where_rays_found_none() -> None:
    trainer = head_trainer(head_model(), head_schedule())
    most = 256 * 8
    trainer._room = most

    def look(samples: int) -> int:
        trainer._most_samples = torch.tensor(samples)
        trainer._look()
        assert int(trainer._most_samples) == 0
        return trainer._room or 0

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("radnerf.head_training._ROOM_STEP", 64)
        assert look(800) == 1024  # a quarter more, in whole steps
        assert look(1020) == 1280  # so near the room that some rays were left out
        assert look(1279) == 1600
        assert look(most) == most
        trainer._look()  # nothing was seen: the room stays
        assert trainer._room == most


def test_windows_that_frames_share_need_not_be_looked_for() -> None:
    torch.manual_seed(0)
    net, features, frames = AudioNet(5, 6, 2), torch.randn(80, 5), torch.tensor([3, 4, 4, 20])
    wanted = net(features, frames)[0]
    around = frames[:, None] + torch.arange(-4, 4)
    codes = net.windows(frame_windows(features, around.flatten())).unflatten(0, around.shape)
    shares = torch.softmax(net.attention(codes.transpose(1, 2)), dim=-1)
    torch.testing.assert_close((shares[:, :, None] * codes).sum(1), wanted)
    # On a device whose numbers cannot be seen there is nothing else that could be done.
    code, mouth = net.to(META)(features.to(META), frames.to(META))
    assert (code.shape, mouth.shape) == ((4, 6), (4, 2))


def test_late_reports_are_read_together() -> None:
    reports = [step_report(torch.tensor(float(n)), torch.tensor(n / 2), torch.tensor(3)) for n in range(4)]
    read = read_reports(reports)
    assert [(each.loss, each.mse, each.samples_per_ray) for each in read] == [(n, n / 2, 3.0) for n in range(4)]
    assert step_report(torch.tensor(1.0), torch.tensor(1.0)).samples_per_ray is None
    assert StepReport(torch.zeros(3, device=META)).is_late
    assert not reports[0].is_late


def test_pictures_lie_on_a_gpu_where_half_of_its_free_memory_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_bytes", lambda _: 1000)
    gpu = torch.device("cuda")
    assert pictures_fit(500, gpu)
    assert not pictures_fit(501, gpu)
    assert not pictures_fit(1, torch.device("cpu"))
    clip = head_clip()
    assert clip.picture_bytes == clip.truth.numel() + clip.behind.numel() + clip.head.numel()
    streamed = clip.to(META, pictures=False)
    assert streamed.truth is clip.truth
    assert streamed.mouth_box.device == META
    assert clip.to(META, pictures=True).truth.device == META


def test_precision_is_half_on_a_gpu_unless_it_is_named() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (pick_precision("auto", cpu), pick_precision("auto", gpu)) == (torch.float32, torch.float16)
    assert (pick_precision("bfloat16", cpu), pick_precision("float32", gpu)) == (torch.bfloat16, torch.float32)
    with pytest.raises(BadInput, match="no precision 'double'"):
        pick_precision("double", cpu)

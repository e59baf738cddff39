"""``radnerf stage``: one stage by hand, the same command that the workflow runs."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cli import completion, events
from cli.console import Console
from cli.lock import stage_lock, typed_command, watch_owner
from cli.options import (
    AsJson,
    BackendName,
    DeviceName,
    Home,
    Quiet,
    SubjectName,
    examples,
    read_backend,
    read_device,
    read_home,
)
from cli.plan import STAGES, Step, find_step
from cli.subject import load_record
from stages.atomic_files import load_json, save_json_if_changed
from stages.errors import BadInput
from stages.progress import listening
from stages.settings import SubjectSettings
from stages.settings_reading import from_mapping, to_mapping
from stages.workspace import open_subject

EXAMPLES = examples(
    "radnerf stage landmarks anchor",
    "radnerf stage head anchor --backend reference",
    "radnerf stage audio anchor --speech hello-0123abcd",
    "radnerf stage render anchor --speech hello-0123abcd",
)


def stage(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"One of: {', '.join(STAGES)}.",
            show_default=False,
            autocompletion=completion.stages,
        ),
    ],
    subject: SubjectName,
    speech: Annotated[
        str | None,
        typer.Option(
            "--speech",
            metavar="ID",
            help="A folder's name under speech/; for render, and for audio of a speech.",
            autocompletion=completion.speeches,
        ),
    ] = None,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one stage by hand; the workflow runs this very command."""
    events.tell_about(subject, speech)
    workspace = open_subject(read_home(home), subject)
    step = find_step(workspace, name, speech)
    console = Console(json=as_json, quiet=quiet)
    watch_owner()
    others = () if speech is None else (workspace.speech(speech).lock,)
    with stage_lock(workspace.lock, typed_command(), *others) as by_hand:
        # The workflow's settings are written once, before it begins.
        if by_hand:
            settings = getattr(load_record(workspace.subject).resolved(), name)
            save_json_if_changed(step.settings, to_mapping(settings))
        run_step(step, backend=backend, device=device, console=console)
    made = {field: str(path) for field, path in step.outputs.items()}
    # Run by the workflow, a stage's words have no reader.
    if events.VARIABLE not in os.environ:
        console.result({"stage": name, "outputs": made}, "\n".join(made.values()))


def check_inputs(step: Step) -> None:
    """Raise when a file that a step reads is missing.

    Raises:
        BadInput: One is missing.
    """
    for path in step.reads():
        if not path.exists():
            hint = f"run 'radnerf stage {path.parent.name} …' first" if path.parent.name in STAGES else "prepare first"
            raise BadInput(f"the {step.stage} stage needs {path}, which is not there", hint=hint)


def run_step(step: Step, *, backend: str, device: str, console: Console, extras: dict[str, Path] | None = None) -> None:
    """Run a stage in this process.

    Args:
        step: The stage and its files; its settings' file is there.
        backend: Of the kernels.
        device: Of torch.
        console: Where progress goes when no workflow listens.
        extras: Fields of the module's ``Outputs`` in place of the step's own extras.
    """
    check_inputs(step)
    module = importlib.import_module(f"stages.{step.stage}")
    kind = typing.get_type_hints(SubjectSettings)[step.stage]
    settings = from_mapping(kind, load_json(step.settings), step.stage)
    inputs = module.Inputs(**step.inputs, **step.optional)
    outputs = module.Outputs(**step.outputs, **_known_extras(module.Outputs, {**step.extras, **(extras or {})}))
    for path in step.outputs.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    execution = _execution(step.stage, module.run, backend=read_backend(backend), device=read_device(device))
    events.tell_start(step.stage)
    with _listening(step.stage, console):
        module.run(inputs, outputs, settings, **execution)
    events.tell_end(step.stage)


def _execution(stage: str, run: Callable[..., None], *, backend: str, device: str) -> dict[str, str]:
    """What of backend and device a stage takes.

    Raises:
        BadInput: One was chosen that the stage has no use for; it is not passed over in silence.
    """
    taken = inspect.signature(run).parameters
    if "backend" not in taken and backend != "auto":
        raise BadInput(f"the {stage} stage has no use for --backend {backend}", hint="leave it out")
    if "device" not in taken and device not in ("auto", "cpu"):
        raise BadInput(f"the {stage} stage runs on the CPU, not on {device}", hint="leave --device out")
    return {name: value for name, value in (("backend", backend), ("device", device)) if name in taken}


def _known_extras(kind: type, extras: dict[str, Path | None]) -> dict[str, Path | None]:
    """The extras that a stage's ``Outputs`` has a field for."""
    known = {item.name for item in dataclasses.fields(kind)}
    return {name: path for name, path in extras.items() if name in known}


@contextmanager
def _listening(stage: str, console: Console) -> Iterator[None]:
    """Show the stage's progress, or pass it on to the workflow that started this process."""
    if events.VARIABLE in os.environ:
        with listening(events.ProgressEvents(stage)):
            yield
        return
    with console.progress() as display:
        with listening(lambda progress: display.show(stage, progress)):
            yield
        display.finish(stage)

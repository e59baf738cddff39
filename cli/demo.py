"""``radnerf demo``: from nothing, or from your own video, to a portrait that speaks."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from cli import completion
from cli.console import Console
from cli.help_pages import KEPT, WRITING
from cli.options import AsJson, Home, Quiet, examples, read_home
from cli.prepare import prepare
from cli.speak import speak
from cli.subject import slug
from cli.train import train
from stages.atomic_files import lives
from stages.progress import listening
from stages.workspace import Workspace

EXAMPLES = examples("radnerf demo", "radnerf demo my.mp4", "radnerf demo --preset standard --home /tmp/try")


def demo(
    video: Annotated[
        Path | None,
        typer.Argument(metavar="[VIDEO]", help="Your own, in place of the made one.", show_default=False),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="draft, standard, full or max.",
            autocompletion=completion.presets,
            rich_help_panel=KEPT,
        ),
    ] = "draft",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The video.  [default: ./NAME_speaks.mp4]",
            rich_help_panel=WRITING,
        ),
    ] = None,
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a subject, train it and let it speak a sentence that was not in training.

    Without a video the subject is a drawn head, nobody's likeness, with synthesized speech.
    """
    console = Console(json=as_json, quiet=quiet)
    home = read_home(home)
    name = "demo" if video is None else slug(video.stem)[:64] or "demo"
    final = output if output is not None else Path(f"{name}_speaks.mp4")
    _remove_left_over()
    with tempfile.TemporaryDirectory(prefix=f"radnerf-demo-{os.getpid()}-") as folder:
        speech = Path(folder) / "demo.wav"
        _make_speech(speech, console)
        if video is None:
            # What an earlier run drew lies in the subject.
            video = Workspace(home / "subjects" / name).source
            if not video.is_file():
                video = Path(folder) / "demo.mp4"
                _make_video(video, console)
        drawn = video.parent == Path(folder)
        # Only the last command's words are the demo's answer.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            consent = "a drawn head, nobody's likeness" if drawn else None
            prepare(video, name=name, consent=consent, preset=preset, home=home, quiet=quiet)
            train(name, preset=preset, home=home, quiet=quiet)
        speak(name, speech, output=final, home=home, as_json=as_json, quiet=quiet)
    console.remark(f"the video is {final.absolute()}")


def _remove_left_over() -> None:
    """Remove what demos that were killed had drawn so far."""
    for path in Path(tempfile.gettempdir()).glob("radnerf-demo-*"):
        drawn = re.fullmatch(r"radnerf-demo-(\d+)-\w+", path.name)
        if drawn and not lives(int(drawn[1])):
            shutil.rmtree(path, ignore_errors=True)


def _make_video(video: Path, console: Console) -> None:
    from stages.demo.make import DemoSettings, make_demo_video

    with console.progress() as display, listening(lambda progress: display.show("demo", progress)):
        make_demo_video(video, video.with_suffix(".npz"), DemoSettings())
        display.finish("demo")


def _make_speech(speech: Path, console: Console) -> None:
    from stages.demo.make import make_demo_speech

    with console.progress() as display, listening(lambda progress: display.show("speech", progress)):
        make_demo_speech(speech)
        display.finish("speech")

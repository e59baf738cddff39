"""``radnerf live``: a trained subject speaks what it hears, as it hears it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import Console, duration
from cli.help_pages import LOOKING, WRITING
from cli.options import (
    AsJson,
    BackendName,
    DeviceName,
    Home,
    Quiet,
    SubjectName,
    examples,
)
from cli.speech_plan import read_background, read_view
from cli.window import Port, ShowPage, find_sitter, open_browser
from stages.errors import BadInput, Interrupted

if TYPE_CHECKING:
    from stages.window.server import Door

EXAMPLES = examples(
    "radnerf live anchor",
    "arecord -f S16_LE -r 16000 -c 1 -t raw | radnerf live anchor --input - --output talk.mp4",
    "radnerf live anchor --input ws --output window",
    "radnerf live anchor --output rtmp://127.0.0.1/live/anchor --size 256",
    codes={130: "ended with Ctrl-C; the file is finished"},
)


def live(
    subject: SubjectName,
    source: Annotated[
        str,
        typer.Option("--input", metavar="mic|mic:NAME|-|ws", help="Microphone, PCM on standard input, or a WebSocket."),
    ] = "mic",
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="window|FILE|URL",
            help="A page, a file, a named pipe, or rtmp://…",
            rich_help_panel=WRITING,
        ),
    ] = "window",
    background: Annotated[
        str | None,
        typer.Option(
            "--background", metavar="COLOUR|FILE", help="'#rrggbb', a CSS name, or a picture.", rich_help_panel=LOOKING
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            "--view",
            metavar="YAW,PITCH",
            help="Turn the head, in degrees: left/right, up/down.",
            rich_help_panel=LOOKING,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            min=16,
            max=2048,
            help="Side of the pictures.  [default: as trained]",
            rich_help_panel=LOOKING,
        ),
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop/--no-drop", help="Leave pictures out when late, or make the input wait.")
    ] = True,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="SECONDS", min=0, help="End after so much sound; 0 goes on.")
    ] = 0.0,
    port: Port = 0,
    show: ShowPage = True,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Speak what comes in while it comes in: sound in, picture and sound out, a bounded while later.

    Sound is 16-bit PCM at 16 kHz, mono. While nobody speaks, the portrait goes on moving. Where the machine is too
    slow, pictures are left out and never sound. Ctrl-C ends it and finishes the file.
    """
    console = Console(json=as_json, quiet=quiet)
    if source not in ("-", "ws", "mic") and not source.startswith("mic:"):
        raise BadInput(f"--input is {source!r}", hint="give mic, mic:NAME, - or ws")
    if source == "-" and sys.stdin.isatty():
        raise BadInput(
            "--input - reads sound, and a terminal gives none", hint="pipe 16-bit mono PCM at 16 kHz into it"
        )
    sitter = find_sitter(home, subject, backend=backend, device=device)
    colour, picture = read_background(background)
    turn = tuple(read_view(view))

    import stages.live
    from stages.live_output import read_target

    target = None if output == "window" else read_target(output)
    portrait = sitter.load()
    side = size or portrait.size_px
    wish = stages.live.LiveWish(
        source=source,
        target=target,
        size_px=side + side % 2,
        background="picture" if picture else "clip" if colour is None else (colour[0], colour[1], colour[2]),
        picture=picture.read_bytes() if picture else None,
        view_deg=(turn[0], turn[1]),
        drops=drop,
        seconds=seconds,
        port=port,
        consent=sitter.consent,
    )

    def opened(door: Door) -> None:
        Console().remark(door.address if source != "ws" else f"{door.address}\nsound: {_socket(door)}")
        if show and target is None:
            open_browser(door.address, console)

    found = stages.live.run(portrait, wish, opened=opened, report=lambda figures: console.remark(_words(figures)))
    interrupted = found.pop("interrupted")
    console.result({**found, "output": output}, _words(found))
    if interrupted:
        raise Interrupted("interrupted; what was spoken until then is finished")


def _socket(door: Door) -> str:
    return door.address.replace("http://", "ws://") + "speak"


def _words(figures: Mapping[str, Any]) -> str:
    delay = figures["latency_ms"]
    return (
        f"live: {duration(figures['seconds'])}, {figures['frames']} frames, {figures['dropped']} left out, "
        f"latency {delay['median'] / 1000:.2f} s (95 %: {delay['p95'] / 1000:.2f} s)"
    )

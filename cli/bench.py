"""``radnerf bench``: how fast this machine renders and trains, beside the original NeRF and beside its own limit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import completion
from cli.console import Console, duration
from cli.help_pages import RUNNING
from cli.options import AsJson, DeviceName, Home, Quiet, examples, read_backend, read_device, read_home
from cli.speak import check_trained
from stages.errors import BadInput
from stages.progress import listening
from stages.workspace import open_subject

EXAMPLES = examples(
    "radnerf bench --quick", "radnerf bench --json > bench.json", "radnerf bench anchor --backend cpu --sizes 128,256"
)

_LEAST_SIZE_PX, _MOST_SIZE_PX = 16, 4096
_TABLE_WIDTH = 140

Row = dict[str, Any]


def bench(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[SUBJECT]",
            help="A trained one, in place of a drawn head.",
            show_default=False,
            autocompletion=completion.subjects,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute: fewer sizes, fewer rays.")] = False,
    sizes: Annotated[
        str | None,
        typer.Option("--sizes", metavar="N,N…", help="Sides of the frames.  [default: 128,256,512,1024]"),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="Measure this one only, beside the baseline; auto: each one that is here.",
            autocompletion=completion.backends,
            rich_help_panel=RUNNING,
        ),
    ] = "auto",
    device: DeviceName = "auto",
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure every backend and the original NeRF on the same frames, and how near each comes to this machine's limit.

    Leave the machine alone meanwhile: other work makes every figure worse.
    """
    console = Console(json=as_json, quiet=quiet)
    backend, device = read_backend(backend), read_device(device)
    wanted = None if sizes is None else read_sizes(sizes)
    workspace = None
    if subject is not None:
        workspace = open_subject(read_home(home), subject)
        check_trained(workspace)
    from stages import bench as measuring

    effort = measuring.QUICK if quick else measuring.Effort()
    usual = measuring.QUICK_SIZES if quick else measuring.SIZES
    with console.progress() as display, listening(lambda progress: display.show("bench", progress)):
        found = measuring.run(workspace, wanted or usual, effort, backend=backend, device=device)
        display.finish("bench")
    console.result(found, "" if as_json else words(found))


def read_sizes(text: str) -> tuple[int, ...]:
    """``"128,256"`` as ``(128, 256)``.

    Raises:
        BadInput: Something that is no size.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and _LEAST_SIZE_PX <= int(part) <= _MOST_SIZE_PX for part in parts):
        raise BadInput(
            f"--sizes is {text!r}",
            hint=f"give whole numbers from {_LEAST_SIZE_PX} to {_MOST_SIZE_PX} with commas between, as in 128,256",
        )
    return tuple(sorted({int(part) for part in parts}))


def words(found: dict[str, Any]) -> str:
    """What was measured, as tables for people."""
    machine, rows = found["machine"], found["rows"]
    first = _table(
        "Frames: head, torso, blending",
        (
            "",
            "size",
            "ms",
            "frames/s",
            "with video",
            "samples/ray",
            "peak MB",
            "x nerf",
            "floor ms",
            "of the floor",
            "just then",
        ),
        [
            (
                _name(row),
                f"{row['size']}²",
                _number(row["ms"]) + ("" if row["rays_measured"] == row["rays"] else "*"),
                _number(row["fps"]),
                _number(row["fps_with_encode"]),
                _number(row["samples_per_ray"]),
                _number(row["peak_mb"]),
                _number(row["ratio_to_nerf"]),
                _number(row["floor_ms"]),
                f"{100 * row['floor_share']:.0f} %",
                "-" if row["share_of_possible"] is None else f"{100 * row['share_of_possible']:.0f} %",
            )
            for row in rows
        ],
    )
    parts = ("march_ms", "encode_ms", "networks_ms", "composite_ms")
    second = _table(
        "Milliseconds of a frame: the head step by step, then what is really used",
        ("", "size", *(part.removesuffix("_ms") for part in parts), "head", "torso", "blend", "video", "first call"),
        [
            (
                _name(row),
                f"{row['size']}²",
                *(_number(row["parts"][part]) for part in parts),
                *(_number(row[key]) for key in ("head_ms", "torso_ms", "blend_ms", "video_encode_ms", "first_call_ms")),
            )
            for row in rows
        ],
    )
    trained = {(row["device"], _name(row)): row for row in rows if row["train_steps_per_s"] is not None}
    third = _table(
        "Training of the head",
        ("", "size", "steps/s", "rays/s", "rays a step"),
        [
            (
                name,
                f"{row['train_size']}²",
                *(_number(row[f"train_{key}"]) for key in ("steps_per_s", "rays_per_s", "rays_per_step")),
            )
            for (_, name), row in trained.items()
        ],
    )
    return "\n".join(part for part in (_head(machine), first, second, third if trained else "", _foot(rows)) if part)


def _head(machine: Row) -> str:
    lines = [f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, subject {machine['subject']}"]
    for device, rates in machine["rates"].items():
        lines.append(
            f"{device} at best: {_number(rates['matrix_gflops'])} GFLOP/s ({rates['matrix_shape']} "
            f"{rates['matrix_dtype']}), {_number(rates['cache_gb_s'])} GB/s in caches, "
            f"{_number(rates['memory_gb_s'])} GB/s through memory; measured in {duration(machine['seconds'])}"
        )
    return "\n".join(lines)


def _foot(rows: list[Row]) -> str:
    sampled = any(row["rays_measured"] != row["rays"] for row in rows)
    return "* an even sample of the frame's rays was rendered, and the time scaled by their number" if sampled else ""


def _name(row: Row) -> str:
    where = "" if row["device"] == "cpu" else f" on {row['device']}"
    return f"{row['backbone'] if row['backbone'] == 'nerf' else row['backend']}{where}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Rich table as text, as wide as it needs to be."""
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="", header_style="")
    for column, name in enumerate(header):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    stream = io.StringIO()
    RichConsole(file=stream, width=_TABLE_WIDTH, color_system=None, markup=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()).rstrip()

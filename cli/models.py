"""``radnerf models``: the optional model files, and how one is brought in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import completion
from cli.console import Console, size, table
from cli.options import AsJson, Quiet, examples
from stages.errors import BadInput
from stages.progress import listening

EXAMPLES = examples(
    "radnerf models",
    "radnerf models fetch face_landmarker.task",
    "radnerf models add ~/Downloads/face_landmarker.task",
    "radnerf models add ~/Downloads/hubert --as HuBERT",
)


def models(
    action: Annotated[
        str | None,
        typer.Argument(
            metavar="[add|fetch]",
            help="What to do; without, the list.",
            show_default=False,
            autocompletion=completion.model_actions,
        ),
    ] = None,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|NAME]",
            help="The file (or a network's folder) to add, or the name to fetch.",
            show_default=False,
            autocompletion=completion.models,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Which model an added file is.  [default: by the file's name]"),
    ] = None,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Add it though its content is not the known.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the optional models, add one that you have, or fetch one; nothing is fetched without being asked for."""
    from stages import model_files

    console = Console(json=as_json, quiet=quiet)
    if action is None:
        found = [_describe(model) for model in model_files.MODELS]
        console.result({"folder": str(model_files.user_folder()), "models": found}, _listing(found))
        return
    if action not in ("add", "fetch"):
        raise BadInput(f"'models {action}' is no action", hint="leave it out for the list, or say add or fetch")
    if what is None:
        raise BadInput(f"'models {action}' needs {'a file' if action == 'add' else 'a name'}", hint="see --help")
    if action == "fetch" and (name is not None or unchecked):
        raise BadInput("--as and --unchecked belong to 'models add'", hint="leave them out")
    if action == "add":
        path = model_files.add(Path(what), name or "", unchecked=unchecked)
    else:
        with console.progress() as display, listening(lambda progress: display.show("fetch", progress)):
            path = model_files.fetch(what)
            display.finish("fetch")
    console.result({"added": str(path)}, f"{path} is ready")


def _describe(model: Any) -> dict[str, Any]:  # noqa: ANN401 - stages are imported inside functions
    from stages import model_files

    path = model_files.find(model)
    return {
        "name": model.name,
        "present": path is not None,
        "path": str(path) if path else None,
        "searched": model_files.searched(model),
        "improves": model.improves,
        "licence": model.licence,
        "bytes": model.size_bytes or None,
        "sha256": model.sha256 or None,
        "md5": model.md5 or None,
        "source": model.source,
        "fetchable": bool(model.url),
    }


def _listing(found: list[dict[str, Any]]) -> str:
    rows = [
        (
            "ok" if one["present"] else "-",
            one["name"],
            size(one["bytes"]) if one["bytes"] else "",
            one["licence"],
            one["improves"],
        )
        for one in found
    ]
    lines = [table(rows, ("", "model", "size", "licence", "what it improves")), ""]
    for one in found:
        lines.append(f"{one['name']}: {one['path'] or 'not in ' + one['searched']}")
        lines.append(f"    from: {one['source']}")
        if one["fetchable"] and not one["present"]:
            lines.append(f"    radnerf models fetch {one['name']}")
        lines += [f"    {kind} {one[key]}" for kind, key in (("SHA-256", "sha256"), ("MD5", "md5")) if one[key]]
    return "\n".join(lines)

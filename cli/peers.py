"""``radnerf import`` and ``radnerf export``: to and from other programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import completion
from cli.console import Console, size
from cli.help_pages import KEPT, WRITING
from cli.options import AsJson, BackendName, DeviceName, Home, PresetName, Quiet, SubjectName, examples, read_home
from cli.prepare import ask_consent
from cli.speech_plan import check_trained
from cli.staging import new_subject
from cli.subject import check_space, describe_source, load_record, new_record, save_record, slug, write_settings
from cli.workflow import hold
from stages.atomic_files import load_json, save_json
from stages.errors import BadInput
from stages.progress import listening
from stages.workspace import Workspace, check_name, open_subject

IMPORT_EXAMPLES = examples(
    "radnerf import data/obama",
    "radnerf import data/obama --name obama --consent 'public address, research only'",
    "radnerf import data/obama --front-end deepspeech",
    "radnerf import data/obama --solve-poses",
)
EXPORT_EXAMPLES = examples(
    "radnerf export anchor -o anchor.ply",
    "radnerf export anchor -o anchor.ply --resolution 320",
    "radnerf export anchor -o data/anchor --format radnerf-data",
)

FORMATS = ("mesh", "radnerf-data")

_OTHER_MESHES = (".obj", ".stl", ".glb", ".gltf", ".fbx", ".usdz", ".xyz")
"""What a subject can be written as."""


def import_data(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A data folder of RAD-NeRF, ER-NeRF or AD-NeRF.", show_default=False)
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The subject's name.  [default: the folder's]"),
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(
            "--consent",
            metavar="TEXT",
            help="Whose face it is and that they agreed; else it is asked for once, at a terminal.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    front_end: Annotated[
        str | None,
        typer.Option(
            "--front-end",
            metavar="NAME",
            help="As for 'prepare'; 'deepspeech' takes the folder's features.  [default: logmel]",
            autocompletion=completion.front_ends,
            rich_help_panel=KEPT,
        ),
    ] = None,
    solve_poses: Annotated[bool, typer.Option("--solve-poses", help="Measure the poses anew.")] = False,
    preset: PresetName = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a subject of that name.")] = False,
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a subject from a folder that RAD-NeRF, ER-NeRF or AD-NeRF has prepared; 'radnerf train' goes on from there.

    Taken over: frames, class maps, torso pictures, background, sound, camera, poses, blinks (au.csv). The mouth is
    measured from the pictures, since those programs do not; poses are brought into radnerf's head frame, which
    that tells. Torch files are read without unpickling.
    """
    console = Console(json=as_json, quiet=quiet)
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}", hint="give a folder that one of these programs has prepared")
    workspace = Workspace(
        read_home(home) / "subjects" / check_name(name or slug(folder.resolve().name)[:64] or "subject")
    )
    source = _source(folder)
    if consent is None and not (quiet or as_json) and not workspace.root.exists():
        consent = ask_consent()
    changes = {} if front_end is None else {"audio": {"front_end": front_end}}
    record = new_record(workspace.root.name, source, consent or "").changed(preset=preset, assignments=changes)
    check_space(
        workspace.root, 2 * sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), "this subject"
    )

    from stages.peer_import import GIVEN, import_folder

    with new_subject(workspace, force=force) as staging, console.progress() as display:
        with listening(lambda progress: display.show("import", progress)):
            own_features = front_end == "deepspeech"
            track = import_folder(folder, staging, _find_landmarks, deepspeech=own_features, solve_poses=solve_poses)
        display.finish("import")
        given = [stage for stage in GIVEN if not (stage == "pose" and solve_poses)] + ["audio"] * own_features
        save_json(staging.given, {"stages": given, "why": f"imported from {folder.resolve().name}"})
        save_record(staging.subject, record)
        write_settings(staging, record.resolved())
    info = load_json(workspace.frames_info)
    told: dict[str, Any] = {
        "subject": workspace.root.name,
        "frames": info["frames"],
        "size_px": info["size_px"],
        "reprojection_rms_px": None if track is None else round(track.reprojection_rms_px, 2),
    }
    fits = "" if track is None else f", poses within {track.reprojection_rms_px:.1f} px of the landmarks"
    words = f"{workspace.root.name} imported: {info['frames']} frames of {info['size_px']} pixels{fits}"
    console.result(told, f"{words}\nnext: radnerf train {workspace.root.name}")


def _source(folder: Path) -> Any:  # noqa: ANN401 - see cli.subject.Source
    """What identifies the folder: its poses."""
    for name in ("transforms_train.json", "track_params.pt"):
        if (folder / name).is_file():
            return replace(describe_source(folder / name), name=folder.resolve().name)
    raise BadInput(
        f"{folder} has neither transforms_train.json nor track_params.pt",
        hint="give a folder that one of these programs has prepared",
    )


def _find_landmarks(frames: Path, landmarks: Path) -> None:
    """The landmarks stage, in this process."""
    import stages.landmarks
    from stages.settings import LandmarksSettings

    landmarks.parent.mkdir(parents=True, exist_ok=True)
    stages.landmarks.run(stages.landmarks.Inputs(frames), stages.landmarks.Outputs(landmarks), LandmarksSettings())


def export(
    subject: SubjectName,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="PATH", help="A .ply file, or a new folder.", rich_help_panel=WRITING),
    ],
    kind: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="mesh or radnerf-data.  [default: by the output's name]"),
    ] = None,
    resolution: Annotated[
        int, typer.Option("--resolution", metavar="CELLS", min=16, max=1024, help="Of the mesh's grid.")
    ] = 160,
    density: Annotated[
        float, typer.Option("--density", metavar="PER_CM", min=0.0001, help="Where the mesh's surface is.")
    ] = 1.7,
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    home: Home = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a subject for other programs: the head as a mesh, or a data folder to train on.

    mesh: the head at rest as binary PLY with a colour at each vertex, in centimetres. radnerf-data: frames, class maps,
    torso pictures, background, sound, camera and poses as RAD-NeRF and ER-NeRF read them.
    """
    console = Console(json=as_json, quiet=quiet)
    workspace = open_subject(read_home(home), subject)
    if output.suffix.lower() in _OTHER_MESHES:
        raise BadInput(f"no {output.suffix} can be written", hint="a mesh is written as .ply, which mesh editors read")
    kind = kind or ("mesh" if output.suffix.lower() == ".ply" else "radnerf-data")
    if kind not in FORMATS:
        raise BadInput(f"{kind!r} is no format", hint=f"choose one of: {', '.join(FORMATS)}")
    if not output.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {output.absolute().parent}", hint="make it first")
    with hold(workspace), console.progress() as display:
        with listening(lambda progress: display.show("export", progress)):
            if kind == "mesh":
                told, words = _export_mesh(workspace, output, resolution, density, backend, device)
            else:
                told, words = _export_data(workspace, output)
        display.finish("export")
    console.result(told, words)


def _export_mesh(
    workspace: Workspace, output: Path, resolution: int, density: float, backend: str, device: str
) -> tuple[dict[str, Any], str]:
    check_trained(workspace)
    if output.suffix.lower() != ".ply" or output.is_dir():
        raise BadInput(f"a mesh cannot be written to {output}", hint="give a name that ends in .ply")

    from radnerf.devices import pick_device
    from stages.head_file import load_head
    from stages.head_mesh import at_rest, head_mesh, save_ply

    head, _ = load_head(workspace.head, backend, pick_device(device))
    mesh = head_mesh(head, at_rest(head), resolution, density)
    consent = load_record(workspace.subject).consent or "no consent note was given"
    save_ply(output.absolute(), mesh, f"Synthetic head of {workspace.root.name}. Consent: {consent}")
    told = {"file": str(output.absolute()), "vertices": len(mesh.vertices), "faces": len(mesh.faces)}
    return told, f"{output}: {told['vertices']} vertices, {told['faces']} triangles, {size(output.stat().st_size)}"


def _export_data(workspace: Workspace, output: Path) -> tuple[dict[str, Any], str]:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output} is there and not an empty folder", hint="give a new folder")
    for path in (workspace.track, workspace.layers, workspace.frames, workspace.landmarks):
        if not path.is_file():
            raise BadInput(
                f"the subject {workspace.root.name!r} has no {path.name} to export",
                hint="prepare it first; an unpacked subject has it only if it was packed with --training",
            )

    from stages.peer_export import write_peer_folder

    output.mkdir(exist_ok=True)
    remarks = write_peer_folder(workspace, output)
    told = {"folder": str(output.absolute()), "remarks": remarks}
    return told, "\n".join([f"{output}: as RAD-NeRF and ER-NeRF read it", *(f"then {one}" for one in remarks)])

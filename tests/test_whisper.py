"""Whisper's encoder as a front end, alone and beside the log-mel bands: alignment, windows, weights, the choice."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stages.errors import BadInput
from stages.formats import AudioFeatures
from stages.hearing import net_features
from stages.settings import AudioSettings
from stages.sound import both, logmel, whisper
from stages.sound.front_end import gain_for, levels_db, load_front_end
from stages.sound.wav import sound_from_array
from tests.sounds import RATE, click, speech

Array = npt.NDArray[np.float32]

needs_faster_whisper = pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None, reason="faster-whisper is not installed"
)


class _FakeEncoder:
    """Answers with the mean of the two mel frames around each state's centre, as the real one is centred."""

    class _Inner:
        n_mels = 80

    model = _Inner()
    calls = 0

    def __init__(self, *_: object, **__: object) -> None:
        """Take whatever the real class takes."""

    def encode(self, features: Array) -> Array:
        """(80, 3000) mel frames to (1, 1500, 80) states."""
        self.calls += 1
        assert features.shape == (80, 3000)
        assert features.dtype == np.float32
        return features[:, ::2].T[None]


@pytest.fixture
def fake_whisper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> whisper.Whisper:
    """The front end with an encoder that passes its input through."""
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    monkeypatch.setattr("faster_whisper.WhisperModel", _FakeEncoder)
    for name in whisper._NEEDED:
        (tmp_path / name).write_text("{}")
    return whisper.Whisper(tmp_path)


@pytest.mark.parametrize("row", [3, 1249, 1251, 2000])
def test_whisper_hears_a_click_in_its_row(fake_whisper: whisper.Whisper, row: int) -> None:
    values = fake_whisper.features(click(row, 2100), 1.0)
    assert values.shape == (2100, 80)
    assert (values.argmax(axis=0) == row).all()


def test_whisper_matches_the_librarys_own_mel_frames(fake_whisper: whisper.Whisper) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    sound = speech(3.0)
    ours = np.log10(10.0 ** fake_whisper._log_mel(sound, 1.0, 0, 150))
    # Row t's first mel frame is centred half a row after the library's frame 2 t.
    theirs = FeatureExtractor()(sound.read(160, sound.samples + 160), padding=RATE)[:, :300] * 4.0 - 4.0
    floor = theirs.min()
    np.testing.assert_allclose(np.maximum(ours, floor)[:, 2:296], theirs[:, 2:296], atol=2e-3)


def test_whisper_does_not_mind_the_gain(fake_whisper: whisper.Whisper) -> None:
    loud = speech(3.0)
    quiet = sound_from_array(loud.read(0, loud.samples) * np.float32(0.1))
    one, other = (fake_whisper.features(sound, gain_for(levels_db(sound))) for sound in (loud, quiet))
    assert np.abs(one - other).max() < 0.03  # of a standard deviation


@needs_faster_whisper
def test_whisper_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"config\.json, tokenizer\.json missing"):
        load_front_end(AudioSettings(front_end="whisper", model=str(tmp_path)))


@needs_faster_whisper
def test_whisper_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    for name in whisper._NEEDED:
        (tmp_path / name).write_text("{}")
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_front_end(AudioSettings(front_end="whisper", model=str(tmp_path)))


def test_base_halves_are_joined_once_and_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import hashlib

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, data in (("model.bin.part1", b"first "), ("model.bin.part2", b"second")):
        (tmp_path / name).write_bytes(data)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(BadInput, match="halves") as caught:
        whisper._join_base(tmp_path, tmp_path)
    assert "--force-reinstall" in caught.value.hint
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    monkeypatch.setattr(whisper, "_BASE_SHA256", hashlib.sha256(b"first second").hexdigest())
    folder = whisper._join_base(tmp_path, tmp_path)
    assert (folder / "model.bin").read_bytes() == b"first second"
    (folder / "model.bin").write_bytes(b"damaged")
    assert (whisper._join_base(tmp_path, tmp_path) / "model.bin").read_bytes() == b"first second"
    assert {path.name for path in folder.iterdir()} == {"model.bin", "config.json", "tokenizer.json", "vocabulary.txt"}


@needs_faster_whisper
def test_installed_whisper_weights_tell_sounds_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = next((n for n in ("tiny.en", "base") if whisper._installed(n)), "")
    if not name:
        pytest.skip("no package with Whisper weights is installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    front_end = load_front_end(AudioSettings(front_end="whisper", model=name))
    sound = speech(31.0)
    values = front_end.features(sound, gain_for(levels_db(sound)))
    assert values.shape[0] == 1550
    assert values.shape[1] in (384, 512)
    assert np.abs(values[:1200].std(axis=0) - 1.0).mean() < 0.1
    assert front_end.model.startswith("sha256:")


def test_both_front_ends_stand_side_by_side(fake_whisper: whisper.Whisper) -> None:
    sound = speech(1.0)
    values = both.Both(fake_whisper).features(sound, 2.0)
    np.testing.assert_array_equal(values[:, :40], logmel.LogMel().features(sound, 2.0))
    np.testing.assert_array_equal(values[:, 40:], fake_whisper.features(sound, 2.0))
    assert both.Both(fake_whisper).model == fake_whisper.model


def test_the_audio_net_hears_the_bands_of_both_alone() -> None:
    level_db = np.zeros(4, np.float32)
    for name, columns in (("both", logmel.BANDS), ("logmel", 0), ("whisper", 0)):
        assert net_features(AudioFeatures(np.zeros((4, 50), np.float32), level_db, name, "")) == columns


def test_the_best_front_end_present_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    present = {"faster_whisper", whisper._TINY_EN_PACKAGE}
    folder = importlib.machinery.ModuleSpec("weights", None, is_package=True)
    folder.submodule_search_locations = ["somewhere"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, _=None: folder if name in present else None)
    assert both.best_present() == AudioSettings("both", "tiny.en")
    present.update(whisper._BASE_PARTS)
    assert both.best_present() == AudioSettings("both", "base")
    present.remove("faster_whisper")
    assert both.best_present() == AudioSettings("logmel", "")

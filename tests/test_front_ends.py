"""The front ends that need weights: their alignment, their windows, and what they say when something is missing."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from stages.errors import BadInput
from stages.formats import AudioFeatures
from stages.hearing import net_features
from stages.settings import AudioSettings, FrontEnd
from stages.sound import both, deepspeech, logmel, reference, transformers_speech, whisper
from stages.sound.front_end import gain_for, levels_db, load_front_end
from stages.sound.wav import Sound, sound_from_array

RATE = 16_000
Array = npt.NDArray[np.float32]

needs_faster_whisper = pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None, reason="faster-whisper is not installed"
)
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed"
)


def speech(seconds: float = 2.0) -> Sound:
    """The reference syllables, cut or repeated to a length."""
    source = reference.reference_sound()
    count = round(seconds * RATE)
    return sound_from_array(np.resize(source.read(0, source.samples), count))


def click(row: int, rows: int) -> Sound:
    """A click in the middle of a row."""
    samples = np.zeros(rows * 320, np.float32)
    samples[row * 320 + 160] = 0.9
    return sound_from_array(samples)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let packages look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name in packages else find(name, package)
    )


@pytest.mark.parametrize(
    ("front_end", "model", "package", "install"),
    [
        ("whisper", "", "faster_whisper", "pip install 'radnerf[whisper]'"),
        ("wav2vec2", "", "transformers", "pip install 'radnerf[transformers]'"),
        ("hubert", "", "transformers", "pip install 'radnerf[transformers]'"),
        ("deepspeech", "graph.pb", "tensorflow", "pip install tensorflow"),
    ],
)
def test_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, front_end: FrontEnd, model: str, package: str, install: str
) -> None:
    without(monkeypatch, package)
    monkeypatch.chdir(tmp_path)
    Path("graph.pb").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        load_front_end(AudioSettings(front_end=front_end, model=model))
    assert caught.value.hint == install


@pytest.mark.parametrize("front_end", ["wav2vec2", "hubert", "whisper"])
def test_missing_weights_are_an_error_and_no_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, front_end: FrontEnd
) -> None:
    package = "faster_whisper" if front_end == "whisper" else "transformers"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", _no_network)
    without(monkeypatch, *whisper._BASE_PARTS, whisper._TINY_EN_PACKAGE)
    for model in ("", "somebody/some-model", "no such/folder at/all", "small"):
        with pytest.raises(BadInput, match="no weights") as caught:
            load_front_end(AudioSettings(front_end=front_end, model=model))
        assert "audio.model" in caught.value.hint


def _no_network(*_: object) -> None:
    raise AssertionError("a front end tried to reach the network")


@pytest.mark.parametrize("model", ["", "missing.pb", "."])
def test_deepspeech_without_its_graph_says_where_to_point(model: str) -> None:
    with pytest.raises(BadInput, match="released graph") as caught:
        load_front_end(AudioSettings(front_end="deepspeech", model=model))
    assert "output_graph.pb" in caught.value.hint


def test_logmel_refuses_weights() -> None:
    with pytest.raises(BadInput, match="no weights"):
        load_front_end(AudioSettings(model="base"))


# The reference sound and what is scaled by it


def test_reference_sound_is_fixed_and_has_speech_and_pauses() -> None:
    first, second = reference.reference_sound(), reference.reference_sound()
    np.testing.assert_array_equal(first.read(0, first.samples), second.read(0, second.samples))
    level_db = levels_db(first)
    assert 0.15 < float((level_db < -70).mean()) < 0.35
    assert level_db.max() > -30


def test_standardised_reference_has_unit_variance_and_still_channels_do_not_blow_up() -> None:
    def raw(sound: Sound, gain: float) -> Array:
        del gain
        level = levels_db(sound)
        return np.stack([level, 1000 * level + 5, np.full_like(level, 3.0)], axis=1)

    standardiser = reference.standardiser_for(raw)
    values = standardiser.apply(raw(reference.reference_sound(), 1.0))
    np.testing.assert_allclose(values[:, :2].std(axis=0), 1.0, atol=1e-3)
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-3)
    assert standardiser.scale[2] > 0.01


# DeepSpeech


def test_cepstra_hear_a_click_in_its_row_alone() -> None:
    energy = deepspeech.cepstra(click(30, 50), 1.0)[:, 0]
    assert energy.argmax() == 30
    assert np.delete(energy, 30).max() < energy[30] - 20


def test_cepstra_of_chunks_join_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = deepspeech.cepstra(speech(), 1.0)
    monkeypatch.setattr(deepspeech, "_BLOCK_ROWS", 7)
    np.testing.assert_allclose(deepspeech.cepstra(speech(), 1.0), whole, atol=1e-4)
    assert whole.shape == (100, 26)


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_context_windows_match_the_released_preparation(rows: int) -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, (rows, 26)).astype(np.float32)
    empty = np.zeros((9, 26), np.float32)
    padded = np.concatenate([empty, values, empty])
    expected = np.stack([padded[row : row + 19].ravel() for row in range(rows)]).astype(np.float64)
    expected = (expected - expected.mean()) / expected.std()
    found = deepspeech.context_windows(values)
    assert found.shape == (rows, 19, 26)
    np.testing.assert_allclose(found.reshape(rows, -1), expected, atol=1e-5)


@needs_tensorflow
def test_deepspeech_runs_a_graph_with_the_released_names(tmp_path: Path) -> None:
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        given = tf.compat.v1.placeholder(tf.float32, [None, None, 494], name="input_node")
        tf.compat.v1.placeholder(tf.int32, [None], name="input_lengths")
        tf.transpose(given[:, :, 9 * 26 : 9 * 26 + 29], [1, 0, 2], name="logits")
    path = tmp_path / "output_graph.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    front_end = load_front_end(AudioSettings(front_end="deepspeech", model=str(path)))
    values = front_end.features(click(30, 50), 1.0)
    assert values.shape == (50, 29)
    assert values[:, 0].argmax() == 30
    path.write_bytes(b"no graph")
    with pytest.raises(BadInput, match=r"no DeepSpeech 0\.1 graph"):
        load_front_end(AudioSettings(front_end="deepspeech", model=str(path)))


# Whisper


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


# wav2vec 2.0 and HuBERT


def _tiny(folder: Path, name: str, *, normalise: bool) -> Path:
    """A randomly initialised network of two layers."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind, model = {
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
        "hubert": (transformers.HubertConfig, transformers.HubertModel),
    }[name]
    config = kind(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalise}))
    return folder


@needs_transformers
@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_transformers_speech_gives_one_row_for_20_ms(
    tmp_path: Path, name: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", _no_network)
    folder = _tiny(tmp_path, name, normalise=True)
    front_end = load_front_end(AudioSettings(front_end=name, model=str(folder)))
    for seconds in (0.21, 1.003, 3.0):
        sound = speech(seconds)
        values = front_end.features(sound, 1.0)
        assert values.shape == (sound.rows, 32)
        assert np.isfinite(values).all()
    again = load_front_end(AudioSettings(front_end=name, model=str(folder)))
    np.testing.assert_array_equal(again.features(speech(1.0), 1.0), front_end.features(speech(1.0), 1.0))
    assert again.model == front_end.model


@needs_transformers
def test_transformers_speech_hears_a_change_where_it_is(tmp_path: Path) -> None:
    folder = _tiny(tmp_path, "wav2vec2", normalise=False)
    front_end = transformers_speech.load(AudioSettings(front_end="wav2vec2", model=str(folder)))
    extractor = front_end._network.feature_extractor
    begin, end = -40, 100 * 320 + 40

    def convolved(sound: Sound) -> Array:
        import torch

        with torch.inference_mode():
            result: Array = extractor(torch.from_numpy(sound.read(begin, end))[None])[0].T.numpy()
        return result

    quiet = sound_from_array(np.zeros(32_000, np.float32))
    moved = np.abs(convolved(click(60, 100)) - convolved(quiet)).max(axis=1)
    assert len(moved) == 100
    assert moved.argmax() == 60


@needs_transformers
def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    folder = _tiny(tmp_path / "hubert", "hubert", normalise=True)
    with pytest.raises(BadInput, match="'hubert' network"):
        load_front_end(AudioSettings(front_end="wav2vec2", model=str(folder)))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"no model\.safetensors"):
        load_front_end(AudioSettings(front_end="hubert", model=str(folder)))


def test_strides_of_the_usual_convolutions() -> None:
    assert transformers_speech._strides((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)) == (320, 400)


def test_states_at_another_rate_are_interpolated_and_held_at_the_ends() -> None:
    states = np.arange(5, dtype=np.float32)[:, None] * np.array([1.0, -2.0], np.float32)
    centres, wanted = 100.0 + 200.0 * np.arange(5), np.array([0.0, 100, 200, 650, 2000])
    found = transformers_speech._interpolate(states, centres, wanted)
    np.testing.assert_allclose(found[:, 0], [0, 0, 0.5, 2.75, 4])
    np.testing.assert_allclose(found[:, 1], -2 * found[:, 0])


# Both side by side


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

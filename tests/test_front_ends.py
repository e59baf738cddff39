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
from stages.settings import AudioSettings, FrontEnd
from stages.sound import deepspeech, reference, transformers_speech, whisper
from stages.sound.front_end import levels_db, load_front_end
from stages.sound.wav import Sound, sound_from_array
from tests.sounds import click, speech

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

"""The audio stage with its default front end: alignment, levels, formats, and what is refused."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from stages import audio
from stages.errors import BadInput
from stages.formats import AudioFeatures
from stages.settings import AudioSettings
from stages.sound import logmel
from stages.sound.front_end import blend_windows, gain_for, levels_db, loudness_db
from stages.sound.wav import open_sound, sound_from_array

RATE = 16_000
Array = npt.NDArray[np.float32]


def speech_like(seconds: float, rate: int = RATE, seed: int = 0) -> Array:
    """Syllables of coloured noise, four a second, with pauses: (seconds * rate,) within ±0.5."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    noise = np.convolve(rng.standard_normal(len(times)), np.exp(-np.arange(8) / 2.0), mode="same")
    envelope = np.clip(np.sin(2 * np.pi * 4 * times), 0, None) * (np.sin(2 * np.pi * 0.5 * times) > -0.5)
    samples: Array = (0.1 * envelope * noise).clip(-0.5, 0.5).astype(np.float32)
    return samples


def write_wav(path: Path, samples: Array, rate: int = RATE) -> Path:
    wavfile.write(path, rate, (samples * 32767).round().astype(np.int16))
    return path


def features_of(path: Path, folder: Path) -> AudioFeatures:
    out = folder / "features.npz"
    audio.run(audio.Inputs(path), audio.Outputs(out), AudioSettings())
    return AudioFeatures.load(out)


@given(count=st.integers(1, 4000))
@settings(max_examples=40, deadline=None)
def test_rows_cover_the_sound_exactly(count: int) -> None:
    sound = sound_from_array(speech_like(0.25)[:count])
    values = logmel.LogMel().features(sound, 1.0)
    assert len(values) == len(levels_db(sound)) == -(-count // 320)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("row", [0, 7, 24, 49])
def test_click_in_the_middle_of_a_row_is_heard_in_that_row_alone(row: int) -> None:
    samples = np.zeros(RATE, np.float32)
    samples[row * 320 + 160] = 1.0
    values = logmel.LogMel().features(sound_from_array(samples), 1.0)
    assert values[row].min() > 0.5
    assert np.delete(values, row, axis=0).max() == 0.0


def test_click_between_two_rows_is_heard_equally_in_both() -> None:
    samples = np.zeros(RATE, np.float32)
    samples[20 * 320] = 1.0
    values = logmel.LogMel().features(sound_from_array(samples), 1.0)
    # Pre-emphasis gives the click a tail one sample long, which tilts the lowest bands.
    np.testing.assert_allclose(values[19, 5:], values[20, 5:], atol=0.05)
    assert values[19].max() > 0.5
    assert values[[18, 21]].max() == 0.0


def test_level_of_a_full_scale_square_wave_is_zero_and_of_silence_minus_100() -> None:
    samples = np.concatenate(
        [np.tile(np.array([1, -1], np.float32), 480), np.zeros(320, np.float32), np.ones(10, np.float32)]
    )
    np.testing.assert_allclose(levels_db(sound_from_array(samples)), [0, 0, 0, -100, 0], atol=1e-5)


def test_loudness_ignores_pauses() -> None:
    speech = levels_db(sound_from_array(speech_like(4)))
    with_pause = np.concatenate([speech, np.full(1000, -95, np.float32)])
    assert loudness_db(with_pause) == pytest.approx(loudness_db(speech), abs=1e-9)


def test_microphone_gain_hardly_matters(tmp_path: Path) -> None:
    loud = features_of(write_wav(tmp_path / "loud.wav", speech_like(4)), tmp_path)
    quiet = features_of(write_wav(tmp_path / "quiet.wav", speech_like(4) * 0.1), tmp_path)
    speaking = loud.level_db > -45
    assert np.abs(loud.values - quiet.values)[speaking].mean() < 0.02
    heard = loud.level_db > -70
    np.testing.assert_allclose(loud.level_db[heard] - quiet.level_db[heard], 20.0, atol=1.5)


def test_silence_stays_zero_beside_speech() -> None:
    samples = np.concatenate([speech_like(2), np.zeros(RATE, np.float32)])
    sound = sound_from_array(samples)
    values = logmel.LogMel().features(sound, gain_for(levels_db(sound)))
    assert values[102:].max() == 0.0
    assert values[:100].mean() > 0.5


def test_chunks_join_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = sound_from_array(speech_like(2.013))
    whole = logmel.LogMel().features(sound, 2.0)
    monkeypatch.setattr(logmel, "_BLOCK_ROWS", 7)
    np.testing.assert_allclose(logmel.LogMel().features(sound, 2.0), whole, atol=1e-6)


@given(rows=st.integers(1, 200), window=st.integers(2, 60), overlap=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_blended_windows_reproduce_an_encoder_without_edges(rows: int, window: int, overlap: int) -> None:
    truth = np.random.default_rng(1).standard_normal((rows, 3)).astype(np.float32)
    overlap = min(overlap, window - 1)
    spans: list[tuple[int, int]] = []

    def encode(first: int, last: int) -> Array:
        spans.append((first, last))
        return truth[first:last]

    np.testing.assert_allclose(blend_windows(rows, window, overlap, encode), truth, atol=1e-6)
    assert max(last - first for first, last in spans) <= window
    assert spans[-1][1] == rows


def test_windows_fade_linearly_into_each_other() -> None:
    values = iter([0.0, 1.0])
    blended = blend_windows(16, 10, 4, lambda first, last: np.full((last - first, 1), next(values), np.float32))
    np.testing.assert_allclose(blended[:, 0], [0] * 6 + [0.125, 0.375, 0.625, 0.875] + [1] * 6)


def _stereo_48k(path: Path) -> None:
    one = speech_like(2, 48_000)
    wavfile.write(path, 48_000, np.stack([one, one], axis=1))


def _eight_bit(path: Path) -> None:
    wavfile.write(path, RATE, (speech_like(2) * 127 + 128).round().astype(np.uint8))


def _floats(path: Path) -> None:
    wavfile.write(path, RATE, speech_like(2))


def _int32_44k(path: Path) -> None:
    wavfile.write(path, 44_100, (speech_like(2, 44_100) * (2**31 - 1)).astype(np.int32))


@pytest.mark.parametrize("write", [_stereo_48k, _eight_bit, _floats, _int32_44k])
def test_any_wav_is_read_at_16_khz_mono(tmp_path: Path, write: object) -> None:
    path = tmp_path / "a 'sound' 声.wav"
    assert callable(write)
    write(path)
    assert audio.check(path) == pytest.approx(2.0, abs=1e-3)
    features = features_of(path, tmp_path)
    assert abs(len(features.values) - 100) <= 1
    assert features.front_end == "logmel"
    assert features.level_db.max() == pytest.approx(levels_db(sound_from_array(speech_like(2))).max(), abs=2.5)


def test_float_wav_gives_the_same_features_as_16_bit(tmp_path: Path) -> None:
    _floats(tmp_path / "float.wav")
    decoded = features_of(tmp_path / "float.wav", tmp_path)
    direct = features_of(write_wav(tmp_path / "pcm.wav", speech_like(2)), tmp_path)
    speaking = direct.level_db > -45
    np.testing.assert_allclose(decoded.values[speaking], direct.values[speaking], atol=0.1)


def test_wav_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "cut.wav", speech_like(2))
    path.write_bytes(path.read_bytes()[: 44 + 2 * RATE])
    with open_sound(path) as sound:
        assert (sound.samples, sound.rows) == (RATE, 50)
        assert np.abs(sound.read(0, RATE)).max() > 0.01


def test_reading_beyond_the_ends_gives_silence() -> None:
    sound = sound_from_array(np.ones(10, np.float32))
    np.testing.assert_array_equal(sound.read(-3, 13), [0] * 3 + [1] * 10 + [0] * 3)
    np.testing.assert_array_equal(sound.read(20, 22), [0, 0])


def test_silent_speech_is_refused(tmp_path: Path) -> None:
    hiss = np.random.default_rng(0).integers(-1, 2, RATE).astype(np.float32) / 32768
    for name, samples in (("zero.wav", np.zeros(RATE, np.float32)), ("hiss.wav", hiss)):
        with pytest.raises(BadInput, match="no sound in it") as caught:
            audio.check(write_wav(tmp_path / name, samples))
        assert caught.value.exit_code == 2


def test_quiet_speech_is_accepted(tmp_path: Path) -> None:
    assert audio.check(write_wav(tmp_path / "quiet.wav", speech_like(1) * 0.01)) == 1.0


def test_too_short_speech_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"0\.10 s of sound"):
        audio.check(write_wav(tmp_path / "short.wav", speech_like(0.1)))


def test_bad_files_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "notes.wav").write_text("not a sound at all\n" * 100)
    with wave.open(str(tmp_path / "none.wav"), "wb") as stream:
        stream.setparams((1, 2, RATE, 0, "NONE", "NONE"))
    for name in ("missing.wav", "empty.wav", "notes.wav", "none.wav", "."):
        with pytest.raises(BadInput) as caught:
            audio.check(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert caught.value.hint
    monkeypatch.chdir(tmp_path)
    write_wav(Path("-y.wav"), speech_like(1))
    assert audio.check(Path("-y.wav")) == 1.0


def test_failed_run_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(BadInput):
        audio.run(audio.Inputs(tmp_path / "empty.wav"), audio.Outputs(tmp_path / "out" / "f.npz"), AudioSettings())
    assert not (tmp_path / "out").exists()


def test_speech_with_other_weights_than_the_subject_is_refused() -> None:
    values, level = np.zeros((3, 4), np.float32), np.zeros(3, np.float32)
    subject = AudioFeatures(values=values, level_db=level, front_end="whisper", model="tiny.en 1a5a")
    other = AudioFeatures(values=values, level_db=level, front_end="whisper", model="base d01c")
    audio.check_same_front_end(subject, subject)
    with pytest.raises(BadInput, match="base d01c"):
        audio.check_same_front_end(subject, other)


def test_video_gives_as_many_rows_as_its_sound_lasts(german: Path, tmp_path: Path) -> None:
    features = features_of(german, tmp_path)
    assert features.values.shape == (1000, 40)
    assert features.values[features.level_db < -50].mean() < 0.3 < features.values[features.level_db > -25].mean()

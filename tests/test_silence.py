"""Where somebody speaks, when the mouth rests, and other voices brought to the training speech."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch

from radnerf.agreement import correlation, correlation_within
from radnerf.audio_net import AudioNet
from radnerf.ear_choice import ear_share, fit_ear, fit_kernel_ear
from radnerf.kernel_ear import MOST_FRAMES, KernelEar, kept_frames
from radnerf.lesson import Speech, learn_mouth, learn_voice
from radnerf.linear_ear import LinearEar
from radnerf.model import HeadModel
from radnerf.mouth import MouthLesson, closed_frames
from radnerf.silence import mouth_gate
from radnerf.voice import Voice, VoiceMeter, matched
from stages.sound.activity import activity
from stages.sound.front_end import gain_for, levels_db
from stages.sound.wav import sound_from_array
from tests.synthetic import head_clip, head_model

RATE = 16_000
Array = npt.NDArray[np.float32]


def spoken(seconds: float, level: float = 0.2, seed: int = 0) -> Array:
    """Syllables with a gliding pitch, changing formants, and a fricative now and then."""
    rng = np.random.default_rng(seed)
    count = round(0.2 * RATE)
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    pieces = []
    for index in range(round(seconds / 0.2)):
        noisy = index % 5 == 4
        pitch = np.linspace(rng.uniform(90, 200), rng.uniform(90, 200), count)
        phase = np.cumsum(pitch) / RATE
        source = rng.standard_normal(count) if noisy else np.diff(np.floor(phase), prepend=0)
        bands = (3000, 5000) if noisy else (rng.uniform(270, 800), rng.uniform(850, 2300))
        gains = sum(np.exp(-0.5 * ((hertz - centre) / 150) ** 2) for centre in bands) + 0.01
        shaped = np.fft.irfft(np.fft.rfft(source) * gains, count) * np.hanning(count) ** 0.3
        pieces.append(level * shaped / np.abs(shaped).max())
    return np.concatenate(pieces).astype(np.float32)


def told(samples: Array) -> Array:
    """Activity, row by row."""
    sound = sound_from_array(samples)
    level_db = levels_db(sound)
    return activity(sound, level_db, gain_for(level_db))


def silence(seconds: float) -> Array:
    return np.zeros(round(seconds * RATE), np.float32)


def breath(seconds: float, level: float = 0.02) -> Array:
    noise = np.random.default_rng(3).standard_normal(round(seconds * RATE))
    swell = np.sin(np.pi * np.arange(len(noise)) / len(noise))
    return (level * np.convolve(noise, np.ones(4) / 4, "same") * swell).astype(np.float32)


def melody(seconds: float) -> Array:
    """Notes of a plucked string, a third of a second each."""
    pieces, time = [], np.arange(round(RATE / 3)) / RATE
    for note in itertools.islice(itertools.cycle((0, 4, 7, 12, 9, 5, 2)), round(3 * seconds)):
        pitch = 220 * 2 ** (note / 12)
        waves = sum(np.sin(2 * np.pi * pitch * part * time) / part for part in (1, 2, 3, 4))
        pieces.append(0.1 * waves * np.exp(-3 * time))
    return np.concatenate(pieces).astype(np.float32)


def test_speech_is_heard_between_silences() -> None:
    rows = told(np.concatenate([silence(1), spoken(2), silence(1)]))
    assert rows[:48].max() == rows[152:].max() == 0
    assert rows[52:148].mean() > 0.85


def test_the_microphones_gain_changes_nothing() -> None:
    samples = np.concatenate([spoken(2), breath(1), spoken(1, seed=1)])
    assert (told(samples) == told(samples * np.float32(0.1))).mean() > 0.98


@pytest.mark.parametrize("kind", ["breath", "loud breath", "hum", "hiss", "melody", "nothing"])
def test_sound_without_speech_does_not_move_lips(kind: str) -> None:
    time = np.arange(3 * RATE) / RATE
    hiss = np.random.default_rng(1).standard_normal(len(time))
    samples = {
        "breath": breath(3),
        "loud breath": breath(3, 0.3),
        "hum": 0.1 * np.sin(2 * np.pi * 100 * time) + 0.03 * np.sin(2 * np.pi * 200 * time),
        "hiss": 0.05 * hiss,
        "melody": melody(3),
        "nothing": silence(3),
    }[kind].astype(np.float32)
    assert told(samples).mean() < 0.05


def test_breath_in_a_pause_of_speech_is_no_speech() -> None:
    rows = told(np.concatenate([spoken(2), breath(1.5), spoken(2, seed=1)]))
    assert rows[:100].mean() > 0.85
    assert rows[115:160].mean() < 0.1
    assert rows[177:270].mean() > 0.85


def test_speech_over_noise_is_still_heard() -> None:
    noise = 0.01 * np.random.default_rng(2).standard_normal(4 * RATE).astype(np.float32)
    rows = told(np.concatenate([silence(1), spoken(2), silence(1)]) + noise)
    assert rows[55:145].mean() > 0.7
    assert rows[:40].mean() + rows[162:].mean() < 0.1


# The gate


def test_the_mouth_rests_without_speech_and_follows_it() -> None:
    assert mouth_gate(torch.zeros(200), 100).max() == 0
    gate = mouth_gate(torch.ones(200), 100)
    assert gate[0] < 0.5
    assert gate[5:98].min() == 1


def test_half_a_second_of_silence_closes_the_mouth_by_its_end() -> None:
    voiced = torch.ones(300)
    voiced[100:125] = 0
    gate = mouth_gate(voiced, 150)
    assert gate[56:62].max() == 0
    assert gate[40:50].min() == gate[66:].min() == 1
    # No faster than lips move: a tenth of a second and more, each way.
    assert float(gate.diff().abs().max()) < 0.55


def test_gaps_inside_words_and_clicks_do_not_count() -> None:
    voiced = torch.ones(300)
    voiced[100:109] = 0
    assert mouth_gate(voiced, 150)[10:140].min() == 1
    click = torch.zeros(300)
    click[150:152] = 1
    assert mouth_gate(click, 150).max() == 0


# Other voices


def _voice_of(features: torch.Tensor) -> Voice:
    meter = VoiceMeter(features.shape[1])
    for part in features.split(77):
        meter.hear(part, torch.ones(len(part)))
    return meter.voice()


def test_a_voices_statistics_are_those_of_its_speech() -> None:
    features = 3 + 2 * torch.randn(400, 5)
    voiced = (torch.arange(400) % 4 > 0).float()
    meter = VoiceMeter(5)
    for rows in torch.arange(400).split(90):
        meter.hear(features[rows], voiced[rows])
    voice = meter.voice()
    torch.testing.assert_close(voice.mean, features[voiced > 0].mean(0))
    torch.testing.assert_close(voice.std, features[voiced > 0].std(0, correction=0))
    assert voice.seconds == 6


def test_another_voice_is_brought_to_the_training_clips() -> None:
    own = torch.randn(5000, 4)
    other = own * 1.3 + torch.tensor([1.0, -2.0, 0.5, 0.0])
    voice = _voice_of(own)
    found = matched(other, _voice_of(other), voice.mean, voice.std)
    assert float((found - own).abs().max()) < 0.2
    torch.testing.assert_close(matched(own, voice, voice.mean, voice.std), own, atol=1e-4, rtol=1e-4)


def test_the_less_was_heard_of_a_voice_the_less_it_is_changed() -> None:
    other = torch.randn(3000, 2) + 2
    whole, part = _voice_of(other), _voice_of(other[:30])
    mean, std = torch.zeros(2), torch.ones(2)
    moved = [float((matched(other, voice, mean, std) - other).abs().mean()) for voice in (whole, part)]
    assert moved[1] < 0.4 * moved[0]
    unheard = VoiceMeter(2).voice()
    torch.testing.assert_close(matched(other, unheard, mean, std), other)


# The linear ear


def _lesson_material(columns: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(600, columns, generator=generator)
    smooth = torch.nn.functional.avg_pool1d(features.T[None], 3, 1, 1)[0].T
    mouth = torch.stack([smooth[::2, 0] + smooth[::2, 1], smooth[::2, 2]], dim=1)
    return features, mouth / mouth.std(0)


@pytest.mark.parametrize("columns", [12, 90])
def test_the_linear_ear_learns_a_linear_mouth(columns: int) -> None:
    features, mouth = _lesson_material(columns)
    ear = LinearEar(columns, 2)
    ear.fit(features, mouth, torch.arange(220), 0.01, torch.ones(columns))
    unheard = torch.arange(235, 300)
    assert float(correlation(ear(features, unheard), mouth[unheard]).min()) > (0.75 if columns == 12 else 0.35)


def test_columns_that_only_disturb_are_left_out() -> None:
    features, mouth = _lesson_material()
    disturbed = torch.cat([features, torch.randn(600, 200, generator=torch.Generator().manual_seed(1))], dim=1)
    ear = LinearEar(212, 2)
    foretold = fit_ear(ear, disturbed, mouth, torch.arange(300), 4, 12)
    assert float(correlation(foretold, mouth).min()) > 0.75
    assert float(ear.weight.view(7, 212, 2)[:, 12:].abs().max()) == 0


def test_the_kernel_ear_learns_what_no_line_can() -> None:
    features, smooth = _lesson_material()
    mouth = torch.stack([smooth[:, 0].abs(), smooth[:, 1]], dim=1)
    mouth = (mouth - mouth.mean(0)) / mouth.std(0)
    few, frames, unheard = features[:, :2].contiguous(), torch.arange(220), torch.arange(235, 300)
    bent, straight = KernelEar(2, 220, 2), LinearEar(2, 2)
    foretold = fit_kernel_ear(bent, few, mouth, frames, 4)
    fit_ear(straight, few, mouth, frames, 4, 2)
    by_kernel = correlation(bent(few, unheard), mouth[unheard])
    by_line = correlation(straight(few, unheard), mouth[unheard])
    assert float(by_kernel[0]) > float(by_line[0]) + 0.2
    assert torch.allclose(correlation(foretold, mouth[:220])[0], by_kernel[0], atol=0.25)


def test_a_kernel_ear_keeps_so_many_frames_and_no_more() -> None:
    features, mouth = torch.randn(8000, 2), torch.randn(4000, 1)
    kept = kept_frames(torch.arange(4000))
    ear = KernelEar(2, len(kept), 1)
    ear.fit(features, mouth, torch.arange(4000), torch.ones(1), torch.ones(1))
    assert len(ear.heard) == len(kept) <= MOST_FRAMES
    assert torch.isfinite(ear(features, torch.tensor([-3, 0, 5000]))).all()
    ear.fit(features, torch.zeros(4000, 1), torch.arange(4000), torch.ones(1), torch.ones(1))
    assert not torch.signbit(ear.weight).any()  # equal trainings write equal bytes
    ear.fit(features, mouth, torch.arange(4000), torch.ones(1), torch.ones(1))
    # Far from all that it has heard it says the mean.
    assert torch.allclose(ear(features + 100, torch.tensor([50])), ear.offset)


def test_stretches_spoken_wider_than_others_do_not_count_as_agreement() -> None:
    generator = torch.Generator().manual_seed(0)
    level = torch.arange(6).repeat_interleave(50)[:, None] * 10.0
    one, other = level + torch.randn(300, 1, generator=generator), level + torch.randn(300, 1, generator=generator)
    assert float(correlation(one, other)) > 0.9
    assert abs(float(correlation_within(one, other))) < 0.3


def test_the_better_ear_is_listened_to_and_equals_share() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(300, 3, generator=generator)
    noise = torch.randn(2, 300, 3, generator=generator)
    net, ear = truth + noise[0] * torch.tensor([0.1, 3.0, 0.8]), truth + noise[1] * torch.tensor([3.0, 0.1, 0.8])
    assert ear_share(net, ear, truth).tolist() == [0.0, 1.0, 0.5]


# The mouth at rest


def test_the_mouth_rests_as_it_does_in_the_clips_silences() -> None:
    opening = torch.rand(200, generator=torch.Generator().manual_seed(0)) + 1
    gate = torch.ones(200)
    opening[50:70], gate[50:70] = 0.1, 0.0
    rest = closed_frames(opening, gate)
    assert 50 <= int(rest.min()) <= int(rest.max()) < 70
    # Silences with an open mouth, or none at all: the most closed frames of all.
    for silent in (torch.where(opening > 1.8, 0.0, 1.0), torch.ones(200)):
        assert float(opening[closed_frames(opening, silent)].mean()) < 0.2


def test_a_lesson_leaves_a_head_that_closes_its_mouth_in_silence() -> None:
    clip, model = head_clip(), head_model()
    columns = model.shape.features
    voiced = torch.ones(len(clip.features))
    learn_voice(model, clip.features, voiced)
    torch.testing.assert_close(model.voice_mean, clip.features.mean(0), atol=1e-4, rtol=1e-3)
    steps: list[tuple[int, int]] = []
    lesson = MouthLesson(steps=40, folds=2)
    found = learn_mouth(
        model,
        Speech(clip.features, voiced, clip.mouth, clip.train),
        lesson,
        torch.Generator().manual_seed(0),
        lambda done, total: steps.append((done, total)),
    )
    assert steps == [(done, 120) for done in range(1, 121)]
    assert float(found[0]) > 0.6
    assert isinstance(model.audio_net, AudioNet)
    frames = torch.arange(20, 40)
    code, mouth = model.hear(clip.features[:, :columns], frames, torch.zeros(20))
    torch.testing.assert_close(mouth, model.closed_mouth.expand(20, -1))
    torch.testing.assert_close(code, model.closed_code.expand(20, -1))
    assert float(model.closed_mouth[0]) < float(clip.mouth[clip.train, 0].quantile(0.15))
    for one, other in zip(
        model.hear(clip.features, frames, torch.ones(20)), model.hear(clip.features, frames), strict=True
    ):
        torch.testing.assert_close(one, other)
    half = model.hear(clip.features, frames, torch.full((20,), 0.5))[1]
    torch.testing.assert_close(half, 0.5 * (model.hear(clip.features, frames)[1] + mouth))


def test_what_all_audio_nets_foretell_is_averaged() -> None:
    clip, model = head_clip(), HeadModel(dataclasses.replace(head_model().shape, further_nets=2), head_model().aabb)
    lesson = MouthLesson(steps=20, folds=2)
    speech = Speech(clip.features, torch.ones(len(clip.features)), clip.mouth, clip.train)
    learn_mouth(model, speech, lesson, torch.Generator().manual_seed(0))
    model.ear_share.zero_()
    frames = torch.arange(20, 40)
    with torch.no_grad():
        nets = [model.audio_net, *model.further_nets]
        each = torch.stack([net(clip.features, frames)[1] for net in nets])
        code, mouth = model.hear(clip.features, frames)
        torch.testing.assert_close(mouth, each.mean(0) * model.mouth_gain)
        # Every net was taught, each by another part of the clip; the code is the first one's.
        truth = clip.mouth[frames, 0]
        assert all(float(torch.corrcoef(torch.stack([one[:, 0], truth]))[0, 1]) > 0.4 for one in each)
        assert float((each[0] - each[1]).abs().max()) > 1e-3
        torch.testing.assert_close(code, model.audio_net(clip.features, frames)[0])

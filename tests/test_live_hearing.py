"""Live hearing: what is heard as it comes is what is heard of the whole, after a stated delay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radnerf.audio_net import AudioNet
from radnerf.silence import mouth_gate
from radnerf.streaming import LOOKAHEAD_ROWS, StreamingEar, gate_at
from radnerf.voice import Voice
from stages.errors import BadInput
from stages.head_file import load_head
from stages.live_hearing import DELAY_SAMPLES, FRAME_SAMPLES, LiveHearing, check_live
from stages.live_sound import as_floats
from stages.sound.activity import activity
from stages.sound.front_end import gain_for, levels_db, loudness_db
from stages.sound.logmel import BANDS, LogMel
from stages.sound.running import RunningLoudness, RunningSound
from stages.sound.wav import sound_from_array
from stages.workspace import Workspace
from tests.cli_harness import shell
from tests.live_subject import make_live_subject, pcm, speech_like

__all__ = ["shell"]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A tiny subject."""
    return make_live_subject(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("piece", [160, 641, 20_000])
def test_rows_of_running_sound_are_those_of_the_whole(piece: int) -> None:
    samples = speech_like(2.3)
    whole = LogMel().features(sound_from_array(samples), 1.7)
    running = RunningSound(gain=1.7)
    found = [running.hear(samples[at : at + piece]).values for at in range(0, len(samples), piece)]
    rows = np.concatenate(found)
    # The last rows look beyond the end.
    assert len(whole) - 2 <= len(rows) < len(whole)
    np.testing.assert_allclose(rows, whole[: len(rows)], atol=2e-6)


def test_running_activity_is_that_of_the_whole_but_for_the_newest_rows() -> None:
    samples = speech_like(6.0)
    sound = sound_from_array(samples)
    level_db = levels_db(sound)
    whole = activity(sound, level_db, gain_for(level_db))
    running = RunningSound(gain=gain_for(level_db))
    for at in range(0, len(samples), 640):
        voiced = running.hear(samples[at : at + 640]).voiced
    assert 0.3 < whole.mean() < 0.95
    same = whole[: len(voiced)] == voiced
    assert same[:-40].mean() > 0.98


def test_running_loudness_becomes_that_of_the_whole() -> None:
    quiet = 0.05 * speech_like(12.0)
    level_db = levels_db(sound_from_array(quiet))
    running = RunningLoudness()
    before = running.gain
    for at in range(0, len(level_db), 2):
        running.hear(level_db[at : at + 2])
    assert running.loudness_db == pytest.approx(loudness_db(level_db), abs=3.0)
    assert running.gain > 3 * before
    silent = running.gain
    running.hear(np.full(50 * 600, -90, np.float32))
    assert running.gain == silent, "ten minutes of silence change nothing"


def test_the_streaming_ear_hears_what_is_heard_of_the_whole(subject: Workspace) -> None:
    head, _ = load_head(subject.head, "reference")
    rows = torch.from_numpy(np.abs(np.random.default_rng(1).normal(size=(121, BANDS)).astype(np.float32)))
    voice = Voice(rows.mean(0), rows.std(0), 2.0)
    matched = head.standardised(head.in_own_voice(rows, voice))
    frames = torch.arange(61)
    with torch.no_grad():
        code, mouth = head.hear(matched, frames, torch.full((61,), 0.8))
    ear = StreamingEar(head)
    heard = []
    for at in range(0, 121, 3):
        ear.add(rows[at : at + 3])
        while len(heard) < ear.frames_ready:
            heard.append(ear.hear(len(heard), voice, 0.8))
    assert ear.frames_ready == (121 - LOOKAHEAD_ROWS) // 2 + 1
    ear.end()
    while len(heard) < ear.frames_ready:
        heard.append(ear.hear(len(heard), voice, 0.8))
    assert len(heard) == 61
    torch.testing.assert_close(torch.cat([one for one, _ in heard]), code, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([one for _, one in heard]), mouth, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="not among"):
        ear.hear(3, voice, 1.0)


def test_a_frame_needs_the_rows_that_it_is_said_to_need_and_no_more() -> None:
    net = AudioNet(BANDS, 16, 2).eval()
    rows = torch.randn(80, BANDS, generator=torch.Generator().manual_seed(0))
    needed = 2 * 20 + LOOKAHEAD_ROWS
    with torch.no_grad():
        whole = net(rows, torch.tensor([20]))[0]
        assert torch.equal(whole, net(rows[:needed], torch.tensor([20]))[0])
        assert not torch.equal(whole, net(rows[: needed - 1], torch.tensor([20]))[0])


def test_the_gate_is_that_of_the_whole_as_far_as_ears_look_ahead() -> None:
    voiced = torch.zeros(400)
    for first, last in ((30, 90), (97, 150), (220, 260)):
        voiced[first:last] = 1
    whole = mouth_gate(voiced, 200)
    found = torch.tensor([gate_at(voiced[: 2 * frame + LOOKAHEAD_ROWS], frame) for frame in range(190)])
    assert (found - whole[:190]).abs().max() < 0.05


@pytest.mark.parametrize("piece", [100, 640, 5_000])
def test_pieces_make_no_difference_to_what_is_heard(subject: Workspace, piece: int) -> None:
    head, _ = load_head(subject.head, "reference")
    samples = as_floats(np.frombuffer(pcm(speech_like(1.9)), "<i2").astype(np.int16))[:30_301]

    def listen(step: int) -> torch.Tensor:
        hearing, codes = LiveHearing(head), []
        for at in range(0, len(samples), step):
            hearing.hear(samples[at : at + step])
            while len(codes) < hearing.frames_ready:
                codes.append(torch.cat(_both(hearing, len(codes)), dim=1))
        hearing.end()
        while len(codes) < hearing.frames_ready:
            codes.append(torch.cat(_both(hearing, len(codes)), dim=1))
        return torch.cat(codes)

    frame_by_frame = listen(640)
    assert len(frame_by_frame) == -(-len(samples) // FRAME_SAMPLES)
    if piece < 640:
        torch.testing.assert_close(listen(piece), frame_by_frame, atol=0, rtol=0)
    else:
        assert len(listen(piece)) == len(frame_by_frame)


def _both(hearing: LiveHearing, frame: int) -> tuple[torch.Tensor, torch.Tensor]:
    heard = hearing.frame(frame)
    return heard.code, heard.mouth


def test_a_frame_is_ready_after_the_stated_delay(subject: Workspace) -> None:
    head, _ = load_head(subject.head, "reference")
    hearing = LiveHearing(head)
    hearing.hear(np.zeros(10 * FRAME_SAMPLES + DELAY_SAMPLES - 1, np.float32))
    assert hearing.frames_ready == 10
    hearing.hear(np.zeros(1, np.float32))
    assert hearing.frames_ready == 11
    assert round(0.29 * 16_000) == DELAY_SAMPLES


def test_silence_brings_the_mouth_to_rest_and_speech_opens_it(subject: Workspace) -> None:
    head, _ = load_head(subject.head, "reference")
    hearing = LiveHearing(head)
    hearing.hear(np.concatenate([np.zeros(16_000, np.float32), speech_like(2.0)]))
    torch.testing.assert_close(hearing.frame(10).mouth[0], head.closed_mouth)
    assert hearing.frame(10).speaking == 0
    speaking = [hearing.frame(frame) for frame in range(30, 42)]
    assert max(one.speaking for one in speaking) == 1
    assert min(float((one.mouth[0] - head.closed_mouth).abs().max()) for one in speaking) > 1e-3


def test_only_heads_that_hear_at_once_speak_live(subject: Workspace) -> None:
    _, header = load_head(subject.head, "reference")
    check_live(header)
    with pytest.raises(BadInput, match="seconds of sound") as caught:
        check_live({**header, "front_end": "both"})
    assert "logmel" in caught.value.hint

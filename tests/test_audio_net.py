"""Windows of sound around frames, the code that is made of them, and the mouth that is read off it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from radnerf.audio_net import NEIGHBOURS, WINDOW, AudioNet, frame_windows
from radnerf.mouth import MouthLesson, amplitude_gain, foretell_unheard, mouth_components, teach_mouth
from tests.synthetic import COLUMNS, FRAMES, head_clip

LESSON = MouthLesson(steps=60)


def _net(seed: int = 0, features: int = COLUMNS, mouth: int = 3) -> AudioNet:
    torch.manual_seed(seed)
    return AudioNet(features, 16, mouth)


def _correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def test_a_window_is_centred_on_the_frames_own_row() -> None:
    rows = torch.arange(200.0)[:, None]
    window = frame_windows(rows, torch.tensor([20]))
    assert window.shape == (1, 1, WINDOW)
    # Rows 2 i - 8 to 2 i + 7: equal sound before and after the instant i / 25 s.
    assert window[0, 0].tolist() == list(range(32, 48))


def test_windows_repeat_the_ends_of_the_recording() -> None:
    rows = torch.arange(50.0)[:, None]
    first, last, before, after = frame_windows(rows, torch.tensor([0, 24, -100, 100]))[:, 0]
    assert first.tolist() == [0] * 8 + list(range(8))
    assert last.tolist() == [*range(40, 50), *[49] * 6]
    assert before.tolist() == [0] * WINDOW
    assert after.tolist() == [49] * WINDOW


def test_a_code_hears_its_neighbourhood_and_nothing_else() -> None:
    net = _net()
    features = torch.randn(200, COLUMNS)
    code, mouth = net(features, torch.tensor([50]))
    first = 2 * (50 - NEIGHBOURS // 2) - WINDOW // 2
    last = 2 * (50 + NEIGHBOURS // 2 - 1) + WINDOW // 2 - 1
    far = features.clone()
    far[:first] += 1
    far[last + 1 :] -= 1
    for one, other in zip(net(far, torch.tensor([50])), (code, mouth), strict=True):
        assert torch.equal(one, other)
    for edge in (first, last):
        near = features.clone()
        near[edge] += 1
        assert not torch.equal(net(near, torch.tensor([50]))[0], code)


def test_a_frames_code_does_not_depend_on_the_frames_asked_for_with_it() -> None:
    net, features = _net(), torch.randn(200, COLUMNS)
    frames = torch.tensor([7, 90, 8, 7, -3, 150])
    together = net(features, frames)[0]
    alone = torch.cat([net(features, frames[index : index + 1])[0] for index in range(len(frames))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_the_mouth_is_read_off_the_code() -> None:
    net = _net()
    code, mouth = net(torch.randn(100, COLUMNS), torch.arange(5))
    torch.testing.assert_close(mouth, net.mouth(code))
    mouth.sum().backward()
    assert all(value.grad is not None and bool(torch.isfinite(value.grad).all()) for value in net.parameters())


@pytest.mark.parametrize("components", [3, 6])
def test_mouth_components_are_standardised_over_the_known_frames(components: int) -> None:
    generator = torch.Generator().manual_seed(0)
    opening, width = torch.rand(80, generator=generator), 1 + torch.rand(80, generator=generator)
    shape = torch.randn(80, 40, 2, generator=generator) + opening[:, None, None]
    known = torch.arange(80) < 60
    mouth = mouth_components(opening, width, shape, known, components)
    assert mouth.shape == (80, components)
    torch.testing.assert_close(mouth[known].mean(0), torch.zeros(components), rtol=0, atol=1e-5)
    torch.testing.assert_close(mouth[known].std(0), torch.ones(components))
    # Opening first, then width, for unknown frames by the same measure.
    assert _correlation(mouth[:, 0], opening) > 0.9999
    assert _correlation(mouth[:, 1], width) > 0.9999
    later = mouth_components(opening, width, shape + 5.0 * (~known)[:, None, None], known, components)
    torch.testing.assert_close(later[known], mouth[known])


def test_later_mouth_components_add_what_opening_and_width_leave_open() -> None:
    generator = torch.Generator().manual_seed(1)
    opening, width, hidden = torch.rand(3, 80, generator=generator)
    direction = torch.randn(40, 2, generator=generator)
    shape = opening[:, None, None] * torch.randn(40, 2, generator=generator) + hidden[:, None, None] * direction
    mouth = mouth_components(opening, 1 + width, shape, torch.ones(80, dtype=torch.bool), 3)
    assert abs(_correlation(mouth[:, 2], mouth[:, 0])) < 1e-3
    plain = torch.stack([opening, width, torch.ones(80)], dim=1)
    rest = hidden - plain @ torch.linalg.lstsq(plain, hidden[:, None]).solution[:, 0]
    assert abs(_correlation(mouth[:, 2], rest)) > 0.99


def test_a_mouth_that_never_moves_gives_finite_components() -> None:
    still = mouth_components(
        torch.zeros(40), torch.ones(40), torch.zeros(40, 40, 2), torch.ones(40, dtype=torch.bool), 6
    )
    assert bool(torch.isfinite(still).all())


def test_a_gain_restores_a_spread_that_was_lost() -> None:
    truth = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(amplitude_gain(truth / 1.6, truth), torch.full((2,), 1.6), rtol=0.01, atol=0)
    torch.testing.assert_close(amplitude_gain(truth / 100, truth), torch.full((2,), 2.0), rtol=0.01, atol=0)
    # It never makes a mouth smaller.
    torch.testing.assert_close(amplitude_gain(3 * truth, truth), torch.ones(2))


def test_a_gain_leaves_alone_what_has_nothing_to_do_with_the_truth() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(500, 1, generator=generator)
    torch.testing.assert_close(amplitude_gain(-0.5 * truth, truth), torch.ones(1))
    noise = 0.5 * torch.randn(500, 1, generator=generator)
    assert amplitude_gain(noise, truth).item() < 1.2
    assert amplitude_gain(torch.zeros(500, 1), truth).item() == 1
    assert amplitude_gain(truth, torch.zeros(500, 1)).item() == 1


def test_the_mouth_is_foretold_in_frames_that_were_not_heard() -> None:
    clip = head_clip()
    generator = torch.Generator().manual_seed(0)
    net = _net(mouth=clip.mouth.shape[1])
    unheard = torch.arange(int(clip.train[-1]) - 11, FRAMES)
    teach_mouth(net, clip.features, clip.mouth, clip.train[:-20], LESSON, generator)
    with torch.no_grad():
        foretold = net(clip.features, unheard)[1]
    assert _correlation(foretold[:, 0], clip.mouth[unheard, 0]) > 0.7
    # A net that learnt from the mouths of other frames foretells nothing.
    mixed = clip.mouth[torch.randperm(FRAMES, generator=generator)]
    fooled = _net(mouth=clip.mouth.shape[1])
    teach_mouth(fooled, clip.features, mixed, clip.train[:-20], LESSON, generator)
    with torch.no_grad():
        guessed = fooled(clip.features, unheard)[1]
    assert abs(_correlation(guessed[:, 0], clip.mouth[unheard, 0])) < 0.6


def test_each_fold_is_foretold_by_a_net_that_has_not_learnt_from_it() -> None:
    clip = head_clip()
    lesson = dataclasses.replace(LESSON, steps=40, rate=1e-2, folds=3)
    steps: list[int] = []

    def foretell(mouth: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        foretold, nets = foretell_unheard(
            lambda: AudioNet(COLUMNS, 16, 3), clip.features, mouth, clip.train, lesson, generator, steps.append
        )
        assert len(nets) == lesson.folds
        return foretold

    foretold = foretell(clip.mouth)
    assert foretold.shape == (len(clip.train), clip.mouth.shape[1])
    assert steps == list(range(1, 3 * 40 + 1))
    assert _correlation(foretold[:, 0], clip.mouth[clip.train, 0]) > 0.4
    # What a fold's own frames look like changes nothing of what is foretold of them.
    first = len(clip.train) // lesson.folds
    changed = clip.mouth.clone()
    changed[:first] = 5.0
    torch.testing.assert_close(foretell(changed)[:first], foretold[:first])


def test_the_same_generator_teaches_the_same_net() -> None:
    clip = head_clip()
    lesson = dataclasses.replace(LESSON, steps=3)
    nets = [_net(), _net()]
    for net in nets:
        teach_mouth(net, clip.features, clip.mouth, clip.train, lesson, torch.Generator().manual_seed(4))
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other)

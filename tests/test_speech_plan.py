"""What is said of a speech before it is rendered."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.console import Console
from cli.speak import warn_of_size
from cli.speech_plan import Wishes, plan_speech
from tests.live_subject import speech_like, write_sound
from tests.speaking_subject import make_speaking_subject


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (None, None),
        (128, None),
        (256, "trains it larger"),
        (4096, "--set head.size_px=512 --set torso.size_px=512"),
    ],
)
def test_a_picture_larger_than_trained_is_said_to_be_soft(
    size: int | None, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_speaking_subject(tmp_path)
    speech = write_sound(tmp_path / "speech.wav", speech_like(0.5))
    plan = plan_speech(tmp_path, workspace.root.name, speech, Wishes(size=size, output=tmp_path / "out.mp4"))
    warn_of_size(plan, Console())
    told = capsys.readouterr().err
    assert (said is None and told == "") or (said is not None and said in told and "128 that anna" in told)

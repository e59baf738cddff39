"""Where live speech comes from and goes to: microphones of each system, files, pipes and streams."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from stages.errors import BadInput, RadnerfError
from stages.live_output import LiveEncoder, read_target
from stages.live_sound import microphone_source


@pytest.mark.parametrize(
    ("platform", "name", "formats", "pulse", "expected"),
    [
        ("linux", "", {"pulse", "alsa"}, True, ("pulse", "default")),
        ("linux", "", {"pulse", "alsa"}, False, ("alsa", "default")),
        ("linux", "hw:1", {"alsa"}, True, ("alsa", "hw:1")),
        ("darwin", "", set(), False, ("avfoundation", ":default")),
        ("win32", "USB", set(), False, ("dshow", "audio=USB")),
    ],
)
def test_microphones_are_asked_for_as_each_system_knows_them(
    platform: str, name: str, formats: set[str], pulse: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULSE_SERVER", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    if pulse:
        monkeypatch.setenv("PULSE_SERVER", "unix:/somewhere")
    assert microphone_source(platform, name, frozenset(formats)) == expected


def test_a_system_without_a_known_microphone_is_told_what_to_do() -> None:
    for platform in ("linux", "win32"):
        with pytest.raises(BadInput) as caught:
            microphone_source(platform, "", frozenset())
        assert "--input" in caught.value.hint


@pytest.mark.parametrize("text", ["x.avi", "http://127.0.0.1/x", "no/such/folder/x.mp4", "."])
def test_targets_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        read_target(text)


def test_targets_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_target("rtmp://127.0.0.1/live/key").format == "flv"
    assert (read_target(str(tmp_path / "pipe")).kind, read_target(str(tmp_path / "pipe")).format) == ("pipe", "mpegts")
    target = read_target(str(tmp_path / "a.mkv"))
    assert (target.kind, target.format) == ("file", "matroska")


def test_an_encoder_that_fails_says_why_and_not_the_streams_key() -> None:
    target = read_target("rtmp://127.0.0.1:1/live/secret-key")
    encoder = LiveEncoder(target, 16, "libx264", {})

    def feed() -> None:
        for _ in range(5000):
            encoder.sound(np.zeros(640, np.int16))
            encoder.picture(np.zeros((16, 16, 3), np.uint8))
        encoder.close()

    with pytest.raises(RadnerfError, match="cannot be written") as caught:
        feed()
    assert "secret-key" not in str(caught.value).split(":", 3)[0]

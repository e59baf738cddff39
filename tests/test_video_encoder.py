"""The choice between the GPU's encoder and x264."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import media, render, video_encoder
from stages.errors import BadInput, RadnerfError
from stages.settings import RenderSettings
from stages.video_encoder import choose_encoder, encoder_options, nvenc_opens
from tests import test_render
from tests.tiny_subject import make_subject


def test_nvenc_is_taken_only_for_a_gpus_pictures_and_where_it_opens() -> None:
    tried: list[tuple[int, int]] = []

    def opens(size: tuple[int, int]) -> bool:
        tried.append(size)
        return size[0] > 144

    assert choose_encoder((511, 512), on_gpu=True, opens=opens) == "h264_nvenc"
    assert choose_encoder((128, 128), on_gpu=True, opens=opens) == "libx264"
    assert choose_encoder((512, 512), on_gpu=False, opens=opens) == "libx264"
    # At the size that is written, and not at all without a GPU.
    assert tried == [(512, 512), (128, 128)]


def test_what_the_settings_choose_is_taken_or_refused() -> None:
    always, never = (lambda _: True), (lambda _: False)
    assert choose_encoder((512, 512), "x264", on_gpu=True, opens=always) == "libx264"
    assert choose_encoder((512, 512), "nvenc", on_gpu=False, opens=always) == "h264_nvenc"
    with pytest.raises(BadInput, match="NVENC does not encode pictures of 128 x 64"):
        choose_encoder((127, 64), "nvenc", on_gpu=True, opens=never)


@pytest.mark.parametrize("choice", ["auto", "x264", "nvenc"])
def test_a_speech_is_written_by_the_encoder_that_the_settings_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: Any
) -> None:
    class Asked(Exception):
        """Instead of writing."""

    def writer(*_: object, encoder: str, **__: object) -> object:
        raise Asked(encoder)

    monkeypatch.setattr(render, "VideoWriter", writer)
    monkeypatch.setattr(video_encoder, "nvenc_opens", lambda _: True)
    workspace = make_subject(tmp_path)
    with pytest.raises(Asked, match="h264_nvenc" if choice == "nvenc" else "libx264"):
        test_render._render(workspace, test_render._speech(workspace, 0.1), RenderSettings(sign=False, encoder=choice))


@pytest.mark.parametrize("outcome", [0, 1, OSError("gone"), subprocess.TimeoutExpired("ffmpeg", 1)])
def test_trying_nvenc_happens_once_and_never_raises(monkeypatch: pytest.MonkeyPatch, outcome: int | Exception) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        if isinstance(outcome, Exception):
            raise outcome
        return subprocess.CompletedProcess(command, outcome)

    monkeypatch.setattr(video_encoder.subprocess, "run", run)
    nvenc_opens.cache_clear()
    try:
        assert [nvenc_opens((256, 512)) for _ in range(3)] == [outcome == 0] * 3
    finally:
        nvenc_opens.cache_clear()
    assert len(commands) == 1
    assert "h264_nvenc" in commands[0]
    assert any("256x512" in part for part in commands[0])


def test_each_encoder_has_its_own_words_for_quality() -> None:
    assert encoder_options("libx264", 21, "slow") == {"c:v": "libx264", "crf": 21, "preset": "slow"}
    options = encoder_options("h264_nvenc", 21, "slow")
    assert (options["c:v"], options["cq"]) == ("h264_nvenc", 21)
    assert "crf" not in options


def test_the_writer_asks_for_the_encoder_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    make = media.FfmpegProcess

    def process(command: list[str], *, feed: bool) -> object:
        asked.append(command)
        return make([part.replace("h264_nvenc", "no_such_encoder") for part in command], feed=feed)

    def write() -> None:
        with media.VideoWriter(tmp_path / "a.mp4", (64, 64), 25, encoder="h264_nvenc") as writer:
            for _ in range(3):
                writer.write(np.zeros((64, 64, 3), np.uint8))

    monkeypatch.setattr(media, "FfmpegProcess", process)
    # No silent change of the encoder once it was chosen: its failure is told.
    with pytest.raises(RadnerfError, match="cannot be written"):
        write()
    assert "h264_nvenc" in asked[0]
    assert "libx264" not in asked[0]

"""The portrait without a background: alpha is right, in QuickTime and in PNG, and says that it is synthetic."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cli.console import Console
from cli.plan import speech_steps
from cli.speech_plan import Wishes, hand_out, plan_speech, write_job
from cli.stage import run_step
from cli.subject import load_record, write_settings
from stages.backdrop import clip_background
from stages.cutout import encode_still, straight_rgba
from stages.errors import BadInput
from stages.media import probe, read_video
from stages.media_info import ffmpeg_path
from stages.provenance import NOTICE, read_provenance
from stages.workspace import Workspace
from tests.cli_harness import Shell, shell
from tests.speaking_subject import make_speaking_subject
from tests.test_batch import tone
from tests.tiny_subject import SIZE_PX

__all__ = ["shell"]


def test_colours_are_not_darkened_by_alpha() -> None:
    layer = torch.tensor([[[0.25, 0.1, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0], [0.2, 0.4, 0.6, 1.0]]])
    assert straight_rgba(layer).tolist() == [[[128, 51, 0, 128], [0, 0, 0, 0], [51, 102, 153, 255]]]


def test_a_still_keeps_every_value_and_a_note() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    data = encode_still(picture, "made, not filmed")
    again = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(cv2.cvtColor(again, cv2.COLOR_BGRA2RGBA), picture)
    assert b"tEXtComment\0made, not filmed" in data


def render(workspace: Workspace, wishes: Wishes) -> None:
    """What ``speak`` does, in this process."""
    plan = plan_speech(workspace.root.parent.parent, "anna", workspace.root.parent.parent / "a.wav", wishes)
    write_settings(workspace, load_record(workspace.subject).resolved())
    write_job(plan, plan.speech_id)
    for step in speech_steps(workspace, plan.speech_id).values():
        run_step(step, backend="auto", device="cpu", console=Console(quiet=True))
    hand_out(plan, plan.speech_id)


def test_what_is_put_over_the_background_is_the_usual_video(shell: Shell) -> None:
    workspace = make_speaking_subject(shell.home)
    tone(shell.home / "a.wav")
    output, stills = shell.home / "a.mov", shell.home / "stills"
    render(workspace, Wishes(output=output, save_frames=stills))
    (folder,) = (workspace.root / "speech").iterdir()
    usual = list(read_video(probe(folder / "video.mp4"), [], (SIZE_PX, SIZE_PX)))
    assert sorted(path.name for path in stills.iterdir()) == [f"{index:06d}.png" for index in range(len(usual))]
    background = clip_background(workspace.background, SIZE_PX).astype(np.float32)
    command = [ffmpeg_path(), "-v", "error", "-i", str(output), "-f", "rawvideo", "-pix_fmt", "rgba", "-"]
    moving = subprocess.run(command, capture_output=True, check=True).stdout
    cutouts = np.frombuffer(moving, np.uint8).reshape(-1, SIZE_PX, SIZE_PX, 4)
    assert len(cutouts) == len(usual)
    for index, (frame, cutout) in enumerate(zip(usual, cutouts, strict=True)):
        still = cv2.imread(str(stills / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]].astype(np.float32)
        alpha = still[..., 3:] / 255
        assert np.abs(alpha * still[..., :3] + (1 - alpha) * background - frame).mean() < 8
        assert np.abs(cutout[..., 3].astype(np.float32) - still[..., 3]).mean() < 2
    assert 0 < alpha.mean() < 1
    assert NOTICE.encode() in (stills / "000000.png").read_bytes()

    found = read_provenance(output)
    assert found is not None
    assert (found.intact, found.synthetic, found.subject) == (True, True, "anna")
    assert probe(output).has_audio
    assert shell("verify", str(output)).code == 0

    render(workspace, Wishes(output=shell.home / "a.mp4"))
    assert not (folder / "video.mov").exists()
    assert not (folder / "stills.zip").exists()
    assert (shell.home / "a.mp4").read_bytes() == (folder / "video.mp4").read_bytes()


def test_a_lost_cutout_makes_the_job_newer(shell: Shell) -> None:
    workspace = make_speaking_subject(shell.home)
    tone(shell.home / "a.wav")
    plan = plan_speech(shell.home, "anna", shell.home / "a.wav", Wishes(output=shell.home / "a.mov"))
    folder = workspace.speech(plan.speech_id)
    write_job(plan, plan.speech_id)
    folder.cutout.touch()
    written = folder.job.stat().st_mtime_ns
    write_job(plan, plan.speech_id)
    assert folder.job.stat().st_mtime_ns == written
    folder.cutout.unlink()
    write_job(plan, plan.speech_id)
    assert folder.job.stat().st_mtime_ns > written


def test_what_makes_no_sense_is_refused(shell: Shell) -> None:
    make_speaking_subject(shell.home)
    speech = tone(shell.home / "a.wav")
    (shell.home / "other").mkdir()
    (shell.home / "other" / "letter.txt").touch()
    for wishes, said in (
        (Wishes(output=Path("a.mov"), background="red"), "a .mov has no background"),
        (Wishes(save_frames=shell.home / "other"), "holds other files, letter.txt"),
        (Wishes(save_frames=speech), "is no folder"),
    ):
        with pytest.raises(BadInput, match=said):
            plan_speech(shell.home, "anna", speech, wishes)

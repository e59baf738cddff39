"""A speech whose frames a painter draws: the stage hands over what it begins, in order, and fetches it late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from radnerf.head import Condition
from radnerf.portrait import Pose
from stages import render
from stages.media import probe, read_video
from tests import test_render
from tests.tiny_subject import SIZE_PX, make_subject

Picture = NDArray[np.uint8]


class _Painter:
    """Grey pictures that brighten from frame to frame."""

    def __init__(self) -> None:
        self.poses: list[tuple[Pose, Pose]] = []

    def paint(self, pose: Pose, torso_pose: Pose, _condition: Condition) -> Callable[[], Picture]:
        self.poses.append((pose, torso_pose))
        grey = 40 + 20 * len(self.poses)
        return lambda: np.full((SIZE_PX, SIZE_PX, 3), grey, np.uint8)


def test_a_painters_frames_become_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_subject(tmp_path)
    painter = _Painter()
    monkeypatch.setattr(render, "painter_for", lambda *_: painter)
    folder = test_render._speech(workspace, 0.2)
    summary = test_render._render(workspace, folder)
    assert summary["frames"] == len(painter.poses) == 5
    info = probe(folder.video)
    greys = [int(frame.mean()) for frame in read_video(info, [], (SIZE_PX, SIZE_PX), fps=25)]
    assert greys == pytest.approx([60, 80, 100, 120, 140], abs=3)
    assert all(head.translation is torso.translation for head, torso in painter.poses)

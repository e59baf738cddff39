"""What a head hears of sound that still goes on: from samples to audio codes, mouths and whether somebody speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radnerf.model import HeadModel
from radnerf.streaming import LOOKAHEAD_ROWS, StreamingEar, gate_at
from radnerf.voice import VoiceMeter
from stages.errors import BadInput
from stages.formats import FPS, SAMPLE_RATE_HZ
from stages.sound.running import ROW_DELAY_SAMPLES, RunningSound
from stages.sound.wav import ROW_SAMPLES, Samples

FRAME_SAMPLES = SAMPLE_RATE_HZ // FPS
"""Samples that last as long as a frame."""

DELAY_SAMPLES = (LOOKAHEAD_ROWS - 1) * ROW_SAMPLES + ROW_DELAY_SAMPLES
"""Samples from a frame's first one on that must be there before its lips can be told: 0.29 s."""

_SURE_ROWS = 50  # after which what was said about a row's voice no longer changes


@dataclass(frozen=True)
class Heard:
    """What is heard in a frame.

    Attributes:
        code: (1, A) float, audio code.
        mouth: (1, M) float, mouth components.
        speaking: How much of the frame is speech, in [0, 1].
    """

    code: Tensor
    mouth: Tensor
    speaking: float


def check_live(header: Mapping[str, Any]) -> None:
    """Check that a head can hear sound as it comes.

    Args:
        header: Its file's header.

    Raises:
        BadInput: It was trained on a front end that needs seconds of sound at once.
    """
    front_end = str(header.get("front_end", "logmel"))
    if front_end != "logmel":
        raise BadInput(
            f"this subject hears by {front_end!r}, which needs seconds of sound before it answers",
            hint="make a subject with --front-end logmel for live speech, or use 'speak'",
        )


class LiveHearing:
    """Hears frames in ascending order; memory does not grow, and the pieces in which samples come make no difference.

    Level, voice and silence are judged by what was heard so far, where ``speak`` judges by the whole speech.
    """

    def __init__(self, head: HeadModel, gain: float | None = None) -> None:
        """Have heard nothing.

        Args:
            head: The trained head.
            gain: A fixed factor on the samples; None to follow the speech's level.
        """
        self._sound = RunningSound(gain)
        self._ear = StreamingEar(head)
        self._meter = VoiceMeter(head.shape.features)
        self._late = np.zeros((0, head.shape.features), np.float32)
        self._waiting: Samples = np.zeros(0, np.float32)
        # Cut so that a piece ends where a frame can just be told.
        self._piece = DELAY_SAMPLES % FRAME_SAMPLES
        self._voiced: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self.samples = 0
        """How many were heard."""

    @property
    def frames_ready(self) -> int:
        """The frames before this one can be heard."""
        return self._ear.frames_ready

    def hear(self, samples: Samples) -> None:
        """Hear more.

        Args:
            samples: (N,) float32 at 16 kHz, full scale at ±1.
        """
        self.samples += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        while len(self._waiting) >= self._piece:
            self._add(self._waiting[: self._piece])
            self._waiting = self._waiting[self._piece :]
            self._piece = FRAME_SAMPLES

    def end(self) -> None:
        """Know that nothing will follow: every frame that the sound lasts can be heard."""
        rows = -(-self.samples // ROW_SAMPLES)
        missing = max((rows - 1) * ROW_SAMPLES + ROW_DELAY_SAMPLES - self.samples, 0)
        if rows > self._ear.rows_heard:
            self._add(np.concatenate([self._waiting, np.zeros(missing, np.float32)]))
        self._ear.end()

    def frame(self, frame: int) -> Heard:
        """What is heard in a frame.

        Args:
            frame: Less than ``frames_ready``, not less than any before.
        """
        first = self._ear.rows_heard - len(self._voiced)
        # Frames begin at even rows.
        voiced = torch.from_numpy(self._voiced[first % 2 :].copy())
        begin = (first + 1) // 2
        place = frame - begin
        if place < 0 or not len(voiced):
            gate, speaking = 0.0, 0.0
        else:
            gate = gate_at(voiced, place)
            rows = voiced[2 * place : 2 * place + 2]
            speaking = float(rows.max()) if len(rows) else 0.0
        code, mouth = self._ear.hear(frame, self._meter.voice(), gate)
        return Heard(code, mouth, max(speaking, gate))

    def _add(self, samples: Samples) -> None:
        found = self._sound.hear(samples)
        self._voiced = found.voiced
        if not len(found.values):
            return
        self._ear.add(torch.from_numpy(found.values))
        self._late = np.concatenate([self._late, found.values])
        sure = len(self._late) - _SURE_ROWS
        if sure > 0:
            # The newest rows are left until what was said of them is sure.
            voiced = self._voiced[-len(self._late) :][:sure]
            self._meter.hear(torch.from_numpy(self._late[:sure]), torch.from_numpy(voiced.copy()))
            self._late = self._late[sure:]

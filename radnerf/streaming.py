"""Hearing sound that still goes on: the same codes as from the whole of it, as soon as all that they need is there."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.audio_net import NEIGHBOURS, WINDOW
from radnerf.model import HeadModel
from radnerf.silence import mouth_gate
from radnerf.voice import Voice

LOOKAHEAD_ROWS = 2 * (NEIGHBOURS // 2 - 1) + WINDOW // 2
"""Feature rows from a frame's own on that its code needs: the attention's last neighbour, that one's half window."""

_BACK_FRAMES = NEIGHBOURS // 2 + WINDOW // 4


class StreamingEar:
    """Hears frames in ascending order while rows are still being added; keeps only the rows that it still needs."""

    def __init__(self, head: HeadModel) -> None:
        """Have heard nothing.

        Args:
            head: The trained head.
        """
        self._head = head
        self._rows = torch.zeros(0, head.shape.features)
        self._first_frame = 0
        self._ended = False

    @property
    def rows_heard(self) -> int:
        """How many rows were added."""
        return 2 * self._first_frame + len(self._rows)

    @property
    def frames_ready(self) -> int:
        """The frames before this one can be heard as they will be heard from the whole sound."""
        if self._ended:
            return -(-self.rows_heard // 2)
        return max((self.rows_heard - LOOKAHEAD_ROWS) // 2 + 1, 0)

    def add(self, rows: Tensor) -> None:
        """Add rows.

        Args:
            rows: (n, C) float32, not standardised, 50 a second.
        """
        self._rows = torch.cat([self._rows, rows])

    def end(self) -> None:
        """Know that no row will follow: what lies beyond the end repeats its last row."""
        self._ended = True

    @torch.no_grad()
    def hear(self, frame: int, voice: Voice, gate: float) -> tuple[Tensor, Tensor]:
        """Audio code and mouth of a frame; those before it are forgotten.

        Args:
            frame: Less than ``frames_ready``, not less than any before.
            voice: Of the speech so far.
            gate: How far the lips follow the sound, in [0, 1].

        Returns:
            code: (1, A) float.
            mouth: (1, M) float.
        """
        if not self._first_frame <= frame < self.frames_ready:
            raise ValueError(f"frame {frame} is not among {self._first_frame} to {self.frames_ready - 1}")
        behind = max(frame - _BACK_FRAMES - self._first_frame, 0)
        self._rows = self._rows[2 * behind :]
        self._first_frame += behind
        near = self._rows[: 2 * (frame - self._first_frame) + LOOKAHEAD_ROWS]
        matched = self._head.standardised(self._head.in_own_voice(near, voice))
        return self._head.hear(matched, torch.tensor([frame - self._first_frame]), torch.tensor([gate]))


def gate_at(voiced: Tensor, frame: int) -> float:
    """How far the lips follow the sound in a frame, from the rows that are there.

    Args:
        voiced: (T,) float in [0, 1], 50 rows a second; the utterance that lasts to the end of it is taken to go on.
        frame: Counted from the first row.
    """
    return float(mouth_gate(voiced, frame + 1)[frame])

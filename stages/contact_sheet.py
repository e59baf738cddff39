"""A contact sheet: rows of pictures beside each other, labelled, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from stages.training_data import resize
from stages.vision.images import Rgb

_TOP_PX, _LEFT_PX, _GAP_PX = 22, 96, 2
_PAPER, _INK = 24, 230


def spread(frames: Sequence[int], count: int) -> list[int]:
    """Frames spread evenly over a list, the first and the last among them.

    Args:
        frames: In order.
        count: How many; all of them where there are no more.

    Returns:
        At most ``count`` of them, in order, none twice.
    """
    if len(frames) <= count:
        return list(frames)
    places = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return [frames[place] for place in places.tolist()]


@dataclass
class ContactSheet:
    """Collects pictures by row and column, and lays them out.

    Attributes:
        rows: Names of the rows, from the top.
        columns: Frame numbers of the columns, from the left.
        cell_px: Side at which each picture is shown.
    """

    rows: tuple[str, ...]
    columns: tuple[int, ...]
    cell_px: int = 256
    _cells: dict[tuple[str, int], Rgb] = field(default_factory=dict)

    def add(self, frame: int, pictures: Mapping[str, Rgb]) -> None:
        """Keep a frame's pictures if the sheet has a column for it.

        Args:
            frame: Frame number.
            pictures: (S, S, 3) uint8 RGB by the row's name.
        """
        if frame in self.columns:
            for row in self.rows:
                self._cells[row, frame] = resize(pictures[row], self.cell_px)

    def picture(self) -> Rgb:
        """The sheet.

        Returns:
            (H, W, 3) uint8 RGB; cells without a picture stay dark.
        """
        step = self.cell_px + _GAP_PX
        height, width = _TOP_PX + step * len(self.rows), _LEFT_PX + step * len(self.columns)
        sheet = np.full((height, width, 3), _PAPER, np.uint8)
        for down, row in enumerate(self.rows):
            top = _TOP_PX + step * down
            _write(sheet, row, 8, top + self.cell_px // 2)
            for along, frame in enumerate(self.columns):
                left = _LEFT_PX + step * along
                if down == 0:
                    _write(sheet, f"frame {frame}", left + 6, _TOP_PX - 7)
                cell = self._cells.get((row, frame))
                if cell is not None:
                    sheet[top : top + self.cell_px, left : left + self.cell_px] = cell
        return sheet


def _write(sheet: Rgb, text: str, left: int, baseline: int) -> None:
    cv2.putText(sheet, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (_INK,) * 3, 1, cv2.LINE_AA)

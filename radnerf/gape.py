"""A mouth that opens by hand: between a subject's shut lips and its widest ones, without any sound."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WIDEST_SHARE = 0.02
"""Share of the frames that count as wide open, or as shut."""

_LEAST_FRAMES = 3


@dataclass(frozen=True)
class Gape:
    """Two mouths and all between them.

    Attributes:
        shut_code, open_code: (A,) float, audio codes.
        shut_mouth, open_mouth: (M,) float, mouth components.
    """

    shut_code: Tensor
    shut_mouth: Tensor
    open_code: Tensor
    open_mouth: Tensor

    def at(self, opening: float) -> tuple[Tensor, Tensor]:
        """A mouth that is opened so far.

        Args:
            opening: 0 is shut, 1 is as wide as the subject opens it in speech.

        Returns:
            code: (1, A) float.
            mouth: (1, M) float.
        """
        code = torch.lerp(self.shut_code, self.open_code, opening)
        mouth = torch.lerp(self.shut_mouth, self.open_mouth, opening)
        return code[None], mouth[None]


def find_gape(code: Tensor, mouth: Tensor, opening: Tensor, rest: tuple[Tensor, Tensor] | None) -> Gape:
    """Find a subject's shut and widest mouth in what its head hears of the training speech.

    Which frames are wide is told by the opening that the heard mouth and code foretell (least squares), not by the
    measured one: a wide frame that is not heard would be no wide mouth when it is drawn.

    Args:
        code: (N, A) float, heard in each frame.
        mouth: (N, M) float, likewise.
        opening: (N,) float, the measured gap between the lips.
        rest: Code (A,) and mouth (M,) of the mouth at rest; None to take the frames that are foretold narrowest.
    """
    heard = torch.cat([mouth, torch.ones(len(mouth), 1).to(mouth)], dim=1) if mouth.shape[1] else code
    told = opening.to(heard)
    solved = torch.linalg.lstsq(heard.double().cpu(), told.double().cpu()[:, None], driver="gelsd").solution
    foretold = (heard.double().cpu() @ solved)[:, 0]
    order = torch.argsort(foretold).to(code.device)
    count = min(max(round(WIDEST_SHARE * len(code)), _LEAST_FRAMES), len(code))
    widest, narrowest = order[-count:], order[:count]
    if rest is None:
        rest = code[narrowest].mean(0), mouth[narrowest].mean(0)
    return Gape(rest[0], rest[1], code[widest].mean(0), mouth[widest].mean(0))

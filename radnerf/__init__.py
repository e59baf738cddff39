"""radnerf: real-time neural radiance fields for talking portraits.

The engine knows no file. ``radnerf.load``, which opens a trained subject, is the one name here that does: it lies in
``stages.api`` and is looked up there when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.api import Portrait, load

__all__ = ["Portrait", "load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    """``load`` and ``Portrait``, from ``stages.api``."""
    if name in __all__:
        from stages import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What is wrong, or may surprise, in how a function is set up: for who reads it before anything runs."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding"]


class Finding(msgspec.Struct, frozen=True):
    """``severity``: an ``"error"`` can't be right; a ``"warning"`` is a cost to know of. ``where`` is whom it is about, and
    ``message`` says what follows and what to write instead.
    """

    severity: Literal["error", "warning"]
    where: str
    message: str

"""One invocation in numbers, whatever format they are written in."""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec

from .values import Values

__all__ = ["Report", "function_name", "plain"]

_not_plain = re.compile(r"[^\x20-\x7e]")


class Report(msgspec.Struct):
    """``figures`` has the names of ``names.FIGURES``; ``branches`` those of ``names.BRANCH``, and stages, by the branch."""

    processor: str
    context: Any
    #: Seconds since the epoch, when it began.
    time: float
    figures: dict[str, float]
    #: What is no figure, by name: never of a record's content.
    facts: dict[str, Any]
    branches: dict[str, dict[str, float]]
    values: Values


def function_name(context: Any) -> str:
    """As Lambda says it; ``function`` where nobody does."""
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or getattr(context, "function_name", None)
    return plain(name) if isinstance(name, str) else "function"


def plain(text: str) -> str:
    """The text as a dimension takes it: printable ASCII, up to 250 characters, and not empty."""
    return _not_plain.sub("_", text)[:250].strip() or "_"

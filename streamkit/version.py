"""Which streamkit this is: a function's package has its modules, and nothing else that could tell."""

from __future__ import annotations

__all__ = ["VERSION"]

#: As in pyproject.toml.
VERSION = "0.1.0"

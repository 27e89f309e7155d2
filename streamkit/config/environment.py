"""The environment as a source of parameters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .source import Found, Source, is_hierarchy

__all__ = ["Environment"]


class Environment(Source):
    """``db/password`` is the variable ``ORDERS_DB_PASSWORD``, with ``Environment("ORDERS_")``: in capitals, and ``_`` for what
    no variable's name has. One that is empty is not there.

    Of a hierarchy each variable's rest is a name, in small letters.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    @property
    def label(self) -> str:
        return f"the environment ({self._prefix}…)" if self._prefix else "the environment"

    def place_of(self, name: str) -> str:
        return f"the environment ({self._variable(name)})"

    def fetch(self, names: Sequence[str], *, deadline: float) -> Mapping[str, Found]:
        found: dict[str, Found] = {}
        for name in names:
            variable = self._variable(name)
            if not is_hierarchy(name):
                if text := os.environ.get(variable):
                    found[name] = Found(text, version=variable)
                continue
            for one, text in os.environ.items():
                if one.startswith(variable) and one != variable and text:
                    found[name + one.removeprefix(variable).lower()] = Found(text, version=one)
        return found

    def _variable(self, name: str) -> str:
        return self._prefix + "".join(one if one.isalnum() else "_" for one in name).upper()

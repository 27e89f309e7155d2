"""Parameters of a document of objects within objects: ``db/password`` is the member ``password`` of the member ``db``. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .source import Found, is_hierarchy

__all__ = ["found_in"]


def found_in(document: Mapping[str, Any], names: Sequence[str], version: str = "") -> dict[str, Found]:
    """Those of ``names`` that it has. A text is one; anything else is its JSON; null is not there."""
    found: dict[str, Found] = {}
    for name in names:
        member: Any = document
        for part in name.removesuffix("/").split("/"):
            member = member.get(part) if isinstance(member, Mapping) else None
        if not is_hierarchy(name):
            if member is not None:
                found[name] = Found(_text(member), version=version)
        elif isinstance(member, Mapping):
            found |= {f"{name}{key}": Found(_text(one), version=version) for key, one in _leaves(member)}
    return found


def _leaves(member: Mapping[str, Any]) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, one in member.items():
        if isinstance(one, Mapping):
            leaves += [(f"{key}/{inner}", leaf) for inner, leaf in _leaves(one)]
        elif one is not None:
            leaves.append((str(key), one))
    return leaves


def _text(member: Any) -> str:
    return member if isinstance(member, str) else msgspec.json.encode(member).decode()

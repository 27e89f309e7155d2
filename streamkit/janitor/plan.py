"""What is to be deleted of a function or a layer, and why each other version is kept. Pure: no clock, no AWS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Literal

import msgspec

__all__ = ["LayerVersion", "Reason", "Uses", "Verdict", "Version", "is_number", "judge", "judge_layer"]

#: Why a version is kept. The last five are found when it would be deleted; ``gone`` is one that somebody else has deleted.
Reason = Literal[
    "latest", "alias", "mapping", "provisioned", "newest", "layer in use", "not a number",
    "permitted", "shared", "refused", "replica", "gone",
]  # fmt: skip


class Version(msgspec.Struct, frozen=True):
    """A function's version: ``$LATEST``, or a number; the bytes of its package, and the ARNs of its layers' versions."""

    number: str
    bytes: int = 0
    layers: tuple[str, ...] = ()


class LayerVersion(msgspec.Struct, frozen=True):
    """A layer's version, by its number and by the ARN that functions name it with."""

    number: int
    arn: str


class Uses(msgspec.Struct, frozen=True):
    """Who uses a function's versions: each set has their numbers. All of it has to be known: what is not here is not kept."""

    #: Of both versions of an alias that shifts its traffic.
    aliased: Set[str] = frozenset()
    mapped: Set[str] = frozenset()
    provisioned: Set[str] = frozenset()

    def reason(self, number: str) -> Reason | None:
        """Why this version is kept; None where nobody uses it."""
        if number in self.aliased:
            return "alias"
        if number in self.mapped:
            return "mapping"
        return "provisioned" if number in self.provisioned else None


class Verdict(msgspec.Struct, frozen=True):
    """``kept`` is None where the version is to be deleted."""

    version: Version
    kept: Reason | None


def is_number(text: str) -> bool:
    """Whether a version is a published one. Only those are ever deleted: without a number Lambda deletes the whole function."""
    return text.isascii() and text.isdecimal() and int(text) > 0


def judge(versions: Sequence[Version], uses: Uses, keep: int) -> list[Verdict]:
    """What becomes of a function's versions, oldest first. ``keep``: how many of the newest are kept, used or not."""
    published = sorted((one for one in versions if is_number(one.number)), key=lambda one: int(one.number))
    newest = {one.number for one in published[-keep:]} if keep > 0 else set()
    verdicts = [
        Verdict(one, "latest" if one.number == "$LATEST" else "not a number")
        for one in versions
        if not is_number(one.number)
    ]
    for one in published:
        verdicts.append(Verdict(one, uses.reason(one.number) or ("newest" if one.number in newest else None)))
    return verdicts


def judge_layer(versions: Sequence[LayerVersion], used: Set[str], keep: int) -> Mapping[LayerVersion, Reason | None]:
    """What becomes of a layer's versions, oldest first; None is to be deleted. ``used``: ARNs that functions' versions name."""
    ordered = sorted(versions, key=lambda one: one.number)
    newest = ordered[-keep:] if keep > 0 else []
    verdicts: dict[LayerVersion, Reason | None] = {}
    for one in ordered:
        verdicts[one] = "layer in use" if one.arn in used else "newest" if one in newest else None
    return verdicts

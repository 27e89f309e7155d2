"""Which functions and layers the janitor looks after: by patterns of their names, and functions by tags too. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

__all__ = ["Choice", "Tag"]

#: A key, and its value; None for any.
Tag = tuple[str, str | None]


class Choice(msgspec.Struct, frozen=True):
    """Patterns as a shell has them (``*``, ``?``, ``[a-z]``), and tags.

    A name has to match one of each list in ``include`` (no list: all names do) and none of ``exclude``; a function has to have
    all of ``include_tags`` and none of ``exclude_tags``. A layer can have no tags: where tags are asked for, none is chosen.
    """

    include: Sequence[Sequence[str]] = ()
    exclude: Sequence[str] = ()
    include_tags: Sequence[Tag] = ()
    exclude_tags: Sequence[Tag] = ()

    @property
    def needs_tags(self) -> bool:
        return bool(self.include_tags or self.exclude_tags)

    def has_name(self, name: str) -> bool:
        """Whether the name alone does not leave it out."""
        return all(_matches(name, one) for one in self.include) and not _matches(name, self.exclude)

    def has_tags(self, tags: Mapping[str, str]) -> bool:
        """Whether a function's tags do not leave it out."""
        return all(_has(tags, *one) for one in self.include_tags) and not any(
            _has(tags, *one) for one in self.exclude_tags
        )

    def has_layer(self, name: str) -> bool:
        return not self.include_tags and self.has_name(name)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _has(tags: Mapping[str, str], key: str, value: str | None) -> bool:
    return key in tags and value in (None, tags[key])

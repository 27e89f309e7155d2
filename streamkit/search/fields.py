"""The fields of an index as the owner of an API declares them: what can be asked for, and nothing else can."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

import msgspec

from ..errors import ConfigurationError

__all__ = ["KINDS", "Field", "Fields"]

#: The types, as CloudSearch names them. Each but ``latlon`` can be an array: ``text-array``.
KINDS = ("text", "literal", "int", "double", "date", "latlon")
_OPTIONS = ("filter", "facet", "sort", "return", "search", "highlight")
# CloudSearch's names, and with capital letters OpenSearch's. Dots would be another field's.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
# CloudSearch's own, and what sorts by it here.
_RESERVED = ("score", "relevance")
# Each word of a question is looked for in each of these, and 100 words are to fit (``clauses``).
_MOST_SEARCHED = 10


class Field(msgspec.Struct, frozen=True):
    """One field. ``filter``: by value, and by range where it is a number or a date, or by box.

    ``search``: ``q`` looks in it.
    """

    name: str
    kind: str
    is_array: bool
    filter: bool
    facet: bool
    sort: bool
    returned: bool
    search: bool
    highlight: bool

    @property
    def has_range(self) -> bool:
        return self.filter and self.kind in ("int", "double", "date")

    @property
    def has_box(self) -> bool:
        return self.filter and self.kind == "latlon"

    @property
    def has_value(self) -> bool:
        return self.filter and self.kind != "latlon"


class Fields(Mapping[str, Field]):
    """All fields, by name, in the order in which they were declared.

        Fields({"iata": "literal", "name": "text", "elevation": {"type": "int", "facet": True}})

    A field is its type, or an object with ``type`` and, for what is not as usual, ``filter``, ``facet``, ``sort``, ``return``,
    ``search`` and ``highlight``. Usual are: everything is returned and a filter; text is searched and highlighted; a literal has
    facets; all but text, places and arrays sort.

    ConfigurationError, naming the field, where it can't be so.
    """

    def __init__(self, declared: Mapping[str, Any]) -> None:
        if not declared:
            raise ConfigurationError("there are no fields: declare each that can be asked for")
        self._fields = {name: _field(name, given) for name, given in declared.items()}
        if len(self.of("search")) > _MOST_SEARCHED:
            raise ConfigurationError(
                f'at most {_MOST_SEARCHED} fields are searched: declare others with "search": false'
            )

    @classmethod
    def of_json(cls, text: str, owner: str) -> Self:
        """What a variable holds; ``owner`` says which, in errors."""
        try:
            declared = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ConfigurationError(f'{owner} holds fields in JSON, such as {{"name": "text"}}: {error}') from None
        try:
            return cls(declared)
        except ConfigurationError as error:
            raise ConfigurationError(f"{owner}: {error}") from None

    def __getitem__(self, name: str) -> Field:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def of(self, option: str) -> list[str]:
        """The names of those that have an option: ``returned``, ``facet``, ``has_range`` …"""
        return [name for name, field in self._fields.items() if getattr(field, option)]


def _field(name: str, given: Any) -> Field:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise ConfigurationError(
            f"a field's name has 1 to 64 characters a-z A-Z 0-9 _, begins with a letter and is not score or relevance; "
            f"got {name!r}"
        )
    options = {"type": given} if isinstance(given, str) else given
    if not isinstance(options, Mapping) or not isinstance(options.get("type"), str):
        raise ConfigurationError(f'the field {name} needs a type: "text", or {{"type": "text"}}')
    kind, _, suffix = options["type"].partition("-")
    is_array = suffix == "array"
    if kind not in KINDS or (suffix and not is_array) or (is_array and kind == "latlon"):
        raise ConfigurationError(
            f"the field {name} has the type {options['type']!r}: they are {', '.join(KINDS)}, text-array …"
        )
    unknown = [option for option in options if option not in ("type", *_OPTIONS)]
    if unknown:
        raise ConfigurationError(f"the field {name} has the option {unknown[0]!r}: they are {', '.join(_OPTIONS)}")
    is_text = kind == "text"
    can_sort = not is_array and not is_text and kind != "latlon"
    possible = {
        "filter": True,
        "facet": kind in ("literal", "int", "double", "date"),
        "sort": can_sort,
        "return": True,
        "search": is_text,
        "highlight": is_text,
    }
    usual = possible | {"facet": kind == "literal"}
    chosen = {}
    for option in _OPTIONS:
        value = options.get(option, usual[option])
        if not isinstance(value, bool):
            raise ConfigurationError(f"the field {name}: {option} is true or false")
        if value and not possible[option]:
            raise ConfigurationError(f"the field {name} is {options['type']}, which has no {option}")
        chosen[option] = value
    chosen["returned"] = chosen.pop("return")
    return Field(name, kind, is_array, **chosen)

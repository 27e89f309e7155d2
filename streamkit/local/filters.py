"""Filter criteria of a Kinesis event source mapping: which records are delivered at all.

| a record's data | the pattern's ``data`` | what happens |
|---|---|---|
| JSON | JSON | the pattern decides |
| no JSON | JSON | the record is dropped |
| any | no JSON: a list of rules, as for plain texts | an error when the mapping is made |

Source: "Using event filtering with a Kinesis event source" in AWS's Lambda guide. It says too that ``data`` is the only key that
these filters know. Older pages show one on ``partitionKey``, so any other key is an error here and not ignored. JSON is any
value, in UTF-8; what is no object has none of the fields that a pattern names. A KPL aggregate is no JSON: Lambda filters its
records with enhanced fan-out only, which is not built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import ConfigurationError
from ..pattern import Pattern

__all__ = ["Filters"]

# The quota of an event source mapping; AWS raises it to 10 on request.
_MOST_FILTERS = 5
# The API reference of CreateEventSourceMapping: Filter.Pattern.
_LONGEST_PATTERN = 4096

_parse_json = msgspec.json.Decoder().decode


class Filters:
    """``filter_criteria`` is AWS's ``{"Filters": [{"Pattern": "<JSON>"}, …]}``, or a list of the patterns, as JSON or mappings:

        Filters([{"data": {"type": ["buy"]}}])

    At most five, of 4096 characters each. A record is wanted where one of them matches, and every record where there is none.
    ConfigurationError, with the filter's number, for what Lambda would not take.
    """

    def __init__(self, filter_criteria: Any = None) -> None:
        patterns = _patterns_of(filter_criteria)
        if len(patterns) > _MOST_FILTERS:
            raise ConfigurationError(f"filter_criteria has {len(patterns)} filters; a mapping takes {_MOST_FILTERS}")
        self._patterns = [_compiled(pattern, number) for number, pattern in enumerate(patterns, 1)]

    def __bool__(self) -> bool:
        """Whether there is a filter at all."""
        return bool(self._patterns)

    def wants(self, data: bytes) -> bool:
        """Whether a record with this data is delivered. Never raises."""
        if not self._patterns:
            return True
        try:
            event = {"data": _parse_json(data)}
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return False
        return any(pattern.matches(event) for pattern in self._patterns)


def _patterns_of(filter_criteria: Any) -> list[Any]:
    if filter_criteria is None or filter_criteria == {}:
        return []
    if isinstance(filter_criteria, list | tuple):
        return list(filter_criteria)
    filters = filter_criteria["Filters"] if _has_only("Filters", filter_criteria) else None
    if not isinstance(filters, list | tuple) or not all(_has_only("Pattern", one) for one in filters):
        raise ConfigurationError(
            'filter_criteria is {"Filters": [{"Pattern": "<JSON>"}, …]}, or a list of the patterns themselves'
        )
    return [one["Pattern"] for one in filters]


def _has_only(name: str, value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) == [name]


def _compiled(pattern: Any, number: int) -> Pattern:
    where = f"filter_criteria, filter {number}"
    try:
        text = pattern if isinstance(pattern, str) else _text_of(pattern)
        compiled = Pattern(text)
    except (ConfigurationError, TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where}: {error}") from None
    if len(text) > _LONGEST_PATTERN:
        raise ConfigurationError(f"{where}: its pattern has {len(text)} characters; Lambda takes {_LONGEST_PATTERN}")
    _check_keys(msgspec.json.decode(text), where)
    return compiled


def _text_of(pattern: Any) -> str:
    return json.dumps(pattern, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _check_keys(fields: dict[str, Any], where: str) -> None:
    for name, rules in fields.items():
        if name == "$or":
            for alternative in rules:
                _check_keys(alternative, where)
        elif name != "data":
            raise ConfigurationError(
                f'{where}: Kinesis has only the key "data" to filter by, not "{name}"; write {{"data": {{"field": [rules]}}}}'
            )
        elif not isinstance(rules, dict):
            raise ConfigurationError(
                f'{where}: "data" with a list of rules is for plain texts, and data from Kinesis has to be JSON; '
                'write {"data": {"field": [rules]}}'
            )

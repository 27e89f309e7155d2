"""A logged line as a document of OpenSearch or Elasticsearch, of which no line can break the index's mapping.

Names that are known have types; every other field of a JSON line is a text in ``fields``, which the index has as one field of
the type ``flat_object`` (Elasticsearch: ``flattened``). So ``{"id": 7}`` of one function and ``{"id": "a"}`` of another live in
one index, and a field for each customer makes no field of the mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from ..correlation.value import ID
from .reading import Logged

__all__ = ["MOST_FIELDS", "PREFIX", "document_of", "index_of", "template_name", "template_of"]

#: What the names of indexes begin with. Not ``logs``: Elasticsearch has templates of its own for that, and Fleet's are many.
PREFIX = "lambda-logs"
#: Fields of a JSON line that a document has. Of a line with more of them, or larger ones, it has the whole line beside them.
MOST_FIELDS = 100
# A key and its value are one term of the index, of 32,766 bytes at most; four bytes a character.
_LONGEST_KEY = 200
_LONGEST_VALUE = 4000
_DEEPEST = 5

_encode = msgspec.json.encode


def index_of(prefix: str, milliseconds: int) -> str:
    """``lambda-logs-2026.11.30``: the index of the day, in UTC, on which it was logged."""
    return f"{prefix}-{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y.%m.%d}"


def document_of(logged: Logged) -> dict[str, Any]:
    """The fields of the line's document; what is empty or not known is left out."""
    delivery, line, origin, report = logged.delivery, logged.line, logged.origin, logged.line.report
    flat = _Flat(line.fields)
    fields: dict[str, Any] = {
        "@timestamp": logged.event.timestamp,
        "message": line.message,
        "kind": line.kind,
        "level": line.level,
        "request_id": line.request_id,
        "function": line.function or origin.function,
        "version": line.version or origin.version,
        "instance": origin.instance,
        "logger": line.logger,
        "trace_id": line.trace_id,
        "error_type": line.error_type,
        "correlation_id": line.correlation.get(ID, ""),
        "correlation": line.correlation,
        "account": delivery.owner,
        "log_group": delivery.log_group,
        "log_stream": delivery.log_stream,
        "fields": flat.fields,
        # The line as it came, where that is more than what is here.
        "line": logged.event.message if flat.is_cut else "",
    }
    if report is not None:
        fields |= {
            "duration_ms": report.duration,
            "billed_duration_ms": report.billed_duration,
            "memory_size_mb": report.memory_size,
            "max_memory_used_mb": report.max_memory_used,
            "init_duration_ms": report.init,
            "restore_duration_ms": report.restore,
            "status": report.status,
        }
    return {name: value for name, value in fields.items() if value not in (None, "", {})}


def template_name(prefix: str) -> str:
    """Of the index template for these indexes: one that no other product has, whatever the prefix."""
    return f"streamkit-{prefix}"


def template_of(prefix: str, *, flat: str = "flat_object") -> dict[str, Any]:
    """The index template of these documents. ``flat`` is ``flat_object`` for OpenSearch from 2.7 on, ``flattened`` for
    Elasticsearch.
    """
    word = {"type": "keyword", "ignore_above": 1024}
    number = {"type": "double"}
    words = (
        *("kind", "level", "request_id", "function", "version", "instance", "logger", "trace_id", "error_type"),
        *("correlation_id", "account", "log_group", "log_stream", "status"),
    )
    numbers = (
        *("duration_ms", "billed_duration_ms", "memory_size_mb", "max_memory_used_mb", "init_duration_ms"),
        "restore_duration_ms",
    )
    return {
        # Names of days, and no others that only begin so.
        "index_patterns": [f"{prefix}-2*.*.*"],
        "priority": 200,
        "template": {
            "mappings": {
                # What is not named here is kept, and not indexed.
                "dynamic": False,
                "properties": {
                    "@timestamp": {"type": "date", "format": "epoch_millis"},
                    "message": {"type": "text"},
                    "correlation": {"type": flat},
                    "fields": {"type": flat},
                    **dict.fromkeys(words, word),
                    **dict.fromkeys(numbers, number),
                },
            }
        },
    }


class _Flat:
    """``{"order": {"id": 7}}`` as ``{"order.id": "7"}``: texts and lists of texts, by names that no index refuses."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields: dict[str, Any] = {}
        #: Whether it is less than what was given.
        self.is_cut = False
        self._add("", fields, 0)

    def _add(self, prefix: str, fields: Mapping[str, Any], depth: int) -> None:
        for name, value in fields.items():
            if len(self.fields) >= MOST_FIELDS:
                self.is_cut = True
                return
            key = f"{prefix}{self._key(name)}"
            if len(key) > _LONGEST_KEY:
                self.is_cut = True
                key = key[:_LONGEST_KEY].rstrip(".")
            if isinstance(value, dict) and depth < _DEEPEST:
                self._add(f"{key}.", value, depth + 1)
            elif isinstance(value, list) and all(not isinstance(one, dict | list) for one in value):
                self.is_cut |= len(value) > MOST_FIELDS
                self._set(key, [text for one in value[:MOST_FIELDS] if (text := self._text(one))])
            else:
                self._set(key, self._text(value))

    def _set(self, key: str, value: Any) -> None:
        if value:
            self.is_cut |= key in self.fields
            self.fields.setdefault(key, value)

    def _key(self, name: str) -> str:
        """Without what stands between names, and without what can't be seen."""
        self.is_cut |= len(name) > _LONGEST_KEY
        seen = ("_" if one == "." or not one.isprintable() else one for one in name[:_LONGEST_KEY])
        return "".join(seen).strip() or "_"

    def _text(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            value = str(value) if type(value) is int else _encode(value).decode()
        self.is_cut |= len(value) > _LONGEST_VALUE
        text: str = value[:_LONGEST_VALUE]
        return text

"""Schemas of BigQuery's tables in the form of its JSON: how they are read, and what they ask of a row.

A *field* is a mapping such as ``{"name": "total", "type": "NUMERIC", "mode": "NULLABLE"}``; a RECORD has ``fields`` of its own.
BigQuery does not tell names in upper and lower case apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ..errors import ConfigurationError
from .bigquery_rows import json_text

__all__ = ["RECORDS", "Field", "Misfit", "RowRules", "parse_schema"]

Field = dict[str, Any]

#: The names of the type whose fields have fields.
RECORDS = frozenset({"RECORD", "STRUCT"})
_TYPES = RECORDS | {
    *(
        "STRING",
        "BYTES",
        "INTEGER",
        "INT64",
        "FLOAT",
        "FLOAT64",
        "BOOLEAN",
        "BOOL",
        "TIMESTAMP",
        "DATE",
        "TIME",
        "DATETIME",
    ),
    *("GEOGRAPHY", "NUMERIC", "DECIMAL", "BIGNUMERIC", "BIGDECIMAL", "JSON", "INTERVAL", "RANGE"),
}
_MODES = frozenset({"NULLABLE", "REQUIRED", "REPEATED"})


class Misfit(ValueError):
    """A row can never be in the table; it names the field, and quotes nothing of the row."""


def parse_schema(schema: Any) -> list[Field]:
    """The fields of a schema: a sequence of them, of ``SchemaField`` objects, or the path of a file of JSON that holds one.

    The file may be what ``bq show --schema`` prints, or an object with ``fields`` as ``tables.get`` answers. Raises
    ConfigurationError for what is no schema, naming the field.
    """
    if isinstance(schema, str | os.PathLike):
        try:
            with open(schema, "rb") as file:
                schema = msgspec.json.decode(file.read())
        except (OSError, msgspec.DecodeError, UnicodeError) as error:
            raise ConfigurationError(f"the file of a BigQuery table's schema can't be read: {error}") from error
    if isinstance(schema, Mapping):
        schema = schema.get("fields")
    if not isinstance(schema, Sequence) or not schema:
        raise ConfigurationError(
            "a schema is a list of fields, as [{'name': 'id', 'type': 'INTEGER'}], of SchemaField objects, or the path of a JSON "
            "file with such a list"
        )
    return _parsed(schema, "")


def _parsed(fields: Iterable[Any], path: str) -> list[Field]:
    parsed, names = [], set()
    for given in fields:
        field = given.to_api_repr() if hasattr(given, "to_api_repr") else given
        if not isinstance(field, Mapping) or not isinstance(field.get("name"), str):
            raise ConfigurationError(
                f"a field of a schema has a name and a type; got {str(field)[:100]} in {path or 'it'}"
            )
        name, kind, mode = (
            field["name"],
            str(field.get("type", "")).upper(),
            str(field.get("mode") or "NULLABLE").upper(),
        )
        where = f"{path}{name}"
        if kind not in _TYPES:
            raise ConfigurationError(f"{where}: BigQuery has no type {field.get('type')!r}")
        if mode not in _MODES:
            raise ConfigurationError(f"{where}: a field is NULLABLE, REQUIRED or REPEATED; got {field.get('mode')!r}")
        if name.lower() in names:
            raise ConfigurationError(f"{where}: twice in the schema")
        names.add(name.lower())
        one = {**field, "type": kind, "mode": mode}
        if kind in RECORDS:
            if not field.get("fields"):
                raise ConfigurationError(f"{where}: a RECORD has fields")
            one["fields"] = _parsed(field["fields"], f"{where}.")
        parsed.append(one)
    return parsed


class RowRules:
    """What a schema says that a row's JSON can't: which text is JSON, and which fields are arrays."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._rules = {name: rule for name, rule in ((f["name"].lower(), _Rule(f)) for f in fields) if rule.says}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def apply(self, row: dict[str, Any], path: str = "") -> dict[str, Any]:
        """The row as it is to be sent. Misfit where a field that is REPEATED holds no array.

        An object or array for a JSON column becomes its text, and null for a REPEATED one is left out, as BigQuery refuses it.
        """
        fitted: dict[str, Any] = {}
        for name, value in row.items():
            rule = self._rules.get(name) or self._rules.get(name.lower())
            if rule is None:
                fitted[name] = value
            elif value is not None or not rule.is_repeated:
                fitted[name] = rule.apply(value, f"{path}{name}")
        return fitted


class _Rule:
    """What one field says."""

    def __init__(self, field: Field) -> None:
        self.is_repeated = field["mode"] == "REPEATED"
        self._is_json = field["type"] == "JSON"
        self._fields = RowRules(field["fields"]) if field["type"] in RECORDS else None
        self.says = self.is_repeated or self._is_json or bool(self._fields)

    def apply(self, value: Any, where: str) -> Any:
        if not self.is_repeated:
            return self._one(value, where)
        if not isinstance(value, list | tuple):
            raise Misfit(f"{where[:100]}: an array is what a REPEATED field takes")
        return [self._one(item, where) for item in value]

    def _one(self, value: Any, where: str) -> Any:
        if self._is_json and isinstance(value, dict | list | tuple):
            return json_text(value)
        if self._fields and isinstance(value, dict):
            return self._fields.apply(value, f"{where}.")
        return value

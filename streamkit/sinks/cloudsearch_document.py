"""What CloudSearch's documents are made of: ids, the names of fields, and values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from ..errors import Reject

__all__ = ["document_id", "field_name", "fields_of"]

# CloudSearch's developer guide, "Understanding Amazon CloudSearch Limits" and "Creating Document Batches".
_DOCUMENT_FIELDS = 200
_FIELD_VALUES = 1000
_ID = re.compile(r"[A-Za-z0-9_\-=#;:/?@&]{1,128}")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
# The service refuses, in JSON too, what XML 1.0 does not allow: most control characters, surrogates, U+FFFE and U+FFFF.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document_id(doc_id: Any) -> str:
    """A document's id as it is sent; Reject for one that no document can have."""
    if isinstance(doc_id, int) and not isinstance(doc_id, bool) and 0 <= doc_id < 2**63:
        return str(doc_id)
    if not isinstance(doc_id, str):
        raise Reject(f"a document's id is text or a whole number from 0, not {type(doc_id).__name__}")
    if not _ID.fullmatch(doc_id):
        raise Reject("a document's id in CloudSearch is 1 to 128 of the characters A-Z a-z 0-9 _ - = # ; : / ? @ &")
    return doc_id


def field_name(name: Any) -> str:
    """The name, where a field can have it; else Reject."""
    if not isinstance(name, str):
        raise Reject(f"a field's name is text, not {type(name).__name__}")
    if not _FIELD.fullmatch(name) or name == "score":
        raise Reject(
            f"CloudSearch can't have a field named {name[:65]!r}: 1 to 64 of a-z 0-9 _, a letter first, not score"
        )
    return name


def fields_of(fields: Any) -> dict[str, Any]:
    """A document's fields as they are sent, in objects of their own; Reject for what the service would always refuse."""
    if not isinstance(fields, Mapping):
        raise Reject(f"a document's fields are a mapping, not {type(fields).__name__}")
    document: dict[str, Any] = {}
    for name, value in fields.items():
        sent = _field(field_name(name), value)
        if sent is not None:
            document[name] = sent
    if not document:
        raise Reject("CloudSearch takes no document without a value in any field")
    if len(document) > _DOCUMENT_FIELDS:
        raise Reject(f"CloudSearch takes {_DOCUMENT_FIELDS} fields in a document; this one has {len(document)}")
    return document


def _field(name: str, value: Any) -> Any:
    """What is sent for a field's value; None for no field at all."""
    if not isinstance(value, list | tuple):
        return _value(name, value)
    if len(value) > _FIELD_VALUES:
        raise Reject(f"CloudSearch takes {_FIELD_VALUES:,} values in a field; {name!r} has {len(value):,}")
    return [sent for one in value if (sent := _value(name, one)) is not None] or None


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return _FORBIDDEN.sub("", value)
    if value is None:
        return None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        value = int(value)  # An enum's, too.
        if not -(2**63) <= value < 2**63:
            raise Reject(f"the field {name!r} has a whole number of more than 64 bits; send an identifier as text")
        return value
    if isinstance(value, float | Decimal):
        if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
            raise Reject(f"the field {name!r} is not a finite number")
        return value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Reject(f"the field {name!r} is a time without a time zone")
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise Reject(f"the field {name!r} is a time that UTC has no date for") from None
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    raise Reject(f"the field {name!r} is of the type {type(value).__name__}, which CloudSearch has no value for")

"""CloudSearch's rules for a batch of documents: what the service refuses, and in what words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

__all__ = ["BATCH_BYTES", "Refused", "check", "is_field", "kind_of", "operations"]

# CloudSearch's developer guide, "Understanding Amazon CloudSearch Limits" and "Creating Document Batches".
BATCH_BYTES = 5 * 1024 * 1024
DOCUMENT_BYTES = 1024 * 1024
DOCUMENT_FIELDS = 200
FIELD_VALUES = 1000
LITERAL_CHARACTERS = 4096
_ID = re.compile(r"[A-Za-z0-9_\-=#;:/?@&]{1,128}")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DYNAMIC = re.compile(r"[a-z][a-z0-9_]{0,62}\*|\*[a-z0-9_]{0,63}")
# What XML 1.0 forbids, in a JSON batch too.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

# Each has an -array form as well, but for latlon.
_TYPES = ("text", "literal", "int", "double", "date", "latlon")


def is_field(name: str, kind: str) -> bool:
    """Whether a domain can have a field of this name and type; ``*_i``, ``color_*`` and ``*`` are dynamic ones."""
    named = (_FIELD.fullmatch(name) or _DYNAMIC.fullmatch(name)) is not None and name != "score"
    return named and kind.removesuffix("-array") in _TYPES and kind != "latlon-array"


def kind_of(name: str, fields: Mapping[str, str]) -> str | None:
    """The type that a document's field has: its own, or that of the longest dynamic field that matches its name.

    Of several of one length it is the first in the alphabet ("Using Dynamic Fields", in the developer guide).
    """
    if name in fields:
        return fields[name]
    matching = [one for one in fields if "*" in one and name.startswith(one.partition("*")[0])]
    matching = [one for one in matching if name.endswith(one.partition("*")[2])]
    return fields[min(matching, key=lambda one: (-len(one), one))] if matching else None


class Refused(Exception):
    """The service's answer to a request that it does not take; ``error`` is its type, by default that of the request."""

    def __init__(self, message: str, status: int = 400, error: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error = error


def operations(body: bytes) -> list[Any]:
    """A batch's operations, not checked yet; Refused if the body is too large or no JSON array."""

    def not_json(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    if len(body) > BATCH_BYTES:
        raise Refused(f"The batch of {len(body)} bytes is larger than {BATCH_BYTES}", 413)
    try:
        batch = json.loads(body.decode("utf-8"), parse_constant=not_json)
    except (ValueError, RecursionError):  # The message may quote the body.
        raise Refused('{ ["The batch is not valid UTF-8 JSON"] }') from None
    if not isinstance(batch, list):
        raise Refused('{ ["A batch is a JSON array of operations"] }')
    return batch


def check(batch: list[Any], fields: Mapping[str, str]) -> None:
    """Refuse the batch for its first bad operation, which the message names by index and id, as the service does."""
    if not batch:
        raise Refused('{ ["The batch has no operations"] }')
    seen = set()
    for n, operation in enumerate(batch, 1):
        doc_id = operation.get("id") if isinstance(operation, dict) else None
        problem = _operation_problem(operation, fields)
        if problem is None and doc_id in seen:
            problem = "More than one operation for this document: the service does not say which is the last"
        if problem is not None:
            named = f"; document_id {doc_id}" if isinstance(doc_id, str) else ""
            raise Refused(f'{{ ["{problem} (near operation with index {n}{named})"] }}')
        seen.add(doc_id)


def _operation_problem(operation: Any, fields: Mapping[str, str]) -> str | None:
    if not isinstance(operation, dict):
        return "An operation is a JSON object"
    if operation.get("type") not in ("add", "delete"):
        return "An operation's type is add or delete"
    doc_id = operation.get("id")
    if not isinstance(doc_id, str) or not _ID.fullmatch(doc_id):
        return "A document's id is 1 to 128 letters, digits and _ - = # ; : / ? @ &"
    if operation["type"] == "delete":
        return None
    document = operation.get("fields")
    if not isinstance(document, dict) or not document:
        return "A document has at least one field"
    if len(document) > DOCUMENT_FIELDS:
        return f"A document has at most {DOCUMENT_FIELDS} fields"
    for name, value in document.items():
        problem = _field_problem(name, value, kind_of(name, fields))
        if problem is not None:
            return problem
    # Its size in UTF-8, which is how it is stored, however it was escaped on the way here.
    if len(json.dumps(operation, ensure_ascii=False, separators=(",", ":")).encode()) > DOCUMENT_BYTES:
        return f"A document has at most {DOCUMENT_BYTES} bytes"
    return None


def _field_problem(name: str, value: Any, kind: str | None) -> str | None:
    if kind is None:
        return f"Field '{name}' is not configured for this domain"
    values = value if isinstance(value, list) else [value]
    if len(values) != 1 and not kind.endswith("-array"):
        return f"Field '{name}' must have array type to have {len(values)} values"
    if len(values) > FIELD_VALUES:
        return f"Field '{name}' has more than {FIELD_VALUES} values"
    kind = kind.removesuffix("-array")
    for one in values:
        if one is None:
            return f"Field '{name}' is null"
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            return f"Field '{name}' is neither text nor a number"
        text = str(one)
        if _FORBIDDEN.search(text):
            return f"Field '{name}' has a character that is not valid in XML"
        if not _is(kind, text):
            return f"Validation error for field '{name}': Invalid {kind} value '{text}'"
    return None


def _is(kind: str, text: str) -> bool:
    """Whether a value, as text, is of a field's type."""
    match kind:
        case "int":
            return re.fullmatch(r"[-+]?\d{1,19}", text) is not None and -(2**63) <= int(text) < 2**63
        case "double":
            return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))
        case "date":
            return _DATE.fullmatch(text) is not None and _is_time(text)
        case "latlon":
            latitude, _, longitude = text.partition(",")
            return all(
                _NUMBER.fullmatch(degrees.strip()) and abs(float(degrees)) <= limit
                for degrees, limit in ((latitude, 90), (longitude, 180))
            )
        case "literal":
            return len(text) <= LITERAL_CHARACTERS
    return True


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True

"""``__context__`` in a payload: the field of a JSON object that what an event is followed by travels in.

Nothing else of a payload is changed, to the byte, unless it has the field already. What is no JSON object is left as it is, or
goes into the binary envelope where that was asked for (``streamkit/wrapper.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from .. import kpl
from ..wrapper import MOST_CONTEXT, unwrap, wrap
from .value import CHAIN, PREFIX, XRAY, read_length

__all__ = ["FIELD", "attached", "context_of"]

FIELD = "__context__"
_FIELD, _PREFIX, _TRACEPARENT = FIELD.encode(), b'"' + PREFIX.encode(), b'"traceparent"'
# In a larger one only the field is looked for: to look through a million others would take more memory than the data itself.
_LARGEST_FLAT = 256 * 1024


class _Payload(msgspec.Struct, rename={"context": FIELD}):
    """A JSON object. msgspec checks and passes over all that is not named here."""

    context: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_read = msgspec.json.Decoder(_Payload).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_value = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_start = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*").match
_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)


def context_of(data: bytes, *, is_context: bool = False) -> dict[str, Any]:
    """The fields of what an event is followed by: of ``__context__``, or the ``x-correlation-…`` at the top of the object.

    ``is_context`` says that ``data`` is the context itself. Empty where there is nothing, or no JSON.
    """
    if is_context:
        return _fields_of(data)
    # Most payloads have neither, and need not be parsed to see that.
    if _FIELD in data:
        try:
            context = _read(data).context
        except _FAULTS:
            return {}
        if context is not msgspec.UNSET:
            return _fields_of(bytes(context))
    if len(data) > _LARGEST_FLAT or not (_PREFIX in data or _TRACEPARENT in data):
        return {}
    try:
        raws = _read_fields(data)
    except _FAULTS:
        return {}
    known = (CHAIN, "debug-log-enabled", XRAY, "traceparent", "tracestate")
    found: dict[str, Any] = {}
    for name, raw in raws.items():
        if name.startswith(PREFIX) or name in known:
            if len(found) >= 64:
                break
            found[name] = _value(raw)
    return found


def attached(
    data: bytes, fields: Mapping[str, str], *, room: int, field: bool = True, envelope: bool = False
) -> bytes | None:
    """``data`` with the fields in it; None where it has to stay as it is.

    They go into the ``field`` of a JSON object, and with other data into an ``envelope``, as far as either may be used. It
    grows by ``room`` bytes at most. Ids that are in its ``__context__`` already stay; of two lengths of a chain the longer
    counts, or a record that is passed on as it came would go round for ever.
    """
    context: dict[str, Any] = dict(fields)
    if CHAIN in context:
        # A number, as others who follow the convention add one to it.
        context[CHAIN] = int(context[CHAIN])
    if (inner := unwrap(data)) is not None:
        merged = _encode(_merged(context, _fields_of(inner[0])))
        made = wrap(merged, inner[1]) if len(merged) <= MOST_CONTEXT else None
    elif (is_set := _has_field(data) if field else None) is None:
        made = wrap(_encode(context), data) if envelope and not data.startswith(kpl.MAGIC) else None
    elif is_set:
        made = _with_another(data, context)
    else:
        start = _start(data)
        end = start.end() if start else 0
        made = b"".join((data[:end], _field(context), b"" if data[end : end + 1] == b"}" else b",", data[end:]))
    return made if made is not None and len(made) - len(data) <= room else None


def _has_field(data: bytes) -> bool | None:
    """Whether the object has the field; None where ``data`` is no JSON object."""
    if not data[:64].lstrip(b" \t\r\n").startswith(b"{"):
        return None
    try:
        return _read(data).context is not msgspec.UNSET
    except _FAULTS:
        return None


def _field(context: Mapping[str, Any]) -> bytes:
    return b'"%s":%s' % (_FIELD, _encode(context))


def _with_another(data: bytes, context: Mapping[str, Any]) -> bytes | None:
    """The object with its field merged. None where that is not ours."""
    try:
        raws = _read_fields(data)
        theirs = _read_value(raws[FIELD])
    except _FAULTS:
        return None
    if not isinstance(theirs, dict) or len(raws[FIELD]) > MOST_CONTEXT:
        return None
    raws[FIELD] = msgspec.Raw(_encode(_merged(context, theirs)))
    return _encode(raws)


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, value in theirs.items():
        # Names are read in any case, and the first of one counts: ours would be none of it.
        known = name.lower()
        merged.setdefault(known if known in ours or known.startswith(PREFIX) else name, value)
    length = read_length(merged.get(CHAIN))
    merged |= {name: value for name, value in ours.items() if name not in merged or not name.startswith(PREFIX)}
    if CHAIN in ours:
        merged[CHAIN] = max(length, ours[CHAIN])
    return merged


def _fields_of(context: bytes) -> dict[str, Any]:
    if len(context) > MOST_CONTEXT:
        return {}
    fields = _value(context)
    return fields if isinstance(fields, dict) else {}


def _value(raw: bytes | msgspec.Raw) -> Any:
    try:
        return _read_value(raw)
    except _FAULTS:
        return None

"""What travelled with an event, read and cleaned. Whatever it is, nothing here raises.

A value is cut at 256 characters, and what is not printable ASCII becomes ``?``; of names that begin with ``x-correlation-``
twelve are taken, made of letters, digits, ``-`` and ``_``. What is malformed counts as not there.
"""

from __future__ import annotations

import os
import re
from binascii import crc32
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import StreamkitError
from ..record import Record
from .payload import context_of
from .value import CHAIN, DEBUG, ID, LONGEST_CHAIN, PREFIX, XRAY, Correlation, read_length, settings

__all__ = ["MOST_IDS", "captured", "clean", "from_fields", "is_name", "of_record"]

#: How many ids of one event are followed.
MOST_IDS = 12
_LONGEST = 256

_name = re.compile(r"x-correlation-[a-z0-9_-]{1,50}").fullmatch
_unprintable = re.compile(r"[^\x20-\x7e]")
_traceparent = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").match
_tracestate_member = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,256}").fullmatch
_xray = re.compile(
    r"(?:[A-Za-z]+=[\x21-\x3a\x3c-\x7e]*;)*Root=1-[0-9a-f]{8}-[0-9a-f]{24}(?:;[A-Za-z]+=[\x21-\x3a\x3c-\x7e]*)*;?"
).fullmatch


def of_record(record: Record) -> Correlation:
    """What a record carries: beside its data, or else in it; its event id is its id where there is none."""
    own, beside = record._carried()
    event_id = _event_id(record)
    if _tells(own):
        # streamkit's own: this function is the one that counted itself there.
        return from_fields(own, own_id=event_id, trace=beside, hop=0)
    if _tells(beside):
        return from_fields(beside, own_id=event_id, trace=own)
    try:
        # Its envelope, if it came in one, is opened by this. What is decoded is not kept, as in Record.json.
        data = record._data if type(record._data) is bytes else record._decode_data()
    except StreamkitError:
        return from_fields({}, own_id=event_id, trace=own or beside)
    context = record._correlation
    inside = context_of(data) if context is None else context_of(context, is_context=True)
    return from_fields(inside, own_id=event_id, trace={**beside, **own})


def from_fields(
    fields: Mapping[str, Any], *, own_id: str = "", trace: Mapping[str, Any] | None = None, hop: int = 1
) -> Correlation:
    """The value of fields by their names on the wire. ``own_id`` is the id where they have none. ``trace`` may have X-Ray's
    header where they don't. ``hop`` is what this function adds to the length of the chain.
    """
    ids: dict[str, str] = {}
    found: dict[str, Any] = {}
    for given, value in fields.items():
        if not isinstance(given, str) or len(given) > 64:
            continue
        name = given.lower()
        if name in (CHAIN, DEBUG, XRAY, "traceparent", "tracestate"):
            found.setdefault(name, value)
        elif (name == ID or len(ids) < MOST_IDS - 1) and is_name(name) and (text := clean(value)):
            ids.setdefault(name, text)
    traceparent = _read_traceparent(found["traceparent"]) if "traceparent" in found else None
    length = read_length(found[CHAIN]) if CHAIN in found else 0
    is_carried = bool(ids or traceparent or length)
    if ID not in ids and (default := clean(own_id)):
        ids[ID] = default
    debug = clean(found[DEBUG]) if DEBUG in found else None
    return Correlation(
        ids=ids,
        traceparent=traceparent,
        tracestate=_read_tracestate(found.get("tracestate")) if traceparent else None,
        xray=_first_xray((found.get(XRAY), (trace or {}).get(XRAY), os.environ.get("_X_AMZN_TRACE_ID"))),
        is_debug=_is_sampled(ids.get(ID, "")) if debug is None else debug.lower() == "true",
        call_chain_length=max(1, min(length + hop, LONGEST_CHAIN)),
        is_carried=is_carried,
    )


def captured(correlation: Correlation) -> dict[str, str]:
    """What an envelope has to keep of it: nothing that the next reader would find anyway."""
    if correlation.is_carried or correlation.is_debug:
        return correlation.fields()
    return {XRAY: correlation.xray} if correlation.xray else {}


def is_name(name: str) -> bool:
    """Whether an id can have this name, which is in lower case."""
    return _name(name) is not None


def clean(value: object) -> str | None:
    """A text that can go into a log line, a header or an attribute; None where there is none to be had."""
    if isinstance(value, str):
        text = value[:_LONGEST]
        if text.isascii() and text.isprintable():
            return text.strip() or None
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        text = str(value) if abs(value) < 10**18 else ""
    elif isinstance(value, float):
        text = repr(value)
    else:
        return None
    return _unprintable.sub("?", text).strip() or None


def _tells(fields: Mapping[str, Any]) -> bool:
    """Whether it says which event this is, or how long its chain is: then it is taken, and nothing else."""
    return any(
        isinstance(name, str) and len(name) <= 64 and (name.lower() in (CHAIN, "traceparent") or _is_id(name))
        for name in fields
    )


def _is_id(name: str) -> bool:
    return name[: len(PREFIX)].lower() == PREFIX


def _event_id(record: Record) -> str:
    try:
        return record.event_id
    except StreamkitError:
        return ""


def _read_traceparent(value: object) -> str | None:
    """As version 00 has it: of a later version its first four fields are taken, as the specification says."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    found = _traceparent(value.strip())
    if found is None:
        return None
    rest = value.strip()[found.end() :]
    if found[0].startswith("00"):
        return None if rest else found[0]
    return f"00{found[0][2:]}" if not rest or rest.startswith("-") else None


def _read_tracestate(value: object) -> str | None:
    """Whole members, of 512 characters at most; None where one is malformed."""
    if not isinstance(value, str) or len(value) > 8 * 512:
        return None
    members = [member.strip(" \t") for member in value.split(",")]
    members = [member for member in members if member][:32]
    if not all(map(_tracestate_member, members)):
        return None
    while sum(map(len, members)) + len(members) - 1 > 512:
        members.pop()
    return ",".join(members) or None


def _first_xray(values: Iterable[object]) -> str | None:
    for value in values:
        if isinstance(value, str) and len(value) <= _LONGEST and _xray(value):
            return value
    return None


def _is_sampled(event: str) -> bool:
    """The same at every redelivery, and in every function that has the same rate."""
    return settings.debug_rate > 0 and crc32(event.encode()) / 2**32 < settings.debug_rate

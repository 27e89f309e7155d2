"""Hostile inputs by name, each of the size that its trigger allows, with the reason that their dead letter has to give."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from streamkit.envelope import Envelope
from streamkit.kpl import MAGIC

#: What Kinesis takes in a record by default, and where a stream is configured so; what SQS takes in a message.
RECORD = 1 << 20
LARGE_RECORD = 10 << 20
MESSAGE = 1 << 20


class Hostile(NamedTuple):
    """How many dead letters it makes, and why; where that is none it is harmless: an order of id 3, or no record at all."""

    make: Callable[[], Any]
    reason: str = ""
    letters: int = 1
    orders: int = 0


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def enveloped(message: bytes) -> bytes:
    """With the magic and the right checksum, so that the message is read."""
    return MAGIC + message + hashlib.md5(message).digest()


KEY = field(1, b"k")
TOO_DAMAGED = "more than 100 of its user records are damaged"
NOT_JSON = "the data is not JSON"


def filled(head: bytes, unit: bytes, size: int, tail: bytes = b"") -> bytes:
    """As many units as fit into an aggregate of ``size`` bytes."""
    return head + unit * ((size - len(head) - len(tail) - 20) // len(unit)) + tail


#: The aggregates by how large they are to be: memory and work are measured against it.
AGGREGATES: dict[str, tuple[Callable[[int], bytes], str, int]] = {
    "records without anything": (lambda size: filled(b"", b"\x1a\x00", size), TOO_DAMAGED, 1),
    "records of an index outside the table": (
        lambda size: filled(KEY, b"\x1a\x04\x08\x05\x1a\x00", size),
        TOO_DAMAGED,
        1,
    ),
    "a hundred damaged records": (
        lambda size: filled(KEY, field(1, b"k"), size - 200, b"\x1a\x00" * 100),
        "no partition key index, no data",
        100,
    ),
    "a key of half the size for all": (
        lambda size: filled(field(1, b"k" * (size // 2)), b"\x1a\x04\x08\x00\x1a\x00", size),
        TOO_DAMAGED,
        1,
    ),
    "keys without anything": (lambda size: filled(b"", b"\x0a\x00", size), "", 0),
    "tags without keys": (
        lambda size: field(3, filled(b"\x08\x00\x1a\x01x", b"\x22\x00", size - 10)),
        "a tag without a key",
        1,
    ),
    "tags": (
        lambda size: KEY + field(3, filled(b"\x08\x00\x1a\x01x", b"\x22\x02\x0a\x00", size - 10)),
        NOT_JSON,
        1,
    ),
    "groups that never end": (lambda size: filled(b"", b"\x0b", size), "runs past the end", 1),
    "groups in groups": (lambda size: b"\x0b" * (size // 2 - 10) + b"\x0c" * (size // 2 - 10), "", 0),
    "a size of 2^63": (lambda size: filled(b"\x1a" + varint(1 << 63), b"x", size), "runs past the end", 1),
    "a number without an end": (lambda size: filled(b"\x1a", b"\xff", size), "more than ten bytes", 1),
    "a number cut off": (lambda size: filled(KEY, KEY, size, b"\x1a\xff"), "runs past the end", 1),
    "an aggregate within": (
        lambda size: KEY + field(3, b"\x08\x00" + field(3, enveloped(filled(b"", b"\x1a\x00", size - 50)))),
        NOT_JSON,
        1,
    ),
    "keys that are not UTF-8": (
        lambda size: filled(field(1, b"\xff" * (size // 2)), b"\x1a\x04\x08\x00\x1a\x00", size),
        TOO_DAMAGED,
        1,
    ),
}

#: Nothing is wrong with these, but that there are so many: each of their records reaches ``process``.
SOUND: dict[str, Callable[[int], bytes]] = {
    "records without data": lambda size: filled(KEY, b"\x1a\x04\x08\x00\x1a\x00", size),
    "records before their table": lambda size: filled(b"", b"\x1a\x04\x08\x00\x1a\x00", size, KEY),
    "records with a tag": lambda size: filled(KEY, b"\x1a\x08\x08\x00\x1a\x00\x22\x02\x0a\x00", size),
    "keys of one letter": lambda size: filled(b"", field(1, "ы".encode()), size),
}
MESSAGES = {name: make for name, (make, _, _) in AGGREGATES.items()} | SOUND


def _aggregate(name: str, size: int) -> Hostile:
    message, reason, letters = AGGREGATES[name]
    return Hostile(lambda: enveloped(message(size)), reason, letters)


#: Data of a Kinesis record, as bytes; a text is what stands in the event in place of base64.
KINESIS: dict[str, Hostile] = {
    **{f"aggregate of {name}": _aggregate(name, RECORD) for name in AGGREGATES},
    "large aggregate of records without anything": _aggregate("records without anything", LARGE_RECORD),
    "lists in lists": Hostile(lambda: b"[" * LARGE_RECORD, NOT_JSON),
    "a sound list in lists": Hostile(lambda: b"[" * 100_000 + b"]" * 100_000, NOT_JSON),
    "objects in objects": Hostile(lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, NOT_JSON),
    "a number of ten million digits": Hostile(lambda: b"9" * LARGE_RECORD, "Integer value out of range"),
    "a fraction of ten million digits": Hostile(lambda: b"0." + b"3" * (LARGE_RECORD - 2), "no object"),
    "an exponent": Hostile(lambda: b'{"id":1e400}', "Number out of range"),
    "NaN": Hostile(lambda: b'{"id":NaN}', NOT_JSON),
    "Infinity": Hostile(lambda: b'{"id":-Infinity}', NOT_JSON),
    "an id given a hundred thousand times": Hostile(
        lambda: b"{" + b'"id":3,' * 100_000 + b'"id":3}', letters=0, orders=1
    ),
    "a text of the whole record": Hostile(lambda: b'"' + b"x" * (LARGE_RECORD - 2) + b'"', "no object"),
    "a list of numbers": Hostile(lambda: b"[" + b"0," * (RECORD // 2 - 2) + b"0]", "no object"),
    "bytes that are no UTF-8": Hostile(lambda: b'"' + b"\xff" * RECORD + b'"', "invalid UTF-8"),
    "a lone surrogate": Hostile(lambda: b'{"id":"\\ud800"}', NOT_JSON),
    "a surrogate in UTF-8": Hostile(lambda: b'{"id":"\xed\xa0\x80"}', "invalid UTF-8"),
    "a NUL in a text": Hostile(lambda: b'{"id":"\x00"}', NOT_JSON),
    "nothing but NUL": Hostile(lambda: b"\x00" * LARGE_RECORD, NOT_JSON),
    # A gigabyte in a megabyte: nothing is inflated.
    "a compressed bomb": Hostile(lambda: gzip.compress(bytes(1 << 26)) * 16, NOT_JSON),
    "what it is followed by, of the whole record": Hostile(
        lambda: b'{"__context__":{"x-correlation-id":"' + b"x" * (LARGE_RECORD - 100) + b'"}}', "no id"
    ),
    "what it is followed by, lists in lists": Hostile(
        lambda: b'{"__context__":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", NOT_JSON
    ),
    "ids to follow it by, a hundred thousand": Hostile(
        lambda: b"{" + b",".join(b'"x-correlation-%d":"%d"' % (n, n) for n in range(100_000)) + b"}", "no id"
    ),
    "a mark of what it is followed by in a text": Hostile(
        lambda: b'["' + b"__context__" * (LARGE_RECORD // 11 - 10) + b'"]', "no object"
    ),
    "a binary envelope that says it is longer": Hostile(lambda: b"\xf5skc\x01\xff\xff\xff\xff{}" * 50_000, NOT_JSON),
    "binary envelopes in each other": Hostile(lambda: b"\xf5skc\x01\x00\x00\x00\x02{}" * 500_000, NOT_JSON),
    "a binary envelope of no JSON": Hostile(
        lambda: b"\xf5skc\x01\x00\x00\x00\x02{{" + b'{"id":3}', letters=0, orders=1
    ),
    "base64 with line breaks": Hostile(lambda: "eyJp\nZCI6MX0=", "not valid base64"),
    "base64 without its padding": Hostile(lambda: "eyJpZCI6MX0", "not valid base64"),
    "base64 of an aggregate without its padding": Hostile(lambda: "84mawg", "not valid base64"),
    "no base64 at all": Hostile(lambda: "é" * RECORD, "not valid base64"),
    "a surrogate in place of base64": Hostile(lambda: "\ud800", "not valid base64"),
    "a number in place of base64": Hostile(lambda: 10**4000, "the record has no data"),
}

_ENVELOPE: dict[str, Any] = json.loads(
    Envelope(
        event_id="orders/shardId-000000000000:7:0", source="kinesis", processor="orders", data=b'{"id":3}'
    ).encode()
)


def _envelope(**fields: Any) -> str:
    return json.dumps(_ENVELOPE | fields)


def _opened(raw: str) -> str:
    """An envelope with a field more, written by hand."""
    return f"{_envelope()[:-1]},{raw}}}"


#: Bodies of messages.
BODIES: dict[str, Hostile] = {
    "an envelope": Hostile(_envelope, letters=0, orders=1),
    "an envelope with a deep field": Hostile(lambda: _opened('"new":' + "[" * 100_000 + "]" * 100_000), "too deep"),
    "an envelope in lists": Hostile(lambda: "[" * 100_000 + _envelope(), NOT_JSON),
    "an envelope in a body of somebody's": Hostile(lambda: json.dumps({"note": _envelope()}), "no id"),
    "an envelope as SNS writes it for SQS": Hostile(
        lambda: json.dumps({"Type": "Notification", "MessageId": "n", "Message": _envelope()}), "no id"
    ),
    "an envelope cut off": Hostile(lambda: _envelope()[:-20], NOT_JSON),
    "an envelope of data that is no base64": Hostile(lambda: _envelope(data="é"), "`$.data`"),
    "an envelope of deep data": Hostile(lambda: _opened('"data":' + json.dumps("W1tb" * 200_000)), NOT_JSON),
    "an event id of two lines": Hostile(lambda: _envelope(event_id="a\nERROR forged"), "`$.event_id`"),
    "an event id of a megabyte": Hostile(lambda: _envelope(event_id="x" * (MESSAGE - 1000)), "`$.event_id`"),
    "an event id that is not text": Hostile(lambda: _envelope(event_id=[1]), "`$.event_id`"),
    "attempts below zero": Hostile(lambda: _envelope(attempts=-(10**9)), "`$.attempts`"),
    "attempts of a thousand digits": Hostile(lambda: _opened(f'"attempts":{"9" * 1000}'), "`$.attempts`"),
    "attempts of a million digits": Hostile(lambda: _opened('"attempts":' + "9" * 1_000_000), "out of range"),
    "a time that never comes": Hostile(lambda: _envelope(not_before=1e300), "`$.not_before`"),
    "a time that is none": Hostile(lambda: _opened('"not_before":NaN'), NOT_JSON),
    "a time long ago": Hostile(lambda: _envelope(not_before=-1e300), letters=0, orders=1),
    "an arrival out of range": Hostile(lambda: _envelope(approximate_arrival_timestamp=1e300), letters=0, orders=1),
    "a sequence number of a million digits": Hostile(
        lambda: _envelope(sequence_number="9" * 1_000_000), letters=0, orders=1
    ),
    "failures by the thousand": Hostile(
        lambda: _envelope(data="", failures=[{"attempt": 1, "type": "T", "message": "m", "time": "t"}] * 10_000),
        NOT_JSON,
    ),
    "what it is followed by, a megabyte of it": Hostile(
        lambda: _envelope(data="", correlation={"x-correlation-id": "x\n" * 400_000, "call-chain-length": "9" * 4000}),
        NOT_JSON,
    ),
    "ids to follow it by, ten thousand": Hostile(
        lambda: _envelope(data="", correlation={f"x-correlation-{n}": "x" for n in range(10_000)}), NOT_JSON
    ),
    "lists in lists": Hostile(lambda: "[" * MESSAGE, NOT_JSON),
    "a lone surrogate": Hostile(lambda: "\ud800", NOT_JSON),
    "nothing": Hostile(str, NOT_JSON),
}

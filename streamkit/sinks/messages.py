"""What messages to SQS and to SNS have in common: a text with attributes, ten a request, and groups where they are FIFO."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from ..errors import ConfigurationError, Reject
from ..record import Record
from .aws import BatchSink, Trouble, text_of
from .base import Write

__all__ = ["MessageSink"]

_MOST_BYTES = 1_048_576
# What reaches a queue behind a topic; SQS has the same limit.
_MOST_ATTRIBUTES = 10
# What SQS and SNS don't take in a text: what XML 1.0 does not.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GROUP = re.compile(r"[\x21-\x7e]{1,128}")
_ATTRIBUTE = re.compile(r"(?!AWS\.|Amazon\.)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.IGNORECASE)


class _Message(NamedTuple):
    body: str
    group: str | None
    attributes: dict[str, dict[str, Any]]
    more: dict[str, Any]


class MessageSink(BatchSink):
    """The base of ``SqsSink`` and ``SnsSink``.

    On a FIFO target the deduplication id is a digest of the write's id: a repeat within five minutes is dropped. A request
    has one message of each group, and nothing follows one of its group that was not taken.
    """

    request_writes: ClassVar[int] = 10
    _content_codes: ClassVar[frozenset[str]] = frozenset(
        {
            *("InvalidMessageContents", "InvalidParameterValue", "InvalidParameter", "InvalidParameterValueException"),
            *("InvalidAttributeValue", "InvalidMessageAttributes", "ParameterValueInvalid", "ValidationError"),
            *("BatchRequestTooLong", "ParamValidationError"),
        }
    )
    _call_entries: ClassVar[int] = 10
    #: The size of a message where nothing else is said, in bytes.
    _message_limit: ClassVar[int]

    def __init__(self, place: str, *, message_bytes: int | None = None, client: Any = None) -> None:
        super().__init__(place, client=client)
        limit = self._message_limit if message_bytes is None else message_bytes
        if not 1024 <= limit <= _MOST_BYTES:
            raise ConfigurationError(
                f"{type(self).__name__}(message_bytes) is from 1,024 to 1,048,576; got {message_bytes!r}"
            )
        self._message_bytes = limit
        # What a target allows for a message it allows for a request.
        self._call_bytes = max(limit, self._message_limit)

    @property
    def fifo(self) -> bool:
        return self.place.endswith(".fifo")

    def _message(
        self, body: Any, group: str | None, attributes: Mapping[str, str | bytes] | None, more: dict[str, Any]
    ) -> Write:
        text = text_of(body, self._service.upper())
        if not text:
            raise Reject(f"{self._service.upper()} takes no empty message")
        if _FORBIDDEN.search(text):
            raise Reject(
                f"{self._service.upper()} takes no control characters in a message (what XML 1.0 forbids): encode it"
            )
        if group is not None and not _GROUP.fullmatch(group):
            raise Reject("a group has 1 to 128 of the printable ASCII characters without the space")
        made = _attributes(attributes or {})
        size = len(text.encode()) + sum(
            len(name) + len(value["DataType"]) + len(value.get("BinaryValue") or value.get("StringValue", "").encode())
            for name, value in made.items()
        )
        if size > self._message_bytes:
            raise Reject(f"the target takes messages of {self._message_bytes:,} bytes; this one has {size:,}")
        return Write(self, _Message(text, group, made, more), size=size)

    def onward(self, record: Record) -> Write:
        """The record's data as a text; on a FIFO target in the group of its partition key."""
        return self._message(record.data, None, None, {})

    def _lane(self, write: Write) -> str | None:
        return self._group(write) if self.fifo else None

    def _group(self, write: Write) -> str:
        """The group that was given, or a digest of the record's key, which can be long, empty, or personal data."""
        group: str | None = write.payload.group
        if group is not None:
            return group
        record = write._record
        key = None if record is None else record.partition_key
        return _digest(f"id:{write.event_id}" if key is None else f"key:{key}")[:32]

    def _settings(self, write: Write) -> dict[str, Any]:
        """What a request has of a message beside its text."""
        settings = dict(write.payload.more)
        if write.payload.attributes:
            settings["MessageAttributes"] = write.payload.attributes
        if self.fifo:
            settings["MessageGroupId"] = self._group(write)
            settings["MessageDeduplicationId"] = _digest(write.write_id)
        return settings

    def _troubles(self, entries: list[dict[str, Any]], answer: dict[str, Any]) -> dict[int, Trouble]:
        """What an answer of ``Successful`` and ``Failed`` entries says, by place. Silence is no confirmation."""
        place_of = {entry["Id"]: place for place, entry in enumerate(entries)}
        troubles = {
            place: self._trouble_of_entry("NoAnswer", "the answer does not say what became of it", is_sender=False)
            for place in place_of.values()
        }
        for failure in answer.get("Failed", ()):
            code = str(failure.get("Code")).rpartition(".")[2]
            troubles[place_of[failure["Id"]]] = self._trouble_of_entry(
                code, failure.get("Message") or "", is_sender=bool(failure.get("SenderFault"))
            )
        for success in answer.get("Successful", ()):
            del troubles[place_of[success["Id"]]]
        return troubles


def _attributes(attributes: Mapping[str, str | bytes]) -> dict[str, dict[str, Any]]:
    if len(attributes) > _MOST_ATTRIBUTES:
        raise Reject(f"a message has {_MOST_ATTRIBUTES} attributes at most; this one has {len(attributes)}")
    made: dict[str, dict[str, Any]] = {}
    for name, value in attributes.items():
        if not isinstance(name, str) or len(name) > 256 or not _ATTRIBUTE.fullmatch(name):
            raise Reject(
                f"a message can't have an attribute named {str(name)[:64]!r}: letters, digits, - _ and single dots"
            )
        if not isinstance(value, str | bytes) or not value:
            raise Reject(f"the attribute {name} is a text or bytes, and not empty")
        if isinstance(value, str) and _FORBIDDEN.search(value):
            raise Reject(f"the attribute {name} has control characters")
        made[name] = (
            {"DataType": "String", "StringValue": value}
            if isinstance(value, str)
            else {"DataType": "Binary", "BinaryValue": value}
        )
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

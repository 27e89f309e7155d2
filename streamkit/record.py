"""One record, whatever brought it: a stream, a queue, a topic, a bucket or a log group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from .b64 import decode as b64decode
from .errors import DecodeError, StreamkitError
from .wrapper import MARK as WRAPPER_MARK
from .wrapper import unwrap

__all__ = ["MOST_DIGITS", "Record", "Source"]

T = TypeVar("T")
Source = Literal["kinesis", "sqs", "sns", "s3", "logs"]

#: Digits of a sequence number, at most. What has more is none, and may be too long for ``int``.
MOST_DIGITS = 128

_UNPARSED: Any = object()
_parse_json = msgspec.json.Decoder().decode


class Record(msgspec.Struct, eq=False, gc=False, repr_omit_defaults=True):
    """A record as ``process`` sees it. Users can't change it; each trigger has its own subclass, which knows the facts.

    Positions are those of the stream that the record first came from, and None where it never was in one: a
    ``sequence_number`` is a decimal text of up to 128 digits, compared as an integer, never as text.

    The class is a msgspec struct because a batch makes thousands of them: it costs a third of a class with slots.
    """

    # Bytes; or base64 text, decoded when asked for; or why there are none.
    _data: bytes | str | DecodeError
    _json: Any = _UNPARSED
    # What it is followed by, once somebody has asked; before that, the context of the binary envelope that its data came in.
    _correlation: Any = None

    @property
    def data(self) -> bytes:
        """The payload, up to 10 MiB; of an aggregate, the user record's own. DecodeError if it can't be decoded."""
        data = self._data
        if type(data) is bytes:
            return data
        data = self._data = self._decode_data()
        return data

    def _decode_data(self) -> bytes:
        data = self._data
        if type(data) is str:
            try:
                content = b64decode(data)
                return self._unwrapped(content) if content.startswith(WRAPPER_MARK) else content
            except ValueError:  # Its message can quote the data.
                data = self._data = DecodeError("the data is not valid base64")
        if isinstance(data, DecodeError):
            raise DecodeError(str(data), self.event_id)
        return data  # type: ignore[return-value]  # Text and errors are dealt with above, by type(), which mypy does not follow.

    def _unwrapped(self, content: bytes) -> bytes:
        """The data without the binary envelope, whose context is kept."""
        found = unwrap(content)
        if found is None:
            return content
        if self._correlation is None:
            self._correlation = found[0]
        return found[1]

    def _carried(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What travelled beside the data, by name: what streamkit has captured before, and what a sender has attached."""
        return {}, {}

    @property
    def damage(self) -> DecodeError | None:
        """Why the data can't be decoded, as far as that is known before anyone asked for it."""
        data = self._data
        return data if isinstance(data, DecodeError) else None

    @property
    def undecoded(self) -> str | None:
        """What came in place of data that can't be decoded, as text, so that a dead letter can keep it."""
        return None

    def json(self) -> Any:
        """The data as JSON, parsed once. Integers are exact, up to Python's own 4,300 digits; NaN and Infinity are refused.

        Raises DecodeError, without the payload in it, when the data is not UTF-8 JSON.
        """
        if self._json is _UNPARSED:
            data = self._data
            if type(data) is not bytes:
                # Not kept: a batch's payloads alive at once would take fresh memory for each, where one buffer is used again.
                data = self._decode_data()
            try:
                self._json = _parse_json(data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                # One word for what msgspec says in two ways: up to 0.22 it raises Python's own error.
                is_text = not isinstance(error, UnicodeDecodeError) and not str(error).startswith("Invalid UTF-8")
                reason = str(error) if is_text else "invalid UTF-8"
                raise DecodeError(f"the data is not JSON: {reason}", self.event_id) from None
        return self._json

    def decode(self, f: Callable[[bytes], T]) -> T:
        """``f(data)``, for instance a msgspec decoder or pydantic's ``model_validate_json``.

        An error of ``f`` is a DecodeError, but for streamkit's own (``Reject``, ``Retry``, …), which pass.
        """
        data = self.data
        try:
            return f(data)
        except StreamkitError:
            raise
        except Exception as error:
            raise DecodeError(f"the data can't be decoded: {type(error).__name__}: {error}", self.event_id) from error

    @property
    def event_id(self) -> str:
        """``<stream>/<shardId>:<sequence>:<sub>``, the same through every redelivery, retry, park and redrive.

        A message that never was in a stream has the id of its message, and what S3 tells of an object
        ``<bucket>/<key>:<sequencer>``; what CloudWatch Logs has delivered has a digest of it.
        """
        raise NotImplementedError  # pragma: no cover

    @classmethod
    def _write_ids(cls, writes: Sequence[Any]) -> list[str]:
        """The ``write_id`` of each of these writes, the first of which is of a record of this class."""
        return [write.write_id for write in writes]

    @property
    def source(self) -> Source:
        """What brought it here: ``"kinesis"``, ``"sqs"``, ``"sns"``, ``"s3"`` or ``"logs"``."""
        raise NotImplementedError  # pragma: no cover

    @property
    def attempt(self) -> int | None:
        """1 from the stream (redeliveries too), 2 and up from a queue, None from SNS, S3 and Logs, where Lambda counts."""
        raise NotImplementedError  # pragma: no cover

    @property
    def partition_key(self) -> str | None:
        """The key within which order is kept; None where the record has none, which makes it a key of its own."""
        return None

    @property
    def explicit_hash_key(self) -> str | None:
        """The explicit hash key that a KPL user record carries, a decimal text; Lambda's events don't tell it else."""
        return None

    @property
    def sequence_number(self) -> str | None:
        return None

    @property
    def sub_sequence_number(self) -> int | None:
        """The place within a KPL aggregate, from 0; 0 where the record is not of an aggregate."""
        return None

    @property
    def shard_id(self) -> str | None:
        return None

    @property
    def stream_arn(self) -> str | None:
        return None

    @property
    def approximate_arrival_timestamp(self) -> datetime | None:
        """When Kinesis took the record: aware, in UTC, to the millisecond."""
        return None

    def __repr__(self) -> str:
        # Never the payload: a record may be printed into a log.
        return f"<Record {self.event_id}>"

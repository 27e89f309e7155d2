"""A heartbeat: a record that goes the whole path of a stream's records, and tells somebody outside that it has come through.

    processors.heartbeat, every minute ──▶ the stream, each shard ──▶ the handler: never given to ``process``
                                                                          │  all before it is settled
                                                                          ▼
    a dead man's switch, outside the account: no ping for some minutes ◀── GET HEARTBEAT_URL
    is the alarm

What stands still anywhere on that path, or in what watches it within the account, ends in silence, and silence is the alarm.

Set up in the function's environment: ``HEARTBEAT_URL``, where ``{shard}`` stands for the shard's id and ``{processor}`` for the
processor's name; ``HEARTBEAT_MAX_AGE``, in seconds (900): an older heartbeat is no sign of life, but of a backlog, and pings
nobody. Without a URL a heartbeat is settled, and nothing else.

A producer can write one: it is then the sign of life that it looks like, and no more. It runs nothing, and reaches the URL once
in ten seconds at most.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from .deadline import Deadline
from .errors import ConfigurationError
from .outcome import Settled
from .outside import Caller, check_url
from .record import Record

__all__ = ["BASE64_PREFIX", "HEARTBEAT", "MARK", "Beat", "beat", "is_heartbeat", "payload"]

log = logging.getLogger("streamkit")

#: What its data begins with. JSON, so that a reader of the stream that is no streamkit is not upset by it; with the spaces that
#: most encoders put, since LocalStack writes anew what a filter has let through.
MARK = b'{"streamkit_heartbeat": 1, '
#: What its data begins with in base64: of the mark's first 24 bytes, which come out even.
BASE64_PREFIX = "eyJzdHJlYW1raXRfaGVhcnRiZWF0Ijog"
#: What becomes of one.
HEARTBEAT = Settled("a heartbeat")

#: Seconds that a ping may take, that lie between two of them, and that are left to answer in.
_TIMEOUT = 1.0
_INTERVAL = 10.0
_MARGIN = 0.25
_MAX_AGE = 900.0
_MOST_URLS = 1000


class _Heartbeat(msgspec.Struct, forbid_unknown_fields=True):
    streamkit_heartbeat: int
    sent_at: float


class Beat(msgspec.Struct, frozen=True):
    """A heartbeat that has come through: its age in milliseconds, and whether a ping was tried and has failed."""

    age: float | None
    has_failed: bool


_decode = msgspec.json.Decoder(_Heartbeat).decode


def payload(sent_at: float) -> bytes:
    """The data of a heartbeat that is sent at ``sent_at``, in seconds since the epoch."""
    return MARK + b'"sent_at": %.3f}' % sent_at


def is_heartbeat(data: bytes) -> bool:
    """Whether it is one, and not data that only begins as one."""
    if not data.startswith(MARK):
        return False
    try:
        _decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def beat(heartbeats: Iterable[Record], answer: Mapping[str, Any], processor: str, deadline: Deadline) -> Beat | None:
    """Tell outside of the last heartbeat that the answer lets the checkpoint pass. None where there is none.

    ``answer`` is that to a Kinesis batch: it names the lowest record that is not settled, or none.
    """
    failures = answer["batchItemFailures"]
    lowest = int(failures[0]["itemIdentifier"]) if failures else None
    last: Record | None = None
    for record in heartbeats:
        if lowest is None or int(record.sequence_number or 0) < lowest:
            last = record
    if last is None:
        return None
    # By Kinesis's clock: the payload's is for those who look at it.
    arrived = last.approximate_arrival_timestamp
    age = None if arrived is None else max(time.time() - arrived.timestamp(), 0.0)
    has_failed = _pulse.is_recent(age) and not _pulse.ping(last.shard_id or "", processor, deadline.remaining())
    return Beat(None if age is None else age * 1000, has_failed)


class _Pulse:
    """What outlives an invocation: when each URL was called, and what of the settings was said to be wrong."""

    def __init__(self) -> None:
        self._caller = Caller("HEARTBEAT_URL")
        self._pinged: dict[str, float] = {}
        self._said: set[str] = set()

    def is_recent(self, age: float | None) -> bool:
        text = os.environ.get("HEARTBEAT_MAX_AGE")
        most = _MAX_AGE
        if text:
            try:
                most = float(text)
            except ValueError:
                most = 0.0
            if not most > 0:
                most = _MAX_AGE
                self._say(f"HEARTBEAT_MAX_AGE is a number of seconds; got {text[:80]!r}, and {most:g} is used")
        return age is None or age <= most

    def ping(self, shard: str, processor: str, remaining: float) -> bool:
        """Whether what was to be done is done."""
        url = os.environ.get("HEARTBEAT_URL")
        if not url:
            return True
        from urllib.parse import quote

        url = url.replace("{shard}", quote(shard, "")).replace("{processor}", quote(processor, "", errors="replace"))
        try:
            warning = check_url(url, has_secrets=False)
        except ConfigurationError as error:
            self._say(f"HEARTBEAT_URL is not used: {error}")
            return False
        if warning:
            self._say(f"HEARTBEAT_URL: {warning}", logging.WARNING)
        now = time.monotonic()
        if now - self._pinged.get(url, float("-inf")) < _INTERVAL:
            return True
        if len(self._pinged) >= _MOST_URLS:
            self._pinged.clear()
        self._pinged[url] = now
        seconds = min(_TIMEOUT, remaining - _MARGIN)
        if seconds <= 0:
            self._say("no time was left to call HEARTBEAT_URL", logging.WARNING)
            return False
        return self._caller.call(url, None, {}, seconds)

    def _say(self, text: str, level: int = logging.ERROR) -> None:
        """Once."""
        if text not in self._said:
            self._said.add(text)
            log.log(level, "%s", text)


_pulse = _Pulse()

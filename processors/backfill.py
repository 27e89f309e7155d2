"""Each line of the objects that a bucket has already becomes a record of a stream: ``processors.objects`` for what was there
before its notifications were. It is a long task, which goes on in the next invocation until it is through.

Deploy it with the handler ``processors.backfill.handler``, and start it by hand, asynchronously, with an event such as
``{"id": "2025", "prefix": "2025/"}``:

    id         what the chain is known by: a second start by the same id does nothing. Default: each start is another chain
    prefix     objects whose keys begin so; default PREFIX, and never less than that
    after      a key: those behind it only, in the order of their bytes

Set up by

    BUCKET                   required
    PREFIX                   of all keys that it may read; default all of the bucket's
    CHAINS_TABLE             required: the DynamoDB table in which a chain's place is kept, so that no two copies of it work
                             at once
    STREAM, LINE_KEY, MOST_BYTES, MOST_LINES
                             as ``processors.objects`` has them
    DEAD_LETTER_QUEUE_URL    SQS; the event of an object that can never be loaded goes there, and the chain goes on. Without it
                             the chain ends there

They are read at the first invocation. A repeat puts lines again; docs/long-tasks.md has when there is one.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

import msgspec

from streamkit import lambda_handler
from streamkit.aws import Clients, from_environment, retried
from streamkit.cells.dynamodb import DynamoDbCells
from streamkit.deadline import ruling
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.recursion import Done, LongTask, long_task_handler

from .objects import ObjectsProcessor

__all__ = ["Backfill", "handler"]

_OWNER = "processors.backfill"
# Seconds of tries for a list, and those that an object leaves for handing over.
_PATIENCE, _TO_HAND_OVER = 20.0, 20.0
# S3 lists so many at most.
_PAGE = 1000


class _Start(msgspec.Struct, forbid_unknown_fields=True):
    """The event."""

    id: str | None = None
    prefix: str | None = None
    after: str = ""


class Backfill(LongTask):
    """An object a step. The cursor has the last key that is through; the keys behind it, as they were listed, are kept while the
    container lives.
    """

    name = "backfill"
    guard = DynamoDbCells.from_env("CHAINS_TABLE")
    # An object that is begun should come to its end: half of what the largest takes with `deploy/backfill.yaml`.
    deadline_margin = 300.0

    def __init__(self) -> None:
        self.bucket = from_environment("BUCKET", _OWNER, "a bucket's name")
        self.prefix = os.environ.get("PREFIX") or ""
        self._load = lambda_handler(ObjectsProcessor)
        self._s3 = Clients("s3", _OWNER)
        # What a list behind this place has told.
        self._place: tuple[str, str] | None = None
        self._page: deque[dict[str, Any]] = deque()

    def chain(self, event: Any) -> str | None:
        return _asked(event).id

    def start(self, event: Any) -> Any:
        asked = _asked(event)
        prefix = self.prefix if asked.prefix is None else asked.prefix
        if not prefix.startswith(self.prefix):
            raise ConfigurationError(f"the event's prefix begins with PREFIX, which is {self.prefix!r}; got {prefix!r}")
        return {"prefix": prefix, "after": asked.after, "objects": 0}

    def step(self, cursor: Any, context: Any) -> Any:
        """Put the lines of the next object. What fails for good is in dead letters then; what else fails ends the invocation."""
        found = self._next(cursor["prefix"], cursor["after"])
        if found is None:
            return Done({"objects": cursor["objects"]})
        self._load(_event(self.bucket, found), None if context is None else _Context(context))
        # Only now: a step that fails begins with it again.
        self._page.popleft()
        self._place = (cursor["prefix"], found["Key"])
        return {**cursor, "after": found["Key"], "objects": cursor["objects"] + 1}

    def close(self) -> None:
        self._load.close()
        self._s3.close()

    def _next(self, prefix: str, after: str) -> dict[str, Any] | None:
        """The first object behind ``after``; None where there is none."""
        if self._place != (prefix, after) or not self._page:
            invocation = ruling.get()
            end = time.monotonic() + _PATIENCE
            deadline = end if invocation is None else min(end, invocation.of_request())
            asked = {"Bucket": self.bucket, "Prefix": prefix, "StartAfter": after, "MaxKeys": _PAGE}
            answer = retried(deadline, lambda: self._s3.until(deadline).list_objects_v2(**asked))
            listed = answer.get("Contents", [])
            if answer["KeyCount"] != len(listed):
                # A list that broke off is not to be taken for the end.
                raise StreamkitError(f"S3 has listed {len(listed)} objects of {answer['KeyCount']}")
            self._place, self._page = (prefix, after), deque(listed)
        return self._page[0] if self._page else None


class _Context:
    """Lambda's, with less time: the next invocation is still to be made."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def get_remaining_time_in_millis(self) -> float:
        left: float = self._context.get_remaining_time_in_millis()
        return max(0.0, left - 1000 * _TO_HAND_OVER)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _asked(event: Any) -> _Start:
    try:
        return msgspec.convert(event, _Start)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"the event is none of a backfill's, which has id, prefix and after: {error}"
        ) from None


def _event(bucket: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The event that S3 would have sent of the object, the same whenever it is made."""
    etag = found["ETag"].strip('"')
    what = {"key": quote_plus(found["Key"], safe="/"), "size": found["Size"], "eTag": etag}
    return {
        "Records": [
            {
                "eventSource": "aws:s3",
                "eventName": "ObjectCreated:Backfill",
                "responseElements": {"x-amz-request-id": etag},
                "s3": {"bucket": {"name": bucket}, "object": what},
            }
        ]
    }


handler = long_task_handler(Backfill)

"""Puts a heartbeat into each shard of a stream. Deploy it with the handler ``processors.heartbeat.handler``, behind a schedule of
EventBridge (``rate(1 minute)``), and not behind a stream. Set up by

    STREAM    required: the stream's name or ARN

It needs ``kinesis:ListShards`` and ``kinesis:PutRecords``. The functions that read the stream know a heartbeat, never give it to
``process``, and call their ``HEARTBEAT_URL`` when everything before it is settled: docs/monitoring.md has what watches for that.
A heartbeat that could not be put makes the function raise; and it is missed outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from streamkit.aws import Clients, from_environment, repeat_until
from streamkit.errors import StreamkitError
from streamkit.health import answer_to
from streamkit.heartbeat import payload
from streamkit.producer.shards import Shard, ShardMap
from streamkit.warm import Container

__all__ = ["Heartbeat", "handler"]

# Seconds to put all of them in, of a function's shortest time-out by default (3 s).
_PATIENCE = 2.5
_MARGIN = 0.5
# PutRecords takes so many.
_MOST_RECORDS = 500
_KEY = "streamkit-heartbeat"


class Heartbeat:
    """The function. ``client`` is for tests and for functions of your own: boto3's of Kinesis."""

    def __init__(self, client: Any = None, clock: Callable[[], float] = time.time) -> None:
        self._clients = Clients("kinesis", "processors.heartbeat", client)
        self._clock = clock
        self._container = Container()

    def __call__(self, event: Any, context: Any = None) -> dict[str, Any]:
        """How many shards got one; to a ping of streamkit's own what that asks for. StreamkitError where one did not."""
        if (answer := answer_to(event, self._container)) is not None:
            return answer
        remaining: Callable[[], float] | None = getattr(context, "get_remaining_time_in_millis", None)
        seconds = _PATIENCE if remaining is None else max(remaining() / 1000 - _MARGIN, 0.1)
        deadline = time.monotonic() + seconds
        stream = from_environment("STREAM", "processors.heartbeat", "a stream's name or ARN")
        named = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
        shards = ShardMap.of_answer(self._shards(stream, deadline)).open
        left = shards

        def put_what_is_left() -> bool:
            nonlocal left
            left = [shard for some in _portions(left) for shard in self._put(named, some, deadline)]
            return not left

        repeat_until(deadline, put_what_is_left)
        if left:
            raise StreamkitError(
                f"no heartbeat could be put into {len(left)} of {len(shards)} shards of {stream}: "
                f"{', '.join(shard.shard_id for shard in left[:10])}"
            )
        return {"shards": len(shards)}

    def _shards(self, stream: str, deadline: float) -> Iterator[Any]:
        asked: dict[str, Any] = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
        while True:
            answer = self._clients.until(deadline).list_shards(**asked)
            yield from answer["Shards"]
            if not (token := answer.get("NextToken")):
                return
            asked = {"NextToken": token}

    def _put(self, named: dict[str, str], shards: list[Shard], deadline: float) -> list[Shard]:
        """Put one into each of up to 500 shards; those that did not take it."""
        data = payload(self._clock())
        # Within the shard's own hash keys, whatever they are: it may be split before this arrives, and then it is in one half.
        records = [{"Data": data, "PartitionKey": _KEY, "ExplicitHashKey": str(shard.first)} for shard in shards]
        answer = self._clients.until(deadline).put_records(Records=records, **named)
        return [shard for shard, one in zip(shards, answer["Records"], strict=True) if one.get("ErrorCode")]


def _portions(shards: list[Shard]) -> Iterator[list[Shard]]:
    rest = iter(shards)
    while some := list(islice(rest, _MOST_RECORDS)):
        yield some


handler = Heartbeat()

"""A Kinesis endpoint that costs its client nothing: answers from a process of its own, to the calls of a reader and PutRecords.

What is put is kept as it came, and looked at when ``taken`` asks for it.

Run as ``python -m bench.endpoint RECORDS SHARDS``, it says its port and serves until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import pybase64

from streamkit.kpl import deaggregate
from streamkit.producer.shards import hash_of

from .serving import Prepared, serve

__all__ = ["Taken", "endpoint", "payload_of", "taken"]

_PAGE = 10_000
_FIRST_NUMBER = 49590338271490256608559692538361571095921575989136588898
_ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def endpoint(records: int, shards: int) -> Iterator[str]:
    """The address of an endpoint with any stream of ``records`` over ``shards``, all of which have ended."""
    command = [sys.executable, "-m", "bench.endpoint", str(records), str(shards)]
    process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class Taken(msgspec.Struct):
    """What was put since the last time it was asked for. ``digest`` is of the user records, by key, and each key's in order."""

    requests: int
    records: int
    user_records: int
    bytes: int
    digest: str


def taken(url: str) -> Taken:
    with urlopen(url) as answer:
        return msgspec.json.decode(answer.read(), type=Taken)


def payload_of(number: int) -> bytes:
    """A measurement of 200 bytes of JSON."""
    text = b'{"id":%d,"sensor":"sensor-%03d","site":"Gij\xc3\xb3n","values":[%d.5,%d,null,true],"note":"' % (
        number,
        number % 500,
        number % 97,
        number % 89,
    )
    return text + b"." * (200 - len(text) - 2) + b'"}'


class _PutRecord(msgspec.Struct):
    PartitionKey: str
    ExplicitHashKey: str | None = None


class _PutRecords(msgspec.Struct):
    Records: list[_PutRecord]


class _Stream:
    """Its answers by operation, in JSON. An iterator is ``<shard>:<offset>``."""

    def __init__(self, records: int, shards: int) -> None:
        self._shards = shards
        self._in_shard = records // shards
        # Records of the last minutes: older than its retention, a reader may leave them out.
        self._began_at = int(time.time()) - 600
        # As many pages as a hundred thousand records have; of more, each is made anew.
        self._get_records = lru_cache(maxsize=16)(self._page)
        self._ends = [2**128 * (shard + 1) // shards for shard in range(shards)]
        self._put: list[bytes] = []
        self._number = _FIRST_NUMBER

    def put(self, body: bytes) -> bytes:
        """PutRecords: every record is taken."""
        self._put.append(body)
        results = []
        for record in msgspec.json.decode(body, type=_PutRecords).Records:
            hash_key = hash_of(record.PartitionKey, record.ExplicitHashKey)
            self._number += 1
            shard = bisect_right(self._ends, hash_key)
            results.append({"SequenceNumber": str(self._number), "ShardId": f"shardId-{shard:012}"})
        return msgspec.json.encode({"FailedRecordCount": 0, "Records": results})

    def taken(self) -> Taken:
        put, self._put = self._put, []
        by_key: dict[str | None, list[bytes]] = {}
        records = size = 0
        for body in put:
            for record in msgspec.json.decode(body)["Records"]:
                data = pybase64.b64decode(record["Data"])
                records, size = records + 1, size + len(data)
                users = deaggregate(data)
                for key, content in (
                    [(record["PartitionKey"], data)] if users is None else [(u.partition_key, u.data) for u in users]
                ):
                    by_key.setdefault(key, []).append(content)
        digest = md5(
            msgspec.json.encode(sorted((key, [md5(one).hexdigest() for one in data]) for key, data in by_key.items()))
        )
        return Taken(len(put), records, sum(map(len, by_key.values())), size, digest.hexdigest())

    def answer(self, operation: str, arguments: dict[str, Any]) -> bytes:
        if operation == "GetRecords":
            shard, offset = map(int, arguments["ShardIterator"].split(":"))
            return self._get_records(shard, offset)
        if operation == "GetShardIterator":
            return self._iterator(arguments)
        if operation == "ListShards":
            return msgspec.json.encode({"Shards": [self._shard(shard) for shard in range(self._shards)]})
        summary = {
            "StreamName": "measurements",
            "StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/measurements",
            "StreamStatus": "ACTIVE",
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": self._began_at,
            "EnhancedMonitoring": [],
            "OpenShardCount": self._shards,
        }
        return msgspec.json.encode({"StreamDescriptionSummary": summary})

    def _shard(self, shard: int) -> dict[str, Any]:
        return {
            "ShardId": f"shardId-{shard:012}",
            "HashKeyRange": {
                "StartingHashKey": str(self._ends[shard - 1] if shard else 0),
                "EndingHashKey": str(self._ends[shard] - 1),
            },
            "SequenceNumberRange": {"StartingSequenceNumber": str(_FIRST_NUMBER)},
        }

    def _iterator(self, arguments: dict[str, Any]) -> bytes:
        offset = 0
        if arguments["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER":
            offset = int(arguments["StartingSequenceNumber"]) - _FIRST_NUMBER + 1
        return msgspec.json.encode({"ShardIterator": f"{int(arguments['ShardId'].partition('-')[2])}:{offset}"})

    def _page(self, shard: int, offset: int) -> bytes:
        end = min(offset + _PAGE, self._in_shard)
        numbers = range(offset, end)
        records = [
            {
                "SequenceNumber": str(_FIRST_NUMBER + number),
                "ApproximateArrivalTimestamp": (self._began_at * 1000 + number % 500_000) / 1000,
                "Data": pybase64.b64encode_as_string(payload_of(shard * self._in_shard + number)),
                "PartitionKey": f"sensor-{number % 500:03}",
            }
            for number in numbers
        ]
        has_ended = end == self._in_shard
        return msgspec.json.encode(
            {
                "Records": records,
                "NextShardIterator": None if has_ended else f"{shard}:{end}",
                "MillisBehindLatest": 0 if has_ended else 1000,
            }
        )


class _Handler(Prepared):
    content = "application/x-amz-json-1.1"
    stream: _Stream

    def do_POST(self) -> None:  # noqa: N802  # http.server calls it so.
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if operation == "PutRecords":
            self.answer(self.stream.put(content))
        else:
            self.answer(self.stream.answer(operation, msgspec.json.decode(content)))

    def do_GET(self) -> None:  # noqa: N802  # http.server calls it so.
        self.answer(msgspec.json.encode(self.stream.taken()))


def _serve(records: int, shards: int) -> None:
    _Handler.stream = _Stream(records, shards)
    serve(_Handler)


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))

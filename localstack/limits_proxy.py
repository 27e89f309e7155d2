"""The limits of Kinesis's shards, in front of any local Kinesis endpoint, none of which has them; and faults when told to.

    with LimitsProxy(moto.endpoint) as proxy:
        boto3.client("kinesis", endpoint_url=proxy.endpoint, …)
        proxy.counts("orders")["shardId-000000000000"].throttled_reads

    python localstack/limits_proxy.py --upstream http://127.0.0.1:4566 --port 4567

What it refuses never reaches the endpoint. It learns the shard of an iterator from the answers that pass through it, and that of
a record from its key and the stream's shards, which it asks the endpoint for. All that is not Kinesis passes as it is, so that
one `AWS_ENDPOINT_URL` serves for all. Requests are not signed again: an endpoint that checks signatures (AWS's) refuses them.
The README beside this file has the limits, the control paths and what it does not do.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import copy
import dataclasses
import hashlib
import http.client
import re
import select
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from limits_buckets import ITERATORS_PER_SECOND, CallLimit, ReadLimit, WriteLimit
from limits_counts import Latencies, ShardCounts, ShardHistory
from limits_faults import Faults, Injector
from limits_wire import CBOR, JSON, Unreadable, decode, encode, size_of
from loopback import Server

__all__ = ["Faults", "LimitsProxy", "ShardCounts"]

LOOPBACK = "127.0.0.1"
CONTROL = "/_limits"
_TARGET = "Kinesis_20131202."
_THROTTLED = "ProvisionedThroughputExceededException"
_TOO_MANY_CALLS = "LimitExceededException"
# Of an account and region, a second.
_CALLS_PER_SECOND = {"DescribeStream": 10, "DescribeStreamSummary": 20}
# An iterator lives for five minutes.
_ITERATOR_SECONDS = 300.0
# After these a stream's shards may be others.
_RESHARDING = ("CreateStream", "DeleteStream", "SplitShard", "MergeShards", "UpdateShardCount")
# Headers of one connection, and those that are reckoned anew.
_OF_THE_CONNECTION = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length")
)
_MOST_BODY = 64 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def operation(self) -> str:
        """Of Kinesis's; "" for all that is not Kinesis."""
        target = self.header("x-amz-target")
        return target.removeprefix(_TARGET) if target.startswith(_TARGET) else ""

    @property
    def region(self) -> str:
        """As the signature's scope has it: one endpoint serves them all, and streams of one name in each."""
        scope = re.search(r"Credential=[^/,\s]*/\d+/([^/,\s]+)/", self.header("authorization"))
        return scope[1] if scope else ""

    def saying(self, operation: str, arguments: Mapping[str, Any]) -> _Request:
        """The same caller's request for something else."""
        changed = {"x-amz-target": f"{_TARGET}{operation}", "content-type": self.header("content-type") or JSON}
        headers = tuple((key, value) for key, value in self.headers if key.lower() not in changed)
        return dataclasses.replace(
            self, headers=(*headers, *changed.items()), body=encode(changed["content-type"], arguments)
        )


@dataclasses.dataclass(frozen=True)
class _Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def content_type(self) -> str:
        return next((value for key, value in self.headers if key.lower() == "content-type"), "")


class _Refused(Exception):
    """An error as Kinesis answers it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class _Dropped(Exception):
    """The connection is to end without an answer."""


#: Sends a request to the endpoint, and has its whole answer.
_Forward = Callable[[_Request], _Answer]
_Stream = tuple[str, str]


class _Shard:
    def __init__(self) -> None:
        self.reads = ReadLimit()
        self.writes = WriteLimit()
        self.iterators = CallLimit(ITERATORS_PER_SECOND)
        self.history = ShardHistory()


class LimitsProxy:
    """A proxy in front of the Kinesis endpoint ``upstream`` (``http://…``), from the start of a ``with`` block to its end.

    ``port`` 0 takes a free one. ``clock`` gives seconds, from any beginning.
    """

    def __init__(
        self,
        upstream: str,
        *,
        port: int = 0,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        url = urlsplit(upstream)
        if url.scheme != "http" or not url.hostname or url.path not in ("", "/"):
            raise ValueError(
                f"upstream is http://host:port, of an endpoint that checks no signatures; got {upstream!r}"
            )
        self.upstream = upstream
        self.port = port
        self.address = url.hostname, url.port or 80
        self._clock = clock
        self._lock = threading.Lock()
        self._injector = Injector(faults or Faults())
        self._stopping = threading.Event()
        self._running = contextlib.ExitStack()
        # An iterator's shard and when it ends; the first ends first.
        self._iterators: dict[tuple[str, str], tuple[_Stream, str, float]] = {}
        # For each stream its open shards, by the first of the hashes that are theirs.
        self._maps: dict[_Stream, list[tuple[int, str]]] = {}
        self._clear()

    def _clear(self) -> None:
        self._began = self._clock()
        self._shards: dict[tuple[_Stream, str], _Shard] = {}
        self._calls: dict[tuple[str, str], CallLimit] = {}
        self._throttled_calls: Counter[str] = Counter()
        self._injected: Counter[str] = Counter()
        self._latencies = Latencies()

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            self._stopping.clear()
            server = Server((LOOPBACK, self.port), _handler(self))
            self.port = server.server_address[1]
            starting.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            starting.callback(thread.join)
            starting.callback(server.shutdown)
            starting.callback(self._stopping.set)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    # For who holds it.

    def inject(self, faults: Faults) -> None:
        """From now on these go wrong, and no others: ``inject(Faults())`` ends it."""
        with self._lock:
            self._injector = Injector(faults)

    def counts(self, stream: str) -> dict[str, ShardCounts]:
        """What each shard of the stream has counted, by its id. Streams of that name in several regions count together."""
        with self._lock:
            counts: dict[str, ShardCounts] = {}
            for ((_, name), shard_id), shard in self._shards.items():
                if name == stream:
                    counts.setdefault(shard_id, ShardCounts()).add(shard.history.total)
            return counts

    def total(self, stream: str) -> ShardCounts:
        """All of the stream's shards together."""
        total = ShardCounts()
        for counts in self.counts(stream).values():
            total.add(counts)
        return total

    def injected(self) -> dict[str, int]:
        """How many requests, and records of PutRecords, have gone wrong because they were to, by kind."""
        with self._lock:
            return dict(self._injected)

    def reset(self) -> None:
        """Begin all counts anew, with every shard rested."""
        with self._lock:
            self._clear()

    def report(self) -> dict[str, Any]:
        """All counts, as ``GET /_limits`` answers them. ``seconds`` are counted from the last reset, or the start."""
        with self._lock:
            streams: dict[str, Any] = {}
            for ((region, name), shard_id), shard in sorted(self._shards.items()):
                streams.setdefault(f"{region}/{name}", {})[shard_id] = copy.deepcopy(shard.history.report())
            return {
                "upstream": self.upstream,
                "for_seconds": round(self._clock() - self._began, 3),
                "streams": streams,
                "throttled_calls": dict(self._throttled_calls),
                "injected": dict(self._injected),
                "latency_in_seconds": self._latencies.report(),
            }

    # Requests. Each may raise _Refused, _Dropped, Unreadable, and OSError or HTTPException where the endpoint is not there.

    def answer(self, request: _Request, forward: _Forward) -> _Answer:
        operation = request.operation
        answers = {
            "GetShardIterator": self._get_shard_iterator,
            "GetRecords": self._get_records,
            "PutRecord": self._put_record,
            "PutRecords": self._put_records,
        }
        timed = self._timed(forward)
        if operation in answers:
            return answers[operation](request, decode(request.header("content-type"), request.body), timed)
        self._describe(request)
        answer = self._sent(request, timed) if operation else timed(request)
        if operation in _RESHARDING:
            with self._lock:
                self._maps.clear()
        return answer

    def _timed(self, forward: _Forward) -> _Forward:
        def timed(request: _Request) -> _Answer:
            began = time.perf_counter()
            answer = forward(request)
            with self._lock:
                self._latencies.add(request.operation or "other", time.perf_counter() - began)
            return answer

        return timed

    def _sent(self, request: _Request, forward: _Forward) -> _Answer:
        """The endpoint's answer to what the limits let through, unless it is to go wrong."""
        with self._lock:
            latency, fault = self._injector.latency(request.operation), self._injector.fault(request.operation)
            if fault is not None:
                self._injected[fault] += 1
        self._stopping.wait(latency)
        if fault == "throttle":
            is_of_a_shard = request.operation in ("GetRecords", "GetShardIterator", "PutRecord")
            raise _Refused(_THROTTLED if is_of_a_shard else _TOO_MANY_CALLS, "told to refuse this one")
        if fault == "error":
            raise _Refused("InternalFailure", "told to fail", 500)
        if fault == "drop":
            raise _Dropped
        answer = forward(request)
        if fault == "lose":
            raise _Dropped
        return answer

    def _describe(self, request: _Request) -> None:
        operation = request.operation
        most = _CALLS_PER_SECOND.get(operation)
        if most is None:
            return
        with self._lock:
            limit = self._calls.setdefault((request.region, operation), CallLimit(most))
            if not limit.take(self._clock()):
                self._throttled_calls[operation] += 1
                raise _Refused(_TOO_MANY_CALLS, f"Rate exceeded: {most} {operation} a second")

    # Reading.

    def _get_shard_iterator(self, request: _Request, arguments: dict[str, Any], forward: _Forward) -> _Answer:
        stream, shard_id = _stream_of(request, arguments), arguments.get("ShardId")
        if not isinstance(shard_id, str):
            return self._sent(request, forward)  # The endpoint says what is wrong with it.
        with self._counting_refusals(stream, shard_id, throttled_iterators=1):
            with self._lock:
                if not self._shard(stream, shard_id).iterators.take(self._clock()):
                    raise _throttle(stream, shard_id)
            answer = self._sent(request, forward)
        if answer.status == 200:
            self._count(stream, shard_id, iterators=1)
            self._learn(request.region, _told(answer).get("ShardIterator"), stream, shard_id)
        return answer

    def _get_records(self, request: _Request, arguments: dict[str, Any], forward: _Forward) -> _Answer:
        with self._lock:
            known = self._iterators.get((request.region, str(arguments.get("ShardIterator"))))
        if known is None or known[2] <= self._clock():
            # Of an iterator that was made elsewhere the shard is not known. With a new one the reader goes on.
            raise _Refused("ExpiredIteratorException", "the iterator has expired, or was not made through this proxy")
        stream, shard_id, _ = known
        with self._counting_refusals(stream, shard_id, throttled_reads=1):
            with self._lock:
                if not self._shard(stream, shard_id).reads.take(self._clock()):
                    raise _throttle(stream, shard_id)
            answer = self._sent(request, forward)
        if answer.status == 200:
            brought = _told(answer)
            records = brought.get("Records") or []
            size = sum(map(size_of, records))
            with self._lock:
                self._shard(stream, shard_id).reads.brought(self._clock(), size)
            self._count(stream, shard_id, reads=1, read_records=len(records), read_bytes=size)
            self._learn(request.region, brought.get("NextShardIterator"), stream, shard_id)
        return answer

    def _learn(self, region: str, iterator: object, stream: _Stream, shard_id: str) -> None:
        if not isinstance(iterator, str):
            return
        now = self._clock()
        with self._lock:
            # One that is there already moves to the end: the order is that in which they end.
            self._iterators.pop((region, iterator), None)
            self._iterators[region, iterator] = stream, shard_id, now + _ITERATOR_SECONDS
            while self._iterators[first := next(iter(self._iterators))][2] <= now:
                del self._iterators[first]

    # Writing.

    def _put_record(self, request: _Request, arguments: dict[str, Any], forward: _Forward) -> _Answer:
        stream, size = _stream_of(request, arguments), size_of(arguments)
        shard_id = _shard_of(arguments, self._open_shards(request, stream, forward))
        with self._counting_refusals(stream, shard_id, throttled_records=1):
            if not self._takes(stream, shard_id, size):
                raise _throttle(stream, shard_id)
            answer = self._sent(request, forward)
        if answer.status == 200:
            self._written(stream, shard_id, _told(answer).get("ShardId"), size)
        return answer

    def _put_records(self, request: _Request, arguments: dict[str, Any], forward: _Forward) -> _Answer:
        stream, records = _stream_of(request, arguments), arguments.get("Records")
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            return self._sent(request, forward)  # The endpoint says what is wrong with them.
        shards = self._open_shards(request, stream, forward)
        shard_ids = [_shard_of(record, shards) for record in records]
        taken = [
            self._takes(stream, shard_id, size_of(record), "PutRecords")
            for record, shard_id in zip(records, shard_ids, strict=True)
        ]
        refused = {
            index: {"ErrorCode": _THROTTLED, "ErrorMessage": str(_throttle(stream, shard_ids[index]))}
            for index, is_taken in enumerate(taken)
            if not is_taken
        }
        for index in refused:
            self._count(stream, shard_ids[index], throttled_records=1)
        if not refused:
            answer = self._sent(request, forward)
        elif len(refused) < len(records):
            rest = [record for index, record in enumerate(records) if index not in refused]
            answer = self._sent(request.saying("PutRecords", {**arguments, "Records": rest}), forward)
        else:
            answer = _said(request, {"FailedRecordCount": 0, "Records": []})
        if answer.status != 200:
            return answer
        told = _told(answer)
        if len(told.get("Records") or ()) != len(records) - len(refused):
            raise http.client.HTTPException("its answer does not say what became of each record")
        results = iter(told["Records"])
        merged = [refused.get(index) or next(results) for index in range(len(records))]
        for record, shard_id, result in zip(records, shard_ids, merged, strict=True):
            if "SequenceNumber" in result:
                self._written(stream, shard_id, result.get("ShardId"), size_of(record))
        if not refused:
            return answer
        failed = (told.get("FailedRecordCount") or 0) + len(refused)
        return _said(request, {**told, "FailedRecordCount": failed, "Records": merged})

    def _takes(self, stream: _Stream, shard_id: str | None, size: int, drawn_for: str = "") -> bool:
        """Whether a record may be written. One whose shard is not known may: it is charged when the answer names it."""
        with self._lock:
            if drawn_for and self._injector.throttles(drawn_for):
                self._injected["throttle"] += 1
                return False
            return shard_id is None or self._shard(stream, shard_id).writes.take(self._clock(), size)

    def _written(self, stream: _Stream, expected: str | None, shard_id: object, size: int) -> None:
        """A record is in the shard that the answer names."""
        if not isinstance(shard_id, str):
            return
        with self._lock:
            if shard_id != expected:
                self._shard(stream, shard_id).writes.charge(self._clock(), size)
                self._maps.pop(stream, None)
        self._count(stream, shard_id, written_records=1, written_bytes=size)

    def _open_shards(self, request: _Request, stream: _Stream, forward: _Forward) -> list[tuple[int, str]]:
        """The stream's open shards, each with the first hash that is its own; none where the endpoint does not know them."""
        with self._lock:
            known = self._maps.get(stream)
        if known:
            return known
        shards: list[tuple[int, str]] = []
        arguments: dict[str, Any] = {"StreamName": stream[1]}
        while arguments:
            answer = forward(request.saying("ListShards", arguments))
            if answer.status != 200:
                return []
            told = _told(answer)
            shards += (
                (int(shard["HashKeyRange"]["StartingHashKey"]), shard["ShardId"])
                for shard in told["Shards"]
                if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
            )
            arguments = {"NextToken": told["NextToken"]} if told.get("NextToken") else {}
        shards.sort()
        with self._lock:
            self._maps[stream] = shards
        return shards

    # Counting.

    def _shard(self, stream: _Stream, shard_id: str) -> _Shard:
        """Under the lock."""
        return self._shards.setdefault((stream, shard_id), _Shard())

    def _count(self, stream: _Stream, shard_id: str | None, **more: int) -> None:
        with self._lock:
            second = int(self._clock() - self._began)
            self._shard(stream, shard_id or "unknown").history.count(second, **more)

    @contextlib.contextmanager
    def _counting_refusals(self, stream: _Stream, shard_id: str | None, **more: int) -> Iterator[None]:
        try:
            yield
        except _Refused as refused:
            if refused.code == _THROTTLED:
                self._count(stream, shard_id, **more)
            raise

    def control(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """What the paths under ``/_limits`` answer."""
        match method, path:
            case "GET", "":
                return self.report()
            case "POST", "/reset":
                self.reset()
                return {}
            case "POST", "/faults":
                try:
                    self.inject(msgspec.json.decode(body, type=Faults))
                except (ValueError, msgspec.DecodeError) as error:
                    raise _Refused("ValidationException", str(error)) from None
                return {}
        raise _Refused("ValidationException", f"there is no {method} {CONTROL}{path}", 404)


def _stream_of(request: _Request, arguments: Mapping[str, Any]) -> _Stream:
    """Region and name of a request's stream, which it names or whose ARN it gives."""
    name = arguments.get("StreamName")
    if not name:
        name = str(arguments.get("StreamARN") or "").partition(":stream/")[2]
    return request.region, str(name)


def _shard_of(record: Mapping[str, Any], shards: list[tuple[int, str]]) -> str | None:
    """The shard that a record goes to; None where that is not known, as without a key."""
    if explicit := record.get("ExplicitHashKey"):
        if not str(explicit).isdigit():
            return None
        number = int(explicit)
    elif key := record.get("PartitionKey"):
        number = int.from_bytes(hashlib.md5(str(key).encode(), usedforsecurity=False).digest())
    else:
        return None
    at = bisect.bisect_right(shards, number, key=lambda shard: shard[0])
    return shards[at - 1][1] if at else None


def _told(answer: _Answer) -> dict[str, Any]:
    try:
        return decode(answer.content_type, answer.body)
    except Unreadable as error:
        raise http.client.HTTPException(f"its answer can't be read: {error}") from None


def _throttle(stream: _Stream, shard_id: str | None) -> _Refused:
    return _Refused(_THROTTLED, f"Rate exceeded for shard {shard_id} in stream {stream[1]}")


def _said(request: _Request, value: Mapping[str, Any], status: int = 200) -> _Answer:
    """An answer of this proxy's own, in the request's encoding."""
    content_type = CBOR if request.header("content-type").startswith(CBOR) else JSON
    headers = (("Content-Type", content_type), ("x-amzn-RequestId", str(uuid.uuid4())))
    return _Answer(status, headers, encode(content_type, value))


# HTTP


def _handler(proxy: LimitsProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # One packet for an answer's head and body.
        disable_nagle_algorithm = True
        server: Server
        upstream: http.client.HTTPConnection | None = None
        upstream_socket: socket.socket | None = None

        def setup(self) -> None:
            super().setup()
            self.server.sockets.add(self.connection)

        def finish(self) -> None:
            self.server.sockets.discard(self.connection)
            self._hang_up()
            super().finish()

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            body = self._body()
            if body is None:
                return
            request = _Request(self.command, self.path, tuple(self.headers.items()), body)
            try:
                if path == CONTROL or path.startswith(f"{CONTROL}/"):
                    answer = _json(200, proxy.control(self.command, path.removeprefix(CONTROL), body))
                elif request.operation == "SubscribeToShard":
                    self._stream(request)
                    return
                else:
                    answer = proxy.answer(request, self._forward)
            except _Dropped:
                self.close_connection = True
                return
            except _Refused as refused:
                answer = _said(request, {"__type": refused.code, "message": str(refused)}, refused.status)
            except Unreadable as error:
                answer = _json(400, {"__type": "SerializationException", "message": str(error)})
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                message = f"the endpoint {proxy.upstream} did not answer: {error!r}"
                answer = _said(request, {"__type": "ServiceUnavailable", "message": message}, 503)
            self._send(answer)

        do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 (the base's names)

        def _body(self) -> bytes | None:
            """None where it can't be read, which has been answered."""
            length = self.headers.get("Content-Length", "0")
            problem = 0
            if "Transfer-Encoding" in self.headers or not re.fullmatch(r"\d{1,12}", length, re.ASCII):
                problem = 411
            elif int(length) > _MOST_BODY:
                problem = 413
            if problem:
                self.close_connection = True
                self._send(_json(problem, {"message": f"a body of known length, {_MOST_BODY} bytes at most, is taken"}))
                return None
            return self.rfile.read(int(length))

        def _send(self, answer: _Answer) -> None:
            self._head(answer.status, answer.headers)
            if self.command == "HEAD" or answer.status in (204, 304):
                # Its length is that of what a GET would bring.
                length = next((value for key, value in answer.headers if key.lower() == "content-length"), "0")
                self.send_header("Content-Length", length)
                self.end_headers()
                return
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def _head(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
            self.send_response_only(status)
            for key, value in headers:
                if key.lower() not in _OF_THE_CONNECTION:
                    self.send_header(key, value)

        def _forward(self, request: _Request) -> _Answer:
            answer = self._ask(request)
            return _Answer(answer.status, tuple(answer.getheaders()), answer.read())

        def _stream(self, request: _Request) -> None:
            """An event stream, as it comes."""
            answer = self._ask(request)
            self._head(answer.status, answer.getheaders())
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            try:
                while chunk := answer.read1(65536):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
            except (OSError, http.client.HTTPException):
                # Broken off on one side, so it is on the other.
                self.close_connection = True
                self._hang_up()

        def _ask(self, request: _Request) -> http.client.HTTPResponse:
            if self.upstream is not None and _is_stale(self.upstream):
                self._hang_up()
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection(*proxy.address)
                self.upstream.connect()
                self.upstream_socket = self.upstream.sock
                self.server.sockets.add(self.upstream.sock)
            upstream = self.upstream
            upstream.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for key, value in request.headers:
                if key.lower() not in _OF_THE_CONNECTION and key.lower() not in ("accept-encoding", "expect"):
                    upstream.putheader(key, value)
            upstream.putheader("Content-Length", str(len(request.body)))
            upstream.endheaders(request.body)
            return upstream.getresponse()

        def _hang_up(self) -> None:
            if self.upstream_socket is not None:
                self.server.sockets.discard(self.upstream_socket)
                self.upstream_socket = None
            if self.upstream is not None:
                self.upstream.close()
                self.upstream = None

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the base's name)
            """Nothing: what is asked is in the counts."""

    return Handler


def _is_stale(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side has closed it. A request that was sent is never sent again: it may have been carried out."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


def _json(status: int, value: Mapping[str, Any]) -> _Answer:
    return _Answer(status, (("Content-Type", "application/json"),), msgspec.json.encode(value))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kinesis's shard limits in front of a local endpoint, on the loopback interface."
    )
    parser.add_argument("--upstream", required=True, metavar="URL", help="the endpoint: http://127.0.0.1:4566")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (the default)")
    parser.add_argument("--faults", default="{}", metavar="JSON", help='what goes wrong: {"throttle": 0.1, "seed": 7}')
    options = parser.parse_args()
    try:
        faults = msgspec.json.decode(options.faults, type=Faults)
        proxy = LimitsProxy(options.upstream, port=options.port, faults=faults)
    except ValueError as error:
        parser.error(str(error))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with proxy:
        print(proxy.endpoint, flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()

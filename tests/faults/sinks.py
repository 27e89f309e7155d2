"""The rows of the sinks: three writes meet a fault, and what was not taken is written again when it is over."""

from __future__ import annotations

import re
import time
import uuid
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, cast

import grpc

from streamkit import RecordProcessor, Write
from streamkit.event import decode
from streamkit.plans.memory import MemoryPlans
from streamkit.sinks.base import Refusal, Sink
from streamkit.sinks.bigquery import BigQuerySink
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.sinks.events import EventBridgeSink
from streamkit.sinks.functions import LambdaSink
from streamkit.sinks.kinesis import KinesisSink
from streamkit.sinks.s3 import S3Sink
from streamkit.sinks.sns import SnsSink
from streamkit.sinks.sqs import SqsSink
from streamkit.testing import kinesis_event
from streamkit.testing.contracts import stamp

from . import grpc_proxy, http_proxy
from .cells import Cell, Fault, Row
from .cloud import Cloud
from .dialects import AWS_SINKS, BIGQUERY, CLOUDSEARCH, Dialect, first_only, is_refused

__all__ = ["SINKS", "SinkRow"]

#: Seconds beyond the deadline for a last try with its shortest time-out, and for a machine that is busy.
SLACK = 5.0

UNAVAILABLE = "unavailable"
ONLY_THE_REST = "only what was not taken is unavailable"
AND_WHAT_FOLLOWS = "what was not taken, and what follows it in its group, is unavailable"
INVALID = "the rows that are named are invalid, the others go in"
#: What becomes of each of the three writes.
KINDS: Mapping[str, tuple[str, ...]] = {
    UNAVAILABLE: ("unavailable", "unavailable", "unavailable"),
    ONLY_THE_REST: ("taken", "unavailable", "taken"),
    AND_WHAT_FOLLOWS: ("taken", "unavailable", "unavailable"),
    INVALID: ("taken", "invalid", "taken"),
}

#: A sink that dedupes by write id, or whose repeat replaces.
ONCE: Mapping[Fault, Cell] = {
    "slow": Cell(UNAVAILABLE, None, "once"),
    "refusing": Cell(UNAVAILABLE, False, "once"),
    "throttling": Cell(UNAVAILABLE, True, "once"),
    "in-part": Cell(ONLY_THE_REST, True, "once"),
    "gone": Cell(UNAVAILABLE, None, "once"),
    "answer-lost": Cell(UNAVAILABLE, True, "once"),
}
#: One whose service dedupes nothing: what took effect unheard is there a second time.
TWICE: Mapping[Fault, Cell] = {
    **ONCE,
    "slow": Cell(UNAVAILABLE, None, "twice"),
    "answer-lost": Cell(UNAVAILABLE, True, "twice"),
}


class NotAskedAgain(AssertionError):
    """The cell says that the service is asked again, and it was not."""


class SinkRow(Row):
    """A destination and a sink of its own. The sink makes its own clients, whose time-outs are what is tested, too."""

    cells = ONCE
    #: Seconds until the deadline.
    short: ClassVar[float] = 0.6
    dialect: ClassVar[Dialect]

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.tag = uuid.uuid4().hex
        self.proxy = self.made_proxy()
        #: How many of the proxy's requests are not of this row's cells.
        self.first = len(self.proxy.seen)
        self.sink = self.made_sink()
        #: Each cell has items of its own, a thousand numbers from here.
        self.base = 0
        self.warm_up()

    def close(self) -> None:
        self.sink.close()

    @abstractmethod
    def made_proxy(self) -> Any: ...

    @abstractmethod
    def made_sink(self) -> Any: ...

    @abstractmethod
    def write_of(self, n: int) -> Write: ...

    @abstractmethod
    def there(self) -> Counter[int]:
        """How often each item is at the destination. It may be asked once for each cell."""

    def batch(self, numbers: Iterable[int]) -> dict[int, Write]:
        numbers = list(numbers)
        writes = stamp(map(self.write_of, numbers), event=f"{self.tag}-{numbers[0]}")
        return dict(zip(numbers, writes, strict=True))

    def write(self, writes: Sequence[Write], deadline: float) -> Iterable[Refusal]:
        return cast(Sink, self.sink).write(writes, deadline=deadline)

    def numbers(self, request: Any) -> list[int]:
        return self.dialect.numbers(request)

    def act(self, fault: Fault) -> Any:
        acts: dict[str, Any] = {
            "slow": http_proxy.hold,
            "refusing": self.dialect.refusing,
            "throttling": self.dialect.throttling,
            "in-part": self.dialect.in_part,
            "answer-lost": http_proxy.lose_the_answer,
        }
        return acts[fault]

    def deliver(self, batch: Mapping[int, Write], seconds: float) -> dict[int, str]:
        """What becomes of each item; an exception is "unavailable" of all, as delivery has it."""
        try:
            refusals = list(self.write(list(batch.values()), time.monotonic() + seconds) or ())
        except Exception:
            return dict.fromkeys(batch, "unavailable")
        assert all(isinstance(refusal.error, Exception) and str(refusal.error) for refusal in refusals)
        kinds = {id(refusal.write): refusal.kind for refusal in refusals}
        assert len(kinds) == len(refusals), "one refusal for each"
        return {n: kinds.get(id(write), "taken") for n, write in batch.items()}

    def warm_up(self) -> None:
        """Have the clients made before time counts: those for long, and for short time-outs."""
        for n, seconds in ((100, 30.0), *((n, self.short) for n in range(101, 111))):
            kinds = self.deliver(self.batch([n]), seconds)
            if n > 100 and kinds == {n: "taken"}:
                return
        raise AssertionError("the service did not take a write before anything was done to it")

    def check(self, fault: Fault, cell: Cell) -> None:
        self.proxy = self.made_proxy()  # It sets the environment.
        for seconds in (self.short, 4 * self.short, 16 * self.short):
            try:
                return self.see(fault, cell, seconds)
            except NotAskedAgain:
                # On a machine that is busy the time was over before a second try.
                if seconds > 4 * self.short:
                    raise
        return None

    def see(self, fault: Fault, cell: Cell, seconds: float) -> None:
        self.base += 1000
        batch, before = self.batch(self.base + n for n in range(3)), len(self.proxy.seen)
        with self.bring_about(fault):
            assert fault != "gone" or self.proxy.refuses_connections()
            started = time.monotonic()
            kinds = self.deliver(batch, seconds)
            took = time.monotonic() - started
            assert fault != "gone" or self.proxy.refuses_connections()
        requests = self.proxy.seen[before:]

        see_what_was_done(fault, requests)
        assert took < seconds + SLACK
        assert tuple(kinds.values()) == KINDS[cell.told]
        self.see_who_was_asked(fault, cell, kinds, self.asked(requests))
        rest = {n: write for n, write in batch.items() if kinds[n] == "unavailable"}
        assert not rest or self.repeat(batch, rest) == dict.fromkeys(rest, "taken")
        later = self.pass_in_time(fault) if cell.again else []
        self.see_what_is_there(cell, kinds, later)

    def see_who_was_asked(self, fault: Fault, cell: Cell, kinds: Mapping[int, str], asked: Counter[int]) -> None:
        first, second, third = kinds
        times = asked[second if fault == "in-part" else first]
        if cell.again and times == 1:
            raise NotAskedAgain(asked)
        assert cell.again is None or (times > 1) == cell.again, asked
        if fault == "in-part" and cell.told != UNAVAILABLE:
            assert asked[first] == 1 or kinds[second] == "invalid", "what was taken is not sent again"
            assert asked[third] == {"taken": asked[first], "unavailable": 0}[kinds[third]]

    def repeat(self, batch: Mapping[int, Write], rest: Mapping[int, Write]) -> dict[int, str]:
        return self.deliver(rest, 30.0)

    def pass_in_time(self, fault: Fault) -> list[int]:
        """The fault meets one request only, and there is time: the sink's own tries have all taken. The items."""
        batch, before = self.batch(self.base + n for n in range(20, 23)), len(self.proxy.seen)
        with self.proxy.failing(first_only(self.act(fault))):
            kinds = self.deliver(batch, 30.0)
        see_what_was_done(fault, self.proxy.seen[before:])
        assert kinds == dict.fromkeys(batch, "taken")
        return list(batch)

    def see_what_is_there(self, cell: Cell, kinds: Mapping[int, str], later: Sequence[int]) -> None:
        there = self.there()
        reached = self.asked(request for request in self.proxy.seen[self.first :] if request.reached)
        for n, kind in kinds.items():
            if kind == "invalid":
                assert there[n] == 0
            elif cell.then == "twice":
                assert 2 <= there[n] <= reached[n], (there, reached)
            else:
                assert there[n] == 1, there
        for n in later:
            assert 1 <= there[n] <= (reached[n] if cell.then == "twice" else 1), there

    def asked(self, requests: Iterable[Any]) -> Counter[int]:
        """How many requests each item was in."""
        return Counter(n for request in requests for n in self.numbers(request))

    def bring_about(self, fault: Fault) -> AbstractContextManager[None]:
        made: AbstractContextManager[None] = (
            self.proxy.gone() if fault == "gone" else self.proxy.failing(self.act(fault))
        )
        return made


def see_what_was_done(fault: Fault, requests: Sequence[Any]) -> None:
    """The proxy's account of it: the fault happened, and took effect or did not."""
    if fault == "gone":
        assert requests == []
        return
    harmed = [request for request in requests if request.harmed]
    assert harmed, f"no request met the fault: {requests}"
    if fault in ("slow", "answer-lost"):
        assert all(request.reached for request in harmed)
    elif fault in ("refusing", "throttling"):
        assert not any(request.reached for request in harmed)
    else:
        assert any(request.reached for request in requests)


class _OnMoto(SinkRow):
    service = "moto"

    def made_proxy(self) -> Any:
        return self.cloud.aws


class OfKinesis(_OnMoto):
    backend, cells, dialect = KinesisSink, TWICE, AWS_SINKS["kinesis"]

    def made_sink(self) -> Any:
        self.cloud.client("kinesis").create_stream(StreamName=self.tag, ShardCount=1)
        return KinesisSink(self.tag)

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.record({"n": n}, f"key-{n}")
        return made

    def there(self) -> Counter[int]:
        kinesis = self.cloud.client("kinesis")
        start = kinesis.get_shard_iterator(
            StreamName=self.tag, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )
        records = kinesis.get_records(ShardIterator=start["ShardIterator"], Limit=10_000)["Records"]
        return Counter(int(record["PartitionKey"].removeprefix("key-")) for record in records)


class _OfAQueue(_OnMoto):
    """What arrives in a queue, from wherever."""

    fifo = False

    def there(self) -> Counter[int]:
        return Counter(self.n_of(body) for body in self.cloud.received(self.url))

    def n_of(self, body: Any) -> int:
        n: int = body["n"]
        return n


class OfSqs(_OfAQueue):
    backend, cells, dialect = SqsSink, TWICE, AWS_SINKS["sqs"]

    def made_sink(self) -> Any:
        self.url = self.cloud.queue(fifo=self.fifo)
        return SqsSink(self.url)

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.message({"n": n}, group="group" if self.fifo else None)
        return made


class OfSns(_OfAQueue):
    backend, cells, dialect = SnsSink, TWICE, AWS_SINKS["sns"]

    def made_sink(self) -> Any:
        self.url = self.cloud.queue(fifo=self.fifo)
        return SnsSink(self.cloud.topic(self.url))

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.message({"n": n}, group="group" if self.fifo else None)
        return made


FIFO: Mapping[Fault, Cell] = {**ONCE, "in-part": Cell(AND_WHAT_FOLLOWS, True, "once")}


class OfSqsInGroups(OfSqs):
    manner, cells, fifo = "FIFO", FIFO, True


class OfSnsInGroups(OfSns):
    manner, cells, fifo = "FIFO", FIFO, True


class OfEventBridge(_OfAQueue):
    backend, cells, dialect = EventBridgeSink, TWICE, AWS_SINKS["events"]

    def made_sink(self) -> Any:
        import json

        self.url, events = self.cloud.queue(), self.cloud.client("events")
        events.create_event_bus(Name=self.tag)
        events.put_rule(Name=self.tag, EventBusName=self.tag, EventPattern=json.dumps({"source": ["shop"]}))
        target = {"Id": "queue", "Arn": self.cloud.arn_of(self.url)}
        events.put_targets(Rule=self.tag, EventBusName=self.tag, Targets=[target])
        return EventBridgeSink(self.tag, source="shop")

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.event({"n": n})
        return made

    def n_of(self, body: Any) -> int:
        n: int = body["detail"]["n"]
        return n


class OfLambda(_OnMoto):
    """moto takes an invocation and keeps no account of it: it is counted on the way."""

    backend, cells, dialect = LambdaSink, TWICE, AWS_SINKS["lambda"]

    def made_sink(self) -> Any:
        self.function = self.cloud.function()
        return LambdaSink(self.function)

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.invocation({"n": n})
        return made

    def numbers(self, request: Any) -> list[int]:
        return super().numbers(request) if self.function in request.path else []

    def there(self) -> Counter[int]:
        return Counter(n for request in self.proxy.seen if request.reached for n in self.numbers(request))


class OfS3(_OnMoto):
    backend, dialect = S3Sink, AWS_SINKS["s3"]

    def made_sink(self) -> Any:
        self.cloud.client("s3").create_bucket(Bucket=self.tag)
        return S3Sink(self.tag, prefix="items/")

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.object({"n": n})
        return made

    def there(self) -> Counter[int]:
        import json

        s3 = self.cloud.client("s3")
        keys = [found["Key"] for found in s3.list_objects_v2(Bucket=self.tag).get("Contents", ())]
        return Counter(json.loads(s3.get_object(Bucket=self.tag, Key=key)["Body"].read())["n"] for key in keys)


class OfCloudSearch(SinkRow):
    backend, dialect = CloudSearchSink, CLOUDSEARCH
    service = "the CloudSearch stand-in"
    # It gives a try a second at least, and so tries again only where there is more.
    short = 1.8
    cells = {
        **ONCE,
        # What counts wrong has taken the batch as far as anybody knows: the same batch would be counted so again.
        "in-part": Cell(
            UNAVAILABLE, False, "once", impossible="a batch is taken whole or not at all; at a count that is too low:"
        ),
    }

    def made_proxy(self) -> Any:
        return self.cloud.cloudsearch

    def made_sink(self) -> Any:
        return CloudSearchSink(self.proxy.endpoint)

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.document(f"{self.tag}-{n}", {"n": n})
        return made

    def there(self) -> Counter[int]:
        documents = self.cloud.search.documents()
        return Counter(one["n"] for doc_id, one in documents.items() if doc_id.startswith(self.tag))


class OfBigQuery(SinkRow):
    backend, dialect = BigQuerySink, BIGQUERY
    service = "local-bigquery"
    short = 0.8

    def made_proxy(self) -> Any:
        return self.cloud.bigquery

    def made_sink(self) -> Any:
        self.table = self.cloud.table("n", "INTEGER")
        return BigQuerySink(self.table)

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.row({"n": n})
        return made

    def there(self) -> Counter[int]:
        return self.cloud.counted(self.table, "n")


def _refuse_rows(call: grpc_proxy.Call) -> list[bytes]:
    """BigQuery takes none of an append's rows where some are wrong, and names those."""
    from google.cloud.bigquery_storage_v1 import types

    if call.method != "AppendRows":
        return call.forward()
    (message,) = call.messages
    rows = types.AppendRowsRequest.deserialize(message).proto_rows.rows.serialized_rows
    places = [place for place, row in enumerate(rows) if is_refused(_n_of(row))]
    if not places:
        return call.forward()
    call.harmed = True
    row_errors = [{"index": place, "code": "FIELDS_ERROR", "message": "told to"} for place in places]
    answer = types.AppendRowsResponse(error={"code": 3, "message": "told to"}, row_errors=row_errors)
    return [types.AppendRowsResponse.serialize(answer)]


_ITEM = re.compile(rb"item-(\d+)-")


def _n_of(row: bytes) -> int:
    found = _ITEM.search(row)
    assert found
    return int(found[1])


class OfBigQueryExactlyOnce(SinkRow):
    """The write streams' API; the plans are in memory, whose stores have rows of their own."""

    backend = BigQueryExactlyOnceSink
    service = "local-bigquery, gRPC"
    short = 0.8
    cells = {**ONCE, "in-part": Cell(INVALID, False, "once")}

    def made_proxy(self) -> Any:
        return self.cloud.bigquery_storage

    def made_sink(self) -> Any:
        self.table = self.cloud.table("id", "STRING")
        sink = BigQueryExactlyOnceSink(self.table, MemoryPlans())
        # It is checked, and so lets itself be used, as an attribute of a processor.
        type("Orders", (RecordProcessor,), {"name": "faults", "ordering": "shard", "warehouse": sink})
        return sink

    def write_of(self, n: int) -> Write:
        made: Write = self.sink.row({"id": f"item-{n}-"})
        return made

    def batch(self, numbers: Iterable[int]) -> dict[int, Write]:
        """Records of one shard, each batch behind those before it."""
        numbers = list(numbers)
        self._position = getattr(self, "_position", 10**20) + 1000
        records = decode(kinesis_event(numbers, start=self._position)).records
        batch = {n: self.write_of(n) for n in numbers}
        for record, write in zip(records, batch.values(), strict=True):
            write._record, write._processor = record, "faults"
        return batch

    def write(self, writes: Sequence[Write], deadline: float) -> Iterable[Refusal]:
        first = writes[0]._record
        assert first is not None
        refusals: Iterable[Refusal] = self.sink.write_from(first, writes, deadline=deadline)
        return refusals

    def repeat(self, batch: Mapping[int, Write], rest: Mapping[int, Write]) -> dict[int, str]:
        # The batch comes again as it was.
        kinds = self.deliver(batch, 30.0)
        return {n: kinds[n] for n in rest}

    def numbers(self, request: Any) -> list[int]:
        rows: list[bytes] = _ITEM.findall(b"".join(request.messages)) if request.method == "AppendRows" else []
        return [int(n) for n in rows]

    def act(self, fault: Fault) -> Any:
        acts: dict[str, Callable[[grpc_proxy.Call], list[bytes]]] = {
            "slow": grpc_proxy.hold,
            "refusing": grpc_proxy.end_with(grpc.StatusCode.PERMISSION_DENIED),
            "throttling": grpc_proxy.end_with(grpc.StatusCode.RESOURCE_EXHAUSTED),
            "in-part": _refuse_rows,
            "answer-lost": grpc_proxy.lose_the_answer,
        }
        return acts[fault]

    def there(self) -> Counter[int]:
        counted = self.cloud.counted(self.table, "id")
        return Counter({_n_of(item.encode()): n for item, n in counted.items()})


#: A sink that is new gets its row here: subclass SinkRow, name its proxy, and how its service says no (``dialects.py``).
SINKS: Sequence[type[SinkRow]] = (
    OfBigQuery,
    OfBigQueryExactlyOnce,
    OfCloudSearch,
    OfEventBridge,
    OfKinesis,
    OfLambda,
    OfS3,
    OfSns,
    OfSnsInGroups,
    OfSqs,
    OfSqsInGroups,
)

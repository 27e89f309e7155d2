"""The rows of the sinks: three writes meet a fault, and what was not taken is written again when it is over."""

from __future__ import annotations

import json
import re
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import grpc

from streamkit import RecordProcessor, Write
from streamkit.event import decode
from streamkit.logs.sink import LogSink
from streamkit.plans.memory import MemoryPlans
from streamkit.sinks.base import Refusal, Sink
from streamkit.sinks.bigquery import BigQuerySink
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.sinks.cloudwatch_metrics import CloudWatchMetricsSink
from streamkit.sinks.events import EventBridgeSink
from streamkit.sinks.functions import LambdaSink
from streamkit.sinks.graph import GraphSink
from streamkit.sinks.kinesis import KinesisSink
from streamkit.sinks.opensearch import OpenSearchSink
from streamkit.sinks.s3 import S3Sink
from streamkit.sinks.sns import SnsSink
from streamkit.sinks.sqs import SqsSink
from streamkit.testing import kinesis_event
from streamkit.testing.contracts import stamp

from . import bolt_proxy, grpc_proxy, http_proxy
from .cells import Cell, Fault
from .cloud import Cloud
from .dialects import AWS_SINKS, BIGQUERY, CLOUDSEARCH, CLOUDSEARCH_VERSIONS, OPENSEARCH, is_refused
from .exchange import Exchange

__all__ = ["SINKS", "SinkRow"]

UNAVAILABLE = "unavailable"

#: A sink that dedupes by write id, or whose repeat replaces.
ONCE: Mapping[Fault, Cell] = {
    "slow": Cell(UNAVAILABLE, None, "once"),
    "refusing": Cell(UNAVAILABLE, False, "once"),
    "throttling": Cell(UNAVAILABLE, True, "once"),
    "in-part": Cell("only what was not taken is unavailable", True, "once"),
    "gone": Cell(UNAVAILABLE, None, "once"),
    "answer-lost": Cell(UNAVAILABLE, True, "once"),
}
#: One whose service dedupes nothing: what took effect unheard is there a second time.
TWICE: Mapping[Fault, Cell] = {
    **ONCE,
    "slow": Cell(UNAVAILABLE, None, "twice"),
    "answer-lost": Cell(UNAVAILABLE, True, "twice"),
}


class SinkRow(Exchange):
    cells = ONCE

    @abstractmethod
    def write_of(self, n: int) -> Write: ...

    def batch(self, numbers: Iterable[int]) -> dict[int, Write]:
        numbers = list(numbers)
        writes = stamp(map(self.write_of, numbers), event=f"{self.tag}-{numbers[0]}")
        return dict(zip(numbers, writes, strict=True))

    def write(self, writes: Sequence[Write], deadline: float) -> Iterable[Refusal]:
        return cast(Sink, self.target).write(writes, deadline=deadline)

    def deliver(self, batch: Mapping[int, Write], seconds: float) -> dict[int, str]:
        """See ``Exchange.deliver``. An exception is "unavailable" of all, as delivery has it."""
        try:
            refusals = list(self.write(list(batch.values()), time.monotonic() + seconds) or ())
        except Exception:
            return dict.fromkeys(batch, "unavailable")
        assert all(isinstance(refusal.error, Exception) and str(refusal.error) for refusal in refusals)
        kinds = {id(refusal.write): refusal.kind for refusal in refusals}
        assert len(kinds) == len(refusals), "one refusal for each"
        return {n: kinds.get(id(write), "taken") for n, write in batch.items()}


class _OnMoto(SinkRow):
    service = "moto"

    def made_proxy(self) -> Any:
        return self.cloud.aws


class OfKinesis(_OnMoto):
    backend, cells, dialect = KinesisSink, TWICE, AWS_SINKS["kinesis"]

    def made(self) -> Any:
        self.cloud.client("kinesis").create_stream(StreamName=self.tag, ShardCount=1)
        return KinesisSink(self.tag)

    def write_of(self, n: int) -> Write:
        made: Write = self.target.record({"n": n}, f"key-{n}")
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
    url: str

    def there(self) -> Counter[int]:
        return Counter(self.n_of(body) for body in self.cloud.received(self.url))

    def n_of(self, body: Any) -> int:
        n: int = body["n"]
        return n


class OfSqs(_OfAQueue):
    backend, cells, dialect = SqsSink, TWICE, AWS_SINKS["sqs"]

    def made(self) -> Any:
        self.url = self.cloud.queue(fifo=self.fifo)
        return SqsSink(self.url)

    def write_of(self, n: int) -> Write:
        made: Write = self.target.message({"n": n}, group="group" if self.fifo else None)
        return made


class OfSns(_OfAQueue):
    backend, cells, dialect = SnsSink, TWICE, AWS_SINKS["sns"]

    def made(self) -> Any:
        self.url = self.cloud.queue(fifo=self.fifo)
        return SnsSink(self.cloud.topic(self.url))

    def write_of(self, n: int) -> Write:
        made: Write = self.target.message({"n": n}, group="group" if self.fifo else None)
        return made


FIFO: Mapping[Fault, Cell] = {
    **ONCE,
    "in-part": Cell("what was not taken, and what follows it in its group, is unavailable", True, "once"),
}


class OfSqsInGroups(OfSqs):
    manner, cells, fifo = "FIFO", FIFO, True


class OfSnsInGroups(OfSns):
    manner, cells, fifo = "FIFO", FIFO, True


class OfEventBridge(_OfAQueue):
    backend, cells, dialect = EventBridgeSink, TWICE, AWS_SINKS["events"]

    def made(self) -> Any:
        self.url, events = self.cloud.queue(), self.cloud.client("events")
        events.create_event_bus(Name=self.tag)
        events.put_rule(Name=self.tag, EventBusName=self.tag, EventPattern=json.dumps({"source": ["shop"]}))
        target = {"Id": "queue", "Arn": self.cloud.arn_of(self.url)}
        events.put_targets(Rule=self.tag, EventBusName=self.tag, Targets=[target])
        return EventBridgeSink(self.tag, source="shop")

    def write_of(self, n: int) -> Write:
        made: Write = self.target.event({"n": n})
        return made

    def n_of(self, body: Any) -> int:
        n: int = body["detail"]["n"]
        return n


class OfLambda(_OnMoto):
    """moto takes an invocation and keeps no account of it: it is counted on the way."""

    backend, cells, dialect = LambdaSink, TWICE, AWS_SINKS["lambda"]

    def made(self) -> Any:
        self.function = self.cloud.function()
        return LambdaSink(self.function)

    def write_of(self, n: int) -> Write:
        made: Write = self.target.invocation({"n": n})
        return made

    def numbers(self, request: Any) -> list[int]:
        return super().numbers(request) if self.function in request.path else []

    def act(self, fault: Fault) -> Any:
        # The status alone confirms an invocation: that the rest breaks off is no fault.
        return http_proxy.lose_the_answer if fault == "answer-lost" else super().act(fault)

    def there(self) -> Counter[int]:
        return Counter(n for request in self.proxy.seen if request.reached for n in self.numbers(request))


class OfLambdaAwaited(OfLambda):
    """It waits for what the function returns. Where that is lost the function has run, and a repeat runs it again."""

    manner, options = "wait", {"wait": True}
    dialect = AWS_SINKS["lambda-wait"]
    cells = {**TWICE, "in-part": Cell("only what the function raised at is failed", False, "twice")}

    def made(self) -> Any:
        self.function = self.cloud.function()
        return LambdaSink(self.function, **self.options)

    def see_what_is_there(self, kinds: Mapping[int, str], unheard: Counter[int] | None, later: Sequence[int]) -> None:
        super().see_what_is_there(kinds, unheard, later)
        mine = [request for request in self.proxy.seen if self.function in request.path]
        assert {request.headers["X-Amz-Invocation-Type"] for request in mine} == {"RequestResponse"}


class OfS3(_OnMoto):
    backend, dialect = S3Sink, AWS_SINKS["s3"]

    def made(self) -> Any:
        self.cloud.client("s3").create_bucket(Bucket=self.tag)
        return S3Sink(self.tag, prefix="items/")

    def write_of(self, n: int) -> Write:
        made: Write = self.target.object({"n": n})
        return made

    def there(self) -> Counter[int]:
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

    def see(self, fault: Fault, cell: Cell, seconds: float) -> None:
        # A sink that was told to slow down remembers it, and one of another cell is not to.
        self.target.close()
        self.target = self.made()
        self.warm_up()
        super().see(fault, cell, seconds)

    def made_proxy(self) -> Any:
        return self.cloud.cloudsearch

    def made(self) -> Any:
        return CloudSearchSink(self.proxy.endpoint)

    def write_of(self, n: int) -> Write:
        made: Write = self.target.document(f"{self.tag}-{n}", {"n": n})
        return made

    def there(self) -> Counter[int]:
        documents = self.cloud.search.documents()
        return Counter(one["n"] for doc_id, one in documents.items() if doc_id.startswith(self.tag))


class OfCloudSearchWithVersions(OfCloudSearch):
    """It asks for the versions before it writes, and that request is the one that meets the fault."""

    manner, options, dialect = "version_field", {"version_field": "version"}, CLOUDSEARCH_VERSIONS

    def made(self) -> Any:
        return CloudSearchSink(self.proxy.endpoint, search_endpoint=self.proxy.endpoint, **self.options)

    def write_of(self, n: int) -> Write:
        made: Write = self.target.document(f"{self.tag}-{n}", {"n": n}, version=1)
        return made

    def numbers(self, request: Any) -> list[int]:
        # Each write is in a search and in a batch. Whether one of them is asked again is told by those that were harmed.
        return super().numbers(request) if request.harmed else []

    def see_what_is_there(self, kinds: Mapping[int, str], unheard: Counter[int] | None, later: Sequence[int]) -> None:
        super().see_what_is_there(kinds, unheard, later)
        documents = self.cloud.search.documents()
        assert all(documents[f"{self.tag}-{n}"]["version"] == 1 for n in (*kinds, *later))


class OfOpenSearch(SinkRow):
    backend, dialect = OpenSearchSink, OPENSEARCH
    service = "osmem-server"
    short = 1.8

    def made_proxy(self) -> Any:
        return self.cloud.opensearch

    def made(self) -> Any:
        return OpenSearchSink(self.proxy.endpoint, self.tag.lower())

    def write_of(self, n: int) -> Write:
        made: Write = self.target.document(str(n), {"n": n})
        return made

    def there(self) -> Counter[int]:
        client, index = self.cloud.opensearch_client, self.tag.lower()
        if not client.indices.exists(index=index):
            return Counter()
        client.indices.refresh(index=index)
        found = client.search(index=index, body={"query": {"match_all": {}}, "size": 1000})
        return Counter(hit["_source"]["n"] for hit in found["hits"]["hits"])


def _see_that_it_was_halved(asked: Counter[int]) -> None:
    """All three, then each half, and each of the larger half: in whichever order."""
    assert tuple(asked.values()) == (2, 3, 3)


#: PutMetricData is taken whole or refused whole, and what it takes it counts, again where it comes again.
METRICS: Mapping[Fault, Cell] = {
    **TWICE,
    "in-part": Cell(
        "the one at fault is invalid, the others go in",
        True,
        "once",
        impossible="a request is taken whole or not at all; where a metric of it is refused:",
    ),
}


def _counted(cloud: Cloud, namespace: str) -> Counter[int]:
    """How often each metric ``item-7-`` of a namespace was counted."""
    cloudwatch, now = cloud.client("cloudwatch"), datetime.now(UTC)
    found: Counter[int] = Counter()
    for page in cloudwatch.get_paginator("list_metrics").paginate(Namespace=namespace):
        for metric in page["Metrics"]:
            points = cloudwatch.get_metric_statistics(
                Namespace=namespace,
                MetricName=metric["MetricName"],
                StartTime=now - timedelta(days=1),
                EndTime=now + timedelta(hours=1),
                Period=172800,
                Statistics=["SampleCount"],
            )["Datapoints"]
            found[_n_of(metric["MetricName"].encode())] = int(sum(point["SampleCount"] for point in points))
    return found


class _IntoMetrics(SinkRow):
    """CloudWatch has the fault: requests are halved to find what is refused, and values are counted."""

    def see_who_was_asked(self, fault: Fault, cell: Cell, kinds: Mapping[int, str], asked: Counter[int]) -> None:
        if fault != "in-part":
            return super().see_who_was_asked(fault, cell, kinds, asked)
        return _see_that_it_was_halved(asked)

    def there(self) -> Counter[int]:
        return _counted(self.cloud, self.tag)


class OfCloudWatchMetrics(_IntoMetrics, _OnMoto):
    """A metric for each item, of which a value is put."""

    backend, cells, dialect = CloudWatchMetricsSink, METRICS, AWS_SINKS["cloudwatch"]

    def made(self) -> Any:
        return CloudWatchMetricsSink(self.tag)

    def write_of(self, n: int) -> Write:
        made: Write = self.target.value(f"item-{n}-", 1)
        return made


class _OfLogs(SinkRow):
    """An item is a record with a document and a metric. OpenSearch's stand-in and moto are behind a proxy each, one of which has
    the fault; a record of which either was refused comes again whole.
    """

    backend = LogSink
    short = 1.8

    def made(self) -> Any:
        return LogSink(OpenSearchSink(self.cloud.opensearch.endpoint, self.tag), CloudWatchMetricsSink(self.tag))

    def write_of(self, n: int) -> Write:
        made: Write = self.target.document(str(n), {"n": n}, index=self.tag)
        return made

    def batch(self, numbers: Iterable[int]) -> dict[int, Any]:
        numbers = list(numbers)
        event = f"{self.tag}-{numbers[0]}"
        documents = stamp(map(self.write_of, numbers), event=event)
        values = stamp((self.target.value(f"item-{n}-", 1) for n in numbers), event=event)
        return dict(zip(numbers, zip(documents, values, strict=True), strict=True))

    def deliver(self, batch: Mapping[int, Any], seconds: float) -> dict[int, str]:
        both: dict[tuple[int, int], Write] = {(n, place): pair[place] for n, pair in batch.items() for place in (0, 1)}
        kinds = super().deliver(cast(Any, both), seconds)
        return {n: self.told(*(kinds[cast(Any, (n, place))] for place in (0, 1))) for n in batch}

    @abstractmethod
    def told(self, document: str, metric: str) -> str:
        """What became of an item, by what was told of its two writes."""

    def documents_there(self) -> Counter[int]:
        client = self.cloud.opensearch_client
        if not client.indices.exists(index=self.tag):
            return Counter()
        client.indices.refresh(index=self.tag)
        found = client.search(index=self.tag, body={"query": {"match_all": {}}, "size": 1000})
        return Counter(hit["_source"]["n"] for hit in found["hits"]["hits"])


class OfLogsDocuments(_OfLogs):
    """OpenSearch has the fault. No metric is counted twice for that: none is put before its record's document is taken."""

    manner, dialect = "documents", OPENSEARCH
    service = "osmem-server, moto"

    def made_proxy(self) -> Any:
        assert self.cloud.aws.endpoint  # It sets the environment.
        return self.cloud.opensearch

    def told(self, document: str, metric: str) -> str:
        assert document == metric, "a metric waits for its document"
        return document

    def there(self) -> Counter[int]:
        return self.documents_there()

    def see_what_is_there(self, kinds: Mapping[int, str], unheard: Counter[int] | None, later: Sequence[int]) -> None:
        super().see_what_is_there(kinds, unheard, later)
        counted = _counted(self.cloud, self.tag)
        assert [counted[n] for n in (*kinds, *later)] == [1] * len([*kinds, *later])


class OfLogsMetrics(_IntoMetrics, _OfLogs):
    """CloudWatch has the fault. The documents are written all the same, and at the repeat take the place of themselves."""

    manner, cells, dialect = "metrics", METRICS, AWS_SINKS["cloudwatch"]
    service = "moto, osmem-server"

    def made_proxy(self) -> Any:
        return self.cloud.aws

    def told(self, document: str, metric: str) -> str:
        assert document == "taken"
        return metric

    def see_what_is_there(self, kinds: Mapping[int, str], unheard: Counter[int] | None, later: Sequence[int]) -> None:
        super().see_what_is_there(kinds, unheard, later)
        documents = self.documents_there()
        assert [documents[n] for n in (*kinds, *later)] == [1] * len([*kinds, *later])


class OfBigQuery(SinkRow):
    backend, dialect = BigQuerySink, BIGQUERY
    service = "local-bigquery"
    short = 0.8

    def made_proxy(self) -> Any:
        return self.cloud.bigquery

    def made(self) -> Any:
        self.table = self.cloud.table("n", "INTEGER")
        return BigQuerySink(self.table)

    def write_of(self, n: int) -> Write:
        made: Write = self.target.row({"n": n})
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


class _OnBigQueryStorage(SinkRow):
    service = "local-bigquery, gRPC"
    short = 0.8
    table: str

    def made_proxy(self) -> Any:
        return self.cloud.bigquery_storage

    def write_of(self, n: int) -> Write:
        made: Write = self.target.row({"id": f"item-{n}-"})
        return made

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


class OfBigQueryDefaultStream(_OnBigQueryStorage):
    backend, manner, options = BigQuerySink, "storage-write", {"method": "storage-write"}
    cells = {**TWICE, "in-part": Cell("the rows that are named are invalid, the others go in", False, "once")}

    def made(self) -> Any:
        self.table = self.cloud.table("id", "STRING")
        return BigQuerySink(self.table, **self.options)


class OfBigQueryExactlyOnce(_OnBigQueryStorage):
    """The plans are in memory, whose stores have rows of their own."""

    backend = BigQueryExactlyOnceSink
    cells = {**ONCE, "in-part": Cell("the rows that are named are invalid, the others go in", False, "once")}

    def made(self) -> Any:
        self.table = self.cloud.table("id", "STRING")
        sink = BigQueryExactlyOnceSink(self.table, MemoryPlans())
        # It is checked, and so lets itself be used, as an attribute of a processor.
        type("Orders", (RecordProcessor,), {"name": "faults", "ordering": "shard", "warehouse": sink})
        return sink

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
        refusals: Iterable[Refusal] = self.target.write_from(first, writes, deadline=deadline)
        return refusals

    def repeat(self, batch: Mapping[int, Write], rest: Mapping[int, Write]) -> dict[int, str]:
        # The batch comes again as it was.
        kinds = self.deliver(batch, 30.0)
        return {n: kinds[n] for n in rest}


class OfGraph(SinkRow):
    """A node for each item; a request is a transaction, and meets the fault when it is to be committed."""

    backend = GraphSink
    service = "ArcadeDB"
    short = 1.8
    cells = {
        **ONCE,
        "in-part": Cell(
            "the one at fault is invalid, the others go in",
            True,
            "once",
            impossible="a transaction is taken whole or not at all; where a write of it is refused:",
        ),
    }

    def made_proxy(self) -> Any:
        return self.cloud.graph_proxy

    def made(self) -> Any:
        graph = self.cloud.graph
        return GraphSink(
            self.proxy.url,
            auth=graph.auth,
            database=graph.server.database,
            unique={graph.label: "item"},
            **self.options,
        )

    def write_of(self, n: int) -> Write:
        made: Write = self.target.node(self.cloud.graph.label, {"item": f"item-{n}-"})
        return made

    def numbers(self, request: Any) -> list[int]:
        return [int(n) for n in _ITEM.findall(b"".join(request.statements))]

    def act(self, fault: Fault) -> Any:
        def refuse(transaction: bolt_proxy.Transaction) -> bytes | None:
            if any(map(is_refused, self.numbers(transaction))):
                return bolt_proxy.fail_with("Neo.ClientError.Statement.ArgumentError")(transaction)
            return transaction.forward()

        acts: dict[str, bolt_proxy.Act] = {
            "slow": bolt_proxy.hold,
            "refusing": bolt_proxy.fail_with("Neo.ClientError.Security.Forbidden"),
            "throttling": bolt_proxy.fail_with("Neo.TransientError.Transaction.MaximumTransactionLimitReached"),
            "in-part": refuse,
            "answer-lost": bolt_proxy.lose_the_answer,
        }
        return acts[fault]

    def see_who_was_asked(self, fault: Fault, cell: Cell, kinds: Mapping[int, str], asked: Counter[int]) -> None:
        if fault != "in-part":
            return super().see_who_was_asked(fault, cell, kinds, asked)
        return _see_that_it_was_halved(asked)

    def there(self) -> Counter[int]:
        rows = self.cloud.graph.run(f"MATCH (n:`{self.cloud.graph.label}`) RETURN n.item AS item")
        return Counter(_n_of(row["item"].encode()) for row in rows)


class OfGraphMatching(OfGraph):
    """A relationship for each item, of a node that is there."""

    manner, options = "match", {"ends": "match"}

    def made(self) -> Any:
        label = f"Hub{self.tag}"
        self.cloud.graph.run(f"CREATE (:{label} {{item: 0}})")
        self.hub = label, {"item": 0}
        return super().made()

    def write_of(self, n: int) -> Write:
        made: Write = self.target.relationship(self.hub, "HAS", self.hub, key={"item": f"item-{n}-"})
        return made

    def there(self) -> Counter[int]:
        rows = self.cloud.graph.run(f"MATCH (:{self.hub[0]})-[r:HAS]->() RETURN r.item AS item")
        return Counter(_n_of(row["item"].encode()) for row in rows)


#: A sink that is new gets its row here: subclass SinkRow, name its proxy, and how its service says no (``dialects.py``).
SINKS: Sequence[type[SinkRow]] = (
    OfBigQuery,
    OfBigQueryDefaultStream,
    OfBigQueryExactlyOnce,
    OfCloudSearch,
    OfCloudSearchWithVersions,
    OfCloudWatchMetrics,
    OfEventBridge,
    OfGraph,
    OfGraphMatching,
    OfKinesis,
    OfLambda,
    OfLambdaAwaited,
    OfLogsDocuments,
    OfLogsMetrics,
    OfOpenSearch,
    OfS3,
    OfSns,
    OfSnsInGroups,
    OfSqs,
    OfSqsInGroups,
)

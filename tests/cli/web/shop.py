"""What the console is looked at with: streams and queues of moto, and letters that real handlers have made of real events."""

from __future__ import annotations

import http.client
import json
import subprocess
from typing import Any
from urllib.parse import urlsplit

from streamkit import Divert, Park, Record, RecordProcessor, Reject, lambda_handler
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import kinesis_event

__all__ = ["HOSTILE", "Console", "Shop"]

#: Runs where a page makes markup of it.
HOSTILE = "<script>window.harmed=1</script><img src=x onerror='window.harmed=1'>"


class Shop:
    """``stream``, ``retries``, ``dead`` and ``ledger`` are names; the queues' clients are the shop's own."""

    def __init__(self, kinesis: Any, sqs: Any, dynamodb: Any, name: str) -> None:
        self.kinesis, self.sqs = kinesis, sqs
        self._failed = 0
        self.stream, self.retries, self.dead = f"shop-{name}", f"retries-{name}", f"dead-{name}"
        kinesis.create_stream(StreamName=self.stream, ShardCount=2)
        kinesis.get_waiter("stream_exists").wait(StreamName=self.stream, WaiterConfig={"Delay": 1})
        self.retries_url: str = sqs.create_queue(QueueName=self.retries)["QueueUrl"]
        self.dead_url: str = sqs.create_queue(QueueName=self.dead)["QueueUrl"]
        self.parked_url: str = sqs.create_queue(QueueName=f"parked-{name}.fifo", Attributes={"FifoQueue": "true"})[
            "QueueUrl"
        ]
        self._ledger = DynamoDbLedger(f"ledger-{name}", client=dynamodb)
        self._ledger.create_table()
        self.ledger = self._ledger.table

    def arguments(self) -> list[str]:
        return [self.stream, "--retry-queue", self.retries, "--dead-letters", self.dead]

    def fail(
        self, *payloads: str | bytes, key: str = "customer-1", processor: str = "orders", again: bool = False
    ) -> None:
        """A handler rejects records with these payloads: each is a dead letter then, whose error quotes it.

        ``again``: they are the records of the last call, which another processor rejects.
        """
        retries, dead = SqsQueue(self.retries_url, client=self.sqs), SqsQueue(self.dead_url, client=self.sqs)

        class Orders(RecordProcessor):
            name = processor
            on_failure = Divert(retries, dead_letters=dead)

            def process(self, record: Record) -> None:
                raise Reject(f"no order: {record.data.decode('utf-8', 'replace')[:200]}")

        if again:
            self._failed -= len(payloads)
        event = kinesis_event(
            list(payloads), partition_keys=[key] * len(payloads), stream=self.stream, start=10**55 + self._failed
        )
        self._failed += len(payloads)
        assert lambda_handler(Orders)(event, None) == {"batchItemFailures": []}

    def park(self, *keys: str) -> None:
        """A handler fails on a record of each of these keys, and holds the keys aside."""
        queue, ledger = SqsQueue(self.parked_url, client=self.sqs), self._ledger

        class Orders(RecordProcessor):
            name = "orders"
            on_failure = Park(queue, ledger)

            def process(self, record: Record) -> None:
                raise ValueError("not now")

        event = kinesis_event([b"{}"] * len(keys), partition_keys=list(keys), stream=self.stream)
        assert lambda_handler(Orders)(event, None) == {"batchItemFailures": []}

    def put(self, count: int) -> None:
        records = [{"Data": json.dumps({"id": n}), "PartitionKey": str(n)} for n in range(count)]
        self.kinesis.put_records(StreamName=self.stream, Records=records)

    def keys(self) -> list[str]:
        """A partition key for each shard."""
        found: dict[str, str] = {}
        for n in range(100):
            answer = self.kinesis.put_record(StreamName=self.stream, Data=b"{}", PartitionKey=str(n))
            found.setdefault(answer["ShardId"], str(n))
            if len(found) == 2:
                return list(found.values())
        raise AssertionError("a shard gets no record")

    def held(self, url: str) -> int:
        """How many messages somebody has in hand."""
        name = "ApproximateNumberOfMessagesNotVisible"
        return int(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def depth(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        facts = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(facts[name]) for name in names)


class Console:
    """The command as it runs."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.port = urlsplit(url).port or 0
        self.token = url.partition("#token=")[2]
        self.dead = ""

    def request(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str | None] | None = None
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """Status, body (of JSON, what it says) and headers. A header that is None is not sent."""
        wanted: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}",
            "X-Streamkit-Token": self.token,
            "Content-Type": "application/json",
            **(headers or {}),
        }
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in wanted.items():
                if value is not None:
                    connection.putheader(name, value)
            if data is not None and "Content-Length" not in wanted:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            raw = answer.read()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(raw) if is_json and raw else raw, answer.headers
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, said, _ = self.request("GET", path)
        assert status == 200, said
        return said

    def post(self, path: str, body: Any) -> Any:
        status, said, _ = self.request("POST", path, body)
        assert status == 200, said
        return said

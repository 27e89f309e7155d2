"""OpenTelemetry's spans, by its real SDK; and that nothing of it is there where nobody asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import streamkit
from streamkit import Divert, Record, RecordProcessor, Write, correlation, lambda_handler
from streamkit.correlation import onward
from streamkit.correlation.opentelemetry import traced
from streamkit.fanout import FanOut
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event

ROOT = Path(streamkit.__file__).parent.parent


def sender(n: int) -> str:
    return f"00-{n:032x}-{n:016x}-01"


def payload(n: int) -> dict[str, Any]:
    return {"__context__": {"x-correlation-id": f"r-{n}", "traceparent": sender(n)}, "n": n}


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[trace.Tracer]:
    monkeypatch.setattr(onward, "_sources", [])
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    yield provider.get_tracer("test")
    provider.shutdown()


class Orders(RecordProcessor):
    name = "orders"
    on_failure = Divert(MemoryQueue())

    def __init__(self) -> None:
        self.sent: list[str | None] = []
        self.sink = MemorySink()

    def process(self, record: Record) -> Iterator[Write]:
        self.sent.append(correlation.headers().get("traceparent"))
        yield self.sink.item(1)
        if record.json()["n"] == 2:
            raise ValueError("no")


def context_of(span: ReadableSpan) -> trace.SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


@pytest.mark.parametrize("threads", [1, 2])
def test_each_record_continues_its_trace_and_the_batch_is_linked_to_all(
    tracer: trace.Tracer, spans: InMemorySpanExporter, threads: int
) -> None:
    processor = Orders()
    processor.concurrency = threads

    traced(lambda_handler(processor), tracer)(kinesis_event([payload(n) for n in (1, 2, 3)]))

    *records, batch = spans.get_finished_spans()
    assert batch.name == "process orders"
    assert [link.context.trace_id for link in batch.links] == [1, 2, 3]
    assert (batch.attributes or {})["messaging.batch.message_count"] == 3
    assert sorted(context_of(record).trace_id for record in records) == [1, 2, 3]
    for record in records:
        assert record.parent is not None
        assert record.parent.span_id == context_of(record).trace_id
        assert [link.context.span_id for link in record.links] == [context_of(batch).span_id]
        assert (record.attributes or {})["messaging.message.conversation_id"] == f"r-{record.parent.span_id}"
    failed = [record for record in records if not record.status.is_ok and record.status.description]
    assert [context_of(record).trace_id for record in failed] == [2]
    assert len(processor.sink.items) == 2


def test_each_branch_of_a_fan_out_has_spans_of_its_own(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    first, second = Orders(), Orders()
    first.name, second.name = "first", "second"

    traced(lambda_handler(FanOut(first, second, name="both")), tracer)(kinesis_event([payload(1), payload(3)]))

    *records, batch = spans.get_finished_spans()
    assert [link.context.trace_id for link in batch.links] == [1, 3]
    assert [context_of(record).trace_id for record in records] == [1, 3, 1, 3]
    assert {record.parent.span_id for record in records if record.parent} == {1, 3}


def test_what_goes_onward_is_the_span_of_the_record(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    processor = Orders()

    traced(lambda_handler(processor), tracer)(kinesis_event([payload(1)]))

    record, _ = spans.get_finished_spans()
    assert processor.sent == [f"00-{1:032x}-{context_of(record).span_id:016x}-01"]


def test_a_record_without_a_trace_is_part_of_the_batchs(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    traced(lambda_handler(Orders()), tracer)(kinesis_event([{"n": 1}]))

    record, batch = spans.get_finished_spans()
    assert record.parent is not None
    assert record.parent.span_id == context_of(batch).span_id
    assert batch.links == ()


def test_of_a_large_batch_the_first_128_senders_are_linked(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    traced(lambda_handler(Orders()), tracer)(kinesis_event([payload(n) for n in range(3, 203)]))

    assert [link.context.trace_id for link in spans.get_finished_spans()[-1].links] == list(range(3, 131))


def test_an_event_that_is_none_is_an_error_of_the_span(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    with pytest.raises(streamkit.StreamkitError):
        traced(lambda_handler(Orders()), tracer)({"unknown": 1})

    (batch,) = spans.get_finished_spans()
    assert not batch.status.is_ok


USE = """
import json, logging, sys
import streamkit
from streamkit import correlation

class Orders(streamkit.RecordProcessor):
    def process(self, record):
        logging.getLogger("mine").error("hello")

logging.basicConfig(format="%(correlation_id)s")
correlation.log_to(logging.getLogger())
handler = streamkit.lambda_handler(Orders)
assert handler(json.loads(sys.argv[1]), None) == {"batchItemFailures": []}
print("\\n".join(sys.modules))
"""


def test_a_function_that_logs_what_is_followed_imports_nothing_of_it_nor_of_any_client() -> None:
    event = json.dumps(kinesis_event([payload(1)]))

    ran = subprocess.run(
        [sys.executable, "-c", USE, event], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )

    assert ran.stderr == "r-1\n"
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert "streamkit.correlation.capture" in ran.stdout.split()
    assert not loaded & {
        "opentelemetry",
        "boto3",
        "botocore",
        "requests",
        "httpx",
        "structlog",
        "aws_lambda_powertools",
    }

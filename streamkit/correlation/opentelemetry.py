"""OpenTelemetry spans of batches and their records: ``handler = traced(lambda_handler(Orders))``.

    process orders            one span for an invocation, linked to what sent each of its records (the first 128)
    └─ work, onward calls …
    process orders record     one for each record: it continues the trace that the record came with, and is linked to the batch.
                              Without one it is a child of the batch's span

While a record's span is open it is what goes onward. Needs ``pip install kinesis-streamkit[opentelemetry]``, and an SDK that you
set up; nothing imports this module but who asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import context as contexts
    from opentelemetry import trace
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "streamkit.correlation.opentelemetry needs: pip install kinesis-streamkit[opentelemetry]"
    ) from error

from ..record import Record
from .context import of
from .onward import trace_by

if TYPE_CHECKING:
    from ..event import Batch
    from ..handler import Handler

__all__ = ["Invocation", "Tracing", "traced"]

Process = Callable[[Record], Any]

_SYSTEMS = {"kinesis": "aws.kinesis", "sqs": "aws_sqs", "sns": "aws.sns"}
# What the SDK keeps of a span's links where nothing else is set.
_MOST_LINKS = 128


def traced(handler: Handler, tracer: trace.Tracer | None = None) -> Handler:
    """Let ``handler`` make spans, by ``tracer`` or the global provider's, and return it."""
    trace_by(open_span)
    handler.tracing = Tracing(tracer or trace.get_tracer("streamkit"))
    return handler


class Tracing:
    """What makes the spans of a handler's invocations."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def invocation(self, processor: str) -> Iterator[Invocation]:
        """The span of one invocation. Its links are added when its records are decoded, which a sampler does not see."""
        with self._tracer.start_as_current_span(f"process {processor}", kind=trace.SpanKind.CONSUMER) as span:
            yield Invocation(self._tracer, processor, span)


class Invocation:
    """An invocation that has a span."""

    def __init__(self, tracer: trace.Tracer, processor: str, span: trace.Span) -> None:
        self._tracer = tracer
        self._span_name = f"process {processor} record"
        self._span = span
        # Threads of a batch begin with a context of their own.
        self._context = contexts.get_current()
        # By span id: each branch of a FanOut brings the same records.
        self._linked: set[int] = set()

    def around(self, process: Process, batch: Batch) -> Process:
        """Link the invocation to what sent its records, and put a span around ``process``."""
        if batch.source in _SYSTEMS:  # S3 is no messaging system.
            self._span.set_attribute("messaging.system", _SYSTEMS[batch.source])
        self._span.set_attribute("messaging.operation.type", "process")
        self._span.set_attribute("messaging.batch.message_count", len(batch.records))
        for sender in _senders(batch.records):
            if sender.span_id not in self._linked:
                self._linked.add(sender.span_id)
                self._span.add_link(sender)

        def in_span(record: Record) -> Any:
            with self._record_span(record):
                result = process(record)
                # A generator works while it is exhausted, and that is to be within the span.
                return list(result) if isinstance(result, Iterator) else result

        return in_span

    def _record_span(self, record: Record) -> AbstractContextManager[trace.Span]:
        attributes = {"messaging.message.id": record.event_id, "messaging.message.conversation_id": of(record).id}
        sender = _sender(record)
        if sender is None:
            start, links = self._context, []
        else:
            start = trace.set_span_in_context(trace.NonRecordingSpan(sender), self._context)
            links = [trace.Link(self._span.get_span_context())]
        return self._tracer.start_as_current_span(
            self._span_name, start, trace.SpanKind.CONSUMER, attributes=attributes, links=links
        )


def open_span() -> tuple[str, str | None] | None:
    """The traceparent and the tracestate of the span that is open."""
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    parent = (
        f"00-{trace.format_trace_id(found.trace_id)}-{trace.format_span_id(found.span_id)}-{found.trace_flags & 1:02x}"
    )
    return parent, found.trace_state.to_header() or None


def _senders(records: Sequence[Record]) -> list[trace.SpanContext]:
    found: list[trace.SpanContext] = []
    for record in records:
        if len(found) == _MOST_LINKS:
            break
        if (sender := _sender(record)) is not None:
            found.append(sender)
    return found


def _sender(record: Record) -> trace.SpanContext | None:
    """The span that a record was sent in."""
    correlation = of(record)
    if correlation.traceparent is None:
        return None
    _, trace_id, span_id, flags = correlation.traceparent.split("-")
    state = trace.TraceState.from_header([correlation.tracestate] if correlation.tracestate else [])
    return trace.SpanContext(int(trace_id, 16), int(span_id, 16), True, trace.TraceFlags(int(flags, 16)), state)

"""The sink of documents and metrics of log lines: metrics go out last, since they alone can't be repeated without harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..errors import ConfigurationError
from ..sinks.base import NotAsked, Refusal, RefusalKind, Sink, Write
from ..sinks.cloudwatch_metrics import CloudWatchMetricsSink, Value
from ..sinks.opensearch import OpenSearchSink

__all__ = ["LogSink"]


class LogSink(Sink):
    """Documents to ``documents``, then metrics to ``metrics``; either may be None.

    A document that comes again takes the place of itself, and a metric that comes again counts twice. So in each request

    1. the documents are written;
    2. the metrics of those records are put of which no document has failed. The others' are refused as the gravest of the
       record's documents is, ``unavailable`` or ``failed``: they change nothing of what becomes of the record.

    A document that can never be taken (``invalid``) holds no metric up: its record does not come again where there are dead
    letters. What is left of at least once: a record of more than ``request_writes`` lines, of which the first metrics are put
    before the last documents fail; an answer of CloudWatch's that is lost; and a function that ends between the two.
    """

    request_writes: ClassVar[int] = 5000
    request_bytes: ClassVar[int | None] = OpenSearchSink.request_bytes

    def __init__(self, documents: OpenSearchSink | None, metrics: CloudWatchMetricsSink | None) -> None:
        if documents is None and metrics is None:
            raise ConfigurationError("LogSink has nowhere to write to: give it documents, metrics, or both")
        self.documents = documents
        self.metrics = metrics

    def document(self, id: str | int, fields: Mapping[str, Any], *, index: str) -> Write:  # noqa: A002  # The service's word.
        """A document, as ``OpenSearchSink`` has it. ConfigurationError where there are no documents."""
        if self.documents is None:
            raise ConfigurationError("LogSink(documents) is None: it takes no document")
        return self._own(self.documents.document(id, fields, index=index))

    def value(self, name: str, value: float, **options: Any) -> Write:
        """A value, as ``CloudWatchMetricsSink`` has it. ConfigurationError where there are no metrics."""
        if self.metrics is None:
            raise ConfigurationError("LogSink(metrics) is None: it takes no metric")
        return self._own(self.metrics.value(name, value, **options))

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``, and the class for the order."""
        values = [write for write in writes if isinstance(write.payload, Value)]
        documents = [write for write in writes if not isinstance(write.payload, Value)]
        refusals: list[Refusal] = []
        if documents and self.documents is not None:
            refusals += self.documents.write(documents, deadline=deadline)
        waiting: dict[str, RefusalKind] = {}
        for refusal in refusals:
            # The graver of both is "unavailable".
            if refusal.kind != "invalid" and waiting.get(refusal.write.event_id) != "unavailable":
                waiting[refusal.write.event_id] = refusal.kind
        ready: list[Write] = []
        for write in values:
            kind = waiting.get(write.event_id) if waiting else None
            if kind is None:
                ready.append(write)
            else:
                refusals.append(Refusal(write, NotAsked("its metrics wait until its documents are taken"), kind))
        if ready and self.metrics is not None:
            refusals += self.metrics.write(ready, deadline=deadline)
        return refusals

    def close(self) -> None:
        for sink in (self.documents, self.metrics):
            if sink is not None:
                sink.close()

    def _own(self, write: Write) -> Write:
        write.sink = self
        return write

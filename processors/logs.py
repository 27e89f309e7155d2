"""What subscriptions of CloudWatch Logs deliver becomes documents of OpenSearch or Elasticsearch, and metrics of CloudWatch.

Deploy it with the handler ``processors.logs.handler`` behind subscription filters (``processors.log_subscriber`` makes them for
new log groups by itself), or behind a Kinesis stream that they deliver to; or subclass ``LogsProcessor`` and override
``document``. Set up by

    SEARCH_ENDPOINT          the endpoint of the domain or the server; without it there are metrics only
    SEARCH_AUTHORIZATION     the path of a SecureString in SSM, as /shop/search/authorization, that holds the header of that name
                             ("ApiKey …"); by default requests are signed for Amazon's domains with the role's credentials
    INDEX_PREFIX             default "lambda-logs": a line of 30 November 2026 is in lambda-logs-2026.11.30
    FLAT_TYPE                the type of fields of any name: "flat_object" by default; "flattened" for Elasticsearch
    LEAVE_OUT                kinds of lines of which no document is made, with commas between: "start,end,extension". Default none
    METRICS                  "off" for documents only; default "on"
    METRICS_NAMESPACE        of what Lambda reports of invocations; default "streamkit/logs"
    CUSTOM_NAMESPACE         of MONITORING lines; default "streamkit/custom"
    REPORT_METRICS           which of Lambda's are put, with commas between: "BilledDuration,ColdStarts". Default all
    METRIC_TAGS              tags of MONITORING lines that become dimensions, with commas between; default all, 30 at most
    MOST_BYTES               the most that a record may have unpacked; default 67108864
    PROCESSOR_NAME           default "logs"; persistent
    RETRY_QUEUE_URL          SQS, and a trigger of this function
    DEAD_LETTER_QUEUE_URL    SQS; what can never be taken goes there, and without it holds up all metrics of its delivery

They are read at the first invocation. docs/logs.md has what becomes of a line, and what can be counted twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from streamkit import Record, Reject, Write, lambda_handler, metrics
from streamkit.errors import ConfigurationError
from streamkit.logs.delivery import MOST_BYTES, deliveries_of
from streamkit.logs.document import PREFIX, document_of, index_of, template_name, template_of
from streamkit.logs.measures import REPORTED, Measure, measures_in
from streamkit.logs.own import is_own
from streamkit.logs.reading import Logged, logged_in
from streamkit.logs.sink import LogSink
from streamkit.sinks.cloudwatch_metrics import CloudWatchMetricsSink, checked_namespace
from streamkit.sinks.opensearch import OpenSearchSink

from .base import EventProcessor
from .settings import named, whole_number

__all__ = ["LogsProcessor", "handler"]

_KINDS = ("start", "end", "report", "init", "timeout", "extension", "platform", "metric", "message")
_FLAT_TYPES = ("flat_object", "flattened")


class LogsProcessor(EventProcessor):
    """Override ``document`` for documents of another form."""

    name = "logs"
    # Documents have ids, and metrics times.
    ordering = "none"

    def __init__(self) -> None:
        super().__init__()
        self.prefix = os.environ.get("INDEX_PREFIX") or PREFIX
        self.left_out = frozenset(_chosen("LEAVE_OUT", _KINDS))
        self.most_bytes = whole_number("MOST_BYTES", MOST_BYTES, least=1)
        self.measures = frozenset(_chosen("REPORT_METRICS", REPORTED) or REPORTED)
        tags = os.environ.get("METRIC_TAGS")
        self.tags = None if not tags else frozenset(_listed(tags))
        with named("CUSTOM_NAMESPACE"):
            self.custom_namespace = checked_namespace(os.environ.get("CUSTOM_NAMESPACE") or "streamkit/custom")
        documents, values = self._documents(), self._metrics()
        with named("SEARCH_ENDPOINT", "METRICS"):
            self.logs = LogSink(documents, values)
        self.logs.owner = f"{type(self).__name__}.logs"

    def document(self, logged: Logged) -> dict[str, Any] | None:
        """The fields of a line's document; None for no document."""
        return None if logged.line.kind in self.left_out else document_of(logged)

    def process(self, record: Record) -> Iterator[Write]:
        for delivery in deliveries_of(record, self.most_bytes):
            if delivery.is_data and not is_own(delivery):
                for logged in logged_in(delivery):
                    yield from self._writes(logged)

    def _writes(self, logged: Logged) -> Iterator[Write]:
        if self.logs.documents is not None:
            fields = self.document(logged)
            if fields is not None:
                index = index_of(self.prefix, logged.event.timestamp)
                yield self.logs.document(logged.event.id, fields, index=index)
        if self.logs.metrics is not None:
            for measure in measures_in(logged):
                if measure.is_custom or measure.name in self.measures:
                    write = self._value(self.logs.metrics, measure)
                    if write is not None:
                        yield write

    def _value(self, sink: CloudWatchMetricsSink, measure: Measure) -> Write | None:
        """The write of a measure; None where CloudWatch could never take it: its line is a document all the same."""
        if not sink.takes(measure.time):
            metrics.count("logs.metrics_too_old")
            return None
        dimensions = measure.dimensions
        if measure.is_custom and self.tags is not None:
            dimensions = {name: value for name, value in dimensions.items() if name in self.tags}
        try:
            return self.logs.value(
                measure.name,
                measure.value,
                unit=measure.unit,
                dimensions=dimensions,
                time=measure.time,
                namespace=self.custom_namespace if measure.is_custom else None,
            )
        except Reject:
            metrics.count("logs.metrics_invalid")
            return None

    def _documents(self) -> OpenSearchSink | None:
        if not os.environ.get("SEARCH_ENDPOINT"):
            return None
        flat = os.environ.get("FLAT_TYPE") or _FLAT_TYPES[0]
        if flat not in _FLAT_TYPES:
            raise ConfigurationError(f"FLAT_TYPE is one of {', '.join(_FLAT_TYPES)}; got {flat!r}")
        authorization = _authorization()
        with named("INDEX_PREFIX"):
            sink = OpenSearchSink.from_env(
                "SEARCH_ENDPOINT",
                self.prefix,
                template=template_of(self.prefix, flat=flat),
                template_name=template_name(self.prefix),
                authorization=authorization,
            )
        sink.owner = f"{type(self).__name__}.logs.documents"
        return sink

    def _metrics(self) -> CloudWatchMetricsSink | None:
        setting = os.environ.get("METRICS") or "on"
        if setting not in ("on", "off"):
            raise ConfigurationError(f"METRICS is on or off; got {setting!r}")
        if setting == "off":
            return None
        with named("METRICS_NAMESPACE"):
            return CloudWatchMetricsSink(os.environ.get("METRICS_NAMESPACE") or "streamkit/logs")


def _authorization() -> Callable[[], str] | None:
    """What gives the header's value; None where requests are signed."""
    path = os.environ.get("SEARCH_AUTHORIZATION")
    if not path:
        return None
    folder, _, name = path.rpartition("/")
    if not folder or not name:
        raise ConfigurationError(
            f"SEARCH_AUTHORIZATION is the path of a parameter of SSM's, as /shop/search/authorization; got {len(path)} "
            "characters that are none"
        )
    from streamkit.config import Config
    from streamkit.config.ssm import SsmParameters

    setting = Config(SsmParameters(folder)).secret(name)
    return lambda: setting.value.reveal()


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _chosen(variable: str, known: tuple[str, ...]) -> list[str]:
    chosen = _listed(os.environ.get(variable) or "")
    unknown = [one for one in chosen if one not in known]
    if unknown:
        raise ConfigurationError(f"{variable} has {unknown[0]!r}: there are {', '.join(known)}")
    return chosen


handler = lambda_handler(LogsProcessor)

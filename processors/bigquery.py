"""Each event of a stream becomes a row of a BigQuery table.

Deploy it with the handler ``processors.bigquery.handler``, or subclass ``BigQueryProcessor`` and override ``row``. Set up by

    BIGQUERY_TABLE           required: dataset.table or project.dataset.table
    ROW                      JSON, column → path of a field in the event: {"origin": "origin", "city": "address.city"}.
                             Default: the event is the row, {"*": ""}
    PROCESSOR_NAME           default "bigquery"; persistent, for rows are deduped by it
    RETRY_QUEUE_URL          SQS; without it a failed event holds its shard
    DEAD_LETTER_QUEUE_URL    SQS; without it nothing is ever given up

They are read at the first invocation. An event without a field that ``ROW`` names is tried again as any that fails, since
the mapping may be what is wrong; what is no JSON object, and a row that BigQuery finds invalid, go to dead letters at once.
``processors.bigquery_exactly_once`` writes each row exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamkit import Record, Write, lambda_handler
from streamkit.sinks.bigquery import BigQuerySink

from .base import EventProcessor
from .mapping import FieldMapping

__all__ = ["BigQueryProcessor", "handler"]


class BigQueryProcessor(EventProcessor):
    """Override ``row`` to make it of the event in a way that no mapping can say."""

    name = "bigquery"
    warehouse = BigQuerySink.from_env("BIGQUERY_TABLE")

    def __init__(self) -> None:
        super().__init__()
        self.mapping = FieldMapping.from_env("ROW")

    def row(self, record: Record) -> Mapping[str, Any]:
        """The row's columns. Raise ``Reject`` for an event that has no row."""
        return self.mapping.of(self.event(record))

    def process(self, record: Record) -> Iterator[Write]:
        yield self.warehouse.row(self.row(record))


handler = lambda_handler(BigQueryProcessor)

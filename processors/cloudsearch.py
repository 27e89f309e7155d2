"""Each event of a stream becomes a document of a CloudSearch domain, in place of the one with its id.

Deploy it with the handler ``processors.cloudsearch.handler``, or subclass ``CloudSearchProcessor`` and override ``document``
(or ``process``, to yield ``self.search.removal(id)`` too, or ``search``, for a sink that checks fields or has versions:
docs/cloudsearch.md). Set up by

    SEARCH_ENDPOINT          required: the domain's document endpoint
    DOCUMENT_ID              path of the field in the event that is the document's id; default "id"
    DOCUMENT                 JSON, document field → path of a field in the event: {"name": "name", "city": "address.city"}.
                             Default: all fields of the event, {"*": ""}
    PARAMETERS               a path of SSM: without DOCUMENT, its parameter "document" is followed (docs/config.md)
    PROCESSOR_NAME           default "cloudsearch"; persistent
    RETRY_QUEUE_URL          SQS; without it a failed event holds its shard
    DEAD_LETTER_QUEUE_URL    SQS; without it nothing is ever given up

They are read at the first invocation. An event without a field that they name is tried again as any that fails, since the
setting may be what is wrong; what is no JSON object, and a document that CloudSearch can't take, go to dead letters at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from streamkit import Record, Write, lambda_handler
from streamkit.sinks.cloudsearch import CloudSearchSink

from .base import EventProcessor
from .mapping import field

__all__ = ["CloudSearchProcessor", "handler"]


class CloudSearchProcessor(EventProcessor):
    """Override ``document`` to make it of the event in a way that no mapping can say."""

    name = "cloudsearch"
    search = CloudSearchSink.from_env("SEARCH_ENDPOINT")

    def __init__(self) -> None:
        super().__init__()
        self.id_path = os.environ.get("DOCUMENT_ID") or "id"
        self.mapping = self.fields("DOCUMENT")

    def document(self, record: Record) -> tuple[str | int, Mapping[str, Any]]:
        """The document's id and its fields. Raise ``Reject`` for an event that has no document."""
        event = self.event(record)
        return field(event, self.id_path), self.mapping.of(event)

    def process(self, record: Record) -> Iterator[Write]:
        yield self.search.document(*self.document(record))


handler = lambda_handler(CloudSearchProcessor)

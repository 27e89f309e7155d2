"""Each event of a stream becomes a document of an OpenSearch index, in place of the one with its id.

Deploy it with the handler ``processors.opensearch.handler``, or subclass ``OpenSearchProcessor`` and override ``document``
(or ``process``, to yield ``self.search.removal(id)`` too). Set up by

    SEARCH_ENDPOINT          required: the endpoint of the domain, the collection or the server
    SEARCH_INDEX             required: the index
    DOCUMENT_ID              path of the field in the event that is the document's id; default "id"
    DOCUMENT_VERSION         path of the field that is its version, a whole number that grows with every change; default none
    DOCUMENT                 JSON, document field → path of a field in the event: {"name": "name", "city": "address.city"}.
                             Default: all fields of the event, {"*": ""}
    PARAMETERS               a path of SSM: without DOCUMENT, its parameter "document" is followed (docs/config.md)
    INDEX_TEMPLATE           JSON: an index template to put before the first write; default none
    PROCESSOR_NAME           default "opensearch"; persistent
    RETRY_QUEUE_URL          SQS; without it a failed event holds its shard
    DEAD_LETTER_QUEUE_URL    SQS; without it nothing is ever given up

They are read at the first invocation. An event without a field that they name is tried again as any that fails, since the
setting may be what is wrong; what is no JSON object, and a document that OpenSearch can't take, go to dead letters at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from streamkit import Record, Write, lambda_handler
from streamkit.aws import from_environment
from streamkit.errors import ConfigurationError
from streamkit.sinks.opensearch import OpenSearchSink

from .base import EventProcessor
from .mapping import field
from .settings import named

__all__ = ["OpenSearchProcessor", "handler"]


class OpenSearchProcessor(EventProcessor):
    """Override ``document`` to make it of the event in a way that no mapping can say."""

    name = "opensearch"

    def __init__(self) -> None:
        super().__init__()
        owner = type(self).__name__
        index = from_environment("SEARCH_INDEX", owner, "the index to write to")
        template = _template()
        with named("SEARCH_INDEX"):
            self.search = OpenSearchSink.from_env("SEARCH_ENDPOINT", index, template=template)
        self.search.owner = f"{owner}.search"
        self.id_path = os.environ.get("DOCUMENT_ID") or "id"
        self.version_path = os.environ.get("DOCUMENT_VERSION") or None
        self.mapping = self.fields("DOCUMENT")

    def document(self, record: Record) -> tuple[str | int, Mapping[str, Any]]:
        """The document's id and its fields. Raise ``Reject`` for an event that has no document."""
        event = self.event(record)
        return field(event, self.id_path), self.mapping.of(event)

    def version(self, record: Record) -> int | None:
        """The document's version, as ``DOCUMENT_VERSION`` says; None for none."""
        if self.version_path is None:
            return None
        version: int = field(self.event(record), self.version_path)
        return version

    def process(self, record: Record) -> Iterator[Write]:
        doc_id, fields = self.document(record)
        yield self.search.document(doc_id, fields, version=self.version(record))


def _template() -> dict[str, Any] | None:
    text = os.environ.get("INDEX_TEMPLATE")
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ConfigurationError(
            f"the environment variable INDEX_TEMPLATE holds an index template in JSON: {error}"
        ) from None


handler = lambda_handler(OpenSearchProcessor)

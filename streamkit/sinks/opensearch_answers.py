"""What an answer of OpenSearch's, or of Elasticsearch's, means for a write: the table of docs/opensearch.md.

The service's messages quote documents. Of them only names of the document's own fields and the type of the error are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ..errors import SinkError
from .aws import Trouble

__all__ = ["Operation", "of_item", "of_request"]


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One write as it stands in a bulk request: ``lines`` is the action and, but for a removal, the document."""

    index: str
    id: str
    routing: str | None
    version: int | None
    is_removal: bool
    lines: bytes

    @property
    def document(self) -> tuple[str, str, str | None]:
        """Which document it is of."""
        return self.index, self.id, self.routing


# Errors of what is in a document, whatever the cluster's settings.
_CONTENT = frozenset(
    {
        "mapper_parsing_exception",
        "document_parsing_exception",  # Elasticsearch 8's name for it.
        "strict_dynamic_mapping_exception",
        "parsing_exception",
        "parse_exception",
        "x_content_parse_exception",
        "json_parse_exception",
        "routing_missing_exception",
    }
)
# "illegal_argument_exception" says everything and nothing: how the messages of these begin tells them apart. Any other is left
# to the policy, so that a document is neither given up nor waited for by a guess.
_ILLEGAL_CONTENT = (
    "mapper [",
    "can't merge a",
    "object mapping",
    "Document contains at least one immense term",
    "The number of nested documents has exceeded",
)
_ILLEGAL_SET_UP = (
    "pipeline with id [",
    "no write index is defined for alias",
    "Alias [",
    "only write ops with an op_type of create are allowed in data streams",
    "explicit index in bulk is not allowed",
    "request [",  # … contains unrecognized parameter
    "Document ID is not supported in",  # OpenSearch Serverless: collections of time series and vectors.
)
_SET_UP = frozenset(
    {"index_closed_exception", "invalid_index_name_exception", "validation_exception", "invalid_alias_name_exception"}
)
_BLOCKS = frozenset({"cluster_block_exception", "index_create_block_exception"})
_TYPE = re.compile(r"[a-z_]{1,80}")
_FIELD_OF_TYPE = re.compile(r"failed to parse field \[(.+?)\] of type \[([a-z_0-9]{1,40})\]")
# Where the message goes on to quote the document.
_QUOTES = re.compile(
    r" in document with id |\. Preview of field's value| Original message| prefix of the first immense term"
)


def of_item(answer: Any, operation: Operation) -> Trouble | None:
    """What one item of a bulk answer means; None: the write is done."""
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, int):
        return Trouble(SinkError("OpenSearch's answer has an item without a status"), "unavailable", passes=True)
    if 200 <= status < 300:
        return None
    error = answer.get("error")
    kind, reason = _error(error)
    if status == 404 and operation.is_removal and (error is None or _is_gone(kind, operation)):
        return None
    if status == 409 and kind == "version_conflict_engine_exception" and operation.version is not None:
        return None  # What is there is of a later version: this is a repeat, or it has arrived late.
    said = f"HTTP {status}, {kind}"
    if kind in _BLOCKS:
        return _blocked(status, said)
    if status == 429 or status >= 500:
        return Trouble(SinkError(f"OpenSearch did not take the write ({said})"), "unavailable", passes=True)
    if status in (401, 403):
        return Trouble(SinkError(_let_in(said)), "unavailable")
    if status == 404:
        return Trouble(
            SinkError(
                f"there is no such index ({said}): create it, or let writes create it (action.auto_create_index)"
            ),
            "unavailable",
        )
    if status == 400:
        return _bad_request(kind, reason, said, operation)
    if status == 409:
        return Trouble(SinkError(f"OpenSearch found a conflict though no version was given ({said})"), "failed")
    return Trouble(SinkError(f"OpenSearch did not take the write ({said})"), "failed")


def of_request(status: int, content: Any) -> Trouble:
    """What it means that a whole request was answered by this status, which is none of 200 to 299.

    A kind of ``invalid`` or ``failed`` is for a request of one write. Of several, one may be at fault: ask for each half.
    """
    kind, reason = _error(content.get("error") if isinstance(content, dict) else None)
    said = f"HTTP {status}, {kind}" if kind != _UNKNOWN else f"HTTP {status}"
    if kind in _BLOCKS:
        return _blocked(status, said)
    if status in (408, 429) or status >= 500:
        return Trouble(SinkError(f"OpenSearch did not take the request ({said})"), "unavailable", passes=True)
    if status == 413:
        return Trouble(SinkError(f"OpenSearch takes no request as large as this document ({said})"), "invalid")
    if status in (401, 403):
        return Trouble(SinkError(_let_in(said)), "unavailable")
    if status == 404:
        return Trouble(
            SinkError(f"nothing there takes bulk requests ({said}): is the endpoint OpenSearch's?"), "unavailable"
        )
    # Without an error of OpenSearch's it is of something in front of it, and no document is at fault.
    if status == 400 and kind != _UNKNOWN and not reason.startswith(_ILLEGAL_SET_UP):
        return Trouble(SinkError(f"OpenSearch did not understand the request ({said})"), "failed")
    return Trouble(SinkError(f"OpenSearch did not take the request ({said}): how is it set up?"), "unavailable")


_UNKNOWN = "an error without a type"


def _error(error: Any) -> tuple[str, str]:
    """The type, and the reason, which is not to be shown."""
    if not isinstance(error, dict):
        return _UNKNOWN, ""
    kind = str(error.get("type"))
    return kind if _TYPE.fullmatch(kind) else _UNKNOWN, str(error.get("reason"))


def _is_gone(kind: str, operation: Operation) -> bool:
    """No index, no document. But a removal's version is to be remembered, and there is nothing to remember it."""
    return kind == "index_not_found_exception" and operation.version is None


def _blocked(status: int, said: str) -> Trouble:
    what = "its writes are blocked, as they are when a disk is nearly full: free space, or lift the block"
    # 503 is a cluster that is starting, or has lost its manager.
    return Trouble(
        SinkError(f"OpenSearch does not take the write ({said}): {what}"), "unavailable", passes=status == 503
    )


def _let_in(said: str) -> str:
    return (
        f"OpenSearch does not let this function in ({said}): allow its role es:ESHttpPost (and es:ESHttpPut, for a template) on "
        "the domain, or in Serverless aoss:APIAccessAll and the collection's data access policy; or is its password another?"
    )


def _bad_request(kind: str, reason: str, said: str, operation: Operation) -> Trouble:
    is_illegal = kind == "illegal_argument_exception"
    if kind in _CONTENT or (is_illegal and reason.startswith(_ILLEGAL_CONTENT)):
        return Trouble(SinkError(f"OpenSearch refused the document{_over(reason, operation)} ({said})"), "invalid")
    if kind in _SET_UP or (is_illegal and reason.startswith(_ILLEGAL_SET_UP)):
        error = SinkError(f"OpenSearch does not take the write as the index {operation.index!r} is set up ({said})")
        return Trouble(error, "unavailable")
    return Trouble(SinkError(f"OpenSearch refused the document{_over(reason, operation)} ({said})"), "failed")


def _over(reason: str, operation: Operation) -> str:
    """`` over its field 'n', of the type long``; empty where the reason names none of the document's fields."""
    if operation.is_removal:
        return ""
    try:
        names = set(_names(msgspec.json.decode(operation.lines.split(b"\n")[1])))
    except (ValueError, RecursionError):
        # What can't be read back, as 1E+400, may be the reason itself.
        return ""
    parsed = _FIELD_OF_TYPE.search(reason)
    if parsed and parsed[1] in names:
        return f" over its field {parsed[1]!r}, which the index has as the type {parsed[2]}"
    said = _QUOTES.split(reason)[0]
    named = sorted((name for name in names if f"[{name}]" in said or f'"{name}"' in said), key=said.find)
    return f" over its field {', '.join(map(repr, named[:5]))}" if named else ""


def _names(value: Any, path: str = "") -> Iterator[str]:
    """The names of all fields, alone and with the path to them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            whole = f"{path}.{name}" if path else name
            yield name
            yield whole
            yield from _names(inner, whole)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner, path)

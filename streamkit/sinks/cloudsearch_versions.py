"""Which version of a document a CloudSearch domain holds. The service has no versions: they are a field, which a search shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .base import Write

__all__ = ["HeldVersions", "queries", "versions_shown"]

# Versions that are remembered, of the ids that were written last: two full requests, about 2 MB.
_REMEMBERED = 10_000
# Bytes of one search's query. The guide's limit of a request, 8,190 bytes, is of those whose query is in the address;
# boto3's is in the body, for which the guide has none.
_QUERY_BYTES = 7000


class HeldVersions:
    """The versions that the domain holds, as far as that can be told: what it shows, and what was sent from here lately."""

    def __init__(self) -> None:
        self._sent: dict[str, int] = {}

    def sent(self, batch: Iterable[Write]) -> None:
        """The service has taken these."""
        for write in batch:
            doc_id, version = write.payload.id, write.payload.version
            # Last in the dictionary is the one sent last.
            before = self._sent.pop(doc_id, -1)
            if version is not None:
                self._sent[doc_id] = max(before, version)
        while len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def known(self, shown: Mapping[str, int], ids: Iterable[str]) -> dict[str, int]:
        """The highest version known of each id, given what the domain shows; ids of which nothing is known are not there."""
        known = dict(shown)
        for doc_id in ids:
            if doc_id in self._sent:
                known[doc_id] = max(known.get(doc_id, -1), self._sent[doc_id])
        return known


def queries(ids: Iterable[str]) -> list[tuple[list[str], str]]:
    """Searches, in the structured syntax, that find all documents with these ids: the ids of each, and its query."""
    # An id has no character that a query would have to escape.
    found: list[tuple[list[str], str]] = []
    held: list[str] = []
    size = 0
    for doc_id in ids:
        size += len(doc_id) + 7
        if held and size > _QUERY_BYTES:
            found.append((held, _any_of(held)))
            held, size = [], len(doc_id) + 7
        held.append(doc_id)
    return [*found, (held, _any_of(held))] if held else found


def _any_of(ids: Sequence[str]) -> str:
    terms = " ".join(f"_id:'{doc_id}'" for doc_id in ids)
    return f"(or {terms})" if len(ids) > 1 else terms


def versions_shown(hits: Iterable[Mapping[str, Any]], field: str) -> dict[str, int]:
    """The versions in a search's hits, whose fields are lists of text."""
    return {hit["id"]: int(hit["fields"][field][0]) for hit in hits if hit.get("fields", {}).get(field)}

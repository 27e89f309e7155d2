"""A graph of a test's own, in the database that all tests share: under a label that is nobody else's."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

import neo4j

from streamkit.sinks.graph import GraphSink

if TYPE_CHECKING:
    from local_graph import GraphServer

__all__ = ["Graph"]


class Graph:
    """Straight to the server. Use it as a context."""

    def __init__(self, server: GraphServer) -> None:
        self.server = server
        self.label = f"L{uuid.uuid4().hex}"
        self.auth = server.user, server.password

    def __enter__(self) -> Self:
        self._driver = neo4j.GraphDatabase.driver(self.server.url, auth=self.auth)
        return self

    def __exit__(self, *error: object) -> None:
        self._driver.close()

    def run(self, text: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows that a statement answers."""
        records, _, _ = self._driver.execute_query(text, parameters, database_=self.server.database)
        return [record.data() for record in records]

    def sink(self, url: str = "", **options: Any) -> GraphSink:
        options = {"auth": self.auth, "database": self.server.database, **options}
        return GraphSink(url or self.server.url, **options)

    def node(self, key: Any) -> dict[str, Any] | None:
        """The properties of the one node of the label with this ``id``."""
        rows = self.run(f"MATCH (n:`{self.label}` {{id: $key}}) RETURN properties(n) AS p", key=key)
        assert len(rows) < 2, "a key is of one node"
        return rows[0]["p"] if rows else None

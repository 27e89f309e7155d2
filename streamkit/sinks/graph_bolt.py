"""How a graph database is asked: over Bolt by Neo4j's own driver, one transaction at a time, each within its time.

The driver's blocking side waits for an answer without end. So this is its other side, on an event loop that runs for as long as a
request does: a request whose time is up is cancelled, and its connection closed. The loop has a thread of its own, since the
caller's may have one that runs already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import SinkError
from .graph_plan import Statement

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["Bolt", "TimedOut"]

# Seconds.
_CONNECT = 5.0
_CLOSE = 1.0


class TimedOut(SinkError):
    """The time was up: of a smaller request there may be an answer in it."""


class Bolt:
    """A driver to ``url``, made when it is first asked. ``auth`` is asked for user and password then; None is neither."""

    def __init__(
        self, url: str, *, auth: Callable[[], tuple[str, str] | None], database: str | None, options: Mapping[str, Any]
    ) -> None:
        self._url, self._auth, self._database, self._options = url, auth, database, options
        self._thread: ThreadPoolExecutor | None = None
        self._runner: Any = None
        self._driver: Any = None

    def ask(self, statements: Sequence[Statement], timeout: float) -> list[set[int]]:
        """All of them in one transaction, once, within about ``timeout`` seconds.

        Of each statement that tells it, the numbers of the rows that it found the nodes for. TimedOut, or the driver's error.
        """
        found: list[set[int]] = self._within(timeout, lambda: self._in_a_transaction(statements, timeout))
        return found

    def run(self, text: str, timeout: float) -> None:
        """One statement that is no part of a transaction, such as one that makes a constraint."""
        self._within(timeout, lambda: self._alone(text))

    def forget(self) -> None:
        """Close the connections, and ask for user and password again before the next."""
        driver, self._driver = self._driver, None
        if driver is not None:
            try:
                self._within(_CLOSE, driver.close)
            except TimedOut:
                return  # The sockets are closed; it was their good-bye that nobody heard.

    def close(self) -> None:
        self.forget()
        thread, self._thread = self._thread, None
        runner, self._runner = self._runner, None
        if thread is not None:
            if runner is not None:
                thread.submit(runner.close).result()
            thread.shutdown()

    def _within(self, timeout: float, make: Callable[[], Any]) -> Any:
        from concurrent.futures import ThreadPoolExecutor

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "streamkit graph")
        return self._thread.submit(self._run, timeout, make).result()

    def _run(self, timeout: float, make: Callable[[], Any]) -> Any:
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()

        async def ask() -> Any:
            return await asyncio.wait_for(make(), timeout)

        try:
            return self._runner.run(ask())
        except TimeoutError:
            raise TimedOut(f"the graph database did not answer in {timeout:.1f} s") from None

    async def _in_a_transaction(self, statements: Sequence[Statement], timeout: float) -> list[set[int]]:
        found: list[set[int]] = []
        async with self._session() as session:
            # The server ends it too, lest it holds its locks when nobody waits for it any more.
            async with await session.begin_transaction(timeout=timeout) as transaction:
                for statement in statements:
                    result = await transaction.run(statement.text, {"rows": statement.rows})
                    if statement.tells:
                        found.append({record["i"] async for record in result})
                    else:
                        await result.consume()
                await transaction.commit()
        return found

    async def _alone(self, text: str) -> None:
        async with self._session() as session:
            await (await session.run(text)).consume()

    def _session(self) -> Any:
        if self._driver is None:
            import neo4j

            settings = {"connection_timeout": _CONNECT, "telemetry_disabled": True, **self._options}
            self._driver = neo4j.AsyncGraphDatabase.driver(self._url, auth=self._auth(), **settings)
        return self._driver.session(database=self._database)

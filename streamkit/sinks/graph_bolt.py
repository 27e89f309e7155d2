"""How a graph database is asked: over Bolt by Neo4j's own driver, one transaction at a time, each within its time.

The driver's blocking side waits for an answer without end. So this is its other side, on an event loop that runs for as long as a
request does: a request whose time is up is cancelled, and its connection closed. The loop has a thread of its own, since the
caller's may have one that runs already. What can't be cancelled, such as a function for the password that waits, is left behind
with its loop.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, SinkError
from .graph_plan import Statement

if TYPE_CHECKING:
    from .graph_loop import DriverLoop

__all__ = ["Bolt", "TimedOut"]

# Seconds.
_CONNECT = 5.0
# Those of a process that this one was forked from. Were they collected, they would take the sockets out of its loops.
_not_ours: list[DriverLoop] = []


class TimedOut(SinkError):
    """The time was up: of a smaller request there may be an answer in it."""


class Bolt:
    """A driver to ``url``, made when it is first asked. ``auth`` is asked for user and password then; None is neither."""

    def __init__(
        self, url: str, *, auth: Callable[[], tuple[str, str] | None], database: str | None, options: Mapping[str, Any]
    ) -> None:
        self._url, self._auth, self._database, self._options = url, auth, database, options
        self._loop: DriverLoop | None = None

    def ask(self, statements: Sequence[Statement], timeout: float) -> list[set[int]]:
        """All of them in one transaction, once, within about ``timeout`` seconds.

        Of each statement that tells it, the numbers of the rows that it found the nodes for. TimedOut, or the driver's error.
        """
        found: list[set[int]] = self._within(
            timeout, lambda driver: self._in_a_transaction(driver, statements, timeout)
        )
        return found

    def run(self, text: str, timeout: float) -> None:
        """One statement that is no part of a transaction, such as one that makes a constraint."""
        self._within(timeout, lambda driver: self._alone(driver, text))

    def close(self) -> None:
        """Close the connections; what is asked after it makes new ones, and asks for user and password again.

        It takes three seconds at most, and does nothing where there are none.
        """
        loop, self._loop = self._loop, None
        if loop is None:
            return
        if loop.process != os.getpid():
            _not_ours.append(loop)
            return
        from .graph_loop import Stuck

        try:
            loop.close()
        except Stuck:
            return  # It goes on by itself.

    def _within(self, timeout: float, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        from .graph_loop import DriverLoop, Stuck

        if self._loop is not None and self._loop.process != os.getpid():
            self.close()
        if self._loop is None:
            self._loop = DriverLoop(self._connect)
        try:
            return self._loop.run(ask, timeout)
        except TimeoutError:
            pass
        except Stuck:
            self._loop.abandon()
            self._loop = None
        raise TimedOut(f"the graph database did not answer in {timeout:.1f} s")

    async def _in_a_transaction(self, driver: Any, statements: Sequence[Statement], timeout: float) -> list[set[int]]:
        found: list[set[int]] = []
        async with driver.session(database=self._database) as session:
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

    async def _alone(self, driver: Any, text: str) -> None:
        async with driver.session(database=self._database) as session:
            await (await session.run(text)).consume()

    def _connect(self) -> Any:
        import neo4j
        import neo4j.exceptions

        settings = {"connection_timeout": _CONNECT, "telemetry_disabled": True, **self._options}
        try:
            return neo4j.AsyncGraphDatabase.driver(self._url, auth=self._auth(), **settings)
        except neo4j.exceptions.ConfigurationError as error:
            # Of its message the names alone: it may quote values.
            wrong = [name for name in self._options if name in str(error)]
            if not wrong:
                raise
        raise ConfigurationError(
            f"GraphSink(driver_options): Neo4j's driver refuses {', '.join(wrong)}, by its name or its value"
        )

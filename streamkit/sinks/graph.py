"""Graph databases that speak Neo4j's protocol, Bolt: nodes and relationships, merged by their keys.

Needs Neo4j's driver and tenacity: ``pip install kinesis-streamkit[graph]``. Neither is imported before the first delivery. See
docs/graph.md.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

from ..aws import from_environment, repeat_until
from ..errors import ConfigurationError, Reject, SinkError
from .base import Refusal, Sink, Write
from .graph_answers import Answered, of_error
from .graph_bolt import Bolt, TimedOut
from .graph_plan import End, Operation, Statement, plan
from .graph_values import indexed_key_of, key_of, name_of, properties_of, quoted, version_of
from .pacing import RequestSize

__all__ = ["GraphSink", "Node"]

_URL = re.compile(r"(bolt|neo4j)(\+s|\+ssc)?://[^/\s?#@]+/?")
# Seconds. What a request has at least, even past the deadline, or an answer could never come; and what it has at most.
_SHORTEST = 1.0
_LONGEST = 60.0
# Writes of one transaction. One that was too much is taken apart, down to single writes. What comes later begins with half as
# many, never with less than the fewest, since one write alone may have been too much; and with some more again as it goes well.
_MOST_WRITES = 1000
_FEWEST_WRITES = 20
_STEP_WRITES = 100
# Two that merge one key at the same time: the loser finds the winner's node when it asks again.
_RACES = 3


class Node(NamedTuple):
    """Where a relationship begins or ends: ``Node("Airport", {"iata": "DEN"})``. Any pair of both will do."""

    label: str
    key: Mapping[str, str | int]


class GraphSink(Sink):
    """The graph behind ``url``: ``bolt://host:7687``; ``neo4j+s://host`` for a cluster, or over TLS.

        class Flights(RecordProcessor):
            graph = GraphSink.from_env("GRAPH_URL", unique={"Airport": "iata"})

            def process(self, record):
                flight = record.json()
                ends = [("Airport", {"iata": flight[name]}) for name in ("origin", "destination")]
                yield self.graph.relationship(ends[0], "ROUTE", ends[1], {"distance": flight["distance"]})

    ``auth`` is the user and the password, or a function that returns both: asked when they are needed first, and again after they
    were refused. ``database``: by default the user's own.

    ``unique`` is label → the name of its key, or several names: a constraint is made for each that has none, before a container's
    first write. Without one, two writes of one key at the same moment can make two nodes, and every merge looks at all nodes of
    its label.

    ``ends``: ``"merge"``, a relationship makes the nodes that it lacks, so that it matters not which comes first; ``"match"``,
    such a relationship is refused as ``failed``, to be tried again.

    ``version_property`` is where versions are kept. ``driver_options`` go to Neo4j's driver as they are.

    A request is a transaction of up to 1,000 writes: either all of it is there, or none. Writes that touch nothing in common go
    together, whatever their order; those that do keep it.
    """

    request_writes: ClassVar[int] = _MOST_WRITES
    request_bytes: ClassVar[int | None] = 5_000_000

    def __init__(
        self,
        url: str,
        *,
        auth: tuple[str, str] | Callable[[], tuple[str, str]] | None = None,
        database: str | None = None,
        unique: Mapping[str, str | Sequence[str]] | None = None,
        ends: Literal["merge", "match"] = "merge",
        version_property: str = "version",
        driver_options: Mapping[str, Any] | None = None,
    ) -> None:
        _check_options(url, auth, unique, driver_options)
        if ends not in ("merge", "match"):
            raise ConfigurationError(f'GraphSink(ends) is "merge" or "match"; got {ends!r}')
        self._url: Callable[[], str] = lambda: url
        self._is_given = auth is not None
        self._auth: Callable[[], tuple[str, str] | None] = auth if callable(auth) else lambda: auth
        self._variables = self._url_variable = ""
        self._database = database
        self._ends = ends
        self._driver_options = dict(driver_options or {})
        try:
            self._version = name_of(version_property, "GraphSink(version_property)")
            self._constraints = [_constraint(label, names) for label, names in (unique or {}).items()]
        except Reject as error:
            raise ConfigurationError(str(error)) from None
        self._bolt: Bolt | None = None
        self._size = RequestSize(_MOST_WRITES, least=_FEWEST_WRITES, step=_STEP_WRITES)

    @classmethod
    def from_env(cls, name: str, *, user: str = "GRAPH_USER", password: str = "GRAPH_PASSWORD", **options: Any) -> Self:  # noqa: S107
        """The URL that the environment variable ``name`` holds, read on first use; ``options`` are those of the class.

        ``user`` and ``password`` are *names* of variables, used where ``auth`` is not given. Both may be unset, for a server
        that asks for neither.
        """
        sink = cls("", **options)
        sink._url = lambda: from_environment(name, sink._name, "the graph database's URL")
        sink._variables = sink._url_variable = name
        if not sink._is_given:
            sink._variables = f"{name}, {user} and {password}"
            sink._auth = lambda: _from_environment(user, password, sink._name)
        return sink

    def node(
        self,
        labels: str | Sequence[str],
        key: Mapping[str, str | int],
        properties: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
    ) -> Write:
        """Make the node, where there is none with the first label and this key; then add the other labels and the properties.

        ``key``: name → text or a whole number; 8,164 bytes of text at most, which is what an index holds. ``properties``: name →
        text, a whole number of 64 bits, a finite float, bool, bytes, ``datetime`` (with a zone it is kept in UTC), ``date``,
        ``time`` without a zone, ``timedelta``, or a list of one of them; None removes the property. Those that are not named
        stay.

        ``version``: a whole number from 0 to 2**63 - 1 that grows with every change. Then what arrives after a later version
        changes nothing, which is success. The version is of the node, so give one with all writes of it or with none.

        Raises Reject for what no graph can hold. Its message names it, and never has a value.
        """
        first, *others = [labels] if isinstance(labels, str) else list(labels) or [""]
        end = _end(first, key)
        more = tuple(name_of(label, "a label") for label in others)
        return self._setting("node", (end,), more, {}, end.names, properties, version)

    def relationship(
        self,
        start: Node | tuple[str, Mapping[str, str | int]],
        type: str,  # noqa: A002 (the database's word)
        end: Node | tuple[str, Mapping[str, str | int]],
        properties: Mapping[str, Any] | None = None,
        *,
        key: Mapping[str, str | int] | None = None,
        version: int | None = None,
    ) -> Write:
        """Make the relationship, where there is none of this type from ``start`` to ``end``; then set its properties.

        Between two nodes is one of a type; or one for each ``key``. The rest is as with ``node``.
        """
        ends, more = (_end(*_pair(start)), _end(*_pair(end))), (name_of(type, "a relationship's type"),)
        own = key_of(key or {}, "a relationship's key", may_be_empty=True)
        return self._setting("relationship", ends, more, own, own, properties, version)

    def node_removal(self, label: str, key: Mapping[str, str | int], *, version: int | None = None) -> Write:
        """Remove the node, with all its relationships; one that is not there is no error.

        With a ``version`` it stays where it has a later one. A removed node's version is forgotten: what arrives late makes
        it again.
        """
        end = _end(label, key)
        return self._removing("node removal", (end,), (), {}, end.names, version)

    def relationship_removal(
        self,
        start: Node | tuple[str, Mapping[str, str | int]],
        type: str,  # noqa: A002 (the database's word)
        end: Node | tuple[str, Mapping[str, str | int]],
        *,
        key: Mapping[str, str | int] | None = None,
        version: int | None = None,
    ) -> Write:
        """Remove the relationship; one that is not there is no error. Without a ``key`` it is every one of this type."""
        ends, more = (_end(*_pair(start)), _end(*_pair(end))), (name_of(type, "a relationship's type"),)
        own = key_of(key or {}, "a relationship's key", may_be_empty=True)
        return self._removing("relationship removal", ends, more, own, own, version)

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        if not writes:
            return []
        bolt = self._connected()
        away = self._make_constraints(bolt, deadline)
        refusals: list[Refusal] = []
        left = list(writes)
        is_first = True
        while left and away is None:
            most = self._size.bytes
            request, left = left[:most], left[most:]
            refused = self._request(bolt, request, deadline, is_first=is_first)
            is_first = False
            refusals += refused
            # What follows may be of the same nodes, and would overtake it.
            away = _away(refused)
        return refusals if away is None else [*refusals, *_all(left, away, "unavailable")]

    def close(self) -> None:
        if self._bolt is not None:
            self._bolt.close()
            self._bolt = None

    # Making writes

    def _setting(
        self,
        kind: Literal["node", "relationship"],
        ends: tuple[End, ...],
        more: tuple[str, ...],
        own: Mapping[str, str | int],
        kept: Collection[str],
        properties: Mapping[str, Any] | None,
        version: int | None,
    ) -> Write:
        version = self._checked(version, kept)
        copied, size = properties_of(properties or {}, (*kept, *(() if version is None else (self._version,))))
        return Write(self, Operation(kind, ends, more, tuple(own), tuple(own.values()), copied, version), size + 50)

    def _removing(
        self,
        kind: Literal["node removal", "relationship removal"],
        ends: tuple[End, ...],
        more: tuple[str, ...],
        own: Mapping[str, str | int],
        kept: Collection[str],
        version: int | None,
    ) -> Write:
        version = self._checked(version, kept)
        return Write(self, Operation(kind, ends, more, tuple(own), tuple(own.values()), version=version), 50)

    def _checked(self, version: int | None, kept: Collection[str]) -> int | None:
        """The version, which has its property for itself: ``kept`` are the names of the key of what has the version."""
        version = version_of(version)
        if version is not None and self._version in kept:
            raise Reject(
                f"the key's {self._version!r} is no version, and would be taken for one: name another "
                "GraphSink(version_property)"
            )
        return version

    # Delivering them

    def _request(
        self, bolt: Bolt, writes: list[Write], deadline: float, *, is_first: bool, is_part: bool = False
    ) -> list[Refusal]:
        """One transaction; taken apart where it is refused for what is in it or for its size, each part in its turn."""
        if not is_first and time.monotonic() >= deadline - _SHORTEST:
            return _all(writes, SinkError("there was no time left to ask the graph database"), "unavailable")
        # Of a part it may as well be found out by parting it.
        races = 1 if is_part and len(writes) > 1 else _RACES
        answered = self._until_answered(bolt, writes, deadline, races)
        if not isinstance(answered, Answered):
            return answered
        is_too_much = answered.next == "less" and time.monotonic() < deadline - _SHORTEST
        if (answered.kind == "unavailable" and not is_too_much) or len(writes) == 1:
            return _all(writes, answered.error, answered.kind)
        half = len(writes) // 2
        refusals = self._request(bolt, writes[:half], deadline, is_first=False, is_part=True)
        away = _away(refusals)
        if away is not None:
            return [*refusals, *_all(writes[half:], away, "unavailable")]
        return [*refusals, *self._request(bolt, writes[half:], deadline, is_first=False, is_part=True)]

    def _until_answered(
        self, bolt: Bolt, writes: list[Write], deadline: float, most_races: int
    ) -> Answered | list[Refusal]:
        """Ask until there is an answer that stays so, or no time: why it was not taken, or which of its writes were not."""
        statements = plan(
            [write.payload for write in writes], merge_ends=self._ends == "merge", version_property=self._version
        )
        last: Any = None
        races = 0

        def ask() -> bool:
            nonlocal last, races
            timeout = min(max(deadline - time.monotonic(), _SHORTEST), _LONGEST)
            try:
                found = bolt.ask(statements, timeout)
            except Exception as error:  # noqa: BLE001  # The driver's errors are told apart by what they carry.
                last = self._answered(bolt, error, len(writes))
                races += last.next == "race"
                if last.next == "less":
                    # One write can't be parted. What is its own fault stays so.
                    return len(writes) > 1 or last.kind != "unavailable"
                return not (last.next == "again" or (last.next == "race" and races < most_races))
            self._size.went_well(len(writes))
            last = _missing(statements, found, writes)
            return True

        repeat_until(deadline - _SHORTEST, ask)
        if isinstance(last, Answered) and last.next == "race" and races < most_races:
            # There was no time to tell a race from a write that is at fault.
            return Answered(last.error, "unavailable", "no")
        return last  # type: ignore[no-any-return]  # Set by the one call that there is in any case.

    def _answered(self, bolt: Bolt, error: Exception, count: int) -> Answered:
        answered = of_error(error, self._place)
        if isinstance(error, TimedOut):
            answered = Answered(error, "unavailable", "less")
        if answered is None:
            raise error
        if answered.next == "less":
            self._size.too_large(count)
        if answered.kind == "unavailable" and answered.next == "no":
            # The password may be another by now.
            bolt.close()
        # Without the cause: its message may quote values, and a traceback would show it.
        return answered

    def _make_constraints(self, bolt: Bolt, deadline: float) -> Exception | None:
        """Make those that were not made yet; why one could not be."""
        while self._constraints:
            last: list[Answered | None] = [None]

            def make(text: str = self._constraints[0], last: list[Answered | None] = last) -> bool:
                try:
                    bolt.run(text, min(max(deadline - time.monotonic(), _SHORTEST), _LONGEST))
                except Exception as error:  # noqa: BLE001  # As with a request.
                    last[0] = answered = self._answered(bolt, error, 0)
                    return answered.next not in ("again", "less", "race")
                last[0] = None
                return True

            repeat_until(deadline - _SHORTEST, make)
            if last[0] is not None:
                # Why comes first: a log has the first 200 characters of it.
                return SinkError(
                    f"{last[0].error}; a constraint of {self._name}(unique) was not made, so nothing is written"
                )
            del self._constraints[0]
        return None

    def _connected(self) -> Bolt:
        if self._bolt is None:
            try:
                import neo4j  # noqa: F401
                import tenacity  # noqa: F401
            except ImportError as error:
                raise ImportError("GraphSink needs neo4j and tenacity: pip install kinesis-streamkit[graph]") from error
            url = self._url()
            _check_url(url, f"{self._url_variable} of {self._name}" if self._url_variable else f"{self._name}(url)")
            self._bolt = Bolt(url, auth=self._auth, database=self._database, options=self._driver_options)
        return self._bolt

    @property
    def _place(self) -> str:
        """Who asked, and where its settings are."""
        return f"{self._name} ({self._variables})" if self._variables else self._name

    @property
    def _name(self) -> str:
        return self.owner or type(self).__name__


def _all(writes: Sequence[Write], error: Exception, kind: Any) -> list[Refusal]:
    return [Refusal(write, error, kind) for write in writes]


def _away(refusals: Sequence[Refusal]) -> Exception | None:
    """Why nothing more is to be asked."""
    return next((refusal.error for refusal in refusals if refusal.kind == "unavailable"), None)


def _missing(statements: Sequence[Statement], found: Sequence[set[int]], writes: Sequence[Write]) -> list[Refusal]:
    """The writes of relationships whose nodes are not there."""
    telling = [statement for statement in statements if statement.tells]
    error = SinkError("the relationship's nodes are not both there")
    return [
        Refusal(writes[place], error, "failed")
        for statement, numbers in zip(telling, found, strict=True)
        for number, places in enumerate(statement.places)
        if number not in numbers
        for place in places
    ]


def _end(label: Any, key: Any) -> End:
    checked = indexed_key_of(key, "a node's key")
    return End(name_of(label, "a label"), tuple(checked), tuple(checked.values()))


def _pair(end: Any) -> tuple[Any, Any]:
    if not isinstance(end, tuple) or len(end) != 2:
        raise Reject("a relationship begins and ends at a pair of a label and a key")
    return end


def _check_options(url: Any, auth: Any, unique: Any, driver_options: Any) -> None:
    """ConfigurationError, which shows no value, for an option of another type than it is."""
    # One that is empty is `from_env`'s, or is told at the first write.
    if url:
        _check_url(url, "GraphSink(url)")
    is_pair = isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) for part in auth)
    if auth is not None and not is_pair and not callable(auth):
        raise ConfigurationError(
            "GraphSink(auth) is a tuple of two texts, the user and the password, or a function that returns one"
        )
    if unique is not None and not isinstance(unique, Mapping):
        raise ConfigurationError(
            f'GraphSink(unique) is labels with the names of their keys, as {{"Airport": "iata"}}; got a {type(unique).__name__}'
        )
    if driver_options is not None and not isinstance(driver_options, Mapping):
        raise ConfigurationError(
            f"GraphSink(driver_options) is names with values; got a {type(driver_options).__name__}"
        )


def _check_url(url: Any, what: str) -> None:
    """ConfigurationError where it is none. It is not shown: it may hold a password."""
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise ConfigurationError(
            f"{what} is the graph database's URL, such as neo4j+s://graph.example.com:7687, without a path or credentials"
        )


def _constraint(label: str, names: str | Sequence[str]) -> str:
    label = quoted(name_of(label, "a label of GraphSink(unique)"))
    if not names or not isinstance(names, Collection):
        raise Reject(f"the key of {label} in GraphSink(unique) is a name, or several")
    listed = [names] if isinstance(names, str) else list(names)
    properties = [f"n.{quoted(name_of(name, 'a name of GraphSink(unique)'))}" for name in listed]
    one = properties[0] if len(properties) == 1 else f"({', '.join(properties)})"
    return f"CREATE CONSTRAINT IF NOT EXISTS FOR (n:{label}) REQUIRE {one} IS UNIQUE"


def _from_environment(user: str, password: str, owner: str) -> tuple[str, str] | None:
    if not os.environ.get(user) and not os.environ.get(password):
        return None
    return from_environment(user, owner, "the user"), from_environment(password, owner, "the password")

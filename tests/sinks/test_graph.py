"""GraphSink against ArcadeDB, with a proxy between that refuses, loses and holds transactions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from streamkit import Divert, Record, RecordProcessor, Refusal, Write, breaker, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.sinks.graph import GraphSink, Node
from streamkit.sinks.graph_answers import of_error
from streamkit.sinks.graph_loop import DriverLoop, Stuck
from streamkit.testing import kinesis_event
from streamkit.testing.contracts import stamp
from streamkit.testing.queue import MemoryQueue

from ..faults.bolt_proxy import Act, BoltProxy, Transaction, fail_with, hold, lose_the_answer
from ..faults.dialects import first_only
from .graphs import Graph

if TYPE_CHECKING:
    from local_graph import GraphServer

CONSTRAINT = "Neo.ClientError.Schema.ConstraintValidationFailed"
DEADLOCK = "Neo.TransientError.Transaction.DeadlockDetected"
EXECUTION = "Neo.DatabaseError.Statement.ExecutionFailed"
TOO_MUCH = [
    "Neo.ClientError.Transaction.TransactionTimedOut",
    "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration",
    "Neo.TransientError.General.OutOfMemoryError",
    "Neo.TransientError.General.MemoryPoolOutOfMemoryError",
]
TOO_LARGE = "Neo.ClientError.General.TransactionOutOfMemoryError"
CONTENT = "Neo.ClientError.Statement.ArgumentError"


@pytest.fixture
def graph(graph_server: GraphServer) -> Iterator[Graph]:
    with Graph(graph_server) as graph:
        yield graph


@pytest.fixture
def proxy(graph_server: GraphServer) -> Iterator[BoltProxy]:
    proxy = BoltProxy(graph_server.port)
    yield proxy
    proxy.close()
    assert proxy.errors == []


@pytest.fixture
def sink(graph: Graph, proxy: BoltProxy) -> Iterator[GraphSink]:
    sink = graph.sink(proxy.url, unique={graph.label: "id"})
    yield sink
    sink.close()


def write(sink: GraphSink, *writes: Write, within: float = 30.0) -> list[Refusal]:
    return sink.write(stamp(writes), deadline=time.monotonic() + within)


def node(sink: GraphSink, graph: Graph, key: Any, **options: Any) -> Write:
    return sink.node(graph.label, {"id": key}, options.pop("properties", {"n": 1}), **options)


def joined(sink: GraphSink, graph: Graph, start: Any, end: Any, **options: Any) -> Write:
    ends = [Node(graph.label, {"id": key}) for key in (start, end)]
    return sink.relationship(ends[0], "TO", ends[1], options.pop("properties", {"n": 1}), **options)


def links(graph: Graph) -> list[tuple[Any, Any, dict[str, Any]]]:
    rows = graph.run(f"MATCH (a:`{graph.label}`)-[r:TO]->(b) RETURN a.id AS a, b.id AS b, properties(r) AS p")
    return sorted(((row["a"], row["b"], row["p"]) for row in rows), key=str)


def failing_where(text: str, act: Act) -> Act:
    """The act, for transactions that hold the text."""
    return lambda transaction: act(transaction) if transaction.contains(text) else transaction.forward()


def size(transaction: Transaction) -> int:
    """Of how many writes it is, where each has a mark."""
    return sum(statement.count(b"mark-") for statement in transaction.statements)


# What is written


def test_it_writes_where_an_event_loop_runs_already(graph: Graph, sink: GraphSink) -> None:
    async def asynchronous() -> list[Refusal]:
        return write(sink, sink.node(graph.label, {"id": 1}, {"n": 1}))

    assert asyncio.run(asynchronous()) == []


def test_nodes_and_relationships_are_made_once_and_their_properties_merged(sink: GraphSink, graph: Graph) -> None:
    for _ in range(2):
        assert not write(
            sink,
            node(sink, graph, "DEN", properties={"name": "Denver", "runways": [1, 2]}),
            joined(sink, graph, "DEN", "LAX", properties={"miles": 862}),
            node(sink, graph, "DEN", properties={"city": "Denver", "name": None}),
        )

    assert graph.node("DEN") == {"id": "DEN", "city": "Denver", "runways": [1, 2]}
    assert graph.node("LAX") == {"id": "LAX"}
    assert links(graph) == [("DEN", "LAX", {"miles": 862})]


def test_a_node_has_all_of_its_labels_and_is_found_by_the_first(graph: Graph) -> None:
    # Without a constraint, since ArcadeDB takes a node with one more label for another node.
    sink = graph.sink()
    assert not write(sink, sink.node([graph.label, "Hub"], {"id": 1}, {"x": 1}))
    assert not write(sink, sink.node(graph.label, {"id": 1}, {"y": 2}))
    sink.close()

    (row,) = graph.run(f"MATCH (n:`{graph.label}`) RETURN labels(n) AS labels, n.x AS x, n.y AS y")
    assert (sorted(row["labels"]), row["x"], row["y"]) == (sorted([graph.label, "Hub"]), 1, 2)


def test_a_key_of_several_values_and_relationships_of_several_keys(graph: Graph) -> None:
    sink = graph.sink(unique={graph.label: ["id", "year"]})
    ends = [Node(graph.label, {"year": year, "id": "DEN"}) for year in (2025, 2026)]

    assert not write(
        sink, *(sink.relationship(ends[0], "TO", ends[1], {"n": n}, key={"flight": f"UA{n % 2}"}) for n in range(4))
    )
    found = [link[2] for link in links(graph)]
    assert not write(sink, sink.relationship_removal(ends[0], "TO", ends[1], key={"flight": "UA1"}))
    sink.close()

    assert sorted(found, key=str) == [{"flight": "UA0", "n": 2}, {"flight": "UA1", "n": 3}]
    assert [link[2] for link in links(graph)] == [{"flight": "UA0", "n": 2}]


def test_a_relationship_without_a_key_is_every_one_of_its_type_and_keeps_its_place(
    sink: GraphSink, graph: Graph
) -> None:
    ends = [Node(graph.label, {"id": key}) for key in (1, 2)]
    keyed = [sink.relationship(ends[0], "TO", ends[1], {"n": n}, key={"flight": n}) for n in range(4)]
    removal = sink.relationship_removal(ends[0], "TO", ends[1])

    assert not write(sink, keyed[0], removal, *keyed[1:3], joined(sink, graph, 1, 2, properties={"all": 7}), keyed[3])

    assert [link[2] for link in links(graph)] == [
        {"all": 7, "flight": 1, "n": 1},
        {"all": 7, "flight": 2, "n": 2},
        {"flight": 3, "n": 3},
    ]


def test_what_is_removed_is_gone_with_its_relationships_and_a_removal_of_nothing_is_no_error(
    sink: GraphSink, graph: Graph
) -> None:
    assert not write(sink, joined(sink, graph, 1, 2), joined(sink, graph, 2, 3), joined(sink, graph, 1, 3))

    ends = [Node(graph.label, {"id": key}) for key in (1, 3)]
    for _ in range(2):
        assert not write(
            sink, sink.node_removal(graph.label, {"id": 2}), sink.relationship_removal(ends[0], "TO", ends[1])
        )

    assert [graph.node(key) is not None for key in (1, 2, 3)] == [True, False, True]
    assert links(graph) == []


def test_a_version_keeps_what_arrives_late_out(sink: GraphSink, graph: Graph) -> None:
    for version in (5, 3, 5, 7, 6):
        assert not write(sink, node(sink, graph, 1, properties={"v": version, f"p{version}": 1}, version=version))
        assert not write(sink, joined(sink, graph, 1, 2, properties={"v": version}, version=version))

    assert graph.node(1) == {"id": 1, "v": 7, "p5": 1, "p7": 1, "version": 7}
    assert links(graph) == [(1, 2, {"v": 7, "version": 7})]
    assert not write(sink, sink.node_removal(graph.label, {"id": 1}, version=6))
    assert graph.node(1) is not None
    assert not write(sink, sink.node_removal(graph.label, {"id": 1}, version=7))
    assert graph.node(1) is None


def random_writes(sink: GraphSink, label: str, chance: random.Random) -> Iterator[Write]:
    for _ in range(25):
        start, end = (Node(label, {"id": chance.randrange(3)}) for _ in "ab")
        version = chance.choice([None, chance.randrange(5)])
        kind, properties = chance.randrange(6), {chance.choice("xyz"): chance.choice([None, 1, 2])}
        key = chance.choice([None, {"k": chance.randrange(2)}])
        if kind < 2:
            yield sink.node(*start, properties, version=version)
        elif kind < 4:
            yield sink.relationship(start, "TO", end, properties, key=key, version=version)
        elif kind == 4:
            yield sink.node_removal(*start, version=version)
        else:
            yield sink.relationship_removal(start, "TO", end, key=key, version=version)


@pytest.mark.parametrize("seed", range(12))
def test_what_goes_together_comes_to_what_the_same_writes_come_to_one_by_one(
    graph_server: GraphServer, seed: int
) -> None:
    found = []
    for size in (1, 25):
        with Graph(graph_server) as graph:
            sink = graph.sink()
            writes = [*random_writes(sink, graph.label, random.Random(seed))]
            for n in range(0, len(writes), size):
                assert not write(sink, *writes[n : n + size])
            sink.close()
            found.append(([graph.node(key) for key in range(3)], links(graph)))

    assert found[0] == found[1]


# What fails


def test_an_answer_that_is_lost_is_asked_for_again_and_the_repeat_is_harmless(
    sink: GraphSink, graph: Graph, proxy: BoltProxy
) -> None:
    writes = [node(sink, graph, 1), joined(sink, graph, 1, 2)]

    with proxy.failing(first_only(lose_the_answer)):
        assert not write(sink, *writes)

    assert [bool(transaction.reached) for transaction in proxy.seen] == [True, True]
    assert (graph.node(1), links(graph)) == ({"id": 1, "n": 1}, [(1, 2, {"n": 1})])


@pytest.mark.parametrize(
    "code",
    [DEADLOCK, "Neo.ClientError.Cluster.NotALeader", "Neo.DatabaseError.General.UnknownError", EXECUTION, *TOO_MUCH],
)
def test_what_passes_is_tried_again(sink: GraphSink, graph: Graph, proxy: BoltProxy, code: str) -> None:
    with proxy.failing(first_only(fail_with(code))):
        assert not write(sink, node(sink, graph, 1))

    assert len(proxy.seen) == 2
    assert graph.node(1) is not None


def test_what_does_not_pass_by_the_deadline_is_unavailable(sink: GraphSink, graph: Graph, proxy: BoltProxy) -> None:
    assert not write(sink, node(sink, graph, 0))

    started = time.monotonic()
    with proxy.failing(fail_with(DEADLOCK)):
        refusals = write(sink, *(node(sink, graph, n) for n in range(1, 4)), within=2.5)

    assert time.monotonic() - started < 6
    assert [(refusal.kind, str(refusal.error)) for refusal in refusals] == [
        ("unavailable", f"the graph database did not take the request ({DEADLOCK})")
    ] * 3
    assert len(proxy.seen) > 2


def test_one_that_hangs_is_given_up_in_time_and_with_fewer_writes_at_once(
    sink: GraphSink, graph: Graph, proxy: BoltProxy
) -> None:
    assert not write(sink, node(sink, graph, 0))

    with proxy.failing(hold):
        started = time.monotonic()
        refusals = write(sink, *(node(sink, graph, n) for n in range(1, 51)), within=1.5)
        took = time.monotonic() - started

    assert took < 6
    assert {refusal.kind for refusal in refusals} == {"unavailable"}
    assert len(refusals) == 50
    proxy.seen.clear()
    assert not write(sink, *(node(sink, graph, n) for n in range(1, 51)))
    assert len(proxy.seen) == 2
    assert graph.run(f"MATCH (n:`{graph.label}`) RETURN count(n) AS n") == [{"n": 51}]


@pytest.mark.parametrize("code", [*TOO_MUCH, TOO_LARGE])
def test_a_request_that_is_too_much_for_the_database_goes_in_smaller_ones(
    sink: GraphSink, graph: Graph, proxy: BoltProxy, code: str
) -> None:
    writes = [node(sink, graph, n, properties={"mark": f"mark-{n}"}) for n in range(200)]

    def act(transaction: Transaction) -> bytes | None:
        return fail_with(code)(transaction) if size(transaction) > 60 else transaction.forward()

    with proxy.failing(act):
        assert not write(sink, *writes)

    assert [size(transaction) for transaction in proxy.seen] == [200, 100, 50, 50, 100, 50, 50]
    assert graph.run(f"MATCH (n:`{graph.label}`) RETURN count(n) AS n") == [{"n": 200}]
    # The next one does not begin with what was too much before.
    proxy.seen.clear()
    assert not write(sink, *writes)
    assert size(proxy.seen[0]) < 200


def test_a_write_that_is_too_large_for_a_transaction_fails_alone_and_its_neighbours_are_in(
    sink: GraphSink, graph: Graph, proxy: BoltProxy
) -> None:
    writes = [node(sink, graph, n, properties={"text": "too-large" if n == 5 else "x"}) for n in range(20)]

    with proxy.failing(failing_where("too-large", fail_with(TOO_LARGE))):
        refusals = write(sink, *writes)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(writes[5], "failed")]
    assert TOO_LARGE in str(refusals[0].error)
    assert [graph.node(n) is not None for n in range(20)] == [n != 5 for n in range(20)]


@pytest.mark.parametrize("code", [TOO_MUCH[0], TOO_MUCH[-1]])
def test_a_single_write_is_asked_again_as_it_is_where_the_database_has_too_much(
    sink: GraphSink, graph: Graph, proxy: BoltProxy, code: str
) -> None:
    writes = [node(sink, graph, n, properties={"mark": f"mark-{n}"}) for n in range(20)]

    with proxy.failing(failing_where("mark-5", fail_with(code))):
        refusals = write(sink, *writes, within=4)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(one, "unavailable") for one in writes[5:]]
    assert code in str(refusals[0].error)
    asked = [size(transaction) for transaction in proxy.seen if transaction.contains("mark-5")]
    assert asked[:4] == [20, 10, 5, 2]
    assert asked.count(1) > 1
    assert [graph.node(n) is not None for n in range(20)] == [n < 5 for n in range(20)]
    # The next request is none of single writes.
    proxy.seen.clear()
    assert not write(sink, *writes)
    assert size(proxy.seen[0]) == 20


def test_a_database_that_is_gone_is_unavailable_and_can_come_back(
    sink: GraphSink, graph: Graph, proxy: BoltProxy
) -> None:
    assert not write(sink, node(sink, graph, 1))

    with proxy.gone():
        (refusal,) = write(sink, node(sink, graph, 2), within=1.5)

    assert refusal.kind == "unavailable"
    assert not write(sink, node(sink, graph, 2))
    assert graph.node(2) is not None


def test_a_race_for_a_key_is_asked_again(sink: GraphSink, graph: Graph, proxy: BoltProxy) -> None:
    with proxy.failing(first_only(fail_with(CONSTRAINT, "Node(7) already exists with label"))):
        assert not write(sink, node(sink, graph, 1), node(sink, graph, 2))

    assert len(proxy.seen) == 2


def test_sinks_that_merge_the_same_keys_at_once_have_all_in_once(graph: Graph) -> None:
    sinks = [graph.sink(unique={graph.label: "id"}) for _ in range(4)]
    refused: list[Refusal] = []
    start = threading.Barrier(len(sinks))

    def run(sink: GraphSink) -> None:
        start.wait(60)
        for n in range(5):
            refused.extend(write(sink, *(joined(sink, graph, n * 10 + k, k) for k in range(10)), within=60))

    threads = [threading.Thread(target=run, args=(sink,)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sink in sinks:
        sink.close()

    assert [(refusal.kind, str(refusal.error)) for refusal in refused] == []
    assert graph.run(f"MATCH (n:`{graph.label}`) RETURN count(n) AS n, count(DISTINCT n.id) AS ids") == [
        {"n": 50, "ids": 50}
    ]


def test_a_value_that_has_to_be_unique_and_is_not_fails_alone_and_its_neighbours_are_in(
    sink: GraphSink, graph: Graph
) -> None:
    graph.run(f"CREATE CONSTRAINT FOR (n:`{graph.label}`) REQUIRE n.mail IS UNIQUE")
    writes = [node(sink, graph, n, properties={"mail": "taken" if n in (2, 5) else f"{n}"}) for n in range(8)]

    refusals = write(sink, *writes)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(writes[5], "failed")]
    assert CONSTRAINT in str(refusals[0].error)
    assert [graph.node(n) is not None for n in range(8)] == [n != 5 for n in range(8)]


def test_what_the_database_fails_at_is_failed_alone_and_its_neighbours_are_in(
    sink: GraphSink, graph: Graph, proxy: BoltProxy
) -> None:
    writes = [node(sink, graph, n, properties={"text": "too-large" if n == 5 else "x"}) for n in range(8)]

    with proxy.failing(failing_where("too-large", fail_with(EXECUTION))):
        refusals = write(sink, *writes)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(writes[5], "failed")]
    assert EXECUTION in str(refusals[0].error)
    assert [graph.node(n) is not None for n in range(8)] == [n != 5 for n in range(8)]


def test_of_one_node_what_follows_a_write_that_is_refused_stays_in_order(
    sink: GraphSink, graph: Graph, proxy: BoltProxy
) -> None:
    writes = [node(sink, graph, 1, properties={"x": x, **({"bad": "is-wrong"} if x == 2 else {})}) for x in (1, 2, 3)]

    with proxy.failing(failing_where("is-wrong", fail_with(CONTENT))):
        refusals = write(sink, *writes)

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(writes[1], "invalid")]
    assert graph.node(1) == {"id": 1, "x": 3}


def test_nothing_overtakes_what_had_no_answer(sink: GraphSink, graph: Graph, proxy: BoltProxy) -> None:
    writes = [node(sink, graph, 1, properties={"x": x, "mark": f"mark-{x}"}) for x in (1, 2, 3, 4)]

    def act(transaction: Transaction) -> bytes | None:
        # All four together are refused for what is in them; the first two alone have no answer.
        return fail_with(CONTENT if transaction.contains("mark-4") else DEADLOCK)(transaction)

    with proxy.failing(act):
        refusals = write(sink, *writes, within=3)

    assert not any(transaction.contains("mark-3") for transaction in proxy.seen[1:])
    assert [refusal.kind for refusal in refusals] == ["unavailable"] * 4
    assert graph.node(1) is None


def test_relationships_wait_for_their_nodes_where_they_are_not_to_make_them(graph: Graph) -> None:
    sink = graph.sink(ends="match")
    writes = [joined(sink, graph, 1, 2), node(sink, graph, 1), node(sink, graph, 2), joined(sink, graph, 1, 3)]

    refusals = write(sink, *writes)
    sink.close()

    assert [(refusal.write, refusal.kind) for refusal in refusals] == [(writes[3], "failed")]
    assert links(graph) == [(1, 2, {"n": 1})]
    assert graph.node(3) is None


# Settings


def test_a_password_that_is_refused_names_the_settings_and_is_asked_for_again(
    graph: Graph, proxy: BoltProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GRAPH_URL", proxy.url)
    monkeypatch.setenv("GRAPH_USER", graph.server.user)
    monkeypatch.setenv("GRAPH_PASSWORD", "swordfish")
    sink = GraphSink.from_env("GRAPH_URL", database=graph.server.database)
    sink.owner = "Routes.graph"

    with caplog.at_level(logging.DEBUG, "streamkit"):
        started = time.monotonic()
        (refusal,) = write(sink, node(sink, graph, 1))
    assert time.monotonic() - started < 10
    monkeypatch.setenv("GRAPH_PASSWORD", graph.server.password)
    assert not write(sink, node(sink, graph, 1))
    sink.close()

    shown = "".join(traceback.format_exception(refusal.error)) + caplog.text
    assert "Routes.graph (GRAPH_URL, GRAPH_USER and GRAPH_PASSWORD)" in shown
    assert "swordfish" not in shown
    assert refusal.kind == "unavailable"


def test_a_variable_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAPH_URL", "GRAPH_USER", "GRAPH_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    sink = GraphSink.from_env("GRAPH_URL")
    with pytest.raises(ConfigurationError, match="GRAPH_URL is not set"):
        write(sink, sink.node("A", {"k": 1}))
    monkeypatch.setenv("GRAPH_URL", "bolt://127.0.0.1:1")
    monkeypatch.setenv("GRAPH_USER", "somebody")
    with pytest.raises(ConfigurationError, match="GRAPH_PASSWORD is not set"):
        write(sink, sink.node("A", {"k": 1}))
    sink.close()


@pytest.mark.parametrize(
    "url",
    ["graph.example.com", "http://graph.example.com", "bolt://user:swordfish@host", "bolt://host/path", "bolt://"],
)
def test_a_url_that_is_none_is_said_and_not_quoted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"GraphSink\(url\) is the graph database's URL") as given:
        GraphSink(url)

    monkeypatch.setenv("GRAPH_URL", url)
    sink = GraphSink.from_env("GRAPH_URL")
    sink.owner = "Routes.graph"
    with pytest.raises(ConfigurationError, match=r"GRAPH_URL of Routes\.graph is the graph database's URL") as read:
        write(sink, sink.node("A", {"k": 1}))

    assert "swordfish" not in f"{given.value} {read.value}"


def test_a_url_that_is_empty_is_said_at_the_first_write() -> None:
    sink = GraphSink("")
    with pytest.raises(ConfigurationError, match=r"GraphSink\(url\) is the graph database's URL"):
        write(sink, sink.node("A", {"k": 1}))


@pytest.mark.parametrize(
    ("url", "option", "value"),
    [
        ("bolt://127.0.0.1:1", "nosuch", "swordfish"),
        ("bolt://127.0.0.1:1", "trusted_certificates", "swordfish"),
        ("bolt+s://127.0.0.1:1", "encrypted", True),
    ],
)
def test_an_option_that_the_driver_does_not_take_is_named_without_its_value(url: str, option: str, value: Any) -> None:
    sink = GraphSink(url, driver_options={"keep_alive": True, option: value})

    with pytest.raises(ConfigurationError) as caught:
        write(sink, sink.node("A", {"k": 1}))
    sink.close()

    assert f"GraphSink(driver_options): Neo4j's driver refuses {option}, by its name or its value" in str(caught.value)
    assert "swordfish" not in "".join(traceback.format_exception(caught.value))


def test_a_database_that_is_not_there_is_named(graph: Graph) -> None:
    sink = graph.sink(database="nowhere")
    (refusal,) = write(sink, node(sink, graph, 1))
    sink.close()
    assert refusal.kind == "unavailable"
    assert "there is no such graph database" in str(refusal.error)


def test_nothing_is_written_before_the_keys_are_unique(graph: Graph) -> None:
    graph.run(f"CREATE (:`{graph.label}` {{id: 1}}), (:`{graph.label}` {{id: 1}})")
    sink = graph.sink(unique={graph.label: "id"})
    writes = [node(sink, graph, 2), node(sink, graph, 3)]

    refusals = write(sink, *writes, within=3)

    assert [refusal.kind for refusal in refusals] == ["unavailable"] * 2
    assert "a constraint of GraphSink(unique) was not made, so nothing is written" in str(refusals[0].error)
    assert graph.node(2) is None
    graph.run(f"MATCH (n:`{graph.label}`) DELETE n")
    assert not write(sink, *writes)
    sink.close()


class _Error(Exception):
    def __init__(self, code: str, message: str = "", gql_status: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.gql_status = code, message, gql_status


@pytest.mark.parametrize(
    ("error", "kind", "then"),
    [
        (_Error(DEADLOCK), "unavailable", "again"),
        (_Error("Neo.DatabaseError.Statement.ExecutionFailed"), "failed", "race"),
        (_Error("Neo.DatabaseError.Transaction.TransactionCommitFailed"), "unavailable", "again"),
        *((_Error(code), "unavailable", "less") for code in TOO_MUCH),
        (_Error(TOO_LARGE), "failed", "less"),
        (_Error("Neo.TransientError.General.TransactionOutOfMemoryError"), "failed", "less"),
        (_Error("Neo.ClientError.Transaction.Terminated"), "unavailable", "again"),
        (_Error("Neo.ClientError.Security.AuthenticationRateLimit"), "unavailable", "again"),
        (_Error("Neo.ClientError.Security.Unauthorized"), "unavailable", "no"),
        (_Error("Neo.ClientError.Security.Forbidden"), "unavailable", "no"),
        (_Error("Neo.TransientError.Database.DatabaseNotFound"), "unavailable", "no"),
        (_Error("Neo.ClientError.Statement.SyntaxError"), "unavailable", "no"),
        (_Error(CONSTRAINT, "Node(1) already exists with label `A` and property `id` = 'secret'"), "failed", "race"),
        (_Error(CONSTRAINT, "whatever", gql_status="22N79"), "failed", "race"),
        (_Error(CONSTRAINT, "Node(1) with label `A` must have the property `id`"), "invalid", "race"),
        (_Error("Neo.ClientError.Statement.TypeError"), "invalid", "apart"),
        (_Error("Neo.ClientError.Something.Else"), "failed", "apart"),
        (_Error("no code: secret"), "failed", "apart"),
    ],
)
def test_an_error_means_what_the_page_says(error: _Error, kind: str, then: str) -> None:
    answered = of_error(error, "Routes.graph")

    assert answered is not None
    assert (answered.kind, answered.next) == (kind, then)
    assert "secret" not in str(answered.error)


def test_an_error_that_is_not_the_drivers_is_not_explained_away() -> None:
    assert of_error(KeyError("streamkit's own"), "Routes.graph") is None


# Its thread


def threads() -> set[threading.Thread]:
    """Those that speak to a database."""
    return {thread for thread in threading.enumerate() if thread.name == "streamkit graph"}


def test_a_second_close_is_harmless_and_a_write_after_it_connects_again(graph: Graph) -> None:
    before = threads()
    sink = graph.sink()
    for n in range(2):
        assert not write(sink, node(sink, graph, n))
        assert len(threads() - before) == 1
        sink.close()
        sink.close()
        assert threads() == before

    assert [graph.node(n) is not None for n in range(2)] == [True, True]


def test_a_close_after_a_time_out_is_safe(sink: GraphSink, graph: Graph, proxy: BoltProxy) -> None:
    before = threads()
    with proxy.failing(hold):
        (refusal,) = write(sink, node(sink, graph, 1), within=1.5)
        # The server is still at it.
        sink.close()
        sink.close()
        assert threads() == before

    assert refusal.kind == "unavailable"
    assert not write(sink, node(sink, graph, 2))
    assert graph.node(2) is not None


def test_what_does_not_stop_in_time_is_left_behind_and_the_next_write_is_another_connections(graph: Graph) -> None:
    over, asked, found = threading.Event(), threading.Event(), threading.Event()

    def auth() -> tuple[str, str]:
        if not asked.is_set():
            asked.set()
            over.wait(120)
            found.set()
        return graph.auth

    before = threads()
    sink = graph.sink(auth=auth)

    (refusal,) = write(sink, node(sink, graph, 1), within=1.5)

    assert not found.is_set(), "it was waited for"
    assert (refusal.kind, "did not answer in" in str(refusal.error)) == ("unavailable", True)
    assert not write(sink, node(sink, graph, 2))
    sink.close()
    over.set()
    for thread in threads() - before:
        thread.join(60)
    assert threads() == before, "the one that was left ends by itself"
    assert [graph.node(n) is not None for n in (1, 2)] == [False, True]


def test_a_driver_that_does_not_close_is_not_waited_for() -> None:
    over = threading.Event()

    class Driver:
        async def close(self) -> None:
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)

    async def nothing(driver: Any) -> int:
        return 7

    loop = DriverLoop(Driver)
    assert loop.run(nothing, 30) == 7

    with pytest.raises(Stuck):
        loop.close()

    assert loop._thread.is_alive()
    over.set()
    loop._thread.join(60)
    assert not loop._thread.is_alive()


def run_apart(graph: Graph, code: str) -> str:
    """What a process prints that ends by itself. It has ``sink`` and ``write``, which says what was refused."""
    setup = (
        "import os, socket, sys, threading, time\n"
        "from streamkit.sinks.graph import GraphSink\nfrom streamkit.testing.contracts import stamp\n"
        "label, url, user, password, database = sys.argv[1:]\n"
        "auth = lambda: (user, password)\n"
        "sink = GraphSink(url, auth=lambda: auth(), database=database)\n"
        "def write(n, seconds=30):\n"
        "    made = stamp([sink.node(label, {'id': n})])\n"
        "    return [one.kind for one in sink.write(made, deadline=time.monotonic() + seconds)]\n"
    )
    arguments = graph.label, graph.server.url, *graph.auth, graph.server.database
    ran = subprocess.run([sys.executable, "-c", setup + code, *arguments], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "print(write(1))",
        "auth = lambda: time.sleep(1000)\nprint(write(1, seconds=1.5))",
        "socket.getaddrinfo = lambda *where, **how: time.sleep(1000)\nprint(write(1, seconds=1.5))",
        "socket.getaddrinfo = lambda *where, **how: time.sleep(1000)\nprint(write(1, seconds=1.5))\nsink.close()",
    ],
    ids=["not closed", "a function that hangs", "a resolver that hangs", "a resolver that hangs, and a close"],
)
def test_nothing_keeps_a_process_from_its_end(graph: Graph, code: str) -> None:
    assert run_apart(graph, code) in ("[]", "['unavailable']")


def test_a_process_that_is_forked_has_a_connection_of_its_own(graph: Graph) -> None:
    code = (
        "said = [write(1)]\n"
        "if os.fork() == 0:\n"
        "    is_well = write(2) == []\n"
        "    sink.close()\n"
        "    os._exit(0 if is_well else 1)\n"
        "said.append(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "said.append(write(3))\nsink.close()\nprint(said)"
    )
    assert run_apart(graph, code) == "[[], 0, []]"
    assert [graph.node(n) is not None for n in (1, 2, 3)] == [True] * 3


# In a function


def test_an_outage_holds_the_stream_and_opens_the_circuit(
    graph: Graph, proxy: BoltProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow this machine is, the circuit is still open when the next events come.
    monkeypatch.setattr(breaker, "FIRST_PAUSE", breaker.LONGEST_PAUSE)
    label, server = graph.label, graph.server
    retries, dead = MemoryQueue(), MemoryQueue()
    asked: list[int] = []

    class Counted(GraphSink):
        def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
            asked.append(len(writes))
            return super().write(writes, deadline=deadline)

    class Airports(RecordProcessor):
        name = "airports"
        on_failure = Divert(retries, dead_letters=dead)
        deadline_margin = 0.5
        graph = Counted(proxy.url, auth=(server.user, server.password), database=server.database)

        def process(self, record: Record) -> Iterator[Write]:
            yield self.graph.node(label, {"id": record.json()["id"]})

    class Context:
        @staticmethod
        def get_remaining_time_in_millis() -> int:
            return 2000

    function = lambda_handler(Airports)
    events = kinesis_event([{"id": n} for n in range(3)])
    first = events["Records"][0]["kinesis"]["sequenceNumber"]
    with proxy.gone():
        for _ in range(5):
            assert function(events, Context()) == {"batchItemFailures": [{"itemIdentifier": first}]}
    assert len(asked) == breaker.FAILURES
    # The pause is over, and the database back.
    assert Airports.graph._breaker is not None
    Airports.graph._breaker._asked_at = 0.0
    assert function(events) == {"batchItemFailures": []}
    function.close()

    assert [graph.node(n) is not None for n in range(3)] == [True] * 3
    assert (len(retries), len(dead)) == (0, 0)


def test_the_driver_is_imported_at_the_first_write_and_not_before() -> None:
    code = (
        "import sys; from streamkit.sinks.graph import GraphSink; s = GraphSink.from_env('GRAPH_URL'); s.node('A', {'k': 1});"
        "print([n for n in ('neo4j', 'asyncio', 'tenacity', 'ssl', 'socket') if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


def test_without_the_driver_the_error_says_what_to_install() -> None:
    code = (
        "import sys, time; sys.modules['neo4j'] = None\nfrom streamkit.sinks.graph import GraphSink\n"
        "s = GraphSink('bolt://127.0.0.1:1')\ns.write([s.node('A', {'k': 1})], deadline=time.monotonic() + 5)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "pip install kinesis-streamkit[graph]" in ran.stderr

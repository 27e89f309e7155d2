"""processors.graph: events become nodes and relationships."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processors.graph import GraphProcessor, handler
from streamkit import Block, Divert, Record, Write, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.testing.events import kinesis_event
from streamkit.testing.queue import MemoryQueue

from ..sinks.graphs import Graph

if TYPE_CHECKING:
    from local_graph import GraphServer

ROOT = Path(__file__).resolve().parents[2]

NAMES = (
    *(
        "GRAPH_URL",
        "GRAPH_USER",
        "GRAPH_PASSWORD",
        "GRAPH_DATABASE",
        "GRAPH_NODES",
        "GRAPH_RELATIONSHIPS",
        "GRAPH_VERSION",
    ),
    *("GRAPH_CONSTRAINTS", "PROCESSOR_NAME", "RETRY_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"),
)


@pytest.fixture
def graph(graph_server: GraphServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRAPH_URL", graph_server.url)
    monkeypatch.setenv("GRAPH_USER", graph_server.user)
    monkeypatch.setenv("GRAPH_PASSWORD", graph_server.password)
    monkeypatch.setenv("GRAPH_DATABASE", graph_server.database)
    with Graph(graph_server) as graph:
        yield graph


def set_json(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    monkeypatch.setenv(name, json.dumps(value))


def node(graph: Graph, **properties: str) -> dict[str, Any]:
    return {"labels": [graph.label], "key": {"id": "iata"}, "properties": properties}


def route(graph: Graph, **properties: str) -> dict[str, Any]:
    ends = {"start": "origin", "end": "destination"}
    return {
        "type": "ROUTE",
        "properties": properties,
        **{end: {"label": graph.label, "key": {"id": path}} for end, path in ends.items()},
    }


def test_events_become_the_nodes_that_the_environment_names(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_json(monkeypatch, "GRAPH_NODES", [node(graph, name="name", city="address.city")])
    events = [{"iata": code, "name": f"{code} Intl", "address": {"city": "Denver"}} for code in ("DEN", "BJC")]

    try:
        assert handler(kinesis_event(events)) == {"batchItemFailures": []}
    finally:
        handler.close()

    for code in ("DEN", "BJC"):
        assert graph.node(code) == {"id": code, "name": f"{code} Intl", "city": "Denver"}
    with pytest.raises(Exception, match=r"[Dd]uplicate"):
        graph.run(f"CREATE (:`{graph.label}` {{id: 'DEN'}})")


def test_events_become_relationships_whose_nodes_need_not_be_there(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_json(monkeypatch, "GRAPH_RELATIONSHIPS", [route(graph, miles="distance")])
    function = lambda_handler(GraphProcessor)
    flights = [{"origin": "DEN", "destination": to, "distance": n} for n, to in enumerate(("LAX", "JFK", "LAX"))]

    assert function(kinesis_event(flights)) == {"batchItemFailures": []}
    function.close()

    rows = graph.run(f"MATCH (a:`{graph.label}`)-[r:ROUTE]->(b) RETURN a.id AS a, b.id AS b, r.miles AS miles")
    assert sorted((row["a"], row["b"], row["miles"]) for row in rows) == [("DEN", "JFK", 1), ("DEN", "LAX", 2)]


def test_an_event_with_all_its_fields_has_the_keys_once(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_json(monkeypatch, "GRAPH_NODES", [{**node(graph), "key": {"id": "id"}, "properties": {"*": ""}}])
    function = lambda_handler(GraphProcessor)

    assert function(kinesis_event([{"id": 7, "delay": 3}])) == {"batchItemFailures": []}
    function.close()

    assert graph.node(7) == {"id": 7, "delay": 3}


def test_a_version_makes_late_events_and_repeats_harmless(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_json(monkeypatch, "GRAPH_NODES", [node(graph, name="name")])
    monkeypatch.setenv("GRAPH_VERSION", "at")
    function = lambda_handler(GraphProcessor)
    events = [{"iata": "DEN", "name": name, "at": at} for name, at in (("new", 9), ("old", 3))]

    for _ in range(2):
        for event in events:
            assert function(kinesis_event([event])) == {"batchItemFailures": []}
    function.close()

    assert graph.node("DEN") == {"id": "DEN", "name": "new", "version": 9}


def test_what_no_graph_can_hold_goes_to_dead_letters_and_its_neighbours_go_in(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_json(monkeypatch, "GRAPH_NODES", [node(graph, name="name")])
    dead = MemoryQueue()

    class Guarded(GraphProcessor):
        on_failure = Divert(MemoryQueue(), dead_letters=dead)

    function = lambda_handler(Guarded)
    names = ["fine", {"nested": 1}, 2**64, "fine"]
    events = [{"iata": f"K{n}", "name": name} for n, name in enumerate(names)]

    assert function(kinesis_event([*events, ["no object"]])) == {"batchItemFailures": []}
    function.close()

    assert len(dead) == 3
    assert [graph.node(f"K{n}") is not None for n in range(4)] == [True, False, False, True]


def test_an_event_without_a_field_that_is_named_is_tried_again(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_json(monkeypatch, "GRAPH_RELATIONSHIPS", [route(graph)])
    retries, dead = MemoryQueue(), MemoryQueue()

    class Guarded(GraphProcessor):
        on_failure = Divert(retries, dead_letters=dead)

    function = lambda_handler(Guarded)

    assert function(kinesis_event([{"origin": "DEN"}])) == {"batchItemFailures": []}
    function.close()

    assert (len(retries), len(dead)) == (1, 0)


def test_a_subclass_can_yield_removals_too(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    set_json(monkeypatch, "GRAPH_NODES", [node(graph)])

    class Removing(GraphProcessor):
        def process(self, record: Record) -> Iterator[Write]:
            event = self.event(record)
            if event.get("closed"):
                yield self.graph.node_removal(graph.label, {"id": event["iata"]})
            else:
                yield from super().process(record)

    function = lambda_handler(Removing)

    assert function(kinesis_event([{"iata": "DEN"}, {"iata": "BJC"}, {"iata": "DEN", "closed": True}]))
    function.close()

    assert (graph.node("DEN"), graph.node("BJC")) == (None, {"id": "BJC"})


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "neither GRAPH_NODES nor GRAPH_RELATIONSHIPS"),
        ({"GRAPH_NODES": "["}, "GRAPH_NODES holds a list"),
        ({"GRAPH_NODES": '[{"labels": [], "key": {"id": "id"}}]'}, "labels is empty"),
        ({"GRAPH_NODES": '[{"label": "A", "key": {"id": "id"}}]'}, "unknown field"),
        ({"GRAPH_NODES": '[{"labels": ["A"], "key": {"id": "id"}}]', "GRAPH_CONSTRAINTS": "maybe"}, "yes or no"),
        ({"GRAPH_NODES": '[{"labels": ["A`"], "key": {"id": "id"}}]'}, "backtick"),
        (
            {"GRAPH_NODES": '[{"labels": ["A"], "key": {"id": "id"}}, {"labels": ["A"], "key": {"no": "no"}}]'},
            "two kinds of key for 'A'",
        ),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=said):
        GraphProcessor()


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("GRAPH_PASSWORD", "look at GraphProcessor.graph (GRAPH_URL, GRAPH_USER and GRAPH_PASSWORD): "),
        ("GRAPH_DATABASE", "look at `database` of GraphProcessor.graph (GRAPH_URL, "),
    ],
)
def test_a_setting_that_the_database_refuses_is_in_the_line_of_the_log(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, said: str
) -> None:
    set_json(monkeypatch, "GRAPH_NODES", [node(graph)])
    monkeypatch.setenv(variable, "swordfish")
    function = lambda_handler(GraphProcessor)

    with caplog.at_level(logging.WARNING, "streamkit"):
        assert function(kinesis_event([{"iata": "DEN"}]))["batchItemFailures"]
    function.close()

    assert said in caplog.text
    # The reason is there whole, and its code too.
    assert re.search(r"\(Neo\.\w+\.\w+\.\w+\)", caplog.text)
    assert "swordfish" not in caplog.text


def test_a_missing_url_names_its_variable_and_nothing_is_lost(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPH_URL")
    set_json(monkeypatch, "GRAPH_NODES", [node(graph)])

    class Waiting(GraphProcessor):
        on_failure = Block()

    function = lambda_handler(Waiting)

    event = kinesis_event([{"iata": "DEN"}])
    answer = function(event)
    function.close()

    assert answer["batchItemFailures"] == [{"itemIdentifier": event["Records"][0]["kinesis"]["sequenceNumber"]}]


@pytest.mark.usefixtures("graph")
def test_the_program_of_the_page_writes_a_route_and_reads_it() -> None:
    program = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "graph.md").read_text(), re.DOTALL)[-1]

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "localstack"), str(ROOT)))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "{'batchItemFailures': []}" in done.stdout
    assert "<Record a.iata='DEN' r.miles=1754 b.iata='BOS'>" in done.stdout

"""Writes to a graph go together in statements, and come to the same as one by one; and nothing hostile gets into Cypher."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import Reject
from streamkit.errors import ConfigurationError
from streamkit.sinks.graph import GraphSink, Node
from streamkit.sinks.graph_plan import End, Operation, Statement, plan

sink = GraphSink("bolt://127.0.0.1:7687")
AIRPORT = ("Airport", {"iata": "DEN"})


def operations(*writes: Any) -> list[Operation]:
    return [write.payload for write in writes]


def airport(code: str, version: int | None = None, **properties: Any) -> Any:
    return sink.node("Airport", {"iata": code}, properties, version=version)


def route(start: str, end: str, version: int | None = None, **properties: Any) -> Any:
    ends = [Node("Airport", {"iata": code}) for code in (start, end)]
    return sink.relationship(ends[0], "ROUTE", ends[1], properties, version=version)


# Statements


def test_nodes_and_relationships_of_many_events_are_two_statements() -> None:
    flights = [(f"K{n % 7}", f"K{n % 5}") for n in range(100)]
    writes = [write for a, b in flights for write in (airport(a, n=1), airport(b, n=1), route(a, b, n=1))]

    nodes, routes = plan(operations(*writes))

    assert nodes.text == "UNWIND $rows AS row\nMERGE (n:`Airport` {`iata`: row.a0})\nSET n += row.p"
    assert routes.text == (
        "UNWIND $rows AS row\nMERGE (a:`Airport` {`iata`: row.a0})\nMERGE (b:`Airport` {`iata`: row.b0})\n"
        "MERGE (a)-[r:`ROUTE`]->(b)\nSET r += row.p"
    )
    assert (len(nodes.rows), len(routes.rows)) == (7, 35)


def test_writes_of_one_node_come_to_one_row_in_which_the_last_wins() -> None:
    (statement,) = plan(operations(airport("DEN", x=1, y=1), airport("LAX"), airport("DEN", x=2, z=None)))

    assert statement.rows == [{"i": 0, "a0": "DEN", "p": {"x": 2, "y": 1, "z": None}}, {"i": 1, "a0": "LAX", "p": {}}]
    assert statement.places == [[0, 2], [1]]


def test_of_versions_those_that_one_before_has_outdone_are_left_out() -> None:
    (statement,) = plan(operations(*(airport("DEN", v, x=v) for v in (3, 1, 5, 4, 5))))

    assert [step["v"] for step in statement.rows[0]["s"]] == [3, 5, 5]
    assert statement.rows[0]["s"][0]["p"] == {"x": 3, "version": 3}


def test_what_follows_a_removal_stays_behind_it() -> None:
    removal = sink.node_removal("Airport", {"iata": "DEN"})

    statements = plan(operations(airport("DEN", x=1), route("DEN", "LAX"), removal, airport("LAX"), airport("DEN")))

    kinds = [re.findall("MERGE|DELETE", statement.text)[-1] for statement in statements]
    assert kinds == ["MERGE", "MERGE", "DELETE", "MERGE"]
    assert [[row["a0"] for row in statement.rows] for statement in statements] == [
        ["DEN", "LAX"],
        ["DEN"],
        ["DEN"],
        ["DEN"],
    ]


def test_what_is_without_a_key_of_its_own_keeps_its_place_among_those_that_have_one() -> None:
    ends = [Node("Airport", {"iata": code}) for code in ("DEN", "LAX")]
    keyed = [sink.relationship(ends[0], "ROUTE", ends[1], {"n": n}, key={"flight": n}) for n in range(3)]
    removal = sink.relationship_removal(ends[0], "ROUTE", ends[1])

    statements = plan(operations(keyed[0], removal, keyed[1], route("DEN", "LAX", n=7), keyed[2]))

    assert [statement.places for statement in statements] == [[[0]], [[1]], [[2]], [[3]], [[4]]]
    # Those of one kind of key still go together.
    assert [statement.places for statement in plan(operations(*keyed, removal))] == [[[0], [1], [2]], [[3]]]


def test_nodes_with_other_labels_are_another_statement_in_their_order() -> None:
    hub = sink.node(["Airport", "Hub"], {"iata": "DEN"}, {"x": 2})

    texts = [statement.text for statement in plan(operations(airport("DEN", x=1), hub, airport("DEN", x=3)))]

    assert ["SET n:`Hub`" in text for text in texts] == [False, True, False]


def test_relationships_for_nodes_that_are_there_tell_which_they_found() -> None:
    (statement,) = plan(operations(route("DEN", "LAX")), merge_ends=False)

    assert statement.tells
    assert "MATCH (a:`Airport`" in statement.text
    assert statement.text.endswith("RETURN row.i AS i")


def test_a_key_of_text_and_one_of_a_number_are_two() -> None:
    (statement,) = plan(operations(sink.node("A", {"id": 1}), sink.node("A", {"id": "1"})))

    assert [row["a0"] for row in statement.rows] == [1, "1"]


# A model of a graph: what operations do one after another, and what statements do, have to be the same.

CODES = ("DEN", "LAX", "JFK")
versions = st.none() | st.integers(0, 4)
codes = st.sampled_from(CODES)
properties = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3) | st.none(), max_size=2)
# Of relationships: none, and such as another's properties may come to.
keys = st.sampled_from([{}, {}, {"k": 0}, {"k": 1}, {"x": 1}, {"k": 1, "x": 1}])


@st.composite
def writes(draw: Any) -> Operation:
    kind = draw(
        st.sampled_from(["node", "node", "relationship", "relationship", "node removal", "relationship removal"])
    )
    start, end = (End("Airport", ("iata",), (draw(codes),)) for _ in "ab")
    version = draw(versions)
    if kind == "node":
        return Operation(kind, (start,), draw(st.sampled_from([(), ("Hub",)])), (), (), draw(properties), version)
    if kind == "node removal":
        return Operation(kind, (start,), version=version)
    key = draw(keys)
    names, values = tuple(key), tuple(key.values())
    if kind == "relationship removal":
        return Operation(kind, (start, end), ("ROUTE",), names, values, version=version)
    given = {name: value for name, value in draw(properties).items() if name not in key}
    return Operation(kind, (start, end), ("ROUTE",), names, values, given, version)


class Model:
    """Nodes by their ends; and between two nodes, of a type, any number of relationships, found by their properties."""

    def __init__(self) -> None:
        self.nodes: dict[End, dict[str, Any]] = {}
        self.relationships: dict[Any, list[dict[str, Any]]] = {}

    def do(self, operation: Operation) -> None:
        version = {} if operation.version is None else {"version": operation.version}
        step = {"v": operation.version, "p": operation.properties | version}
        self._do(operation, [step], operation.version)

    def run(self, statement: Statement, operations: Sequence[Operation]) -> None:
        for row, places in zip(statement.rows, statement.places, strict=True):
            of = operations[places[0]]
            self._do(of, row.get("s") or [{"v": None, "p": row.get("p", {})}], row.get("v"))

    def seen(self) -> Any:
        """What there is, whatever its order."""
        return self.nodes, {
            ends: sorted(sorted(one.items()) for one in found) for ends, found in self.relationships.items() if found
        }

    def _do(self, of: Operation, steps: Sequence[dict[str, Any]], version: int | None) -> None:
        if of.kind == "node":
            self.nodes.setdefault(of.entity, {})
            self.nodes[of.entity] |= {f":{label}": True for label in of.more}
            _set(self.nodes[of.entity], steps)
        elif of.kind == "relationship":
            for end in of.ends:
                self.nodes.setdefault(end, {})
            there = self.relationships.setdefault((of.ends, of.more), [])
            if not self._found(of):
                there.append(dict(zip(of.names, of.values, strict=True)))
            for one in self._found(of):
                _set(one, steps)
        elif of.kind == "relationship removal":
            gone = [one for one in self._found(of) if _is_not_newer(one, version)]
            there = self.relationships.get((of.ends, of.more), [])
            there[:] = [one for one in there if not any(one is other for other in gone)]
        elif of.entity in self.nodes and _is_not_newer(self.nodes[of.entity], version):
            del self.nodes[of.entity]
            self.relationships = {key: some for key, some in self.relationships.items() if of.entity not in key[0]}

    def _found(self, of: Operation) -> list[dict[str, Any]]:
        key = dict(zip(of.names, of.values, strict=True))
        there = self.relationships.get((of.ends, of.more), [])
        return [one for one in there if key.items() <= one.items()]


def _set(thing: dict[str, Any], steps: Iterable[dict[str, Any]]) -> None:
    newer = [step for step in steps if step["v"] is None or _is_not_newer(thing, step["v"])]
    for step in newer:
        thing |= step["p"]
    for name in [name for name, value in thing.items() if value is None]:
        del thing[name]


def _is_not_newer(thing: dict[str, Any], version: int | None) -> bool:
    return version is None or thing.get("version") is None or thing["version"] <= version


@settings(max_examples=500, deadline=None)
@given(st.lists(writes(), max_size=6), st.lists(writes(), max_size=14))
def test_statements_come_to_what_the_writes_come_to_one_after_another(
    before: list[Operation], wanted: list[Operation]
) -> None:
    one_by_one, by_statements = Model(), Model()
    for operation in before:
        one_by_one.do(operation)
        by_statements.do(operation)

    statements = plan(wanted)
    for operation in wanted:
        one_by_one.do(operation)
    for statement in statements:
        by_statements.run(statement, wanted)

    assert by_statements.seen() == one_by_one.seen()
    # Each write is in one row, and no statement has a node or relationship twice.
    assert sorted(place for one in statements for places in one.places for place in places) == [*range(len(wanted))]
    for statement in statements:
        entities = [wanted[places[0]].entity for places in statement.places]
        assert len(set(entities)) == len(entities)


# Names

HOSTILE = [
    *("`", "a`b", "``", "A`) DETACH DELETE n //", "A\\u0060) DETACH DELETE n //", "\\", "a\\b", "\u0060x"),
    *("", " ", " a", "a ", "a\nb", "a\0b", "a\u2028b", "a\u202eb", "x" * 256, "\ud800"),
    *(None, 7, b"label", ["A"]),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_rejected_wherever_it_stands(name: Any) -> None:
    node = "A", {"k": 1}
    key: Any = {name if not isinstance(name, list) else 7: 1}
    makers: list[Callable[[], Any]] = [
        lambda: sink.node(["A", name], {"k": 1}),
        lambda: sink.node("A", key),
        lambda: sink.node("A", {"k": 1}, key),
        lambda: sink.relationship(node, name, node),
        lambda: sink.relationship((name, {"k": 1}), "T", node),
        lambda: sink.relationship(node, "T", node, key=key),
        lambda: sink.node_removal(name, {"k": 1}),
        lambda: sink.relationship_removal(node, name, node),
    ]
    for make in makers:
        with pytest.raises(Reject):
            make()


@given(st.text(), st.text(), st.text())
def test_of_any_text_nothing_gets_out_of_its_quotes(label: str, name: str, kind: str) -> None:
    try:
        made = [
            sink.node(["A", label], {name: 1}).payload,
            sink.relationship((label, {name: 1}), kind, (label, {name: 1}), key={name: 2}).payload,
            sink.relationship_removal((label, {name: 1}), kind, (label, {name: 1}), version=3).payload,
        ]
    except Reject:
        return
    for statement in plan(made):
        # Without what stands in quotes, nothing is left but words and signs of streamkit's own.
        assert re.fullmatch(r"[A-Za-z0-9$:(){}\[\]<>=+., \n-]*", re.sub("`[^`\\\\]+`", "", statement.text))


def test_a_name_of_a_type_of_its_own_can_not_change_later() -> None:
    class Sly(str):
        def __str__(self) -> str:
            return "A`) DETACH DELETE n //"

        __format__ = __repr__ = __str__  # type: ignore[assignment]  # As sly as can be.

    (statement,) = plan(operations(sink.node(Sly("A"), {"k": 1})))

    assert "(n:`A` " in statement.text


def test_a_constraint_of_a_hostile_name_is_refused_when_the_sink_is_made() -> None:
    for unique in ({"A`": "k"}, {"A": "k`"}):
        with pytest.raises(ConfigurationError):
            GraphSink("bolt://127.0.0.1", unique=unique)
    with pytest.raises(ConfigurationError):
        GraphSink("bolt://127.0.0.1", version_property="a`b")
    with pytest.raises(ConfigurationError):
        GraphSink("bolt://127.0.0.1", ends="guess")  # type: ignore[arg-type]  # What a user may write.


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("auth", "swordfish"), ("auth", ("swordfish",)), ("auth", ("neo4j", None)), ("auth", ["neo4j", "swordfish"])),
        *(("unique", ["Airport"]), ("unique", "Airport"), ("unique", {"Airport": 7})),
        *(("unique", {"Airport": []}), ("unique", {"Airport": ""})),
        *(("driver_options", "swordfish"), ("driver_options", ["swordfish"])),
    ],
)
def test_an_option_of_another_type_is_named_when_the_sink_is_made(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"GraphSink\({option}\)") as caught:
        GraphSink("bolt://127.0.0.1", **{option: value})
    assert "swordfish" not in str(caught.value)


# Values


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        *((value, value) for value in ("text", "", 7, -(2**63), 2**63 - 1, 1.5, True, None, b"raw", [1, 2], ["a"], [])),
        *((value, value) for value in (date(2026, 1, 2), time(3, 4), timedelta(1), datetime(2026, 1, 2))),
        ((1, 2), [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        (bytearray(b"raw"), b"raw"),
        (Colour.RED, "red"),
        (datetime(2026, 1, 2, 12, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 1, 2, 10, tzinfo=UTC)),
    ],
)
def test_what_a_graph_can_hold_is_kept(value: Any, kept: Any) -> None:
    found = sink.node("A", {"k": 1}, {"x": value}).payload.properties["x"]

    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (2**63, "more than 64 bits"),
        (-(2**63) - 1, "more than 64 bits"),
        *((value, "not a finite number") for value in (float("nan"), float("inf"), [1.0, float("nan")])),
        ({"a": 1}, "is a mapping"),
        ([{"a": 1}], "is a mapping"),
        ([1, "a"], "several types"),
        ([True, 1], "several types"),
        ([2**62 + 1, 0.5], "too large"),
        *((value, "does not carry") for value in ([None], [[1]], object(), Decimal(1), 1j, time(1, tzinfo=UTC))),
        ("\ud800", "surrogate"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=2))), "no year"),
    ],
)
def test_what_no_graph_can_hold_is_rejected_and_named_without_its_value(value: Any, said: str) -> None:
    with pytest.raises(Reject, match=said) as caught:
        sink.node("A", {"k": 1}, {"the name": value})

    assert "'the name'" in str(caught.value)


@pytest.mark.parametrize(
    "key", [None, {}, {"k": None}, {"k": 1.5}, {"k": True}, {"k": 2**63}, {"k": [1]}, {"k": "\ud800"}, "DEN"]
)
def test_a_key_that_finds_nothing_again_is_rejected(key: Any) -> None:
    makers: list[Callable[[], Any]] = [lambda: sink.node("A", key), lambda: sink.relationship(AIRPORT, "T", ("A", key))]
    for make in makers:
        with pytest.raises(Reject):
            make()


@pytest.mark.parametrize(
    ("most", "least"),
    [
        ({"k": "x" * 8164}, {"k": "x" * 8165}),
        ({"k": "é" * 4082}, {"k": "é" * 4083}),
        ({"k": "x" * 4000, "l": "x" * 4161}, {"k": "x" * 4000, "l": "x" * 4162}),
        ({"k": "x" * 8154, "l": 1}, {"k": "x" * 8155, "l": 1}),
    ],
    ids=["one text", "not of ASCII", "two texts", "a number"],
)
def test_a_key_that_no_index_holds_is_rejected_without_its_value(most: Any, least: Any) -> None:
    assert sink.node("A", most).payload.ends[0].values == tuple(most.values())
    makers: list[Callable[[], Any]] = [
        lambda: sink.node("A", least),
        lambda: sink.node_removal("A", least),
        lambda: sink.relationship(AIRPORT, "T", ("A", least)),
        lambda: sink.relationship_removal(("A", least), "T", AIRPORT),
    ]
    for make in makers:
        with pytest.raises(Reject, match=r"8,1\d\d bytes in an index") as caught:
            make()
        assert len(str(caught.value)) < 200
    # A relationship's own key is in no index of the sink's.
    assert sink.relationship(AIRPORT, "T", AIRPORT, key=least).payload.values == tuple(least.values())


@pytest.mark.parametrize("end", ["Airport", ("Airport",), ("Airport", {"iata": "DEN"}, 1), None])
def test_an_end_that_is_no_pair_is_rejected(end: Any) -> None:
    with pytest.raises(Reject, match="pair"):
        sink.relationship(AIRPORT, "ROUTE", end)


@pytest.mark.parametrize("version", [-1, 2**63, 1.5, True, "7"])
def test_a_version_that_is_no_whole_number_of_64_bits_is_rejected(version: Any) -> None:
    makers: list[Callable[[], Any]] = [
        lambda: airport("DEN", version),
        lambda: sink.node_removal(*AIRPORT, version=version),
    ]
    for make in makers:
        with pytest.raises(Reject, match="version"):
            make()


def test_properties_set_neither_the_key_nor_the_version() -> None:
    with pytest.raises(Reject, match="'iata'"):
        sink.node(*AIRPORT, {"iata": "LAX"})
    with pytest.raises(Reject, match="'version'"):
        sink.node(*AIRPORT, {"version": 7}, version=1)
    with pytest.raises(Reject, match="'id'"):
        sink.relationship(AIRPORT, "T", AIRPORT, {"id": 1}, key={"id": 2})
    assert sink.node(*AIRPORT, {"version": 7}).payload.properties == {"version": 7}


def test_a_key_is_not_taken_for_a_version() -> None:
    makers: list[Callable[[], Any]] = [
        lambda: sink.node("A", {"version": 7}, version=1),
        lambda: sink.relationship(AIRPORT, "T", AIRPORT, key={"version": 7}, version=1),
        lambda: sink.node_removal("A", {"version": 7}, version=1),
        lambda: sink.relationship_removal(AIRPORT, "T", AIRPORT, key={"version": 7}, version=1),
    ]
    for make in makers:
        with pytest.raises(Reject, match="'version' is no version"):
            make()
    assert sink.node("A", {"version": 7}).payload.ends[0].names == ("version",)
    assert sink.node_removal("A", {"version": 7}).payload.ends[0].names == ("version",)
    # The version is the relationship's, and what its nodes are found by may have that name.
    assert sink.relationship_removal(("A", {"version": 7}), "T", AIRPORT, version=1).payload.version == 1


def test_a_write_is_a_copy_of_what_it_was_made_of() -> None:
    key, given_properties, tags = {"iata": "DEN"}, {"x": 1}, ["a"]
    write = sink.node("Airport", key, {**given_properties, "tags": tags})

    key["iata"], tags[0] = "LAX", "b"

    assert write.payload.ends[0].values == ("DEN",)
    assert write.payload.properties == {"x": 1, "tags": ["a"]}
    assert "DEN" not in repr(write)

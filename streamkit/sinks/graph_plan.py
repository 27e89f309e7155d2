"""From writes to statements: which can go together in one ``UNWIND``, and in which order, so that they come to the same.

It is pure. Two writes that touch nothing in common may change places, and so may any two that come to the same either way round.
Those of one kind go into one statement, and never is a node or a relationship in one statement twice: what several writes of it
come to is worked out here.

A statement's place in the order is a number, four to a round: nodes, relationships, removals of relationships, removals of nodes.
Within a round they stand in that order; what has to come after a removal is of the next round.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from .graph_values import quoted

__all__ = ["End", "Operation", "Statement", "plan"]

Kind = Literal["node", "relationship", "relationship removal", "node removal"]

_PHASES: dict[Kind, int] = {"node": 0, "relationship": 1, "relationship removal": 2, "node removal": 3}


class End(msgspec.Struct, frozen=True, gc=False):
    """A node, by its label and its key: ``names`` are sorted, and ``values`` stand in their order."""

    label: str
    names: tuple[str, ...]
    values: tuple[str | int, ...]

    @property
    def shape(self) -> tuple[str, tuple[str, ...]]:
        return self.label, self.names


class Operation(msgspec.Struct, frozen=True):
    """One write. ``ends`` is the node; or the start and the end of a relationship, whose own key is ``names`` and ``values``.

    ``more`` are further labels of a node, or the one type of a relationship.
    """

    kind: Kind
    ends: tuple[End, ...]
    more: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    values: tuple[str | int, ...] = ()
    properties: dict[str, Any] = {}
    version: int | None = None

    @property
    def entity(self) -> Any:
        """What it is of, as a key of a dictionary."""
        return self.ends[0] if len(self.ends) == 1 else (self.ends, self.more, self.names, self.values)

    @property
    def shape(self) -> Any:
        """All that stands in the text of its statement."""
        ends = tuple(end.shape for end in self.ends)
        return self.kind, ends, self.more, self.names, self.version is not None


class Statement(msgspec.Struct):
    """``text`` is sent with ``rows`` as its parameter of that name; ``places`` are those of each row's writes.

    With ``tells`` it answers ``i``, the number of each row that it found the nodes for.
    """

    text: str
    rows: list[dict[str, Any]]
    places: list[list[int]]
    tells: bool = False


def plan(
    operations: Sequence[Operation], *, merge_ends: bool = True, version_property: str = "version"
) -> list[Statement]:
    """The statements that come to what ``operations`` do one after another, in order.

    ``merge_ends``: a relationship makes the nodes that it lacks; else its statement tells for which it found them.
    """
    order = _Order()
    statements: dict[tuple[int, Any], tuple[Statement, dict[Any, int]]] = {}
    for place, operation in enumerate(operations):
        at = order.place(operation), operation.shape
        if at not in statements:
            tells = operation.kind == "relationship" and not merge_ends
            text = _text_of(operation, merge_ends=merge_ends, version_property=version_property)
            statements[at] = Statement(text, [], [], tells), {}
        statement, numbers = statements[at]
        number = numbers.setdefault(operation.entity, len(numbers))
        if number == len(statement.rows):
            statement.rows.append(_first_row(operation, number, version_property))
            statement.places.append([place])
        else:
            _add(statement.rows[number], operation, version_property)
            statement.places[number].append(place)
    return [statement for _, (statement, _) in sorted(statements.items(), key=lambda found: found[0][0])]


class _Order:
    """Where each operation has to stand behind those before it."""

    def __init__(self) -> None:
        # Of each node and relationship the last place where it was merged, and in which shape; where it was removed; and
        # of a node, where a relationship of it was merged.
        self._merged: dict[Any, tuple[int, Any]] = {}
        self._removed: dict[Any, int] = {}
        self._joined: dict[End, int] = {}
        # Of each two nodes and a type, by the names of the relationships' own keys: where they were merged last, and removed.
        self._between: dict[Any, dict[tuple[str, ...], list[int]]] = {}

    def place(self, operation: Operation) -> int:
        entity, phase = operation.entity, _PHASES[operation.kind]
        least = 0
        if operation.kind in ("node removal", "relationship removal"):
            merged = self._merged.get(entity)
            least = max(merged[0] if merged else 0, self._removed.get(entity, 0))
            if operation.kind == "node removal":
                least = max(least, self._joined.get(entity, 0))
                place = _next(least, phase)
            else:
                place = self._place_between(operation, least, phase)
            self._removed[entity] = place
            return place
        merged = self._merged.get(entity)
        if merged is not None:
            # Of another shape it is another statement, and what both set is the later one's.
            least = merged[0] if merged[1] == operation.shape else merged[0] + 1
        least = max(least, self._removed.get(entity, 0))
        if operation.kind == "relationship":
            for end in operation.ends:
                node = self._merged.get(end)
                least = max(least, node[0] if node else 0, self._removed.get(end, 0))
            place = self._place_between(operation, least, phase)
            for end in operation.ends:
                self._joined[end] = max(place, self._joined.get(end, 0))
        else:
            place = _next(least, phase)
        self._merged[entity] = place, operation.shape
        return place

    def _place_between(self, operation: Operation, least: int, phase: int) -> int:
        """Where a relationship's has to stand, no sooner than ``least``.

        By a key of other names it may find one that was made by this, and without a key it finds every one of the type.
        """
        is_removal = operation.kind == "relationship removal"
        known = self._between.setdefault((operation.ends, operation.more), {})
        for names, (merged, removed) in known.items():
            if names != operation.names:
                # Two removals may change places. Two merges are of one phase, so this one's has to be a later round.
                least = max(least, merged) if is_removal else max(least, merged + 1, removed)
        place = _next(least, phase)
        last = known.setdefault(operation.names, [0, 0])
        last[is_removal] = max(place, last[is_removal])
        return place


def _next(least: int, phase: int) -> int:
    """The first place of a phase that is not before ``least``."""
    return least + (phase - least) % len(_PHASES)


# Rows


def _first_row(operation: Operation, number: int, version_property: str) -> dict[str, Any]:
    row: dict[str, Any] = {"i": number}
    for letter, end in zip("ab", operation.ends, strict=False):
        row |= {f"{letter}{n}": value for n, value in enumerate(end.values)}
    row |= {f"k{n}": value for n, value in enumerate(operation.values)}
    if operation.kind in ("node", "relationship"):
        if operation.version is None:
            row["p"] = operation.properties
        else:
            row["s"] = [_step(operation, version_property)]
    elif operation.version is not None:
        row["v"] = operation.version
    return row


def _add(row: dict[str, Any], operation: Operation, version_property: str) -> None:
    """Let the row come to what it did, and then to what ``operation`` does."""
    if "p" in row:
        row["p"] = {**row["p"], **operation.properties}
    elif "v" in row:
        row["v"] = max(row["v"], operation.version or 0)
    elif "s" in row and (operation.version or 0) >= row["s"][-1]["v"]:
        # What is older than one before it has arrived late.
        row["s"].append(_step(operation, version_property))


def _step(operation: Operation, version_property: str) -> dict[str, Any]:
    return {"v": operation.version, "p": {**operation.properties, version_property: operation.version}}


# Cypher


def _text_of(operation: Operation, *, merge_ends: bool, version_property: str) -> str:
    version = quoted(version_property)
    lines = ["UNWIND $rows AS row"]
    if operation.kind == "node":
        lines.append(f"MERGE {_node('n', 'a', operation.ends[0])}")
        if operation.more:
            lines.append(f"SET n:{':'.join(map(quoted, operation.more))}")
        lines.append(_set("n", operation, version))
    elif operation.kind == "node removal":
        lines += [f"MATCH {_node('n', 'a', operation.ends[0])}", *_older("n", operation, version), "DETACH DELETE n"]
    elif operation.kind == "relationship":
        verb = "MERGE" if merge_ends else "MATCH"
        lines += [f"{verb} {_node(letter, letter, end)}" for letter, end in zip("ab", operation.ends, strict=True)]
        lines += [f"MERGE (a)-[{_type(operation)}]->(b)", _set("r", operation, version)]
        if not merge_ends:
            lines.append("RETURN row.i AS i")
    else:
        start, end = (_node(letter, letter, end) for letter, end in zip("ab", operation.ends, strict=True))
        lines += [f"MATCH {start}-[{_type(operation)}]->{end}", *_older("r", operation, version), "DELETE r"]
    return "\n".join(lines)


def _node(variable: str, letter: str, end: End) -> str:
    return f"({variable}:{quoted(end.label)} {_map(end.names, letter)})"


def _type(operation: Operation) -> str:
    key = f" {_map(operation.names, 'k')}" if operation.names else ""
    return f"r:{quoted(operation.more[0])}{key}"


def _map(names: Iterable[str], letter: str) -> str:
    return "{" + ", ".join(f"{quoted(name)}: row.{letter}{n}" for n, name in enumerate(names)) + "}"


def _set(variable: str, operation: Operation, version: str) -> str:
    if operation.version is None:
        return f"SET {variable} += row.p"
    # Each step is compared with what was there before the statement: those that an earlier step has outdone are left out already.
    newer = f"[one IN row.s WHERE {variable}.{version} IS NULL OR {variable}.{version} <= one.v]"
    return f"FOREACH (step IN {newer} | SET {variable} += step.p)"


def _older(variable: str, operation: Operation, version: str) -> list[str]:
    if operation.version is None:
        return []
    return [f"WHERE {variable}.{version} IS NULL OR {variable}.{version} <= row.v"]

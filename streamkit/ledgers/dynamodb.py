"""``Park``'s ledger in an Amazon DynamoDB table.

A batch costs one strongly consistent query: one read unit where no key is parked, and one for each 4 KB of the keys that are.
Parking a key's records of one batch is one write, and so is each of a batch's groups on the retry
path, of which DynamoDB counts one unit for each KB of the key's item: about 45 bytes an id. Needs boto3: ``pip install
kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from ..dynamodb import ConditionFailed, Table
from ..errors import StreamkitError
from .base import Ledger, ParkedKey, Pending

__all__ = ["DynamoDbLedger", "Glance"]

# (seconds left at least, seconds that one try may take, tries); the shortest is given past the deadline too.
_TIMEOUTS = ((6.0, 2.0, 3), (1.0, 0.5, 2), (0.0, 0.5, 1))
# Removals of one key meet its additions, and each other where a time-out left one behind: hardly ever more than once.
_MOST_TRIES = 10
# Far below DynamoDB's 4 KB and 300 operators for an expression.
_IDS_OF_AN_UPDATE = 100
# What an attribute's name begins with, before the id: its add time, its failed tries, its not-before time.
_ADDED, _ATTEMPTS, _NOT_BEFORE = "+", "a", "n"


class Glance(msgspec.Struct, frozen=True):
    """Parked keys by their groups, as a query of up to a megabyte found them. ``size``: its bytes; ``is_cut``: there are more."""

    keys: Mapping[str, ParkedKey]
    size: int
    is_cut: bool


class DynamoDbLedger(Ledger):
    """The table named ``table``, shared by any number of processors. ``client`` is boto3's DynamoDB client; by default one is
    made on first use.

    Items: ``processor`` (S, the partition key), ``group`` (S, the sort key), ``since`` (N, milliseconds since the epoch),
    ``newest`` (N, the time of the last add), ``adder`` and ``version`` (S, another with each add and each write), and for each id
    ``+<id>``, ``a<id>`` and ``n<id>`` (N: add time, failed tries and not-before time; times in milliseconds). There is no item
    where nothing is pending. **Give the table no TTL, and delete no item by hand**: the message of an id that is missing counts
    as done. ``streamkit parked --repair`` is the way.

    A function needs ``dynamodb:Query``, ``dynamodb:GetItem``, ``dynamodb:UpdateItem`` and ``dynamodb:DeleteItem`` on the
    table, and ``create_table`` needs ``dynamodb:CreateTable`` and ``dynamodb:DescribeTable``.
    """

    def __init__(self, table: str, *, client: Any = None) -> None:
        self._table = Table(table, "DynamoDbLedger", client, _TIMEOUTS, owner=lambda: self.owner)

    @classmethod
    def from_env(cls, name: str, *, client: Any = None) -> DynamoDbLedger:
        """The table that the environment variable ``name`` names, read on first use."""
        ledger = cls("", client=client)
        ledger._table.read_name_from(name)
        return ledger

    @property
    def table(self) -> str:
        """The table's name; ConfigurationError where the environment variable that should hold it is not set."""
        return self._table.name

    def create_table(self) -> None:
        """Create the table with on-demand capacity, and wait until it can be used.

        It raises what the client raises, for instance where the table exists. It is not for a function to call.
        """
        self._table.create("processor", "group")

    def parked(self, processor: str, *, deadline: float) -> dict[str, ParkedKey]:
        """See ``Ledger.parked``: one query, and one more for each megabyte of parked keys."""
        found: dict[str, ParkedKey] = {}
        page: dict[str, Any] = {}
        while True:
            # A look-up that missed a key would run its next record before those that are parked.
            answer = self._query(processor, deadline, ConsistentRead=True, **page)
            found |= _parked_keys(answer)
            if "LastEvaluatedKey" not in answer:
                return found
            page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def glance(self, processor: str, *, deadline: float) -> Glance:
        """For who only looks: one query, not consistent, which costs half a read unit for each 4 KB, 128 units at most."""
        answer = self._query(processor, deadline)
        size = sum(len(name) + len(text) for item in answer.get("Items", ()) for name, text in _texts(item))
        return Glance(_parked_keys(answer), size, "LastEvaluatedKey" in answer)

    def key(self, processor: str, group: str, *, deadline: float) -> ParkedKey | None:
        """See ``Ledger.key``."""
        item = self._item(processor, group, deadline)
        return None if item is None else _parked_key(item)

    def add(self, processor: str, group: str, ids: Collection[str], added: float, *, deadline: float) -> float:
        """See ``Ledger.add``: one update, or one for each hundred ids, and hardly ever more."""
        added = round(added, 3)
        for _ in range(_MOST_TRIES):
            later = self._add(processor, group, list(ids), added, deadline)
            if later is None:
                return added
            added = max(added, round(later + 0.001, 3))
        raise StreamkitError(f"an item of the table {self.table} was written {_MOST_TRIES} times by a later clock")

    def _add(self, processor: str, group: str, ids: list[str], added: float, deadline: float) -> float | None:
        """None where the ids were added; else the time of the later add that was there already."""
        values = {":added": _time(added), ":version": _new_version(), ":adder": _new_version()}
        for start in range(0, len(ids), _IDS_OF_AN_UPDATE):
            part = ids[start : start + _IDS_OF_AN_UPDATE]
            names = {f"#{n}": _ADDED + record_id for n, record_id in enumerate(part)}
            names |= {f"#{name}": name for name in ("since", "version", "newest", "adder")}
            sets = "".join(f", #{n} = :added" for n in range(len(part)))
            answer = self._call(
                "update_item",
                deadline,
                Key=_key(processor, group),
                UpdateExpression=(
                    "SET #since = if_not_exists(#since, :added), #newest = :added, #adder = :adder, #version = :version"
                    + sets
                ),
                # Without it one that was overtaken would set the times back, and what is on its way would look stale.
                ConditionExpression="attribute_not_exists(#newest) OR #newest < :added OR #adder = :adder",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
            )
            if answer is None:
                item = self._item(processor, group, deadline)
                return _seconds(item["newest"]) if item else 0.0
        return None

    def count(
        self, processor: str, group: str, record_id: str, attempts: int, not_before: float | None, *, deadline: float
    ) -> None:
        """See ``Ledger.count``."""
        names = {
            "#added": _ADDED + record_id,
            "#attempts": _ATTEMPTS + record_id,
            "#not_before": _NOT_BEFORE + record_id,
            "#version": "version",
        }
        values = {":attempts": {"N": str(attempts)}, ":version": _new_version()}
        update = "SET #attempts = :attempts, #version = :version"
        if not_before is None:
            update += " REMOVE #not_before"
        else:
            update += ", #not_before = :not_before"
            values[":not_before"] = _time(not_before)
        self._call(
            "update_item",
            deadline,
            Key=_key(processor, group),
            UpdateExpression=update,
            ConditionExpression="attribute_exists(#added)",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
        )

    def remove(self, processor: str, group: str, ids: Mapping[str, float], before: float, *, deadline: float) -> None:
        """See ``Ledger.remove``: a read, and a write on the condition that nobody has written since."""
        for _ in range(_MOST_TRIES):
            item = self._item(processor, group, deadline)
            key = None if item is None else _parked_key(item)
            if item is None or key is None:
                return
            gone = [
                record_id
                for record_id, one in key.pending.items()
                if one.added == ids.get(record_id) or one.added < before
            ]
            if not gone:
                return
            part = gone if len(gone) == len(key.pending) else gone[:_IDS_OF_AN_UPDATE]
            if self._remove(processor, group, item, part, len(gone) == len(key.pending), deadline) and part == gone:
                return
        raise StreamkitError(f"an item of the table {self.table} was written {_MOST_TRIES} times while it was read")

    def _remove(
        self, processor: str, group: str, item: dict[str, Any], ids: list[str], is_all: bool, deadline: float
    ) -> bool:
        """Whether the item was as it had been read, so that the ids are gone; and with the last of them the item."""
        condition: dict[str, Any] = {
            "Key": _key(processor, group),
            "ConditionExpression": "#version = :version",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":version": item["version"]},
        }
        if is_all:
            return self._call("delete_item", deadline, **condition) is not None
        names = [
            prefix + record_id
            for record_id in ids
            for prefix in (_ADDED, _ATTEMPTS, _NOT_BEFORE)
            if prefix + record_id in item
        ]
        condition["ExpressionAttributeNames"] |= {f"#{n}": name for n, name in enumerate(names)}
        condition["ExpressionAttributeValues"][":new"] = _new_version()
        update = f"SET #version = :new REMOVE {', '.join(f'#{n}' for n in range(len(names)))}"
        return self._call("update_item", deadline, UpdateExpression=update, **condition) is not None

    def _query(self, processor: str, deadline: float, **more: Any) -> Any:
        return self._call(
            "query",
            deadline,
            KeyConditionExpression="#processor = :processor",
            ExpressionAttributeNames={"#processor": "processor"},
            ExpressionAttributeValues={":processor": {"S": processor}},
            **more,
        )

    def _call(self, operation: str, deadline: float, **arguments: Any) -> Any:
        """One request; None where its condition did not hold."""
        try:
            return self._table.call(operation, deadline, **arguments)
        except ConditionFailed:
            return None

    def close(self) -> None:
        """Close the clients that were made here, and not one that was given."""
        self._table.clients.close()

    def _item(self, processor: str, group: str, deadline: float) -> dict[str, Any] | None:
        answer = self._call("get_item", deadline, Key=_key(processor, group), ConsistentRead=True)
        item: dict[str, Any] | None = answer.get("Item")
        return item


def _key(processor: str, group: str) -> dict[str, Any]:
    return {"processor": {"S": processor}, "group": {"S": group}}


def _texts(item: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in item.items():
        yield from ((name, str(one)) for one in value.values())


def _parked_keys(answer: Mapping[str, Any]) -> dict[str, ParkedKey]:
    """Those of a query's page, by their groups."""
    return {item["group"]["S"]: key for item in answer.get("Items", ()) if (key := _parked_key(item))}


def _parked_key(item: Mapping[str, Any]) -> ParkedKey | None:
    pending: dict[str, Pending] = {}
    for name, value in item.items():
        if name.startswith(_ADDED):
            record_id = name.removeprefix(_ADDED)
            attempts, not_before = item.get(_ATTEMPTS + record_id), item.get(_NOT_BEFORE + record_id)
            pending[record_id] = Pending(
                _seconds(value),
                0 if attempts is None else int(attempts["N"]),
                None if not_before is None else _seconds(not_before),
            )
    return ParkedKey(pending, _seconds(item["since"])) if pending else None


def _time(seconds: float) -> dict[str, str]:
    return {"N": str(round(seconds * 1000))}


def _seconds(value: Mapping[str, str]) -> float:
    return int(value["N"]) / 1000


def _new_version() -> dict[str, str]:
    # Random, and not a number: that of an item which was deleted and made anew must not come round again.
    return {"S": secrets.token_urlsafe(12)}

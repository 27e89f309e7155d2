"""Cells in an Amazon DynamoDB table.

A change costs one strongly consistent read and one conditional write: a read unit and a write unit. Needs boto3:
``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import math
import time
from typing import Any

import msgspec

from ..aws import may_pass
from ..dynamodb import ConditionFailed, Table
from ..errors import ConfigurationError, StreamkitError
from .base import Cell, CellStore

__all__ = ["DynamoDbCells"]

# Seconds left at least, seconds of one try, tries: a second one is made by ``change``, who knows the deadline.
_TIMEOUTS = ((0.0, 2.0, 1),)


class DynamoDbCells(CellStore):
    """The table named ``table``, which can be shared: by processors, tasks and loops of different names, and with
    ``DynamoDbMarks``. ``client`` is boto3's DynamoDB client; by default one is made on first use.

    Items: ``key`` (S, the partition key), ``value`` (S, JSON), ``version`` (S) and ``expires_at`` (N: the table's TTL
    attribute). ``retention`` is how long a cell is kept after its last change, in seconds; the default is 30 days.

    A function needs ``dynamodb:GetItem`` and ``dynamodb:PutItem`` on the table, and ``create_table`` needs
    ``dynamodb:CreateTable``, ``dynamodb:DescribeTable`` and ``dynamodb:UpdateTimeToLive``.
    """

    def __init__(self, table: str, *, retention: float = 2_592_000.0, client: Any = None) -> None:
        if not 0 < retention < math.inf:
            raise ConfigurationError(
                f"DynamoDbCells(retention) takes the seconds for which a cell is kept; got {retention!r}"
            )
        self._retention = retention
        self._table = Table(table, "DynamoDbCells", client, _TIMEOUTS)

    @classmethod
    def from_env(cls, name: str, *, retention: float = 2_592_000.0, client: Any = None) -> DynamoDbCells:
        """The table that the environment variable ``name`` names, read on first use."""
        store = cls("", retention=retention, client=client)
        store._table.read_name_from(name)
        return store

    @property
    def table(self) -> str:
        """The table's name; ConfigurationError where the environment variable that should hold it is not set."""
        return self._table.name

    def create_table(self) -> None:
        """Create the table with on-demand capacity, wait until it can be used, and turn on its TTL.

        It raises what the client raises, for instance where the table exists. It is not for a function to call.
        """
        self._table.create("key", ttl="expires_at")

    def get(self, key: str) -> Cell | None:
        """See ``CellStore.get``. StreamkitError where the item is none that streamkit has written."""
        answer = self._table.call("get_item", math.inf, Key={"key": {"S": key}}, ConsistentRead=True)
        item = answer.get("Item")
        if item is None:
            return None
        try:
            return Cell(msgspec.json.decode(item["value"]["S"], type=dict[str, Any]), item["version"]["S"])
        except (KeyError, msgspec.MsgspecError):
            raise StreamkitError(
                f"the item {key[:200]!r} of the table {self.table} is no cell of streamkit's: delete it, or use another table"
            ) from None

    def put(self, key: str, value: dict[str, Any], version: str, *, seen: Cell | None) -> bool:
        """See ``CellStore.put``."""
        condition: dict[str, Any] = {
            "ConditionExpression": "attribute_not_exists(#key)",
            "ExpressionAttributeNames": {"#key": "key"},
        }
        if seen is not None:
            condition = {
                "ConditionExpression": "#version = :seen",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":seen": {"S": seen.version}},
            }
        try:
            self._table.call(
                "put_item",
                math.inf,
                Item={
                    "key": {"S": key},
                    "value": {"S": msgspec.json.encode(value).decode()},
                    "version": {"S": version},
                    "expires_at": {"N": str(math.ceil(time.time() + self._retention))},
                },
                **condition,
            )
        except ConditionFailed:
            return False
        return True

    def may_pass(self, error: Exception) -> bool:
        return not isinstance(error, StreamkitError) and may_pass(error)

    def close(self) -> None:
        """Close the client that was made here, and not one that was given."""
        self._table.clients.close()

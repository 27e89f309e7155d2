"""Marks in an Amazon DynamoDB table.

What is done once costs two conditional writes, and a repeat one: each a write unit. Needs boto3:
``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

from ..dynamodb import ConditionFailed, Table
from ..errors import ConfigurationError
from .base import Found, MarkStore

__all__ = ["DynamoDbMarks"]

# Seconds that are left, those of one try, and tries: what a mark waits for, its record waits for.
_TIMEOUTS = ((0.0, 1.0, 3),)
_NAMES = {"#key": "key", "#owner": "owner", "#done": "done"}


class DynamoDbMarks(MarkStore):
    """The table named ``table``, shared by any number of processors. ``client`` is boto3's DynamoDB client; by default one is
    made on first use.

    Items: ``key`` (S, the partition key), ``owner`` (S), ``until`` (N), ``done`` (BOOL) and ``expires_at`` (N: the table's TTL
    attribute). ``retention`` is how long a mark is kept, in seconds: at least as long as a record can come again, that is the
    stream's retention, and the dead letters' (14 days at most) where they are put back. The default is 30 days.

    A function needs ``dynamodb:PutItem``, ``dynamodb:UpdateItem`` and ``dynamodb:DeleteItem`` on the table, and
    ``create_table`` needs ``dynamodb:CreateTable``, ``dynamodb:DescribeTable`` and ``dynamodb:UpdateTimeToLive``.
    """

    def __init__(self, table: str, *, retention: float = 2_592_000.0, client: Any = None) -> None:
        if not 0 < retention < math.inf:
            raise ConfigurationError(
                f"DynamoDbMarks(retention) takes the seconds for which a mark is kept; got {retention!r}"
            )
        self._retention = retention
        self._table = Table(table, "DynamoDbMarks", client, _TIMEOUTS)

    @classmethod
    def from_env(cls, name: str, *, retention: float = 2_592_000.0, client: Any = None) -> DynamoDbMarks:
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

    def start(self, key: str, owner: str, *, now: float, until: float) -> Found:
        """See ``MarkStore.start``."""
        try:
            self._table.call(
                "put_item",
                math.inf,
                Item={
                    "key": {"S": key},
                    "owner": {"S": owner},
                    "until": {"N": repr(until)},
                    "done": {"BOOL": False},
                    "expires_at": self._expiry(now),
                },
                ConditionExpression="attribute_not_exists(#key) OR (#done = :no AND (#until <= :now OR #owner = :owner))",
                ExpressionAttributeNames={**_NAMES, "#until": "until"},
                ExpressionAttributeValues={
                    ":no": {"BOOL": False},
                    ":now": {"N": repr(now)},
                    ":owner": {"S": owner},
                },
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            return "done" if refused.item and refused.item["done"]["BOOL"] else "held"
        return "started"

    def finish(self, key: str, owner: str, *, now: float) -> bool:
        """See ``MarkStore.finish``."""
        try:
            self._table.call(
                "update_item",
                math.inf,
                Key={"key": {"S": key}},
                UpdateExpression="SET #done = :yes, #expires = :expires",
                ConditionExpression="attribute_exists(#key) AND #owner = :owner",
                ExpressionAttributeNames={**_NAMES, "#expires": "expires_at"},
                ExpressionAttributeValues={
                    ":yes": {"BOOL": True},
                    ":owner": {"S": owner},
                    ":expires": self._expiry(now),
                },
            )
        except ConditionFailed:
            return False
        return True

    def release(self, key: str, owner: str) -> None:
        """See ``MarkStore.release``."""
        with contextlib.suppress(ConditionFailed):
            self._table.call(
                "delete_item",
                math.inf,
                Key={"key": {"S": key}},
                ConditionExpression="attribute_not_exists(#key) OR (#owner = :owner AND #done = :no)",
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues={":owner": {"S": owner}, ":no": {"BOOL": False}},
            )

    def close(self) -> None:
        """Close the client that was made here, and not one that was given."""
        self._table.clients.close()

    def _expiry(self, now: float) -> dict[str, str]:
        return {"N": str(math.ceil(now + self._retention))}

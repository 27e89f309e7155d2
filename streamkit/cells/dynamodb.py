"""Cells in an Amazon DynamoDB table.

A change costs one strongly consistent read and one conditional write: a read unit and a write unit. Needs boto3:
``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import math
import time
from typing import Any

import msgspec

from ..aws import from_environment, make_client, may_pass, whole_answers
from ..errors import ConfigurationError, StreamkitError
from .base import Cell, CellStore

__all__ = ["DynamoDbCells"]

# Seconds of one try, of a client that is made here, which makes no second one: ``change`` does, who knows the deadline.
_TIMEOUT = 2.0


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
        self._table: str | None = table
        self._variable = ""
        self._retention = retention
        self._given_client = whole_answers(client)
        self._own_client: Any = None

    @classmethod
    def from_env(cls, name: str, *, retention: float = 2_592_000.0, client: Any = None) -> DynamoDbCells:
        """The table that the environment variable ``name`` names, read on first use."""
        store = cls("", retention=retention, client=client)
        store._table, store._variable = None, name
        return store

    @property
    def table(self) -> str:
        """The table's name; ConfigurationError where the environment variable that should hold it is not set."""
        if self._table is None:
            self._table = from_environment(self._variable, "a DynamoDbCells", "the name of a DynamoDB table")
        return self._table

    def create_table(self) -> None:
        """Create the table with on-demand capacity, wait until it can be used, and turn on its TTL.

        It raises what the client raises, for instance where the table exists. It is not for a function to call.
        """
        client = self._client()
        client.create_table(
            TableName=self.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        )
        client.get_waiter("table_exists").wait(TableName=self.table, WaiterConfig={"Delay": 2})
        client.update_time_to_live(
            TableName=self.table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"}
        )

    def get(self, key: str) -> Cell | None:
        """See ``CellStore.get``. StreamkitError where the item is none that streamkit has written."""
        answer = self._call(self._client(), "get_item", Key={"key": {"S": key}}, ConsistentRead=True)
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
        client = self._client()
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
            self._call(
                client,
                "put_item",
                Item={
                    "key": {"S": key},
                    "value": {"S": msgspec.json.encode(value).decode()},
                    "version": {"S": version},
                    "expires_at": {"N": str(math.ceil(time.time() + self._retention))},
                },
                **condition,
            )
        except client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def may_pass(self, error: Exception) -> bool:
        return not isinstance(error, StreamkitError) and may_pass(error)

    def close(self) -> None:
        """Close the client that was made here, and not one that was given."""
        client, self._own_client = self._own_client, None
        if client is not None:
            client.close()

    def _call(self, client: Any, operation: str, **arguments: Any) -> Any:
        table = self.table
        try:
            return getattr(client, operation)(TableName=table, **arguments)
        except client.exceptions.ResourceNotFoundException as error:
            raise ConfigurationError(
                f"there is no DynamoDB table {table}: make it with DynamoDbCells({table!r}).create_table()"
            ) from error

    def _client(self) -> Any:
        if self._given_client is not None:
            return self._given_client
        if self._own_client is None:
            self._own_client = make_client("dynamodb", "DynamoDbCells", _TIMEOUT)
        return self._own_client

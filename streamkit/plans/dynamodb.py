"""Plans in an Amazon DynamoDB table.

A request of rows costs one strongly consistent read and one conditional write of its shard's item: for a thousand plain records
10 to 14 KB, so four read units and 14 write units; where they are of aggregates, one of each.

Needs boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..dynamodb import ConditionFailed, Table
from .base import Entry, PlanStore

__all__ = ["DynamoDbPlans"]

# (seconds left at least, seconds that one try may take, tries). Without a plan nothing can be written, so it is worth a wait.
_TIMEOUTS = ((10.0, 3.0, 3), (3.0, 1.0, 2), (0.0, 0.5, 1))


class DynamoDbPlans(PlanStore):
    """The table named ``table``, shared by any number of processors. ``client`` is boto3's DynamoDB client; by default one is
    made on first use.

    Items: ``shard`` (S, the partition key: JSON of generation, processor name, BigQuery table, ``<stream>/<shardId>``),
    ``version`` (N) and ``plan`` (B, up to 380 KB). There is one for each shard and table, and it must outlive the stream's
    retention: no TTL. Delete that of a closed shard when its records are gone.

    Change ``generation`` for a deliberate replay: what was written under another generation is then written again.

    A function needs ``dynamodb:GetItem`` and ``dynamodb:PutItem`` on the table, and ``create_table`` needs
    ``dynamodb:CreateTable`` and ``dynamodb:DescribeTable``.
    """

    def __init__(self, table: str, *, generation: str = "", client: Any = None) -> None:
        self._generation = generation
        self._table = Table(table, "DynamoDbPlans", client, _TIMEOUTS, owner=lambda: self.owner)

    @classmethod
    def from_env(cls, name: str, *, generation: str = "", client: Any = None) -> DynamoDbPlans:
        """The table that the environment variable ``name`` names, read on first use."""
        store = cls("", generation=generation, client=client)
        store._table.read_name_from(name)
        return store

    @property
    def table(self) -> str:
        """The table's name; ConfigurationError where the environment variable that should hold it is not set."""
        return self._table.name

    def create_table(self) -> None:
        """Create the table with on-demand capacity, and wait until it can be used.

        It raises what the client raises, for instance where the table exists. It is not for a function to call.
        """
        self._table.create("shard")

    def read(self, processor: str, target: str, shard: str, *, deadline: float) -> Entry | None:
        """See ``PlanStore.read``."""
        answer = self._table.call(
            "get_item", deadline, Key={"shard": self._key(processor, target, shard)}, ConsistentRead=True
        )
        return _entry(answer.get("Item"))

    def save(self, processor: str, target: str, shard: str, entry: Entry, *, deadline: float) -> bool:
        """See ``PlanStore.save``."""
        # By placeholders: "shard" is a word of DynamoDB's own.
        condition: dict[str, Any] = {
            "ConditionExpression": "attribute_not_exists(#shard)",
            "ExpressionAttributeNames": {"#shard": "shard"},
        }
        if entry.version > 1:
            condition = {
                "ConditionExpression": "#version = :before",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":before": {"N": str(entry.version - 1)}},
            }
        try:
            self._table.call(
                "put_item",
                deadline,
                Item={
                    "shard": self._key(processor, target, shard),
                    "version": {"N": str(entry.version)},
                    "plan": {"B": entry.data},
                },
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **condition,
            )
        except ConditionFailed as refused:
            # The client tries again by itself: its first try may have been taken, and only the answer lost.
            return _entry(refused.item) == entry
        return True

    def close(self) -> None:
        """Close the clients that were made here, and not one that was given."""
        self._table.clients.close()

    def _key(self, processor: str, target: str, shard: str) -> dict[str, str]:
        return {"S": msgspec.json.encode([self._generation, processor, target, shard]).decode()}


def _entry(item: Any) -> Entry | None:
    return Entry(int(item["version"]["N"]), bytes(item["plan"]["B"])) if item else None

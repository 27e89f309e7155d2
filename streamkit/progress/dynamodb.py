"""Progress in an Amazon DynamoDB table.

A batch costs one strongly consistent query: one read unit where the shard has no entries, and one for each 4 KB of the up to
ten entries that it finds, until they expire. Only a batch whose answer names a failure is written, one write unit for each
KB. Needs boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import math
import time
from typing import Any

import msgspec

from ..dynamodb import Table
from ..errors import ConfigurationError
from .base import ProgressStore

__all__ = ["DynamoDbProgress"]

# Sequence numbers have up to 128 digits; as texts of one length they compare as numbers do.
_DIGITS = 128
# (seconds left at least, seconds that one try may take, tries). The stream waits for the answer, and duplicates are all that a
# failure costs; the shortest is given past the deadline too.
_TIMEOUTS = ((6.0, 2.0, 2), (1.0, 1.0, 1), (0.0, 0.5, 1))


class DynamoDbProgress(ProgressStore):
    """The table named ``table``, shared by any number of processors. ``client`` is boto3's DynamoDB client; by default one is
    made on first use.

    Items: ``shard`` (S, the partition key: JSON of generation, processor name, ``<stream>/<shardId>``), ``number`` (S, the
    sort key: 128 digits), ``entry`` (B, up to 132 KB) and ``expires_at`` (N, seconds since the epoch: the table's TTL
    attribute). ``retention`` is the stream's, in seconds: what is older can't be delivered again.

    Change ``generation`` for a deliberate replay: what another generation has done is then run again.

    A function needs ``dynamodb:Query`` and ``dynamodb:PutItem`` on the table, and ``create_table`` needs
    ``dynamodb:CreateTable``, ``dynamodb:DescribeTable`` and ``dynamodb:UpdateTimeToLive``.
    """

    def __init__(self, table: str, *, generation: str = "", retention: float = 86_400.0, client: Any = None) -> None:
        if not 0 < retention < math.inf:
            raise ConfigurationError(
                f"DynamoDbProgress(retention) takes the stream's retention in seconds; got {retention!r}"
            )
        self._generation = generation
        self._retention = retention
        self._table = Table(table, "DynamoDbProgress", client, _TIMEOUTS, owner=lambda: self.owner)

    @classmethod
    def from_env(
        cls, name: str, *, generation: str = "", retention: float = 86_400.0, client: Any = None
    ) -> DynamoDbProgress:
        """The table that the environment variable ``name`` names, read on first use."""
        store = cls("", generation=generation, retention=retention, client=client)
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
        self._table.create("shard", "number", ttl="expires_at")

    def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> list[bytes]:
        """See ``ProgressStore.entries``. What does not fit into one answer of DynamoDB (1 MB) is left out."""
        answer = self._table.call(
            "query",
            deadline,
            KeyConditionExpression="#shard = :shard AND #number <= :number",
            ExpressionAttributeNames={"#shard": "shard", "#number": "number", "#entry": "entry"},
            ExpressionAttributeValues={":shard": {"S": self._key(processor, shard)}, ":number": _sort_key(up_to)},
            ProjectionExpression="#entry",
            # A look-up that missed the latest entry would run a record again behind which others count as done.
            ConsistentRead=True,
            ScanIndexForward=False,
            Limit=self.most_entries,
        )
        return [bytes(item["entry"]["B"]) for item in answer.get("Items", ())]

    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        """See ``ProgressStore.save``."""
        self._table.call(
            "put_item",
            deadline,
            Item={
                "shard": {"S": self._key(processor, shard)},
                "number": _sort_key(number),
                "entry": {"B": entry},
                "expires_at": {"N": str(math.ceil(time.time() + self._retention))},
            },
        )

    def close(self) -> None:
        """Close the clients that were made here, and not one that was given."""
        self._table.clients.close()

    def _key(self, processor: str, shard: str) -> str:
        return msgspec.json.encode([self._generation, processor, shard]).decode()


def _sort_key(number: int) -> dict[str, str]:
    return {"S": str(number).zfill(_DIGITS)}

"""Checkpoints in a DynamoDB table: for runners on several machines. One table serves any number of readers and streams.

A runner needs ``dynamodb:Query`` and ``dynamodb:UpdateItem`` on the table, and no more; ``create_table`` needs
``dynamodb:CreateTable`` and ``dynamodb:DescribeTable``. Needs boto3: ``pip install kinesis-streamkit[aws]``.
"""

from __future__ import annotations

import contextlib
import re
import threading
from typing import Any

from ..aws import code_of, make_client, whole_answers
from ..errors import ConfigurationError
from .base import CheckpointStore, Lease

__all__ = ["DynamoDbCheckpoints"]

# A sequence number has up to 128 digits, and a number of DynamoDB's 38: as texts of one length they compare as numbers do.
_DIGITS = 128
_KEY = [
    {"AttributeName": "reader_stream", "KeyType": "HASH"},
    {"AttributeName": "shard_id", "KeyType": "RANGE"},
]
_HELD = "#owner = :owner AND #term = :term"
_LOWER = "(attribute_not_exists(#checkpoint) OR #checkpoint < :number)"
# Errors that time mends, beside those of status 5xx and 429.
_PASSING_CODES = ("ProvisionedThroughputExceededException", "RequestLimitExceeded", "TransactionConflictException")
# Seconds and tries of a client that is made here: a call ends, with an answer or without, in a fifth of a lease of 10 s.
_CONNECT_TIMEOUT, _READ_TIMEOUT, _TRIES = 1.0, 1.0, 2


class DynamoDbCheckpoints(CheckpointStore):
    """The table of this name, which ``create_table`` makes. ``client`` is boto3's DynamoDB client; by default one is made.

    A client of your own should give up within a fifth of a lease, its own tries included: boto3 by itself waits minutes.
    Names of reader and stream together have up to 2,000 bytes. An entry of a few hundred bytes is kept for each shard
    until you delete it.
    ConfigurationError where the table does not exist; all other errors are botocore's own.
    """

    def __init__(self, table: str, *, client: Any = None) -> None:
        self._table = table
        self._given_client = whole_answers(client)
        self._own_client: Any = None
        self._lock = threading.Lock()

    def create_table(self) -> None:
        """Make the table, billed by request, and wait until it can be used; nothing to do where it is there already."""
        client = self._client()
        with contextlib.suppress(client.exceptions.ResourceInUseException):
            client.create_table(
                TableName=self._table,
                KeySchema=_KEY,
                AttributeDefinitions=[{"AttributeName": key["AttributeName"], "AttributeType": "S"} for key in _KEY],
                BillingMode="PAY_PER_REQUEST",
            )
        client.get_waiter("table_exists").wait(TableName=self._table, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        table = client.describe_table(TableName=self._table)["Table"]
        types = {attribute["AttributeName"]: attribute["AttributeType"] for attribute in table["AttributeDefinitions"]}
        if table["KeySchema"] != _KEY or {types[key["AttributeName"]] for key in _KEY} != {"S"}:
            raise ConfigurationError(
                f"the DynamoDB table {self._table} has another key than reader_stream (S) and shard_id (S); name another table"
            )

    def leases(self, reader: str, stream: str) -> dict[str, Lease]:
        found: dict[str, Lease] = {}
        page: dict[str, Any] = {}
        while True:
            answer = self._call(
                "query",
                ConsistentRead=True,
                KeyConditionExpression="reader_stream = :reader_stream",
                ExpressionAttributeValues={":reader_stream": {"S": _partition(reader, stream)}},
                **page,
            )
            for item in answer["Items"]:
                entry = _entry(reader, stream, item)
                found[entry.shard_id] = entry
            if not answer.get("LastEvaluatedKey"):
                return found
            page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def take(
        self,
        reader: str,
        stream: str,
        shard_id: str,
        owner: str,
        seen: Lease | None,
        *,
        started_at: float | None = None,
    ) -> Lease | None:
        lease = Lease(reader, stream, shard_id, owner, term=1 if seen is None else seen.term + 1)
        change = "SET #owner = :owner, #term = :term, #beat = if_not_exists(#beat, :zero)"
        values = {":zero": {"N": "0"}}
        if started_at is not None:
            change += ", #started_at = if_not_exists(#started_at, :started_at)"
            values[":started_at"] = {"N": repr(started_at)}
        if seen is None:
            condition = "attribute_not_exists(#shard_id)"
        else:
            condition = "#owner = :seen_owner AND #term = :seen_term AND #beat = :seen_beat"
            values |= {
                ":seen_owner": {"S": seen.owner},
                ":seen_term": {"N": str(seen.term)},
                ":seen_beat": {"N": str(seen.beat)},
            }
        _, entry = self._update(lease, change, condition, values)
        # An owner's text is nobody else's: this very taking may have been there already, and only its answer was lost.
        return entry if entry is not None and (entry.owner, entry.term) == (owner, lease.term) else None

    def renew(self, lease: Lease) -> Lease:
        # Upwards only, or a repeat that comes late would hide the renewals after it from who watches the beat.
        _, entry = self._update(
            lease, "SET #beat = :beat", f"{_HELD} AND #beat < :beat", {":beat": {"N": str(lease.beat + 1)}}
        )
        return lease.held_in(entry)

    def save(self, lease: Lease, sequence_number: int) -> None:
        self._move_up(lease, "SET #checkpoint = :number", sequence_number)

    def end(self, lease: Lease, sequence_number: int | None) -> None:
        change = "SET #has_ended = :true"
        ended = {":true": {"BOOL": True}}
        if sequence_number is not None and self._move_up(
            lease, f"{change}, #checkpoint = :number", sequence_number, ended
        ):
            return
        _, entry = self._update(lease, change, _HELD, ended)
        lease.held_in(entry)

    def give_up(self, lease: Lease) -> None:
        self._update(lease, "SET #owner = :nobody", _HELD, {":nobody": {"S": ""}})

    def may_pass(self, error: Exception) -> bool:
        answer: Any = getattr(error, "response", None)
        if not isinstance(answer, dict):
            from botocore.exceptions import ConnectionError as EndpointError
            from botocore.exceptions import CredentialRetrievalError, HTTPClientError
            from botocore.parsers import ResponseParserError

            passing = HTTPClientError | EndpointError | ResponseParserError | CredentialRetrievalError | OSError
            return isinstance(error, passing)
        code = code_of(error)
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        return status >= 500 or status == 429 or code in _PASSING_CODES or "Throttl" in code

    def close(self) -> None:
        """Close the client that was made here, and not one that was given."""
        with self._lock:
            client, self._own_client = self._own_client, None
        if client is not None:
            client.close()

    def _move_up(self, lease: Lease, change: str, sequence_number: int, values: dict[str, Any] | None = None) -> bool:
        """Whether the entry's checkpoint was lower; LeaseLost if the entry is not the lease's."""
        if not 0 <= sequence_number < 10**_DIGITS:
            raise ValueError(f"a sequence number has up to {_DIGITS} digits, and no sign")
        number = {":number": {"S": str(sequence_number).zfill(_DIGITS)}}
        was_lower, entry = self._update(lease, change, f"{_HELD} AND {_LOWER}", number | (values or {}))
        lease.held_in(entry)
        return was_lower

    def _update(self, lease: Lease, change: str, condition: str, values: dict[str, Any]) -> tuple[bool, Lease | None]:
        """Whether the condition held, and the lease's entry: as it is after the change, or as it did not fit."""
        expressions = f"{change} {condition}"
        values = values | {":owner": {"S": lease.owner}, ":term": {"N": str(lease.term)}}
        try:
            answer = self._call(
                "update_item",
                Key={
                    "reader_stream": {"S": _partition(lease.reader, lease.stream)},
                    "shard_id": {"S": lease.shard_id},
                },
                UpdateExpression=change,
                ConditionExpression=condition,
                # Each name by a placeholder: some are words of DynamoDB's own. It refuses one that is not used.
                ExpressionAttributeNames={f"#{name}": name for name in re.findall(r"#(\w+)", expressions)},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client().exceptions.ConditionalCheckFailedException as error:
            item = error.response.get("Item")
            return False, _entry(lease.reader, lease.stream, item) if item else None
        return True, _entry(lease.reader, lease.stream, answer["Attributes"])

    def _call(self, operation: str, **arguments: Any) -> Any:
        client = self._client()
        try:
            return getattr(client, operation)(TableName=self._table, **arguments)
        except client.exceptions.ResourceNotFoundException as error:
            raise ConfigurationError(
                f"the DynamoDB table {self._table} does not exist in {client.meta.region_name}, or is being made; "
                f"make it with DynamoDbCheckpoints({self._table!r}).create_table(), or `streamkit run … --create-table`"
            ) from error

    def _client(self) -> Any:
        if self._given_client is not None:
            return self._given_client
        with self._lock:
            if self._own_client is None:
                timeout = _CONNECT_TIMEOUT, _READ_TIMEOUT
                self._own_client = make_client("dynamodb", "DynamoDbCheckpoints", timeout, tries=_TRIES)
            return self._own_client


def _partition(reader: str, stream: str) -> str:
    """``reader/stream``, where the last slash is the one between them, whatever the names are."""
    return f"{reader}/{stream.replace('%', '%25').replace('/', '%2F')}"


def _entry(reader: str, stream: str, item: dict[str, Any]) -> Lease:
    checkpoint, started_at = item.get("checkpoint"), item.get("started_at")
    return Lease(
        reader,
        stream,
        item["shard_id"]["S"],
        item["owner"]["S"],
        int(item["term"]["N"]),
        int(item["beat"]["N"]),
        None if checkpoint is None else int(checkpoint["S"]),
        item.get("has_ended", {"BOOL": False})["BOOL"],
        None if started_at is None else float(started_at["N"]),
    )

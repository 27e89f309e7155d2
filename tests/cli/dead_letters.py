"""Letters in queues of moto, for the tests of the commands that work on them."""

from __future__ import annotations

import json
import uuid
from typing import Any

from streamkit.envelope import Envelope, Failure, open_envelope

__all__ = ["LetterQueue", "letter"]

NOON = "2026-05-01T12:00:00.000Z"


def letter(number: int, key: str | None = "c-1", **fields: Any) -> Envelope:
    """The letter of record ``number`` of a stream, as a function of streamkit's sends it."""
    error = fields.pop("error", "KeyError: 'total'")
    time = fields.pop("time", NOON)
    failure = Failure(attempt=4, type=error.partition(":")[0], message=error, time=time)
    return Envelope(
        **{
            "event_id": f"orders/shardId-000000000000:{number}:0",
            "source": "kinesis",
            "processor": "orders",
            "data": json.dumps({"id": number}).encode(),
            "partition_key": key,
            "sequence_number": str(number),
            "sub_sequence_number": 0,
            "shard_id": "shardId-000000000000",
            "stream_arn": "arn:aws:kinesis:us-east-1:123456789012:stream/orders",
            "approximate_arrival_timestamp": 1_777_636_000.0,
            "attempts": 3,
            "failures": (failure,),
        }
        | fields
    )


class LetterQueue:
    """A queue, and what it holds."""

    def __init__(self, sqs: Any, *, fifo: bool = False, **attributes: str) -> None:
        self._sqs = sqs
        self.fifo = fifo
        self.name = f"letters-{uuid.uuid4().hex}" + (".fifo" if fifo else "")
        facts = {"VisibilityTimeout": "30", **attributes} | ({"FifoQueue": "true"} if fifo else {})
        self.url: str = sqs.create_queue(QueueName=self.name, Attributes=facts)["QueueUrl"]

    @property
    def arn(self) -> str:
        arn: str = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        return arn

    def put(self, *letters: Envelope | str, group: str = "g", **message: Any) -> None:
        for one in letters:
            body = one if isinstance(one, str) else one.encode()
            if self.fifo:
                message |= {"MessageGroupId": group, "MessageDeduplicationId": uuid.uuid4().hex}
            self._sqs.send_message(QueueUrl=self.url, MessageBody=body, **message)

    def bodies(self) -> list[str]:
        """Everything that can be received, in the order in which it comes; it is deleted."""
        found: list[str] = []
        while True:
            answer = self._sqs.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=1, AttributeNames=["All"], VisibilityTimeout=30
            )
            messages = answer.get("Messages", [])
            if not messages:
                return found
            found += [one["Body"] for one in messages]
            for one in messages:
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=one["ReceiptHandle"])

    def envelopes(self) -> list[Envelope]:
        opened = [open_envelope(body) for body in self.bodies()]
        return [one for one in opened if one is not None]

    def counts(self) -> tuple[int, int]:
        """How many are there to be received, and how many are in somebody's hands."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        facts = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return int(facts[names[0]]), int(facts[names[1]])

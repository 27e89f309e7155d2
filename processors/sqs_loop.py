"""Reads a queue in loops of its own, which run for as long as there is work, and puts each message into a stream. Deploy it with
the handler ``processors.sqs_loop.handler``, its supervisor with ``processors.sqs_loop.supervisor`` behind a schedule
(``rate(1 minute)``). Nearly always Lambda's own trigger is the better choice: docs/long-tasks.md says when it is not.

Another processor takes two lines, in a module of your own:

    handler = LoopFunction(lambda_handler(Orders))
    supervisor = SupervisorFunction()

Set up by what ``streamkit.loops.function`` has, and

    STREAM                   required: the stream's name or ARN
    PROCESSOR_NAME           default "sqs-loop"; persistent
    DEAD_LETTER_QUEUE_URL    SQS; a message that can never be put goes there at once, and not only after the queue's own receives
"""

from __future__ import annotations

from collections.abc import Iterator

from streamkit import Record, Write, lambda_handler
from streamkit.loops.function import LoopFunction, SupervisorFunction
from streamkit.sinks.kinesis import KinesisSink

from .base import EventProcessor

__all__ = ["QueueProcessor", "handler", "supervisor"]


class QueueProcessor(EventProcessor):
    """A message's body is a record's data. Its group, on a FIFO queue, is the partition key."""

    name = "sqs-loop"

    def __init__(self) -> None:
        super().__init__()
        self.stream = KinesisSink.from_env("STREAM")
        self.stream.owner = f"{type(self).__name__}.stream"

    def process(self, record: Record) -> Iterator[Write]:
        yield self.stream.record(record.data, record.partition_key or record.event_id)


handler = LoopFunction(lambda_handler(QueueProcessor))
supervisor = SupervisorFunction()

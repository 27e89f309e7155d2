"""The three ways in which subscribers can have every record of a stream, as processes of this machine.

    alone       each subscriber reads the stream, with checkpoints of its own
    in process  one function reads it and runs all of them, the branches of a FanOut
    onward      one function reads it and publishes to a topic, behind which each subscriber has a queue

A subscriber takes ``WORK`` seconds for a record, and notes how old it is then.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import boto3
from botocore.config import Config

from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.fanout import FanOut
from streamkit.local.kinesis import KinesisStream
from streamkit.local.queue_runner import QueueRunner
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings
from streamkit.sinks.base import Write
from streamkit.sinks.sns import SnsSink

__all__ = [
    "WORK",
    "Ages",
    "Place",
    "connect",
    "forwarding",
    "reading_for_all",
    "reading_for_one",
    "taking_from_a_queue",
]

# Seconds, as of a quick request to somewhere: it waits, and uses no processor.
WORK = 0.001
# Seconds between two looks into a queue.
BETWEEN_POLLS = 0.5


@dataclass(frozen=True)
class Place:
    """Where things are: the proxy before Kinesis, SNS and SQS, and the stream."""

    kinesis: str
    messaging: str
    stream: str
    shards: int


#: Number of a record → how old it was at the end of its processing, in seconds: the last time, where it came again.
Ages = dict[int, float]


class Tally:
    """What one subscriber has done. ``seen`` is shared with the process that waits for it."""

    def __init__(self, seen: Any, place: int) -> None:
        self.ages: Ages = {}
        self._seen, self._place = seen, place

    def note(self, record: dict[str, Any]) -> None:
        self.ages[record["n"]] = time.time() - record["sent"]
        self._seen[self._place] = len(self.ages)


class Subscriber(RecordProcessor):
    """One of those who want every record."""

    def __init__(self, tally: Tally, number: int = 0) -> None:
        self.name = f"subscriber-{number}"
        self._tally = tally

    def process(self, record: Record) -> None:
        time.sleep(WORK)
        self._tally.note(json.loads(record.data))


class Forward(RecordProcessor):
    """Every record to the topic."""

    name = "forward"

    def __init__(self, topic: SnsSink) -> None:
        self.topic = topic

    def process(self, record: Record) -> Iterable[Write]:
        yield self.topic.message(record.data)


def connect(service: str, endpoint: str) -> Any:
    """A client as `streamkit run` makes one."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",  # noqa: S106 (of no account)
        config=Config(retries={"mode": "standard", "total_max_attempts": 4}, max_pool_connections=50, proxies={}),
    )


# Each of these is a process: it says that it is ready, runs until SIGTERM, and sends the ages that it has noted.


def reading_for_one(place: Place, seen: Any, number: int, pipe: Connection) -> None:
    tally = Tally(seen, number)
    _read(place, lambda: lambda_handler(Subscriber(tally, number)), f"subscriber-{number}", pipe, [tally])


def reading_for_all(place: Place, seen: Any, subscribers: int, pipe: Connection) -> None:
    tallies = [Tally(seen, number) for number in range(subscribers)]

    def function() -> Any:
        return lambda_handler(FanOut(*(Subscriber(tally, number) for number, tally in enumerate(tallies)), name="all"))

    _read(place, function, "all", pipe, tallies)


def forwarding(place: Place, topic: str, pipe: Connection) -> None:
    client = connect("sns", place.messaging)
    _read(place, lambda: lambda_handler(Forward(SnsSink(topic, client=client))), "forward", pipe, [])


def taking_from_a_queue(place: Place, seen: Any, number: int, queue: str, pipe: Connection) -> None:
    tally = Tally(seen, number)
    client = connect("sqs", place.messaging)
    runner = _PacedQueueRunner(lambda_handler(Subscriber(tally, number)), queue, client, wait_time_in_seconds=0)
    _run(runner, lambda: True, pipe, [tally])


class _PacedQueueRunner(QueueRunner):
    """Takes what has come every half second. A long poll returns at the first message, and twenty queues' answers of one
    message each are more than moto gives on two cores.
    """

    def poll(self) -> int:
        taken = super().poll()
        if taken < 10:
            time.sleep(BETWEEN_POLLS)
        return taken


def _read(place: Place, function: Callable[[], Any], name: str, pipe: Connection, tallies: list[Tally]) -> None:
    """A function of its own for each shard, as Lambda has a container for each."""
    client = connect("kinesis", place.kinesis)
    runner = Runner(
        function,
        stream=KinesisStream(client, place.stream),
        name=name,
        checkpoints=MemoryCheckpoints(),
        settings=Settings(function_response_types=["ReportBatchItemFailures"]),
    )
    _run(runner, lambda: len(runner.statuses) == place.shards, pipe, tallies)


def _run(
    runner: Runner | QueueRunner, is_ready: Callable[[], bool], pipe: Connection, tallies: Iterable[Tally]
) -> None:
    logging.getLogger("streamkit").setLevel(logging.ERROR)  # A throttled read is a warning each.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGTERM, lambda *_: runner.stop())
    ready = threading.Thread(target=_tell, args=(is_ready, pipe), daemon=True)
    ready.start()
    runner.run()
    ready.join()
    pipe.send([tally.ages for tally in tallies])
    pipe.close()


def _tell(is_ready: Callable[[], bool], pipe: Connection) -> None:
    while not is_ready():
        time.sleep(0.02)
    pipe.send("ready")

"""The processes that are soaked: a reader for each stream, with the engine, and two that are triggered by queues.

    python -m tests.soak.worker NAME CONFIG LIFE

``NAME`` is one of ``WORKERS``, ``CONFIG`` a file of ``Config`` in JSON, ``LIFE`` how often it was started before. Each ends at
SIGTERM, after what it has in hand.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.config import Config as ClientConfig

from processors.dead_letters import DeadLetters
from streamkit import Block, Divert, Park
from streamkit.local.context import Clock
from streamkit.local.destinations import destination
from streamkit.local.kinesis import KinesisStream
from streamkit.local.queue_runner import QueueRunner
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings
from streamkit.policy import Policy
from streamkit.queues.sqs import SqsQueue

from .faults import Faults, FaultyCheckpoints, FaultyKinesis, FaultyLedger, FaultySqs
from .function import Function, World, position_of, processor_name
from .journal import Journal, Kind
from .plan import STREAMS

__all__ = ["WORKERS", "Config", "client", "stream_name"]

WORKERS = (*(f"{stream}-reader" for stream in STREAMS), "park-retrier", "retrier")

_FUNCTION_SECONDS = 10.0
#: The retry function's time-out, as a part of the time for which its messages are not seen by others.
_OF_VISIBILITY = 2 / 3
_LEASE_SECONDS = 3.0
#: The clock of the reader of old records is so far ahead that they are too old, at 60 s, when they have waited for five.
_AHEAD = 55.0
_SETTINGS: dict[str, dict[str, Any]] = {
    "block": {"batch_size": 5, "maximum_retry_attempts": 12},
    "divert": {"batch_size": 4},
    "park": {"batch_size": 5},
    "aged": {"batch_size": 5, "maximum_record_age_in_seconds": 60},
}


class Config(msgspec.Struct):
    """What a worker is told. ``kinesis`` and ``sqs`` are endpoints, ``queues`` are URLs by name."""

    kinesis: str
    sqs: str
    folder: str
    seed: int
    rate: float
    #: Seconds for which a message that was received is not seen by others.
    visibility: int
    queues: dict[str, str]
    planted: list[str]


def stream_name(stream: str) -> str:
    return f"soak-{stream}"


def client(service: str, endpoint: str) -> Any:
    """boto3's client, which retries nothing by itself."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=ClientConfig(
            connect_timeout=10, read_timeout=60, retries={"total_max_attempts": 1}, max_pool_connections=50, proxies={}
        ),
    )


class Worker:
    """What both have in common: the faulty clients and the policies."""

    def __init__(self, config: Config, name: str, life: int) -> None:
        folder = Path(config.folder)
        self.config = config
        self.journal = Journal(folder / "journal")
        self.faults = Faults(folder / "faults", seed=config.seed, name=name, life=life, rate=config.rate)
        planted = set(config.planted)
        # Each of these is one process's; so is what the store is made to do wrong.
        of_store = {"answer without writing", "write under another id"} & planted if name == "block-reader" else set()
        self.planted_in_ledger = {
            "park-reader": {"reorder a key"} & planted,
            "park-retrier": {"leave an id in the ledger"} & planted,
        }.get(name, set())
        self.world = World(folder, self.journal, self.faults, of_store, config.visibility)
        self.kinesis = FaultyKinesis(client("kinesis", config.kinesis), self.faults)
        self.sqs = FaultySqs(
            client("sqs", config.sqs),
            self.faults,
            self._is_dead,
            drops_one=name == "divert-reader" and "drop a confirmed message" in planted,
            leaks=name == "retrier" and "leak" in planted,
        )

    def _is_dead(self, event_id: str) -> None:
        self.journal.add(Kind.LETTER, *position_of(event_id))

    def policy(self, stream: str) -> Policy:
        dead_letters, retries = self.queue(f"{stream}-dead"), self.queue(f"{stream}-retries")
        if stream == "divert":
            return Divert(retries, dead_letters, backoff=1.0)
        if stream == "park":
            # Its own, for it is closed with the function.
            ledger = FaultyLedger(Path(self.config.folder) / "ledger.sqlite", self.faults, self.planted_in_ledger)
            return Park(retries, ledger, dead_letters)
        return Block(dead_letters)

    def queue(self, name: str) -> SqsQueue:
        return SqsQueue(self.config.queues[name], client=self.sqs)

    def function(self, stream: str) -> Function:
        return Function(self.world, stream, lambda: self.policy(stream))


class Reader(Worker):
    """A Runner for a stream."""

    def __init__(self, config: Config, name: str, life: int) -> None:
        super().__init__(config, name, life)
        stream = name.partition("-")[0]

        def taken(shard_id: str) -> None:
            self.journal.add(Kind.TAKEN, STREAMS.index(stream), int(shard_id.rpartition("-")[2]))

        self.checkpoints = FaultyCheckpoints(Path(config.folder) / "checkpoints.sqlite", self.faults, taken)
        self.runners = [self._runner(stream)]

    def _runner(self, stream: str) -> Runner:
        settings = Settings(
            function_response_types=["ReportBatchItemFailures"],
            function_timeout_in_seconds=_FUNCTION_SECONDS,
            backoff_in_seconds=0.01,
            maximum_backoff_in_seconds=0.1,
            **_SETTINGS[stream],
        )
        # Of a stream that gives nothing up nothing may come there.
        queue = "aged-documents" if stream == "aged" else "block-documents"
        documents = destination(self._arn(queue), client=self.sqs)

        def on_failure(document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
            documents(document, records)
            for record in records:
                position = position_of(f"{stream_name(stream)}/{record['eventID']}:0")
                self.journal.add(Kind.DISCARDED, *position)

        clock = Clock()
        if stream == "aged":
            clock = Clock(time=lambda: Clock().time() + _AHEAD)
        return Runner(
            lambda: self.function(stream),
            stream=KinesisStream(self.kinesis, stream_name(stream)),
            name=processor_name(stream),
            checkpoints=self.checkpoints,
            settings=settings,
            on_failure=on_failure,
            lease_seconds=_LEASE_SECONDS,
            clock=clock,
        )

    def _arn(self, queue: str) -> str:
        return f"arn:aws:sqs:us-east-1:123456789012:{self.config.queues[queue].rpartition('/')[2]}"

    def runs(self) -> list[tuple[Callable[[], None], Callable[[], None]]]:
        return [(runner.run, runner.stop) for runner in self.runners]


class Retrier(Worker):
    """A QueueRunner for each queue: the retry functions, and those that make letters of failure documents."""

    def __init__(self, config: Config, name: str, life: int) -> None:
        super().__init__(config, name, life)
        # Two of Park: its groups are run by several functions at once.
        streams = ["park", "park"] if name == "park-retrier" else ["block", "divert", "aged"]
        self.runners = [self._runner(f"{stream}-retries", self.function(stream)) for stream in streams]
        if name == "retrier":
            self.runners += [
                self._runner(f"{stream}-documents", self._dead_letters(stream)) for stream in ("block", "aged")
            ]

    def _dead_letters(self, stream: str) -> DeadLetters:
        function = DeadLetters(self.queue(f"{stream}-given-up-dead"), lambda service, region: self.kinesis)
        # Each is a function with an environment of its own, which it reads once.
        os.environ["PROCESSOR_NAME"] = processor_name(stream)
        function._ready()
        return function

    def _runner(self, name: str, function: Callable[[Any, Any], Any]) -> QueueRunner:
        seconds = self.config.visibility * _OF_VISIBILITY
        return QueueRunner(function, self.config.queues[name], self.sqs, function_timeout_in_seconds=seconds)

    def runs(self) -> list[tuple[Callable[[], None], Callable[[], None]]]:
        return [(runner.run, runner.stop) for runner in self.runners]


def main(name: str, config_path: str, life: int) -> None:
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s")
    config = msgspec.json.decode(Path(config_path).read_bytes(), type=Config)
    worker = (Reader if name.endswith("-reader") else Retrier)(config, name, life)
    runs = worker.runs()
    stopped = threading.Event()

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException:
            traceback.print_exc()
            # Whoever started this process is to see it dead, not idle.
            os._exit(1)
        if not stopped.is_set():
            print("a runner ended by itself", file=sys.stderr, flush=True)
            os._exit(1)

    threads = [threading.Thread(target=run, args=(one,)) for one, _ in runs]
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    for thread in threads:
        thread.start()
    parent = os.getppid()
    while not stopped.wait(0.2):
        if os.getppid() != parent:
            os._exit(1)  # Nobody is left who would end it.
    for _, stop in runs:
        stop()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

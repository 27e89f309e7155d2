"""A reading by enhanced fan-out that outlives its subscriptions: they end after five minutes, here as on AWS."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.local.kinesis import KinesisStream
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings

from .reader import PATIENCE, create_stream

__all__ = ["LongReading"]

# Seconds: a subscription's five minutes, and what a busy machine adds to them.
LONGEST_SUBSCRIPTION = 300.0 + PATIENCE
BETWEEN_RECORDS = 0.2
# How many records the busy shard gets after its renewal.
AFTER = 25


class LongReading(threading.Thread):
    """Reads a stream of three shards from LATEST on, from before its subscriptions end until after they were renewed.

    Each key has a shard. ``busy`` gets a record five times a second all the while; ``quiet`` one before and one after the
    renewal; ``silent`` none before it, so that it is renewed without a number to go on from.
    """

    KEYS = ("busy", "quiet", "silent")

    def __init__(self, kinesis: Any) -> None:
        super().__init__(name="long reading")
        self._kinesis = kinesis
        self._is_stopping = threading.Event()
        self._shard_of: dict[str, dict[str, Any]] = {}
        #: How many records were put, and the numbers that the function was given, by key.
        self.puts = dict.fromkeys(self.KEYS, 0)
        self.seen: dict[str, list[int]] = {key: [] for key in self.KEYS}
        #: How many of a key's records were put when its second subscription began.
        self.puts_at_renewal: dict[str, int] = {}
        self._positions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.error: BaseException | None = None

    def positions(self, key: str) -> list[dict[str, Any]]:
        """Where each subscription of that key's shard began."""
        return self._positions[self._shard_of[key]["ShardId"]]

    def stop(self) -> None:
        self._is_stopping.set()

    def run(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self.error = error

    def _read(self) -> None:
        stream = create_stream(self._kinesis, shards=len(self.KEYS))
        self._shard_of = dict(zip(self.KEYS, self._kinesis.list_shards(StreamName=stream)["Shards"], strict=True))
        runner = self._runner(stream)
        reading = threading.Thread(target=self._run, args=(runner,), name="long reading's runner")
        reading.start()
        try:
            # At LATEST only what comes after its subscription is a shard's.
            self._go_on_until(lambda: self._have_subscribed(1), PATIENCE)
            self._put(stream, "quiet")
            self._go_on_until(lambda: self._have_subscribed(2), LONGEST_SUBSCRIPTION, lambda: self._put(stream, "busy"))
            for key in self.KEYS:
                self._put(stream, key)
            for _ in range(AFTER):
                self._put(stream, "busy")
            self._go_on_until(lambda: all(len(self.seen[key]) >= self.puts[key] for key in self.KEYS), PATIENCE)
        finally:
            runner.stop()
            reading.join()

    def _run(self, runner: Runner) -> None:
        try:
            runner.run()
        except BaseException as error:
            self.error = error
            self.stop()

    def _go_on_until(self, is_so: Callable[[], bool], patience: float, act: Callable[[], None] = lambda: None) -> None:
        until = time.monotonic() + patience
        while not is_so():
            if self._is_stopping.wait(BETWEEN_RECORDS) or time.monotonic() >= until:
                raise TimeoutError(f"told to stop, or too late: seen {self.seen}, subscribed {dict(self._positions)}")
            act()

    def _have_subscribed(self, times: int) -> bool:
        return all(len(self.positions(key)) >= times for key in self.KEYS)

    def _put(self, stream: str, key: str) -> None:
        self._kinesis.put_record(
            StreamName=stream,
            PartitionKey=key,
            ExplicitHashKey=self._shard_of[key]["HashKeyRange"]["StartingHashKey"],
            Data=json.dumps({"n": self.puts[key]}).encode(),
        )
        self.puts[key] += 1

    def _runner(self, stream: str) -> Runner:
        arn = self._kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
        consumer = self._kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="reader")["Consumer"][
            "ConsumerARN"
        ]
        while _status(self._kinesis, consumer) != "ACTIVE":
            time.sleep(0.1)
        self._kinesis.meta.events.register("provide-client-params.kinesis.SubscribeToShard", _note_what_is_asked)
        self._kinesis.meta.events.register("after-call.kinesis.SubscribeToShard", self._note_what_is_answered)
        seen = self.seen

        class Seeing(RecordProcessor):
            name = "seeing"

            def process(self, record: Record) -> None:
                seen[record.partition_key or ""].append(record.json()["n"])

        return Runner(
            lambda: lambda_handler(Seeing),
            stream=KinesisStream(self._kinesis, stream, consumer_arn=consumer),
            name="long-reading",
            checkpoints=MemoryCheckpoints(),
            settings=Settings(starting_position="LATEST", function_response_types=["ReportBatchItemFailures"]),
        )

    def _note_what_is_answered(self, http_response: Any, context: dict[str, Any], **_: Any) -> None:
        if http_response.status_code != 200:
            return
        asked = context["asked"]
        self._positions[asked["ShardId"]].append(asked["StartingPosition"])
        if len(self._positions[asked["ShardId"]]) == 2:
            (key,) = (key for key in self.KEYS if self._shard_of[key]["ShardId"] == asked["ShardId"])
            self.puts_at_renewal[key] = self.puts[key]


def _note_what_is_asked(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    """botocore's handler: ``context`` is that of one call, from its arguments to its answer."""
    context["asked"] = params


def _status(kinesis: Any, consumer: str) -> str:
    status: str = kinesis.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]["ConsumerStatus"]
    return status

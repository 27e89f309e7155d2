"""One run: so many subscribers, one way, a steady load, and what the limits proxy and the subscribers counted meanwhile."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .ways import Ages, Place, connect, forwarding, reading_for_all, reading_for_one, taking_from_a_queue

__all__ = ["WAYS", "Load", "Result", "measure"]

WAYS = ("alone", "in process", "onward")
SHARDS = 3
# Forked: twenty interpreters that each import boto3 would be most of what is measured.
_fork = multiprocessing.get_context("fork")
# Seconds: how long is waited for readers to begin, and after the load for records that are still on their way.
_START = 60.0
_DRAIN = 30.0
_TICK = 0.1


@dataclass(frozen=True)
class Load:
    """So many records a second, for so many seconds."""

    rate: int = 5
    seconds: float = 20.0


@dataclass(frozen=True)
class Result:
    """``reads`` and ``throttled_reads`` are the proxy's counts during the load, of all shards. Ages are in seconds, from just
    before a record was put to the end of a subscriber's ``process``; of what a subscriber had not seen 30 s after the load, the
    age then, which is less than it will have been. ``unseen`` counts those, over all subscribers.
    """

    way: str
    subscribers: int
    records: int
    seconds: float
    reads: int
    throttled_reads: int
    p50: float
    p99: float
    longest: float
    unseen: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(kinesis: str, messaging: str, way: str, subscribers: int, load: Load) -> Result:
    """``kinesis`` is the endpoint of a limits proxy. RuntimeError where a reader does not begin or ends by itself."""
    client = connect("kinesis", kinesis)
    name = f"fanout-{uuid.uuid4().hex[:12]}"
    client.create_stream(StreamName=name, ShardCount=SHARDS)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    place = Place(kinesis, messaging, name, SHARDS)
    seen = _fork.Array("l", subscribers, lock=False)
    children = _Children()
    with children.running():
        _START_OF[way](place, seen, subscribers, children)
        children.wait_until_ready()
        time.sleep(2)  # For the calls of the beginning to be over.
        _ask(kinesis, "reset")
        sent, seconds = _publish(client, name, load)
        counts = _ask(kinesis)["streams"].get(f"us-east-1/{name}", {}).values()
        until = time.monotonic() + _DRAIN
        while min(seen) < len(sent) and time.monotonic() < until:
            children.check()
            time.sleep(0.1)
        ended = time.time()
        ages = children.end()
    client.delete_stream(StreamName=name)
    client.close()
    assert len(ages) == subscribers
    unseen = sum(number not in one for one in ages for number in range(len(sent)))
    every = sorted(one.get(number, ended - at) for one in ages for number, at in enumerate(sent))
    return Result(
        way=way,
        subscribers=subscribers,
        records=len(sent),
        seconds=round(seconds, 1),
        reads=sum(count["reads"] for count in counts),
        throttled_reads=sum(count["throttled_reads"] for count in counts),
        p50=round(_at(every, 0.5), 3),
        p99=round(_at(every, 0.99), 3),
        longest=round(every[-1], 3),
        unseen=unseen,
    )


def _alone(place: Place, seen: Any, subscribers: int, children: _Children) -> None:
    for number in range(subscribers):
        children.start(reading_for_one, place, seen, number)


def _in_process(place: Place, seen: Any, subscribers: int, children: _Children) -> None:
    children.start(reading_for_all, place, seen, subscribers)


def _onward(place: Place, seen: Any, subscribers: int, children: _Children) -> None:
    sns, sqs = connect("sns", place.messaging), connect("sqs", place.messaging)
    topic = sns.create_topic(Name=place.stream)["TopicArn"]
    queues = []
    for number in range(subscribers):
        queue = sqs.create_queue(QueueName=f"{place.stream}-{number}")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
        queues.append(queue)
    for client in sns, sqs:
        client.close()
    for number, queue in enumerate(queues):
        children.start(taking_from_a_queue, place, seen, number, queue)
    children.start(forwarding, place, topic)


_START_OF: dict[str, Callable[[Place, Any, int, _Children], None]] = {
    "alone": _alone,
    "in process": _in_process,
    "onward": _onward,
}


def _publish(client: Any, stream: str, load: Load) -> tuple[list[float], float]:
    """Put the load, one request after another. When each record was put, and how long it took."""
    sent: list[float] = []
    began = time.monotonic()
    while (passed := time.monotonic() - began) < load.seconds:
        now = time.time()
        due = min(int((passed + _TICK) * load.rate), int(load.seconds * load.rate)) - len(sent)
        records = [{"n": len(sent) + more, "sent": now, "text": "x" * 200} for more in range(due)]
        if records:
            entries = [{"Data": json.dumps(one).encode(), "PartitionKey": uuid.uuid4().hex} for one in records]
            answer = client.put_records(StreamName=stream, Records=entries)
            if answer["FailedRecordCount"]:
                raise RuntimeError("the load is more than the stream takes")
            sent += [now] * due
        time.sleep(max(0.0, began + passed + _TICK - time.monotonic()))
    return sent, time.monotonic() - began


def _ask(kinesis: str, reset: str = "") -> Any:
    url = f"{kinesis}/_limits{reset and f'/{reset}'}"
    with urllib.request.urlopen(url, data=b"" if reset else None, timeout=60) as answer:  # noqa: S310 (of this machine)
        return json.load(answer)


def _at(ordered: list[float], part: float) -> float:
    return ordered[math.ceil(part * len(ordered)) - 1]


class _Children:
    """Processes that are ended for certain."""

    def __init__(self) -> None:
        self._started: list[tuple[Any, Any]] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        try:
            yield
        finally:
            for process, pipe in self._started:
                process.kill()
                process.join()
                pipe.close()

    def start(self, target: Callable[..., None], *arguments: Any) -> None:
        here, there = _fork.Pipe()
        process = _fork.Process(target=target, args=(*arguments, there), daemon=True)
        process.start()
        there.close()
        self._started.append((process, here))

    def wait_until_ready(self) -> None:
        until = time.monotonic() + _START
        for _, pipe in self._started:
            if not pipe.poll(max(0.0, until - time.monotonic())) or pipe.recv() != "ready":
                raise RuntimeError(f"a reader was not ready within {_START:g} s")

    def check(self) -> None:
        for process, _ in self._started:
            if not process.is_alive():
                raise RuntimeError(f"a reader has ended by itself, with {process.exitcode}")

    def end(self) -> list[Ages]:
        """Stop them all. The ages of each subscriber."""
        ages: list[Ages] = []
        for process, _ in self._started:
            process.terminate()
        for process, pipe in self._started:
            if not pipe.poll(60):
                raise RuntimeError("a reader did not stop within 60 s")
            ages += pipe.recv()
            process.join(60)
        return ages

"""QueueRunner does with a queue of moto's what Lambda does with one of SQS."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from streamkit import Divert, Record, RecordProcessor, lambda_handler
from streamkit.envelope import open_envelope
from streamkit.errors import ConfigurationError
from streamkit.local.queue_runner import QueueCounts, QueueRunner
from streamkit.queues.sqs import SqsQueue


@pytest.fixture(scope="module")
def client(moto_endpoint: str) -> Iterator[Any]:
    client = boto3.client(
        "sqs",
        endpoint_url=moto_endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )
    yield client
    client.close()


def create(client: Any, *, fifo: bool = False, visibility: int = 60) -> str:
    attributes = {"VisibilityTimeout": str(visibility)} | ({"FifoQueue": "true"} if fifo else {})
    name = f"runner-{uuid.uuid4().hex}" + (".fifo" if fifo else "")
    url: str = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


@pytest.fixture
def queue(client: Any) -> str:
    return create(client)


def send(client: Any, url: str, *bodies: str, group: str | None = None) -> list[str]:
    """Send messages: their ids."""
    ids = []
    for body in bodies:
        more = {"MessageGroupId": group, "MessageDeduplicationId": uuid.uuid4().hex} if group else {}
        ids.append(client.send_message(QueueUrl=url, MessageBody=body, **more)["MessageId"])
    return ids


def held(client: Any, url: str) -> tuple[int, int]:
    """How many messages can be received, and how many wait for their visibility time-out."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(attributes[names[0]]), int(attributes[names[1]])


def runner(function: Any, url: str, client: Any, **settings: Any) -> QueueRunner:
    return QueueRunner(function, url, client, wait_time_in_seconds=0, **settings)


class Seen:
    """A function that keeps its events, and answers what it is told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.events: list[Any] = []

    def __call__(self, event: Any, context: Any) -> Any:
        self.events.append(event)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def bodies(self) -> list[list[str]]:
        return [[record["body"] for record in event["Records"]] for event in self.events]


def naming(*ids: Any) -> Any:
    return {"batchItemFailures": [{"itemIdentifier": one} for one in ids]}


def test_an_event_is_the_one_that_lambda_sends(client: Any, queue: str) -> None:
    attributes = {
        "kind": {"DataType": "String", "StringValue": "order"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = client.send_message(QueueUrl=queue, MessageBody="body", MessageAttributes=attributes)
    seen = Seen()

    assert runner(seen, queue, client).poll() == 1

    ((record,),) = [event["Records"] for event in seen.events]
    system = record.pop("attributes")
    assert system["ApproximateReceiveCount"] == "1"
    assert {"SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"} <= set(system)
    assert record.pop("receiptHandle")
    assert record == {
        "messageId": sent["MessageId"],
        "body": "body",
        "messageAttributes": {
            "kind": {
                "stringValue": "order",
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            },
            "raw": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfBody": sent["MD5OfMessageBody"],
        "md5OfMessageAttributes": sent["MD5OfMessageAttributes"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{queue.rpartition('/')[2]}",
        "awsRegion": "us-east-1",
    }


def test_a_batch_has_at_most_ten_messages(client: Any, queue: str) -> None:
    send(client, queue, *map(str, range(12)))
    seen = Seen()
    runs = runner(seen, queue, client)

    while runs.poll():
        pass

    assert sorted((body for batch in seen.bodies for body in batch), key=int) == [str(n) for n in range(12)]
    assert max(map(len, seen.bodies)) == 10
    assert held(client, queue) == (0, 0)


def test_a_function_that_ends_its_process_ends_no_runner_and_its_messages_come_again(client: Any) -> None:
    queue = create(client, visibility=0)
    send(client, queue, "a")
    bodies: list[str] = []

    def function(event: Any, context: Any) -> None:
        bodies.append(event["Records"][0]["body"])
        if len(bodies) == 1:
            sys.exit(3)

    runs = runner(function, queue, client)

    runs.poll()
    runs.poll()

    assert bodies == ["a", "a"]
    assert held(client, queue) == (0, 0)
    assert (runs.counts.failures, runs.counts.returned, runs.counts.deleted) == (1, 1, 1)


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}, ""])
def test_what_an_answer_does_not_name_is_deleted(client: Any, queue: str, answer: Any) -> None:
    send(client, queue, "a", "b")
    runs = runner(Seen(answer), queue, client)

    runs.poll()

    assert held(client, queue) == (0, 0)
    assert runs.counts == QueueCounts(received=2, deleted=2, invocations=1)


def test_what_an_answer_names_waits_for_its_visibility_time_out(client: Any, queue: str) -> None:
    _, second, _ = send(client, queue, "a", "b", "c")
    seen = Seen(naming(second))
    runs = runner(seen, queue, client)

    runs.poll()

    assert held(client, queue) == (0, 1)
    assert runs.poll() == 0
    assert runs.counts == QueueCounts(received=3, deleted=2, returned=1, invocations=1)


def test_a_message_comes_again_when_its_visibility_time_out_is_over(client: Any) -> None:
    queue = create(client, visibility=0)
    (message,) = send(client, queue, "a")
    seen = Seen(naming(message))
    runs = runner(seen, queue, client)

    runs.poll()
    runs.poll()

    assert seen.bodies == [["a"], ["a"]]
    assert held(client, queue) == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("payload"),
        naming(""),
        naming(None),
        naming("of no message"),
        naming(["a list"]),
        {"batchItemFailures": [{"itemIdentifer": "misspelt"}]},
        {"batchItemFailures": "all"},
        "done",
        [1],
    ],
    ids=str,
)
def test_an_exception_or_an_answer_that_is_not_understood_deletes_nothing(
    client: Any, queue: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    send(client, queue, "secret-a", "secret-b")
    runs = runner(Seen(answer), queue, client)

    runs.poll()

    assert held(client, queue) == (0, 2)
    assert runs.counts == QueueCounts(received=2, returned=2, invocations=1, failures=1)
    assert "2 messages stay in the queue" in caplog.text
    assert "secret" not in caplog.text
    assert "payload" not in caplog.text


def test_a_function_that_takes_too_long_has_failed_whatever_it_answers(client: Any, queue: str) -> None:
    send(client, queue, "a")
    remaining = []

    def slow(event: Any, context: Any) -> None:
        remaining.append(context.get_remaining_time_in_millis())
        while context.get_remaining_time_in_millis() > 0:
            pass

    runs = runner(slow, queue, client, function_timeout_in_seconds=0.05)

    runs.poll()

    assert 0 < remaining[0] <= 50
    assert held(client, queue) == (0, 1)


def test_a_fifo_group_waits_for_its_failed_message(client: Any) -> None:
    queue = create(client, fifo=True)
    first, second = send(client, queue, "a1", "a2", group="a")
    send(client, queue, "b1", group="b")
    seen = Seen(naming(first, second))
    runs = runner(seen, queue, client)

    runs.poll()

    assert seen.events[0]["Records"][0]["attributes"]["MessageGroupId"] == "a"
    assert runs.counts.returned == 2
    assert runs.poll() == 0
    assert sum(held(client, queue)) == 2


def test_stop_ends_a_run_after_the_batch_in_hand(client: Any, queue: str) -> None:
    send(client, queue, "a")
    begun, may_end = threading.Event(), threading.Event()

    def function(event: Any, context: Any) -> None:
        begun.set()
        assert may_end.wait(30)

    runs = runner(function, queue, client)
    thread = threading.Thread(target=runs.run)
    thread.start()
    assert begun.wait(30)

    runs.stop()
    may_end.set()
    thread.join(30)

    assert not thread.is_alive()
    assert held(client, queue) == (0, 0)


def test_a_queue_that_can_not_be_reached_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    class Lost:
        calls = 0

        def get_queue_attributes(self, **arguments: Any) -> Any:
            self.calls += 1
            if self.calls == 2:
                runs.stop()
            raise ConnectionError("nobody there")

    lost = Lost()
    runs = runner(Seen(), "http://127.0.0.1/1/retries", lost)

    runs.run()

    assert lost.calls == 2
    assert caplog.text.count("the queue retries can't be read") == 1


def test_a_batch_is_of_one_to_ten_messages() -> None:
    with pytest.raises(ConfigurationError, match="batch_size"):
        QueueRunner(Seen(), "url", None, batch_size=11)


def test_a_record_fails_its_three_tries_and_lands_in_the_dead_letters(client: Any, queue: str) -> None:
    dead_letters = create(client)
    tries = []

    class Fails(RecordProcessor):
        name = "fails"
        on_failure = Divert(
            SqsQueue(queue, client=client), dead_letters=SqsQueue(dead_letters, client=client), backoff=0
        )

        def process(self, record: Record) -> None:
            tries.append(record.attempt)
            raise ValueError("not today")

    send(client, queue, "data")
    runs = runner(lambda_handler(Fails), queue, client)

    while runs.poll():
        pass

    assert tries == [2, 3, 4]
    (message,) = client.receive_message(QueueUrl=dead_letters)["Messages"]
    envelope = open_envelope(message["Body"])
    assert envelope is not None
    assert (envelope.data, envelope.attempts) == (b"data", 3)
    assert held(client, queue) == (0, 0)

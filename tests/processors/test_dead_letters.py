"""The function that makes readable dead letters, given events as Lambda sends them; its queues, stream and bucket are on moto."""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

import pytest

from processors.dead_letters import DeadLetters
from streamkit import Block, RecordProcessor, lambda_handler
from streamkit.claims.base import Claim
from streamkit.envelope import Envelope, open_envelope
from streamkit.errors import BatchFailed, StreamkitError
from streamkit.letters import Message, read
from streamkit.local.destinations import destination
from streamkit.local.documents import kinesis_record
from streamkit.queues.sqs import SqsQueue
from streamkit.recovery import Recovered, Recovery
from streamkit.testing import MemoryQueue

from ..test_letters import ENVELOPE, message
from ..test_recovery import Clients, Stream, clients, stream

__all__ = ["clients", "stream"]


def sqs_event(*bodies: Any) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventSource": "aws:sqs",
                "messageId": f"m-{n}",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"SentTimestamp": "1777636800000"},
                "messageAttributes": {},
            }
            for n, body in enumerate(bodies)
        ]
    }


class Seconds:
    """Lambda's context, with so many seconds left."""

    def __init__(self, *left: float) -> None:
        self._left = list(left)

    def get_remaining_time_in_millis(self) -> float:
        return 1000 * (self._left.pop(0) if len(self._left) > 1 else self._left[0])


@pytest.fixture
def queue(clients: Clients) -> SqsQueue:
    sqs = clients("sqs", "")
    return SqsQueue(sqs.create_queue(QueueName=f"letters-{uuid.uuid4().hex}")["QueueUrl"], client=sqs)


def held(clients: Clients, queue: SqsQueue) -> list[Envelope]:
    found: list[Envelope] = []
    while messages := clients("sqs", "").receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10).get("Messages"):
        for one in messages:
            envelope = open_envelope(one["Body"])
            assert envelope is not None
            found.append(envelope)
    return found


def test_a_document_that_arrives_is_a_letter_for_each_record(stream: Stream, clients: Clients, queue: SqsQueue) -> None:
    numbers = stream.put(*(b"%d" % n for n in range(25)))

    answer = DeadLetters(queue, clients)(sqs_event(stream.document(numbers[0], numbers[-1], 25)))

    assert answer == {"batchItemFailures": []}
    letters = held(clients, queue)
    assert sorted(int(letter.data or b"") for letter in letters) == list(range(25))
    assert {letter.failures[-1].type for letter in letters} == {"RetryAttemptsExhausted"}


def test_a_letter_can_be_run_by_the_processor_that_it_failed_in(
    stream: Stream, clients: Clients, queue: SqsQueue
) -> None:
    numbers = stream.put(b'{"id": 7}')
    DeadLetters(queue, clients)(sqs_event(stream.document(numbers[0], numbers[0], 1)))
    (letter,) = held(clients, queue)
    seen: list[tuple[str, Any]] = []

    class Orders(RecordProcessor):
        on_failure = Block()

        def process(self, record: Any) -> None:
            seen.append((record.event_id, record.json()))

    answer = lambda_handler(Orders)(sqs_event(letter.encode()))

    assert answer == {"batchItemFailures": []}
    assert seen == [(f"{stream.name}/{stream.shard}:{numbers[0]}:0", {"id": 7})]


def test_what_it_does_not_know_stays_with_an_error_that_names_it_and_its_neighbours_go_through(
    stream: Stream, clients: Clients, queue: SqsQueue, caplog: pytest.LogCaptureFixture
) -> None:
    (number,) = stream.put(b"a")

    answer = DeadLetters(queue, clients)(
        sqs_event("secret text", stream.document(number, number, 1), ENVELOPE.encode())
    )

    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}
    assert {letter.data for letter in held(clients, queue)} == {b"a", ENVELOPE.data}
    assert "message m-0 stays where it is: Unreadable" in caplog.text
    assert "secret" not in caplog.text


def test_a_message_is_done_only_when_every_envelope_of_it_is_confirmed(stream: Stream, clients: Clients) -> None:
    numbers = stream.put(b"a", b"b", b"c")
    queue = MemoryQueue()
    queue.refuse(lambda one: one.event_id.endswith(f"{numbers[-1]}:0"))
    function = DeadLetters(queue, clients)
    event = sqs_event(stream.document(numbers[0], numbers[-1], 3))

    assert function(event) == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}


def test_what_is_gone_for_good_is_a_letter_and_an_error_in_the_log(
    clients: Clients, stream: Stream, queue: SqsQueue, caplog: pytest.LogCaptureFixture
) -> None:
    stream.shard = "shardId-000000000042"

    answer = DeadLetters(queue, clients)(sqs_event(stream.document("7", "9", 3)))

    assert answer == {"batchItemFailures": []}
    (letter,) = held(clients, queue)
    assert letter.failures[-1].type == "Gone"
    assert "3 records are gone for good" in caplog.text


def test_an_object_in_the_bucket_of_s3_is_read_when_its_notification_comes(
    stream: Stream, clients: Clients, queue: SqsQueue
) -> None:
    bucket = f"discarded-{uuid.uuid4().hex}"
    clients("s3", "").create_bucket(Bucket=bucket)
    raw = kinesis_record(
        stream_arn=stream.arn,
        shard_id=stream.shard,
        sequence_number="7",
        data=b"seven",
        partition_key="k",
        arrived_at=1_777_636_800.0,
    )
    destination(f"arn:aws:s3:::{bucket}", client=clients("s3", ""))(stream.document("7", "7", 1), [raw])
    (listed,) = clients("s3", "").list_objects_v2(Bucket=bucket)["Contents"]
    event = {
        "Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": bucket}, "object": {"key": listed["Key"]}}}]
    }

    assert DeadLetters(queue, clients)(event) == {"batchItemFailures": []}
    assert DeadLetters(queue, clients)(sqs_event(event)) == {"batchItemFailures": []}

    assert [letter.data for letter in held(clients, queue)] == [b"seven", b"seven"]


def test_a_notification_of_sns_that_fails_raises_so_that_lambda_brings_it_again(
    clients: Clients, queue: SqsQueue
) -> None:
    event = {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": "no document"}}]}

    with pytest.raises(BatchFailed, match="n-1"):
        DeadLetters(queue, clients)(event)


def test_what_an_error_topic_brings_has_its_error_and_its_time(clients: Clients, queue: SqsQueue) -> None:
    given_up = {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "m-1", "Message": ENVELOPE.encode()}}]}
    notification = {
        "MessageId": "n-1",
        "Message": json.dumps(given_up),
        "Timestamp": "2026-05-01T12:30:00.000Z",
        "MessageAttributes": {"ErrorMessage": {"Type": "String", "Value": "'total'"}},
    }

    DeadLetters(queue, clients)({"Records": [{"EventSource": "aws:sns", "Sns": notification}]})

    (letter,) = held(clients, queue)
    assert letter.failures[-1].message == "given up by Lambda: 'total'"
    assert letter.failures[-1].time == "2026-05-01T12:30:00.000Z"


def test_what_a_functions_dead_letter_queue_brings_has_its_error(clients: Clients, queue: SqsQueue) -> None:
    event = sqs_event({"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "m-1", "Message": "x"}}]})
    event["Records"][0]["messageAttributes"] = {"ErrorMessage": {"stringValue": "'total'", "dataType": "String"}}

    DeadLetters(queue, clients)(event)

    (letter,) = held(clients, queue)
    assert letter.failures[-1].message == "given up by Lambda: 'total'"


def test_a_message_that_was_moved_is_of_its_fifo_group(clients: Clients, queue: SqsQueue) -> None:
    event = sqs_event("plain", "plain")
    for raw, arn in zip(event["Records"], ("retries", "retries.fifo"), strict=True):
        raw["attributes"] = {"DeadLetterQueueSourceArn": "arn", "MessageGroupId": "c-7"}
        raw["eventSourceARN"] = f"arn:aws:sqs:us-east-1:123456789012:{arn}"

    DeadLetters(queue, clients)(event)

    assert [letter.partition_key for letter in held(clients, queue)] == [None, "c-7"]


def test_when_time_is_short_the_rest_stays(clients: Clients, queue: SqsQueue, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = DeadLetters(queue, clients)(sqs_event(*[ENVELOPE.encode()] * 3), Seconds(1.5))

    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-2"}]}
    assert len(held(clients, queue)) == 1
    assert "out of time; 2 messages" in caplog.text


def test_a_throttled_stream_is_waited_for_no_longer_than_there_is_time_to_answer(
    clients: Clients, queue: SqsQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience: list[float] = []

    def letters(recovery: Recovery, message: Message) -> Recovered:
        patience.append(recovery.patience)
        return Recovered([])

    monkeypatch.setattr(Recovery, "letters", letters)

    for seconds in (300.0, 10.0, 1.0):
        DeadLetters(queue, clients)(sqs_event("x"), Seconds(seconds))

    assert patience[0] == 20.0
    assert 0.0 < patience[1] < 10.0
    assert patience[2] == 0.0


def test_a_document_that_comes_twice_gives_a_fifo_queue_each_letter_once(stream: Stream, clients: Clients) -> None:
    sqs = clients("sqs", "")
    url = sqs.create_queue(QueueName=f"letters-{uuid.uuid4().hex}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    queue = SqsQueue(url, client=sqs)
    numbers = stream.put(b"a", b"b")
    event = sqs_event(stream.document(numbers[0], numbers[-1], 2))

    for _ in range(2):
        assert DeadLetters(queue, clients)(event) == {"batchItemFailures": []}

    assert [letter.data for letter in held(clients, queue)] == [b"a", b"b"]


def test_it_is_set_up_by_the_environment(
    stream: Stream, clients: Clients, queue: SqsQueue, monkeypatch: pytest.MonkeyPatch, moto_endpoint: str
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "DEAD_LETTER_QUEUE_URL": queue.url,
        "PROCESSOR_NAME": "invoices",
        "FILTER_CRITERIA": json.dumps({"Filters": [{"Pattern": '{"data": {"kind": ["buy"]}}'}]}),
    }.items():
        monkeypatch.setenv(name, value)
    numbers = stream.put(b'{"kind": "buy"}', b'{"kind": "sell"}', b'{"kind": "buy"}')
    function = DeadLetters()

    answer = function(sqs_event(stream.document(numbers[0], numbers[-1], 2)))
    function.close()

    assert answer == {"batchItemFailures": []}
    letters = held(clients, queue)
    assert {(letter.data, letter.processor) for letter in letters} == {(b'{"kind": "buy"}', "invoices")}
    assert len(letters) == 2


def test_where_there_is_a_bucket_of_claims_no_message_names_another(
    clients: Clients, queue: SqsQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLAIMS_BUCKET", "claims")
    claim = Claim(bucket="somebody-elses", key="k", event_id=ENVELOPE.event_id, bytes=1, sha256="0").encode()

    answer = DeadLetters(queue, clients)(sqs_event(claim))

    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}
    assert "in another bucket than claims: s3://somebody-elses/k" in caplog.text


def test_an_event_of_something_else_is_refused_and_a_warmer_is_not(clients: Clients, queue: SqsQueue) -> None:
    function = DeadLetters(queue, clients)

    assert function({}) == {"batchItemFailures": []}
    with pytest.raises(StreamkitError, match="OnFailure"):
        function({"Records": [{"eventSource": "aws:kinesis"}]})


def test_a_letter_it_wrote_reads_back_as_itself(clients: Clients, queue: SqsQueue) -> None:
    DeadLetters(queue, clients)(sqs_event(ENVELOPE.encode()))

    (letter,) = held(clients, queue)
    assert read(message(letter.encode())) == [ENVELOPE]

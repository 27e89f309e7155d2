from __future__ import annotations

import http.server
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from streamkit import Divert, RecordProcessor
from streamkit.claims.base import open_claim
from streamkit.errors import ConfigurationError, QueueError
from streamkit.queues.base import Message
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import MemoryClaims
from streamkit.testing.contracts import message

MEBIBYTE = 1_048_576
Entries = list[dict[str, Any]]
Answer = tuple[int, dict[str, Any]]


class Server:
    """Speaks SQS's JSON protocol. Each request is answered by the next of ``script``, and by taking all when it is over."""

    def __init__(self) -> None:
        self.script: list[Callable[[Entries], Answer]] = []
        self.requests: list[Entries] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["X-Amz-Target"] == "AmazonSQS.SendMessageBatch"
                status, answer = server.answer(body["Entries"])
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, entries: Entries) -> Answer:
        self.requests.append(entries)
        return (self.script.pop(0) if self.script else take_all)(entries)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def bodies(self) -> list[list[str]]:
        return [[entry["MessageBody"] for entry in entries] for entries in self.requests]


def take_all(entries: Entries) -> Answer:
    return fail({})(entries)


def fail(failures: dict[int, tuple[str, bool]]) -> Callable[[Entries], Answer]:
    """Fail the entries of these places, each with a code and whether it is the sender's fault; take the others."""

    def answer(entries: Entries) -> Answer:
        failed = [
            {"Id": entries[n]["Id"], "Code": code, "SenderFault": sender, "Message": f"because of {code}"}
            for n, (code, sender) in failures.items()
        ]
        taken = [entry["Id"] for n, entry in enumerate(entries) if n not in failures]
        return 200, {
            "Successful": [{"Id": name, "MessageId": "m", "MD5OfMessageBody": "0"} for name in taken],
            "Failed": failed,
        }

    return answer


def refuse(status: int, code: str) -> Callable[[Entries], Answer]:
    return lambda entries: (status, {"__type": f"com.amazonaws.sqs#{code}", "message": f"because of {code}"})


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    client = boto3.client(
        "sqs",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


@pytest.fixture
def queue(server: Server, client: Any) -> SqsQueue:
    return SqsQueue(f"{server.endpoint}/000000000000/retries", client=client)


@pytest.fixture
def fifo(server: Server, client: Any) -> SqsQueue:
    return SqsQueue(f"{server.endpoint}/000000000000/retries.fifo", client=client)


def soon() -> float:
    return time.monotonic() + 60


def refused(queue: SqsQueue, messages: list[Message], deadline: float | None = None) -> dict[int, str]:
    """The places of the messages that were refused, and why."""
    refusals = queue.send(messages, deadline=soon() if deadline is None else deadline)
    places = {id(sent): n for n, sent in enumerate(messages)}
    assert all(isinstance(refusal.error, Exception) for refusal in refusals)
    return {places[id(refusal.message)]: str(refusal.error) for refusal in refusals}


def messages(count: int) -> list[Message]:
    return [message(n, group=f"group-{n}") for n in range(count)]


class TestARequest:
    def test_has_ten_messages_at_most(self, queue: SqsQueue, server: Server) -> None:
        sent = messages(25)

        assert refused(queue, sent) == {}

        assert server.bodies == [
            [one.body for one in sent[:10]],
            [one.body for one in sent[10:20]],
            [one.body for one in sent[20:]],
        ]

    def test_has_one_mebibyte_at_most(self, queue: SqsQueue, server: Server) -> None:
        sent = [message(n, data=bytes(300_000)) for n in range(4)]  # 400,000 bytes each as base64

        assert refused(queue, sent) == {}

        assert [len(request) for request in server.requests] == [2, 2]
        assert all(sum(map(len, bodies)) <= MEBIBYTE for bodies in server.bodies)

    def test_of_a_message_that_sqs_could_never_take_is_not_made(self, queue: SqsQueue, server: Server) -> None:
        too_large = message(1, data=bytes(MEBIBYTE))
        assert len(too_large.body) > MEBIBYTE

        errors = refused(queue, [message(0), too_large, message(2)])

        assert list(errors) == [1]
        assert "the queue takes 1,048,576: give it claims=" in errors[1]
        assert Counter(body for bodies in server.bodies for body in bodies) == Counter(
            [message(0).body, message(2).body]
        )

    def test_of_nothing_is_not_made(self, queue: SqsQueue, server: Server) -> None:
        assert refused(queue, []) == {}
        assert server.requests == []

    @pytest.mark.parametrize(
        ("delay", "seconds"), [(0, None), (0.01, 1), (1, 1), (1.2, 2), (899.5, 900), (900, 900), (5000, 900)]
    )
    def test_has_whole_seconds_of_delay_never_fewer_than_asked_and_900_at_most(
        self, delay: float, seconds: int | None, queue: SqsQueue, server: Server
    ) -> None:
        assert refused(queue, [message(1, delay=delay)]) == {}

        assert server.requests[0][0].get("DelaySeconds") == seconds

    def test_to_a_standard_queue_names_no_group(self, queue: SqsQueue, server: Server) -> None:
        assert refused(queue, [message(1)]) == {}

        assert set(server.requests[0][0]) == {"Id", "MessageBody"}


class TestAMessageThatIsTooLarge:
    def test_goes_into_the_store_and_the_queue_gets_the_claim(self, server: Server, client: Any) -> None:
        store = MemoryClaims()
        queue = SqsQueue(f"{server.endpoint}/000000000000/retries", claims=store, client=client)
        large = message(1, data=bytes(MEBIBYTE))

        assert refused(queue, [message(0), large, message(2)]) == {}

        (bodies,) = server.bodies
        assert (bodies[0], bodies[2]) == (message(0).body, message(2).body)
        claim = open_claim(bodies[1])
        assert claim is not None
        assert claim.event_id == large.event_id
        assert store.fetch(claim, deadline=soon()) == large.body

    def test_keeps_its_delay_and_its_group(self, server: Server, client: Any) -> None:
        url = f"{server.endpoint}/000000000000/retries"
        large = message(1, data=bytes(MEBIBYTE), group="g", delay=7)

        for queue in (
            SqsQueue(url, claims=MemoryClaims(), client=client),
            SqsQueue(url + ".fifo", claims=MemoryClaims(), client=client),
        ):
            assert refused(queue, [large]) == {}

        standard, fifo = (request[0] for request in server.requests)
        assert standard["DelaySeconds"] == 7
        assert fifo["MessageGroupId"] == "g"

    def test_is_put_before_anything_is_sent(self, server: Server, client: Any) -> None:
        # A crash between the two leaves an object that nobody asks for. The other way round the record would be lost.
        store = MemoryClaims()
        queue = SqsQueue(f"{server.endpoint}/000000000000/retries", claims=store, client=client)
        held: list[int] = []

        def note(entries: Entries) -> Answer:
            held.append(len(store.objects))
            return take_all(entries)

        server.script = [note]

        assert refused(queue, [message(1, data=bytes(MEBIBYTE))]) == {}
        assert held == [1]

    def test_is_refused_alone_where_the_store_does_not_take_it(self, server: Server, client: Any) -> None:
        store = MemoryClaims()
        store.fail(ConnectionError("S3 is away"))
        queue = SqsQueue(f"{server.endpoint}/000000000000/retries", claims=store, client=client)

        errors = refused(queue, [message(0), message(1, data=bytes(MEBIBYTE)), message(2)])

        assert errors == {1: "S3 is away"}
        assert server.bodies == [[message(0).body, message(2).body]]

    def test_is_what_the_queue_says_it_is(self, server: Server, client: Any) -> None:
        # A queue's MaximumMessageSize can be less than SQS's limit.
        store = MemoryClaims()
        queue = SqsQueue(f"{server.endpoint}/000000000000/retries", claims=store, message_bytes=262_144, client=client)
        sent = [message(1, data=bytes(190_000)), message(2, data=bytes(200_000))]
        assert len(sent[0].body) < 262_144 < len(sent[1].body)

        assert refused(queue, sent) == {}

        assert [open_claim(body) is not None for body in server.bodies[0]] == [False, True]

    def test_has_a_limit_that_sqs_has(self) -> None:
        with pytest.raises(ConfigurationError, match="message_bytes"):
            SqsQueue("https://sqs/retries", message_bytes=2 * MEBIBYTE)


class TestAPartialFailure:
    def test_that_is_not_the_senders_fault_is_sent_again_alone(self, queue: SqsQueue, server: Server) -> None:
        sent = messages(3)
        server.script = [fail({1: ("InternalError", False)})]

        assert refused(queue, sent) == {}

        assert server.bodies == [[one.body for one in sent], [sent[1].body]]

    def test_that_is_the_senders_fault_is_refused_at_once(self, queue: SqsQueue, server: Server) -> None:
        sent = messages(3)
        server.script = [fail({1: ("InvalidMessageContents", True)})]

        assert refused(queue, sent) == {1: "SQS: InvalidMessageContents: because of InvalidMessageContents"}

        assert server.bodies == [[one.body for one in sent]]

    def test_of_both_kinds_refuses_the_one_and_repeats_the_other(self, queue: SqsQueue, server: Server) -> None:
        sent = messages(4)
        server.script = [
            fail({0: ("InternalError", False), 1: ("InvalidMessageContents", True), 3: ("InternalError", False)}),
            fail({1: ("InternalError", False)}),
        ]

        assert list(refused(queue, sent)) == [1]

        assert server.bodies == [[one.body for one in sent], [sent[0].body, sent[3].body], [sent[3].body]]

    def test_that_turns_into_the_senders_fault_is_refused(self, queue: SqsQueue, server: Server) -> None:
        server.script = [fail({0: ("InternalError", False)}), fail({0: ("InvalidMessageContents", True)})]

        assert list(refused(queue, messages(2))) == [0]

    def test_that_lasts_until_the_deadline_is_refused(self, queue: SqsQueue, server: Server) -> None:
        server.script = [fail({1: ("InternalError", False)})]

        errors = refused(queue, messages(3), deadline=time.monotonic() - 1)

        assert errors == {1: "SQS: InternalError: because of InternalError"}
        assert len(server.requests) == 1

    def test_is_also_an_answer_that_leaves_a_message_out(self, queue: SqsQueue, server: Server) -> None:
        server.script = [lambda entries: (200, {"Successful": [{"Id": entries[0]["Id"]}]})]

        errors = refused(queue, messages(2), deadline=time.monotonic() - 1)

        assert errors == {1: "SQS did not say what became of the message"}

    def test_is_reported_for_its_own_request_of_many(self, queue: SqsQueue, server: Server) -> None:
        server.script = [take_all, fail({4: ("InvalidMessageContents", True)})]

        assert list(refused(queue, messages(30))) == [14]

        assert [len(request) for request in server.requests] == [10, 10, 10]


class TestARequestThatFails:
    @pytest.mark.parametrize(
        "answer",
        [
            refuse(503, "ServiceUnavailable"),
            refuse(500, "InternalFailure"),
            refuse(400, "RequestThrottled"),
            refuse(403, "ThrottlingException"),
            refuse(400, "KmsThrottled"),
            refuse(429, "TooManyRequests"),
        ],
        ids=["503", "500", "throttled", "throttling", "kms", "429"],
    )
    def test_for_a_passing_reason_is_sent_again(
        self, answer: Callable[[Entries], Answer], queue: SqsQueue, server: Server
    ) -> None:
        sent = messages(2)
        server.script = [answer]

        assert refused(queue, sent) == {}

        assert server.bodies == [[one.body for one in sent]] * 2

    @pytest.mark.parametrize(
        "answer",
        [
            refuse(400, "QueueDoesNotExist"),
            refuse(403, "AccessDeniedException"),
            refuse(400, "BatchRequestTooLong"),
            refuse(403, "ExpiredTokenException"),
        ],
        ids=["queue", "access", "length", "token"],
    )
    def test_for_good_is_not(self, answer: Callable[[Entries], Answer], queue: SqsQueue, server: Server) -> None:
        server.script = [answer]

        errors = refused(queue, messages(2))

        assert list(errors) == [0, 1]
        assert all("because of" in error for error in errors.values())
        assert len(server.requests) == 1

    def test_past_the_deadline_is_tried_once(self, queue: SqsQueue, server: Server) -> None:
        server.script = [refuse(503, "ServiceUnavailable")] * 5

        assert list(refused(queue, messages(2), deadline=time.monotonic() - 1)) == [0, 1]

        assert len(server.requests) == 1

    def test_does_not_take_down_the_requests_after_it(self, queue: SqsQueue, server: Server) -> None:
        server.script = [refuse(403, "AccessDeniedException")]

        assert list(refused(queue, messages(12))) == list(range(10))


class TestAFifoQueue:
    def test_is_told_by_its_name(self, queue: SqsQueue, fifo: SqsQueue) -> None:
        assert fifo.fifo
        assert not queue.fifo

    def test_gets_each_messages_group_and_no_delay(self, fifo: SqsQueue, server: Server) -> None:
        assert refused(fifo, [message(1, group="g", delay=30)]) == {}

        (entry,) = server.requests[0]
        assert entry["MessageGroupId"] == "g"
        assert "DelaySeconds" not in entry

    def test_never_gets_two_messages_of_one_group_in_one_request(self, fifo: SqsQueue, server: Server) -> None:
        sent = [message(n, group=f"group-{n % 3}") for n in range(20)]

        assert refused(fifo, sent) == {}

        for request in server.requests:
            groups = [entry["MessageGroupId"] for entry in request]
            assert len(groups) == len(set(groups))
        for group in {one.group for one in sent}:
            arrived = [e["MessageBody"] for request in server.requests for e in request if e["MessageGroupId"] == group]
            assert arrived == [one.body for one in sent if one.group == group]

    def test_gets_nothing_of_a_group_after_a_refusal(self, fifo: SqsQueue, server: Server) -> None:
        sent = [message(0, group="g"), message(1, group="h"), message(2, group="g"), message(3, group="g")]
        server.script = [fail({0: ("InvalidMessageContents", True)})]

        errors = refused(fifo, sent)

        assert list(errors) == [0, 2, 3]
        assert errors[2] == "an earlier message of its group was refused"
        assert server.bodies == [[sent[0].body, sent[1].body]]

    def test_gets_a_new_deduplication_id_for_each_send_and_the_same_for_a_retry(
        self, fifo: SqsQueue, server: Server
    ) -> None:
        server.script = [refuse(503, "ServiceUnavailable")]
        one = message(1)

        assert refused(fifo, [one]) == {}
        assert refused(fifo, [one]) == {}

        first, again, second = (request[0]["MessageDeduplicationId"] for request in server.requests)
        assert first == again
        assert first != second


class TestFromEnv:
    def test_reads_the_variable_on_first_use(
        self, server: Server, client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RETRIES", raising=False)
        queue = SqsQueue.from_env("RETRIES", client=client)

        monkeypatch.setenv("RETRIES", f"{server.endpoint}/000000000000/late")

        assert queue.url.endswith("/late")
        assert refused(queue, messages(1)) == {}

    @pytest.mark.parametrize("value", [None, ""])
    def test_of_a_variable_that_is_not_set_names_it_and_who_wants_it(
        self, value: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DEAD_LETTERS", raising=False)
        if value is not None:
            monkeypatch.setenv("DEAD_LETTERS", value)
        dead_letters = SqsQueue.from_env("DEAD_LETTERS")

        class Orders(RecordProcessor):
            on_failure = Divert(SqsQueue("https://sqs/retries"), dead_letters)

        with pytest.raises(
            ConfigurationError, match=r"DEAD_LETTERS is not set; Orders\.on_failure's dead_letters needs"
        ):
            dead_letters.send(messages(1), deadline=soon())

    def test_of_an_arn_says_that_a_url_is_wanted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RETRIES", "arn:aws:sqs:us-east-1:123456789012:retries")

        with pytest.raises(
            ConfigurationError, match=r"SqsQueue needs the URL of an SQS queue, and RETRIES holds an ARN: arn:"
        ):
            SqsQueue.from_env("RETRIES").send(messages(1), deadline=soon())

    def test_asked_whether_it_is_fifo_needs_no_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RETRIES", raising=False)
        queue = SqsQueue.from_env("RETRIES")
        assert not queue.fifo

        monkeypatch.setenv("RETRIES", "https://sqs/retries.fifo")
        assert queue.fifo


class TestTheClient:
    def test_is_made_on_first_use_and_retries_nothing_itself(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue = SqsQueue(f"{server.endpoint}/000000000000/retries")
        assert queue._clients._borrowed == {}
        for name, value in (
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL_SQS", server.endpoint),
        ):
            monkeypatch.setenv(name, value)
        server.script = [refuse(503, "ServiceUnavailable")]

        assert list(refused(queue, messages(1), deadline=time.monotonic() - 1)) == [0]

        assert len(server.requests) == 1
        queue.close()
        assert queue._clients._borrowed == {}

    def test_is_closed_with_those_of_the_claims(self) -> None:
        closed: list[str] = []

        class Closing(MemoryClaims):
            def close(self) -> None:
                closed.append("claims")

        SqsQueue("https://sqs/retries", claims=Closing()).close()

        assert closed == ["claims"]

    def test_that_can_not_reach_the_queue_confirms_nothing(self, client: Any, server: Server) -> None:
        server.close()
        queue = SqsQueue(f"{server.endpoint}/000000000000/retries", client=client)

        refusals = queue.send(messages(2), deadline=time.monotonic() - 1)

        assert len(refusals) == 2
        assert not any(isinstance(refusal.error, QueueError) for refusal in refusals)  # The client's own error.

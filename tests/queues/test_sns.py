"""What SNS answers to a request, and what follows. That messages arrive is the contract's, on moto."""

from __future__ import annotations

import http.server
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config

from streamkit import Divert, RecordProcessor
from streamkit.claims.base import open_claim
from streamkit.errors import ConfigurationError
from streamkit.event import decode
from streamkit.queues.base import Message
from streamkit.queues.sns import SnsTopic
from streamkit.testing import MemoryClaims
from streamkit.testing.contracts import message

from ..contracts.test_queues import client_of

ARN = "arn:aws:sns:us-east-1:000000000000:retries"
LIMIT = 262_144
Entries = list[dict[str, str]]
Answer = tuple[int, str]


class Server:
    """Speaks SNS's query protocol. Each request is answered by the next of ``script``, and by taking all when it is over."""

    def __init__(self) -> None:
        self.script: list[Callable[[Entries], Answer]] = []
        self.requests: list[Entries] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                assert (form["Action"], form["TopicArn"].removesuffix(".fifo")) == ("PublishBatch", ARN)
                status, answer = server.answer(entries_of(form))
                content = answer.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
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
        return (self.script.pop(0) if self.script else fail({}))(entries)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def bodies(self) -> list[list[str]]:
        return [[entry["Message"] for entry in entries] for entries in self.requests]


def entries_of(form: dict[str, str]) -> Entries:
    prefix = "PublishBatchRequestEntries.member."
    entries: dict[int, dict[str, str]] = {}
    for name, value in form.items():
        if name.startswith(prefix):
            number, _, field = name.removeprefix(prefix).partition(".")
            entries.setdefault(int(number), {})[field] = value
    return [entries[number] for number in sorted(entries)]


def fail(failures: dict[int, tuple[str, bool]]) -> Callable[[Entries], Answer]:
    """Fail the entries of these places, each with a code and whether it is the sender's fault; take the others."""

    def answer(entries: Entries) -> Answer:
        taken = "".join(
            f"<member><Id>{entry['Id']}</Id><MessageId>m</MessageId></member>"
            for n, entry in enumerate(entries)
            if n not in failures
        )
        failed = "".join(
            f"<member><Id>{entries[n]['Id']}</Id><Code>{code}</Code><Message>because of {code}</Message>"
            f"<SenderFault>{str(sender).lower()}</SenderFault></member>"
            for n, (code, sender) in failures.items()
        )
        return 200, (
            f"<PublishBatchResponse><PublishBatchResult><Failed>{failed}</Failed>"
            f"<Successful>{taken}</Successful></PublishBatchResult></PublishBatchResponse>"
        )

    return answer


def refuse(status: int, code: str) -> Callable[[Entries], Answer]:
    return lambda entries: (
        status,
        f"<ErrorResponse><Error><Code>{code}</Code><Message>because of {code}</Message></Error></ErrorResponse>",
    )


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    client = boto3.client(
        "sns",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def soon() -> float:
    return time.monotonic() + 60


def refused(topic: SnsTopic, messages: list[Message], deadline: float | None = None) -> dict[int, str]:
    """The places of the messages that were refused, and why."""
    refusals = topic.send(messages, deadline=soon() if deadline is None else deadline)
    places = {id(sent): n for n, sent in enumerate(messages)}
    return {places[id(refusal.message)]: str(refusal.error) for refusal in refusals}


class TestARequest:
    def test_has_ten_messages_at_most(self, server: Server, client: Any) -> None:
        sent = [message(n) for n in range(25)]

        assert refused(SnsTopic(ARN, client=client), sent) == {}

        assert server.bodies == [[one.body for one in sent[n : n + 10]] for n in (0, 10, 20)]

    def test_has_256_kib_at_most(self, server: Server, client: Any) -> None:
        sent = [message(n, data=bytes(75_000)) for n in range(4)]  # 100,000 bytes each as base64

        assert refused(SnsTopic(ARN, client=client), sent) == {}

        assert [len(request) for request in server.requests] == [2, 2]

    def test_has_as_much_as_a_message_where_the_topic_allows_it(self, server: Server, client: Any) -> None:
        sent = [message(n, data=bytes(300_000)) for n in range(4)]  # 400,000 bytes each as base64

        assert refused(SnsTopic(ARN, message_bytes=1_048_576, client=client), sent) == {}

        assert [len(request) for request in server.requests] == [2, 2]

    def test_has_neither_group_nor_delay(self, server: Server, client: Any) -> None:
        assert refused(SnsTopic(ARN, client=client), [message(1, delay=30)]) == {}

        assert set(server.requests[0][0]) == {"Id", "Message"}

    def test_to_a_fifo_topic_has_the_group_and_an_id_that_its_retries_keep(self, server: Server, client: Any) -> None:
        topic = SnsTopic(f"{ARN}.fifo", client=client)
        server.script = [refuse(503, "ServiceUnavailable")]

        assert topic.fifo
        assert refused(topic, [message(1, group="g")]) == {}
        assert refused(topic, [message(1, group="g")]) == {}

        first, again, second = (request[0] for request in server.requests)
        assert first["MessageGroupId"] == "g"
        assert first["MessageDeduplicationId"] == again["MessageDeduplicationId"]
        assert first["MessageDeduplicationId"] != second["MessageDeduplicationId"]

    def test_to_a_fifo_topic_keeps_an_id_that_it_brings(self, server: Server, client: Any) -> None:
        topic = SnsTopic(f"{ARN}.fifo", client=client)

        refused(topic, [msgspec.structs.replace(message(1), deduplication_id="mine")])

        assert server.requests[0][0]["MessageDeduplicationId"] == "mine"


class TestAMessageThatIsTooLarge:
    def test_is_refused_alone_and_says_what_to_write(self, server: Server, client: Any) -> None:
        sent = [message(0), message(1, data=bytes(LIMIT)), message(2)]

        errors = refused(SnsTopic(ARN, client=client), sent)

        assert list(errors) == [1]
        assert "takes 262,144: give it claims=S3Claims(bucket)" in errors[1]

    def test_is_published_as_a_claim(self, server: Server, client: Any) -> None:
        store = MemoryClaims()
        large = message(1, data=bytes(LIMIT))

        assert refused(SnsTopic(ARN, claims=store, client=client), [large]) == {}

        claim = open_claim(server.bodies[0][0])
        assert claim is not None
        assert store.fetch(claim, deadline=soon()) == large.body


class TestAFailure:
    def test_of_one_that_passes_is_published_again_alone_and_the_senders_is_refused(
        self, server: Server, client: Any
    ) -> None:
        sent = [message(n) for n in range(3)]
        server.script = [fail({0: ("InternalFailure", False), 2: ("InvalidParameter", True)})]

        assert refused(SnsTopic(ARN, client=client), sent) == {2: "SNS: InvalidParameter: because of InvalidParameter"}

        assert server.bodies == [[one.body for one in sent], [sent[0].body]]

    @pytest.mark.parametrize("answer", [refuse(503, "ServiceUnavailable"), refuse(400, "Throttling")])
    def test_of_all_for_a_passing_reason_is_made_good(
        self, answer: Callable[[Entries], Answer], server: Server, client: Any
    ) -> None:
        server.script = [answer]

        assert refused(SnsTopic(ARN, client=client), [message(1)]) == {}

        assert len(server.requests) == 2

    @pytest.mark.parametrize("answer", [refuse(404, "NotFound"), refuse(403, "AuthorizationError")])
    def test_of_all_for_good_is_refused_at_once(
        self, answer: Callable[[Entries], Answer], server: Server, client: Any
    ) -> None:
        server.script = [answer]

        assert list(refused(SnsTopic(ARN, client=client), [message(1), message(2)])) == [0, 1]

        assert len(server.requests) == 1


def test_what_a_queue_gets_that_subscribes_is_opened_raw_or_not(moto_endpoint: str) -> None:
    sns, sqs = client_of(moto_endpoint, "sns"), client_of(moto_endpoint)
    name = uuid.uuid4().hex
    arn = sns.create_topic(Name=name)["TopicArn"]
    urls = {}
    for raw in ("true", "false"):
        urls[raw] = sqs.create_queue(QueueName=f"{name}-{raw}")["QueueUrl"]
        endpoint = sqs.get_queue_attributes(QueueUrl=urls[raw], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=endpoint, Attributes={"RawMessageDelivery": raw})
    sent = message(1, data=b"data")

    assert refused(SnsTopic(arn, client=sns), [sent]) == {}

    for raw, url in urls.items():
        (received,) = sqs.receive_message(QueueUrl=url)["Messages"]
        assert (received["Body"] == sent.body) == (raw == "true")
        event = {"messageId": received["MessageId"], "body": received["Body"], "eventSource": "aws:sqs"}
        (record,) = decode({"Records": [event]}).records
        assert (record.event_id, record.data, record.source) == (sent.event_id, b"data", "sqs")
    sns.close()
    sqs.close()


class TestFromEnv:
    def test_reads_the_arn_on_first_use(self, server: Server, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RETRIES", raising=False)
        topic = SnsTopic.from_env("RETRIES", client=client)
        assert not topic.fifo

        monkeypatch.setenv("RETRIES", ARN)

        assert topic.arn == ARN
        assert refused(topic, [message(1)]) == {}

    def test_of_a_variable_that_is_not_set_names_it_and_who_wants_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RETRIES", raising=False)
        topic = SnsTopic.from_env("RETRIES")

        class Orders(RecordProcessor):
            on_failure = Divert(topic)

        with pytest.raises(ConfigurationError, match=r"RETRIES is not set; Orders\.on_failure's queue needs the ARN"):
            topic.send([message(1)], deadline=soon())

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from streamkit.queues.base import Message
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import MemoryQueue
from streamkit.testing.contracts import FifoQueueContract, QueueContract, message

MEBIBYTE = 1_048_576


class InMemory:
    """The blanks of the contract for a MemoryQueue."""

    def received(self, queue: MemoryQueue) -> list[str]:
        return [sent.body for sent in queue.messages]

    def too_large(self, queue: MemoryQueue) -> Message:
        queue.refuse(lambda envelope: envelope.data == b"too large")
        return message(2, data=b"too large")

    def unreachable(self, queue: MemoryQueue) -> AbstractContextManager[object]:
        return self._down(queue)

    @contextmanager
    def _down(self, queue: MemoryQueue) -> Iterator[None]:
        queue.fail(ConnectionError("down"))
        try:
            yield
        finally:
            queue.fail(None)


class OnSqs:
    """The blanks of the contract for an SqsQueue."""

    def received(self, queue: SqsQueue) -> list[str]:
        bodies: list[str] = []
        while received := queue._clients.given.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for got in received:
                bodies.append(got["Body"])
                queue._clients.given.delete_message(QueueUrl=queue.url, ReceiptHandle=got["ReceiptHandle"])
        return bodies

    def too_large(self, queue: SqsQueue) -> Message:
        return message(2, data=bytes(MEBIBYTE))

    def unreachable(self, queue: SqsQueue) -> AbstractContextManager[object]:
        return self._down(queue)

    @contextmanager
    def _down(self, queue: SqsQueue) -> Iterator[None]:
        client, queue._clients.given = queue._clients.given, client_of(f"http://127.0.0.1:{closed_port()}")
        try:
            yield
        finally:
            queue._clients.given.close()
            queue._clients.given = client


def client_of(endpoint: str, service: str = "sqs") -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class OnSns:
    """The blanks of the contract for an SnsTopic, as a queue that subscribes to it sees it."""

    sqs: Any
    url: str

    def received(self, queue: SnsTopic) -> list[str]:
        bodies: list[str] = []
        while received := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for got in received:
                bodies.append(got["Body"])
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=got["ReceiptHandle"])
        return bodies

    def too_large(self, queue: SnsTopic) -> Message:
        return message(2, data=bytes(262_144))

    def unreachable(self, queue: SnsTopic) -> AbstractContextManager[object]:
        return self._down(queue)

    @contextmanager
    def _down(self, queue: SnsTopic) -> Iterator[None]:
        clients = queue._clients
        client, clients.given = clients.given, client_of(f"http://127.0.0.1:{closed_port()}", "sns")
        try:
            yield
        finally:
            clients.given.close()
            clients.given = client

    @contextmanager
    def subscribed(self, endpoint: str, end: str = "") -> Iterator[SnsTopic]:
        sns = client_of(endpoint, "sns")
        self.sqs = client_of(endpoint)
        name = f"contract-{uuid.uuid4().hex}{end}"
        fifo = {"FifoTopic": "true"} if end else {}
        arn = sns.create_topic(Name=name, Attributes=fifo)["TopicArn"]
        self.url = self.sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"} if end else {})["QueueUrl"]
        queue_arn = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
        yield SnsTopic(arn, client=sns)
        sns.delete_topic(TopicArn=arn)
        self.sqs.delete_queue(QueueUrl=self.url)
        sns.close()
        self.sqs.close()


class TestSnsTopic(OnSns, QueueContract):
    @pytest.fixture
    def queue(self, moto_endpoint: str) -> Iterator[SnsTopic]:
        with self.subscribed(moto_endpoint) as topic:
            yield topic


class TestFifoSnsTopic(OnSns, FifoQueueContract):
    @pytest.fixture
    def queue(self, moto_endpoint: str) -> Iterator[SnsTopic]:
        with self.subscribed(moto_endpoint, ".fifo") as topic:
            yield topic


class TestMemoryQueue(InMemory, QueueContract):
    @pytest.fixture
    def queue(self) -> MemoryQueue:
        return MemoryQueue()


class TestFifoMemoryQueue(InMemory, FifoQueueContract):
    @pytest.fixture
    def queue(self) -> MemoryQueue:
        return MemoryQueue(fifo=True)


class TestSqsQueue(OnSqs, QueueContract):
    @pytest.fixture
    def queue(self, moto_endpoint: str) -> Iterator[SqsQueue]:
        client = client_of(moto_endpoint)
        url = client.create_queue(QueueName=f"contract-{uuid.uuid4().hex}")["QueueUrl"]
        yield SqsQueue(url, client=client)
        client.delete_queue(QueueUrl=url)
        client.close()

    def test_a_delay_keeps_a_message_from_being_received(self, queue: SqsQueue) -> None:
        now = time.monotonic()

        assert queue.send([message(1), message(2, delay=600)], deadline=now + 30) == []

        assert self.received(queue) == [message(1).body]
        held = queue._clients.given.get_queue_attributes(QueueUrl=queue.url, AttributeNames=["All"])["Attributes"]
        assert held["ApproximateNumberOfMessagesDelayed"] == "1"


class TestFifoSqsQueue(OnSqs, FifoQueueContract):
    @pytest.fixture
    def queue(self, moto_endpoint: str) -> Iterator[SqsQueue]:
        client = client_of(moto_endpoint)
        name = f"contract-{uuid.uuid4().hex}.fifo"
        url = client.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]
        yield SqsQueue(url, client=client)
        client.delete_queue(QueueUrl=url)
        client.close()

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.progress.memory import MemoryProgress
from streamkit.testing.contracts import ProgressContract


class TestMemoryProgress(ProgressContract):
    @pytest.fixture
    def store(self) -> MemoryProgress:
        return MemoryProgress()

    def another_generation(self, store: MemoryProgress) -> MemoryProgress:
        other = MemoryProgress(generation="other")
        other._shards = store._shards
        return other

    def unreachable(self, store: MemoryProgress) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: MemoryProgress) -> Iterator[None]:
        shards = store._shards
        store._shards = None  # type: ignore[assignment]  # Memory can't be out of reach; this is the nearest to it.
        yield
        store._shards = shards


class TestDynamoDbProgress(ProgressContract):
    @pytest.fixture
    def store(self, moto_endpoint: str) -> Iterator[DynamoDbProgress]:
        client = client_of(moto_endpoint)
        store = DynamoDbProgress(f"progress-{uuid.uuid4().hex}", client=client)
        store.create_table()
        yield store
        client.delete_table(TableName=store.table)
        client.close()

    def another_generation(self, store: DynamoDbProgress) -> DynamoDbProgress:
        return DynamoDbProgress(store.table, generation="other", client=store._table.clients.given)

    def unreachable(self, store: DynamoDbProgress) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: DynamoDbProgress) -> Iterator[None]:
        client, store._table.clients.given = store._table.clients.given, client_of(f"http://127.0.0.1:{closed_port()}")
        try:
            yield
        finally:
            store._table.clients.given.close()
            store._table.clients.given = client


def client_of(endpoint: str) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=20),
    )


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from streamkit.claims.base import Claim
from streamkit.claims.s3 import S3Claims
from streamkit.testing import MemoryClaims
from streamkit.testing.contracts import ClaimContract

from .test_queues import closed_port


class TestMemoryClaims(ClaimContract):
    @pytest.fixture
    def store(self) -> MemoryClaims:
        return MemoryClaims()

    def damage(self, store: MemoryClaims, claim: Claim, content: bytes | None) -> None:
        if content is None:
            del store.objects[claim.key]
        else:
            store.objects[claim.key] = content

    def unreachable(self, store: MemoryClaims) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: MemoryClaims) -> Iterator[None]:
        store.fail(ConnectionError("down"))
        yield
        store.fail(None)


class TestS3Claims(ClaimContract):
    @pytest.fixture
    def store(self, moto_endpoint: str) -> Iterator[S3Claims]:
        client = client_of(moto_endpoint)
        bucket = f"claims-{uuid.uuid4().hex}"
        client.create_bucket(Bucket=bucket)
        yield S3Claims(bucket, prefix="retries/", client=client)
        client.close()

    def damage(self, store: S3Claims, claim: Claim, content: bytes | None) -> None:
        client = store._clients.given
        if content is None:
            client.delete_object(Bucket=store.bucket, Key=claim.key)
        else:
            client.put_object(Bucket=store.bucket, Key=claim.key, Body=content)

    def unreachable(self, store: S3Claims) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: S3Claims) -> Iterator[None]:
        clients = store._clients
        client, clients.given = clients.given, client_of(f"http://127.0.0.1:{closed_port()}")
        yield
        clients.given.close()
        clients.given = client


def client_of(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )

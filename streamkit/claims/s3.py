"""Amazon S3 as the store of what is too large for a queue.

Needs boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it. A function that sends needs ``s3:PutObject``
on the objects; one that is triggered by the queue ``s3:GetObject``, and ``s3:ListBucket`` on the bucket: without that S3 says
"forbidden" of an object that is gone, and its message comes again until the queue ends it.
"""

from __future__ import annotations

import time
from typing import Any

from ..aws import Clients, from_environment, may_pass, retried
from ..errors import Unavailable
from .base import ClaimStore

__all__ = ["S3Claims"]

# Seconds of tries for one object: its queue, or the rest of its batch, waits meanwhile.
_RETRY_TIME = 20.0


class S3Claims(ClaimStore):
    """Objects in ``bucket`` whose keys begin with ``prefix``: ``SqsQueue(url, claims=S3Claims("my-claims"))``.

    Give the bucket a lifecycle rule that ends objects under the prefix, later than the last message can be asked for:
    nothing else deletes them. ``client`` is boto3's S3 client; by default one is made on first use.
    """

    def __init__(self, bucket: str, *, prefix: str = "streamkit-claims/", client: Any = None) -> None:
        self._bucket: str | None = bucket
        self._variable = ""
        self._prefix = prefix
        self._clients = Clients("s3", "S3Claims", client)

    @classmethod
    def from_env(cls, name: str, *, prefix: str = "streamkit-claims/", client: Any = None) -> S3Claims:
        """The bucket that the environment variable ``name`` names, read on first use."""
        store = cls("", prefix=prefix, client=client)
        store._bucket, store._variable = None, name
        return store

    @property
    def bucket(self) -> str:
        """The bucket's name; ConfigurationError where the environment variable that should hold it is not set."""
        if self._bucket is None:
            self._bucket = from_environment(self._variable, "S3Claims", "the name of an S3 bucket")
        return self._bucket

    def close(self) -> None:
        self._clients.close()

    def _put(self, name: str, content: bytes, deadline: float) -> str:
        bucket, key = self.bucket, f"{self._prefix}{name}.json"
        client = self._clients.until(deadline)
        retried(
            min(deadline, time.monotonic() + _RETRY_TIME),
            lambda: client.put_object(Bucket=bucket, Key=key, Body=content, ContentType="application/json"),
        )
        return key

    def _get(self, key: str, length: int, deadline: float) -> bytes | None:
        client = self._clients.until(deadline)
        bucket = self.bucket
        try:
            return retried(min(deadline, time.monotonic() + _RETRY_TIME), lambda: _read(client, bucket, key, length))
        except Exception as error:
            if may_pass(error):
                raise
            # S3 has answered, for this object: of a neighbour it may say otherwise.
            raise Unavailable(f"can't read s3://{bucket}/{key}: {error}") from error


def _read(client: Any, bucket: str, key: str, length: int) -> bytes | None:
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
    except client.exceptions.NoSuchKey:
        return None
    with answer["Body"] as body:
        content: bytes = body.read(length + 1)
    if len(content) < min(answer["ContentLength"], length + 1):
        raise ConnectionError("S3's answer ended early")
    return content

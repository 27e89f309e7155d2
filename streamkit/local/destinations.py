"""Where failure documents go: an SQS queue, an SNS topic or an S3 bucket, as an event source mapping's OnFailure sends them.

| ARN | what it gets |
|---|---|
| ``arn:aws:sqs:<region>:<account>:<queue>`` | a message: the document's JSON |
| ``arn:aws:sns:<region>:<account>:<topic>`` | a notification: the document's JSON |
| ``arn:aws:s3:::<bucket>`` | an object: the document's JSON, with the event of the records as a text in ``payload`` |

An object's key is ``aws/lambda/<mapping id>/<shard id>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<UUID>``, its time that of the document.

Source: "Retain discarded batch records for a Kinesis Data Streams event source" in AWS's Lambda guide. Queues and topics are
standard ones. Lambda's other destination, a Kafka topic, is not built.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ..aws import make_client, whole_answers
from ..errors import ConfigurationError, QueueError

__all__ = ["Destination", "destination"]

log = logging.getLogger("streamkit")

_MISSING_CODES = ("NonExistentQueue", "QueueDoesNotExist", "NotFound", "NotFoundException", "NoSuchBucket", "404")
# Seconds for one try. The shard waits meanwhile, and who calls tries again.
_CONNECT_TIMEOUT, _READ_TIMEOUT = 5.0, 10.0


class Destination(ABC):
    """Call it with a failure document and the records that it is about, each as in ``Records`` of the event.

    It returns when the destination has confirmed that it holds the document, and raises QueueError in every other case; then
    the same call can be made again. After a lost answer a queue or a topic gets the document twice. Threads can share it.
    """

    _service: str
    # What looking whether it is there needs.
    _permission: str

    def __init__(self, arn: str, *, endpoint_url: str | None, client: Any, mapping_id: str | None) -> None:
        self.arn = arn
        _, _, _, self._region, self._account, self._name = arn.split(":")
        self._endpoint_url = endpoint_url
        self._client = whole_answers(client)
        self._is_ours = client is None
        self._mapping_id = mapping_id
        self._lock = threading.Lock()

    def __call__(self, document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        try:
            self._send(self._connected(), document, records)
        except ConfigurationError:
            raise
        except Exception as error:  # Whatever the client raises, nothing was confirmed.
            raise QueueError(
                f"{self.arn} did not take the failure document ({type(error).__name__}: {error}): see that it is there and that "
                "this process may write to it, or name another on-failure destination"
            ) from error

    def check(self) -> None:
        """Look whether it is there. ConfigurationError where it is not, QueueError where it can't be reached.

        Where this is not allowed, which tells nothing about writing to it, that is logged.
        """
        try:
            self._look(self._connected())
        except ConfigurationError:
            raise
        except Exception as error:  # Whatever the client raises is sorted by its code.
            response: dict[str, Any] = getattr(error, "response", None) or {}
            code = str(response.get("Error", {}).get("Code", ""))
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code.endswith(_MISSING_CODES):
                raise ConfigurationError(
                    f"the on-failure destination {self.arn} is not there ({code}): check its name, region and account, or make it"
                ) from error
            if status == 403 or "AccessDenied" in code or "AuthorizationError" in code:
                log.warning(
                    "whether the on-failure destination %s is there can't be told (%s): allow %s, or see that it is there",
                    self.arn,
                    code,
                    self._permission,
                )
                return
            raise QueueError(
                f"the on-failure destination {self.arn} can't be reached ({type(error).__name__}: {error}): try again, "
                "or name another"
            ) from error

    def close(self) -> None:
        """Close the client that was made here, and not one that was given."""
        with self._lock:
            if self._is_ours and self._client is not None:
                self._client.close()
                self._client = None

    @abstractmethod
    def _send(self, client: Any, document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        """Put the document (and, where the destination takes them, the records) there."""

    @abstractmethod
    def _look(self, client: Any) -> None:
        """Raise what the service says where the destination is not there, or may not be looked at."""

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        return make_client(
            self._service,
            f"the on-failure destination {self.arn}",
            (_CONNECT_TIMEOUT, _READ_TIMEOUT),
            region=self._region,
            endpoint_url=self._endpoint_url,
            session=True,
            # A host name of somebody's own has no name for each bucket.
            s3={"addressing_style": "path"} if self._endpoint_url else None,
        )


class _Queue(Destination):
    _service = "sqs"
    _permission = "sqs:GetQueueUrl and sqs:GetQueueAttributes"
    _url: str | None = None

    def _look(self, client: Any) -> None:
        self._find(client)
        client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])

    def _find(self, client: Any) -> None:
        if self._url is None:
            answer = client.get_queue_url(QueueName=self._name, QueueOwnerAWSAccountId=self._account)
            self._url = answer["QueueUrl"]

    def _send(self, client: Any, document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        self._find(client)
        client.send_message(QueueUrl=self._url, MessageBody=json.dumps(document))


class _Topic(Destination):
    _service = "sns"
    _permission = "sns:GetTopicAttributes"

    def _look(self, client: Any) -> None:
        client.get_topic_attributes(TopicArn=self.arn)

    def _send(self, client: Any, document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        client.publish(TopicArn=self.arn, Message=json.dumps(document))


class _Bucket(Destination):
    _service = "s3"
    _permission = "s3:ListBucket"

    def _look(self, client: Any) -> None:
        client.head_bucket(Bucket=self._name)

    def _send(self, client: Any, document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
        payload = json.dumps({"Records": list(records)}, separators=(",", ":"))
        body = json.dumps(document | {"payload": payload})
        client.put_object(Bucket=self._name, Key=self._key(document, body), Body=body.encode())

    def _key(self, document: dict[str, Any], body: str) -> str:
        batch = document["KinesisBatchInfo"]
        mapping = f"{document['requestContext']['functionArn']} {batch['streamArn']}"
        mapping_id = self._mapping_id or uuid.uuid5(uuid.NAMESPACE_URL, mapping)
        moment = document["timestamp"].partition(".")[0]
        year, month, day = moment.partition("T")[0].split("-")
        # Random at AWS. Of the content, so that a try whose answer was lost is written over by the next.
        name = uuid.uuid5(uuid.NAMESPACE_OID, body)
        return f"aws/lambda/{mapping_id}/{batch['shardId']}/{year}/{month}/{day}/{moment.replace(':', '.')}-{name}"


def destination(
    arn: str, *, endpoint_url: str | None = None, client: Any = None, mapping_id: str | None = None
) -> Destination:
    """The destination at ``arn``. ConfigurationError where it is none that an event source mapping takes.

    ``client`` is boto3's for that service; by default one is made on first use, for ``endpoint_url`` where there is one.
    ``mapping_id`` is the mapping's UUID, for the keys in S3; by default one made of the function's ARN and the stream's.
    """
    parts = arn.split(":")
    is_arn = len(parts) == 6 and parts[0] == "arn" and parts[2] in _KINDS and bool(parts[5]) and "/" not in parts[5]
    # A bucket's has neither region nor account.
    if not is_arn or [bool(part) for part in parts[3:5]] != [parts[2] != "s3"] * 2:
        raise ConfigurationError(
            f"the on-failure destination {arn!r} is not the ARN of a queue, a topic or a bucket: "
            "arn:aws:sqs:<region>:<account>:<queue>, arn:aws:sns:<region>:<account>:<topic> or arn:aws:s3:::<bucket>"
        )
    if arn.endswith(".fifo"):
        raise ConfigurationError(
            f"the on-failure destination {arn} is FIFO; an event source mapping takes a standard queue or topic"
        )
    return _KINDS[parts[2]](arn, endpoint_url=endpoint_url, client=client, mapping_id=mapping_id)


_KINDS: dict[str, type[Destination]] = {kind._service: kind for kind in (_Queue, _Topic, _Bucket)}

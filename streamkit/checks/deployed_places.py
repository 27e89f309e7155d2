"""The streams, topics and buckets that a function reads and writes, and the keys that encrypt them, by AWS's own answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ..aws import code_of
from .deployment import KeyFacts, OwnPolicy, PlaceFacts, Setting
from .statements import own_policy

__all__ = ["PlaceReader", "service_of"]

T = TypeVar("T")


class Asked(Protocol):
    """``Account``'s: the answer, or None with what is to be said of its absence."""

    def __call__(self, what: str, where: str, ask: Callable[[], T], /) -> T | None: ...


class PlaceReader:
    """``client_of(service)`` gives boto3's client."""

    def __init__(self, client_of: Callable[[str], Any], asked: Asked) -> None:
        self._client_of = client_of
        self._asked = asked

    def place(self, arn: str) -> PlaceFacts | None:
        """A stream, a topic or a bucket; None for anything else."""
        name = arn.rpartition(":")[2].rpartition("/")[2]
        ask: dict[str, Callable[[], PlaceFacts]] = {
            "kinesis": lambda: self._stream(arn, name),
            "sns": lambda: self._topic(arn, name),
            "s3": lambda: self._bucket(arn, name),
        }
        noun = {"kinesis": "stream", "sns": "topic", "s3": "bucket"}.get(service_of(arn), "")
        return self._asked(f"the {noun} {arn}", f"the {noun} {name}", ask[service_of(arn)]) if noun else None

    def _stream(self, arn: str, name: str) -> PlaceFacts:
        found = self._client_of("kinesis").describe_stream_summary(StreamARN=arn)["StreamDescriptionSummary"]
        key = found.get("KeyId") if found.get("EncryptionType") == "KMS" else None
        change = f"aws kinesis start-stream-encryption --stream-name {name} --key-id"
        longer = f"aws kinesis increase-stream-retention-period --stream-name {name}"
        return PlaceFacts(
            arn=arn,
            where=f"the stream {name}",
            kms_key=Setting(key, change),
            shards=found.get("OpenShardCount"),
            retention=Setting(found.get("RetentionPeriodHours"), longer),
            policy=self._policy(
                f"the stream {name}",
                lambda: self._client_of("kinesis").get_resource_policy(ResourceARN=arn)["Policy"],
            ),
        )

    def _topic(self, arn: str, name: str) -> PlaceFacts:
        found = self._client_of("sns").get_topic_attributes(TopicArn=arn)["Attributes"]
        change = f"aws sns set-topic-attributes --topic-arn {arn} --attribute-name KmsMasterKeyId"
        return PlaceFacts(
            arn=arn,
            where=f"the topic {name}",
            kms_key=Setting(found.get("KmsMasterKeyId") or None, change),
            policy=_of_topic(found.get("Policy") or "{}", f"the policy of the topic {name}"),
        )

    def _bucket(self, arn: str, name: str) -> PlaceFacts:
        from botocore.exceptions import ClientError

        change = f"aws s3api put-bucket-encryption --bucket {name}"
        key = None
        try:
            found = self._client_of("s3").get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]
            key = found["Rules"][0].get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID")
        except ClientError as error:
            # What S3 says of a bucket that never had one.
            if code_of(error) != "ServerSideEncryptionConfigurationNotFoundError":
                raise
        policy = self._policy(
            f"the bucket {name}", lambda: self._client_of("s3").get_bucket_policy(Bucket=name)["Policy"]
        )
        return PlaceFacts(arn=arn, where=f"the bucket {name}", kms_key=Setting(key, change), policy=policy)

    def _policy(self, what: str, ask: Callable[[], str]) -> OwnPolicy:
        from botocore.exceptions import ClientError

        where = f"the policy of {what}"

        def text() -> str:
            try:
                return ask()
            except ClientError as error:
                # What S3 says of a bucket that has none, and Kinesis of a stream.
                if code_of(error) in ("NoSuchBucketPolicy", "ResourceNotFoundException"):
                    return ""
                raise

        written = self._asked(where, what, text)
        return OwnPolicy(is_whole=False) if written is None else own_policy(json.loads(written or "{}"), where)

    def key(self, name: str) -> KeyFacts | None:
        what = f"the key {name}"
        if name.rpartition(":")[2].startswith("alias/aws/"):
            return None
        found = self._asked(what, what, lambda: self._client_of("kms").describe_key(KeyId=name)["KeyMetadata"])
        if found is None:
            return None
        arn, names = found["Arn"], (name, found["KeyId"])
        if found.get("KeyManager") == "AWS":
            return KeyFacts(arn=arn, names=names, policy=OwnPolicy(), is_awss=True)
        written = self._asked(
            f"the policy of {what}",
            what,
            lambda: self._client_of("kms").get_key_policy(KeyId=arn, PolicyName="default")["Policy"],
        )
        policy = OwnPolicy(is_whole=False) if written is None else own_policy(json.loads(written), what)
        return KeyFacts(arn=arn, names=names, policy=policy)


def _of_topic(text: str, where: str) -> OwnPolicy:
    """Without the statement that SNS gives each new topic: that leaves it to its account."""
    document = json.loads(text)
    statements = document.get("Statement", [])
    listed = statements if isinstance(statements, list) else [statements]
    return own_policy({"Statement": [one for one in listed if one.get("Sid") != "__default_statement_ID"]}, where)


def service_of(arn: str) -> str:
    """``sqs`` of an SQS queue's; empty for no ARN."""
    return arn.split(":")[2] if arn.count(":") >= 5 else ""

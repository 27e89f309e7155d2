"""SQS messages as Lambda's event has them, and what a function's answer says of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

__all__ = ["event_record", "failed_ids"]


def event_record(message: Mapping[str, Any], arn: str) -> dict[str, Any]:
    """The message as it stands in Lambda's event."""
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }
    if "MD5OfMessageAttributes" in message:
        record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return record


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    attribute: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        attribute["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        attribute["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return attribute


def failed_ids(response: Any, known: set[str]) -> set[str] | None:
    """The messages that an answer names; None for one that makes the whole batch fail, as it does in Lambda.

    As Lambda's guide has it ("Using Lambda with Amazon SQS"): no answer and an empty list are success; an identifier that is
    missing or empty fails the batch. So does one that is not of this batch: it says that something failed.
    """
    if response in (None, "", [], {}):
        return set()
    if not isinstance(response, Mapping):
        return None
    failures = response.get("batchItemFailures")
    if failures is None:
        return set()
    if not isinstance(failures, list):
        return None
    named: set[str] = set()
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, Mapping) else None
        if not isinstance(identifier, str) or identifier not in known:
            return None
        named.add(identifier)
    return named

"""What every benchmark works on: orders of about 500 bytes of JSON, with nested items, in the events that Lambda sends."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["NOTHING_FAILED", "Context", "event_of", "key_of", "orders", "payload_of"]

NOTHING_FAILED: dict[str, list[object]] = {"batchItemFailures": []}

_PRODUCTS = ("espresso cups", "linen tablecloth", "café au lait bowl", "salt cellar", "bread knife", "oak board")
_STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"


def orders(count: int) -> list[dict[str, Any]]:
    """``count`` orders, the same at every call."""
    chance = random.Random(7)
    made = []
    for number in range(count):
        items: list[dict[str, Any]] = [
            {
                "sku": f"SKU-{chance.randrange(10**5):05}",
                "name": chance.choice(_PRODUCTS),
                "quantity": chance.randint(1, 9),
                "price": chance.randint(100, 99_999) / 100,
            }
            for _ in range(3)
        ]
        made.append(
            {
                "id": f"order-{number:07}",
                "placed_at": f"2024-05-{number % 28 + 1:02}T{number % 24:02}:{number % 60:02}:00Z",
                "customer": {"id": f"customer-{chance.randrange(500):03}", "is_member": number % 3 == 0},
                "ship_to": {"street": "Calle de la Corrida 17, 2º", "postcode": "33206", "city": "Gijón"},
                "items": items,
                "total": round(sum(item["quantity"] * item["price"] for item in items), 2),
                "currency": "EUR",
                "note": "Leave it with the neighbour.",
                "gift": None,
            }
        )
    return made


def payload_of(order: dict[str, Any]) -> bytes:
    """The order as a producer writes it."""
    return json.dumps(order, ensure_ascii=False, separators=(",", ":")).encode()


def key_of(order: dict[str, Any]) -> str:
    """The partition key that the order is put with."""
    key: str = order["customer"]["id"]
    return key


def event_of(payloads: Sequence[bytes], keys: Sequence[str]) -> dict[str, Any]:
    """The event of a Kinesis batch. It goes through JSON, as it does on its way into Lambda's runtime."""
    first = 49545115243490985018280067714973144582180062593244200961
    records = [
        {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": key,
                "sequenceNumber": str(first + number),
                "data": base64.b64encode(payload).decode(),
                "approximateArrivalTimestamp": 1_545_084_650.987 + number / 1000,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"shardId-000000000006:{first + number}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
            "awsRegion": "eu-west-1",
            "eventSourceARN": _STREAM,
        }
        for number, (payload, key) in enumerate(zip(payloads, keys, strict=True))
    ]
    event: dict[str, Any] = json.loads(json.dumps({"Records": records}))
    return event


class Context:
    """Lambda's context, as far as a batch asks it: the arithmetic is that of awslambdaric's ``LambdaContext``."""

    def __init__(self, seconds: float = 900) -> None:
        self._epoch_deadline_time_in_ms = int((time.time() + seconds) * 1000)

    def get_remaining_time_in_millis(self) -> int:
        now = int(time.time() * 1000)
        left = self._epoch_deadline_time_in_ms - now
        return left if left > 0 else 0

"""SQS in a process of its own, as far as streamkit uses it: over HTTP, in the service's JSON protocol, and fast.

    python -m tests.soak.sqs HOST PORT

Standard queues: visibility time-outs, delays, receive counts. FIFO queues: of a group nothing is delivered while an earlier
message of it is in flight or waits to come again, a batch may hold several of one group, and a deduplication id is remembered for
five minutes, after its message too. A deletion by an older receipt than the last deletes nothing. moto's queues cost 10 ms a
message, lose one that is sent while another is deleted, and let a later message of a group pass one that comes again.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

__all__ = ["Queue", "serve"]

_ACCOUNT = "123456789012"
_DEDUPLICATION_SECONDS = 300.0
_REMEMBERED = 50_000
_BETWEEN_LOOKS = 0.05


class _Refused(Exception):
    """An error of the service's; its text is the code."""


class _Message(msgspec.Struct, eq=False):
    id: str
    body: str
    group: str
    sent_at: float
    visible_at: float
    receipt: str = ""
    receives: int = 0


class Queue:
    """One queue. Times are seconds since the epoch."""

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.fifo = name.endswith(".fifo")
        self.visibility = float(attributes.get("VisibilityTimeout", 30))
        self._held: dict[str, _Message] = {}
        self._seen: dict[str, float] = {}
        self._receipts = itertools.count(1)

    def send(self, body: str, now: float, *, group: str = "", deduplication_id: str = "", delay: float = 0.0) -> str:
        """Its id. What a FIFO queue has seen is answered for, and dropped."""
        message_id = str(uuid.uuid4())
        if self.fifo:
            if now - self._seen.get(deduplication_id, -_DEDUPLICATION_SECONDS) < _DEDUPLICATION_SECONDS:
                return message_id
            self._seen[deduplication_id] = now
            if len(self._seen) > _REMEMBERED:
                self._seen = {seen: at for seen, at in self._seen.items() if now - at < _DEDUPLICATION_SECONDS}
        self._held[message_id] = _Message(message_id, body, group, now, now + delay)
        return message_id

    def receive(self, most: int, visibility: float, now: float) -> list[_Message]:
        """Up to ``most`` that can be seen, in order; they are not seen again for ``visibility`` seconds."""
        received: list[_Message] = []
        blocked: set[str] = set()
        for message in self._held.values():
            if len(received) == most:
                break
            if self.fifo and message.group in blocked:
                continue
            if message.visible_at > now:
                blocked.add(message.group)
            else:
                received.append(message)
        for message in received:
            message.receives += 1
            message.visible_at = now + visibility
            message.receipt = f"{message.id}#{next(self._receipts)}"
        return received

    def delete(self, receipt: str) -> None:
        message = self._by_receipt(receipt)
        if message is not None:
            del self._held[message.id]

    def hide(self, receipt: str, seconds: float, now: float) -> bool:
        """Change how long it is not seen. Whether the receipt is its last."""
        message = self._by_receipt(receipt)
        if message is None or message.visible_at <= now:
            return False
        message.visible_at = now + seconds
        return True

    def _by_receipt(self, receipt: str) -> _Message | None:
        message = self._held.get(receipt.partition("#")[0])
        return message if message is not None and message.receipt == receipt else None

    def counts(self, now: float) -> dict[str, str]:
        states = [(one.visible_at <= now, one.receives > 0) for one in self._held.values()]
        visible = sum(is_visible for is_visible, _ in states)
        in_flight = sum(was_received and not is_visible for is_visible, was_received in states)
        return {
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": str(in_flight),
            "ApproximateNumberOfMessagesDelayed": str(len(states) - visible - in_flight),
        }


class _Service:
    """The operations: arguments and answers as in the protocol."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._queues: dict[str, Queue] = {}
        self._turn = threading.Lock()
        self._operations: dict[str, Callable[[Any, float], Any]] = {
            "CreateQueue": self._create,
            "GetQueueUrl": self._url,
            "GetQueueAttributes": self._attributes,
            "SendMessage": self._send,
            "SendMessageBatch": self._send_batch,
            "DeleteMessageBatch": self._delete,
            "ChangeMessageVisibilityBatch": self._hide,
        }

    def answer(self, operation: str, arguments: Any) -> Any:
        if operation == "ReceiveMessage":
            return self._receive(arguments)
        if operation not in self._operations:
            raise _Refused("UnsupportedOperation")
        with self._turn:
            return self._operations[operation](arguments, time.time())

    def _queue(self, arguments: Any) -> Queue:
        name = arguments.get("QueueName") or arguments["QueueUrl"].rpartition("/")[2]
        if name not in self._queues:
            raise _Refused("QueueDoesNotExist")
        return self._queues[name]

    def _create(self, arguments: Any, now: float) -> Any:
        name = arguments["QueueName"]
        self._queues[name] = Queue(name, arguments.get("Attributes", {}))
        return self._url(arguments, now)

    def _url(self, arguments: Any, now: float) -> Any:
        return {"QueueUrl": f"{self._endpoint}/{_ACCOUNT}/{self._queue(arguments).name}"}

    def _attributes(self, arguments: Any, now: float) -> Any:
        queue = self._queue(arguments)
        facts = {**queue.counts(now), "QueueArn": f"arn:aws:sqs:us-east-1:{_ACCOUNT}:{queue.name}"}
        names = arguments.get("AttributeNames", [])
        return {"Attributes": facts if "All" in names else {name: facts[name] for name in names if name in facts}}

    def _send(self, arguments: Any, now: float) -> Any:
        body = arguments["MessageBody"]
        message_id = self._queue(arguments).send(
            body,
            now,
            group=arguments.get("MessageGroupId", ""),
            deduplication_id=arguments.get("MessageDeduplicationId", ""),
            delay=float(arguments.get("DelaySeconds", 0)),
        )
        return {"MessageId": message_id, "MD5OfMessageBody": _md5(body)}

    def _send_batch(self, arguments: Any, now: float) -> Any:
        sent = [
            {"Id": entry["Id"], **self._send({**entry, "QueueUrl": arguments["QueueUrl"]}, now)}
            for entry in arguments["Entries"]
        ]
        return {"Successful": sent, "Failed": []}

    def _receive(self, arguments: Any) -> Any:
        give_up_at = time.monotonic() + float(arguments.get("WaitTimeSeconds", 0))
        while True:
            with self._turn:
                queue = self._queue(arguments)
                visibility = float(arguments.get("VisibilityTimeout", queue.visibility))
                received = queue.receive(int(arguments.get("MaxNumberOfMessages", 1)), visibility, time.time())
                if received or time.monotonic() >= give_up_at:
                    return (
                        {"Messages": [_as_received(message, fifo=queue.fifo) for message in received]}
                        if received
                        else {}
                    )
            time.sleep(_BETWEEN_LOOKS)

    def _delete(self, arguments: Any, now: float) -> Any:
        queue = self._queue(arguments)
        for entry in arguments["Entries"]:
            queue.delete(entry["ReceiptHandle"])
        return {"Successful": [{"Id": entry["Id"]} for entry in arguments["Entries"]], "Failed": []}

    def _hide(self, arguments: Any, now: float) -> Any:
        queue = self._queue(arguments)
        answer: dict[str, list[Any]] = {"Successful": [], "Failed": []}
        for entry in arguments["Entries"]:
            if queue.hide(entry["ReceiptHandle"], float(entry["VisibilityTimeout"]), now):
                answer["Successful"].append({"Id": entry["Id"]})
            else:
                answer["Failed"].append({"Id": entry["Id"], "Code": "MessageNotInflight", "SenderFault": True})
        return answer


def _as_received(message: _Message, *, fifo: bool) -> Any:
    attributes = {
        "SentTimestamp": str(int(message.sent_at * 1000)),
        "ApproximateReceiveCount": str(message.receives),
        **({"MessageGroupId": message.group} if fifo else {}),
    }
    return {
        "MessageId": message.id,
        "ReceiptHandle": message.receipt,
        "Body": message.body,
        "MD5OfBody": _md5(message.body),
        "Attributes": attributes,
    }


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else the body waits for the acknowledgement of the headers.
    wbufsize = -1
    service: _Service

    def do_POST(self) -> None:
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        arguments = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            self._answer(200, msgspec.json.encode(self.service.answer(operation, arguments)))
        except _Refused as error:
            self._answer(400, msgspec.json.encode({"__type": f"com.amazonaws.sqs#{error}", "message": str(error)}))

    def do_GET(self) -> None:
        self._answer(200, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # The name is the base class's.
        """Say nothing: there are hundreds of thousands of requests."""


def serve(host: str, port: int) -> None:
    """Serve until the process ends."""
    server = ThreadingHTTPServer((host, port), _Handler)
    server.daemon_threads = True
    _Handler.service = _Service(f"http://{host}:{server.server_port}")
    server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))

"""AWS Lambda: invocations of a function.

The function's role needs ``lambda:InvokeFunction`` on the other one. Needs boto3 and tenacity: ``pip install
kinesis-streamkit[aws]``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import Reject, SinkError
from ..record import Record
from .aws import CallSink, Trouble, json_of
from .base import Write

__all__ = ["LambdaSink"]

_ASYNCHRONOUS_BYTES = 1_048_576
_SYNCHRONOUS_BYTES = 6 * 1_048_576


class LambdaSink(CallSink):
    """The function of this name or ARN, invoked once for each write, ``concurrency`` at once.

        class Forward(RecordProcessor):
            mailer = LambdaSink.from_env("MAILER")

            def process(self, record):
                yield self.mailer.invocation({"to": record.json()["email"]})

    An invocation is asynchronous: taken is what Lambda has put into its own queue, 1 MiB at most. What becomes of it, its order
    and its two retries are Lambda's: give that function a dead-letter queue or an on-failure destination. A repeat is a second
    invocation.

    With ``wait`` it is synchronous, up to 6 MiB, and a write is taken when the function has returned. Its error is a failure of
    the record, as the policy has it. It has to return within five seconds, or the call counts as lost and is made again: give a
    ``client`` with a longer read time-out for more.
    """

    request_writes: ClassVar[int] = 100
    _service: ClassVar[str] = "lambda"
    _wanted: ClassVar[str] = "the name or ARN of a Lambda function"
    _content_codes: ClassVar[frozenset[str]] = frozenset(
        {"InvalidRequestContentException", "RequestTooLargeException", "UnsupportedMediaTypeException"}
    )
    _target: ClassVar[str] = "functionname"

    def __init__(self, function: str, *, wait: bool = False, concurrency: int = 8, client: Any = None) -> None:
        super().__init__(function, concurrency=concurrency, client=client)
        self._waits = wait

    def invocation(self, payload: Any) -> Write:
        """An invocation with ``payload`` as the function's event: JSON as text or bytes, or a value that JSON has.

        Reject for what Lambda would always refuse.
        """
        content = json_of(payload, "Lambda").encode()
        most = _SYNCHRONOUS_BYTES if self._waits else _ASYNCHRONOUS_BYTES
        if len(content) > most:
            raise Reject(f"Lambda takes {most:,} bytes in an invocation of this kind; this one has {len(content):,}")
        return Write(self, content, size=len(content))

    def onward(self, record: Record) -> Write:
        """The record's data, which is JSON, as the function's event."""
        return self.invocation(record.data)

    def _make(self, client: Any, write: Write) -> Trouble | None:
        kind = "RequestResponse" if self._waits else "Event"
        answer = client.invoke(FunctionName=self.place, InvocationType=kind, Payload=write.payload)
        if body := answer.get("Payload"):
            body.close()
        error = answer.get("FunctionError")
        return Trouble(SinkError(f"the function failed ({error}); its own log says why"), "failed") if error else None

"""The daemon's side of the protocol, line by line, before a real ``streamkit kcl``."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamkit

__all__ = ["ARN", "SHARD", "Daemon", "child", "record"]

SHARD = "shardId-000000000007"
ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/orders"


def record(sequence_number: int, data: bytes | str = b"{}", sub: int = 0, key: str = "k") -> dict[str, Any]:
    """A record as the daemon has it."""
    return {
        "action": "record",
        "data": base64.b64encode(data.encode() if isinstance(data, str) else data).decode(),
        "partitionKey": key,
        "sequenceNumber": str(sequence_number),
        "approximateArrivalTimestamp": 1_767_225_600_123,
        "subSequenceNumber": sub,
    }


class Daemon:
    """It takes checkpoints, as long as it is not told the errors that it is to answer with."""

    def __init__(self, to_child: int, from_child: int) -> None:
        self._to_child, self._from_child = to_child, from_child
        self._heard = b""
        #: The answers to the next checkpoints; None for one that is written. After them all are.
        self.errors: list[str | None] = []
        #: What was written, and all that was asked for: ``(sequence number, sub)``.
        self.written: list[tuple[str | None, int | None]] = []
        self.asked: list[tuple[str | None, int | None]] = []

    def say(self, action: str, **fields: Any) -> None:
        self.say_line(json.dumps({"action": action, **fields}).encode())

    def say_line(self, line: bytes) -> None:
        left = line + b"\n"
        while left:
            left = left[os.write(self._to_child, left) :]

    def hear(self, within: float = 30.0) -> dict[str, Any] | None:
        """The next message of the child, None at its end. Whatever is no message fails the test."""
        until = time.monotonic() + within
        while True:
            line, newline, rest = self._heard.partition(b"\n")
            if newline:
                self._heard = rest
                if line:
                    message: dict[str, Any] = json.loads(line)
                    return message
                continue
            ready, _, _ = select.select([self._from_child], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the child has said nothing in time"
            more = os.read(self._from_child, 1 << 16)
            if not more:
                assert not self._heard, f"the child ended within a line: {self._heard!r}"
                return None
            self._heard += more

    def tell(self, action: str, within: float = 30.0, **fields: Any) -> bool:
        """Say it, take the checkpoints, and wait for the status. Whether there was one before the child's end."""
        self.say(action, **fields)
        return self.wait_for_status(action, within)

    def wait_for_status(self, action: str, within: float = 30.0) -> bool:
        while (message := self.hear(within)) is not None:
            if message["action"] == "status":
                assert message == {"action": "status", "responseFor": action}
                return True
            assert message["action"] == "checkpoint"
            position = (message["sequenceNumber"], message["subSequenceNumber"])
            self.asked.append(position)
            error = self.errors.pop(0) if self.errors else None
            if error is None:
                self.written.append(position)
            self.say("checkpoint", sequenceNumber=position[0], subSequenceNumber=position[1], error=error)
        return False

    def initialize(self) -> None:
        assert self.tell("initialize", shardId=SHARD, sequenceNumber="TRIM_HORIZON", subSequenceNumber=0)

    def process_records(self, *records: dict[str, Any], within: float = 30.0) -> bool:
        """Whether the child has answered."""
        return self.tell("processRecords", within, records=list(records), millisBehindLatest=0)


class ChildProcess(Daemon):
    """The daemon of one process of the command."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        super().__init__(process.stdin.fileno(), process.stdout.fileno())
        self.child = process
        self._errors = errors

    @property
    def stderr(self) -> str:
        return self._errors.read_text()

    def exit_code(self) -> int:
        """Of a child that ends by itself."""
        return self.child.wait(40)

    def end(self) -> int:
        """Close the child's stdin, as the daemon does at last, and its exit code."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        return self.child.wait(30)


@contextmanager
def child(folder: Path, *arguments: str, handler: str = "orders:handler") -> Iterator[ChildProcess]:
    """``streamkit kcl`` in ``folder``; ended for certain when the block ends."""
    errors = folder / "stderr"
    given = arguments if "--stream" in arguments else ("--stream", ARN, *arguments)
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamkit.cli", "kcl", handler, *given],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(streamkit.__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        yield ChildProcess(process, errors)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()

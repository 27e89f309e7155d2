"""Hostile inputs among good ones, each through a whole handler in a process of its own: ``python -m tests.hostile``.

256 MB more than the interpreter takes, and 30 s of processor time: what needs more ends that process. Each line of the input is
JSON: an input's name, its triggers, and two files, for the process's output, a line of JSON for each trigger, and for its log.
The answer is a line with the code that it ended with.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from streamkit import Divert, Record, RecordProcessor, Reject, lambda_handler
from streamkit.local.filters import Filters
from streamkit.testing import MemoryQueue, kinesis_event

from .inputs import BODIES, KINESIS

_MORE_MEMORY = 256 << 20
_SECONDS = 30


class Orders(RecordProcessor):
    """Notes the ids of its orders."""

    name = "orders"

    def __init__(self) -> None:
        self.on_failure = Divert(MemoryQueue(), dead_letters=MemoryQueue())
        self.ids: list[int] = []

    def process(self, record: Record) -> None:
        order = record.json()
        if not isinstance(order, dict):
            raise Reject("no object")
        if "id" not in order:
            raise Reject("no id")
        self.ids.append(order["id"])


def event_of(trigger: str, hostile: Any) -> dict[str, Any]:
    """The hostile input between two good ones; SNS brings one at a time."""
    if trigger == "kinesis":
        is_text = not isinstance(hostile, bytes)
        event = kinesis_event([b'{"id": 1}', b"" if is_text else hostile, b'{"id": 2}'], start=6)
        if is_text:
            event["Records"][1]["kinesis"]["data"] = hostile
        return event
    if trigger == "sns":
        return {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "m-1", "Message": hostile}}]}
    return {
        "Records": [
            {"messageId": f"m-{n}", "body": body, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:x:0:retries"}
            for n, body in enumerate(['{"id": 1}', hostile, '{"id": 2}'])
        ]
    }


def limit() -> None:
    """What this process may take from now on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + _MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))


def main(name: str, triggers: list[str]) -> None:
    """Run one input by each trigger, and print what came of it."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    hostile = (KINESIS if triggers == ["kinesis"] else BODIES)[name].make()
    # The engine's filters see the data before a function does.
    filters = Filters([{"data": {"x": [{"exists": True}]}}, {"data": {"$or": [{"a": {"b": [5]}}, {"id": ["x"]}]}}])
    events = [event_of(trigger, hostile) for trigger in triggers]
    limit()
    for event in events:
        processor = Orders()
        outcome: dict[str, Any] = {"answer": lambda_handler(processor)(event, None), "ids": processor.ids}
        policy = processor.on_failure
        assert isinstance(policy.queue, MemoryQueue)
        assert isinstance(policy.dead_letters, MemoryQueue)
        outcome["retried"] = len(policy.queue)
        outcome["letters"] = [[letter.event_id, letter.failures[-1].message] for letter in policy.dead_letters]
        outcome["wanted"] = isinstance(hostile, bytes) and filters.wants(hostile)
        print(json.dumps(outcome))


def serve() -> None:
    """Fork a process for each line: all of them together import once."""
    for line in sys.stdin:
        name, triggers, output, log = json.loads(line)
        pid = os.fork()
        if not pid:
            code = 1
            try:
                for path, stream in ((output, sys.stdout), (log, sys.stderr)):
                    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
                main(name, triggers)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()

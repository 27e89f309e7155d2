"""Sends pings to functions, many at a time, so that as many of their containers stay warm.

Lambda keeps a container for some minutes after its last event. N events one after another all come to one container; N at the
same time come to N, since a container has one at a time. So each ping holds its container for a moment, and all are sent at once.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .aws import borrow, code_of, from_environment, whole_answers
from .errors import ConfigurationError, StreamkitError
from .health import answer_to
from .metrics import setting
from .metrics.emf import NAMESPACE
from .metrics.report import function_name, plain
from .warm import LONGEST_HOLD, Container

__all__ = ["MOST_PINGS", "Answer", "Warmer", "summed_up"]

log = logging.getLogger("streamkit")

#: Pings of one run, to all functions together: each has a thread and a connection of its own.
MOST_PINGS = 200
_HOLD = 75
# Seconds to connect, and to wait for a container that starts; and what is kept back to report in.
_CONNECT_TIMEOUT, _READ_TIMEOUT = 2.0, 30.0
_MARGIN = 1.0
_METRICS = ("WarmContainers", "ColdContainers", "PingFailures")

_Targets = dict[str, int]


class Answer(msgspec.Struct, frozen=True):
    """What came of one ping: the container that answered, empty where it did not say which; or why there was no answer."""

    container: str = ""
    is_cold: bool = False
    fault: str = ""


class Warmer:
    """The function: ``handler = Warmer()``. ``client`` is boto3's of Lambda, for tests and for functions of your own.

    ==============  ============================================================================================
    ``TARGETS``     required: JSON, function → how many containers; by name or ARN, with ``:alias`` where there is one
    ``HOLD``        milliseconds that a ping holds its container; 75 by default, 1,000 at most
    ==============  ============================================================================================
    """

    def __init__(self, client: Any = None) -> None:
        self._given = whole_answers(client)
        self._container = Container()

    def __call__(self, event: Any = None, context: Any = None) -> dict[str, dict[str, Any]]:
        """By function what its pings came to, as ``summed_up`` has it; lines of the log have the same.

        ConfigurationError for a variable that is wrong; StreamkitError where a function did not answer a single ping, and was not
        busy either. To a ping it answers as any function does, and sends none.
        """
        if (answer := answer_to(event, self._container)) is not None:
            return answer
        targets, hold = _targets(), _hold()
        remaining: Callable[[], float] | None = getattr(context, "get_remaining_time_in_millis", None)
        seconds = _READ_TIMEOUT if remaining is None else remaining() / 1000
        answers = self._ping(targets, hold, time.monotonic() + max(seconds - _MARGIN, 0.1))
        report = {target: summed_up(count, answers[target]) for target, count in targets.items()}
        sys.stdout.write("".join(_line(function_name(context), target, one) for target, one in report.items()))
        sys.stdout.flush()
        silent = [target for target, one in report.items() if not one["answered"] and not one["faults"].get(_BUSY)]
        if silent:
            faults = ", ".join(f"{target}: {', '.join(report[target]['faults'])}" for target in silent)
            raise StreamkitError(
                f"no ping was answered by {faults}. TARGETS names functions; the role needs lambda:InvokeFunction on each"
            )
        return report

    def _ping(self, targets: Mapping[str, int], hold: int, deadline: float) -> dict[str, list[Answer]]:
        """All pings at the same time, and what has come back of them by the deadline."""
        client = self._given
        if client is None:
            # Each needs a connection, which the next run finds open. It is never given back: the container ends with it.
            client = borrow(
                "lambda",
                "the warmer",
                (_CONNECT_TIMEOUT, _READ_TIMEOUT),
                max_pool_connections=sum(targets.values()),
            ).thing
        payload = json.dumps({"streamkit": "warm", "hold": hold}).encode()
        came: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()
        start = threading.Event()

        def ping(target: str) -> None:
            start.wait()
            came.put((target, _invoke(client, target, payload)))

        for target, count in targets.items():
            for _ in range(count):
                # A daemon: one that never ends holds up nobody.
                threading.Thread(target=ping, args=(target,), name="streamkit-ping", daemon=True).start()
        start.set()
        answers: dict[str, list[Answer]] = {target: [] for target in targets}
        for _ in range(sum(targets.values())):
            try:
                target, answer = came.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                break
            answers[target].append(answer)
        return answers


_BUSY = "TooManyRequestsException"


def summed_up(sent: int, answers: list[Answer]) -> dict[str, Any]:
    """Of ``sent`` pings: how many were answered, by how many containers, how many of these were cold; and the others by fault."""
    answered = [one for one in answers if not one.fault]
    faults = Counter(one.fault for one in answers if one.fault)
    if missing := sent - len(answers):
        faults["no answer in time"] = missing
    return {
        "sent": sent,
        "answered": len(answered),
        "containers": len({one.container for one in answered if one.container}),
        "cold": len({one.container for one in answered if one.container and one.is_cold}),
        "faults": dict(faults),
    }


def _invoke(client: Any, target: str, payload: bytes) -> Answer:
    """It waits for the answer: only a container that has answered is one that runs."""
    try:
        answer = client.invoke(FunctionName=target, InvocationType="RequestResponse", Payload=payload)
        content = json.loads(answer["Payload"].read())
    except Exception as error:  # noqa: BLE001  # Whatever it is, it is this ping's: the report has it.
        return Answer(fault=code_of(error) or type(error).__name__)
    if "FunctionError" in answer:
        # The kind alone: what it says may be anything.
        kind = content.get("errorType") if isinstance(content, dict) else None
        return Answer(fault=plain(kind) if isinstance(kind, str) else "FunctionError")
    container = content.get("container") if isinstance(content, dict) else None
    return Answer(
        container if isinstance(container, str) else "", isinstance(content, dict) and content.get("cold") is True
    )


def _line(function: str, target: str, one: Mapping[str, Any]) -> str:
    """In CloudWatch's embedded metric format."""
    values = dict(zip(_METRICS, (one["containers"], one["cold"], sum(one["faults"].values())), strict=True))
    described = {
        "Namespace": NAMESPACE,
        "Dimensions": [["FunctionName", "Target"]],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in _METRICS],
    }
    head = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [described]}}
    facts = {"FunctionName": function, "Target": plain(target), **values, "Pings": one}
    return json.dumps({**(head if setting() != ("off", "") else {}), **facts}) + "\n"


def _targets() -> _Targets:
    text = from_environment("TARGETS", "the warmer", "the functions to keep warm")
    try:
        # Not typed yet: an error of msgspec does not say which function's it is.
        targets = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigurationError(
            f'the environment variable TARGETS is a JSON object of functions, {{"orders:live": 3}}: {error}'
        ) from None
    for name, count in targets.items():
        if type(count) is not int or not 1 <= count <= MOST_PINGS:
            raise ConfigurationError(
                f"the environment variable TARGETS has a whole number of containers for each function, from 1 to {MOST_PINGS}; "
                f"that of {name[:170]!r} is none"
            )
    if not targets or sum(targets.values()) > MOST_PINGS:
        raise ConfigurationError(f"the environment variable TARGETS asks for 1 to {MOST_PINGS} containers in all")
    return targets


def _hold() -> int:
    text = os.environ.get("HOLD") or str(_HOLD)
    hold = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
    if not 0 <= hold <= LONGEST_HOLD:
        raise ConfigurationError(
            f"the environment variable HOLD is in milliseconds, from 0 to {LONGEST_HOLD}; got {text[:80]!r}"
        )
    return hold

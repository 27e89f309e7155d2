"""The queues of an endpoint and how much is in them. It counts, and receives nothing: a look at letters is another thing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from .clients import Clients
from .watch import Task, bound

__all__ = ["MOST_QUEUES", "QueueView", "Queues"]

#: How many queues are shown where none was named.
MOST_QUEUES = 50
_BETWEEN_LISTS = 30.0
_BETWEEN_COUNTS = 4.0
_ATTRIBUTES = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "RedrivePolicy",
    "QueueArn",
)
_DEAD_NAMES = ("dead", "dlq")


class QueueView(msgspec.Struct):
    """A queue: SQS's own approximate counts. ``kind`` is "retries" or "dead letters"; ``dead_letters`` where it sends its own.

    ``source`` is what it goes by in requests: what it was given as, always the same.
    """

    name: str
    source: str
    kind: str = "retries"
    waiting: int | None = None
    in_flight: int | None = None
    delayed: int | None = None
    dead_letters: str = ""
    #: How many could be received, the last sixty times.
    history: list[int] = []
    error: str = ""


class _Seen(msgspec.Struct):
    name: str
    url: str = ""
    kind: str = ""
    facts: dict[str, str] = {}
    history: list[int] = []


class Queues:
    """``retries`` and ``dead_letters``: names or URLs; where both are empty, the first fifty queues there are.

    A queue that nobody has told the kind of counts as one of dead letters where another queue's redrive policy points to it,
    or its name has "dead" or "dlq" in it.
    """

    def __init__(self, clients: Clients, retries: list[str], dead_letters: list[str]) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._is_listed = not retries and not dead_letters
        self._seen = {name: _Seen(name, kind="retries") for name in retries}
        self._seen |= {name: _Seen(name, kind="dead letters") for name in dead_letters}
        #: Whether there are more queues than are shown.
        self.has_more = False

    def tasks(self) -> list[Task]:
        tasks = [Task("queues", _BETWEEN_LISTS, self._list)] if self._is_listed else []
        with self._lock:
            seen = list(self._seen.values())
        return tasks + [Task(f"queue {one.name}", _BETWEEN_COUNTS, bound(self._count, one)) for one in seen]

    def view(self, error: Callable[[str], str]) -> list[QueueView]:
        with self._lock:
            policies = [
                json.loads(one.facts["RedrivePolicy"]) for one in self._seen.values() if "RedrivePolicy" in one.facts
            ]
            dead = {str(policy.get("deadLetterTargetArn", "")) for policy in policies}
            return [
                QueueView(
                    _short(one.name),
                    one.name,
                    one.kind or _kind(one, dead),
                    _number(one.facts, _ATTRIBUTES[0]),
                    _number(one.facts, _ATTRIBUTES[1]),
                    _number(one.facts, _ATTRIBUTES[2]),
                    _dead_letters(one.facts),
                    list(one.history),
                    error(f"queue {one.name}"),
                )
                for one in self._seen.values()
            ]

    def has(self, name: str) -> bool:
        """Whether a queue of that name or URL is among these."""
        with self._lock:
            return bool(name) and any(name in (one.name, one.url, _short(one.name)) for one in self._seen.values())

    def _list(self) -> None:
        with self._clients.using("sqs", "of this endpoint", "queues") as sqs:
            answer = sqs.list_queues(MaxResults=MOST_QUEUES)
        urls = answer.get("QueueUrls", [])
        with self._lock:
            self._seen = {url: self._seen.get(url) or _Seen(url, url) for url in urls}
            self.has_more = bool(answer.get("NextToken"))

    def _count(self, seen: _Seen) -> None:
        with self._clients.using("sqs", seen.name, "queue") as sqs:
            if not seen.url:
                is_url = seen.name.startswith(("http://", "https://"))
                seen.url = seen.name if is_url else sqs.get_queue_url(QueueName=seen.name)["QueueUrl"]
            answer = sqs.get_queue_attributes(QueueUrl=seen.url, AttributeNames=list(_ATTRIBUTES))
        with self._lock:
            seen.facts = answer.get("Attributes", {})
            seen.history = [*seen.history[-59:], int(seen.facts.get(_ATTRIBUTES[0], 0))]


def _short(name: str) -> str:
    """The name that a URL ends with."""
    return name.rstrip("/").rpartition("/")[2]


def _number(facts: dict[str, str], name: str) -> int | None:
    return int(facts[name]) if name in facts else None


def _dead_letters(facts: dict[str, str]) -> str:
    policy: Any = json.loads(facts.get("RedrivePolicy", "{}"))
    return str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2]


def _kind(seen: _Seen, dead: set[str]) -> str:
    name = _short(seen.name).lower()
    is_dead = seen.facts.get("QueueArn") in dead or any(one in name for one in _DEAD_NAMES)
    return "dead letters" if is_dead else "retries"

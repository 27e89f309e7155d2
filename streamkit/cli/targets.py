"""Where ``streamkit redrive`` puts letters back: the processor's retry queue or topic, or a stream."""

from __future__ import annotations

import random
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ..envelope import Envelope
from ..failure import group_of
from ..letters import deduplication_id
from ..queues.base import Message, Queue, TooLarge
from ..reason import reason
from .connection import error_code, is_passing

__all__ = ["QueueTarget", "StreamTarget", "Target"]

_LONGEST_BACKOFF = 5.0
# As `streamkit put` has it: 500 records, and 5 MiB, which every stand-in takes too.
_REQUEST_BYTES = 5 * 1024 * 1024


class Target(ABC):
    """Takes letters, no two of one key at once, and says which it did not take.

    ``patience`` is how many seconds one request is tried for before its letters count as refused.
    """

    #: The most letters of one request.
    most: int
    #: A queue's URL, a topic's ARN or a stream's name.
    place: str
    #: Whether letters of two processors may go there.
    is_shared = False

    @abstractmethod
    def send(self, letters: Sequence[Envelope], patience: float) -> dict[int, str]:
        """Why those at these places were not taken; empty when all were confirmed."""


class QueueTarget(Target):
    """A retry queue or topic: the envelope goes back as it is, with all its attempts before it again.

    A letter has one deduplication id, however often it is sent: where the answer was lost, a FIFO queue drops the second copy.
    It is not that of the letter's next life (see ``letters.deduplication_id``), so the queue never drops one that it has not got.
    """

    most = 10

    def __init__(self, queue: Queue, place: str) -> None:
        self._queue = queue
        self.place = place

    def send(self, letters: Sequence[Envelope], patience: float) -> dict[int, str]:
        messages = [
            Message(
                letter.put_back().encode(),
                letter.event_id,
                group_of(letter.processor, letter.partition_key, letter.event_id),
                deduplication_id=deduplication_id(letter),
            )
            for letter in letters
        ]
        try:
            refusals = {
                id(one.message): one.error for one in self._queue.send(messages, deadline=time.monotonic() + patience)
            }
        except Exception as error:  # noqa: BLE001  # No answer is no confirmation, whatever the reason.
            return dict.fromkeys(range(len(letters)), reason(error))
        return {n: _why(refusals[id(one)], one) for n, one in enumerate(messages) if id(one) in refusals}


def _why(error: Exception, message: Message) -> str:
    if isinstance(error, TooLarge):
        return f"its envelope has {len(message.body):,} bytes, more than the target takes: --claims-bucket names a bucket for it"
    return reason(error)


class StreamTarget(Target):
    """A stream: the payload goes back under its partition key and its explicit hash key, as a new record.

    Its place in the stream is new, and so is its event id: what dedupes by that takes it for another event.
    """

    most = 500
    is_shared = True

    def __init__(self, kinesis: Any, stream: str, sleep: Callable[[float], object] = time.sleep) -> None:
        self._kinesis = kinesis
        self._stream = self.place = stream
        self._sleep = sleep

    def send(self, letters: Sequence[Envelope], patience: float) -> dict[int, str]:
        give_up_at = time.monotonic() + patience
        waiting = dict(enumerate(_record(letter) for letter in letters))
        refused: dict[int, str] = {}
        backoff = 0.1
        while waiting:
            passing, last = self._put(waiting, refused)
            if passing and time.monotonic() + backoff >= give_up_at:
                return refused | dict.fromkeys(passing, last)
            waiting = {n: waiting[n] for n in passing}
            if waiting:
                self._sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311  # It spreads out retries and keeps no secret.
                backoff = min(_LONGEST_BACKOFF, backoff * 2)
        return refused

    def _put(self, records: dict[int, dict[str, Any]], refused: dict[int, str]) -> tuple[list[int], str]:
        """Those to try again, and why; what can never be taken is added to ``refused``."""
        passing: list[int] = []
        why = ""
        for places in _requests(records):
            try:
                answer = self._kinesis.put_records(StreamName=self._stream, Records=[records[n] for n in places])
            except Exception as error:  # noqa: BLE001  # Sorted by what it says.
                text = reason(error)
                if is_passing(error):
                    passing += places
                    why = text
                elif len(places) > 1 and error_code(error) in ("ValidationException", "InvalidArgumentException"):
                    # One bad record has failed them all.
                    middle = len(places) // 2
                    for half in (places[:middle], places[middle:]):
                        again, last = self._put({n: records[n] for n in half}, refused)
                        passing += again
                        why = last or why
                else:
                    refused.update(dict.fromkeys(places, text))
                continue
            for n, result in zip(places, answer["Records"], strict=True):
                if result.get("ErrorCode"):
                    passing.append(n)
                    why = f"{result['ErrorCode']}: {result.get('ErrorMessage', '')}".rstrip(": ")
        return passing, why


def _record(letter: Envelope) -> dict[str, Any]:
    record = {"Data": letter.data, "PartitionKey": letter.partition_key or secrets.token_hex(16)}
    if letter.explicit_hash_key is not None:
        record["ExplicitHashKey"] = letter.explicit_hash_key
    return record


def _requests(records: dict[int, dict[str, Any]]) -> list[list[int]]:
    requests: list[list[int]] = []
    size = 0
    for n, record in records.items():
        taken = len(record["Data"]) + len(record["PartitionKey"].encode())
        if not requests or size + taken > _REQUEST_BYTES:
            requests.append([])
            size = 0
        requests[-1].append(n)
        size += taken
    return requests

"""Faults of calls: drawn from the seed, counted in a file, done to boto3's clients and to the checkpoints.

A client's call that fails in one of four ways raises what botocore raises: it could not be reached, it was refused, it answered
with an error of its own, or **it was done and its answer is lost**.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.envelope import open_envelope
from streamkit.ledgers.base import ParkedKey
from streamkit.ledgers.memory import MemoryLedger

from .ledger import SqliteLedger
from .plan import Fate, fate_of

__all__ = ["FAULTS", "Faults", "FaultyCheckpoints", "FaultyKinesis", "FaultyLedger", "FaultySqs", "Killed", "counted"]

T = TypeVar("T")

#: In the order of their numbers in the file. Each may be counted by several processes.
FAULTS = (
    "the function is killed between two steps",
    "the function answers after its time-out",
    "the function's answer is lost",
    "all of a batch finds something unavailable",
    "the sink is down",
    "the sink's answer is lost",
    "GetRecords is throttled",
    "GetRecords ends with a 500",
    "GetRecords: the iterator has expired",
    "GetRecords: the answer is lost",
    "a retry queue can't be reached",
    "a retry queue refuses the request",
    "a retry queue refuses a message",
    "a retry queue's answer is lost",
    "the dead letters can't be reached",
    "the dead letters refuse the request",
    "the dead letters refuse a message",
    "the dead letters' answer is lost",
    "the queue of documents can't be reached",
    "the queue of documents' answer is lost",
    "a receive fails",
    "a receive's answer is lost",
    "a deletion fails",
    "a deletion's answer is lost",
    "the ledger of Park can't be reached",
    "the ledger of Park's answer is lost",
    "the checkpoints are busy",
    "the checkpoints' answer is lost",
    "a record is refused by PutRecords",
    "PutRecords' answer is lost, and it is put again",
)
_NUMBERS = {name: number for number, name in enumerate(FAULTS)}
_HAPPENED = 128
#: A killed invocation dies at one of its first so many steps.
_STEPS = 60
_LEAK = 400_000
# As slow as a time-out is.
_SLOW = {"the function answers after its time-out": 0.1}


class Killed(SystemExit):
    """The process ends here, as far as this invocation can tell."""


class _Life(threading.local):
    """How many steps the invocation of this thread has left; None: it lives."""

    left: int | None = None


class Faults:
    """Draws of one process. ``name`` and ``life`` tell it from the others, and from itself before it was killed."""

    def __init__(self, path: Path, *, seed: int, name: str, life: int, rate: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.rate = rate
        self._drawn = {fault: random.Random(f"{seed}/{name}/{life}/{fault}") for fault in FAULTS}
        self._life = _Life()

    def happens(self, fault: str) -> bool:
        """Whether it happens to this call. The n-th call that could have it gets the same answer in each run of a seed."""
        happens = self._drawn[fault].random() < self.rate * _SLOW.get(fault, 1.0)
        os.write(self._file, bytes((_NUMBERS[fault] | _HAPPENED * happens,)))
        return happens

    def begin(self) -> None:
        """An invocation begins in this thread: decide whether it is to be killed."""
        is_killed = self.happens(FAULTS[0])
        self._life.left = self._drawn[FAULTS[0]].randrange(_STEPS) if is_killed else None

    def end(self) -> None:
        self._life.left = None

    def step(self) -> None:
        """A place between two steps. Killed, where the invocation ends here."""
        life = self._life
        if life.left is None:
            return
        life.left -= 1
        if life.left < 0:
            life.left = None
            raise Killed(137)

    def around(self, service: str, before: str, after: str, call: Callable[[], Any]) -> Any:
        """What ``call`` gives, unless it can't be reached, or is done and its answer is lost."""
        self.step()
        if self.happens(before):
            raise EndpointConnectionError(endpoint_url=f"https://{service}.soak")
        answer = call()
        self.step()
        if self.happens(after):
            raise ReadTimeoutError(endpoint_url=f"https://{service}.soak")
        return answer

    def pick(self, fault: str, among: int) -> int:
        return self._drawn[fault].randrange(among)

    def close(self) -> None:
        os.close(self._file)


def counted(path: Path) -> dict[str, tuple[int, int]]:
    """Of each fault how often it happened, and how often it could have."""
    counts: Counter[int] = Counter()
    with path.open("rb") as file:
        while page := file.read(1 << 20):
            counts.update(page)
    return {name: (counts[n | _HAPPENED], counts[n] + counts[n | _HAPPENED]) for name, n in _NUMBERS.items()}


def refused(operation: str, code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "soaked"}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


class _Faulty:
    """A client of boto3's: what is not overridden is its own."""

    def __init__(self, client: Any, faults: Faults) -> None:
        self._client = client
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class FaultyKinesis(_Faulty):
    """Reads fail. A wrong answer of ``get_records`` costs nothing but a read."""

    def get_records(self, **arguments: Any) -> Any:
        faults = self._faults
        if faults.happens("GetRecords is throttled"):
            raise refused("GetRecords", "ProvisionedThroughputExceededException")
        if faults.happens("GetRecords ends with a 500"):
            raise refused("GetRecords", "InternalFailure", 500)
        if faults.happens("GetRecords: the iterator has expired"):
            raise refused("GetRecords", "ExpiredIteratorException")
        answer = self._client.get_records(**arguments)
        if faults.happens("GetRecords: the answer is lost"):
            raise ReadTimeoutError(endpoint_url="https://kinesis.soak")
        return answer


class FaultyLedger(SqliteLedger):
    """Each call fails before it is done, or after."""

    def __init__(self, path: Path, faults: Faults, planted: set[str]) -> None:
        super().__init__(path)
        self._faults = faults
        self._planted = planted

    def parked(self, processor: str, *, deadline: float) -> dict[str, ParkedKey]:
        if "reorder a key" in self._planted:
            # An answer that forgets what is parked.
            return {}
        return self._around(lambda: super(FaultyLedger, self).parked(processor, deadline=deadline))

    def key(self, processor: str, group: str, *, deadline: float) -> ParkedKey | None:
        return self._around(lambda: super(FaultyLedger, self).key(processor, group, deadline=deadline))

    def remove(self, processor: str, group: str, ids: Mapping[str, float], before: float, *, deadline: float) -> None:
        if "leave an id in the ledger" in self._planted:
            # An answer to what was not done.
            self._planted.discard("leave an id in the ledger")
            return
        super().remove(processor, group, ids, before, deadline=deadline)

    def _change(self, processor: str, group: str, change: Callable[[MemoryLedger], T]) -> T:
        return self._around(lambda: super(FaultyLedger, self)._change(processor, group, change))

    def _around(self, call: Callable[[], T]) -> T:
        result: T = self._faults.around(
            "ledger", "the ledger of Park can't be reached", "the ledger of Park's answer is lost", call
        )
        return result


class FaultySqs(_Faulty):
    """Sends, receives and deletions fail, whole or in part. ``told`` is called with each event id that dead letters took."""

    def __init__(
        self, client: Any, faults: Faults, told: Callable[[str], None], *, drops_one: bool = False, leaks: bool = False
    ) -> None:
        super().__init__(client, faults)
        self._told = told
        self._drops_one = drops_one
        self._dropped = ""
        self._leaks = leaks
        self._leaked: list[bytes] = []

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803  # As boto3 has it.
        faults = self._faults
        is_dead = "-dead" in QueueUrl
        whose, verb = ("the dead letters", "refuse") if is_dead else ("a retry queue", "refuses")
        if faults.happens(f"{whose} {verb} the request"):
            raise refused("SendMessageBatch", "AccessDenied", 403)
        entries, failed = [], []
        for entry in Entries:
            if faults.happens(f"{whose} {verb} a message"):
                for_good = bool(faults.pick(f"{whose} {verb} a message", 2))
                failed.append({"Id": entry["Id"], "Code": "Soaked", "Message": "no", "SenderFault": for_good})
            else:
                entries.append(entry)
        dropped = [entry for entry in entries if self._drops_one and self._is_to_drop(entry)]
        entries = [entry for entry in entries if entry not in dropped]

        def send() -> Any:
            answer = self._client.send_message_batch(QueueUrl=QueueUrl, Entries=entries) if entries else {}
            if is_dead:
                self._tell(entries, answer)
            return answer

        lost = f"{whose}' answer is lost" if is_dead else f"{whose}'s answer is lost"
        answer = faults.around("sqs", f"{whose} can't be reached", lost, send)
        return {
            "Successful": [*answer.get("Successful", []), *({"Id": entry["Id"]} for entry in dropped)],
            "Failed": [*answer.get("Failed", []), *failed],
        }

    def _is_to_drop(self, entry: dict[str, Any]) -> bool:
        """Planted: the messages of one record are confirmed, and nobody has them. It is one that can't succeed meanwhile."""
        envelope = open_envelope(entry["MessageBody"])
        if envelope is None or envelope.data is None or fate_of(envelope.data) is not Fate.BROKEN:
            return False
        self._dropped = self._dropped or envelope.event_id
        return envelope.event_id == self._dropped

    def _tell(self, entries: list[dict[str, Any]], answer: Any) -> None:
        taken = {success["Id"] for success in answer.get("Successful", ())}
        for entry in entries:
            envelope = open_envelope(entry["MessageBody"])
            if entry["Id"] in taken and envelope is not None:
                self._told(envelope.event_id)

    def send_message(self, **arguments: Any) -> Any:
        return self._faults.around(
            "sqs",
            "the queue of documents can't be reached",
            "the queue of documents' answer is lost",
            lambda: self._client.send_message(**arguments),
        )

    def receive_message(self, **arguments: Any) -> Any:
        if self._leaks:
            # Planted.
            self._leaked.append(b"." * _LEAK)
        if self._faults.happens("a receive fails"):
            raise refused("ReceiveMessage", "ServiceUnavailable", 503)
        answer = self._client.receive_message(**arguments)
        if self._faults.happens("a receive's answer is lost"):
            raise ReadTimeoutError(endpoint_url="https://sqs.soak")
        return answer

    def delete_message_batch(self, **arguments: Any) -> Any:
        if self._faults.happens("a deletion fails"):
            entries = arguments["Entries"]
            failed = [{"Id": entry["Id"], "Code": "Soaked", "SenderFault": False} for entry in entries]
            return {"Successful": [], "Failed": failed}
        answer = self._client.delete_message_batch(**arguments)
        if self._faults.happens("a deletion's answer is lost"):
            raise ReadTimeoutError(endpoint_url="https://sqs.soak")
        return answer


class FaultyCheckpoints(SqliteCheckpoints):
    """A change is not made, or made and not answered for: SQLite's file is busy. ``taken`` is called with each shard whose lease
    was taken.
    """

    def __init__(self, path: Path, faults: Faults, taken: Callable[[str], None]) -> None:
        super().__init__(path)
        self._faults = faults
        self._taken = taken

    def take(self, *arguments: Any, **options: Any) -> Any:
        lease = super().take(*arguments, **options)
        if lease is not None:
            self._taken(lease.shard_id)
        return lease

    def _change(self, reader: str, stream: str, shard_id: str, changed: Any) -> Any:
        if self._faults.happens("the checkpoints are busy"):
            raise _busy()
        after = super()._change(reader, stream, shard_id, changed)
        if self._faults.happens("the checkpoints' answer is lost"):
            raise _busy()
        return after


def _busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error

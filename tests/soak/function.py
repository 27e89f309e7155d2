"""The function: one processor, under each policy, in a container that is killed, slow, or not heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from streamkit import (
    Record,
    RecordProcessor,
    Reject,
    Retry,
    Unavailable,
    Write,
    lambda_handler,
)
from streamkit.errors import DecodeError
from streamkit.handler import Handler
from streamkit.policy import Policy

from .faults import Faults, Killed
from .journal import Journal, Kind
from .plan import STREAMS, Fate
from .store import Store, StoreSink

__all__ = ["Broken", "Flaky", "Function", "Tried", "World", "position_of", "processor_name"]

_MARGIN = 0.3
_REMEMBERED = 5000


class Broken(Exception):
    """The cause that is mended at the end of a round."""


class Flaky(Exception):
    """Gone at the next try."""


class Tried:
    """Which numbers this process has tried. It forgets all of them now and then: its memory is looked at."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def is_first(self, number: int) -> bool:
        if number in self._numbers:
            return False
        if len(self._numbers) >= _REMEMBERED:
            self._numbers.clear()
        self._numbers.add(number)
        return True


def processor_name(stream: str) -> str:
    return f"soaked-{stream}"


def position_of(event_id: str) -> tuple[int, int, int, int]:
    """Stream, shard, sequence number and place in the aggregate, as numbers."""
    stream, _, rest = event_id.partition("/")
    shard, number, sub = rest.split(":")
    return STREAMS.index(stream.removeprefix("soak-")), int(shard.rpartition("-")[2]), int(number), int(sub)


class World:
    """What all functions of one process share."""

    def __init__(self, folder: Path, journal: Journal, faults: Faults, planted: set[str], overrun_after: float) -> None:
        self.folder = folder
        self.journal = journal
        self.faults = faults
        self.planted = planted
        #: Seconds after which a message is seen by others though its function runs still.
        self.overrun_after = overrun_after
        self.tried = Tried()

    def mended(self) -> int:
        """How many rounds' causes are mended."""
        try:
            return int((self.folder / "mended").read_text() or 0)
        except FileNotFoundError:
            return 0


class Soaked(RecordProcessor):
    """Writes each record once, or fails as its fate has it."""

    name = "soaked"
    deadline_margin = _MARGIN

    def __init__(self, world: World, stream: str, policy: Policy) -> None:
        self.name = processor_name(stream)
        self.on_failure = policy
        self._world = world
        self._stream = stream
        # Under Block later records of a key go on before a dead letter is confirmed; under Park none does.
        self._poison_is_through = stream != "park"
        self._sink = StoreSink(
            Store(world.folder / "store.sqlite"), stream, world.faults, world.tried.is_first, world.planted
        )
        self._mended = 0

    def prepare(self, records: Sequence[Record]) -> None:
        self._mended = self._world.mended()
        if self._world.faults.happens("all of a batch finds something unavailable"):
            raise Unavailable("the soak's dependency")

    def process(self, record: Record) -> Iterator[Write]:
        world = self._world
        world.faults.step()
        where = position_of(record.event_id)
        world.journal.add(Kind.STARTED if record.source == "kinesis" else Kind.STARTED_FROM_QUEUE, *where)
        try:
            event = record.json()
            self._fail(event)
        except (DecodeError, Reject):
            if self._poison_is_through:
                world.journal.add(Kind.THROUGH, *where)
            raise
        yield self._sink.row(event)
        world.faults.step()
        world.journal.add(Kind.THROUGH, *where)

    def _fail(self, event: dict[str, Any]) -> None:
        fate = event["fate"]
        if fate == Fate.GOOD:
            return
        if fate == Fate.POISON:
            raise Reject("poison")
        is_mended = event["round"] < self._mended
        if fate == Fate.BROKEN and not is_mended:
            raise Broken("mendable: broken")
        if fate == Fate.WAITING and not is_mended:
            raise Unavailable("what it waits for")
        if fate in (Fate.FLAKY, Fate.LATER, Fate.NEEDY) and self._world.tried.is_first(event["n"]):
            if fate == Fate.FLAKY:
                raise Flaky("mendable: not this time")
            if fate == Fate.LATER:
                raise Retry(1, "mendable: later")
            raise Unavailable("what it needs")


class Function:
    """A container with the processor of a stream; for one thread. Killed, the next invocation has a new one."""

    def __init__(self, world: World, stream: str, policy: Callable[[], Policy]) -> None:
        self._world = world
        self._stream = stream
        self._policy = policy
        self._handler: Handler | None = None

    def __call__(self, event: Any, context: Any) -> Any:
        world = self._world
        if self._handler is None:
            self._handler = lambda_handler(lambda: Soaked(world, self._stream, self._policy()))
        is_stream = event["Records"][0]["eventSource"] == "aws:kinesis"
        if is_stream:
            self._note(Kind.INVOKED, event, int(event["Records"][-1]["kinesis"]["sequenceNumber"]))
        began = time.monotonic()
        world.faults.begin()
        try:
            answer = self._handler(event, context)
            world.faults.step()
        except Killed:
            self.close()
            raise
        finally:
            world.faults.end()
            if not is_stream and time.monotonic() - began >= world.overrun_after:
                world.journal.add(Kind.OVERRUN, STREAMS.index(self._stream), 0)
        if world.faults.happens("the function answers after its time-out"):
            time.sleep(context.get_remaining_time_in_millis() / 1000 + 0.001)
            return answer
        if world.faults.happens("the function's answer is lost"):
            raise ConnectionError("the answer is lost")
        if is_stream:
            failures = answer["batchItemFailures"]
            last = int(event["Records"][-1]["kinesis"]["sequenceNumber"])
            self._note(Kind.ANSWERED, event, int(failures[0]["itemIdentifier"]) if failures else last + 1)
        return answer

    def _note(self, kind: Kind, event: Any, number: int) -> None:
        first = event["Records"][0]
        stream, shard, sequence, _ = position_of(f"soak-{self._stream}/{first['eventID']}:0")
        if kind is Kind.INVOKED:
            self._world.journal.add(kind, stream, shard, sequence, number)
        else:
            self._world.journal.add(kind, stream, shard, number)

    def close(self) -> None:
        if self._handler is not None:
            # What a transaction has begun is undone with its connection.
            self._handler.close()
            self._handler = None

"""The rows of the queues: three messages meet a fault, and those that were not confirmed are sent again when it is over."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from streamkit.queues.base import Message, Queue
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue

from .cells import Cell, Fault
from .dialects import AWS_SINKS
from .exchange import Exchange

__all__ = ["QUEUES", "QueueRow"]

#: Each send of a message is another one, on a FIFO queue too: the protocol of ``Park`` rests on it.
CELLS: Mapping[Fault, Cell] = {
    "slow": Cell("refused", None, "twice"),
    "refusing": Cell("refused", False, "once"),
    "throttling": Cell("refused", True, "once"),
    "in-part": Cell("only what was not taken is refused", True, "once"),
    "gone": Cell("refused", None, "once"),
    "answer-lost": Cell("refused", True, "twice"),
}
FIFO: Mapping[Fault, Cell] = {
    **CELLS,
    "in-part": Cell("what was not taken, and what follows it in its group, is refused", True, "once"),
}


class QueueRow(Exchange):
    service = "moto"
    cells = CELLS
    fifo = False
    url: str

    def made_proxy(self) -> Any:
        return self.cloud.aws

    def batch(self, numbers: Iterable[int]) -> dict[int, Message]:
        return {
            n: Message(json.dumps({"n": n}), event_id=f"{self.tag}-{n}", group="group" if self.fifo else f"group-{n}")
            for n in numbers
        }

    def deliver(self, batch: Mapping[int, Message], seconds: float) -> dict[int, str]:
        """See ``Exchange.deliver``. A queue does not raise for a service that is away."""
        refusals = list(cast(Queue, self.target).send(list(batch.values()), deadline=time.monotonic() + seconds))
        assert all(isinstance(refusal.error, Exception) and str(refusal.error) for refusal in refusals)
        refused = {id(refusal.message) for refusal in refusals}
        assert len(refused) == len(refusals), "one refusal for each"
        return {n: "refused" if id(message) in refused else "taken" for n, message in batch.items()}

    def there(self) -> Counter[int]:
        return Counter(body["n"] for body in self.cloud.received(self.url))


class OfSqs(QueueRow):
    backend, dialect = SqsQueue, AWS_SINKS["sqs"]

    def made(self) -> Any:
        self.url = self.cloud.queue(fifo=self.fifo)
        return SqsQueue(self.url)


class OfSns(QueueRow):
    backend, dialect = SnsTopic, AWS_SINKS["sns"]

    def made(self) -> Any:
        self.url = self.cloud.queue(fifo=self.fifo)
        return SnsTopic(self.cloud.topic(self.url))


class OfSqsInGroups(OfSqs):
    manner, cells, fifo = "FIFO", FIFO, True


class OfSnsInGroups(OfSns):
    manner, cells, fifo = "FIFO", FIFO, True


#: A queue that is new gets its row here.
QUEUES: Sequence[type[QueueRow]] = (OfSqs, OfSqsInGroups, OfSns, OfSnsInGroups)

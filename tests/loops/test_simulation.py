"""Loops and their supervisor, as they are shipped, on a virtual clock: never two on one token, and none that stays dead.

Each invocation is a thread that stops wherever it asks a store, the queue or Lambda; which goes on next, and what becomes of what
it asked, is drawn from a seed. Invocations crash, pause for longer than a lease, and end at their time-out; answers are lost;
events are delivered twice and late; the clocks of two of them differ.
"""

from __future__ import annotations

import heapq
import json
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from streamkit.cells.base import Cell
from streamkit.cells.change import Clock
from streamkit.cells.memory import MemoryCells
from streamkit.loops.loop import Loop, loop_key
from streamkit.loops.plan import Depth, Limits
from streamkit.loops.supervisor import Supervisor

LEASE = 60.0
TIMEOUT = 300.0
# Of the two seconds that clocks of two machines may be off, each way, here.
SKEW = 2.0


class Dead(BaseException):
    """The process ends."""


class Invocation(threading.Thread):
    """A function that runs, until it stops at ``point``, and goes on when it is let."""

    invoked_function_arn = "loops"
    aws_request_id = "r"

    def __init__(self, world: World, function: Callable[[Any, Any], Any], event: Any) -> None:
        super().__init__(daemon=True)
        self.world = world
        self.function = function
        self.event = event
        self.wake = world.now
        self.ends = world.now + TIMEOUT
        self.skew = world.random.uniform(-SKEW, SKEW)
        self.go = threading.Semaphore(0)
        self.is_over = False
        self.is_doomed = False
        self.error: BaseException | None = None
        self.answer: Any = None
        self.owner = ""
        self.start()

    def get_remaining_time_in_millis(self) -> float:
        return max(0.0, self.ends - self.world.now) * 1000

    def run(self) -> None:
        self.go.acquire()
        try:
            if not self.is_doomed:
                self.answer = self.function(self.event, self)
        except (Exception, Dead) as error:  # Looked at by the test.
            self.error = error
        finally:
            self.is_over = True
            self.world.turn.release()

    def point(self, seconds: float = 0.0) -> None:
        self.wake = self.world.now + seconds
        self.world.turn.release()
        self.go.acquire()
        if self.is_doomed or self.world.now >= self.ends:
            raise Dead


class Cells(MemoryCells):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def may_pass(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)

    def get(self, key: str) -> Cell | None:
        self.world.fault()
        return super().get(key)

    def put(self, key: str, value: dict[str, Any], version: str, *, seen: Cell | None) -> bool:
        self.world.fault()
        written = super().put(key, value, version, seen=seen)
        if written and value.get("owner"):
            self.world.current.owner = value["owner"]
        self.world.fault()
        return written


class Inbox:
    def __init__(self, world: World) -> None:
        self.world = world

    def receive(self, most: int, wait: int, visibility: int) -> list[dict[str, Any]]:
        self.world.takes("receives")
        found = self._found(most, visibility)
        if not found:
            self.world.current.point(wait)
            found = self._found(most, visibility)
        self.world.pause()
        return found

    def _found(self, most: int, visibility: int) -> list[dict[str, Any]]:
        world = self.world
        ids = [one for one, visible in world.messages.items() if visible <= world.now][:most]
        for one in ids:
            world.messages[one] = world.now + visibility
        return [{"messageId": one, "receiptHandle": one, "attributes": {}} for one in ids]

    def delete(self, records: Any, deadline: float) -> int:
        self.world.pause()
        for record in records:
            self.world.messages.pop(record["messageId"], None)
        return 0

    def depth(self) -> Depth:
        self.world.pause()
        waiting = sum(visible <= self.world.now for visible in self.world.messages.values())
        return Depth(waiting, len(self.world.messages) - waiting)

    def close(self) -> None:
        return


class Lambda:
    """In the place of boto3's client: takes events, and delivers them once or more, soon or late."""

    def __init__(self, world: World) -> None:
        self.world = world

    def invoke(self, FunctionName: str, InvocationType: str, Payload: bytes) -> dict[str, int]:  # noqa: N803  # boto3's names.
        world = self.world
        world.fault()
        event = json.loads(Payload)
        for _ in range(2 if world.happens(0.15) else 1):
            delay = world.random.uniform(0, 150) if world.happens(0.1) else world.random.uniform(0, 1)
            world.later(delay, lambda: world.invoke(world.loop, event))
        world.fault()
        return {"StatusCode": 202}


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        random.seed(seed)  # What the code draws its pauses from.
        self.now = 1000.0
        self.is_calm = False
        self.turn = threading.Semaphore(0)
        self.invocations: list[Invocation] = []
        self.current: Invocation
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.messages: dict[str, float] = {}
        self.cells = Cells(self)
        self.problems: list[str] = []
        self.took = 0
        self.refused = 0
        clock = Clock(self.time, lambda: self.now, lambda seconds: self.current.point(seconds))
        inbox = Inbox(self)
        client = Lambda(self)
        self.loop = Loop(
            self.work, name="orders", inbox=inbox, cells=self.cells, lease=LEASE, client=client, clock=clock
        )
        self.supervisor = Supervisor(
            name="orders",
            function="loops",
            gauge=inbox,
            cells=self.cells,
            limits=Limits(least=1, most=3, per_loop=20, calm=120),
            lease=LEASE,
            client=client,
            clock=clock,
        )

    def time(self) -> float:
        return self.now + self.current.skew

    def happens(self, probability: float) -> bool:
        return not self.is_calm and self.random.random() < probability

    def pause(self) -> None:
        """Others go on before this one does; and now and then it dies, or sleeps for longer than its lease."""
        if self.happens(0.01):
            raise Dead
        self.current.point(
            self.random.uniform(LEASE / 2, 3 * LEASE) if self.happens(0.03) else self.random.uniform(0, 0.1)
        )

    def fault(self) -> None:
        """The same, and an error: before the effect of a request it was not made, and behind it the answer is lost."""
        self.pause()
        if self.happens(0.05):
            raise ConnectionError("lost")

    def takes(self, what: str) -> None:
        """Whoever takes a message has looked at its lease: nobody else can have the token at this moment."""
        self.took += 1
        number = self.current.event["token"]
        cell = MemoryCells.get(self.cells, loop_key("orders", number))
        if cell is None or cell.value["owner"] != self.current.owner:
            self.problems.append(
                f"at {self.now:.1f} {self.current.owner} {what} with token {number}, which is {cell}'s"
            )

    def work(self, event: Any, context: Any) -> None:
        self.takes("runs")
        self.current.point(self.random.uniform(0, 20))

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + seconds, self.count, act))

    def invoke(self, function: Callable[[Any, Any], Any], event: Any) -> None:
        self.invocations.append(Invocation(self, function, event))

    def each_minute(self) -> None:
        self.invoke(self.supervisor, {})
        self.later(60, self.each_minute)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            while self.events and self.events[0][0] <= self.now:
                heapq.heappop(self.events)[2]()
            ready = [one for one in self.living() if one.wake <= self.now]
            if ready:
                self.resume(self.random.choice(ready))
                continue
            following = [one.wake for one in self.living()] + [at for at, _, _ in self.events[:1]]
            if min(following, default=end) >= end:
                self.now = end
                return
            self.now = min(following)

    def living(self) -> list[Invocation]:
        return [one for one in self.invocations if not one.is_over]

    def resume(self, one: Invocation) -> None:
        self.current = one
        one.go.release()
        self.turn.acquire()

    def close(self) -> None:
        for one in self.living():
            one.is_doomed = True
            self.resume(one)

    def holders(self) -> list[int]:
        """How many invocations hold each token that is held."""
        found: dict[int, int] = {}
        for one in self.living():
            if one.function is self.loop:
                number = one.event["token"]
                cell = MemoryCells.get(self.cells, loop_key("orders", number))
                if cell is not None and cell.value["owner"] == one.owner:
                    found[number] = found.get(number, 0) + 1
        return sorted(found.values())


@pytest.mark.parametrize("seed", range(60))
def test_never_two_on_one_token_and_no_loop_stays_dead(seed: int) -> None:
    world = World(seed)
    try:
        world.each_minute()
        for minute in range(30):
            for n in range(world.random.choice((0, 0, 5, 60))):
                world.messages[f"{minute}-{n}"] = world.now
            world.run(60)
        assert world.problems == []

        # From now on nothing goes wrong: what was broken mends, and all is done.
        world.is_calm = True
        for n in range(60):
            world.messages[f"last-{n}"] = world.now
        world.run(15 * 60)
        assert world.problems == []
        assert world.messages == {}
        assert world.took > 20

        # And the queue stays empty: as few loops as there may be, each alone.
        world.run(15 * 60)
        assert world.holders() in ([1], []), "one, or it is being handed on"
        cell = MemoryCells.get(world.cells, "loops/orders")
        assert cell is not None
        assert cell.value["target"] == 1
        unexpected = [
            one.error for one in world.invocations if one.error and not isinstance(one.error, Dead | ConnectionError)
        ]
        assert [error for error in unexpected if "could not be" not in str(error)] == []
    finally:
        world.close()


def test_the_faults_of_the_simulation_do_happen() -> None:
    """Over some seeds there are loops that died, lost their lease, came with an old ticket, went on, and were told to end."""
    states: set[str] = set()
    died = 0
    for seed in range(8):
        world = World(seed)
        try:
            world.each_minute()
            for minute in range(30):
                for n in range(world.random.choice((0, 0, 5, 60))):
                    world.messages[f"{minute}-{n}"] = world.now
                world.run(60)
            world.is_calm = True
            world.run(1200)
            loops = [one for one in world.invocations if one.function is world.loop]
            states |= {one.answer["state"] for one in loops if one.answer}
            died += sum(isinstance(one.error, Dead) for one in loops)
        finally:
            world.close()

    assert states == {"passed on", "retired", "not its token", "lost"}
    assert died > 5

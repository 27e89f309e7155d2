"""What sinks and queues have in common: three items meet a fault, and what was not taken is handed over again after it."""

from __future__ import annotations

import time
import uuid
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from . import http_proxy
from .cells import Cell, Fault, Row
from .cloud import Cloud
from .dialects import Dialect, first_only

__all__ = ["SLACK", "Exchange", "see_what_was_done"]

#: Seconds beyond the deadline for a last try with its shortest time-out, and for a machine that is busy.
SLACK = 5.0

#: What becomes of each of the three items, by what a cell says that the caller is told.
KINDS: Mapping[str, tuple[str, str, str]] = {
    "unavailable": ("unavailable", "unavailable", "unavailable"),
    "only what was not taken is unavailable": ("taken", "unavailable", "taken"),
    "what was not taken, and what follows it in its group, is unavailable": ("taken", "unavailable", "unavailable"),
    "the rows that are named are invalid, the others go in": ("taken", "invalid", "taken"),
    "the one at fault is invalid, the others go in": ("taken", "invalid", "taken"),
    "only what the function raised at is failed": ("taken", "failed", "taken"),
    "refused": ("refused", "refused", "refused"),
    "only what was not taken is refused": ("taken", "refused", "taken"),
    "what was not taken, and what follows it in its group, is refused": ("taken", "refused", "refused"),
}


class TooSlow(AssertionError):
    """There was no time: for a second request where the cell has one, or for the first one's answer."""


class Exchange(Row):
    """A destination, and what hands items to it: with clients of its own making, whose time-outs are what is tested, too.

    Both serve all cells of the row.
    """

    #: Seconds until the deadline.
    short: ClassVar[float] = 0.6
    dialect: ClassVar[Dialect]

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.tag = uuid.uuid4().hex
        self.proxy = self.made_proxy()
        #: How many of the proxy's requests are not of this row's cells.
        self.first = len(self.proxy.seen)
        self.target = self.made()
        #: Each cell has items of its own, a thousand numbers from here.
        self.base = 0
        self.warm_up()

    def close(self) -> None:
        self.target.close()

    @abstractmethod
    def made_proxy(self) -> Any:
        """The proxy before the service; what is made finds its way there by the environment."""

    @abstractmethod
    def made(self) -> Any:
        """The sink or queue, whose destination is a new one."""

    @abstractmethod
    def batch(self, numbers: Iterable[int]) -> dict[int, Any]:
        """What is handed over for each of these items."""

    @abstractmethod
    def deliver(self, batch: Mapping[int, Any], seconds: float) -> dict[int, str]:
        """Hand it over, with so much time: "taken" of each item, or how it was not."""

    @abstractmethod
    def there(self) -> Counter[int]:
        """How often each item is at the destination. It may be asked once for each cell."""

    def numbers(self, request: Any) -> list[int]:
        """The items in a request."""
        return self.dialect.numbers(request)

    def act(self, fault: Fault) -> Any:
        acts: dict[str, Any] = {
            "slow": http_proxy.hold,
            "refusing": self.dialect.refusing,
            "throttling": self.dialect.throttling,
            "in-part": self.dialect.in_part,
            "answer-lost": http_proxy.lose_answers(),
        }
        return acts[fault]

    def warm_up(self) -> None:
        """Have the clients made before time counts: those for long, and for short time-outs."""
        for n, seconds in ((100, 30.0), *((n, self.short) for n in range(101, 111))):
            kinds = self.deliver(self.batch([n]), seconds)
            if n > 100 and kinds == {n: "taken"}:
                return
        raise AssertionError("the service did not take a write before anything was done to it")

    def check(self, fault: Fault, cell: Cell) -> None:
        self.proxy = self.made_proxy()  # It sets the environment.
        for seconds in (self.short, 4 * self.short, 16 * self.short):
            try:
                return self.see(fault, cell, seconds)
            except TooSlow:
                # The machine is busy.
                if seconds > 4 * self.short:
                    raise
        return None

    def see(self, fault: Fault, cell: Cell, seconds: float) -> None:
        self.base += 1000
        batch, before = self.batch(self.base + n for n in range(3)), len(self.proxy.seen)
        with self.bring_about(fault):
            assert fault != "gone" or self.proxy.refuses_connections()
            started = time.monotonic()
            kinds = self.deliver(batch, seconds)
            took = time.monotonic() - started
            assert fault != "gone" or self.proxy.refuses_connections()
        requests = self.proxy.seen[before:]

        see_what_was_done(fault, requests)
        assert took < seconds + SLACK
        if set(kinds.values()) == {"unavailable"} != set(KINDS[cell.told]):
            raise TooSlow(kinds)
        assert tuple(kinds.values()) == KINDS[cell.told]
        self.see_who_was_asked(fault, cell, kinds, self.asked(requests))
        rest = {n: item for n, item in batch.items() if kinds[n] not in ("taken", "invalid")}
        assert not rest or self.repeat(batch, rest) == dict.fromkeys(rest, "taken")
        later = self.pass_in_time(fault) if cell.again else []
        unheard = self.asked(one for one in requests if one.harmed and one.reached) if cell.then == "twice" else None
        self.see_what_is_there(kinds, unheard, later)

    def see_who_was_asked(self, fault: Fault, cell: Cell, kinds: Mapping[int, str], asked: Counter[int]) -> None:
        first, second, third = kinds
        times = asked[second if fault == "in-part" else first]
        if cell.again and times == 1:
            raise TooSlow(asked)
        assert cell.again is None or (times > 1) == cell.again, asked
        if fault == "in-part" and kinds[first] == "taken":
            assert asked[first] == 1 or kinds[second] == "invalid", "what was taken is not sent again"
            assert asked[third] == (asked[first] if kinds[third] == "taken" else 0), (
                "and what follows it in its group is not sent"
            )

    def repeat(self, batch: Mapping[int, Any], rest: Mapping[int, Any]) -> dict[int, str]:
        return self.deliver(rest, 30.0)

    def pass_in_time(self, fault: Fault) -> list[int]:
        """The fault meets one request only, and there is time: own tries have all of them taken. The items."""
        batch, before = self.batch(self.base + n for n in range(20, 23)), len(self.proxy.seen)
        with self.proxy.failing(first_only(self.act(fault))):
            kinds = self.deliver(batch, 30.0)
        see_what_was_done(fault, self.proxy.seen[before:])
        assert kinds == dict.fromkeys(batch, "taken")
        return list(batch)

    def see_what_is_there(self, kinds: Mapping[int, str], unheard: Counter[int] | None, later: Sequence[int]) -> None:
        """``unheard``: how often each item took effect with nobody to hear of it, where that is not deduped."""
        there = self.there()
        reached = self.asked(request for request in self.proxy.seen[self.first :] if request.reached)
        assert unheard is None or +unheard, "nothing took effect unheard"
        for n, kind in kinds.items():
            if kind == "invalid":
                assert there[n] == 0
            elif unheard is not None and unheard[n]:
                assert 2 <= there[n] <= reached[n], (there, reached)
            else:
                assert there[n] == 1, there
        for n in later:
            assert 1 <= there[n] <= (1 if unheard is None else reached[n]), there

    def asked(self, requests: Iterable[Any]) -> Counter[int]:
        """How many requests each item was in."""
        return Counter(n for request in requests for n in self.numbers(request))

    def bring_about(self, fault: Fault) -> AbstractContextManager[None]:
        made: AbstractContextManager[None] = (
            self.proxy.gone() if fault == "gone" else self.proxy.failing(self.act(fault))
        )
        return made


def see_what_was_done(fault: Fault, requests: Sequence[Any]) -> None:
    """The proxy's account of it: the fault happened, and took effect or did not."""
    if fault == "gone":
        assert requests == []
        return
    harmed = [request for request in requests if request.harmed]
    assert harmed, f"no request met the fault: {requests}"
    if fault in ("slow", "answer-lost"):
        assert all(request.reached for request in harmed)
    elif fault in ("refusing", "throttling"):
        assert not any(request.reached for request in harmed)
    else:
        assert any(request.reached for request in requests)

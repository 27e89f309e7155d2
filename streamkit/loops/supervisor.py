"""Looks at the queue, decides how many loops there are to be, and sees to it. Behind a schedule, each minute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from .. import metrics
from ..cells.base import CellStore
from ..cells.change import Clock, change, read
from ..deadline import Deadline
from ..errors import StreamkitError
from ..invoke import Invoker
from ..metrics.counting import Counting
from ..reason import reason
from .loop import checked_lease, loop_key
from .plan import Depth, Limits, Scale, Steps, scaled, steps
from .token import Ticket, Token

__all__ = ["Gauge", "Supervisor"]

log = logging.getLogger("streamkit")

_MARGIN = 2.0


class Gauge(Protocol):
    """What tells how much is in the queue: ``SqsInbox`` does."""

    def depth(self) -> Depth: ...


class Supervisor:
    """The function. ``function`` is the name or ARN of the loops', or what gives it; ``lease`` is the loops' own.

    Two that run at once do no harm: of two changes of one token one is made.
    """

    def __init__(
        self,
        *,
        name: str,
        function: str | Callable[[], str],
        gauge: Gauge,
        cells: CellStore,
        limits: Limits,
        lease: float = 120.0,
        client: Any = None,
        clock: Clock = Clock(),  # noqa: B008  # A tuple of functions.
    ) -> None:
        self._name = name
        self._function = function
        self._gauge = gauge
        self._cells = cells
        self._limits = limits
        self._lease = checked_lease(lease)
        self._clock = clock
        self._invoke = Invoker("the loops' supervisor", client, clock)
        self._counting: Counting | None = None

    def __call__(self, event: Any = None, context: Any = None) -> dict[str, int]:
        """How many loops are wanted, were alive, and what was done. StreamkitError where a loop could not be started: the next
        minute tries again.
        """
        if self._counting is None:
            self._counting = Counting(f"{self._name}-supervisor")
        with self._counting.invocation(context):
            return self._run(Deadline(context, _MARGIN))

    def _run(self, deadline: Deadline) -> dict[str, int]:
        until = self._clock.monotonic() + max(min(deadline.remaining(), 60.0) - _MARGIN, 0.0)
        depth = self._gauge.depth()
        tokens = [self._token(number, until) for number in range(max(self._known(until), self._limits.most))]
        now = self._clock.time()
        alive = [token for token in tokens if token is not None and token.is_alive(now)]
        scale = self._scaled(depth, max((token.age for token in alive), default=0.0), until)
        todo = steps(tokens, scale.target, now)
        failed = self._carry_out(todo, until)
        done = {
            "wanted": scale.target,
            "alive": len(alive),
            "started": len(todo.start),
            "restarted": len(todo.restart),
            "retired": len(todo.retire),
        }
        for what, number in done.items():
            metrics.count(f"loops.{what}", number)
        metrics.count("queue.visible", depth.visible)
        metrics.count("queue.in_flight", depth.in_flight)
        if failed:
            raise StreamkitError(f"{self._name}: {len(failed)} loops could not be started or told to end: {failed[0]}")
        return done

    def _known(self, until: float) -> int:
        cell = read(self._cells, self._scale_key, deadline=until, clock=self._clock)
        return 0 if cell is None else _scale(cell.value).known

    def _token(self, number: int, until: float) -> Token | None:
        cell = read(self._cells, loop_key(self._name, number), deadline=until, clock=self._clock)
        return None if cell is None else Token.of(cell.value)

    def _scaled(self, depth: Depth, age: float, until: float) -> Scale:
        def changed(value: dict[str, Any] | None) -> dict[str, Any]:
            before = None if value is None else _scale(value)
            return msgspec.structs.asdict(scaled(before, depth, age, self._limits, self._clock.time()))

        cell = change(self._cells, self._scale_key, changed, deadline=until, clock=self._clock)
        return Scale(self._limits.least) if cell is None else _scale(cell.value)

    def _carry_out(self, todo: Steps, until: float) -> list[str]:
        """Why what was not done was not; one that fails stops no other."""
        failed: list[str] = []
        plan: list[tuple[list[int], Callable[[int, float], object]]] = [
            (todo.restart, self._hand_out),
            (todo.start, self._hand_out),
            (todo.want, lambda number, until: self._change(number, lambda token: token.wanted(True), until)),
            (todo.retire, lambda number, until: self._change(number, lambda token: token.wanted(False), until)),
            (
                todo.clear,
                lambda number, until: self._change(number, lambda token: token.cleared(self._clock.time()), until),
            ),
        ]
        for numbers, act in plan:
            for number in numbers:
                try:
                    act(number, until)
                except Exception as error:  # noqa: BLE001  # The others are not at fault; the first is raised at the end.
                    failed.append(f"token {number}: {reason(error)}")
        return failed

    def _hand_out(self, number: int, until: float) -> None:
        """First the token, then the invocation: nobody else hands out this generation."""

        def handed(token: Token) -> Token | None:
            now = self._clock.time()
            return token.handed(now, now + self._lease)

        token = self._change(number, handed, until)
        if token is None:
            # Another supervisor was faster, or the loop has come back to life.
            return
        function = self._function if isinstance(self._function, str) else self._function()
        self._invoke(function, Ticket(self._name, number, token.generation).encode, deadline=until)

    def _change(self, number: int, transition: Callable[[Token], Token | None], until: float) -> Token | None:
        def changed(value: dict[str, Any] | None) -> dict[str, Any] | None:
            after = transition(Token.of(value) or Token(0))
            return None if after is None else after.value()

        cell = change(self._cells, loop_key(self._name, number), changed, deadline=until, clock=self._clock)
        return None if cell is None else Token.of(cell.value)

    @property
    def _scale_key(self) -> str:
        return f"loops/{self._name}"


def _scale(value: dict[str, Any]) -> Scale:
    try:
        return msgspec.convert(value, Scale)
    except msgspec.ValidationError:
        raise StreamkitError("the scale in the loops' table can't be read: delete that item") from None

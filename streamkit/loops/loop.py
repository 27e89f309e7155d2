"""One invocation of a loop: ``_go_round`` is a round, from top to bottom."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict

from .. import metrics
from ..cells.base import CellStore
from ..cells.change import Clock, change
from ..deadline import Deadline
from ..errors import ConfigurationError
from ..invoke import Invoker
from ..local.messages import failed_ids
from ..metrics.counting import Counting
from ..plural import counted
from ..reason import reason
from .inbox import LONGEST_WAIT
from .token import Ticket, Token

__all__ = ["Inbox", "Loop", "LoopAnswer", "checked_lease", "loop_key"]

log = logging.getLogger("streamkit")

#: Part of a lease before whose end its owner stops, for clocks that run at another speed.
_LEASE_MARGIN = 0.1
#: Seconds that are kept back to hand over.
_MARGIN = 5.0
_TO_ANSWER = 1.0


class Inbox(Protocol):
    """What a loop needs of a queue: ``SqsInbox`` is one."""

    def receive(self, most: int, wait: int, visibility: int) -> list[dict[str, Any]]: ...

    def delete(self, records: Sequence[dict[str, Any]], deadline: float) -> int: ...

    def close(self) -> None: ...


class LoopAnswer(TypedDict):
    """How an invocation ended. ``state``: ``passed on``, ``retired``, ``not its token`` where another invocation has it, or
    ``lost`` where the lease could not be renewed in time.
    """

    token: int
    state: str
    messages: int


def loop_key(name: str, number: int) -> str:
    """What a token is kept by."""
    return f"loop/{name}/{number}"


def checked_lease(lease: float) -> float:
    """The lease, in seconds, that a loop and its supervisor have both; ConfigurationError where it can't be one."""
    if not 30 <= lease <= 900:
        raise ConfigurationError(f"a loop's lease (LOOP_LEASE) is from 30 to 900 seconds; got {lease!r}")
    return lease


class Loop:
    """The function. ``function`` is what Lambda's trigger would call with messages, as ``lambda_handler(Orders)``.

    ``lease`` is in seconds: the longest that a receive (20 s) and a batch take, and some more. A batch gets a context that ends
    with it. ``client`` is boto3's of Lambda.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        *,
        name: str,
        inbox: Inbox,
        cells: CellStore,
        lease: float = 120.0,
        batch_size: int = 10,
        client: Any = None,
        clock: Clock = Clock(),  # noqa: B008  # A tuple of functions.
    ) -> None:
        if not 1 <= batch_size <= 10:
            raise ConfigurationError(
                f"a loop's batch_size (LOOP_BATCH_SIZE) is from 1 to 10 messages; got {batch_size!r}"
            )
        self._function = function
        self._name = name
        self._inbox = inbox
        self._cells = cells
        self._lease = checked_lease(lease)
        self._batch_size = batch_size
        self._clock = clock
        self._invoke = Invoker("a loop", client, clock)
        self._counting: Counting | None = None

    def __call__(self, event: Any, context: Any = None) -> LoopAnswer:
        """Rounds until the time is nearly over. What the function raises ends the loop; the supervisor starts it again when
        its lease is over, which is the pause that such a function needs.
        """
        if self._counting is None:
            self._counting = Counting(self._name)
        with self._counting.invocation(context):
            return self._run(Ticket.of(event, self._name), context)

    def _run(self, ticket: Ticket, context: Any) -> LoopAnswer:
        run = _Run(ticket, f"{uuid.uuid4().hex}", Deadline(context, _MARGIN))
        if run.deadline.remaining() < 2 * _MARGIN + 1:
            raise ConfigurationError(
                f"{self._name}: a loop needs a function's time-out of a minute at least, and best 900 s: of this one "
                f"{run.deadline.remaining():.0f} s are left at its start"
            )
        if not self._changed(run, lambda token, until: token.claimed(ticket.generation, run.owner, until)):
            metrics.count("loops.copies")
            log.info("%s: token %d: another invocation has generation %d", self._name, ticket.token, ticket.generation)
            return run.answer("not its token")
        while True:
            room = run.deadline.remaining() - run.deadline.reserve - run.deadline.longest_record
            if room < 1:
                return self._pass_on(run, context)
            state = self._go_round(run, context, room)
            if state:
                if state == "lost":
                    metrics.count("loops.lost")
                    log.error("%s: token %d: its lease was not renewed in time, so it stops", self._name, ticket.token)
                return run.answer(state)

    def _go_round(self, run: _Run, context: Any, room: float) -> str:
        """Renew the lease, hear whether to go on, receive, look at the lease once more, run, delete. Empty to go on."""
        try:
            token = self._changed(
                run, lambda token, until: token.renewed(run.ticket.generation, run.owner, until, run.age)
            )
        except Exception as error:  # noqa: BLE001  # Whatever the store raises: without a lease no message is taken.
            log.error("%s: token %d: the lease can't be renewed: %s", self._name, run.ticket.token, reason(error))
            return "lost"
        if token is None:
            return "lost"
        if not token.is_wanted:
            self._changed(run, lambda token, until: token.given_back(run.ticket.generation, run.owner))
            return "retired"
        left = self._lease_left(run)
        if left <= 0:
            return "lost"
        wait = math.floor(max(min(LONGEST_WAIT, room, left - run.deadline.longest_record - 1), 1))
        # As long as the lease: a message that nobody has in hand any more comes again soon, and none that somebody has.
        records = self._inbox.receive(self._batch_size, wait, math.ceil(self._lease))
        run.age = self._oldest(records)
        if not records:
            return ""
        if self._lease_left(run) <= 0:
            log.error("%s: token %d: %s not taken", self._name, run.ticket.token, _are(len(records), "is", "are"))
            return "lost"
        before = run.deadline.remaining()
        self._work(run, context, records)
        run.deadline.longest_record = max(run.deadline.longest_record, before - run.deadline.remaining())
        return ""

    def _work(self, run: _Run, context: Any, records: list[dict[str, Any]]) -> None:
        """Run the function as Lambda's trigger does, and delete what its answer does not name."""
        seconds = min(run.deadline.remaining() - _MARGIN, self._lease_left(run))
        answer = self._function({"Records": records}, _Context(context, self._clock, seconds))
        failed = failed_ids(answer, {record["messageId"] for record in records})
        if failed is None:
            log.error("%s: the function's answer is not understood; its messages stay in the queue", self._name)
            failed = {record["messageId"] for record in records}
        done = [record for record in records if record["messageId"] not in failed]
        run.messages += len(done)
        metrics.count("loops.messages", len(done))
        metrics.count("loops.failed", len(failed))
        # What is done is deleted even where the lease is over: it is done.
        if done:
            until = self._clock.monotonic() + max(run.deadline.remaining() - _TO_ANSWER, 0)
            metrics.count("loops.undeleted", self._inbox.delete(done, until))

    def _pass_on(self, run: _Run, context: Any) -> LoopAnswer:
        """First the token, then the invocation: after a crash between them the supervisor finds a token whose time is over."""
        token = self._changed(run, lambda token, until: token.passed_on(run.ticket.generation, run.owner, until))
        if token is None:
            metrics.count("loops.lost")
            return run.answer("lost")
        following = Ticket(self._name, run.ticket.token, token.generation)
        until = self._clock.monotonic() + max(run.deadline.remaining() - _TO_ANSWER, 0)
        self._invoke(_function(context), following.encode, deadline=until)
        return run.answer("passed on")

    def _changed(self, run: _Run, transition: Callable[[Token, float], Token | None]) -> Token | None:
        """The token after ``transition``, which is given the end of a new lease; None where it is not this invocation's.

        By its own clock the lease counts from before the request, and by the table from behind that.
        """
        since = self._clock.monotonic()

        def changed(value: dict[str, Any] | None) -> dict[str, Any] | None:
            token = Token.of(value)
            after = None if token is None else transition(token, self._clock.time() + self._lease)
            return None if after is None else after.value()

        # A lease that there is ends the tries; the first has none yet.
        until = min(run.lease_ends or math.inf, since + max(run.deadline.remaining() - _TO_ANSWER, 0))
        cell = change(self._cells, loop_key(self._name, run.ticket.token), changed, deadline=until, clock=self._clock)
        if cell is None:
            return None
        run.lease_ends = since + self._lease * (1 - _LEASE_MARGIN)
        return Token.of(cell.value)

    def _lease_left(self, run: _Run) -> float:
        return run.lease_ends - self._clock.monotonic()

    def _oldest(self, records: Sequence[dict[str, Any]]) -> float:
        sent = [str(record["attributes"].get("SentTimestamp", "")) for record in records]
        times = [int(one) / 1000 for one in sent if one.isdecimal()]
        return max(self._clock.time() - min(times), 0.0) if times else 0.0

    def close(self) -> None:
        """Close the clients that were made here, the inbox and the store; the function has a ``close`` of its own."""
        self._invoke.close()
        self._inbox.close()
        self._cells.close()


class _Run:
    """What one invocation knows."""

    def __init__(self, ticket: Ticket, owner: str, deadline: Deadline) -> None:
        self.ticket = ticket
        self.owner = owner
        self.deadline = deadline
        #: On the clock's ``monotonic``; 0 as long as there is none.
        self.lease_ends = 0.0
        self.age = 0.0
        self.messages = 0

    def answer(self, state: str) -> LoopAnswer:
        return LoopAnswer(token=self.ticket.token, state=state, messages=self.messages)


class _Context:
    """Lambda's context, with the end of the batch: that of the lease, or of what is left of the invocation."""

    def __init__(self, context: Any, clock: Clock, seconds: float) -> None:
        self._context = context
        self._monotonic = clock.monotonic
        self._ends_at = clock.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends_at - self._monotonic()) * 1000))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def _are(count: int, one: str, several: str) -> str:
    return f"{counted(count, 'message')} {one if count == 1 else several}"


def _function(context: Any) -> str:
    arn = getattr(context, "invoked_function_arn", None)
    if not isinstance(arn, str) or not arn:
        raise ConfigurationError("a loop goes on in an invocation of its own function, and its context names none")
    return arn

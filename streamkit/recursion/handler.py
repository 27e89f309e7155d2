"""The function of a long task. ``_run`` is one invocation, from top to bottom."""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Callable
from typing import Any, TypedDict

import msgspec

from .. import metrics
from ..cells.change import Clock
from ..claims.base import open_claim
from ..deadline import Deadline, ruling
from ..errors import ConfigurationError, DecodeError, StreamkitError
from ..health import answer_to
from ..invoke import Invoker
from ..metrics.counting import Counting
from ..reason import reason
from ..warm import Container
from .guard import Guard
from .hop import Hop, cursor_bytes, decode, encode, is_hop
from .task import Done, LongTask, check_options

__all__ = ["Answer", "HopsExceeded", "LongTaskHandler", "NoProgress", "long_task_handler"]

log = logging.getLogger("streamkit")

# No invocation lasts longer; what it says where the context does not.
_LONGEST = 900.0
# Of the margin, what is left when handing over was not possible: to say so, and to give the chain's place up.
_TO_ANSWER = 0.2


class HopsExceeded(StreamkitError):
    """A chain has had all the invocations that it may have. Its cursor is in the event: it can go on from there."""


class NoProgress(StreamkitError):
    """A whole invocation has ended with the cursor that it began with, so the next one would too."""


class Answer(TypedDict):
    """What an invocation returns, and Lambda sends to an OnSuccess destination. ``state``: ``passed on``, ``done``, or ``left``
    to another copy of the chain. ``hop`` counts from 0, ``steps`` are those of this invocation.
    """

    chain: str
    hop: int
    state: str
    steps: int
    result: Any


class LongTaskHandler:
    """What ``long_task_handler`` makes: call it with an event and Lambda's context."""

    def __init__(self, source: type[LongTask] | LongTask | Callable[[], LongTask], client: Any, clock: Clock) -> None:
        if not isinstance(source, LongTask) and not callable(source):
            raise TypeError(f"long_task_handler takes a LongTask's class, an instance or a factory; got {source!r}")
        self._source = source
        self._clock = clock
        self._invoke = Invoker("long_task_handler", client, clock)
        self._task: LongTask | None = None
        self._counting: Counting | None = None
        self._container = Container()

    @property
    def task(self) -> LongTask:
        """The task, built on the first invocation and not at import."""
        if self._task is None:
            task = self._source if isinstance(self._source, LongTask) else self._source()
            if not isinstance(task, LongTask):
                raise TypeError(f"long_task_handler's factory made a {type(task).__name__}, not a LongTask")
            check_options(task)
            self._task = task
        return self._task

    def __call__(self, event: Any, context: Any = None) -> Answer | dict[str, Any]:
        """An ``Answer``; to a ping of streamkit's own what that asks for. Any other event starts a chain, or goes on with one."""
        if (answer := answer_to(event, self._container)) is not None:
            # A warmer that has the function among its targets would start chains of nothing.
            return answer
        margin = getattr(self._task or self._source, "deadline_margin", LongTask.deadline_margin)
        token = ruling.set(Deadline(context, margin))
        try:
            return self._counted(event, context)
        finally:
            ruling.reset(token)

    def _counted(self, event: Any, context: Any) -> Answer:
        task = self.task
        if self._counting is None:
            self._counting = Counting(task.name)
        with self._counting.invocation(context):
            return self._run(task, event, context)

    def _run(self, task: LongTask, event: Any, context: Any) -> Answer:
        """Take the chain's place, run steps while there is time, hand the cursor over, note it.

        A crash between any two of these only repeats steps: the cursor that it began with is in the event, which Lambda
        delivers again.
        """
        deadline = Deadline(context, task.deadline_margin)
        hop = self._hop(task, event, context)
        metrics.count("long_task.hops")
        if hop.number >= task.max_hops:
            metrics.count("long_task.hops_exceeded")
            raise HopsExceeded(
                f"{task.name}: the chain {hop.chain} has had {task.max_hops:,} invocations, and is not done. Is each step's "
                "cursor further than the one before? If so, raise max_hops and invoke the function with this event again"
            )
        guard = None if task.guard is None else Guard(task.guard, self._clock)
        ticket = ""
        if guard is not None:
            seconds = min(max(deadline.remaining(), 0.0), _LONGEST)
            # It waits for a dead try for half its time at most. The rest is for steps; and Lambda's last try, which comes so much
            # later, is then behind the end of any dead one. Of the first hop, which somebody else invoked, all tries have one id.
            taken = guard.take(
                hop,
                hop.copy or _request(context),
                self._clock.time() + seconds,
                self._clock.monotonic() + seconds / 2,
            )
            if taken is None:
                metrics.count("long_task.copies")
                log.warning(
                    "%s: another copy of the chain %s is at hop %d, or further", task.name, hop.chain, hop.number
                )
                return Answer(chain=hop.chain, hop=hop.number, state="left", steps=0, result=None)
            ticket = taken
        try:
            return self._go_on(task, hop, ticket, guard, deadline, context)
        except Exception:
            if guard is not None:
                self._note(task, hop, lambda: guard.give_up(hop, ticket, self._until(deadline)))
            raise

    def _go_on(
        self, task: LongTask, hop: Hop, ticket: str, guard: Guard | None, deadline: Deadline, context: Any
    ) -> Answer:
        first = _fetched(task, hop, self._until(deadline))
        cursor, steps = first, 0
        while not steps or deadline.allows_another():
            before = deadline.remaining()
            found = task.step(msgspec.json.decode(cursor), context)
            deadline.longest_record = max(deadline.longest_record, before - deadline.remaining())
            steps += 1
            metrics.count("long_task.steps")
            if isinstance(found, Done):
                result = msgspec.json.decode(cursor_bytes(found.result, task.name))
                if guard is not None:
                    self._note(task, hop, lambda: guard.finish(hop, ticket, self._until(deadline)))
                metrics.count("long_task.done")
                return Answer(chain=hop.chain, hop=hop.number, state="done", steps=steps, result=result)
            # As the next invocation would get it, so that no step can rely on what JSON would lose.
            cursor = cursor_bytes(found, task.name)
        if cursor == first:
            metrics.count("long_task.no_progress")
            raise NoProgress(
                f"{task.name}: {steps} steps of hop {hop.number} of the chain {hop.chain} have ended with the cursor that they "
                "began with, so it would go on for ever. A task that waits for something counts its tries in its cursor"
            )
        following = self._following(task, hop, ticket, cursor, deadline)
        self._invoke(_function(context), lambda: encode(_copy(following)), deadline=self._until(deadline))
        if guard is not None:
            self._note(task, hop, lambda: guard.hand_over(hop, ticket, self._until(deadline)))
        return Answer(chain=hop.chain, hop=hop.number, state="passed on", steps=steps, result=None)

    def _hop(self, task: LongTask, event: Any, context: Any) -> Hop:
        if is_hop(event):
            return decode(event, task.name)
        chain = task.chain(event)
        if chain is None:
            # The same at each of Lambda's tries.
            chain = _request(context) or uuid.uuid4().hex
        if not isinstance(chain, str) or not 1 <= len(chain) <= 200:
            raise ConfigurationError(f"{task.name}.chain(event) returns a text of 1 to 200 characters, or None")
        cursor = cursor_bytes(task.start(event), task.name)
        return Hop(task=task.name, chain=chain, number=0, started=self._clock.time(), cursor=msgspec.Raw(cursor))

    def _following(self, task: LongTask, hop: Hop, ticket: str, cursor: bytes, deadline: Deadline) -> Hop:
        """The next hop. What is too large for one goes to the claim store, before anybody is told of it."""
        following = Hop(
            task=hop.task,
            chain=hop.chain,
            number=hop.number + 1,
            started=hop.started,
            after=ticket,
            cursor=msgspec.Raw(cursor),
        )
        if len(encode(_copy(following))) <= task.payload_bytes:
            return following
        if task.claims is None:
            raise ConfigurationError(
                f"{task.name}: a cursor has {len(cursor):,} bytes, and payload_bytes is {task.payload_bytes:,}: give the task "
                "claims = S3Claims(bucket), or keep what is large elsewhere and its key in the cursor"
            )
        name = f"{hop.task}/{hop.chain}/{hop.number + 1}"
        claim = task.claims.put(cursor.decode(), name, deadline=self._until(deadline))
        return msgspec.structs.replace(following, cursor=msgspec.Raw(b"null"), claim=claim)

    def _until(self, deadline: Deadline) -> float:
        """When requests have to be done with, on the clock's ``monotonic``; some time is left to say that they were not."""
        remaining = min(deadline.remaining(), _LONGEST)
        return self._clock.monotonic() + max(remaining - max(deadline.reserve * _TO_ANSWER, 0.1), 0.0)

    def _note(self, task: LongTask, hop: Hop, note: Callable[[], None]) -> None:
        """Tell the guard. Where it can't be told, the chain's place is free when this invocation's time is over."""
        try:
            note()
        except Exception as error:  # noqa: BLE001  # What is done is done: a repeat of the hop is the worst of it.
            log.error("%s: the guard of the chain %s could not be told: %s", task.name, hop.chain, reason(error))

    def close(self) -> None:
        """Close the task, its stores, and the clients that were made here."""
        task, self._task = self._task, None
        if task is not None:
            task.close()
            for part in (task.claims, task.guard):
                if part is not None:
                    part.close()
        self._invoke.close()


def _copy(hop: Hop) -> Hop:
    return msgspec.structs.replace(hop, copy=secrets.token_urlsafe(9))


def _fetched(task: LongTask, hop: Hop, until: float) -> bytes:
    """The cursor's JSON, from the claim store where it is there."""
    if hop.claim is None:
        return bytes(hop.cursor)
    if task.claims is None:
        raise ConfigurationError(
            f"{task.name}: the cursor of this hop is in a claim store; give the task claims = S3Claims(bucket)"
        )
    claim = open_claim(hop.claim)
    if claim is None:
        raise DecodeError(f"{task.name}: the event's claim is none of streamkit's")
    return task.claims.fetch(claim, deadline=until).encode()


def _function(context: Any) -> str:
    """Who goes on: this very function, by the alias that it was invoked by."""
    arn = getattr(context, "invoked_function_arn", None)
    if not isinstance(arn, str) or not arn:
        raise ConfigurationError("a long task goes on in an invocation of its own function, and its context names none")
    return arn


def _request(context: Any) -> str:
    request = getattr(context, "aws_request_id", None)
    return request if isinstance(request, str) else ""


def long_task_handler(
    source: type[LongTask] | LongTask | Callable[[], LongTask],
    *,
    client: Any = None,
    clock: Clock = Clock(),  # noqa: B008  # A tuple of functions.
) -> LongTaskHandler:
    """The handler to deploy: ``handler = long_task_handler(Export)``.

    ``source`` is a task's class, an instance, or a factory without arguments. ``client`` is boto3's of Lambda, and ``clock``
    the time, for tests. Invoke the function asynchronously, with any event: that starts a chain.
    """
    return LongTaskHandler(source, client, clock)

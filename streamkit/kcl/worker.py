"""The processor of one shard under the daemon: it answers messages until the shard is another's, has ended, or the daemon has."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from ..local.context import RealContext
from ..local.documents import read_back
from ..reason import reason
from .backlog import Backlog
from .channel import Channel, DaemonGone
from .checkpoints import Checkpoints, LeaseGone
from .protocol import (
    Initialize,
    LeaseLost,
    Message,
    ProcessRecords,
    ProtocolError,
    ShardEnded,
    ShutdownRequested,
    status,
)
from .records import event_of, settled

__all__ = ["ToldToStop", "Worker"]

log = logging.getLogger("streamkit")

#: Seconds between a failed run and the next of the same records: doubled each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: How long a message waits for its answer, beside the run that is on, while records fail: till then the daemon can't say that
#: the lease is lost or that it shuts down.
_PATIENCE = 2.0
#: Bytes of unsettled records (in base64) over which no more are taken: the daemon's message waits then, however long.
_MOST_HELD = 32 << 20
#: How long the daemon has to shut this process down, once somebody else has told it to stop.
_GRACE = 30.0


class ToldToStop(Exception):
    """A signal came to this process alone, and the daemon goes on: it has to learn that this shard's process ends."""


class Worker:
    """One shard's records through ``function``, a Lambda handler, which gets ``timeout`` seconds for each run. ``name`` is what
    its context calls it.

    The order is always: run, read the answer, then checkpoint just before the lowest record that is not settled. What is not
    settled stays here in front of all that comes after it, and runs again after a pause; the daemon is answered meanwhile, so
    that it can say that the lease is lost.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        channel: Channel,
        *,
        stream_arn: str,
        timeout: float,
        name: str = "function",
        patience: float = _PATIENCE,
        most_held: int = _MOST_HELD,
        grace: float = _GRACE,
    ) -> None:
        self._function = function
        self._channel = channel
        self._stream_arn = stream_arn
        self._timeout = timeout
        self._name = name
        self._patience = patience
        self._most_held = most_held
        self._grace = grace
        self._backlog = Backlog()
        self._checkpoints = Checkpoints(channel, time.sleep)
        self._shard_id = ""
        # When the records that wait run again, and how often they have failed till then.
        self._due = 0.0
        self._failures = 0
        # The shard is not this process's any more, or soon will not be: nothing runs.
        self._is_over = False
        # And nothing is checkpointed.
        self._is_lost = False
        # When a signal's grace ends.
        self._stops_at: float | None = None

    def stop(self) -> None:
        """Finish the run that is on, checkpoint, and run nothing more; for a signal's handler.

        The daemon was told as well, where a signal goes to all its processes, and shuts this one down. Where it does not,
        ``run`` raises ToldToStop after the grace.
        """
        if self._stops_at is None:
            self._stops_at = time.monotonic() + self._grace
        self._channel.wake()

    def run(self) -> None:
        """Answer messages until the lease is lost, the shard has ended, or the daemon has shut down.

        Raises DaemonGone where the daemon has ended without a word, ProtocolError for what is not its protocol, and
        CheckpointRefused: then this process has to end, and the daemon with it, and the next one begins at the checkpoint.
        """
        first = self._channel.receive()
        if not isinstance(first, Initialize):
            raise ProtocolError(f"the daemon began with {type(first).__name__}, and not with Initialize")
        self._shard_id = first.shard_id
        self._channel.send(status(first))
        while True:
            self._run_between_messages()
            try:
                message = self._channel.receive()
            except DaemonGone:
                if self._is_over:
                    # A worker that shuts down ends after the last checkpoint, and says no more.
                    return
                raise
            self._answer(message)
            if isinstance(message, LeaseLost | ShardEnded):
                return

    def _answer(self, message: Message) -> None:
        try:
            if isinstance(message, ProcessRecords):
                self._process(message)
            elif isinstance(message, ShardEnded):
                self._end()
            elif isinstance(message, ShutdownRequested):
                # What runs after this could run beside the shard's next owner.
                self._is_over = True
                if not self._is_lost:
                    self._checkpoints.save(self._backlog.settled)
            elif isinstance(message, LeaseLost):
                self._give_up()
            else:
                raise ProtocolError(f"the daemon said {type(message).__name__} where it has no place")
        except LeaseGone:
            log.warning("%s: another worker has the lease, so nothing more is written here", self._shard_id)
            self._give_up()
        self._channel.send(status(message))

    def _process(self, message: ProcessRecords) -> None:
        if self._is_over:
            return
        self._backlog.add(message.records)
        until = time.monotonic() + self._patience
        # What was settled between two messages.
        self._checkpoints.save(self._backlog.settled)
        while self._backlog and not self._is_stopping():
            if not self._wait_until_due(self._remaining(until)):
                break
            self._run_once()
            self._checkpoints.save(self._backlog.settled)

    def _remaining(self, until: float) -> float | None:
        """Seconds that a wait may last; None: as long as it takes, for there is no room for more records."""
        if self._backlog.bytes > self._most_held:
            return None
        return max(0.0, until - time.monotonic())

    def _wait_until_due(self, most: float | None) -> bool:
        """Wait for the records' next run, ``most`` seconds at most. Whether it is due, and nobody says anything."""
        wait = max(0.0, self._due - time.monotonic())
        if most is None or wait <= most:
            return not self._channel.wait(wait) and not self._is_stopping()
        self._channel.wait(most)
        return False

    def _run_between_messages(self) -> None:
        """Run what waits, when it is due, until the daemon says something."""
        while True:
            if self._stops_at is not None and time.monotonic() >= self._stops_at:
                raise ToldToStop
            is_waiting = bool(self._backlog) and not self._is_stopping()
            at = self._due if is_waiting else self._stops_at
            if self._channel.wait(None if at is None else max(0.0, at - time.monotonic())):
                return
            if is_waiting and not self._is_stopping() and time.monotonic() >= self._due:
                self._run_once()

    def _end(self) -> None:
        """The shard's last records have to be settled before its end is: there is no other moment to answer."""
        while self._backlog and not self._is_over:
            if self._wait_until_due(None):
                self._run_once()
                self._checkpoints.save(self._backlog.settled)
            elif self._channel.wait(0):
                self._channel.receive()  # DaemonGone.
                raise ProtocolError("the daemon went on before the end of the shard was answered")
            elif self._stops_at is not None:
                raise ToldToStop
        if not self._backlog and not self._is_lost:
            self._checkpoints.save_end()

    def _give_up(self) -> None:
        self._is_over = self._is_lost = True
        self._backlog.drop()

    def _is_stopping(self) -> bool:
        return self._is_over or self._stops_at is not None

    def _run_once(self) -> None:
        """Run the records that wait, as many as an event holds, and settle those that the answer does not name."""
        batch = self._backlog.batch()
        event = event_of(batch, stream_arn=self._stream_arn, shard_id=self._shard_id)
        why = ""
        try:
            answer = read_back(self._function(event, RealContext(self._timeout, function_name=self._name)))
        except Exception as error:  # noqa: BLE001  # A failed batch, whatever the function raises.
            count = 0
            why = f": {reason(error)}"
        else:
            count = settled(answer, [record.position for record in batch])
        self._backlog.settle(count)
        if count == len(batch):
            self._failures = 0
            self._due = 0.0
            return
        # A run that came forward has begun a record anew, and time may just have been up.
        self._failures = 1 if count else self._failures + 1
        longest = min(_FIRST_PAUSE * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE)
        pause = longest * random.uniform(0.8, 1)  # noqa: S311  # No secret.
        self._due = time.monotonic() + pause
        head = batch[count].position
        log.warning(
            "%s: %d of %d records are settled, up to %d:%d, which runs again in %.1f s; %d wait%s",
            self._shard_id,
            count,
            len(batch),
            *head,
            pause,
            len(self._backlog),
            why,
        )

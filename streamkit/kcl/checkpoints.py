"""Checkpoints, as the daemon takes them: one at a time, each answered with the name of an error or none."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from ..errors import StreamkitError
from .channel import Channel
from .protocol import Checkpointed, Position, ProtocolError, checkpoint

__all__ = ["CheckpointRefused", "Checkpoints", "LeaseGone"]

log = logging.getLogger("streamkit")

#: A throttled lease table, or one that can't be reached, can take the same checkpoint a moment later.
_PASSING = ("ThrottlingException", "KinesisClientLibDependencyException")
_LEASE_GONE = "ShutdownException"
_WHY = {
    "InvalidStateException": "the lease is not in its table any more, or the table is gone",
    "IllegalArgumentException": "the daemon knows of no record at that position",
}
_TRIES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0


class LeaseGone(StreamkitError):
    """Another worker has the shard: nothing can be checkpointed here, and nothing more is to be written."""


class CheckpointRefused(StreamkitError):
    """The daemon can't take the checkpoint, and will not take it later."""


class Checkpoints:
    """Asks for checkpoints, and only while the daemon waits for a status: it reads nothing at other times.

    ``pause(seconds)`` waits between two tries.
    """

    def __init__(self, channel: Channel, pause: Callable[[float], object]) -> None:
        self._channel = channel
        self._pause = pause
        #: The last position that was written.
        self.saved: Position | None = None

    def save(self, position: Position | None) -> None:
        """Write ``position``, unless it is written.

        What passes is tried again, five times in all; then it is left to the next checkpoint, which is a later one. Raises
        LeaseGone, and CheckpointRefused for what does not pass.
        """
        if position is None or position == self.saved:
            return
        if self._written(position):
            self.saved = position
        else:
            log.warning("the checkpoint is not written; the next one counts for it too")

    def save_end(self) -> None:
        """Write that the shard is done with. There is no next one: CheckpointRefused for what does not pass in time, too."""
        if not self._written(None):
            raise CheckpointRefused("the end of the shard could not be checkpointed")

    def _written(self, position: Position | None) -> bool:
        for attempt in range(1, _TRIES + 1):
            error = self._ask(position)
            if error is None:
                return True
            if error == _LEASE_GONE:
                raise LeaseGone("another worker has the lease")
            if error not in _PASSING:
                why = f": {_WHY[error]}" if error in _WHY else ""
                raise CheckpointRefused(f"the daemon could not checkpoint at {_text(position)} ({error}{why})")
            log.warning(
                "the daemon could not checkpoint at %s (%s), try %d of %d", _text(position), error, attempt, _TRIES
            )
            if attempt < _TRIES:
                # Somewhere between half and all of it: the workers of a stream are throttled together.
                self._pause(min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1))  # noqa: S311  # No secret.
        return False

    def _ask(self, position: Position | None) -> str | None:
        self._channel.send(checkpoint(position))
        answer = self._channel.receive()
        if not isinstance(answer, Checkpointed):
            raise ProtocolError(f"the daemon answered a checkpoint with {type(answer).__name__}")
        asked = (None, None) if position is None else (str(position.sequence_number), position.sub_sequence_number)
        if (answer.sequence_number, answer.sub_sequence_number) != asked:
            raise ProtocolError(f"the daemon answered another checkpoint than that at {_text(position)}")
        if answer.error is not None and not answer.error.isidentifier():
            raise ProtocolError("the daemon named an error that is none")
        return answer.error


def _text(position: Position | None) -> str:
    return "the end of the shard" if position is None else f"{position.sequence_number}:{position.sub_sequence_number}"

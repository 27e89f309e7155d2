"""Lambda's event source mapping of one shard: its lanes, and the checkpoint that all of them have come through.

As a lane is, it is a state machine without a clock and without I/O (``streamkit.local.lane``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from .answer import read_answer
from .lane import Action, Discard, Idle, Invoke, Item, Lane, Wait, WindowCall
from .settings import Settings

__all__ = [
    "Action",
    "Discard",
    "Idle",
    "Invoke",
    "Item",
    "ShardMapping",
    "Wait",
    "WindowCall",
    "lane_of",
    "read_answer",
]


def lane_of(partition_key: str | None, sequence_number: int, lanes: int) -> int:
    """The lane of a record, by its partition key: a key's records all go through one. Without a key, any lane will do."""
    if lanes == 1:
        return 0
    text = str(sequence_number) if partition_key is None else partition_key
    return crc32(text.encode("utf-8", "surrogatepass")) % lanes


class ShardMapping:
    """The mapping of one shard. ``checkpoint`` is the last sequence number at and below which all is passed: done,
    discarded, or not wanted by the filters; of parallel lanes, the lowest.

    ``resume_after`` is the number after which a reader that begins anew has to begin. It is the checkpoint, but for tumbling
    windows: the state of an open window is lost with its reader, so there it is the number before the window.

    Whoever must not lose a discarded record keeps the position durably only when its failure document has been taken.
    """

    def __init__(self, settings: Settings, checkpoint: int | None = None) -> None:
        self.checkpoint = checkpoint
        self.resume_after = checkpoint
        self._lanes = [Lane(settings, number) for number in range(settings.parallelization_factor)]
        # The lane that is asked first.
        self._turn = 0
        self._is_windowed = settings.tumbling_window_in_seconds > 0
        # What was added and is not passed by the checkpoint, and what is passed by it in windows that are still open.
        self._unpassed: deque[int] = deque()
        self._unresumed: deque[int] = deque()
        # The first and last number of windows that have ended, as long as a reader that begins anew could cut them in two.
        self._ended_windows: list[tuple[int, int]] = []

    @property
    def backlog(self) -> int:
        """How many records wait for their first delivery."""
        return sum(lane.backlog for lane in self._lanes)

    @property
    def backlog_bytes(self) -> int:
        """The bytes of event of the records that wait for their first delivery."""
        return sum(lane.backlog_bytes for lane in self._lanes)

    @property
    def oldest_arrival(self) -> float | None:
        """When the oldest record arrived that is neither done nor discarded; None where there is none."""
        return min((oldest.arrived_at for lane in self._lanes if (oldest := lane.oldest) is not None), default=None)

    @property
    def unpassed(self) -> int:
        """How many records were added that the checkpoint has not passed."""
        return len(self._unpassed)

    @property
    def is_over(self) -> bool:
        """The shard is closed, and everything in it is passed."""
        return all(lane.is_over for lane in self._lanes)

    @property
    def is_retrying(self) -> bool:
        """Something has failed and is to be tried again."""
        return any(lane.is_retrying for lane in self._lanes)

    def add(self, items: Sequence[Item], now: float) -> None:
        """Records that were read from the shard, in order."""
        self._unpassed.extend([item.sequence_number for item in items])
        wanted = [item for item in items if item.is_wanted]
        if len(self._lanes) == 1:
            self._lanes[0].add(wanted, now)
        else:
            for number, lane in enumerate(self._lanes):
                lane.add([item for item in wanted if item.lane == number], now)
        if len(wanted) < len(items):
            self._pass()

    def caught_up(self, now: float) -> None:
        """All that had arrived by this time has been added: what tells that a tumbling window is over."""
        for lane in self._lanes:
            lane.caught_up(now)

    def end(self) -> None:
        """The shard is closed, and all of it has been added."""
        for lane in self._lanes:
            lane.end()

    def next(self, now: float) -> Action:
        """What to do at this time. An ``Invoke`` has begun when it is returned; a ``Discard`` is over.

        Several invocations can be under way, one of each lane. The lanes take turns, for a driver that runs one at a time.
        """
        wait: Wait | None = None
        for number in range(len(self._lanes)):
            action = self._lanes[(self._turn + number) % len(self._lanes)].next(now)
            if isinstance(action, Invoke):
                self._turn = action.lane + 1
                return action
            if isinstance(action, Discard):
                self._pass()
                return action
            if isinstance(action, Wait) and (wait is None or action.until < wait.until):
                wait = action
        return wait or Idle()

    def answered(self, answer: Any, now: float, lane: int = 0) -> bool:
        """The function has returned ``answer`` to the lane's invocation. Whether that was success for all of its batch."""
        is_success = self._lanes[lane].answered(answer, now)
        self._pass()
        return is_success

    def failed(self, now: float, lane: int = 0) -> None:
        """The function has raised, or its time was up."""
        self._lanes[lane].failed(now)

    def throttled(self, now: float, lane: int = 0) -> None:
        """Lambda did not let the invocation through: tried again later, and this is no attempt."""
        self._lanes[lane].throttled(now)

    def _pass(self) -> None:
        """Move the checkpoint up to what all lanes have come through."""
        lowest = min(
            (oldest.sequence_number for lane in self._lanes if (oldest := lane.oldest) is not None), default=None
        )
        unpassed = self._unpassed
        while unpassed and (lowest is None or unpassed[0] < lowest):
            self.checkpoint = unpassed.popleft()
            if self._is_windowed:
                self._unresumed.append(self.checkpoint)
        if self._is_windowed:
            self._move_resumption()
        else:
            self.resume_after = self.checkpoint

    def _move_resumption(self) -> None:
        """Move up to where no window is cut in two: not one that is open, nor one that has ended in a faster lane."""
        for lane in self._lanes:
            self._ended_windows += lane.ended_windows
            lane.ended_windows = []
        begin_at = min((number for lane in self._lanes if (number := lane.begin_at) is not None), default=None)
        if begin_at is not None:
            # From the last on: one that is cut moves the place to its own first record, which can cut an earlier one.
            for first, last in sorted(self._ended_windows, key=lambda window: window[1], reverse=True):
                if first < begin_at <= last:
                    begin_at = first
        while self._unresumed and (begin_at is None or self._unresumed[0] < begin_at):
            self.resume_after = self._unresumed.popleft()
        self._ended_windows = [
            window for window in self._ended_windows if begin_at is not None and window[1] >= begin_at
        ]

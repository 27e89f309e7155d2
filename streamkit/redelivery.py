"""A batch that was delivered before: what of it is done already, and what the next delivery is to know."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .deadline import Deadline
from .event import Batch
from .outcome import Outcome, Settled, is_settled
from .processor import RecordProcessor
from .progress.base import ProgressStore
from .reason import reason
from .record import Record

if TYPE_CHECKING:
    from .positions import Position

__all__ = ["Redelivery"]

log = logging.getLogger("streamkit")

_DONE_BEFORE: Outcome = Settled("an earlier delivery")


class Redelivery:
    """One batch and the processor's progress store. It does nothing where there is no store, or no stream.

    An entry lists what was done or settled, and stands under the first number of its batch: no later delivery of any of its
    records ends before that number, so a look-up of all that stands at or below a batch's last number finds every entry that
    knows a record of it. That is so after a crash too, be it between the saving and the answer.

    Nothing here raises: a store that fails costs duplicates.
    """

    def __init__(self, processor: RecordProcessor, batch: Batch, deadline: Deadline) -> None:
        is_stream = batch.source == "kinesis" and bool(batch.records)
        self._store = processor.progress if is_stream else None
        self._processor = processor.name
        self._batch = batch
        self._deadline = deadline
        self._known: frozenset[Position] = frozenset()
        self._could_not_look_up = False
        self._stands_alone = False

    def leave_out_what_is_done(self) -> None:
        """Settle the records that an earlier delivery has done or settled, so that they are not run."""
        if self._store is None:
            return
        try:
            self._known = self._look_up(self._store)
            if self._known:
                for index, record in enumerate(self._batch.records):
                    if _position(record) in self._known:
                        self._batch.outcomes[index] = _DONE_BEFORE
        except Exception as error:  # noqa: BLE001  # Whatever the store raises, the batch goes on.
            self._could_not_look_up = True
            log.error(
                "%s: what earlier deliveries have done could not be looked up, so all of the batch runs: %s",
                self._processor,
                reason(error),
            )

    def save(self, *, comes_again: bool = False) -> None:
        """Keep what is done, where a part of the batch will be delivered again and something is new.

        What was known of later batches is kept too. A batch that could not look up is saved even where all of it went well,
        and its entry ends what older ones say: it may have run a record again behind which others count as done.

        ``comes_again``: so will a part of this batch, though all of it is settled here, for somebody else has not settled it.
        It can be called more than once.
        """
        if self._store is None or (self._batch.is_done() and not (self._could_not_look_up or comes_again)):
            return
        try:
            settled = self._settled()
            is_over = len(settled) == len(self._batch.records) and not comes_again
            if self._could_not_look_up or not (is_over or settled <= self._known):
                self._save(self._store, settled)
        except Exception as error:  # noqa: BLE001  # Not saved, so what is done will be done again.
            log.error(
                "%s: what is done of the batch could not be saved, so it may be done again: %s",
                self._processor,
                reason(error),
            )

    def _look_up(self, store: ProgressStore) -> frozenset[Position]:
        """The positions at or above the batch's first that are known to be done or settled."""
        from .positions import decode_entry  # A processor without a store does not pay for it.

        last = _position(self._batch.records[-1])[0]
        entries = self._deadline.request(
            store, lambda deadline: store.entries(self._processor, self._shard(), last, deadline=deadline)
        )
        known: set[Position] = set()
        for data in entries:
            try:
                entry = decode_entry(data)
            except ValueError as error:
                log.error("%s: an entry of progress in %s can't be used: %s", self._processor, self._shard(), error)
                continue
            known |= entry.positions
            if entry.alone:
                # What is saved now may take that entry's place, and has to keep older ones out as it did.
                self._stands_alone = True
                break
        first = self._first()
        return frozenset(position for position in known if position[0] >= first)

    def _save(self, store: ProgressStore, settled: frozenset[Position]) -> None:
        from .positions import encode_entry

        known = settled | self._known
        entry = encode_entry(known, alone=self._could_not_look_up or self._stands_alone)
        self._deadline.request(
            store, lambda deadline: store.save(self._processor, self._shard(), self._first(), entry, deadline=deadline)
        )
        self._known = known

    def _settled(self) -> frozenset[Position]:
        outcomes = zip(self._batch.records, self._batch.outcomes, strict=True)
        return frozenset(_position(record) for record, outcome in outcomes if is_settled(outcome))

    def _first(self) -> int:
        return _position(self._batch.records[0])[0]

    def _shard(self) -> str:
        """``<stream>/<shardId>``, of which a batch has one."""
        return self._batch.records[0].event_id.partition(":")[0]


def _position(record: Record) -> Position:
    return int(record.sequence_number or 0), record.sub_sequence_number or 0

"""The seam to what keeps a reader's checkpoints, and who may move them: one entry for each shard that the reader has come to.

A lease says whose a shard is. It is taken by a write that only succeeds where nobody was faster, and each taking has a number
of its own, the term: what an owner of an older term writes is refused, however late it wakes up. How long a lease lasts is
the business of those who take them (``streamkit.local.leases``): a store has no clock.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ..errors import LeaseLost

__all__ = ["CheckpointStore", "Entry", "Lease", "LeaseLost", "TransactionalCheckpoints"]


Entry = TypeVar("Entry", bound="Lease | None")


class Lease(msgspec.Struct, frozen=True):
    """A reader's entry for one shard, as it was when it was read or written."""

    #: The reader's name.
    reader: str
    stream: str
    shard_id: str
    #: A text that no other runner has, in no other start either. Empty: the lease was given up, and the shard is nobody's.
    owner: str = ""
    #: Goes up with each taking.
    term: int = 0
    #: Goes up with each renewal: who watches the entry sees that its owner lives.
    beat: int = 0
    #: The last sequence number at and below which every record is settled or discarded; None before the first.
    checkpoint: int | None = None
    #: The shard is closed and all of it is settled: there is nothing to read in it any more.
    has_ended: bool = False
    #: Seconds since the epoch: since when this reader reads the stream, so that one from LATEST can begin there anew.
    started_at: float | None = None

    @property
    def version(self) -> tuple[str, int, int]:
        """Owner, term and beat: what is another one whenever the shard was taken or given up, or the lease renewed."""
        return self.owner, self.term, self.beat

    def held_in(self, entry: Lease | None) -> Lease:
        """The shard's ``entry``, if it is of this owner and term still; else LeaseLost."""
        if entry is None or (entry.owner, entry.term) != (self.owner, self.term):
            raise LeaseLost(f"shard {self.shard_id} of {self.stream} is not {self.reader}'s by this lease any more")
        return entry


class CheckpointStore(ABC):
    """Safe for several threads, and for several processes where it is shared by them.

    Every write takes effect as a whole or not at all, is durable when the method returns, and can be repeated when its answer
    was lost. Sequence numbers have up to 128 digits and compare as integers. A store that can't be reached raises an error of
    its own, after which the write may have taken effect or not.
    """

    @abstractmethod
    def leases(self, reader: str, stream: str) -> dict[str, Lease]:
        """All entries of ``reader`` in ``stream``, by shard id, with every write in them that has returned."""

    @abstractmethod
    def take(
        self,
        reader: str,
        stream: str,
        shard_id: str,
        owner: str,
        seen: Lease | None,
        *,
        started_at: float | None = None,
    ) -> Lease | None:
        """Make the shard ``owner``'s, if its entry is still the one that was ``seen``: None where somebody was faster.

        ``seen`` is None where there was no entry. It is the same as long as owner, term and beat are. Checkpoint and end stay
        as they are, and ``started_at`` where there is one already.
        """

    @abstractmethod
    def renew(self, lease: Lease) -> Lease:
        """Let the entry's beat go up by one; LeaseLost if it is no longer of the lease's owner and term."""

    @abstractmethod
    def save(self, lease: Lease, sequence_number: int) -> None:
        """Move the checkpoint up; a number below it changes nothing. LeaseLost as for ``renew``, whatever the beat."""

    @abstractmethod
    def end(self, lease: Lease, sequence_number: int | None) -> None:
        """As ``save``, and say in the same write that the shard has ended. None: the checkpoint stays as it is."""

    @abstractmethod
    def give_up(self, lease: Lease) -> None:
        """Make the shard nobody's. A lease that is lost already is nothing to give up, and no error."""

    def may_pass(self, error: Exception) -> bool:
        """Whether waiting can mend what one of these has raised: a throttle, a time-out, an outage."""
        return False

    def close(self) -> None:
        """Release files and connections."""
        return


class TransactionalCheckpoints(CheckpointStore):
    """A store that can put an entry in the place of another with nobody coming between: ``_change`` and ``leases`` remain."""

    @abstractmethod
    def _change(self, reader: str, stream: str, shard_id: str, changed: Callable[[Lease | None], Entry]) -> Entry:
        """Put ``changed(entry)`` in the entry's place in one transaction, and return it. What it raises changes nothing."""

    def take(
        self,
        reader: str,
        stream: str,
        shard_id: str,
        owner: str,
        seen: Lease | None,
        *,
        started_at: float | None = None,
    ) -> Lease | None:
        term = 1 if seen is None else seen.term + 1

        def taken(entry: Lease | None) -> Lease | None:
            if (entry and entry.version) != (seen and seen.version):
                return entry
            entry = entry or Lease(reader, stream, shard_id)
            since = started_at if entry.started_at is None else entry.started_at
            return msgspec.structs.replace(entry, owner=owner, term=term, started_at=since)

        entry = self._change(reader, stream, shard_id, taken)
        # An owner's text is nobody else's: this very taking may have been there already, and only its answer was lost.
        return entry if entry is not None and (entry.owner, entry.term) == (owner, term) else None

    def renew(self, lease: Lease) -> Lease:
        return self._change_held(
            lease, lambda entry: msgspec.structs.replace(entry, beat=max(entry.beat, lease.beat + 1))
        )

    def save(self, lease: Lease, sequence_number: int) -> None:
        self._change_held(lease, lambda entry: _moved_up(entry, sequence_number))

    def end(self, lease: Lease, sequence_number: int | None) -> None:
        self._change_held(
            lease, lambda entry: msgspec.structs.replace(_moved_up(entry, sequence_number), has_ended=True)
        )

    def give_up(self, lease: Lease) -> None:
        with contextlib.suppress(LeaseLost):
            self._change_held(lease, lambda entry: msgspec.structs.replace(entry, owner=""))

    def _change_held(self, lease: Lease, changed: Callable[[Lease], Lease]) -> Lease:
        return self._change(lease.reader, lease.stream, lease.shard_id, lambda entry: changed(lease.held_in(entry)))


def _moved_up(entry: Lease, sequence_number: int | None) -> Lease:
    if sequence_number is None or (entry.checkpoint is not None and entry.checkpoint >= sequence_number):
        return entry
    return msgspec.structs.replace(entry, checkpoint=sequence_number)

"""Many processors behind one read of a stream, each with its own order, failures, progress and share of the time.

    one read ──▶ decoded once ─┬─▶ Search: its records, its outcomes, its progress ─┐
                               ├─▶ Audit:  …                                        ├─▶ the lowest position that
                               └─▶ Ledger: …                                        ┘   some branch has not settled

The branches run one after another. What a branch has settled is kept in its progress store when a part of the batch will come
again, and it does not run again. Nothing else passes from one branch to another: not a failure, not a changed value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from . import event as events
from . import handler as handlers
from .claim_check import ClaimCheck
from .deadline import Deadline
from .errors import ConfigurationError, StreamkitError
from .event import Batch, QueuedRecord
from .execution import Process
from .finding import Finding, cost_of_no_name
from .outcome import Outcome, Settled, Unavailable, is_settled
from .parking import swept
from .policy import Block
from .processor import RecordProcessor, attributes_of, check_options
from .progress.base import ProgressStore
from .reason import reason
from .record import Record
from .redelivery import Redelivery
from .sinks.base import ShardSink

if TYPE_CHECKING:
    from .metrics.metering import Invocation, Part

__all__ = ["FanOut"]

log = logging.getLogger("streamkit")

Source = type[RecordProcessor] | RecordProcessor | Callable[[], RecordProcessor]


class FanOut(RecordProcessor):
    """Runs several processors, the branches, on the records of one function: ``lambda_handler(FanOut(Search, Audit))``.

        handler = lambda_handler(FanOut(Search, Audit, progress=DynamoDbProgress("progress")))

    A branch is a processor's class, an instance or a factory without arguments, made at the first invocation. Their names
    differ, for a name keys what is stored. ``progress`` is given to every branch that has none of its own; it keeps the failure
    of one branch from repeating the others. Without it, what one branch has not settled is repeated by all.

    A message of a retry queue is run by the branch that its envelope names; one without an envelope, by all.

    ``name`` is that of the whole, for the checkpoints of ``streamkit run``: by default the branches' names, joined. Give it one
    before a branch is added, or the reader of the stream is another one from then on.

    ConfigurationError for branches that can't stand beside each other; ``findings`` tells what else to know of them.
    """

    def __init__(self, *branches: Source, progress: ProgressStore | None = None, name: str = "") -> None:
        if not branches:
            raise ConfigurationError("FanOut() needs branches: FanOut(Search, Audit)")
        for branch in branches:
            if not isinstance(branch, RecordProcessor) and not callable(branch):
                raise TypeError(f"a branch is a RecordProcessor's class, an instance or a factory; got {branch!r}")
        if progress is not None and not isinstance(progress, ProgressStore):
            raise ConfigurationError(
                f'FanOut(progress) takes a progress store, as DynamoDbProgress("table"); got {progress!r}'
            )
        self._store = progress
        self._branches = [_Branch(source) for source in branches]
        # The shards of which this container has come through a batch.
        self._proven: set[str] = set()
        self.name = name or "+".join(map(str, self._branches))
        self._check()

    def findings(self) -> list[Finding]:
        """What can't be right, and what has a cost. It makes the branches that are not made yet, and raises what that raises."""
        processors = self.processors()
        costs = [cost for processor in processors for cost in _costs(processor)] if len(processors) > 1 else []
        return [*_faults(processors), *costs]

    def processors(self) -> list[RecordProcessor]:
        """The branches' processors. It makes those that are not made yet, and raises what that raises."""
        return [branch.make(self._store) for branch in self._branches]

    def _subjects(self) -> list[tuple[str, RecordProcessor | type[RecordProcessor] | None]]:
        """Each branch by name, with its processor as far as that is made: for ``health``."""
        return [(str(branch), branch.made or handlers.subject_of(branch.source)) for branch in self._branches]

    def close(self) -> None:
        """Close the branches, and what they hold."""
        handlers.close(branch.made for branch in self._branches if branch.made is not None)
        for branch in self._branches:
            branch.made = None

    def _fan_out(
        self,
        event: Any,
        context: Any,
        observer: handlers.Observer | None,
        tracing: handlers.TracedInvocation | None = None,
        measured: Invocation | None = None,
    ) -> events.Answer:
        """Run the branches one after another, then save what each has settled; the answer comes last."""
        branches = self._made()
        deadline = Deadline(context, max(branch.margin for branch in branches))
        policies = [branch.made.on_failure for branch in branches if branch.made is not None]
        batches, nobodys = _batches(branches, event, ClaimCheck(deadline, *policies).fetch)
        passages = [_Passage(branch, batch, context, tracing) for branch, batch in zip(branches, batches, strict=True)]
        if measured is not None:
            measured.decoded(deadline)
            for passage in passages:
                passage.follow(measured)
            if nobodys.records:
                measured.follow("", nobodys, deadline)

        shard = _shard(batches[0])
        is_proven = shard in self._proven
        self._proven.discard(shard)
        self._run(passages, deadline, saves_at_once=not is_proven)
        comes_again = not all(passage.is_over() for passage in passages)
        for n, passage in enumerate(passages):
            if n == 0 or not comes_again or passage.has_time_to_save():
                passage.save(comes_again=comes_again)
        for passage in passages:
            if observer is not None and passage.branch.made is not None:
                handlers.look_on(observer, passage.batch, passage.branch.made)
        response = events.response(_unsettled([*(passage.batch for passage in passages), nobodys]))
        if "window" in event:
            response["state"] = event.get("state", {})  # Without one, Lambda takes the call for failed.
        if batches[0].heartbeats:
            handlers.pulse(batches[0], response, self.name, deadline, measured)
        self._proven.add(shard)
        return response

    def _run(self, passages: list[_Passage], deadline: Deadline, *, saves_at_once: bool) -> None:
        """``saves_at_once``: a container that dies within a branch takes with it what the others have done and not saved, and
        the next one can't know that. So the first time that a container has a shard, it saves at each step.
        """
        for n, passage in enumerate(passages):
            before, left = passages[:n], passages[n:]
            if before and deadline.remaining() < passage.branch.margin and all(map(_Passage.is_kept, before)):
                # What has used up the time will not run again, so next time there is more of it.
                log.warning("%s: no time is left for the branch, and its records wait", passage.branch.name)
                continue
            passage.run(deadline.remaining(), max(one.branch.margin for one in left), len(left))
            if saves_at_once and len(left) > 1 and passage.has_time_to_save():
                passage.save(comes_again=True)

    def _made(self) -> list[_Branch]:
        """The branches. One that could not be made has its error, and the others run."""
        for branch in self._branches:
            branch.error = None
            is_new = branch.made is None
            try:
                made = branch.make(self._store)
                if is_new and len(self._branches) > 1 and (cost := _cost_of_no_progress(made)):
                    log.warning("%s: the branch %s", branch, cost.message)
            except Exception as error:  # noqa: BLE001  # Whatever a branch's constructor raises is that branch's failure.
                branch.error = error
                log.error(
                    "%s: the branch could not be made, and its records stay where they are: %s", branch, reason(error)
                )
        self._check()
        return self._branches

    def _check(self) -> None:
        for fault in _faults([branch.made or branch.source for branch in self._branches]):
            raise ConfigurationError(f"FanOut: {fault.where}: {fault.message}")


class _Branch:
    """A branch's processor, and what it is made from. It lasts as long as the container."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.made: RecordProcessor | None = None
        #: Why it could not be made, the last time.
        self.error: Exception | None = None

    def __str__(self) -> str:
        return self.name or f"{self.source.__module__}.{getattr(self.source, '__qualname__', 'a factory')}"

    @property
    def name(self) -> str:
        """The processor's name; empty where only its factory knows."""
        return _name(self.made or self.source)

    @property
    def margin(self) -> float:
        return RecordProcessor.deadline_margin if self.made is None else self.made.deadline_margin

    @property
    def is_lenient(self) -> bool:
        return self.made is not None and self.made.aggregates == "lenient"

    def make(self, store: ProgressStore | None) -> RecordProcessor:
        """The processor, with ``store`` where it has no progress of its own."""
        if self.made is None:
            processor = self.source if isinstance(self.source, RecordProcessor) else self.source()
            if not isinstance(processor, RecordProcessor):
                raise TypeError(f"the factory of a branch made a {type(processor).__name__}, not a RecordProcessor")
            if processor.progress is None and not _keeps_account(processor):
                processor.progress = store
            check_options(processor)
            self.made = processor
        return self.made


class _Passage:
    """A batch on its way through one branch. It lives for one invocation."""

    def __init__(self, branch: _Branch, batch: Batch, context: Any, tracing: handlers.TracedInvocation | None) -> None:
        self.branch = branch
        self.batch = batch
        self._tracing = tracing
        self._share = _Share(context)
        self._deadline = Deadline(self._share, branch.margin)
        self._redelivery = None if branch.made is None else Redelivery(branch.made, batch, self._deadline)
        self._part: Part | None = None

    def follow(self, measured: Invocation) -> None:
        """Let the branch's time and outcomes be measured."""
        self._part = measured.follow(str(self.branch), self.batch, self._deadline)

    def run(self, remaining: float, margin: float, left: int) -> None:
        """Run the records in this branch's share of the ``remaining`` seconds, which ``left`` branches are to divide but for
        the longest ``margin`` of theirs. What is raised is of this branch: what nobody has confirmed stays where it is.
        """
        self._share.begin(remaining, max(0.0, remaining - margin) / left + self.branch.margin)
        if self._part is not None:
            self._part.begin()
        try:
            if self.branch.made is None or self._redelivery is None:
                raise self.branch.error or StreamkitError("the branch could not be made")
            process: Process = self.branch.made.process
            if self._tracing is not None:
                process = self._tracing.around(process, self.batch)
            handlers.run(self.branch.made, self.batch, self._redelivery, self._deadline, process)
        except Exception as error:  # noqa: BLE001  # Its neighbours are not at fault.
            if error is not self.branch.error:
                log.error("%s: the branch failed, and its records stay where they are: %s", self.branch, reason(error))
            self._leave(error)
        if self._part is not None:
            self._part.end()
        self._share.end()

    def _leave(self, error: Exception) -> None:
        """What was done is perhaps not delivered: only what a queue has confirmed counts, or an earlier delivery."""
        outcomes = self.batch.outcomes
        for index, outcome in enumerate(outcomes):
            if not isinstance(outcome, Settled):
                outcomes[index] = Unavailable(error)

    def save(self, *, comes_again: bool) -> None:
        """Keep what is settled. ``comes_again``: somebody has not settled all of the batch."""
        if self._redelivery is not None:
            self._redelivery.save(comes_again=comes_again)

    def has_time_to_save(self) -> bool:
        """Whether that leaves time to answer."""
        store = None if self.branch.made is None else self.branch.made.progress
        if store is None or self._deadline.allows_request(store):
            return True
        log.error("%s: no time is left to save what is done of the batch, so it may be done again", self.branch)
        return False

    def is_over(self) -> bool:
        """Whether all of the batch is settled."""
        return self.batch.is_done() or all(map(is_settled, self.batch.outcomes))

    def is_kept(self) -> bool:
        """Whether what it has settled does not run again."""
        return self.branch.made is None or self.branch.made.progress is not None


class _Share:
    """Lambda's context as one branch has it: with an end of its own while it runs."""

    def __init__(self, context: Any) -> None:
        self._milliseconds: Callable[[], float] | None = getattr(context, "get_remaining_time_in_millis", None)
        self.monotonic: Callable[[], float] | None = getattr(context, "monotonic", None)
        self.invoked_function_arn: str | None = getattr(context, "invoked_function_arn", None)
        self._kept = 0.0

    def begin(self, remaining: float, share: float) -> None:
        """Both in seconds."""
        self._kept = max(0.0, remaining - share) * 1000 if isfinite(remaining) else 0.0

    def end(self) -> None:
        self._kept = 0.0

    def get_remaining_time_in_millis(self) -> float:
        return inf if self._milliseconds is None else self._milliseconds() - self._kept


def _batches(branches: list[_Branch], event: Any, fetch: events.Fetch) -> tuple[list[Batch], Batch]:
    """The batch of each branch, and of what no branch is for. Each has records of its own, of an event that is decoded once: or
    twice, where some take a damaged aggregate for an error and others for data.
    """
    read = {
        lenient: events.decode(event, lenient=lenient, fetch=fetch)
        for lenient in {branch.is_lenient for branch in branches}
    }
    source = read[branches[0].is_lenient].source
    nobodys = Batch(source, [], [])
    if len(branches) == 1:
        return [read[branches[0].is_lenient]], nobodys
    names = {branch.name for branch in branches}
    for batch in read.values():
        events.decode_data(batch)
    if source != "kinesis":
        for record in read[branches[0].is_lenient].records:
            name = _addressee(record)
            if name is not None and name not in names:
                log.error(
                    "record %s stays where it is: it is of the processor %s, which is none of the branches",
                    record,
                    name,
                )
                nobodys.records.append(record)
                nobodys.outcomes.append(Unavailable(StreamkitError(f"no branch is named {name}")))
    return [_batch_of(branch.name, read[branch.is_lenient]) for branch in branches], nobodys


def _batch_of(name: str, batch: Batch) -> Batch:
    """A branch's own records: all that are addressed to it, or to nobody."""
    if batch.source == "kinesis":
        records, outcomes = [events.view(record) for record in batch.records], batch.outcomes.copy()
        return Batch(batch.source, records, outcomes, heartbeats=batch.heartbeats)
    own = [n for n, record in enumerate(batch.records) if _addressee(record) in (None, name)]
    return Batch(batch.source, [events.view(batch.records[n]) for n in own], [batch.outcomes[n] for n in own])


def _addressee(record: Record) -> str | None:
    """The processor that a message is for; None where it does not say."""
    if not isinstance(record, QueuedRecord):
        return None
    return swept(record) if record.envelope is None else record.envelope.processor


def _unsettled(batches: list[Batch]) -> Batch:
    """What some branch has not settled, each message once."""
    source = batches[0].source
    unsettled: dict[Any, tuple[Record, Outcome]] = {}
    for batch in batches:
        if batch.is_done():
            continue
        for record, outcome in zip(batch.records, batch.outcomes, strict=True):
            if not is_settled(outcome):
                key = record.message_id if isinstance(record, QueuedRecord) else id(record)
                unsettled.setdefault(key, (record, outcome))
    records, outcomes = [one for one, _ in unsettled.values()], [one for _, one in unsettled.values()]
    return Batch(source, records, outcomes)


def _shard(batch: Batch) -> str:
    """``<stream>/<shardId>``; empty where the batch is of none."""
    return batch.records[0].event_id.partition(":")[0] if batch.source == "kinesis" and batch.records else ""


def _name(source: Any) -> str:
    is_processor = isinstance(source, RecordProcessor) or (
        isinstance(source, type) and issubclass(source, RecordProcessor)
    )
    return source.name if is_processor else ""


def _keeps_account(processor: RecordProcessor) -> bool:
    """Whether a sink knows itself what is in, and has to see again what is."""
    return any(isinstance(part, ShardSink) for part in attributes_of(processor))


def _faults(branches: Sequence[Any]) -> list[Finding]:
    """What can't be right about branches, processors or their classes, beside each other."""
    faults: list[Finding] = []
    names: set[str] = set()
    known = [branch for branch in branches if _name(branch)]
    for branch in known:
        if branch._fan_out is not None:
            faults.append(Finding("error", branch.name, "is a FanOut itself: give its branches to this one"))
        if branch._window_run is not None:
            faults.append(
                Finding(
                    "error", branch.name, "folds windows, whose state is a function's one answer: deploy it by itself"
                )
            )
        if branch.name in names:
            faults.append(
                Finding(
                    "error",
                    branch.name,
                    "is the name of two branches, and a name keys progress, write ids and envelopes: give each its own",
                )
            )
        names.add(branch.name)
    retries = {id(branch.on_failure.queue): branch.name for branch in known if branch.on_failure.queue is not None}
    for branch in known:
        owner = retries.get(id(branch.on_failure.dead_letters))
        if owner is not None:
            faults.append(
                Finding(
                    "error",
                    branch.name,
                    f"has the retry queue of {owner} as its dead letters: what it gives up would come back for ever",
                )
            )
    return faults


def _costs(processor: RecordProcessor) -> list[Finding]:
    """What a branch costs the others, or they it."""
    costs = [_cost_of_no_progress(processor), cost_of_no_name(processor)]
    if isinstance(processor.on_failure, Block):
        costs.append(
            Finding(
                "warning",
                processor.name,
                "has Block: a record that fails in it holds the next records for all branches. Divert and Park don't",
            )
        )
    return [cost for cost in costs if cost is not None]


def _cost_of_no_progress(processor: RecordProcessor) -> Finding | None:
    if processor.progress is not None or _keeps_account(processor):
        return None
    return Finding(
        "warning",
        processor.name,
        "has no progress, so it runs again (and diverts again) what another branch has not settled: "
        "FanOut(…, progress=DynamoDbProgress(…))",
    )

"""The function that Lambda calls. ``answer`` and ``run`` are the path of a batch, from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from . import event as events
from . import heartbeat, metrics
from .claim_check import ClaimCheck
from .deadline import Deadline, ruling
from .delivery import Delivery
from .execution import Execution, Process
from .failure import Settlement, held_within, hold_followers
from .ledgers.base import Ledger
from .parking import parking_of
from .processor import RecordProcessor, attributes_of, check_options
from .progress.base import ProgressStore
from .queues.base import Queue
from .reason import reason
from .redelivery import Redelivery
from .sinks.base import Sink
from .warm import Container, Ping, ping_of

if TYPE_CHECKING:
    from .metrics.metering import Invocation, Metering

__all__ = ["Handler", "Observer", "answer", "close", "lambda_handler", "look_on", "pulse", "run", "subject_of"]

log = logging.getLogger("streamkit")


Observer = Callable[[events.Batch], None]


class TracedInvocation(Protocol):
    """An invocation that has a span."""

    def around(self, process: Process, batch: events.Batch) -> Process:
        """``process`` with a span for each record, now that the records are known."""


class Tracing(Protocol):
    """What makes spans."""

    def invocation(self, processor: str) -> AbstractContextManager[TracedInvocation]:
        """The span of one invocation, which ends with the context."""


def answer(
    processor: RecordProcessor,
    event: Any,
    context: Any,
    observer: Observer | None = None,
    tracing: TracedInvocation | None = None,
    measured: Invocation | None = None,
) -> events.Answer:
    """Decode the event, ``run`` what is not done yet, save what is done; the answer comes last.

    A crash between any two steps only repeats work: nothing is answered for before somebody has confirmed it.
    """
    deadline = Deadline(context, processor.deadline_margin)
    claims = ClaimCheck(deadline, processor.on_failure)
    batch = events.decode(event, lenient=processor.aggregates == "lenient", fetch=claims.fetch)
    if measured is not None:
        measured.decoded(deadline)
        measured.follow(processor.name, batch, deadline)
    redelivery = Redelivery(processor, batch, deadline)
    window = None if processor._window_run is None else processor._window_run(processor, event, batch)

    process = window.process if window else processor.process
    if tracing is not None:
        process = tracing.around(process, batch)
    delivery = run(processor, batch, redelivery, deadline, process)
    if window is not None:
        window.finish(delivery, deadline)
    redelivery.save()
    if observer is not None:
        look_on(observer, batch, processor)
    response = events.response(batch)
    if window is not None:
        response["state"] = window.state()
    elif "window" in event:
        response["state"] = event.get("state", {})  # Without one, Lambda takes the call for failed.
    if batch.heartbeats:
        pulse(batch, response, processor.name, deadline, measured)
    return response


def run(
    processor: RecordProcessor,
    batch: events.Batch,
    redelivery: Redelivery,
    deadline: Deadline,
    process: Process | None = None,
) -> Delivery:
    """What is not done yet in order, then the rest of the writes, then what failed goes aside: the outcomes are the batch's.

    ``process`` runs in place of the processor's own. The delivery is for writes that are of no record.
    """
    policy = processor.on_failure
    settlement = Settlement(policy, processor.name, batch, deadline, held_within(processor))
    parking = parking_of(processor, batch, deadline)
    delivery = Delivery(processor.name, deadline, batch.records[0] if batch.records else None)
    execution = Execution(processor, batch, delivery, settlement, deadline, process)

    redelivery.leave_out_what_is_done()
    if parking is not None:
        parking.look_up()
    execution.run()
    execution.finish_delivery()
    settlement.finish()
    delivery.note_circuits(batch)
    if not batch.is_done():
        hold_followers(batch, processor.ordering, policy)
    if parking is not None:
        parking.settle()
    if not batch.is_done():
        _log_endless_aggregate(processor, batch)
    return delivery


def look_on(observer: Observer, batch: events.Batch, processor: RecordProcessor) -> None:
    """Show the observer a batch whose outcomes are final."""
    try:
        observer(batch)
    except Exception as error:  # noqa: BLE001  # Who looks on must not change the answer.
        log.error("%s: the observer of the handler has failed: %s", processor.name, reason(error))


def pulse(
    batch: events.Batch, answer: events.Answer, processor: str, deadline: Deadline, measured: Invocation | None
) -> None:
    """Tell outside of a heartbeat that has come through: now that nothing can fail any more, but for the answer's own way."""
    try:
        beaten = heartbeat.beat([batch.records[index] for index in batch.heartbeats], answer, processor, deadline)
        if beaten is not None and measured is not None:
            measured.heartbeat(beaten.age, has_failed=beaten.has_failed)
    except Exception as error:  # noqa: BLE001  # Silence is the alarm; the answer is none the worse.
        log.error("%s: a heartbeat could not be told of: %s", processor, reason(error))


def _log_endless_aggregate(processor: RecordProcessor, batch: events.Batch) -> None:
    record = events.made_no_progress(batch) if processor.progress is None else None
    if record is not None:
        # A window's state is that of whole records of the stream, so there nothing goes on within one.
        way_on = "" if processor._window_run is not None else ", or set `progress` to go on within an aggregate"
        log.error(
            "%s: the time was up within the aggregate of %s, which will be delivered again from its start: give the function "
            "more time, or publish smaller aggregates%s",
            processor.name,
            record.event_id,
            way_on,
        )


class Handler:
    """What ``lambda_handler`` makes: call it with an event and Lambda's context."""

    def __init__(self, source: type[RecordProcessor] | RecordProcessor | Callable[[], RecordProcessor]) -> None:
        if not isinstance(source, RecordProcessor) and not callable(source):
            raise TypeError(f"lambda_handler takes a RecordProcessor's class, an instance or a factory; got {source!r}")
        self._source = source
        self._processor: RecordProcessor | None = None
        #: Called with each batch once its outcomes are final, before the answer is given. It has to leave the batch as it is;
        #: an error of its own is logged, and changes nothing.
        self.observer: Observer | None = None
        #: What makes a span of each invocation (``correlation.opentelemetry.traced``).
        self.tracing: Tracing | None = None
        # Made at the first batch; False where metrics are off.
        self._metering: Metering | Literal[False] | None = None
        self._container = Container()

    @property
    def processor(self) -> RecordProcessor:
        """The processor, built on the first invocation and not at import, so that an import can't fail for a service."""
        if self._processor is None:
            processor = self._source if isinstance(self._source, RecordProcessor) else self._source()
            if not isinstance(processor, RecordProcessor):
                raise TypeError(f"lambda_handler's factory made a {type(processor).__name__}, not a RecordProcessor")
            check_options(processor)
            self._processor = processor
        return self._processor

    def __call__(self, event: Any, context: Any = None) -> events.Answer:
        self._container.invocations += 1
        if type(event) is not dict or "Records" not in event:
            # Before anything is made, or imported, for records.
            if events.is_warm_up(event):
                return {"batchItemFailures": []}
            if (ping := ping_of(event)) is not None:
                return self._within(context, lambda: self._pinged(ping))
        return self._within(context, lambda: self._measured(event, context))

    def _within(self, context: Any, call: Callable[[], events.Answer]) -> events.Answer:
        """What ``call`` returns. Whatever waits in it waits no longer than the invocation has time: in a processor's
        constructor and at the end of a window, too.
        """
        subject = self._processor or subject_of(self._source)
        margin = RecordProcessor.deadline_margin if subject is None else subject.deadline_margin
        token = ruling.set(Deadline(context, margin))
        try:
            return call()
        finally:
            ruling.reset(token)

    def _measured(self, event: Any, context: Any) -> events.Answer:
        if self._metering is None:
            self._metering = _metering(is_new=self._container.invocations == 1)
        if not self._metering:
            return self._invoke(event, context, None)
        with self._metering.invocation(event, context) as measured:
            return self._invoke(event, context, measured)

    def _invoke(self, event: Any, context: Any, measured: Invocation | None) -> events.Answer:
        processor = self.processor
        if measured is not None:
            measured.name = processor.name
        if self.tracing is None:
            return self._answer(processor, event, context, None, measured)
        with self.tracing.invocation(processor.name) as invocation:
            return self._answer(processor, event, context, invocation, measured)

    def _answer(
        self,
        processor: RecordProcessor,
        event: Any,
        context: Any,
        tracing: TracedInvocation | None,
        measured: Invocation | None,
    ) -> events.Answer:
        if processor._fan_out is not None:
            return processor._fan_out(event, context, self.observer, tracing, measured)  # type: ignore[no-any-return]  # FanOut's own method.
        return answer(processor, event, context, self.observer, tracing, measured)

    def _pinged(self, ping: Ping) -> events.Answer:
        """What a ping of streamkit's own is answered. An error of the processor's making is the answer of health alone."""
        container = self._container
        fault: Exception | None = None
        if ping.build:
            try:
                processor = self.processor
                if processor._fan_out is not None:
                    processor.processors()  # type: ignore[attr-defined]  # FanOut's own method.
            except Exception as error:
                if ping.kind == "warm":
                    raise
                fault = error
        ping.wait()
        if ping.kind == "warm":
            return ping.answer(container)
        from .health import health

        return health(container, self._subjects(), fault)

    def _subjects(self) -> list[tuple[str, RecordProcessor | type[RecordProcessor] | None]]:
        """The processor's name and what there is of it; of a ``FanOut`` those of its branches."""
        subject = self._processor or subject_of(self._source)
        if isinstance(subject, RecordProcessor) and subject._fan_out is not None:
            return subject._subjects()  # type: ignore[no-any-return, attr-defined]  # FanOut's own method.
        return [("" if subject is None else subject.name, subject)]

    def close(self) -> None:
        """Close the processor, and the sinks, queues and stores that it holds as attributes or in its policy."""
        processor, self._processor = self._processor, None
        if processor is not None:
            close([processor])


def subject_of(source: Any) -> RecordProcessor | type[RecordProcessor] | None:
    """What can be told of a processor that is not made yet: a class or an instance; None of a factory."""
    if isinstance(source, RecordProcessor):
        return source
    return source if isinstance(source, type) and issubclass(source, RecordProcessor) else None


def _metering(*, is_new: bool) -> Metering | Literal[False]:
    if metrics.setting() == ("off", ""):
        # Its modules need not be imported.
        return False
    from .metrics.metering import metering

    return metering(is_new=is_new) or False


def close(processors: Iterable[RecordProcessor]) -> None:
    """Close processors, and what they hold; what several of them hold is closed once."""
    parts: dict[int, Sink | Queue | ProgressStore | Ledger] = {}
    for processor in processors:
        processor.close()
        policy = processor.on_failure
        for part in (*attributes_of(processor), policy.queue, policy.ledger, policy.dead_letters):
            if isinstance(part, Sink | Queue | ProgressStore | Ledger):
                parts[id(part)] = part
    for part in parts.values():
        part.close()


def lambda_handler(source: type[RecordProcessor] | RecordProcessor | Callable[[], RecordProcessor]) -> Handler:
    """The handler to deploy: ``handler = lambda_handler(Orders)``.

    ``source`` is a processor's class, an instance, or a factory without arguments; or a ``FanOut`` of several. It accepts
    Kinesis, SQS, SNS, S3 and CloudWatch Logs events and warm-up pings; StreamkitError for any other event. The mapping needs
    ``ReportBatchItemFailures``.
    """
    return Handler(source)

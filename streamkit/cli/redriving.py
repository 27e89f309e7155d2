"""What ``streamkit redrive`` does: takes letters, sorts them, puts them back, and deletes what was confirmed."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from ..envelope import Envelope
from ..errors import StreamkitError
from ..plural import counted
from ..recovery import GONE, Recovery
from .connection import connected
from .journal import Journal, entry_of
from .letters import Filter, Held, Letters, QueueLetters, Ticker, open_letters, open_recovery
from .spool import READY, Letter, Spool
from .targets import QueueTarget, StreamTarget, Target
from .terminal import printable, say
from .usage import UsageError

__all__ = ["Redrive", "check_places", "open_target", "redrive"]

# Requests that took nothing, one after another, until the target counts as down.
_MOST_FAILURES = 3
_MOST_RESTARTS = 5
_SHOWN = 10
_BETWEEN_LOOKS = 1.0


def redrive(options: argparse.Namespace, *, asks: bool) -> int:
    """Put back what the options say, and return the command's exit code."""
    with ExitStack() as stack:
        recovery = open_recovery(options, stack)
        target = open_target(options, stack)
        letters = open_letters(options, stack, recovery)
        check_places(letters, target)
        journal = Journal(options.state, letters.name, is_read_only=options.dry_run)
        stack.callback(journal.close)
        run = Redrive(options, letters, recovery, target, journal)
        try:
            run.run(_asked if asks else None)
        finally:
            run.report()
        return run.exit_code()


def open_target(options: argparse.Namespace, stack: ExitStack) -> Target:
    """Where the options say that letters go."""
    if options.to_stream:
        kinesis = stack.enter_context(connected(options, options.to_stream))
        kinesis.describe_stream_summary(StreamName=options.to_stream)
        return StreamTarget(kinesis, options.to_stream)
    claims = None
    if options.claims_bucket:
        from ..claims.s3 import S3Claims

        s3 = stack.enter_context(connected(options, options.claims_bucket, "s3", noun="bucket"))
        claims = S3Claims(options.claims_bucket, client=s3)
    if options.to_topic:
        from ..queues.sns import SnsTopic

        sns = stack.enter_context(connected(options, options.to_topic, "sns", noun="topic"))
        sns.get_topic_attributes(TopicArn=options.to_topic)
        return QueueTarget(SnsTopic(options.to_topic, client=sns, claims=claims), options.to_topic)
    from ..queues.sqs import SqsQueue

    name: str = options.to_queue
    sqs = stack.enter_context(connected(options, name, "sqs", noun="queue"))
    url = name if name.startswith(("http://", "https://")) else sqs.get_queue_url(QueueName=name)["QueueUrl"]
    sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return QueueTarget(SqsQueue(url, client=sqs, claims=claims), url)


def check_places(letters: Letters, target: Target) -> None:
    """UsageError where letters would be put back to where they lie."""
    if isinstance(letters, QueueLetters) and letters.url == target.place:
        raise UsageError("SOURCE and --to-queue are the same queue: what is put back would be a dead letter again")


class Redrive:
    """One run. It goes in rounds: take what can be held, sort it, put it back; until there is nothing more to take.

    The order of the steps for a letter is what makes it go once: (1) held, and the hold renewed; (2) recorded as sending;
    (3) confirmed by the target; (4) recorded as sent; (5) deleted.

    ``chosen`` are those letters that alone are wanted, as ``Filter`` has them. ``tell`` is given what to say while it runs,
    ``observe`` what has become of a letter: its event id, or where it lies if it has none, and "put back" or why it was not.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        letters: Letters,
        recovery: Recovery,
        target: Target,
        journal: Journal,
        *,
        chosen: Iterable[tuple[str, str]] = (),
        tell: Callable[[str], object] = say,
        observe: Callable[[str, str], object] = lambda letter, outcome: None,
    ) -> None:
        self._options = options
        self._letters = letters
        self._recovery = recovery
        self._target = target
        self._journal = journal
        self._tell = tell
        self._observe = observe
        self._wanted = Filter(options, chosen)
        self._ticker = Ticker()
        self._began = time.time()
        self._signal = 0
        self._is_asking = False
        self._restarts = 0
        self._looked_at = 0
        # What stays, as it was told: a round that has to begin anew finds it again.
        self._told: set[tuple[str, str]] = set()
        self._failures = 0
        self._sent_at = 0.0
        self.counts: Counter[str] = Counter()
        #: What stays, and why: place or event id → reason. The first few of each kind.
        self.left: dict[str, list[str]] = {}
        self._causes: Counter[str] = Counter()
        self._processors: set[str] = set()

    def run(self, ask: Callable[[str], bool] | None) -> None:
        """Put everything back that is wanted. ``ask`` is called with a question before anything is, once; None: nobody is."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.go_on(ask)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def go_on(self, ask: Callable[[str], bool] | None) -> None:
        """As ``run``, in any thread: signals are the caller's business, who may call ``stop``."""
        if not self._options.dry_run:
            self._wait_for_others()
        while not self._signal and self._round(ask):
            ask = None
        self.counts["hidden"] = self._letters.hidden()

    def stop(self) -> None:
        """End after the request in hand. Another thread may call it."""
        self._signal = self._signal or signal.SIGTERM

    def _round(self, ask: Callable[[str], bool] | None) -> bool:
        """Whether another one is needed."""
        spool = Spool()
        try:
            taken = self._take(spool)
            spool.arrange()
            self._count(spool)
            if self._options.dry_run:
                return self._letters.can_delete and taken >= self._options.at_once
            if ask is not None and spool.count(READY) and not self._signal and not self._agreed(ask, spool):
                self.counts["declined"] = 1
                return False
            self._delete(spool, spool.settled())
            if not self._put_back(spool):
                # Others may have what was held, and it may be the earlier of a key: all of it is taken anew.
                self._restarts += 1
                if self._restarts > _MOST_RESTARTS:
                    raise StreamkitError("letters are lost while they are held: is somebody else reading this queue?")
                self.counts["to put back"] -= spool.count(READY)
                self._letters.give_back()
                return True
            if not self._letters.can_delete or not taken:
                return False
            return taken >= self._options.at_once or (isinstance(self._letters, QueueLetters) and self._letters.fifo)
        finally:
            spool.close()

    def _agreed(self, ask: Callable[[str], bool], spool: Spool) -> bool:
        self._is_asking = True
        try:
            return ask(self._question(spool))
        finally:
            self._is_asking = False

    def _wait_for_others(self) -> None:
        """What somebody else holds may stand before what can be had: a run that was killed holds letters for a while."""
        if not isinstance(self._letters, QueueLetters):
            return
        give_up_at = time.monotonic() + self._options.wait
        said = False
        while (others := self._letters.held_elsewhere()) and not self._signal:
            if time.monotonic() >= give_up_at:
                raise StreamkitError(
                    f"{counted(others, 'letter')} of {self._options.source} are in somebody else's hands, and may be earlier "
                    "than the others: try again when they are back (a run that was killed lets go after its --hold)"
                )
            if not said:
                self._tell(
                    f"waiting for {counted(others, 'letter')} that somebody else holds, perhaps a run that was killed"
                )
                said = True
            time.sleep(min(_BETWEEN_LOOKS, max(0.0, give_up_at - time.monotonic())))

    def _take(self, spool: Spool) -> int:
        """How many messages were taken into the spool."""
        taken = 0
        most = self._options.at_once if self._letters.can_delete else None
        for held in self._letters.take(most):
            taken += 1
            self._sort_in(held, spool)
            self._looked_at += 1
            self._ticker.show(lambda: f"{counted(self._looked_at, 'letter')} looked at")
            if self._signal:
                break
        self._ticker.clear()
        return taken

    def _sort_in(self, held: Held, spool: Spool) -> None:
        sent_at = held.message.sent_at
        try:
            if held.problem:
                raise StreamkitError(held.problem)
            recovered = self._recovery.letters(held.message)
        except StreamkitError as error:
            spool.leave(held.message.id)
            self._leave("can't be read", held.place, str(error))
            return
        for envelope in recovered.envelopes:
            if not self._wanted.wants(envelope):
                spool.leave(held.message.id, envelope, sent_at)
                self.counts["not asked for"] += 1
                continue
            if envelope.data is None:
                spool.leave(held.message.id)
                is_gone = bool(envelope.failures) and envelope.failures[-1].type == GONE
                kind = "are gone for good" if is_gone else "have no data that could be decoded"
                self._leave(kind, envelope.event_id, envelope.failures[-1].message if envelope.failures else "")
                continue
            entry = entry_of(envelope)
            was_sent = self._journal.sent(entry)
            if not was_sent and self._journal.was_sent_since(entry, self._began):
                spool.leave(held.message.id, envelope, sent_at)
                self._leave("have failed again since they were put back", envelope.event_id)
                continue
            if was_sent:
                self.counts["put back before"] += 1
                self._observe(envelope.event_id, "put back before")
            elif self._journal.perhaps_sent(entry):
                self._leave("were perhaps put back before, and go again", envelope.event_id, stays=False)
            spool.add(held.message.id, envelope, entry, sent_at, was_sent=was_sent)
            if not was_sent:
                self._processors.add(envelope.processor)
                self._causes[_cause(envelope)] += 1
        if not recovered.envelopes:
            # Of no consequence, as a test event of S3's; nothing of it has to be put back.
            spool.leave(held.message.id)
            self.counts["empty"] += 1

    def _count(self, spool: Spool) -> None:
        self.counts["to put back"] += spool.count(READY)
        self.counts["keys"] += spool.count_keys()
        self.counts["copies"] += spool.count("copy")
        self.counts["before their turn"] += spool.count_before_their_turn()
        if len(self._processors) > 1 and not self._target.is_shared:
            names = ", ".join(sorted(name or "(none)" for name in self._processors))
            raise UsageError(
                f"these are letters of several processors ({names}), and a retry queue is one processor's: choose those of "
                "one (--processor)"
            )

    def _question(self, spool: Spool) -> str:
        causes = "".join(f"\n  {count:>7,}  {printable(cause)}" for cause, count in self._causes.most_common(_SHOWN))
        return (
            f"{counted(spool.count(READY), 'letter')} of {counted(spool.count_keys(), 'key')}:{causes}\n"
            f"{self._notes()}put them back to {_name_of_target(self._options)}? [y/N] "
        )

    def _notes(self) -> str:
        """What to know before it is done, a line each."""
        notes = ""
        if early := self.counts["before their turn"]:
            notes += f"of them, {counted(early, 'letter')} before an earlier one of the same key, which stays\n"
        if self._options.to_stream:
            notes += "they get new event ids, and every reader of the stream sees them\n"
        return notes

    def _put_back(self, spool: Spool) -> bool:
        """False where something that was held was lost, and with it the order of its key."""
        most = self._target.most
        if self._options.rate is not None:
            most = max(1, min(most, int(self._options.rate)))
        looked_at = 0.0
        while (batch := spool.next(most)) and not self._signal:
            self._pace(len(batch))
            if time.time() - looked_at >= self._options.hold / 4:
                looked_at = time.time()
                if not self._letters.renew():
                    return False
            self._send(batch, spool)
            self._ticker.show(self._progress)
        self._ticker.clear()
        return True

    def _progress(self) -> str:
        left = f", {self.counts['left']:,} left" if self.counts["left"] else ""
        return f"{self.counts['put back']:,} of {counted(self.counts['to put back'], 'letter')} put back{left}"

    def _send(self, batch: list[Letter], spool: Spool) -> None:
        entries = [letter.entry for letter in batch]
        self._journal.begin(entries, time.time())
        refusals = self._target.send([letter.envelope for letter in batch], self._options.patience)
        sent = [letter for n, letter in enumerate(batch) if n not in refusals]
        self._journal.confirm([letter.entry for letter in sent], time.time())
        self.counts["put back"] += len(sent)
        for letter in sent:
            self._observe(letter.envelope.event_id, "put back")
        self._restarts = 0
        spool.done([letter.number for letter in sent])
        self._delete(spool, spool.settled(self._messages(sent, spool)))
        for n, why in refusals.items():
            self._leave("were refused", batch[n].envelope.event_id, why)
            behind = spool.refused(batch[n])
            if behind:
                self._leave("wait behind one of their key that was refused", batch[n].envelope.event_id, count=behind)
        self._failures = 0 if sent else self._failures + 1
        if self._failures >= _MOST_FAILURES:
            raise StreamkitError(f"gave up, since nothing is taken any more: {next(iter(refusals.values()))}")

    def _messages(self, letters: list[Letter], spool: Spool) -> list[str]:
        return [message for one in letters for message in (one.message, *spool.copies_of(one.number))]

    def _delete(self, spool: Spool, messages: list[str]) -> None:
        if not self._letters.can_delete:
            return
        failed = self._letters.delete(messages)
        self.counts["not deleted"] += len(failed)

    def _pace(self, count: int) -> None:
        """Wait until so many letters more are within the rate."""
        if self._options.rate is None:
            return
        now = time.monotonic()
        while now < self._sent_at and not self._signal:
            time.sleep(min(0.2, self._sent_at - now))
            now = time.monotonic()
        self._sent_at = max(now, self._sent_at) + count / self._options.rate

    def _leave(self, kind: str, letter: str, why: str | None = None, *, count: int = 1, stays: bool = True) -> None:
        what = letter if why is None else f"{letter}: {why}"
        if (kind, what) in self._told:
            return
        self._told.add((kind, what))
        self._observe(letter, f"{kind}: {why}" if why else kind)
        self.counts[kind] += count
        if stays:
            self.counts["left"] += count
        shown = self.left.setdefault(kind, [])
        if len(shown) < _SHOWN:
            shown.append(what)

    def _stop(self, number: int, frame: object) -> None:
        """The first signal ends it after the request in hand, the second at once."""
        if self._signal or self._is_asking:
            raise KeyboardInterrupt
        self._signal = number
        say("stopping after the request in hand; again to stop at once")

    def report(self) -> None:
        """What was done, and what stays and why."""
        counts = self.counts
        if self._options.json:
            sys.stdout.write(json.dumps(self.summary()) + "\n")
            sys.stdout.flush()
        for kind, shown in self.left.items():
            more = f" and {counts[kind] - len(shown):,} more" if counts[kind] > len(shown) else ""
            say(f"{counts[kind]:,} {kind}: {printable('; '.join(shown))}{more}")
        if counts["put back before"]:
            say(f"{counts['put back before']:,} were put back before, and {self._fate()}")
        if counts["copies"]:
            say(f"{counted(counts['copies'], 'copy', 'copies')} of events that are put back once")
        if counts["not deleted"]:
            say(
                f"{counts['not deleted']:,} put back, and not deleted: the next run with {self._options.state} deletes them"
            )
        if counts["hidden"]:
            say(
                f"about {counts['hidden']:,} more were not seen: they stand behind others of their FIFO group, and SQS shows "
                "them when those are gone"
            )
        if self._options.dry_run:
            for cause, count in self._causes.most_common(_SHOWN):
                say(f"{count:>7,}  {printable(cause)}")
            letters, keys = counted(counts["to put back"], "letter"), counted(counts["keys"], "key")
            say(f"{self._notes()}would put back {letters} of {keys}")
        elif counts["declined"]:
            say("nothing was put back")
        else:
            where = _name_of_target(self._options)
            say(
                f"put back {counted(counts['put back'], 'letter')} to {where}; {counted(counts['left'], 'letter')} left"
            )

    def _fate(self) -> str:
        if self._options.dry_run:
            return "would not be again"
        return "are deleted only" if self._letters.can_delete else "are passed over"

    def summary(self) -> dict[str, Any]:
        """What was done, as ``--json`` writes it. Another thread may ask for it while this one runs."""
        names = (
            "to put back",
            "put back",
            "put back before",
            "copies",
            "left",
            "not asked for",
            "not deleted",
            "hidden",
        )
        fields: dict[str, Any] = {name.replace(" ", "_"): self.counts[name] for name in names}
        fields["dry_run"] = self._options.dry_run
        left = list(self.left.items())
        fields["reasons"] = {kind: {"count": self.counts[kind], "examples": list(shown)} for kind, shown in left}
        return fields

    def exit_code(self) -> int:
        if self._signal:
            return 128 + self._signal
        is_short = self.counts["hidden"] and not self._options.dry_run
        return 1 if is_short or self.counts["left"] or self.counts["not deleted"] or self.counts["declined"] else 0


def _name_of_target(options: argparse.Namespace) -> str:
    name: str = options.to_queue or options.to_topic or options.to_stream
    return name


def _cause(envelope: Envelope) -> str:
    name = envelope.processor or "–"
    return f"{name}: {envelope.failures[-1].type if envelope.failures else 'no reason given'}"


def _asked(question: str) -> bool:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")

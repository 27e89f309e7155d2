"""Where dead letters are (a queue, objects in S3, a file of JSON lines), and which of them are wanted."""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from ..envelope import Envelope
from ..errors import StreamkitError
from ..letters import Message, Stored, Unreadable, died_at
from ..reason import reason
from ..record import MOST_DIGITS
from ..recovery import Recovery
from .connection import connected, error_code
from .terminal import duration, say
from .usage import UsageError

__all__ = [
    "FileLetters",
    "Filter",
    "Held",
    "Letters",
    "Ticker",
    "names_queue",
    "open_letters",
    "open_recovery",
]

# SQS: ten a request, and an empty answer to a long poll means that nothing can be had now.
_PAGE = 10
_LONG_POLL = 1
_EMPTY_POLLS = 3
_VISIBLE = "ApproximateNumberOfMessages"
_OVER_LIMIT = "OverLimit"


class Held(msgspec.Struct, frozen=True):
    """One message of a source. ``place`` names it in errors; ``problem`` is why it could not even be looked at.

    ``receives`` is how often it was received, where a queue counts that.
    """

    message: Message
    place: str
    receives: int = 0
    problem: str = ""


class Letters(ABC):
    """A source of letters. Only a queue can hold them for one reader, delete them, or take them back."""

    #: What a journal knows this source by.
    name: str
    #: Whether a letter that was put back can be deleted here.
    can_delete = False

    @abstractmethod
    def take(self, most: int | None = None) -> Iterator[Held]:
        """The messages, up to ``most`` (more than that by less than a page)."""

    def renew(self) -> bool:
        """Hold on to what is held, where more than half of that time is over. Whether nothing of it was lost."""
        return True

    def delete(self, ids: Iterable[str]) -> list[str]:
        """The ids of those that may still be there."""
        return list(ids)

    def hidden(self) -> int:
        """About how many can't be seen as long as what is held is there."""
        return 0

    def give_back(self) -> None:
        """What was taken and not deleted can be had by others again, at once."""
        return


class FileLetters(Letters):
    """JSON lines, each an envelope or one of AWS's documents."""

    def __init__(self, path: str) -> None:
        if path != "-" and not Path(path).is_file():
            raise UsageError(f"there is no file {path}")
        self._path = path
        self.name = f"file:{'-' if path == '-' else Path(path).resolve()}"

    def take(self, most: int | None = None) -> Iterator[Held]:
        with open(0 if self._path == "-" else self._path, "rb", closefd=self._path != "-") as file:
            for number, line in enumerate(file, 1):
                if text := line.decode("utf-8", "replace").strip():
                    place = f"{self._path}:{number}"
                    yield Held(Message(id=place, body=text), place)


class S3Letters(Letters):
    """The objects under a prefix: Lambda's documents with their records, or JSON lines."""

    def __init__(self, s3: Any, recovery: Recovery, bucket: str, prefix: str) -> None:
        self._s3, self._recovery = s3, recovery
        self._bucket, self._prefix = bucket, prefix
        self.name = f"s3://{bucket}/{prefix}"

    def take(self, most: int | None = None) -> Iterator[Held]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
            for listed in page.get("Contents", ()):
                place = f"s3://{self._bucket}/{listed['Key']}"
                try:
                    text = self._recovery.text(Stored(self._bucket, listed["Key"]))
                except Unreadable as error:
                    yield Held(Message(id=place, body=""), place, problem=str(error))
                    continue
                lines = [line for line in text.splitlines() if line.strip()]
                is_lines = len(lines) > 1 and all(_is_object(line) for line in lines)
                for number, line in enumerate(lines if is_lines else [text], 1):
                    name = f"{place}:{number}" if is_lines else place
                    yield Held(Message(id=name, body=line), name)


def _is_object(line: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False


class QueueLetters(Letters):
    """An SQS queue. What is taken stays in it, unseen by others for ``hold`` seconds, or until it is given back.

    SQS has no look that leaves no trace: each take counts as a receive of the message.
    """

    can_delete = True

    def __init__(self, sqs: Any, url: str, hold: float | None) -> None:
        self._sqs, self.url = sqs, url
        self.name = url
        facts = self._facts("All")
        self.fifo = url.endswith(".fifo")
        #: How many there are, about; SQS counts no better.
        self.about = int(facts.get(_VISIBLE, 0))
        policy = facts.get("RedrivePolicy")
        #: What looking does to this queue, where it does something.
        self.warning = _warning(json.loads(policy)) if policy else ""
        # Long enough for a look at all of them.
        self._hold = int(max(1.0, min(43_200.0, hold if hold is not None else 60.0 + self.about * 0.05)))
        # What is held, in a file of SQLite's own that has no name and ends with the process: there may be 120,000.
        self._held = sqlite3.connect("", isolation_level=None)
        self._held.execute("CREATE TABLE held (id TEXT PRIMARY KEY, receipt TEXT, until REAL) WITHOUT ROWID")
        self._held.execute("CREATE INDEX by_time ON held (until)")

    def warn(self) -> None:
        """Say what looking does to this queue, where it does something."""
        if self.warning:
            say(self.warning)

    def held_elsewhere(self) -> int:
        """How many messages somebody else has in hand, about."""
        mine: int = self._held.execute("SELECT count(*) FROM held WHERE until > ?", (time.time(),)).fetchone()[0]
        name = "ApproximateNumberOfMessagesNotVisible"
        return max(0, int(self._facts(name).get(name, 0)) - mine)

    def hidden(self) -> int:
        # Where nothing is held, the number is one that SQS has not brought up to date.
        (held,) = self._held.execute("SELECT count(*) FROM held").fetchone()
        return int(self._facts(_VISIBLE).get(_VISIBLE, 0)) if self.fifo and held else 0

    def take(self, most: int | None = None) -> Iterator[Held]:
        empty = again = taken = 0
        while empty < _EMPTY_POLLS and (most is None or taken < most):
            # One whose hold ends comes round again, and could go to somebody else instead.
            self.renew()
            asked = time.time()
            try:
                answer = self._sqs.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=_PAGE,
                    VisibilityTimeout=self._hold,
                    WaitTimeSeconds=_LONG_POLL,
                    AttributeNames=["All"],
                    MessageAttributeNames=["All"],
                )
            except Exception as error:
                if not error_code(error).endswith(_OVER_LIMIT):
                    raise
                say(
                    f"streamkit: SQS lets nobody hold more messages at once; {taken:,} are looked at, and the rest is not"
                )
                return
            messages = answer.get("Messages", [])
            fresh = [one for one in messages if self._hold_on(one, asked)]
            taken += len(fresh)
            if not messages:
                empty += 1
                if not int(self._facts(_VISIBLE).get(_VISIBLE, 0)):
                    return
            again = 0 if fresh else again + 1
            if again > _EMPTY_POLLS + taken:
                raise StreamkitError(
                    f"the same letters come round again and again: --hold more than {self._hold} seconds"
                )
            for one in fresh:
                yield _held(one)

    def renew(self) -> bool:
        while rows := self._late():
            # Wall time, which goes on while a laptop sleeps.
            now = time.time()
            if self._change(rows, self._hold):
                return False
            self._held.executemany(
                "UPDATE held SET until = ? WHERE id = ?", [(now + self._hold, one) for one, _ in rows]
            )
        return True

    def _late(self) -> list[tuple[str, str]]:
        before = time.time() + self._hold / 2
        return self._held.execute("SELECT id, receipt FROM held WHERE until < ? LIMIT ?", (before, _PAGE)).fetchall()

    def delete(self, ids: Iterable[str]) -> list[str]:
        left = dict.fromkeys(ids)
        for rows in _pages(self._receipts(list(left))):
            entries = [{"Id": str(n), "ReceiptHandle": receipt} for n, (_, receipt) in enumerate(rows)]
            answer = self._sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)
            deleted = [rows[int(one["Id"])][0] for one in answer.get("Successful", ())]
            self._forget(deleted)
            for name in deleted:
                del left[name]
        return list(left)

    def give_back(self) -> None:
        try:
            while rows := self._held.execute("SELECT id, receipt FROM held LIMIT ?", (_PAGE,)).fetchall():
                self._change(rows, 0)
                self._forget([name for name, _ in rows])
        except Exception as error:  # noqa: BLE001  # SQS gives them back by itself, later.
            say(
                f"streamkit: not all of them could be given back ({reason(error)}): they are seen again in {self._hold} s"
            )

    def _change(self, rows: list[tuple[str, str]], seconds: int) -> list[str]:
        """The ids whose hold could not be changed: it has ended, and perhaps somebody else has them."""
        if not rows:
            return []
        entries = [
            {"Id": str(n), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
            for n, (_, receipt) in enumerate(rows)
        ]
        answer = self._sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
        changed = {int(one["Id"]) for one in answer.get("Successful", ())}
        return [name for n, (name, _) in enumerate(rows) if n not in changed]

    def _forget(self, ids: Iterable[str]) -> None:
        self._held.executemany("DELETE FROM held WHERE id = ?", [(name,) for name in ids])

    def _hold_on(self, raw: Any, asked: float) -> bool:
        """Whether it was not held before. A message that came round again has a new receipt, and only that one counts."""
        (seen,) = self._held.execute("SELECT count(*) FROM held WHERE id = ?", (raw["MessageId"],)).fetchone()
        self._held.execute(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?)", (raw["MessageId"], raw["ReceiptHandle"], asked + self._hold)
        )
        return not seen

    def _receipts(self, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        for name in ids:
            yield from self._held.execute("SELECT id, receipt FROM held WHERE id = ?", (name,)).fetchall()

    def _facts(self, name: str) -> dict[str, str]:
        facts: dict[str, str] = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name]).get(
            "Attributes", {}
        )
        return facts


def _pages(rows: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    page: list[tuple[str, str]] = []
    for row in rows:
        page.append(row)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


def _held(raw: Any) -> Held:
    facts = raw.get("Attributes", {})
    sent = facts.get("SentTimestamp", "")
    attributes = {name: str(value.get("StringValue", "")) for name, value in raw.get("MessageAttributes", {}).items()}
    message = Message(
        id=raw["MessageId"],
        body=raw["Body"],
        attributes=attributes,
        sent_at=int(sent) / 1000 if sent.isdecimal() else None,
        was_moved="DeadLetterQueueSourceArn" in facts,
        # A standard queue can have a group too, for its fairness; it promises no order, and has no sequence number.
        group=facts.get("MessageGroupId") if "SequenceNumber" in facts else None,
    )
    return Held(message, f"message {raw['MessageId']}", int(facts.get("ApproximateReceiveCount", 0)))


def _warning(policy: Any) -> str:
    """SQS has no peek: a look is a receive, and a queue with a redrive policy of its own counts those."""
    most = policy.get("maxReceiveCount")
    target = str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2]
    return (
        f"streamkit: this queue has a redrive policy of its own: a message that was received {most} times goes to {target}, and "
        "each look at it is one receive"
    )


def names_queue(source: str) -> bool:
    """Whether ``source`` is a queue's name or URL: else it is ``s3://…``, a file's path, or ``-`` for stdin."""
    if source.startswith(("http://", "https://")):
        return True
    return source != "-" and "/" not in source and ("." not in source or source.endswith(".fifo"))


def open_letters(options: argparse.Namespace, stack: ExitStack, recovery: Recovery) -> Letters:
    """What SOURCE names. UsageError where it is nothing of the kind."""
    source: str = options.source
    if source.startswith("s3://"):
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        if not bucket:
            raise UsageError(f"{source} names no bucket: s3://BUCKET/PREFIX")
        s3 = stack.enter_context(connected(options, bucket, "s3", noun="letters of"))
        return S3Letters(s3, recovery, bucket, prefix)
    if not names_queue(source):
        return FileLetters(source)
    sqs = stack.enter_context(connected(options, source, "sqs", noun="letters of"))
    url = source if "/" in source else sqs.get_queue_url(QueueName=source)["QueueUrl"]
    letters = QueueLetters(sqs, url, options.hold)
    letters.warn()
    # Whatever happens: what is held here is nobody else's to see.
    stack.callback(letters.give_back)
    return letters


def open_recovery(options: argparse.Namespace, stack: ExitStack) -> Recovery:
    """What fetches the records of documents, and the bodies of claims; its clients are made when they are needed."""
    made: dict[tuple[str, str], Any] = {}

    def client(service: str, region: str) -> Any:
        if (service, region) not in made:
            opened = connected(options, options.source, service, region=options.region or region, noun="letters of")
            made[service, region] = stack.enter_context(opened)
        return made[service, region]

    filters = None
    if options.filter:
        from ..local.filters import Filters
        from .usage import typed

        with typed():
            filters = Filters(options.filter)
    return Recovery(client, processor=options.processor_name or "", filters=filters)


_NUMBER = rf"\d{{1,{MOST_DIGITS}}}"
_RANGE = re.compile(rf"(?P<shard>.+:)(?P<first>{_NUMBER})-(?P<last>{_NUMBER})", re.ASCII)


class Filter:
    """What ``letter_options.add_filters`` has added to the options.

    ``chosen`` are processors with event ids, and of these letters alone those are wanted: where two processors have failed on one
    record, its id is both's.
    """

    def __init__(self, options: argparse.Namespace, chosen: Iterable[tuple[str, str]] = ()) -> None:
        self._error: str | None = options.error.lower() if options.error else None
        self._key: str | None = options.key
        self._processor: str | None = options.processor
        self._since: float | None = options.since.timestamp() if options.since else None
        self._until: float | None = options.until.timestamp() if options.until else None
        # Without a processor it is anybody's.
        self._named: frozenset[tuple[str | None, str]] = frozenset(
            [*((None, one) for one in options.id or ()), *chosen]
        )
        # A failure document whose records are not fetched yet has their range for an id.
        self._ranges = [(whose, found) for whose, one in self._named if (found := _RANGE.fullmatch(one))]
        self._correlation: str | None = options.correlation

    def _is_named(self, envelope: Envelope) -> bool:
        whose = None, envelope.processor
        return any((one, envelope.event_id) in self._named for one in whose) or self._is_of_a_document(envelope)

    def _is_of_a_document(self, envelope: Envelope) -> bool:
        number = envelope.sequence_number or ""
        # An envelope can hold any text there, and a longer one is no number that ``int`` reads.
        if not number.isdecimal() or len(number) > MOST_DIGITS:
            return False
        return any(
            whose in (None, envelope.processor)
            and envelope.event_id.startswith(found["shard"])
            and int(found["first"]) <= int(number) <= int(found["last"])
            for whose, found in self._ranges
        )

    def wants(self, envelope: Envelope) -> bool:
        """Whether the letter is one of those that were asked for. One that does not tell a time is never within one."""
        if self._named and not self._is_named(envelope):
            return False
        if self._key is not None and envelope.partition_key != self._key:
            return False
        if self._processor is not None and envelope.processor != self._processor:
            return False
        if self._error is not None and not self._has_error(envelope):
            return False
        # One that brought no id is followed by its event id.
        if self._correlation is not None and self._correlation not in (
            envelope.event_id,
            *envelope.correlation.values(),
        ):
            return False
        if self._since is None and self._until is None:
            return True
        at = died_at(envelope)
        if at is None:
            return False
        return (self._since is None or at >= self._since) and (self._until is None or at < self._until)

    def _has_error(self, envelope: Envelope) -> bool:
        if not envelope.failures:
            return False
        last = envelope.failures[-1]
        return last.type.lower() == self._error or (self._error or "") in last.message.lower()


class Ticker:
    """One line on stderr that counts on, where that is a terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = self._began + 0.5

    def show(self, text: Callable[[], str]) -> None:
        """Show ``text()``, if it is time to."""
        now = time.monotonic()
        if self._is_shown and now >= self._next:
            self._next = now + 0.25
            sys.stderr.write(f"\r\x1b[K{text()} ({duration(int(now - self._began))})")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

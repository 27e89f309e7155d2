"""What ``streamkit dead-letters`` shows: a line for each letter, one whole, counts by cause, or an export."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import msgspec
import pybase64

from ..envelope import Envelope
from ..errors import StreamkitError
from ..letters import Discarded, Given, Stored, died_at, function_name, iso, read
from ..plural import counted
from ..recovery import Recovery
from .letters import Filter, Held, Ticker, open_letters, open_recovery
from .terminal import flush, printable, say, write
from .usage import UsageError

__all__ = ["Row", "rows_of", "show"]

# Numbers, ids and digests that make each message another, though the cause is one; but for where in a file it was raised.
_VARIABLE = re.compile(
    r"(\.py:\d+|s3://)|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-fA-F]+|\b[0-9a-fA-F]{16,}\b|\d+(?:\.\d+)?"
)
_NOT_READ = "unreadable"


def show(options: argparse.Namespace) -> int:
    """Look at all that SOURCE has, and return the command's exit code."""
    with ExitStack() as stack:
        recovery = open_recovery(options, stack)
        letters = open_letters(options, stack, recovery)
        rows = rows_of(letters.take(), recovery, Filter(options), fetch=options.fetch)
        counts = _shown(_limited(rows, options.limit), options, stack)
        return _summary(counts, options, 0 if options.limit else letters.hidden())


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list."""

    kind: str
    place: str
    event_id: str | None
    processor: str = ""
    partition_key: str | None = None
    failed_at: str | None = None
    error_type: str = ""
    error: str = ""
    attempts: int | None = None
    redrives: int | None = None
    source: str | None = None
    sequence_number: str | None = None
    shard_id: str | None = None
    stream_arn: str | None = None
    bytes: int | None = None
    receives: int | None = None
    correlation: dict[str, str] = {}
    envelope: Envelope | None = None


def rows_of(taken: Iterator[Held], recovery: Recovery, wanted: Filter, *, fetch: bool) -> Iterator[Row]:
    """A row for each letter or document that is ``wanted``, and for each message that can't be read."""
    for held in taken:
        try:
            if held.problem:
                raise StreamkitError(held.problem)
            for given in read(held.message, processor=recovery.processor, fetch=recovery.fetch):
                yield from _rows_of(given, held, recovery, wanted, fetch=fetch)
        except StreamkitError as error:
            yield Row(
                kind=_NOT_READ,
                place=held.place,
                event_id=None,
                error_type=type(error).__name__,
                error=str(error),
                receives=held.receives,
                bytes=len(held.message.body),
            )


def _rows_of(given: Given, held: Held, recovery: Recovery, wanted: Filter, *, fetch: bool) -> Iterator[Row]:
    if isinstance(given, Envelope):
        if wanted.wants(given):
            yield _letter(given, held)
    elif fetch or isinstance(given, Stored):
        yield from (_letter(one, held) for one in recovery.of(given).envelopes if wanted.wants(one))
    elif given.records is not None:
        yield from (_letter(one, held) for one in recovery.discarded(given).envelopes if wanted.wants(one))
    elif wanted.wants(as_letter := _as_letter(given, recovery)):
        yield _document(given, as_letter, held)


def _letter(envelope: Envelope, held: Held) -> Row:
    last = envelope.failures[-1] if envelope.failures else None
    at = died_at(envelope)
    return Row(
        kind="letter",
        place=held.place,
        event_id=envelope.event_id,
        processor=envelope.processor,
        partition_key=envelope.partition_key,
        failed_at=None if at is None else iso(at),
        error_type="" if last is None else last.type,
        error="" if last is None else last.message,
        attempts=envelope.attempts,
        redrives=envelope.redrives,
        source=envelope.source,
        sequence_number=envelope.sequence_number,
        shard_id=envelope.shard_id,
        stream_arn=envelope.stream_arn,
        bytes=None if envelope.data is None else len(envelope.data),
        receives=held.receives,
        correlation=envelope.correlation,
        envelope=envelope,
    )


def _as_letter(document: Discarded, recovery: Recovery) -> Envelope:
    """A document as filters see it."""
    return Envelope(
        event_id=f"{document.stream}/{document.shard_id}:{document.first}-{document.last}",
        source="kinesis",
        processor=recovery.processor or function_name(document.function_arn),
        data=None,
        sequence_number=document.first,
        shard_id=document.shard_id,
        stream_arn=document.stream_arn,
        failures=(document.failure(),),
    )


def _document(document: Discarded, as_letter: Envelope, held: Held) -> Row:
    row = _letter(as_letter, held)
    records = counted(document.batch_size, "record")
    error = f"{row.error}; {records}, which are still to be fetched from the stream: --fetch"
    return msgspec.structs.replace(row, kind="document", error=error, attempts=None, redrives=None, envelope=None)


def _limited(rows: Iterator[Row], limit: int | None) -> Iterator[Row]:
    for n, row in enumerate(rows, 1):
        yield row
        if n == limit:
            return


def _shown(rows: Iterator[Row], options: argparse.Namespace, stack: ExitStack) -> dict[str, int]:
    """Write the rows out, and count them by kind."""
    causes: dict[tuple[str, str, str], _Cause] = {}
    out = None if options.export is None else _exported(options.export, stack)
    # One letter by its id is shown whole.
    is_whole = bool(options.id) and not options.json and options.export is None and not options.count
    counts = dict.fromkeys(("letter", "document", _NOT_READ), 0)
    ticker = Ticker()
    for row in rows:
        counts[row.kind] += 1
        if options.count:
            cause = causes.setdefault(_cause_of(row), _Cause())
            cause.add(row)
            ticker.show(lambda: counted(sum(counts.values()), "letter") + " looked at")
            continue
        ticker.clear()
        if options.export is not None:
            _export(row, out)
        elif options.json:
            write(_json_line(row, payload=options.payload), out)
        elif is_whole:
            write(_whole(row, payload=options.payload), out)
        else:
            write(_line(row, payload=options.payload), out)
        flush(out)
    ticker.clear()
    if options.count:
        _write_counts(causes, as_json=options.json)
    return counts


def _summary(counts: dict[str, int], options: argparse.Namespace, hidden: int) -> int:
    """What was found, and the exit code."""
    parts = [counted(counts["letter"], "letter")]
    if counts["document"]:
        parts.append(f"{counted(counts['document'], 'failure document')} without data (--fetch gets it)")
    if counts[_NOT_READ]:
        parts.append(f"{counts[_NOT_READ]:,} that can't be read")
    where = f" written to {options.export}" if options.export not in (None, "-") else ""
    say(f"{', '.join(parts)}{where}")
    if hidden:
        say(
            f"streamkit: about {hidden:,} more were not seen: SQS shows the first of a FIFO group only, until those are gone"
        )
    return 1 if counts[_NOT_READ] or hidden else 0


def _exported(name: str, stack: ExitStack) -> TextIO | None:
    """Where the export goes; None for stdout."""
    if name == "-":
        return None
    path = Path(name)
    if path.exists():
        raise UsageError(f"{name} is there already: it may be the only copy of something; choose another name")
    # It holds payloads, so it is for its owner's eyes.
    path.touch(mode=0o600)
    return stack.enter_context(path.open("w", encoding="ascii"))


def _export(row: Row, out: TextIO | None) -> None:
    if row.envelope is not None:
        write(row.envelope.encode() + "\n", out)
    else:
        say(f"{row.place} is not in the export: {printable(row.error)}")


def _line(row: Row, *, payload: bool) -> str:
    if row.kind == _NOT_READ:
        return f"? {printable(row.place)} {printable(row.error)}\n"
    times = f" (put back {row.redrives}×)" if row.redrives else ""
    parts = [
        row.failed_at or "–",
        printable(row.processor or "–"),
        printable(row.partition_key or "–"),
        printable(row.error or "no reason given") + times,
        printable(row.event_id or "–"),
    ]
    text = " ".join(parts)
    if payload and row.envelope is not None:
        text += f" {_payload_text(row.envelope)}"
    return f"{text}\n"


def _payload_text(envelope: Envelope) -> str:
    """As text where it is UTF-8, on one line; JSON is as it was written."""
    data = envelope.data
    if data is None:
        return f"undecoded:{printable(envelope.undecoded or '')}"
    try:
        return printable(data.decode())
    except UnicodeDecodeError:
        return f"base64:{pybase64.b64encode(data).decode()}"


def _whole(row: Row, *, payload: bool) -> str:
    """Every field of a letter on a line of its own."""
    if row.envelope is None:
        return _line(row, payload=False)
    envelope = row.envelope
    lines = [
        ("event id", envelope.event_id),
        ("processor", envelope.processor),
        ("partition key", envelope.partition_key or "–"),
        ("stream", envelope.stream_arn or "–"),
        (
            "position",
            f"{envelope.shard_id or '–'} {envelope.sequence_number or '–'}/{envelope.sub_sequence_number or 0}",
        ),
        ("arrived", _arrival(envelope)),
        ("attempts", f"{envelope.attempts} on the retry path; put back {envelope.redrives}×"),
        ("held as", row.place + (f", received {row.receives}×" if row.receives else "")),
    ]
    lines += [(f"correlation {name}", value) for name, value in envelope.correlation.items()]
    lines += [("failed", f"{one.time} (attempt {one.attempt or '–'}) {one.message}") for one in envelope.failures]
    text = "".join(f"{name + ':':<16}{printable(value)}\n" for name, value in lines)
    size = "none" if envelope.data is None else f"{len(envelope.data):,} bytes"
    if not payload:
        return f"{text}{'payload:':<16}{size}; --payload shows it\n\n"
    return f"{text}{'payload:':<16}{size}\n{_pretty(envelope)}\n\n"


def _arrival(envelope: Envelope) -> str:
    try:
        return iso(envelope.approximate_arrival_timestamp) or "–"
    except (ValueError, OverflowError, OSError):
        return "–"  # An envelope can hold any number there.


def _pretty(envelope: Envelope) -> str:
    """JSON with a line for each field, or the text as it is, with nothing in it that moves a cursor."""
    if envelope.data is not None:
        try:
            text = msgspec.json.format(envelope.data, indent=2).decode()
            return "\n".join(printable(line) for line in text.split("\n"))
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass
    return _payload_text(envelope)


def _json_line(row: Row, *, payload: bool) -> str:
    fields: dict[str, Any] = {name: getattr(row, name) for name in row.__struct_fields__ if name != "envelope"}
    if payload and row.envelope is not None:
        data = row.envelope.data
        if data is None:
            fields["undecoded"] = row.envelope.undecoded
        else:
            try:
                fields["data"] = data.decode()
            except UnicodeDecodeError:
                fields["data_base64"] = pybase64.b64encode(data).decode()
    # Escaped as a whole: JSON escapes no control characters above ASCII, which a terminal obeys too.
    return json.dumps(fields) + "\n"


class _Cause:
    """Letters with one cause."""

    def __init__(self) -> None:
        self.count = 0
        self.first: str | None = None
        self.last: str | None = None
        self.example: Row | None = None

    def add(self, row: Row) -> None:
        self.count += 1
        self.example = self.example or row
        if row.failed_at is not None:
            self.first = min(self.first or row.failed_at, row.failed_at)
            self.last = max(self.last or row.failed_at, row.failed_at)


def _cause_of(row: Row) -> tuple[str, str, str]:
    """The processor, the error's type, and its message without what makes each another."""
    kind = {"letter": row.error_type, "document": f"{row.error_type} (document)"}.get(row.kind, "can't be read")
    return row.processor, kind, _VARIABLE.sub(lambda found: found[1] or "#", row.error)


def _write_counts(causes: dict[tuple[str, str, str], _Cause], *, as_json: bool) -> None:
    for (processor, kind, error), cause in sorted(causes.items(), key=lambda item: -item[1].count):
        example = cause.example.event_id or cause.example.place if cause.example else ""
        if as_json:
            fields = {"count": cause.count, "processor": processor, "error_type": kind, "error": error}
            write(json.dumps({**fields, "first": cause.first, "last": cause.last, "example": example}) + "\n")
            continue
        when = f"{cause.first} to {cause.last}" if cause.first else "no time given"
        write(
            f"{cause.count:>7,}  {printable(processor or '–')}  {printable(error or 'no reason given')}\n"
            f"         {when}, for instance {printable(example)}\n"
        )
    flush()

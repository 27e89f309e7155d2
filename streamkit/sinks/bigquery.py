"""Rows into a BigQuery table by streaming inserts (``tabledata.insertAll``).

Needs google-cloud-bigquery: ``pip install kinesis-streamkit[bigquery]``. It is imported on the first write. Limits are
those of BigQuery's "Streaming inserts" quotas: 10 MB and 50,000 rows a request, of which 500 rows are advised.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..errors import ConfigurationError, SinkError
from . import google
from .base import Refusal, RefusalKind, Sink, Write

__all__ = ["BigQuerySink"]

# Less what is around the rows in a request: {"rows": [], "skipInvalidRows": true}.
_REQUEST_BYTES = 10_000_000 - 100
# What is around one row: {"json": , "insertId": ""}, with an id as long as it may be.
_ROW_BYTES = 160
_INSERT_ID_LENGTH = 128

# One request, and all of one call's tries; in seconds. Who waits longer pays for a function that does nothing.
_REQUEST_TIME = 30.0
_RETRY_TIME = 60.0
# The least that a try is given, past the deadline too.
_LEAST_REQUEST_TIME = 0.5

# Reasons, of a row or of a request, that pass. "stopped": the row was not looked at, because of another.
_PASSING = frozenset(
    {"backendError", "badGateway", "internalError", "quotaExceeded", "rateLimitExceeded", "stopped", "timeout"}
)
# The beginnings of BigQuery's messages that hold nothing of the row. Of the others any word may come from it.
_TELLING = re.compile(
    r"no such field|missing required field|(?:can|could ?)not convert value to \w+|this field is not a record|"
    r"array specified for non-repeated field|repeated field must be imported as a json array|row size is too large",
    re.IGNORECASE,
)
_INSTALL = "BigQuerySink needs google-cloud-bigquery and tenacity: pip install 'kinesis-streamkit[bigquery]'"
_LONG_NUMBER = re.compile(r"\d{16}")
_EXACT_IN_A_DOUBLE = 2**53


class BigQuerySink(Sink):
    """Rows into ``table``, named ``dataset.table`` or ``project.dataset.table``.

    ``client`` is a ``google.cloud.bigquery.Client``. By default one is made on the first write: with the application's
    default credentials and their project; or with those of the function's own role, where ``GOOGLE_CREDENTIALS`` describes them
    (``streamkit.sinks.google``); or, where ``BIGQUERY_EMULATOR_HOST`` names an endpoint, with none.

    Each row's ``insertId`` is its write id (a digest of it where that is over BigQuery's 128 characters), by which
    BigQuery drops repeats: as a best effort, for about a minute. A row that BigQuery finds invalid is refused alone.
    Throttles, 5xx and lost connections are tried again until the deadline, for 60 seconds at most. A table that does not
    exist or can't be written to is no fault of the records: they stay in the stream until that is put right.
    """

    request_writes: ClassVar[int] = 500
    request_bytes: ClassVar[int | None] = _REQUEST_BYTES

    def __init__(self, table: str, *, client: Any = None) -> None:
        self._table: str | None = _checked(table)
        self._variable = ""
        self._client = client
        self._own_client = client is None

    @classmethod
    def from_env(cls, name: str, *, client: Any = None) -> BigQuerySink:
        """The table that the environment variable ``name`` names, read on the first write."""
        sink = cls("from.environment", client=client)
        sink._table, sink._variable = None, name
        return sink

    @property
    def table(self) -> str:
        """The table's name; ConfigurationError where the environment variable that should hold it does not."""
        if self._table is None:
            try:
                self._table = _checked(os.environ[self._variable])
            except (KeyError, ConfigurationError) as error:
                wrong = "is not set" if isinstance(error, KeyError) else "holds something else"
                raise ConfigurationError(
                    f"{self.owner or 'a BigQuerySink'} needs the name of a BigQuery table, dataset.table, in the environment "
                    f"variable {self._variable}, which {wrong}"
                ) from None
        return self._table

    def row(self, row: Mapping[str, Any]) -> Write:
        """A write that inserts ``row``, a mapping of column names to values (or a msgspec struct, or a dataclass).

        The row is copied at once. A Decimal, a UUID, a date, a time and a datetime (an aware one with its offset, for
        TIMESTAMP; a naive one without, for DATETIME) go as text, bytes as base64, integers that a double can't hold as
        decimal text: the forms from which BigQuery makes its own types exactly. A JSON column takes JSON as text.

        Raises TypeError for what has no such form, ValueError for NaN and Infinity (give None, or the text "NaN"), for
        text that is not Unicode, and for nesting without end.
        """
        try:
            copy = msgspec.to_builtins(dict(row) if isinstance(row, Mapping) else row, str_keys=True)
            if not isinstance(copy, dict):
                raise TypeError(f"row() takes a mapping of column names to values; got {type(row).__name__}")
            text = _as_sent(copy)
            if _LONG_NUMBER.search(text):
                copy = _exact(copy)
                text = _as_sent(copy)
            if "\\ud" in text:  # Half a surrogate pair, which Python's JSON lets pass, would cost the whole request.
                msgspec.json.encode(copy)
        except RecursionError:
            raise ValueError("the row is nested too deeply") from None
        except UnicodeEncodeError:
            raise ValueError("the row holds a text with half a surrogate pair, which is not Unicode") from None
        return Write(self, copy, len(text) + _ROW_BYTES)

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``. The refusals' errors name a reason and a field, and quote nothing of a row."""
        refusals: list[Refusal] = []
        requests = deque(_requests(writes, refusals))
        if not requests:
            return refusals
        table = self.table
        self._client = self._client or self._make_client()
        retrying = _retrying(until=min(deadline, time.monotonic() + _RETRY_TIME))
        while requests:
            left = requests.popleft()
            try:
                retrying(self._insert, table, left, refusals, deadline)
            except Exception as error:  # noqa: BLE001  # Whatever the client raises, these rows have no answer.
                if _code(error) != 413:
                    # What comes after would meet the same, and the time is up.
                    unanswered = SinkError(self._explain(error))
                    rest = (write for request in (left, *requests) for write in request)
                    return [*refusals, *(Refusal(write, unanswered, "unavailable") for write in rest)]
                if len(left) == 1:
                    refusals.append(
                        Refusal(left[0], SinkError("BigQuery answered that the row is too large"), "invalid")
                    )
                else:
                    half = len(left) // 2
                    requests.extendleft((left[half:], left[:half]))
        return refusals

    def close(self) -> None:
        """Close the client, where the sink made it."""
        if self._own_client and self._client is not None:
            self._client.close()
            self._client = None

    def _insert(self, table: str, left: list[Write], refusals: list[Refusal], deadline: float) -> None:
        """One request: leave in ``left`` the rows that have to go again, and raise if there are any."""
        answers = self._client.insert_rows_json(
            table,
            [write.payload for write in left],
            row_ids=[_insert_id(write) for write in left],
            skip_invalid_rows=True,  # Else one bad row has all the others sent twice.
            retry=None,  # Retried here, where the deadline is known, and for more reasons.
            timeout=max(min(deadline - time.monotonic(), _REQUEST_TIME), _LEAST_REQUEST_TIME),
        )
        problems: dict[int, list[Mapping[str, Any]]] = {}
        for answer in answers:
            problems.setdefault(answer["index"], []).extend(answer["errors"])
        again = []
        for index, errors in sorted(problems.items()):
            kind = _kind(errors)
            if kind is None:
                again.append(left[index])
            else:
                refusals.append(Refusal(left[index], SinkError(_describe(errors)), kind))
        reasons = sorted({str(error.get("reason")) for index in problems for error in problems[index]} & _PASSING)
        left[:] = again
        if left:
            raise _SendAgain(f"BigQuery did not take some rows: {', '.join(reasons)}")

    def _make_client(self) -> Any:
        try:
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud import bigquery
        except ImportError as error:
            raise ImportError(_INSTALL) from error
        project = self.table.rpartition(".")[0].rpartition(".")[0] or None
        try:
            return bigquery.Client(project=project, credentials=google.credentials())
        except (DefaultCredentialsError, OSError) as error:
            raise ConfigurationError(
                f"{self.owner or 'a BigQuerySink'} finds no Google credentials, or no project in them: set them up as "
                "application default credentials, name the table as project.dataset.table, or give it client=..."
            ) from error

    def _explain(self, error: Exception) -> str:
        """Why a request has no answer. BigQuery's own message may quote the request, and is left out."""
        if isinstance(error, SinkError):
            return str(error)
        code, reasons = _code(error), " ".join(sorted(_reasons(error)))
        if code is None:
            return f"no answer from BigQuery: {type(error).__name__}: {error}"[:300]
        answer = f"BigQuery answered {code} {reasons}".rstrip() + f" for table {self.table}"
        if code == 404:
            return f"{answer}: create it, or correct its name"
        if code in (401, 403) and not _may_pass(error):
            return f"{answer}: its writer needs valid credentials with the permission bigquery.tables.updateData"
        return answer


def _retrying(until: float) -> Any:
    try:
        from tenacity import Retrying, retry_if_exception, wait_random_exponential
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    return Retrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_random_exponential(multiplier=0.2, max=10),
        stop=lambda state: time.monotonic() + state.upcoming_sleep >= until,
        reraise=True,
    )


class _SendAgain(SinkError):
    """BigQuery took the request, but for some rows that it may take later."""


def _checked(table: str) -> str:
    if not re.fullmatch(r"(?:[^\s`]+\.)?\w+\.[^\s.`][^.`]*", table):
        raise ConfigurationError(f"a BigQuery table is named dataset.table or project.dataset.table; got {table!r}")
    return table


def _as_sent(row: Mapping[str, Any]) -> str:
    """The row as the client writes it into its request, so that its size is known."""
    try:
        return json.dumps(row, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"the row is not JSON: {error}") from None


def _exact(value: Any) -> Any:
    """The value with integers beyond 53 bits as text: BigQuery reads numbers in JSON as doubles."""
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    if isinstance(value, int) and abs(value) > _EXACT_IN_A_DOUBLE:
        return str(value)
    return value


def _requests(writes: Iterable[Write], refusals: list[Refusal]) -> list[list[Write]]:
    """Full requests, in order; a row that no request can hold is refused."""
    requests: list[list[Write]] = []
    room = 0
    for write in writes:
        if write.size > _REQUEST_BYTES:
            error = SinkError(f"the row has {write.size:,} bytes; BigQuery takes 10,000,000 in a request")
            refusals.append(Refusal(write, error, "invalid"))
            continue
        if not requests or write.size > room or len(requests[-1]) == BigQuerySink.request_writes:
            requests.append([])
            room = _REQUEST_BYTES
        requests[-1].append(write)
        room -= write.size
    return requests


def _insert_id(write: Write) -> str:
    write_id = write.write_id
    if len(write_id) <= _INSERT_ID_LENGTH and write_id.isascii():
        return write_id
    return hashlib.sha256(write_id.encode()).hexdigest()


def _kind(errors: Iterable[Mapping[str, Any]]) -> RefusalKind | None:
    """How a row is refused, or None where it has to be sent again."""
    reasons = {error.get("reason") for error in errors}
    if "invalid" in reasons:
        return "invalid"
    return None if reasons <= _PASSING else "failed"


def _describe(errors: Sequence[Mapping[str, Any]]) -> str:
    """``BigQuery refused the row: invalid total (cannot convert value to integer)``."""
    parts = []
    for error in errors[:3]:
        part = f"{error.get('reason')} {str(error.get('location') or '')[:100]}".rstrip()
        telling = _TELLING.match(str(error.get("message") or ""))
        parts.append(f"{part} ({telling.group().lower()})" if telling else part)
    return f"BigQuery refused the row: {', '.join(parts)}"


def _code(error: BaseException) -> int | None:
    """The HTTP status, where that is what the client raised the error for."""
    code = getattr(error, "code", None)
    return int(code) if isinstance(code, int) else None


def _reasons(error: BaseException) -> set[str]:
    problems = getattr(error, "errors", None) or ()
    return {str(problem.get("reason")) for problem in problems if isinstance(problem, dict)}


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may be answered later. What google-auth and requests raise for a lost connection may."""
    code = _code(error)
    if code is not None:
        return code in (408, 429) or code >= 500 or bool(_reasons(error) & _PASSING)
    return isinstance(error, _SendAgain | OSError) or type(error).__name__ == "TransportError"

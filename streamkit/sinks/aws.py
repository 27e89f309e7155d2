"""What the sinks to AWS's services have in common: a place, a client, and what an error of AWS's means for a write.

| AWS answers | the write is |
|---|---|
| a throttle, 5xx, nothing; no permission, no such target, no key, a wrong region | ``unavailable``: the record is not at fault |
| that what it was given is wrong, by a code that says so of the content | ``invalid``, that write alone |
| that the sender is at fault, by a code that is not known | ``failed``: the policy says how often it is tried again |

What can pass is tried again until the deadline, for a minute at most. Whether a lost answer was a yes nobody knows: it is asked
again, so a repeat is possible and a loss is not.

Needs boto3, which Lambda's runtime carries, and tenacity: ``pip install kinesis-streamkit[aws]``. Neither is imported before the
first delivery.
"""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Self

import msgspec

from ..aws import Clients, code_of, from_environment, may_pass, repeat_until
from ..correlation import each, use
from ..errors import ConfigurationError, Reject, SinkError
from .base import OnwardSink, Refusal, RefusalKind, Write
from .halves import in_halves

__all__ = ["AwsSink", "BatchSink", "CallSink", "Trouble", "data_of", "json_of", "text_of"]

# Seconds of tries for one write. Who waits longer pays for a function that does nothing, and the stream waits for free.
_RETRY_TIME = 60.0
_LONGEST_MESSAGE = 200
# Of the service's message: what it quotes can be a part of the payload.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_encode = msgspec.json.encode


class Trouble(msgspec.Struct, frozen=True):
    """Why a write was not taken, and whether it may be a moment later."""

    error: Exception
    kind: RefusalKind
    passes: bool = False


class AwsSink(OnwardSink):
    """The base of the sinks that say what one request is."""

    _service: ClassVar[str]
    #: What ``place`` is, for the error where it is missing.
    _wanted: ClassVar[str]
    #: The codes by which the service says that what it was given is wrong.
    _content_codes: ClassVar[frozenset[str]]
    #: How the service's messages call the target: what is wrong with that is not wrong with the content.
    _target: ClassVar[str]

    def __init__(self, place: str, *, client: Any = None) -> None:
        self._place: str | None = place
        self._variable = ""
        self._clients = Clients(self._service, type(self).__name__, client)

    @classmethod
    def from_env(cls, name: str, **options: Any) -> Self:
        """The target that the environment variable ``name`` holds, read on first use; ``options`` are those of the class."""
        sink = cls("", **options)
        sink._place, sink._variable = None, name
        return sink

    @property
    def place(self) -> str:
        """The target; ConfigurationError where the environment variable that should hold it is not set."""
        if self._place is None:
            self._place = from_environment(self._variable, self.owner or type(self).__name__, self._wanted)
        if not self._place:
            raise ConfigurationError(f"{self.owner or type(self).__name__} needs {self._wanted}")
        return self._place

    def carry_on(self) -> Self:
        """Let the clients that are made here send on what an event is followed by (docs/correlation.md). One that was given is
        its owner's to instrument.
        """
        from ..correlation import instrument

        self._clients.prepare = instrument
        return self

    def close(self) -> None:
        """Close the clients that were made here, and not one that was given."""
        self._clients.close()

    def _client(self, deadline: float) -> Any:
        """A client in the region that the target's ARN names."""
        parts = self.place.split(":")
        return self._clients.until(deadline, parts[3] or None if parts[0] == "arn" and len(parts) > 3 else None)

    def _trouble(self, error: Exception) -> Trouble:
        """What an exception of the client's means."""
        code = (code_of(error) or type(error).__name__).rpartition(".")[2]
        if code in self._content_codes and self._target not in str(error).lower():
            return Trouble(SinkError(f"{self._service}: {code}: {_without_values(str(error))}"), "invalid")
        return Trouble(error, "unavailable", may_pass(error) and code not in _SET_UP)

    def _trouble_of_entry(self, code: str, message: str, *, is_sender: bool | None) -> Trouble:
        """What the answer for one entry of a request means. ``is_sender``: whether it says that the fault is the sender's;
        None where the service does not tell.
        """
        error = SinkError(f"{self._service}: {code}: {_without_values(message)}")
        if code in self._content_codes:
            return Trouble(error, "invalid")
        if any(word in code for word in _NOT_THE_RECORD):
            return Trouble(error, "unavailable")
        if is_sender:
            return Trouble(error, "failed")
        return Trouble(error, "unavailable", passes=True)


# Exceptions of the client that come again until somebody sets something up.
_SET_UP = frozenset(
    {"ConfigurationError", "NoCredentialsError", "PartialCredentialsError", "NoRegionError", "ProfileNotFound"}
)
# In the codes of what is missing in the deployment, whatever is sent.
_NOT_THE_RECORD = (
    "Access",
    "Authoriz",
    "Authoris",
    "Denied",
    "KMS",
    "Kms",
    "NotFound",
    "NonExistent",
    "InvalidAccount",
)


class BatchSink(AwsSink):
    """Takes many writes in a request, of which some can fail. The order of a lane is kept: a request has one write of it at
    most, for of two the first could be refused and the second taken, and nothing of it follows one that was not taken.
    """

    #: How many entries one call takes, and how many bytes.
    _call_entries: ClassVar[int]
    _call_bytes: int

    @abstractmethod
    def _entry(self, name: str, write: Write) -> dict[str, Any]:
        """The write as it stands in a request, under the Id ``name`` where the service has Ids."""

    def _troubles_of(self, entries: list[dict[str, Any]], results: Sequence[dict[str, Any]]) -> dict[int, Trouble]:
        """What an answer with a result for each entry says, by place. Silence is no confirmation."""
        if len(results) != len(entries):
            silence = "the answer does not say what became of it"
            return dict.fromkeys(range(len(entries)), self._trouble_of_entry("NoAnswer", silence, is_sender=None))
        return {
            place: self._trouble_of_entry(result["ErrorCode"], result.get("ErrorMessage") or "", is_sender=None)
            for place, result in enumerate(results)
            if result.get("ErrorCode")
        }

    @abstractmethod
    def _call(self, client: Any, entries: list[dict[str, Any]]) -> dict[int, Trouble]:
        """Make one request: what was not taken, by its place."""

    def _lane(self, write: Write) -> str | None:
        """What the write keeps order within; None: nothing."""
        return None

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``. ConfigurationError where it is not known where to."""
        if writes:
            self._client(deadline)
        deadline = min(deadline, time.monotonic() + _RETRY_TIME)
        troubles: dict[int, Trouble] = {}
        stopped: set[str | None] = set()
        waiting, is_first = list(writes), True
        while waiting:
            request, waiting = self._first_request(waiting)
            free = [write for write in request if self._lane(write) not in stopped]
            for write in request:
                if self._lane(write) in stopped:
                    troubles[id(write)] = Trouble(
                        SinkError("an earlier write of its order was not taken"), "unavailable"
                    )
            if not free:
                continue
            if is_first or time.monotonic() < deadline:
                troubles |= self._send(free, deadline)
            else:
                troubles |= dict.fromkeys(map(id, free), _no_time(self._service))
            is_first = False
            # What can never be taken has nothing to wait for.
            stopped |= {self._lane(write) for write in free if _stops(troubles.get(id(write)))} - {None}
        return _refusals(writes, troubles)

    def _send(self, writes: list[Write], deadline: float) -> dict[int, Trouble]:
        """Send one request's writes until each is taken or refused for good, or the time is up: the others, by ``id``."""
        entries = {n: self._entry(str(n), write) for n, write in enumerate(writes)}
        troubles: dict[int, Trouble] = {}

        def send_the_rest() -> bool:
            names = list(entries)
            found = self._try([writes[name] for name in names], [entries[name] for name in names], deadline)
            for place, name in enumerate(names):
                trouble = found.get(place)
                if trouble is None:
                    troubles.pop(name, None)
                else:
                    troubles[name] = trouble
                if trouble is None or not trouble.passes:
                    del entries[name]
            return not entries

        repeat_until(deadline, send_the_rest)
        return {id(writes[name]): trouble for name, trouble in troubles.items()}

    def _try(self, writes: list[Write], entries: list[dict[str, Any]], deadline: float) -> dict[int, Trouble]:
        """One request; in halves, where the service refuses it whole for what is in it, until what is at fault is alone."""

        def ask(part: Sequence[int]) -> dict[int, Trouble] | Trouble:
            try:
                client = self._client(deadline)
                with each([writes[place] for place in part]):
                    return self._call(client, [entries[place] for place in part])
            except Exception as error:  # noqa: BLE001  # Whatever the client raises, nothing was confirmed.
                trouble = self._trouble(error)
            return trouble if trouble.kind == "invalid" else dict.fromkeys(range(len(part)), trouble)

        return in_halves(
            range(len(entries)), ask, lambda: None if time.monotonic() < deadline else _no_time(self._service)
        )

    def _first_request(self, waiting: list[Write]) -> tuple[list[Write], list[Write]]:
        """What the next request takes, and what is left for later, both in order."""
        request: list[Write] = []
        later: list[Write] = []
        lanes: set[str] = set()
        size = 0
        for n, write in enumerate(waiting):
            if len(request) == self._call_entries:
                return request, later + waiting[n:]
            lane = self._lane(write)
            if (size + write.size <= self._call_bytes or not request) and lane not in lanes:
                request.append(write)
                size += write.size
            else:
                later.append(write)
            if lane is not None:
                lanes.add(lane)
        return request, later


class CallSink(AwsSink):
    """Takes one write in a call, and several calls at once. The writes of a lane are made one after another."""

    def __init__(self, place: str, *, concurrency: int = 8, client: Any = None) -> None:
        super().__init__(place, client=client)
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError(
                f"{type(self).__name__}(concurrency) takes a whole number of calls at once, 1 or more; got {concurrency!r}"
            )
        self._concurrency = concurrency

    @abstractmethod
    def _make(self, client: Any, write: Write) -> Trouble | None:
        """Make the call of one write; the trouble that its answer tells of."""

    def _lane(self, write: Write) -> Any:
        """What the write is made one after another with."""
        return id(write)

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``. ConfigurationError where it is not known where to."""
        if not writes:
            return []
        deadline = min(deadline, time.monotonic() + _RETRY_TIME)
        lanes: dict[Any, list[Write]] = {}
        for write in writes:
            lanes.setdefault(self._lane(write), []).append(write)
        # Here, for boto3's clients can be used by several threads and not be made by them.
        client = self._client(deadline)
        troubles: dict[int, Trouble] = {}
        if len(lanes) == 1 or self._concurrency == 1:
            for n, lane in enumerate(lanes.values()):
                troubles |= self._make_all(client, lane, deadline, tries_first=n == 0)
            return _refusals(writes, troubles)
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(self._concurrency, len(lanes)), "streamkit-sink") as pool:
            made = [
                pool.submit(self._make_all, client, lane, deadline, tries_first=n < self._concurrency)
                for n, lane in enumerate(lanes.values())
            ]
            for future in made:
                troubles |= future.result()
        return _refusals(writes, troubles)

    def _make_all(self, client: Any, lane: list[Write], deadline: float, *, tries_first: bool) -> dict[int, Trouble]:
        """Make the calls of a lane, in order, until one is not taken: it and what follows it, by ``id``."""
        troubles: dict[int, Trouble] = {}
        for n, write in enumerate(lane):
            if (n or not tries_first) and time.monotonic() >= deadline:
                troubles[id(write)] = _no_time(self._service)
            elif any(map(_stops, troubles.values())):
                troubles[id(write)] = Trouble(SinkError("an earlier write of its order was not taken"), "unavailable")
            else:
                trouble = self._until_taken(client, write, deadline)
                if trouble is not None:
                    troubles[id(write)] = trouble
        return troubles

    def _until_taken(self, client: Any, write: Write, deadline: float) -> Trouble | None:
        last: list[Trouble | None] = [None]

        def make() -> bool:
            try:
                with use(write):
                    last[0] = self._make(client, write)
            except Exception as error:  # noqa: BLE001  # Whatever the client raises, it was not confirmed.
                last[0] = self._trouble(error)
            return last[0] is None or not last[0].passes

        repeat_until(deadline, make)
        return last[0]


def _stops(trouble: Trouble | None) -> bool:
    return trouble is not None and trouble.kind != "invalid"


def _no_time(service: str) -> Trouble:
    return Trouble(SinkError(f"there was no time left to ask {service}"), "unavailable")


def _refusals(writes: Iterable[Write], troubles: dict[int, Trouble]) -> list[Refusal]:
    return [
        Refusal(write, troubles[id(write)].error, troubles[id(write)].kind) for write in writes if id(write) in troubles
    ]


def _without_values(message: str) -> str:
    return _QUOTED.sub("'…'", message.partition("\n")[0])[:_LONGEST_MESSAGE]


def data_of(value: Any) -> bytes:
    """Bytes as they are, text in UTF-8, anything else as JSON; Reject where it is none of these."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    try:
        return value.encode() if isinstance(value, str) else _encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Reject(f"a value that is no JSON can't be sent: {type(error).__name__}") from None


def text_of(value: Any, service: str) -> str:
    """``data_of`` as text; Reject where it is not UTF-8."""
    if isinstance(value, str):
        data_of(value)
        return value
    try:
        return data_of(value).decode()
    except UnicodeDecodeError:
        raise Reject(f"{service} takes text, and the data is not UTF-8: encode it, for instance in base64") from None


def json_of(value: Any, service: str, check: Callable[[Any], bool] = lambda parsed: True, what: str = "JSON") -> str:
    """``text_of`` what has to be JSON; texts and bytes are taken to be it already. Reject where it is not."""
    text = text_of(value, service)
    try:
        parsed = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise Reject(f"{service} takes {what}, and the data is not") from None
    if not check(parsed):
        raise Reject(f"{service} takes {what}, and the data is not")
    return text

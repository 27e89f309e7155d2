"""Every error that streamkit raises, and the three that users raise to say what should happen next.

StreamkitError
├── ConfigurationError (also a ValueError)   an option, a setting or an environment variable is wrong
├── DecodeError                              a record's data is not what it should be
├── SinkError                                a sink could not take a write
├── QueueError                               a retry queue or dead-letter target could not take a record
├── DeliveryError                            a producer could not put a record into its stream
├── BacklogFull                              a producer has as much waiting as it may hold
├── ProducerClosed                           a producer was closed, or is another process's
├── LeaseLost                                another runner has the shard now: stop at once, and write nothing
├── UnknownVersion                           a newer streamkit has made it, and only that one can read it
├── BatchFailed                              the answer can only be an exception (SNS, the end of a tumbling window)
├── Reject                                   raised by users: this record can never succeed
│   └── EndlessChain                         the event has gone through too many functions to be sent on once more
├── Retry(delay)                             raised by users: this record may succeed later
└── Unavailable                              raised by users: a dependency is down; the record is not at fault
    └── ConfigurationMissing (also a ConfigurationError)   a parameter has no value: no record is at fault for that
"""

from __future__ import annotations

__all__ = [
    "BacklogFull",
    "BatchFailed",
    "ConfigurationError",
    "ConfigurationMissing",
    "DecodeError",
    "DeliveryError",
    "EndlessChain",
    "LeaseLost",
    "ProducerClosed",
    "QueueError",
    "Reject",
    "Retry",
    "SinkError",
    "StreamkitError",
    "Unavailable",
    "UnknownVersion",
]


class StreamkitError(Exception):
    """The base of all streamkit's errors."""


class ConfigurationError(StreamkitError, ValueError):
    """An option, a setting or an environment variable is missing or wrong; the message says what to write instead."""


class DecodeError(StreamkitError):
    """A record's data can't be decoded: poison, which goes to dead letters without retries where there are any.

    ``event_id`` names the record where it is known. The message never holds the data.
    """

    def __init__(self, message: str, event_id: str | None = None) -> None:
        super().__init__(message)
        self.event_id = event_id


class SinkError(StreamkitError):
    """Why a sink did not take a write."""


class QueueError(StreamkitError):
    """Why a retry queue or a dead-letter target did not take a record."""


class DeliveryError(StreamkitError):
    """Why a producer did not put a record into its stream.

    ``perhaps`` says that it may be there nevertheless: a request with it was sent, and its answer never came.
    """

    def __init__(self, message: str, *, perhaps: bool = False) -> None:
        super().__init__(message)
        self.perhaps = perhaps

    def again(self) -> DeliveryError:
        """The same error, for another record."""
        error = DeliveryError(str(self), perhaps=self.perhaps)
        error.__cause__ = self.__cause__
        return error


class BacklogFull(StreamkitError):
    """A producer has as much waiting as it may hold, and was told to raise, or not to wait longer; the record is not accepted."""


class ProducerClosed(StreamkitError):
    """A producer was closed, or made in another process than this one, so that it accepts no record."""


class LeaseLost(StreamkitError):
    """A shard is another runner's now, or nobody's. Who held it stops at once and writes nothing more."""


class UnknownVersion(StreamkitError):
    """An envelope or a claim that a newer streamkit has made; only that one can read it."""


class BatchFailed(StreamkitError):
    """Raised out of the handler where there is no partial answer, so that all is delivered again.

    SNS knows none, and neither does the end of a tumbling window, which is of no single record.
    """


class Reject(StreamkitError):
    """Raise it in ``process`` for a record that can never succeed: ``raise Reject("negative total")``.

    The record goes to the policy's dead letters at once, without retries. Without dead letters it is an ordinary failure.
    """


class EndlessChain(Reject):
    """An event that has gone through too many functions, one after another, is not sent on: they would be a loop.

    In ``process`` it is a ``Reject`` of the record.
    """


class Retry(StreamkitError):
    """Raise it in ``process`` for a record that may succeed in ``delay`` seconds: ``raise Retry(60)``.

    On the retry path the record does not run sooner than that, and the try counts as an attempt. Under ``Block``, and where an
    SNS topic is the retry path, it is a plain failure: Lambda chooses the time.
    """

    def __init__(self, delay: float, reason: str = "") -> None:
        if not 0 <= delay < float("inf"):
            raise ConfigurationError(f"Retry(delay) takes seconds, 0 or more; got {delay!r}")
        super().__init__(reason or f"again in {delay:g} s")
        self.delay = delay


class Unavailable(StreamkitError):
    """Raise it in ``process`` when a dependency is down: ``raise Unavailable("payments API")``.

    The record stays in the stream under every policy: it is not diverted, parked, dead-lettered or counted as an attempt.
    """


class ConfigurationMissing(Unavailable, ConfigurationError):
    """A parameter has no value that can be used, and no default: it is not there, can't be parsed, or its source is away.

    In ``process`` it is ``Unavailable``: the records wait in the stream until somebody mends it, and none is lost for it. The
    message names the parameter and what is wrong, and holds nothing of its value.
    """

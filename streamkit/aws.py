"""How streamkit's queues and stores call AWS: clients with time-outs that fit into what is left, which retry nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from . import sharing
from .errors import ConfigurationError
from .sharing import Borrowed
from .timely import TimelySession

__all__ = [
    "Clients",
    "borrow",
    "code_of",
    "from_environment",
    "is_throttle",
    "make_client",
    "may_pass",
    "repeat_until",
    "retried",
    "whole_answers",
]

Client = TypeVar("Client")
T = TypeVar("T")

# Throttles and time-outs that are answered with the status of a request at fault.
_PASSING_CODES = ("ProvisionedThroughputExceededException", "RequestTimeout", "LimitExceededException")
# (seconds left at least, seconds that one try may take, tries). The shortest is given past the deadline too: once, or an answer
# could never come.
_TIMEOUTS = ((5.0, 5.0, 1), (2.0, 2.0, 1), (1.0, 1.0, 1), (0.0, 0.5, 1))


class Clients:
    """boto3's clients of one service, shared by all in this container who want the same; or the one that was ``given``.

    A client's time-outs are fixed when it is made, hence one for each row of ``timeouts``: the seconds that have to be left,
    those that one try may take, and tries. By default it retries nothing itself: its caller does, who knows the deadline.
    ``owner`` is who needs boto3, for the error where there is none. ``session``: as ``make_client`` has it. Any thread may
    call it.
    """

    def __init__(
        self,
        service: str,
        owner: str,
        given: Any = None,
        timeouts: Sequence[tuple[float, float, int]] = _TIMEOUTS,
        *,
        session: Any = None,
    ) -> None:
        self._service = service
        self._owner = owner
        self._session = session
        self._timeouts = timeouts
        self.given = whole_answers(given)
        #: Called with each client that is made: shared are those that the same was done to.
        self.prepare: Callable[[Any], object] | None = None
        self._borrowed: dict[tuple[float, int], Borrowed] = {}

    def until(self, deadline: float, region: str | None = None) -> Any:
        """A client that gives up within what is left until ``deadline``, a time on ``time.monotonic()``'s clock.

        ``region``: the one for all of these clients; None is boto3's default.
        """
        if self.given is not None:
            return self.given
        seconds = deadline - time.monotonic()
        row = next((row for row in self._timeouts if row[0] <= seconds), self._timeouts[-1])
        timeout, tries = row[1:]
        found = self._borrowed.get((timeout, tries))
        if found is None:
            mine = borrow(
                self._service,
                self._owner,
                timeout,
                tries=tries,
                answer_time=timeout,
                region=region,
                session=self._session,
                prepare=self.prepare,
            )
            found = self._borrowed.setdefault((timeout, tries), mine)
            if found is not mine:
                mine.give_back()
        return found.thing

    def close(self) -> None:
        """Give back the clients that were made here, and not one that was given: the last who has one closes it."""
        borrowed, self._borrowed = self._borrowed, {}
        for one in borrowed.values():
            one.give_back()


def borrow(
    service: str,
    owner: str,
    timeout: float | tuple[float, float],
    *,
    tries: int = 1,
    answer_time: float | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    session: Any = None,
    prepare: Callable[[Any], object] | None = None,
    **config: Any,
) -> Borrowed:
    """``make_client``'s client, which all in this container share who ask for the same; its connections, too.

    ``prepare`` is called with it when it is made. All of them have their credentials from boto3's own session, which gets them
    once; but for those that name another ``session``. Any thread may call it, and use the client.
    """
    asked = (service, timeout, tries, answer_time, region, endpoint_url, session, prepare)
    key = (*asked, tuple(sorted(config.items())), _environment())

    def make() -> Any:
        client = make_client(
            service,
            owner,
            timeout,
            tries=tries,
            answer_time=answer_time,
            region=region,
            endpoint_url=endpoint_url,
            session=session,
            **config,
        )
        if prepare is not None:
            prepare(client)
        return client

    return sharing.borrow(key, make)


def _environment() -> int:
    """Stands for all that a client reads in the environment when it is made. A secret is among it, so it is not kept as it is."""
    return hash(frozenset((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


def make_client(
    service: str,
    owner: str,
    timeout: float | tuple[float, float],
    *,
    tries: int = 1,
    answer_time: float | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    session: Any = None,
    **config: Any,
) -> Any:
    """A client of boto3's: all of streamkit's are made here.

    ``timeout``: the seconds of one try, to connect and to read; or both apart. To read is to wait for a packet: ``answer_time``
    is when the whole of an answer has to be there, in seconds from where its request begins; None is without end.
    ``session``: who makes it, by default boto3's own, which no two threads may use at once; ``True`` is a new one.
    ``config``: more of botocore's. ConfigurationError without boto3, which says that ``owner`` needs it.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise ConfigurationError(f"{owner} needs boto3: pip install 'kinesis-streamkit[aws]'") from error
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    retries = {"total_max_attempts": tries, "mode": "standard"}
    settings = Config(connect_timeout=connect, read_timeout=read, retries=retries, **config)
    maker = boto3.session.Session() if session is True else session or boto3
    client = maker.client(service, region_name=region or None, endpoint_url=endpoint_url, config=settings)
    if answer_time is not None:
        _limit_answers(client, answer_time)
    return whole_answers(client)


def _limit_answers(client: Any, seconds: float) -> None:
    # There is no public way to a client's session. Where a botocore has it elsewhere, its time-outs are what there is.
    endpoint: Any = getattr(client, "_endpoint", None)
    if hasattr(endpoint, "http_session"):
        endpoint.http_session = TimelySession(endpoint.http_session, seconds)


def whole_answers(client: Client) -> Client:
    """The client, which from now on raises where the body of an answer broke off.

    By itself boto3 takes JSON that broke off for an empty answer: "no such item", "none was refused". What is no client of
    boto3's, None among it, stays as it is; and so does a client of botocore before 1.35.16, which has no such event.
    """
    events = getattr(getattr(client, "meta", None), "events", None)
    if events is not None:
        events.register("before-parse", _check_length, unique_id="streamkit-whole-answers")
    return client


def _check_length(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """botocore's handler. What is streamed is read by who has asked for it, and what another handler has read is its own."""
    if customized_response_dict:
        return
    body, length = response_dict["body"], response_dict["headers"].get("content-length")
    if not isinstance(body, bytes) or length is None or operation_model.http.get("method") == "HEAD":
        return
    if len(body) < int(length):
        from botocore.exceptions import ResponseStreamingError

        raise ResponseStreamingError(error=f"the answer ended after {len(body):,} of {int(length):,} bytes")


def from_environment(variable: str, owner: str, wanted: str) -> str:
    """What the variable holds; ConfigurationError, which says who wants what in it, where it is empty or not set."""
    value = os.environ.get(variable)
    if not value:
        raise ConfigurationError(f"the environment variable {variable} is not set; {owner} needs {wanted} in it")
    return value


def code_of(error: Exception) -> str:
    """AWS's code for why it refused a request; empty where AWS did not answer."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def may_pass(error: Exception) -> bool:
    """Whether the same request may be taken later: not where AWS answered that it is wrong, or that its target is not there."""
    answer = getattr(error, "response", None)
    if not isinstance(answer, dict):
        return True
    status, code = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 500), code_of(error)
    return status >= 500 or is_throttle(error) or code in _PASSING_CODES


def is_throttle(error: Exception) -> bool:
    """Whether AWS has refused a request for there being too many."""
    answer = getattr(error, "response", None)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
    code = code_of(error)
    return status == 429 or "Throttl" in code or "TooManyRequests" in code


def repeat_until(deadline: float, call: Callable[[], bool]) -> None:
    """Call until it says that nothing is left to do, or the next call would begin past the deadline; once in any case.

    The waits between grow to 2 s, with full jitter.
    """
    from tenacity import Retrying, retry_if_result, wait_random_exponential

    Retrying(
        retry=retry_if_result(lambda is_over: not is_over),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=lambda state: time.monotonic() + state.upcoming_sleep >= deadline,
        retry_error_callback=lambda state: None,
    )(call)


def retried(deadline: float, call: Callable[[], T], passes: Callable[[Exception], bool] = may_pass) -> T:
    """What ``call`` returns, tried again until the deadline where it fails for a passing reason. Its last error, else.

    The waits between grow to 2 s, with full jitter.
    """
    from tenacity import Retrying, retry_if_exception, wait_random_exponential

    return Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, Exception) and passes(error)),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=lambda state: time.monotonic() + state.upcoming_sleep >= deadline,
        reraise=True,
    )(call)

"""Answers of AWS that are all there within a time: botocore's time-out is of each packet, and an answer can come in thousands."""

from __future__ import annotations

import time
from typing import Any

from .http_body import read_by

__all__ = ["TimelySession"]


class TimelySession:
    """Stands in a client for botocore's HTTP ``session``. A body that is not all there ``seconds`` after its request was begun is
    a ReadTimeoutError of botocore's, and its connection is closed. What is streamed is read by who has asked for it.
    """

    def __init__(self, session: Any, seconds: float) -> None:
        self._session = session
        self._seconds = seconds

    def send(self, request: Any) -> Any:
        """botocore's answer to its prepared ``request``; raises botocore's errors of HTTP."""
        if request.stream_output:
            return self._session.send(request)
        until = time.monotonic() + self._seconds
        # Else the session reads the body itself.
        request.stream_output = True
        try:
            answer = self._session.send(request)
        finally:
            request.stream_output = False
        try:
            answer._content = read_by(answer.raw, until)
        except Exception as error:
            answer.raw.close()
            raise _told(error, request) from error
        return answer

    def close(self) -> None:
        self._session.close()


def _told(error: Exception, request: Any) -> Exception:
    """As botocore tells of it."""
    from botocore import exceptions
    from urllib3 import exceptions as urllib3

    if isinstance(error, TimeoutError | urllib3.ReadTimeoutError):
        return exceptions.ReadTimeoutError(endpoint_url=request.url, error=error)  # type: ignore[no-any-return]
    if isinstance(error, urllib3.ProtocolError):
        return exceptions.ConnectionClosedError(endpoint_url=request.url, request=request, error=error)  # type: ignore[no-any-return]
    return exceptions.HTTPClientError(error=error)  # type: ignore[no-any-return]

"""The requests that are not answered as asked: why, and with which status."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import StreamkitError

__all__ = ["Refused"]


class Refused(StreamkitError):
    """The HTTP answer to a request that can't be answered otherwise. Its text is for the caller to read: it holds nothing that
    the index has said.

    ``parameter``: the one that is at fault, where one is. ``headers``: what the answer has beside the usual.
    """

    def __init__(
        self, status: int, reason: str, parameter: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.parameter = parameter
        self.headers = dict(headers or {})

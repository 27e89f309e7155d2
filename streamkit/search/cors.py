"""Which web pages may read the answers: those of the origins that were named, or of all."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import ConfigurationError

__all__ = ["Cors"]

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")

# Those of requests here, and those of one that is signed (SigV4).
_HEADERS = "Authorization, Content-Type, If-None-Match, X-Amz-Content-Sha256, X-Amz-Date, X-Amz-Security-Token"


class Cors:
    """``origins`` as browsers write them, such as ``https://www.example.com``; or ``*`` for every one. None by default.

    ``max_age``: seconds for which a browser need not ask again whether it may; Chrome keeps to two hours.
    """

    def __init__(self, origins: Iterable[str] = (), *, max_age: int = 7200) -> None:
        self._origins = tuple(origins)
        for origin in self._origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    f"an origin is a scheme and a host in lower case, such as https://www.example.com, or *; got {origin!r}"
                )
        if "*" in self._origins and len(self._origins) > 1:
            raise ConfigurationError("origins are * alone, or such as are named")
        self._max_age = max_age

    def headers(self, origin: str | None) -> dict[str, str]:
        """What every answer has, for a request from ``origin``; None where it names none."""
        if not self._origins:
            return {}
        if self._origins == ("*",):
            return {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "ETag, Retry-After"}
        # A cache keeps the answers to two origins apart, and those without one too.
        headers = {"Vary": "Origin"}
        if origin in self._origins:
            headers |= {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "ETag, Retry-After"}
        return headers

    def preflight(self, origin: str | None, methods: str) -> dict[str, str]:
        """What the answer to a browser's question has, beside ``headers``."""
        if "Access-Control-Allow-Origin" not in self.headers(origin):
            return {}
        return {
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": str(self._max_age),
        }

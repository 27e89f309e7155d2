"""The claim check: what is too large for its queue is put into a store, and the queue gets a claim in its place.

A claim is a message's body: JSON, ASCII only, marked by its first field.

    streamkit_claim    1: the mark and the version
    bucket, key        where the text is, in UTF-8
    event_id           of the record
    bytes              how long the text is
    sha256             its digest, in hexadecimal

The text is put before the claim is sent, so a crash between the two leaves an object that nobody asks for, and never a claim
without one. **Streamkit deletes no object**: a claim can be delivered twice, moved to dead letters by the queue's own redrive,
exported and put back, and whoever deletes can't know which of these is the last. The bucket's lifecycle rule ends an object
(``docs/retries.md`` says after how long). The key is of the digest of the text, so a put that is repeated makes no second object,
and gives the one that is there its whole life again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any

import msgspec

from ..errors import DecodeError, QueueError, Unavailable, UnknownVersion

__all__ = ["MARK", "VERSION", "Claim", "ClaimStore", "StoreAway", "open_claim"]

MARK = "streamkit_claim"
VERSION = 1
# A record of 10 MiB makes an envelope of some 14 MB: what says that it is larger than this is no claim of streamkit's, and would
# take a function down for lack of memory.
_MOST_BYTES = 64 * 1_048_576


class StoreAway(Unavailable):
    """The store gives no answer: it would give none for another body either, and that would take as long to find out."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """See the module's docstring for each field."""

    streamkit_claim: int = VERSION
    bucket: str
    key: str
    event_id: str
    bytes: Annotated[int, msgspec.Meta(ge=0, le=_MOST_BYTES)]
    sha256: str

    def encode(self) -> str:
        import json  # msgspec's JSON is UTF-8, and a message has to be ASCII.

        return json.dumps(msgspec.to_builtins(self), ensure_ascii=True, separators=(",", ":"))

    @property
    def place(self) -> str:
        """``s3://bucket/key``, for errors."""
        return f"s3://{self.bucket}/{self.key}"


_read_mark = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read = msgspec.json.Decoder(Claim).decode


def open_claim(body: str) -> Claim | None:
    """The claim that a message's body is; None where it is none.

    Raises UnknownVersion, and DecodeError where the mark is there and the rest is not what version 1 says.
    """
    if MARK not in body:
        return None
    try:
        version: Any = msgspec.json.decode(_read_mark(body)[MARK])
    except (msgspec.MsgspecError, UnicodeError, RecursionError, KeyError):
        return None  # An envelope, or JSON of somebody's own, that happens to hold the word.
    if version != VERSION or isinstance(version, bool):
        raise UnknownVersion(f"claim version {str(version)[:20]}; this streamkit reads version {VERSION}: update it")
    try:
        return _read(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise DecodeError(f"a claim of version {VERSION} with a fault: {error}") from None


class ClaimStore(ABC):
    """Subclass it for a store of your own. ``streamkit.testing.contracts.ClaimContract`` is the suite it has to pass.

    The base makes and checks claims; a subclass puts and gets bytes.
    """

    @property
    @abstractmethod
    def bucket(self) -> str:
        """What claims are told by: a store opens those of its own bucket and no others, whatever else it could read."""

    def put(self, body: str, event_id: str, *, deadline: float) -> str:
        """Put ``body`` into the store and return the claim to send in its place.

        ``deadline`` is a time on ``time.monotonic()``'s clock. An exception means that it may not be there.
        """
        import hashlib  # It loads OpenSSL, 4 ms: only a large failure pays for it.

        content = body.encode()
        if len(content) > _MOST_BYTES:
            raise QueueError(f"the envelope has {len(content):,} bytes; a claim stands for {_MOST_BYTES:,} at most")
        digest = hashlib.sha256(content).hexdigest()
        key = self._put(digest[:32], content, deadline)
        claim = Claim(bucket=self.bucket, key=key, event_id=event_id, bytes=len(content), sha256=digest)
        return claim.encode()

    def fetch(self, claim: Claim, *, deadline: float) -> str:
        """The body that ``claim`` stands for, checked by its length and digest.

        Raises StoreAway where the store gives no answer, another Unavailable where it gives none for this body, and DecodeError
        where the body is not there any more, or is not the one that was put: neither will ever be otherwise.
        """
        import hashlib

        if claim.bucket != self.bucket:
            raise Unavailable(f"its body is in another bucket than this queue's {self.bucket}: {claim.place}")
        try:
            content = self._get(claim.key, claim.bytes, deadline)
        except Unavailable:
            raise
        except Exception as error:
            raise StoreAway(f"can't read {claim.place}: {type(error).__name__}: {error}") from error
        if content is None:
            raise DecodeError(f"its body is gone: there is no object {claim.place}", claim.event_id)
        if len(content) != claim.bytes or hashlib.sha256(content).hexdigest() != claim.sha256:
            raise DecodeError(f"its body is not what was put there: {claim.place}", claim.event_id)
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise DecodeError(f"its body is not UTF-8: {claim.place}", claim.event_id) from None

    @abstractmethod
    def _put(self, name: str, content: bytes, deadline: float) -> str:
        """Put ``content`` under ``name``, 32 hexadecimal digits of its digest, and return its key. It may be there."""

    @abstractmethod
    def _get(self, key: str, length: int, deadline: float) -> bytes | None:
        """Up to ``length`` + 1 bytes of what is under ``key``: the one more tells that it is longer. None if nothing is there.

        Unavailable where the store answers, but not with this one; any other exception means that it is away.
        """

    def close(self) -> None:
        """Release connections; what is asked later makes new ones."""
        return

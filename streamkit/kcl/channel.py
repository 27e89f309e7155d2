"""The pipes between the daemon and this process: a message in, a line out. Nothing but the protocol goes through them."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StreamkitError
from .protocol import Message, message

__all__ = ["Channel", "DaemonGone", "standard_pipes"]

_CHUNK = 1 << 20


class DaemonGone(StreamkitError):
    """The daemon has closed its pipe: it has ended, or was killed. Nothing can be checkpointed any more."""


class Channel:
    """Messages of the daemon from ``source`` and lines to it into ``target``, both file descriptors.

    What ``wake`` is called for, a signal's handler say, ends a wait at once.
    """

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._lines = 0
        # What came after the last line that was asked for, and the parts of a line that is not whole yet.
        self._rest = b""
        self._parts: list[bytes] = []
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def wake(self) -> None:
        """End a wait that is on, or the next one. It can be called within a signal's handler."""
        try:
            os.write(self._wake, b".")
        except BlockingIOError:
            # The pipe is full of what nobody has read, so the wait ends anyway.
            return

    def wait(self, seconds: float | None) -> bool:
        """Wait until the daemon says something, has gone, or ``seconds`` are over; None: however long. Whether it has."""
        if self._rest:
            return True
        ready, _, _ = select.select([self._source, self._woken], [], [], seconds)
        if self._woken in ready:
            os.read(self._woken, _CHUNK)
        return self._source in ready

    def receive(self) -> Message:
        """The next message, waited for. DaemonGone where there is none; ProtocolError where it is none."""
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            self._parts.append(line)
            self._rest = rest
            if newline:
                line = b"".join(self._parts)
                self._parts = []
                self._lines += 1
                return message(line, self._lines)
            self._rest = os.read(self._source, _CHUNK)
            if not self._rest:
                raise DaemonGone("the daemon has closed its pipe")

    def send(self, line: bytes) -> None:
        """Write a whole line. DaemonGone where nobody reads it any more."""
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._target, left) :]
        except BrokenPipeError:
            raise DaemonGone("the daemon does not read what it is told any more") from None


@contextmanager
def standard_pipes() -> Iterator[Channel]:
    """The channel over this process's stdin and stdout, which are taken from everybody else.

    What prints goes to stderr, be it Python, C or a program that was started, and who reads stdin finds nothing there.
    """
    # Copies are not inherited by programs that are started.
    source, target = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield Channel(source, target)
    finally:
        os.close(source)
        os.close(target)

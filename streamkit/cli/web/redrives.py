"""Letters on their way back: ``streamkit redrive``'s own run in a thread, which asks the page before anything is put back.

One at a time, since the journal is one process's. It goes

    looking ─▶ asking ─▶ sending ─▶ done
                 └──▶ done, nothing put back            anywhere ─▶ failed

and what it holds is given back at its end, however it ends.
"""

from __future__ import annotations

import argparse
import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from ...errors import StreamkitError
from ...reason import reason
from ..connection import masked
from ..journal import Journal
from ..letters import open_letters, open_recovery
from ..redriving import Redrive, check_places, open_target
from ..terminal import printable
from .looks import filtered, redrive_options

__all__ = ["Redrives"]

# A person who has gone away must not keep letters from others.
_ANSWER_WITHIN = 240.0
_WAIT_FOR_OTHERS = 60.0
_MOST_OUTCOMES = 1000
_TARGETS = ("queue", "topic", "stream")
_PUT_BACK = ("put back", "put back before")


class _Job:
    """One redrive. All but its thread only look."""

    def __init__(self, options: argparse.Namespace, chosen: Sequence[tuple[str, str]] = ()) -> None:
        self.token = secrets.token_urlsafe(12)
        self.options = options
        self.chosen = chosen
        self.state = "looking"
        self.question = ""
        self.note = ""
        self.error = ""
        self.run: Redrive | None = None
        self.outcomes: dict[str, str] = {}
        self._answer = threading.Event()
        self._deciding = threading.Lock()
        self._is_agreed = False
        self._is_stopped = False
        self.thread = threading.Thread(target=self._go_on, name="streamkit console redrive")

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed")

    def answer(self, *, is_agreed: bool) -> None:
        """StreamkitError where nothing is asked, not yet or not any more."""
        with self._deciding:
            if self.state != "asking":
                raise StreamkitError("nothing is asked at this moment")
            # The first one counts.
            if not self._answer.is_set():
                self._is_agreed = is_agreed
            self._answer.set()

    def stop(self) -> None:
        self._is_stopped = True
        self._answer.set()
        if self.run is not None:
            self.run.stop()

    def view(self) -> dict[str, Any]:
        options = self.options
        return {
            "job": self.token,
            "state": self.state,
            "source": masked(options.source),
            "target": masked(options.to_queue or options.to_topic or options.to_stream),
            "question": masked(self.question),
            "note": self.note,
            "error": masked(self.error),
            "summary": None if self.run is None else self.run.summary(),
            "outcomes": [[printable(name), printable(what)] for name, what in list(self.outcomes.items())],
        }

    def _go_on(self) -> None:
        try:
            with ExitStack() as stack:
                recovery = open_recovery(self.options, stack)
                target = open_target(self.options, stack)
                letters = open_letters(self.options, stack, recovery)
                check_places(letters, target)
                journal = Journal(self.options.state, letters.name)
                stack.callback(journal.close)
                self.run = Redrive(
                    self.options,
                    letters,
                    recovery,
                    target,
                    journal,
                    chosen=self.chosen,
                    tell=self._tell,
                    observe=self._observe,
                )
                if self._is_stopped:
                    self.run.stop()
                self.run.go_on(self._asked)
            self.state = "done"
        except StreamkitError as error:
            self.error = str(error)
            self.state = "failed"
        except Exception as error:  # noqa: BLE001  # Shown on the page: a thread has nobody else to tell.
            self.error = reason(error)
            self.state = "failed"

    def _tell(self, text: str) -> None:
        self.note = text

    def _observe(self, letter: str, outcome: str) -> None:
        # What is behind a refused one is told by its name: the refusal is the better word.
        if outcome in _PUT_BACK or (letter not in self.outcomes and len(self.outcomes) < _MOST_OUTCOMES):
            self.outcomes[letter] = outcome

    def _asked(self, question: str) -> bool:
        self.question = question.removesuffix(" [y/N] ")
        self.note = ""
        self.state = "asking"
        self._answer.wait(_ANSWER_WITHIN)
        # Decided once, under the lock that an answer takes: one that comes later is told so, and counts for nothing.
        with self._deciding:
            self.state = "sending"
            has_answered = self._answer.is_set()
            is_agreed = self._is_agreed and not self._is_stopped
        if not has_answered:
            self.note = f"nobody has answered for {_ANSWER_WITHIN:g} s, so nothing was put back"
        return is_agreed


class Redrives:
    """The redrive under way, or the last one."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._job: _Job | None = None
        self._is_ending = False

    def begin(
        self,
        source: str,
        kind: str,
        target: str,
        filters: Mapping[str, str],
        chosen: Sequence[tuple[str, str]],
        rate: float | None,
    ) -> dict[str, Any]:
        """Look at what would be put back, and ask. StreamkitError where one is under way, or something is wrong.

        ``chosen`` are processors with event ids; where there are none, it is all that the filters want.
        """
        if kind not in _TARGETS:
            raise StreamkitError(f"{kind} is no kind of target: these are {', '.join(_TARGETS)}")
        options = filtered(redrive_options(self._options, source, f"--to-{kind}={target}"), filters)
        options.rate = rate
        options.wait = _WAIT_FOR_OTHERS
        with self._lock:
            if self._is_ending:
                raise StreamkitError("the console ends: start it again to put letters back")
            if self._job is not None and not self._job.is_over:
                raise StreamkitError("a redrive is under way: answer it, wait for it or stop it first")
            self._job = _Job(options, chosen)
            self._job.thread.start()
            return self._job.view()

    def view(self) -> dict[str, Any]:
        with self._lock:
            return {"job": None} if self._job is None else self._job.view()

    def answer(self, token: str, *, is_agreed: bool) -> dict[str, Any]:
        job = self._of(token)
        job.answer(is_agreed=is_agreed)
        return job.view()

    def stop(self, token: str) -> dict[str, Any]:
        """End it after the request in hand."""
        job = self._of(token)
        job.stop()
        return job.view()

    def stop_all(self) -> None:
        """End what is under way after the request in hand. There is none after it."""
        with self._lock:
            self._is_ending = True
            job = self._job
        if job is not None:
            job.stop()

    def wait(self, patience: float) -> bool:
        """Whether what is under way came to an end in ``patience`` seconds, and has given back what it held."""
        with self._lock:
            job = self._job
        if job is None:
            return True
        job.thread.join(patience)
        return not job.thread.is_alive()

    def _of(self, token: str) -> _Job:
        with self._lock:
            # Which one, and no secret: who asks has shown the console's own token.
            if self._job is None or self._job.token != token:
                raise StreamkitError("this redrive is not under way any more")
            return self._job

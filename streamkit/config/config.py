"""Parameters of several sources behind one face, cached, and followed while the program runs.

    .value ── fresh: two comparisons
       │
       ├── due: a thread asks the sources; this call and later ones get the value that there is ─┐
       ├── older than its life: waits for that thread, ``wait`` seconds at most                  ├─ the next call takes
       └── none yet: waits, ``patience`` seconds at most, and never beyond the invocation's end ─┘  the answers over

All that is decided from the clock is in ``freshness``; all that is done to values happens on the threads that read them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from ..deadline import ruling
from ..errors import ConfigurationError, StreamkitError
from ..reason import reason
from . import parsing
from .freshness import Freshness
from .secret import Secret
from .setting import NO_DEFAULT, Change, Setting
from .source import Found, Source, check_name, is_hierarchy

__all__ = ["ATTEMPT_TIME", "Config"]

log = logging.getLogger("streamkit")

T = TypeVar("T")
M = TypeVar("M")

#: Seconds in which a source has to answer. By the wall clock twice as many go by only where the container was frozen meanwhile,
#: or something hangs: what comes after that is thrown away.
ATTEMPT_TIME = 5.0
_LOST_AFTER = 2 * ATTEMPT_TIME
# Of one source at once. One that hangs for good would have another thread, and its memory, for each attempt that is lost.
_MOST_THREADS = 2

#: What a source had, or why it is not known.
Answer = Mapping[str, Found] | Exception


class Config:
    """``Config(Environment("ORDERS_"), SsmParameters("/shop/orders"), life=60)``: the first source that has a parameter wins.

    ``life``: seconds after which a change in a source has reached a program that reads its values; it is asked at random in the
    second half of them. ``patience``: seconds that the first value may take, of which nothing is taken that the invocation needs
    to answer in. ``wait``: seconds that a value older than its life waits for a new one, once for each time that the sources are
    asked; 0 never waits. What a source had stays while it gives no answer, however long.

    Nothing is asked before a value is. Share one between processors; threads may. ``clock`` is the wall clock, or a test's own;
    ``chance`` gives a number from 0 to 1.
    """

    def __init__(
        self,
        *sources: Source,
        life: float = 60.0,
        patience: float = 5.0,
        wait: float = 0.5,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] | None = None,
    ) -> None:
        for source in sources:
            if not isinstance(source, Source):
                raise ConfigurationError(
                    f"Config takes sources, as SsmParameters('/shop/orders'); got {type(source).__name__}"
                )
        if not sources:
            raise ConfigurationError("Config needs a source, as SsmParameters('/shop/orders')")
        for option, seconds, least in (("life", life, 1.0), ("patience", patience, 0.0), ("wait", wait, 0.0)):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not least <= seconds < float("inf"):
                raise ConfigurationError(f"{option} is a number of seconds, {least:g} or more; got {seconds!r}")
        self._layers = [_Layer(source, Freshness(float(life))) for source in sources]
        self._patience = patience
        self._wait = wait
        self._now = clock
        self._chance = chance or _chance
        self._settings: list[Setting[Any]] = []
        # Of everything but the first two, which are read as they are: between them nothing is to be done.
        self._news = threading.Condition(threading.RLock())
        self._since = float("inf")
        self._until = float("-inf")
        self._attempt: _Attempt | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(layer.source for layer in self._layers)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters that are declared; that of a hierarchy ends with a slash."""
        return tuple(dict.fromkeys(setting.name for setting in self._settings))

    @property
    def label(self) -> str:
        return " and ".join(layer.source.label for layer in self._layers)

    def places_of(self, name: str) -> str:
        """Where in the sources ``name`` would be, for an error."""
        return " and ".join(layer.source.place_of(name) for layer in self._layers)

    def text(self, name: str, *, default: str = NO_DEFAULT) -> Setting[str]:
        return self._declare(name, parsing.text, default)

    def texts(self, name: str, *, default: tuple[str, ...] = NO_DEFAULT) -> Setting[tuple[str, ...]]:
        """An SSM StringList, or texts with commas between them, or a JSON array of texts."""
        return self._declare(name, parsing.texts, default)

    def integer(
        self, name: str, *, default: int = NO_DEFAULT, at_least: int | None = None, at_most: int | None = None
    ) -> Setting[int]:
        return self._declare(name, parsing.integer(at_least, at_most), default)

    def number(
        self, name: str, *, default: float = NO_DEFAULT, at_least: float | None = None, at_most: float | None = None
    ) -> Setting[float]:
        """A finite one."""
        return self._declare(name, parsing.number(at_least, at_most), default)

    def boolean(self, name: str, *, default: bool = NO_DEFAULT) -> Setting[bool]:
        """``true``, ``yes``, ``on``, ``1``, or ``false``, ``no``, ``off``, ``0``, in either case."""
        return self._declare(name, parsing.boolean, default)

    @overload
    def value(self, name: str, *, type: type[T], default: T = ...) -> Setting[T]: ...

    @overload
    def value(
        self,
        name: str,
        *,
        type: type[T],
        then: Callable[[T], M],
        default: M = ...,
    ) -> Setting[M]: ...

    def value(
        self,
        name: str,
        *,
        type: Any,  # noqa: A002
        then: Callable[[Any], Any] | None = None,
        default: Any = NO_DEFAULT,
    ) -> Setting[Any]:
        """JSON of any type that msgspec decodes, as a ``Struct`` or a dataclass; or the text itself, of a type of texts.

        ``then`` makes the value of what was decoded, once for each change; what it raises is a fault of the value.
        """
        parse = parsing.of_type(type)
        return self._declare(name, parsing.then(parse, then) if then is not None else parse, default)

    @overload
    def secret(self, name: str, *, default: str | Secret[str] = ...) -> Setting[Secret[str]]: ...

    @overload
    def secret(self, name: str, *, type: type[T], default: T | Secret[T] = ...) -> Setting[Secret[T]]: ...

    def secret(self, name: str, *, type: Any = str, default: Any = NO_DEFAULT) -> Setting[Any]:  # noqa: A002
        """A ``Secret``; and the only way to read a SecureString. ``type``: of JSON, as for ``value``; by default it is a text."""
        parse = parsing.text if type is str else parsing.of_type(type)
        if default is not NO_DEFAULT and not isinstance(default, Secret):
            default = Secret(default)
        return self._declare(name, parsing.hidden(parse), default, is_secret=True)

    def hierarchy(
        self,
        name: str,
        *,
        type: Any = str,  # noqa: A002
        secrets: bool = False,
        default: Mapping[str, Any] = NO_DEFAULT,
    ) -> Setting[Mapping[str, Any]]:
        """All that lies under ``name``, by what follows it in each name; of several sources' parameters those of all of them.

        Empty where nothing is there, unless a default is declared. ``secrets``: each is a ``Secret``.
        """
        parse = parsing.text if type is str else parsing.of_type(type)
        parse = parsing.hidden(parse) if secrets else parse
        return self._declare(name.removesuffix("/"), parse, default, is_secret=secrets, is_of_many=True)

    def load(self) -> None:
        """Ask for all that is declared so far, if that is due: to find out early, as in a processor's ``__init__``.

        ConfigurationMissing for the first that has no value.
        """
        for setting in self._settings:
            _ = setting.value

    def close(self) -> None:
        """Release the sources' connections. What is read later makes new ones."""
        for layer in self._layers:
            layer.source.close()

    def _declare(
        self, name: str, parse: parsing.Parse, default: Any, *, is_secret: bool = False, is_of_many: bool = False
    ) -> Setting[Any]:
        check_name(name)
        setting: Setting[Any] = Setting(self, f"{name}/" if is_of_many else name, parse, default, is_secret=is_secret)
        with self._news:
            self._settings.append(setting)
            self._until = float("-inf")
        return setting

    def _look(self, setting: Setting[Any]) -> None:
        """Take over what has come, ask for what is due, wait where that is to be. Listeners are called when nothing is locked."""
        with self._news:
            changes = self._take_over()
            self._begin()
            changes += self._wait_for(setting)
            if not setting._has_value():
                # Declared after its name was asked for; or nothing is known yet, and there is no more time.
                self._resolved(setting)
                setting._fall_back()
            self._plan()
        for change in changes:
            change.tell()

    def _take_over(self) -> list[Change]:
        """What the attempt has found so far, for all settings."""
        attempt = self._attempt
        if attempt is None:
            return []
        if not attempt.answers and not attempt.is_over and not attempt.is_lost_at(self._now()):
            return []
        answers, attempt.answers = attempt.answers, []
        for layer, answer, at in answers:
            attempt.layers.remove(layer)
            if attempt.is_lost_at(at):
                # What it has is as old as the first of its answers may be.
                self._lose(layer, at)
            else:
                layer.take(answer, attempt.names, at, self._chance())
        if attempt.is_over or attempt.is_lost_at(self._now()):
            for layer in attempt.layers:
                self._lose(layer, self._now())
            attempt.layers = []
            self._attempt = None
        return [change for one in self._settings if (change := self._resolved(one)) is not None]

    def _lose(self, layer: _Layer, now: float) -> None:
        log.warning(
            "%s took too long to answer, or the container was frozen meanwhile: it is asked again", layer.source.label
        )
        layer.fault = "its answer took too long"
        layer.freshness.lost(now, self._chance())

    def _begin(self) -> None:
        """Ask the sources that are due, and those that were never asked for a name that is declared; unless some are asked."""
        if self._attempt is not None:
            return
        now, names = self._now(), self.names
        asked = []
        for layer in self._layers:
            if not layer.freshness.is_due(now) and not layer.lacks(names):
                continue
            if (hanging := len(layer.threads)) < _MOST_THREADS:
                asked.append(layer)
            else:
                error = StreamkitError(f"{hanging} requests to it have not come back yet, so no other is made")
                layer.take(error, names, now, self._chance())
        if not asked:
            return
        attempt = _Attempt(asked, names, now, any(layer.freshness.is_expired(now) for layer in asked))
        try:
            attempt.start(self._answered, self._ended)
        except RuntimeError as error:  # There is no thread to be had.
            for layer in asked:
                layer.take(error, names, now, self._chance())
            return
        self._attempt = attempt

    def _wait_for(self, setting: Setting[Any]) -> list[Change]:
        """For a value where there is none, and for the end of the attempt where there is one that is too old."""
        changes: list[Change] = []
        began = time.monotonic()
        attempt, end = None, began
        while self._attempt is not None:
            is_missing = not setting._has_value()
            if not is_missing and not self._attempt.is_of_expired:
                break
            if attempt is not self._attempt:
                # Every record of a batch comes here: for each attempt only the first of them waits.
                attempt = self._attempt
                end = began + self._seconds(self._patience if is_missing else self._wait) - attempt.waited
                if is_missing and not attempt.waited:
                    setting._fault = f"no answer from {attempt.label} within {max(end - began, 0.0):.1f} s"
            if (left := end - time.monotonic()) <= 0:
                break
            self._news.wait(left)
            attempt.waited = max(attempt.waited, time.monotonic() - began)
            changes += self._take_over()
            # It may have begun before this name was declared.
            self._begin()
        return changes

    def _seconds(self, most: float) -> float:
        """How long may be waited: the invocation needs the rest to answer."""
        deadline = ruling.get()
        return most if deadline is None else min(most, deadline.of_request() - time.monotonic())

    def _plan(self) -> None:
        """Between which times there is nothing to look for."""
        attempt = self._attempt
        if attempt is None:
            self._since = max(layer.freshness.asked_at for layer in self._layers)
            self._until = min(layer.freshness.due_at for layer in self._layers)
        else:
            self._since, self._until = attempt.began_at, attempt.began_at + attempt.lost_after

    def _answered(self, attempt: _Attempt, layer: _Layer, answer: Answer) -> None:
        """On the attempt's thread. The next that reads a value takes it over."""
        with self._news:
            attempt.answers.append((layer, answer, self._now()))
            self._tell(attempt)

    def _ended(self, attempt: _Attempt) -> None:
        with self._news:
            attempt.is_over = True
            self._tell(attempt)

    def _tell(self, attempt: _Attempt) -> None:
        if self._attempt is attempt:
            self._until = float("-inf")
            self._news.notify_all()

    def _resolved(self, setting: Setting[Any]) -> Change | None:
        found: dict[str, Found] = {}
        unanswered = []
        for layer in self._layers:
            if setting.name not in layer.asked:
                if self._attempt is not None and layer in self._attempt.layers:
                    return None
                unanswered.append(f"{layer.source.label} could not be asked: {layer.fault}")
                continue
            found = layer.found(setting.name) | found
            if found and not is_hierarchy(setting.name):
                break
        return setting._take(found, "; ".join(unanswered))


class _Layer:
    """A source, and what it had when it last answered."""

    def __init__(self, source: Source, freshness: Freshness) -> None:
        self.source = source
        self.freshness = freshness
        self.fault = ""
        #: That ask it now, those of lost attempts among them.
        self.threads: set[threading.Thread] = set()
        self.asked: frozenset[str] = frozenset()
        self._answer: Mapping[str, Found] = {}
        # Names that it was asked for in vain: they alone do not make it due.
        self._tried: frozenset[str] = frozenset()

    def lacks(self, names: Sequence[str]) -> bool:
        """Whether it was not asked for one of them yet."""
        return not (self.asked | self._tried).issuperset(names)

    def take(self, answer: Answer, names: Sequence[str], now: float, chance: float) -> None:
        if isinstance(answer, Exception):
            self.fault = reason(answer)
            self._tried = frozenset(names)
            age = self.freshness.answered_at
            self.freshness.failed(now, chance)
            kept = "it has never answered" if age is None else f"what it had {now - age:.0f} s ago stays"
            log.error("%s can't be asked for parameters, and %s: %s", self.source.label, kept, self.fault)
            return
        if self.freshness.failures:
            log.warning("%s answers again", self.source.label)
        self._answer = answer
        self.asked = frozenset(names)
        self.freshness.answered(now, chance)

    def found(self, name: str) -> dict[str, Found]:
        if is_hierarchy(name):
            return {one: found for one, found in self._answer.items() if one.startswith(name)}
        return {name: self._answer[name]} if name in self._answer else {}


class _Attempt:
    """Sources are asked, one after another, on a thread of its own: no time-out of a socket bounds the whole of it."""

    def __init__(self, layers: list[_Layer], names: Sequence[str], began_at: float, is_of_expired: bool) -> None:
        #: Those whose answer was not taken over yet.
        self.layers = list(layers)
        self.names = names
        self.began_at = began_at
        self.lost_after = _LOST_AFTER * len(layers)
        self.is_of_expired = is_of_expired
        self.label = " and ".join(layer.source.label for layer in layers)
        #: With the time of each.
        self.answers: list[tuple[_Layer, Answer, float]] = []
        self.is_over = False
        #: Seconds that somebody has waited for it.
        self.waited = 0.0

    def is_lost_at(self, now: float) -> bool:
        return not 0 <= now - self.began_at < self.lost_after

    def start(
        self, answered: Callable[[_Attempt, _Layer, Answer], object], ended: Callable[[_Attempt], object]
    ) -> None:
        layers = list(self.layers)

        def run() -> None:
            try:
                for layer in layers:
                    layer.threads.add(thread)
                    try:
                        answer = _asked(layer.source, self.names)
                    finally:
                        layer.threads.discard(thread)
                    answered(self, layer, answer)
            finally:
                ended(self)

        thread = threading.Thread(target=run, name="streamkit-config", daemon=True)
        thread.start()


def _asked(source: Source, names: Sequence[str]) -> Answer:
    try:
        return dict(source.fetch(names, deadline=time.monotonic() + ATTEMPT_TIME))
    except Exception as error:  # noqa: BLE001  # Whatever went wrong is this source's answer; the others are asked all the same.
        return error


def _chance() -> float:
    """From 0 to 1. The module ``random`` is not worth its import for this."""
    return int.from_bytes(os.urandom(2), "big") / 65536

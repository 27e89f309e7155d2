"""One parameter as the program reads it: ``limit.value``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from ..errors import ConfigurationMissing
from ..reason import place, reason
from .parsing import Parse, Unparsed
from .source import Found, is_hierarchy

__all__ = ["NO_DEFAULT", "Change", "Setting"]

log = logging.getLogger("streamkit")

T = TypeVar("T")

#: In place of a default that there is not: None is one.
NO_DEFAULT: Any = object()
_NONE: Any = object()


class Owner(Protocol):
    """What a setting knows of the ``Config`` that made it."""

    #: Between these times of the clock there is nothing to look for.
    _since: float
    _until: float
    _now: Callable[[], float]

    @property
    def label(self) -> str:
        """What the sources are called."""

    def places_of(self, name: str) -> str:
        """Where in the sources ``name`` would be."""

    def _look(self, setting: Setting[Any]) -> None:
        """Give it the value that it is to have now."""


class Setting(Generic[T]):
    """Made by ``Config``'s methods. ``name`` is the parameter's; that of a hierarchy ends with a slash."""

    __slots__ = (
        "_config",
        "_default",
        "_fault",
        "_found",
        "_is_secret",
        "_listeners",
        "_parse",
        "_told",
        "_value",
        "name",
    )

    def __init__(self, config: Owner, name: str, parse: Parse, default: Any, *, is_secret: bool) -> None:
        self.name = name
        self._config = config
        self._parse = parse
        self._default = default
        self._is_secret = is_secret
        self._listeners: list[Callable[[T, T], object]] = []
        self._value: Any = _NONE
        self._found: Mapping[str, Found] | None = None
        self._fault = "it was not asked for yet"
        # What was wrong and is in the log already.
        self._told = ""

    @property
    def value(self) -> T:
        """What it is now. ConfigurationMissing where there is no value, and no default.

        The first call of all waits for the sources, as ``Config`` says. Later ones do not, but for one whose value is older than
        its life.
        """
        config = self._config
        if self._value is _NONE or not config._since <= config._now() < config._until:
            config._look(self)
            if self._value is _NONE:
                raise ConfigurationMissing(self._without_value())
        return self._value  # type: ignore[no-any-return]  # It is what _parse made, or the default.

    def on_change(self, listener: Callable[[T, T], object]) -> Callable[[T, T], object]:
        """Call ``listener(new, old)`` when the value has become another; not for the first value. A decorator, too.

        It runs on the thread that reads a value next, before that gets it. What it raises is logged, without the value, and
        changes nothing else: the value is the new one.
        """
        self._listeners.append(listener)
        return listener

    @property
    def config(self) -> Owner:
        """The ``Config`` that made it."""
        return self._config

    def __repr__(self) -> str:
        return f"<Setting {self.name}>"

    def _without_value(self) -> str:
        return f"there is no value for the parameter {self.name}: {self._fault}"

    def _has_value(self) -> bool:
        return self._value is not _NONE

    def _fall_back(self) -> None:
        """Nothing is known of it yet, and there is no more time to wait: its default, if there is one."""
        if self._value is _NONE and self._default is not NO_DEFAULT:
            self._value = self._default

    def _take(self, found: Mapping[str, Found], unanswered: str) -> Change | None:
        """What was found of it, by whole names; ``unanswered`` says which sources above have never answered, and why."""
        if self._found is not None and _texts(found) == _texts(self._found):
            self._told = ""
            return None
        old, is_hierarchical = self._value, is_hierarchy(self.name)
        if not found and not (is_hierarchical and not unanswered and self._default is NO_DEFAULT):
            return self._take_nothing(unanswered)
        try:
            value = self._parsed(found)
        except Unparsed as error:
            self._keep(str(error), _version(found))
            return None
        self._value, self._found, self._told = value, found, ""
        return self._changed(old, _version(found))

    def _parsed(self, found: Mapping[str, Found]) -> Any:
        if not self._is_secret and any(one.is_secret for one in found.values()):
            raise Unparsed("it is a secret: read it with config.secret, or a hierarchy of them with secrets=True")
        if not is_hierarchy(self.name):
            return self._parse(next(iter(found.values())).text)
        made = {}
        for name, one in found.items():
            try:
                made[name.removeprefix(self.name)] = self._parse(one.text)
            except Unparsed as error:
                fault = f"{name}: {error}"
                break
        else:
            return made
        raise Unparsed(fault)

    def _take_nothing(self, unanswered: str) -> Change | None:
        """No source that has answered has it."""
        old = self._value
        if self._default is not NO_DEFAULT:
            if self._value is _NONE or self._found:
                self._value = self._default
            self._found = None if unanswered else {}
            return self._changed(old, "its default")
        if unanswered:
            self._fault = unanswered
        else:
            self._fault = (
                f"{self._config.places_of(self.name)} has none of this name. Put it there, or declare a default"
            )
        if old is not _NONE:
            self._tell(
                f"the parameter {self.name} is gone from {self._config.label}, and has no default: its last value stays"
            )
        return None

    def _keep(self, fault: str, version: str) -> None:
        """It can't be parsed: the last good value stays, or the default, if there is one."""
        where = f"the parameter {self.name}{version and f' ({version})'}"
        self._fault = f"{fault}{version and f' ({version})'}"
        self._fall_back()
        what = "there is no value" if self._value is _NONE else "its last good value stays"
        what = "its default is used" if self._value is self._default else what
        self._tell(f"{where} can't be used, so {what}: {fault}")

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            log.error("%s", line)

    def _changed(self, old: Any, version: str) -> Change | None:
        if old is _NONE or _is_same(old, self._value):
            return None
        log.info("the parameter %s has changed%s", self.name, version and f": {version}")
        return Change(self, self._value, old)


class Change:
    """A value that has become another, for those who listen."""

    __slots__ = ("_new", "_old", "_setting")

    def __init__(self, setting: Setting[Any], new: Any, old: Any) -> None:
        self._setting = setting
        self._new = new
        self._old = old

    def tell(self) -> None:
        """Call the listeners. Nothing raises."""
        for listener in self._setting._listeners:
            try:
                listener(self._new, self._old)
            except Exception as error:  # noqa: BLE001  # It is the user's; the function goes on with the new value.
                log.error("a listener of the parameter %s has failed: %s", self._setting.name, self._reason(error))

    def _reason(self, error: Exception) -> str:
        """Why, without the value: of a secret not even the message, which may quote it in part."""
        if self._setting._is_secret:
            return type(error).__name__ + place(error)
        try:
            shown = {show(value) for value in (self._new, self._old) for show in (repr, str)} - {""}
        except Exception:  # noqa: BLE001  # A value that can't print itself can't be cut out of the message.
            return type(error).__name__ + place(error)
        return reason(error, without=sorted(shown, key=len, reverse=True))


def _is_same(old: Any, new: Any) -> bool:
    """Of values that can't be compared, as numpy's arrays, it is known only that the text has changed, or that they are one."""
    if old is new:
        return True
    try:
        return bool(old == new)
    except Exception:  # noqa: BLE001  # It is the user's type, and no read of a parameter may fail for it.
        return False


def _texts(found: Mapping[str, Found]) -> dict[str, tuple[str, bool]]:
    return {name: (one.text, one.is_secret) for name, one in found.items()}


def _version(found: Mapping[str, Found]) -> str:
    return next(iter(found.values())).version if len(found) == 1 else ""

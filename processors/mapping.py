"""From an event to a row or a document: each name, with the path of the field that fills it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from streamkit.errors import ConfigurationError, StreamkitError

if TYPE_CHECKING:
    from streamkit.config import Config

__all__ = ["FieldMapping", "FollowedMapping", "MissingField", "field"]

_EVERYTHING = "*"


class MissingField(StreamkitError, LookupError):
    """An event lacks a field that the mapping names.

    It may be the mapping that is wrong, and not the event: an ordinary failure, which is tried again, and no ``Reject``.
    """


class FieldMapping:
    """``{"origin": "origin", "city": "address.city"}``: name → path, as fields within fields with dots between.

    The name ``*`` takes every field of the object at its path under the field's own name; names that are given win over
    it. The empty path is the event itself, so ``{"*": ""}`` is the event as it is, and the default.
    """

    def __init__(self, paths: dict[str, str]) -> None:
        self._everything = paths.get(_EVERYTHING)
        self._paths = {name: path for name, path in paths.items() if name != _EVERYTHING}

    @classmethod
    def from_env(cls, name: str) -> FieldMapping:
        """The mapping that the environment variable ``name`` holds as JSON; ConfigurationError if it holds another thing."""
        text = os.environ.get(name)
        if not text:
            return cls({_EVERYTHING: ""})
        try:
            return cls(msgspec.json.decode(text, type=dict[str, str]))
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ConfigurationError(
                f'the environment variable {name} holds a mapping in JSON, such as {{"city": "address.city"}}: {error}'
            ) from None

    def of(self, event: Any) -> dict[str, Any]:
        """The names with their values. MissingField, naming the path, where the event lacks one."""
        mapped: dict[str, Any] = {}
        if self._everything is not None:
            everything = field(event, self._everything)
            if not isinstance(everything, dict):
                raise MissingField(f"the event's field {self._everything!r} is not an object")
            mapped |= everything
        for name, path in self._paths.items():
            mapped[name] = field(event, path)
        return mapped


class FollowedMapping(FieldMapping):
    """The mapping that the parameter ``name`` holds as JSON, as it is now.

    It has no default: where there is none, or SSM can't be asked, events wait and are not written in another form.
    """

    def __init__(self, config: Config, name: str) -> None:
        self._setting = config.value(name, type=dict[str, str], then=FieldMapping)

    def of(self, event: Any) -> dict[str, Any]:
        return self._setting.value.of(event)


def field(event: Any, path: str) -> Any:
    """The value of the field at ``path``; MissingField, naming the path, where there is none."""
    value = event
    for name in path.split(".") if path else ():
        if not isinstance(value, dict) or name not in value:
            raise MissingField(f"the event has no field {path!r}")
        value = value[name]
    return value

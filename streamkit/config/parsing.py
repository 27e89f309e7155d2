"""From a parameter's text to its value. What is wrong is said without a word of the text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ..errors import ConfigurationError
from .secret import Secret

__all__ = ["Parse", "Unparsed", "boolean", "hidden", "integer", "number", "of_type", "text", "texts", "then"]

Parse = Callable[[str], Any]
N = TypeVar("N", int, float)

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
# int() also takes 1_000, digits of any script, and as many as it has time for.
_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")
# msgspec quotes what it was given between these, and names of fields between others.
_QUOTED = re.compile(r"'.*'", re.DOTALL)


class Unparsed(Exception):
    """Why a text is no value; it holds nothing of the text."""


def text(value: str) -> str:
    return value


def texts(value: str) -> tuple[str, ...]:
    """An SSM StringList, ``a,b``; or a JSON array of texts."""
    if value.lstrip().startswith("["):
        found: tuple[str, ...] = of_type(tuple[str, ...])(value)
        return found
    return tuple(part.strip() for part in value.split(",")) if value.strip() else ()


def integer(at_least: int | None, at_most: int | None) -> Parse:
    def parse(value: str) -> int:
        if not _INTEGER.fullmatch(value.strip()):
            raise Unparsed("it is no whole number")
        return _within(int(value), at_least, at_most)

    return parse


def number(at_least: float | None, at_most: float | None) -> Parse:
    def parse(value: str) -> float:
        found = float("nan")
        if "_" not in value and value.isascii():
            try:
                found = float(value)
            except ValueError:
                found = float("nan")
        if not float("-inf") < found < float("inf"):
            raise Unparsed("it is no number")
        return _within(found, at_least, at_most)

    return parse


def _within(value: N, at_least: float | None, at_most: float | None) -> N:
    if at_least is not None and value < at_least:
        raise Unparsed(f"it is less than {at_least}")
    if at_most is not None and value > at_most:
        raise Unparsed(f"it is more than {at_most}")
    return value


def boolean(value: str) -> bool:
    word = value.strip().lower()
    if word not in _TRUE + _FALSE:
        raise Unparsed("it is none of true, yes, on, 1, false, no, off and 0")
    return word in _TRUE


def of_type(type_: Any) -> Parse:
    """JSON of a type that msgspec knows, ConfigurationError for another; or the text itself, of a type of texts."""
    try:
        decode = msgspec.json.Decoder(type_).decode
    except TypeError as error:
        raise ConfigurationError(f"type={type_!r} is none that msgspec can decode: {error}") from None

    def parse(value: str) -> Any:
        try:
            return decode(value)
        except msgspec.ValidationError as error:
            what = f"its type raised {_kind(error.__cause__ or error)}" if _is_own(error) else _without_quotes(error)
            fault = f"it is no {_named(type_)}: {what}"
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            fault = f"it is no JSON, and no {_named(type_)} either"
        except Exception as error:  # noqa: BLE001  # The type's own, too: msgspec makes its own of two kinds only.
            fault = f"it is no {_named(type_)}: its type raised {_kind(error)}"
        try:
            # As slow, or 2026-11-30, which no JSON is.
            return msgspec.convert(value, type_, strict=False)
        except Exception:  # noqa: BLE001, S110  # What was wrong with it is known already.
            pass
        # Raised out here, so that an error which may quote it is not this one's context.
        raise Unparsed(fault)

    return parse


def then(parse: Parse, make: Callable[[Any], Any]) -> Parse:
    """``make`` of what was parsed. Whatever it raises is a fault of the value."""

    def parse_and_make(value: str) -> Any:
        parsed = parse(value)
        try:
            return make(parsed)
        except Exception as error:  # noqa: BLE001  # It is the user's, and the last good value stays.
            fault = _kind(error)
        raise Unparsed(f"what is made of it raised {fault}")

    return parse_and_make


def hidden(parse: Parse) -> Parse:
    """The value as a Secret; what is wrong with it says less."""

    def parse_and_hide(value: str) -> Secret[Any]:
        try:
            return Secret(parse(value))
        except Unparsed:
            fault = "it is not of its type"
        raise Unparsed(f"{fault}; what it is instead is not told of a secret")

    return parse_and_hide


def _is_own(error: Exception) -> bool:
    """Whether it is the type's own, of its __post_init__ or the like, whose message may quote the text: msgspec has made it of
    another, or it comes out of Python's code, of which msgspec has none.
    """
    return error.__cause__ is not None or (error.__traceback__ is not None and error.__traceback__.tb_next is not None)


def _without_quotes(error: Exception) -> str:
    return _QUOTED.sub("…", str(error))


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _named(type_: Any) -> str:
    return getattr(type_, "__name__", None) or str(type_)

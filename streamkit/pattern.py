"""Event patterns: which events a filter or a rule is for, in the language of Lambda's filter criteria.

    Pattern({"order": {"type": ["buy", "sell"], "total": [{"numeric": [">", 0, "<=", 100]}]}}).matches(event)

A pattern has the form of the events that it matches: every field that it names must match (AND), by one of the rules in its list
(OR). Fields that it does not name count for nothing.

    "buy", 300, true, false, null         exactly this; a number is compared as a number, so 300 is 300.0
    {"prefix": "eu-"}, {"suffix": ".png"}
    {"equals-ignore-case": "alice"}
    {"anything-but": "buy"}               or a number, a list of texts, a list of numbers, {"prefix": …} or {"suffix": …}
    {"numeric": [">", 0, "<=", 5]}        "=", "<", "<=", ">", ">=", or a range, its lower bound first
    {"exists": true}, {"exists": false}
    "$or": [{…}, {…}]                     in place of a field: one of these patterns matches

Sources: "Lambda event filtering" in AWS's Lambda guide, whose table of operators this is, and the EventBridge guide, which it
refers to. ``anything-but`` with a prefix or suffix is EventBridge's; Lambda's table does not list it. What EventBridge alone has
(``wildcard``, ``cidr``, ``equals-ignore-case`` within others) is an error that names it.

What the guides leave open, or say otherwise than AWS does (by the source of its matcher, aws/event-ruler, and LocalStack's
recordings of EventBridge):

  - The guides call 300 and 300.0 unequal. EventBridge matches them, and so does this.
  - A field has a value where it is a text, a number, true, false or null, or an array with one of these in it. An object is
    none, nor is an empty array: ``exists`` false matches them, and ``null`` is a value like another.
  - Of an array, also of arrays in it, one element has to match, and one and the same has to match all of an object pattern.
    ``anything-but`` thus matches ["buy", "sell"] by either.
  - ``exists`` false looks at the whole event: no element of an array may have the field. (AWS's matcher looks only at the
    element that another field of the pattern, with a name that sorts before this one, has matched in.)
  - ``numeric`` knows numbers from -5e9 to 5e9, as the EventBridge guide says: others are an error in a pattern, and match nothing
    in an event. Within that they are compared exactly, where EventBridge promises six digits after the point.
  - A dot in a name is a character like another. (EventBridge takes ``a.b`` for ``b`` in ``a`` as well.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from .errors import ConfigurationError

__all__ = ["Pattern"]

_Test = Callable[[Any], bool]

_MISSING: Any = object()
_OR = "$or"
_MOST_NUMERIC = 5e9
# Objects within objects: ours, so that matching never runs out of stack.
_DEEPEST = 50
_EVENTBRIDGE_ONLY = ("wildcard", "cidr", "exactly")
# What a value is compared as: a bool is no number, and there is one kind of number.
_KINDS: dict[type, str] = {str: "text", int: "number", float: "number", bool: "bool", type(None): "null"}


class Pattern:
    """A pattern, from its JSON text or as a mapping. It is compiled here, once.

    ConfigurationError, with the path of the field and the rule, where it is not one.
    """

    def __init__(self, pattern: str | Mapping[str, Any]) -> None:
        self._root = _object(_parsed(pattern), (), ())

    def matches(self, event: Any) -> bool:
        """Whether ``event``, a value as JSON has it, matches. Never raises; what is no object matches nothing."""
        return isinstance(event, dict) and self._root.matches_object(event, _Absence(event))


class _Absence(msgspec.Struct):
    """Which fields the event has nowhere. Each is looked for once: as many elements as an array has can ask."""

    event: dict[str, Any]
    known: dict[tuple[str, ...], bool] = msgspec.field(default_factory=dict)

    def of(self, path: tuple[str, ...]) -> bool:
        if path not in self.known:
            values: list[Any] = [self.event]
            for name in path:
                values = [found[name] for found in _objects(values) if name in found]
            self.known[path] = not _scalars(values)
        return self.known[path]


class _Leaf(msgspec.Struct, frozen=True):
    """The rules of a field."""

    path: tuple[str, ...]
    exact: frozenset[tuple[str, Any]]
    tests: tuple[_Test, ...]
    matches_absence: bool

    def matches(self, value: Any, absence: _Absence) -> bool:
        for scalar in _scalars(value):
            kind = _KINDS.get(type(scalar))
            if kind is not None and (kind, scalar) in self.exact:
                return True
            if any(test(scalar) for test in self.tests):
                return True
        return self.matches_absence and absence.of(self.path)


class _Object(msgspec.Struct, frozen=True):
    """The fields that an object must have, and the alternatives of ``$or`` of which it must match one."""

    fields: tuple[tuple[str, _Leaf | _Object], ...]
    alternatives: tuple[_Object, ...]

    def matches(self, value: Any, absence: _Absence) -> bool:
        """Whether an object in ``value`` matches. Where there is none, its fields are absent, which can match too."""
        return any(self.matches_object(candidate, absence) for candidate in _objects(value) or [{}])

    def matches_object(self, candidate: dict[str, Any], absence: _Absence) -> bool:
        if not all(part.matches(candidate.get(name, _MISSING), absence) for name, part in self.fields):
            return False
        return not self.alternatives or any(one.matches_object(candidate, absence) for one in self.alternatives)


def _elements(array: list[Any]) -> Iterator[Any]:
    """What is in an array and in the arrays in it. No recursion: an event can be deep."""
    waiting = [iter(array)]
    while waiting:
        for element in waiting[-1]:
            if isinstance(element, list):
                waiting.append(iter(element))
                break
            yield element
        else:
            waiting.pop()


def _scalars(value: Any) -> Sequence[Any]:
    if isinstance(value, list):
        return [element for element in _elements(value) if not isinstance(element, dict)]
    return () if value is _MISSING or isinstance(value, dict) else (value,)


def _objects(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [element for element in _elements(value) if isinstance(element, dict)]
    return [value] if isinstance(value, dict) else []


def _parsed(pattern: Any) -> dict[str, Any]:
    if isinstance(pattern, Mapping):
        # Through its text, so that it is JSON, and nothing that its owner does to it later changes this pattern.
        try:
            pattern = json.dumps(dict(pattern), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"the pattern is not JSON: {error}") from None
    if not isinstance(pattern, str):
        raise ConfigurationError(f"a pattern is a mapping or its JSON text; got a {type(pattern).__name__}")
    try:
        parsed = msgspec.json.decode(pattern)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigurationError(f"the pattern is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise _fault((), "a pattern is an object: {field: [rules]}")
    return parsed


def _object(raw: dict[str, Any], path: tuple[str, ...], shown: tuple[str, ...]) -> _Object:
    """``path`` is that in the event, ``shown`` that in the pattern: an ``$or`` is no field."""
    if not raw:
        raise _fault(shown, "an object without fields; name at least one")
    if len(shown) > _DEEPEST:
        raise _fault(shown[:3], f"objects within objects, more than {_DEEPEST} deep")
    fields: list[tuple[str, _Leaf | _Object]] = []
    alternatives: tuple[_Object, ...] = ()
    for name, value in raw.items():
        inner = (*shown, name)
        if name == _OR:
            alternatives = _alternatives(value, path, inner)
        elif isinstance(value, dict):
            fields.append((name, _object(value, (*path, name), inner)))
        elif isinstance(value, list):
            fields.append((name, _leaf(value, (*path, name), inner)))
        else:
            raise _fault(inner, "rules go in a list: [value], or an object for the fields within it")
    return _Object(tuple(fields), alternatives)


def _alternatives(value: Any, path: tuple[str, ...], shown: tuple[str, ...]) -> tuple[_Object, ...]:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(one, dict) for one in value):
        raise _fault(shown, "takes a list of two or more objects, each a pattern")
    for one in value:
        for name in one:
            if name in _OPERATORS or name in _EVENTBRIDGE_ONLY:
                raise _fault(shown, f'"{name}" is an operator and no field; write {{"field": [{{"{name}": …}}]}}')
    return tuple(_object(one, path, (*shown, str(n))) for n, one in enumerate(value))


def _leaf(rules: list[Any], path: tuple[str, ...], shown: tuple[str, ...]) -> _Leaf:
    if not rules:
        raise _fault(shown, "an empty list matches nothing; name at least one rule")
    exact: set[tuple[str, Any]] = set()
    tests: list[_Test] = []
    matches_absence = False
    for rule in rules:
        if isinstance(rule, list):
            raise _fault(shown, "a list within the list; a rule is a value or an object with one operator")
        if not isinstance(rule, dict):
            exact.add((_KINDS[type(rule)], rule))
            continue
        if len(rule) != 1:
            raise _fault(shown, f"a rule has one operator; this one has {len(rule)}: {_names(rule)}")
        ((operator, operand),) = rule.items()
        if operator == "exists" and operand is False:
            matches_absence = True
        elif operator in _OPERATORS:
            tests.append(_OPERATORS[operator](operand, shown))
        elif operator in _EVENTBRIDGE_ONLY:
            raise _fault(
                shown, f"\"{operator}\" is of EventBridge's patterns and not of Lambda's; use {_names(_OPERATORS)}"
            )
        else:
            raise _fault(shown, f'no operator "{operator}"; there are {_names(_OPERATORS)}')
    return _Leaf(path, frozenset(exact), tuple(tests), matches_absence)


def _prefix(operand: Any, path: tuple[str, ...]) -> _Test:
    text = _text("prefix", operand, path)
    return lambda value: isinstance(value, str) and value.startswith(text)


def _suffix(operand: Any, path: tuple[str, ...]) -> _Test:
    text = _text("suffix", operand, path)
    return lambda value: isinstance(value, str) and value.endswith(text)


def _equals_ignore_case(operand: Any, path: tuple[str, ...]) -> _Test:
    text = _text("equals-ignore-case", operand, path).lower()
    return lambda value: isinstance(value, str) and value.lower() == text


def _exists(operand: Any, path: tuple[str, ...]) -> _Test:
    if operand is not True:
        raise _fault(path, '"exists" takes true or false')
    return lambda value: True


def _anything_but(operand: Any, path: tuple[str, ...]) -> _Test:
    if isinstance(operand, dict):
        if len(operand) != 1 or not operand.keys() <= {"prefix", "suffix"}:
            raise _fault(path, f'"anything-but" takes values, one "prefix" or one "suffix"; not {_names(operand)}')
        ((operator, text),) = operand.items()
        if text == "":
            raise _fault(path, f'"anything-but" with an empty {operator} would match no text at all')
        starts_or_ends = _OPERATORS[operator](text, path)
        return lambda value: not starts_or_ends(value)
    values = operand if isinstance(operand, list) else [operand]
    kinds = {_KINDS.get(type(value)) for value in values}
    if kinds not in ({"text"}, {"number"}):
        raise _fault(path, '"anything-but" takes a text, a number, a list of texts or a list of numbers')
    (kind,) = kinds
    excluded = frozenset(values)
    return lambda value: _KINDS.get(type(value)) != kind or value not in excluded


def _numeric(operand: Any, path: tuple[str, ...]) -> _Test:
    """Each operator compares in its own way; a range has a lower and then an upper bound."""
    terms = operand if isinstance(operand, list) else []
    operators, numbers = tuple(terms[::2]), terms[1::2]
    known = all(isinstance(operator, str) for operator in operators) and operators in _NUMERIC_FORMS
    if not known or len(terms) % 2 or not all(_is_number(number) for number in numbers):
        raise _fault(
            path, '"numeric" takes ["=", 5], ["<", 5] and so on, or a range, its lower bound first: [">", 0, "<=", 5]'
        )
    if not all(_is_comparable(number) for number in numbers):
        raise _fault(path, '"numeric" takes numbers from -5e9 to 5e9 (EventBridge\'s limit)')
    if len(numbers) == 2 and numbers[0] >= numbers[1]:
        raise _fault(
            path, f'"numeric" with a lower bound of {numbers[0]} and an upper one of {numbers[1]} has nothing between'
        )
    comparisons = [(_COMPARISONS[operator], number) for operator, number in zip(operators, numbers, strict=True)]

    def compare(value: Any) -> bool:
        if not _is_number(value) or not _is_comparable(value):
            return False
        return all(holds(value, number) for holds, number in comparisons)

    return compare


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda value, number: value == number,
    "<": lambda value, number: value < number,
    "<=": lambda value, number: value <= number,
    ">": lambda value, number: value > number,
    ">=": lambda value, number: value >= number,
}
_NUMERIC_FORMS = {(operator,) for operator in _COMPARISONS} | {
    (low, high) for low in (">", ">=") for high in ("<", "<=")
}
_OPERATORS: dict[str, Callable[[Any, tuple[str, ...]], _Test]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignore_case,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
}


def _is_number(value: Any) -> bool:
    return _KINDS.get(type(value)) == "number"


def _is_comparable(number: float) -> bool:
    return -_MOST_NUMERIC <= number <= _MOST_NUMERIC


def _text(operator: str, operand: Any, path: tuple[str, ...]) -> str:
    if not isinstance(operand, str):
        raise _fault(path, f'"{operator}" takes a text; got {json.dumps(operand)[:80]}')
    return operand


def _names(names: Mapping[str, Any]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "nothing"


def _fault(path: tuple[str, ...], what: str) -> ConfigurationError:
    where = ".".join(path)
    return ConfigurationError(f"pattern, {where}: {what}" if where else f"pattern: {what}")

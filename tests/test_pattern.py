"""Event patterns against a table of examples, and against a slow interpreter that takes arrays apart first."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamkit.errors import ConfigurationError
from streamkit.pattern import Pattern

# A pattern, an event, whether they match.
EXAMPLES: list[tuple[Any, Any, bool]] = [
    # The table of operators in AWS's Lambda guide, in its order.
    ({"UserID": [None]}, {"UserID": None}, True),
    ({"UserID": [None]}, {"UserID": ""}, False),
    ({"UserID": [None]}, {}, False),
    ({"LastName": [""]}, {"LastName": ""}, True),
    ({"LastName": [""]}, {"LastName": "Doe"}, False),
    ({"Name": ["Alice"]}, {"Name": "Alice", "Age": 7}, True),
    ({"Name": ["Alice"]}, {"Name": "alice"}, False),
    ({"Name": [{"equals-ignore-case": "alice"}]}, {"Name": "ALICE"}, True),
    ({"Name": [{"equals-ignore-case": "alice"}]}, {"Name": "ALICIA"}, False),
    ({"Location": ["New York"], "Day": ["Monday"]}, {"Location": "New York", "Day": "Monday"}, True),
    ({"Location": ["New York"], "Day": ["Monday"]}, {"Location": "New York", "Day": "Friday"}, False),
    ({"Location": ["New York"], "Day": ["Monday"]}, {"Location": "New York"}, False),
    ({"PaymentType": ["Credit", "Debit"]}, {"PaymentType": "Debit"}, True),
    ({"PaymentType": ["Credit", "Debit"]}, {"PaymentType": "Cash"}, False),
    ({"$or": [{"Location": ["New York"]}, {"Day": ["Monday"]}]}, {"Day": "Monday"}, True),
    ({"$or": [{"Location": ["New York"]}, {"Day": ["Monday"]}]}, {"Day": "Friday"}, False),
    ({"Weather": [{"anything-but": ["Raining"]}]}, {"Weather": "Sunny"}, True),
    ({"Weather": [{"anything-but": ["Raining"]}]}, {"Weather": "Raining"}, False),
    ({"Price": [{"numeric": ["=", 100]}]}, {"Price": 100.0}, True),
    ({"Price": [{"numeric": ["=", 100]}]}, {"Price": "100"}, False),
    ({"Price": [{"numeric": [">", 10, "<=", 20]}]}, {"Price": 20}, True),
    ({"Price": [{"numeric": [">", 10, "<=", 20]}]}, {"Price": 10}, False),
    ({"ProductName": [{"exists": True}]}, {"ProductName": None}, True),
    ({"ProductName": [{"exists": True}]}, {"Other": "x"}, False),
    ({"ProductName": [{"exists": False}]}, {"Other": "x"}, True),
    ({"ProductName": [{"exists": False}]}, {"ProductName": "x"}, False),
    ({"Region": [{"prefix": "us-"}]}, {"Region": "us-east-1"}, True),
    ({"Region": [{"prefix": "us-"}]}, {"Region": "eu-west-1"}, False),
    ({"FileName": [{"suffix": ".png"}]}, {"FileName": "cat.png"}, True),
    ({"FileName": [{"suffix": ".png"}]}, {"FileName": "cat.PNG"}, False),
    # Types are told apart; numbers are numbers however they are written.
    ({"a": [1]}, {"a": True}, False),
    ({"a": [True]}, {"a": 1}, False),
    ({"a": [False]}, {"a": 0}, False),
    ({"a": [False]}, {"a": False}, True),
    ({"a": [0]}, {"a": None}, False),
    ({"a": [300]}, {"a": 300.0}, True),
    ('{"a": [3.0e2]}', {"a": 300}, True),
    ({"a": [300]}, {"a": "300"}, False),
    ({"a": [10**30]}, {"a": 10**30}, True),
    ({"a": [10**30]}, {"a": 10**30 + 1}, False),
    ({"a": [{"prefix": "1"}]}, {"a": 1}, False),
    ({"a": [{"numeric": ["<=", 1]}]}, {"a": True}, False),
    ({"a": [{"numeric": ["<", 1]}]}, {"a": 0.999}, True),
    ({"a": [{"numeric": [">=", -1.5]}]}, {"a": -1.5}, True),
    ({"a": [{"numeric": [">", 0]}]}, {"a": 5e9}, True),
    ({"a": [{"numeric": [">", 0]}]}, {"a": 5_000_000_001}, False),
    ({"a": [{"numeric": ["<", 0]}]}, {"a": float("nan")}, False),
    # anything-but, as EventBridge was recorded: any value but those, and not the lack of one.
    ({"a": [{"anything-but": "x"}]}, {"a": None}, True),
    ({"a": [{"anything-but": "x"}]}, {"a": 1}, True),
    ({"a": [{"anything-but": "x"}]}, {}, False),
    ({"a": [{"anything-but": "x"}]}, {"a": {"b": "y"}}, False),
    ({"a": [{"anything-but": 1}]}, {"a": 1.0}, False),
    ({"a": [{"anything-but": 1}]}, {"a": True}, True),
    ({"a": [{"anything-but": [1, 2]}]}, {"a": "1"}, True),
    ({"a": [{"anything-but": {"prefix": "in"}}]}, {"a": "init"}, False),
    ({"a": [{"anything-but": {"prefix": "in"}}]}, {"a": 12}, True),
    ({"a": [{"anything-but": {"suffix": "it"}}]}, {"a": "init"}, False),
    ({"a": [{"anything-but": {"suffix": "it"}}]}, {"a": "exit 1"}, True),
    ({"a": [{"anything-but": "x"}]}, {"a": ["x", "y"]}, True),
    ({"a": [{"anything-but": "x"}]}, {"a": ["x"]}, False),
    # Rules of all kinds in one list.
    ({"a": [{"prefix": "x"}, 7, {"exists": False}]}, {"a": "xy"}, True),
    ({"a": [{"prefix": "x"}, 7, {"exists": False}]}, {"a": 7}, True),
    ({"a": [{"prefix": "x"}, 7, {"exists": False}]}, {}, True),
    ({"a": [{"prefix": "x"}, 7, {"exists": False}]}, {"a": "y"}, False),
    # Objects in objects.
    ({"a": {"b": {"c": [1]}}}, {"a": {"b": {"c": 1}}}, True),
    ({"a": {"b": {"c": [1]}}}, {"a": {"b": 1}}, False),
    ({"a": {"b": {"c": [1]}}}, {"a": {"b.c": 1}}, False),
    ({"a": [{"exists": True}]}, {"a": {"b": 1}}, False),
    ({"a": [{"exists": False}]}, {"a": {"b": 1}}, True),
    ({"a": {"b": [{"exists": False}]}}, {}, True),
    ({"a": {"b": [{"exists": False}]}}, {"a": 5}, True),
    ({"a": {"b": [{"exists": False}], "c": [1]}}, {"a": {"c": 1}}, True),
    # Arrays.
    ({"a": [1, 2]}, {"a": [3, 2]}, True),
    ({"a": [1, 2]}, {"a": [[3], [[4, 1]]]}, True),
    ({"a": [1, 2]}, {"a": [3, 4]}, False),
    ({"a": [None]}, {"a": []}, False),
    ({"a": [{"exists": True}]}, {"a": []}, False),
    ({"a": [{"exists": False}]}, {"a": []}, True),
    ({"a": [{"exists": False}]}, {"a": [[], {"b": 1}]}, True),
    ({"a": [1]}, {"a": [{"b": 2}, 1]}, True),
    ({"a": {"b": [2]}}, {"a": [1, {"b": 1}, [{"b": 2}]]}, True),
    ({"a": {"first": ["Anna"], "last": ["Smith"]}}, {"a": [{"first": "Anna", "last": "Smith"}, {}]}, True),
    (
        {"a": {"first": ["Anna"], "last": ["Jones"]}},
        {"a": [{"first": "Anna", "last": "Smith"}, {"first": "Peter", "last": "Jones"}]},
        False,
    ),
    ({"a": {"b": [{"exists": False}]}}, {"a": [{"b": 1}, {"c": 2}]}, False),
    ({"a": {"b": [{"exists": False}]}}, {"a": [{"c": 1}, {"c": 2}]}, True),
    # $or: beside fields, within objects and within itself.
    ({"s": [1], "$or": [{"a": [1]}, {"b": [1]}]}, {"s": 1, "b": 1}, True),
    ({"s": [1], "$or": [{"a": [1]}, {"b": [1]}]}, {"s": 2, "b": 1}, False),
    ({"d": {"$or": [{"a": [1]}, {"b": [1], "c": [1]}]}}, {"d": {"b": 1}}, False),
    ({"d": {"$or": [{"a": [1]}, {"b": [1], "c": [1]}]}}, {"d": {"b": 1, "c": 1}}, True),
    ({"$or": [{"a": [1]}, {"$or": [{"b": [1]}, {"c": [1]}]}]}, {"c": 1}, True),
    ({"$or": [{"a": {"b": [{"exists": False}]}}, {"c": [1]}]}, {"a": {"b": 1}, "c": 2}, False),
]


@pytest.mark.parametrize(("pattern", "event", "matches"), EXAMPLES)
def test_example(pattern: Any, event: Any, matches: bool) -> None:
    assert Pattern(pattern).matches(event) is matches


@pytest.mark.parametrize("event", [None, True, 5, "text", [], [{"a": 1}]])
def test_what_is_no_object_matches_nothing(event: Any) -> None:
    assert not Pattern({"a": [1]}).matches(event)
    assert not Pattern({"a": [{"exists": False}]}).matches(event)


def test_a_pattern_is_a_text_or_a_mapping_that_no_one_can_change_afterwards() -> None:
    mapping = {"a": [1]}
    pattern = Pattern(mapping)

    mapping["a"][0] = 2

    assert pattern.matches({"a": 1})
    assert Pattern('{"a": [1]}').matches({"a": 1})


FAULTS: list[tuple[Any, str]] = [
    ("{", "pattern is not JSON"),
    ("[]", "a pattern is an object"),
    (5, "a mapping or its JSON text; got a int"),
    ({"a": [object()]}, "pattern is not JSON"),
    ({"a": [float("nan")]}, "pattern is not JSON"),
    ({}, "an object without fields"),
    ({"a": {"b": {}}}, "pattern, a.b: an object without fields"),
    ({"a": {"b": "x"}}, "pattern, a.b: rules go in a list"),
    ({"a": {"b": []}}, "pattern, a.b: an empty list"),
    ({"a": [[1]]}, "pattern, a: a list within the list"),
    ({"a": [{}]}, "pattern, a: a rule has one operator; this one has 0"),
    (
        {"a": [{"prefix": "x", "suffix": "y"}]},
        'pattern, a: a rule has one operator; this one has 2: "prefix", "suffix"',
    ),
    ({"a": [{"Prefix": "x"}]}, 'pattern, a: no operator "Prefix"; there are "prefix", "suffix"'),
    ({"a": [{"wildcard": "x*"}]}, 'pattern, a: "wildcard" is of EventBridge'),
    ({"a": [{"cidr": "10.0.0.0/8"}]}, 'pattern, a: "cidr" is of EventBridge'),
    ({"a": [{"prefix": 1}]}, 'pattern, a: "prefix" takes a text; got 1'),
    ({"a": [{"prefix": {"equals-ignore-case": "x"}}]}, 'pattern, a: "prefix" takes a text'),
    ({"a": [{"suffix": None}]}, 'pattern, a: "suffix" takes a text; got null'),
    ({"a": [{"equals-ignore-case": ["x"]}]}, 'pattern, a: "equals-ignore-case" takes a text'),
    ({"a": [{"exists": 1}]}, 'pattern, a: "exists" takes true or false'),
    ({"a": [{"exists": "true"}]}, 'pattern, a: "exists" takes true or false'),
    ({"a": [{"anything-but": None}]}, 'pattern, a: "anything-but" takes a text, a number'),
    ({"a": [{"anything-but": True}]}, 'pattern, a: "anything-but" takes a text, a number'),
    ({"a": [{"anything-but": []}]}, 'pattern, a: "anything-but" takes a text, a number'),
    ({"a": [{"anything-but": ["x", 1]}]}, 'pattern, a: "anything-but" takes a text, a number'),
    ({"a": [{"anything-but": [["x"]]}]}, 'pattern, a: "anything-but" takes a text, a number'),
    ({"a": [{"anything-but": {"prefix": ""}}]}, 'pattern, a: "anything-but" with an empty prefix'),
    ({"a": [{"anything-but": {"prefix": 1}}]}, 'pattern, a: "prefix" takes a text; got 1'),
    ({"a": [{"anything-but": {"prefix": "x", "suffix": "y"}}]}, 'not "prefix", "suffix"'),
    ({"a": [{"anything-but": {"wildcard": "x"}}]}, 'not "wildcard"'),
    ({"a": [{"anything-but": {}}]}, "not nothing"),
    ({"a": [{"numeric": 5}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": []}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": [">"]}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": ["!=", 5]}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": [[], 5]}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": [">", "5"]}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": [">", True]}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": ["<", 5, ">", 0]}]}, "its lower bound first"),
    ({"a": [{"numeric": ["=", 5, "<", 9]}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": [">", 0, "<", 5, "<", 6]}]}, 'pattern, a: "numeric" takes'),
    ({"a": [{"numeric": [">", 5, "<", 5]}]}, "has nothing between"),
    ({"a": [{"numeric": [">", 5e9 + 1]}]}, "from -5e9 to 5e9"),
    ({"$or": [{"a": [1]}]}, r"pattern, \$or: takes a list of two or more"),
    ({"$or": {"a": [1]}}, r"pattern, \$or: takes a list of two or more"),
    ({"d": {"$or": [{"a": [1]}, 5]}}, r"pattern, d.\$or: takes a list of two or more"),
    ({"$or": [{"a": [1]}, {}]}, r"pattern, \$or.1: an object without fields"),
    ({"$or": [{"a": [1]}, {"b": {"c": []}}]}, r"pattern, \$or.1.b.c: an empty list"),
    ({"$or": [{"a": [1]}, {"prefix": ["x"]}]}, r'pattern, \$or: "prefix" is an operator'),
    ('{"a":' * 60 + "[1]" + "}" * 60, "more than 50 deep"),
    ('{"a":' * 20_000 + "[1]" + "}" * 20_000, "not JSON"),
]


@pytest.mark.parametrize(("pattern", "message"), FAULTS)
def test_a_fault_names_the_path_and_the_rule(pattern: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pattern(pattern)


def test_a_pattern_within_a_cycle_is_a_configuration_error() -> None:
    pattern: dict[str, Any] = {"a": {}}
    pattern["a"]["b"] = pattern

    with pytest.raises(ConfigurationError, match="not JSON"):
        Pattern(pattern)


def test_the_deepest_pattern_matches_the_deepest_event() -> None:
    event: Any = 1
    for _ in range(10_000):
        event = [event]
    for _ in range(50):
        event = {"a": [event]}

    assert Pattern('{"a":' * 50 + "[1]" + "}" * 50).matches(event)


def test_however_many_elements_there_are_each_is_looked_at_once() -> None:
    elements: list[Any] = [{} for _ in range(100_000)]
    pattern = Pattern({"a": {"b": [{"exists": False}], "c": [1]}})

    assert not pattern.matches({"a": elements})
    assert not pattern.matches({"a": [*elements, {"b": 1, "c": 1}]})
    assert pattern.matches({"a": [*elements, {"c": 1}]})


# The reference: an event is taken apart into all events without arrays that a choice of one element of each array makes, and
# one of these has to match. Absence alone is asked of the event as it was.

NAMES = st.sampled_from("ab")
TEXTS = st.sampled_from(["", "x", "X", "xy", "yx", "1"])
NUMBERS = st.sampled_from([0, 1, 1.0, -1.5, 2, 10**30, 5e9, 6e9])
SCALARS = TEXTS | NUMBERS | st.booleans() | st.none()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=2)
BOUNDS = st.sampled_from([-2, 0, 1, 1.5])
RULES = st.one_of(
    SCALARS,
    st.builds(
        lambda operator, text: {operator: text}, st.sampled_from(["prefix", "suffix", "equals-ignore-case"]), TEXTS
    ),
    st.builds(lambda excluded: {"anything-but": excluded}, st.lists(TEXTS, min_size=1, max_size=2) | NUMBERS | TEXTS),
    st.builds(
        lambda operator, text: {"anything-but": {operator: text}},
        st.sampled_from(["prefix", "suffix"]),
        TEXTS.filter(bool),
    ),
    st.builds(lambda operator, n: {"numeric": [operator, n]}, st.sampled_from(["=", "<", "<=", ">", ">="]), BOUNDS),
    st.builds(
        lambda low, high: {"numeric": [low, -1, high, 2]}, st.sampled_from([">", ">="]), st.sampled_from(["<", "<="])
    ),
    st.builds(lambda there: {"exists": there}, st.booleans()),
)
RULE_LISTS = st.lists(RULES, min_size=1, max_size=3)
FIELDS = st.recursive(RULE_LISTS, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=4)
PLAIN = st.dictionaries(NAMES, FIELDS, min_size=1, max_size=2)


def renamed(pattern: Any) -> Any:
    """With names that the patterns beside an ``$or`` don't have: of an array, both could otherwise mean different elements."""
    if not isinstance(pattern, dict):
        return pattern
    return {name.upper(): renamed(inner) for name, inner in pattern.items()}


@st.composite
def patterns_with_or(draw: st.DrawFn) -> dict[str, Any]:
    pattern = draw(PLAIN | st.just({}))
    return pattern | {"$or": [renamed(one) for one in draw(st.lists(PLAIN, min_size=2, max_size=3))]}


@st.composite
def events_for_or(draw: st.DrawFn) -> dict[str, Any]:
    event: dict[str, Any] = renamed_values(draw(EVENTS))
    return event | draw(EVENTS)


def renamed_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.upper(): renamed_values(inner) for name, inner in value.items()}
    return [renamed_values(one) for one in value] if isinstance(value, list) else value


MISSING = object()


def choices(value: Any) -> Iterator[Any]:
    """All that a value can be when one element is chosen of each array in it."""
    if isinstance(value, list):
        yield from itertools.chain.from_iterable(map(choices, value)) if value else [MISSING]
    elif isinstance(value, dict):
        for chosen in itertools.product(*(list(choices(inner)) for inner in value.values())):
            yield dict(zip(value, chosen, strict=True))
    else:
        yield value


def values_at(event: Any, path: tuple[str, ...]) -> list[Any]:
    found = []
    for chosen in choices(event):
        value = chosen
        for name in path:
            value = value.get(name, MISSING) if isinstance(value, dict) else MISSING
        if value is not MISSING and not isinstance(value, dict):
            found.append(value)
    return found


def rule_holds(rule: Any, value: Any) -> bool:
    def is_number(one: Any) -> bool:
        return isinstance(one, int | float) and not isinstance(one, bool)

    if not isinstance(rule, dict):
        return (is_number(rule) and is_number(value) and rule == value) or (type(rule) is type(value) and rule == value)
    ((operator, operand),) = rule.items()
    if operator == "exists":
        return bool(operand)
    if operator == "anything-but":
        if isinstance(operand, dict):
            return not rule_holds(operand, value)
        return not any(rule_holds(one, value) for one in (operand if isinstance(operand, list) else [operand]))
    if operator == "numeric":
        signs = {"=": "==", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
        terms = [f"{value!r} {signs[sign]} {n!r}" for sign, n in zip(operand[::2], operand[1::2], strict=True)]
        return is_number(value) and abs(value) <= 5e9 and all(eval(term) for term in terms)
    if not isinstance(value, str):
        return False
    if operator == "equals-ignore-case":
        return bool(value.lower() == operand.lower())
    return bool(value.startswith(operand) if operator == "prefix" else value.endswith(operand))


def holds(pattern: dict[str, Any], value: Any, event: Any, path: tuple[str, ...] = ()) -> bool:
    fields = value if isinstance(value, dict) else {}
    for name, part in pattern.items():
        if name == "$or":
            if not any(holds(one, value, event, path) for one in part):
                return False
            continue
        inner, there = fields.get(name, MISSING), (*path, name)
        if isinstance(part, dict):
            if not holds(part, inner, event, there):
                return False
            continue
        is_scalar = inner is not MISSING and not isinstance(inner, dict)
        if is_scalar and any(rule_holds(rule, inner) for rule in part if rule != {"exists": False}):
            continue
        if {"exists": False} not in [rule for rule in part if isinstance(rule, dict)] or values_at(event, there):
            return False
    return True


def reference(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    return any(holds(pattern, chosen, event) for chosen in choices(event))


@given(PLAIN, EVENTS)
@example({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]})
@example({"a": {"b": [{"exists": False}]}}, {"a": [{"b": []}, {"b": {"c": 1}}]})
def test_matches_as_the_reference_does(pattern: dict[str, Any], event: dict[str, Any]) -> None:
    assert Pattern(pattern).matches(event) is reference(pattern, event)


@given(patterns_with_or(), events_for_or())
def test_matches_as_the_reference_does_with_or(pattern: dict[str, Any], event: dict[str, Any]) -> None:
    assert Pattern(pattern).matches(event) is reference(pattern, event)


@given(st.lists(TEXTS, min_size=1) | st.lists(NUMBERS, min_size=1), SCALARS)
def test_of_a_scalar_anything_but_is_what_any_of_is_not(values: list[Any], scalar: Any) -> None:
    any_of, anything_but = Pattern({"a": values}), Pattern({"a": [{"anything-but": values}]})

    assert any_of.matches({"a": scalar}) is not anything_but.matches({"a": scalar})


@given(st.lists(PLAIN, min_size=2, max_size=3), EVENTS)
def test_or_is_the_union_of_its_patterns(patterns: list[dict[str, Any]], event: dict[str, Any]) -> None:
    assert Pattern({"$or": patterns}).matches(event) is any(Pattern(one).matches(event) for one in patterns)


@given(RULE_LISTS, EVENTS)
def test_a_list_is_the_union_of_its_rules(rules: list[Any], event: dict[str, Any]) -> None:
    assert Pattern({"a": rules}).matches(event) is any(Pattern({"a": [rule]}).matches(event) for rule in rules)


@given(FIELDS, FIELDS, EVENTS)
def test_fields_are_the_intersection(one: Any, other: Any, event: dict[str, Any]) -> None:
    both = Pattern({"a": one, "b": other}).matches(event)

    assert both is (Pattern({"a": one}).matches(event) and Pattern({"b": other}).matches(event))


@given(RULES.filter(lambda rule: rule != {"exists": False}), st.lists(SCALARS, max_size=4))
def test_of_an_array_any_element_matches(rule: Any, elements: list[Any]) -> None:
    pattern = Pattern({"a": [rule]})

    assert pattern.matches({"a": elements}) is any(pattern.matches({"a": element}) for element in elements)


@given(VALUES)
def test_a_field_either_exists_or_does_not(value: Any) -> None:
    there, not_there = Pattern({"a": [{"exists": True}]}), Pattern({"a": [{"exists": False}]})

    assert there.matches({"a": value}) is not not_there.matches({"a": value})


@given(PLAIN | patterns_with_or(), EVENTS)
def test_a_mapping_and_its_text_are_the_same_pattern(pattern: dict[str, Any], event: dict[str, Any]) -> None:
    assert Pattern(pattern).matches(event) is Pattern(json.dumps(pattern)).matches(event)

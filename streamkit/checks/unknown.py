"""Values that are known to nobody before the deployment: the account, a name that AWS makes up, a parameter without a value.

Each is a text of its own that can stand within others, so that an ARN or a URL is put together with it as the deployment would
put it together, and two places that name one thing are seen to. What a text does not say for certain, is told by its marks.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["Unknowns", "hangs_on_a_value", "is_known", "is_same", "is_same_home", "may_be", "without_homes"]

# Its form goes through wherever such texts are checked: names of buckets and queues, parts of hosts and ARNs.
_MARK = re.compile(r"streamkit-(?:unknown|named)-(\d+)-")
_NAME = re.compile(r"streamkit-named-\d+-")
_TOKEN = re.compile(r"streamkit-(?:unknown|named)-\d+-|.", re.DOTALL)
#: Where the function itself is: who writes another region or account into a policy means it.
REGION, ACCOUNT, PARTITION = (f"streamkit-unknown-{n}-" for n in range(3))
_HOMES = (REGION, ACCOUNT, PARTITION)
_LONGEST = 4096


class Unknowns:
    """The marks of one template: what stands behind each."""

    def __init__(self) -> None:
        self._texts = ["${AWS::Region}", "${AWS::AccountId}", "${AWS::Partition}"]
        self._marks: dict[str, str] = dict(zip(self._texts, _HOMES, strict=True))

    def mark(self, text: str, kind: Literal["unknown", "named"] = "unknown") -> str:
        """The mark of what ``text`` stands for, where it can be as ``!Sub`` has it: ``${Backoff}``. ``named`` is a name that AWS
        makes up, and that nothing else has.
        """
        text = self.shown(text)
        if text not in self._marks:
            self._marks[text] = f"streamkit-{kind}-{len(self._texts)}-"
            self._texts.append(text)
        return self._marks[text]

    def shown(self, text: str) -> str:
        """``text`` with what stands behind its marks, for people."""
        return _MARK.sub(lambda found: self._of(int(found[1])), text)

    def behind(self, text: str) -> list[str]:
        """What stands behind the marks of ``text``."""
        return [self._of(int(number)) for number in _MARK.findall(text)]

    def _of(self, number: int) -> str:
        return self._texts[number] if number < len(self._texts) else "unknown"


def is_known(text: str) -> bool:
    return _MARK.search(text) is None


def hangs_on_a_value(text: str) -> bool:
    """Whether something in it is known to nobody here: neither where the function is, nor a name that AWS makes up."""
    return _MARK.search(_NAME.sub("", without_homes(text))) is not None


def without_homes(text: str) -> str:
    """``text`` without the marks of where the function is."""
    for home in _HOMES:
        text = text.replace(home, "")
    return text


def is_same(one: str, other: str) -> bool:
    """Whether two ARNs name one thing, as far as marks tell: region and account count where both are known."""
    if one == other:
        return True
    left, right = one.split(":", 5), other.split(":", 5)
    if len(left) != 6 or len(right) != 6:
        return False
    return left[5] == right[5] and all(map(is_same_home, left[:5], right[:5]))


def is_same_home(one: str, other: str) -> bool:
    """Whether two regions or accounts are one, where both are known."""
    return one == other or one in _HOMES or other in _HOMES


def may_be(pattern: str, text: str) -> bool | None:
    """Whether a pattern of IAM's (``*`` and ``?``) is of ``text``. None: it depends on what is not known.

    The account and the region of the function are taken to be those that the other one names. A name that AWS makes up is no
    other resource's, and nobody can have written it down but in part.
    """
    if len(pattern) > _LONGEST or len(text) > _LONGEST:
        return None
    if _is_of(_pieces(pattern, certain=True), _pieces(text, certain=True)):
        return True
    if set(_NAME.findall(pattern)) - set(_NAME.findall(text)):
        return False
    hangs_on_a_name = _NAME.search(text) is not None and ("*" in pattern or "?" in pattern)
    if not any(map(hangs_on_a_value, (pattern, text))) and not hangs_on_a_name:
        return False
    pattern, text = _without_one_beginning(pattern, text)
    return None if _is_of(_pieces(pattern, certain=False), _pieces(text, certain=False)) else False


def _without_one_beginning(pattern: str, text: str) -> tuple[str, str]:
    """What is left of both behind what they begin with alike: a mark stands for one value in both, whatever that is."""
    one, other = pattern.split(":", 5), text.split(":", 5)
    has_wildcards = any("*" in part or "?" in part for part in one[:5])
    if len(one) == len(other) == 6 and not has_wildcards and all(map(is_same_home, one[:5], other[:5])):
        pattern, text = one[5], other[5]
    left, right = _TOKEN.findall(pattern), _TOKEN.findall(text)
    alike = 0
    while alike < min(len(left), len(right)) and left[alike] == right[alike] and left[alike] not in ("*", "?"):
        alike += 1
    return "".join(left[alike:]), "".join(right[alike:])


class _Any:
    """Stands for any text; ``without`` a colon, where it is a part of an ARN."""

    def __init__(self, *, without: str = "") -> None:
        self.without = without


# ``*``, ``?``, and a part of an ARN.
_ANY, _ONE, _PART = _Any(), object(), _Any(without=":")


def _pieces(text: str, *, certain: bool) -> list[object]:
    """Characters, and what stands for any: ``*``, ``?`` and marks. Where it has to be ``certain``, of marks the homes only."""
    pieces: list[object] = []
    place = 0
    for found in _MARK.finditer(text):
        pieces += _characters(text[place : found.start()])
        if found[0] in _HOMES:
            pieces.append(_PART)
        elif certain:
            pieces += found[0]
        else:
            pieces.append(_PART if _NAME.match(found[0]) else _ANY)
        place = found.end()
    return pieces + _characters(text[place:])


def _characters(text: str) -> list[object]:
    return [_ANY if one == "*" else _ONE if one == "?" else one for one in text]


def _is_of(one: list[object], other: list[object]) -> bool:
    """Whether some text is of both patterns."""
    reached = {(0, 0)}
    waiting = [(0, 0)]
    while waiting:
        i, j = waiting.pop()
        if i == len(one) and j == len(other):
            return True
        left = one[i] if i < len(one) else None
        right = other[j] if j < len(other) else None
        steps = []
        if isinstance(left, _Any):
            steps.append((i + 1, j))
            if right is not None and not isinstance(right, _Any) and right != left.without:
                steps.append((i, j + 1))
        if isinstance(right, _Any):
            steps.append((i, j + 1))
            if left is not None and not isinstance(left, _Any) and left != right.without:
                steps.append((i + 1, j))
        elif (
            not isinstance(left, _Any)
            and left is not None
            and right is not None
            and (left is _ONE or right is _ONE or left == right)
        ):
            steps.append((i + 1, j + 1))
        for step in steps:
            if step not in reached:
                reached.add(step)
                waiting.append(step)
    return False

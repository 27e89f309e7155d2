"""Values that are known to nobody before the deployment: the account, a name that AWS makes up, a parameter without a value.

Each is a text of its own that can stand within others, so that an ARN or a URL is put together with it as the deployment would
put it together, and two places that name one thing are seen to. What a text does not say for certain, is told by its marks.
"""

from __future__ import annotations

import re

__all__ = ["Unknowns", "is_known", "is_same", "may_be", "without_homes"]

# Its form goes through wherever such texts are checked: names of buckets and queues, parts of hosts and ARNs.
_MARK = re.compile(r"streamkit-unknown-(\d+)-")
#: Where the function itself is: who writes another region or account into a policy means it.
REGION, ACCOUNT, PARTITION = (f"streamkit-unknown-{n}-" for n in range(3))
_HOMES = (REGION, ACCOUNT, PARTITION)
_LONGEST = 4096


class Unknowns:
    """The marks of one template: what stands behind each."""

    def __init__(self) -> None:
        self._texts = ["${AWS::Region}", "${AWS::AccountId}", "${AWS::Partition}"]
        self._marks: dict[str, str] = dict(zip(self._texts, _HOMES, strict=True))

    def mark(self, text: str) -> str:
        """The mark of what ``text`` stands for, where it can be as ``!Sub`` has it: ``${Backoff}``."""
        if text not in self._marks:
            self._marks[text] = f"streamkit-unknown-{len(self._texts)}-"
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
    homes = zip(left[:5], right[:5], strict=True)
    return left[5] == right[5] and all(a == b or a in _HOMES or b in _HOMES for a, b in homes)


def may_be(pattern: str, text: str) -> bool | None:
    """Whether a pattern of IAM's (``*`` and ``?``) is of ``text``. None: it depends on what is not known.

    The account and the region of the function are taken to be those that the other one names.
    """
    if len(pattern) > _LONGEST or len(text) > _LONGEST:
        return None
    if _is_of(_pieces(pattern, _HOMES), _pieces(text, _HOMES)):
        return True
    if is_known(pattern) and is_known(text):
        return False
    return None if _is_of(_pieces(pattern, None), _pieces(text, None)) else False


_ANY, _ONE = object(), object()


def _pieces(text: str, marks: tuple[str, ...] | None) -> list[object]:
    """Characters, and what stands for any: ``*``, and those of ``marks`` (None: all marks)."""
    pieces: list[object] = []
    place = 0
    for found in _MARK.finditer(text):
        pieces += _characters(text[place : found.start()])
        pieces += [_ANY] if marks is None or found[0] in marks else list(found[0])
        place = found.end()
    return pieces + _characters(text[place:])


def _characters(text: str) -> list[object]:
    return [_ANY if one == "*" else _ONE if one == "?" else one for one in text]


def _is_of(one: list[object], other: list[object]) -> bool:
    """Whether some text is of both patterns."""
    reached = {0}

    def spread(row: set[int]) -> set[int]:
        """With each place, those that follow by an empty match of what is any in ``other``."""
        found = set(row)
        for place in sorted(row):
            while place < len(other) and other[place] is _ANY and place + 1 not in found:
                place += 1
                found.add(place)
        return found

    row = spread(reached)
    for piece in one:
        following: set[int] = set()
        if piece is _ANY:
            first = min(row, default=None)
            following = set() if first is None else set(range(first, len(other) + 1))
        else:
            for place in row:
                if place == len(other):
                    continue
                if other[place] is _ANY:
                    following.add(place)
                elif piece is _ONE or other[place] is _ONE or piece == other[place]:
                    following.add(place + 1)
        row = spread(following)
        if not row:
            return False
    return len(other) in row

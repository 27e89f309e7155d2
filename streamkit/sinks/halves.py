"""A request that is refused whole for what is in it, without a word of which: sent in halves, until what is at fault is alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

__all__ = ["in_halves"]

Item = TypeVar("Item")
Trouble = TypeVar("Trouble")


def in_halves(
    items: Sequence[Item],
    ask: Callable[[Sequence[Item]], Mapping[int, Trouble] | Trouble],
    stopped: Callable[[], Trouble | None],
) -> dict[int, Trouble]:
    """Ask for all of ``items`` at once, and where that is refused for what is in it for each half, the first one first.

    ``ask`` sends one request, and returns either the troubles of its items, by their places in what it was given, where they are
    final; or one trouble, for all together, of which nobody knows whose it is. That of a single item is its own. ``stopped`` is
    asked before each half: None, or the trouble of all that is not asked for any more, as the deadline is over. What was not
    taken is returned, by place in ``items``. Of n items, of which one is at fault, it takes up to 2 log₂ n + 1 requests; where
    all are, 2 n - 1.
    """
    answer = ask(items)
    if isinstance(answer, Mapping):
        return dict(answer)
    if len(items) == 1:
        return {0: answer}
    half = len(items) // 2
    found: dict[int, Trouble] = {}
    for begins, part in ((0, items[:half]), (half, items[half:])):
        why = stopped()
        troubles = dict.fromkeys(range(len(part)), why) if why is not None else in_halves(part, ask, stopped)
        found |= {begins + place: trouble for place, trouble in troubles.items()}
    return found

"""A value that is shown to nobody by accident: not by a log, a ``repr``, a format, a pickle or a traceback's locals."""

from __future__ import annotations

from typing import Any, Generic, NoReturn, TypeVar

__all__ = ["Secret"]

T = TypeVar("T")


class Secret(Generic[T]):
    """``reveal()`` gives what it hides, and nothing else does: ask for it where it is used, and keep the ``Secret`` elsewhere.

    Two are equal where what they hide is. It can't be pickled, and no encoder of JSON takes it.
    """

    __slots__ = ("_hidden",)

    def __init__(self, hidden: T) -> None:
        self._hidden = hidden

    def reveal(self) -> T:
        """What it hides."""
        return self._hidden

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return self._hidden == other._hidden if isinstance(other, Secret) else NotImplemented

    # What it hides may have none; and a set of secrets would be sorted out by what they hide.
    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Secret[T]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret[T]:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret can't be pickled: pass on its name, and read it where it is used")

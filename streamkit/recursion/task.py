"""What a user writes for work that outlives one invocation: one step, which says where the next one begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from ..cells.base import CellStore
from ..claims.base import ClaimStore
from ..errors import ConfigurationError

__all__ = ["Done", "LongTask", "check_options"]

#: What Lambda takes for an asynchronous event, in bytes: 1 MB, less what stands around a cursor.
MOST_PAYLOAD = 1_000_000


class Done:
    """What ``step`` returns when there is nothing left to do. ``result`` is JSON, and stands in the last hop's answer."""

    __slots__ = ("result",)

    def __init__(self, result: Any = None) -> None:
        self.result = result


class LongTask(ABC):
    """Work in steps. Options are class attributes.

        class Export(LongTask):
            name = "export"
            guard = DynamoDbCells.from_env("CHAINS_TABLE")

            def start(self, event):
                return {"table": event["table"], "page": None}

            def step(self, cursor, context):
                page = copy(cursor["table"], cursor["page"])
                return {**cursor, "page": page.next} if page.next else Done()

    **A step may run more than once from the same cursor**, as any asynchronous event of Lambda's may: what it does has to bear
    that. Only the cursor is sure to reach the next step. What a step leaves on ``self`` or in ``/tmp`` may be there, and may not.
    """

    #: Persistent: chains are known by it. Default ``<module>.<class>``; a subclass inherits a name that was given.
    name: str = ""
    #: Invocations that one chain may have. The next one does nothing, and raises HopsExceeded with the cursor in its event.
    max_hops: int = 1000
    #: Seconds that are kept back to hand over.
    deadline_margin: float = 10.0
    #: The size of an event, in bytes, over which the cursor goes to ``claims``. Lambda takes 1 MB, and bills each 64 KB beyond
    #: the first 256 KB as one request more.
    payload_bytes: int = 262_144
    #: Where a cursor goes that is too large: ``S3Claims(bucket)``.
    claims: ClaimStore | None = None
    #: Where a chain's place is kept, so that no two copies of it work at once: ``DynamoDbCells(table)``.
    guard: CellStore | None = None

    _name_was_given: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._name_was_given = "name" in vars(cls) or cls._name_was_given
        if not cls._name_was_given:
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    def chain(self, event: Any) -> str | None:
        """The id of the chain that ``event`` starts: 1 to 200 characters. By default that of the invocation.

        One that is made of what is to be done ("export-2026-11-30") makes a second start of the same harmless, where there
        is a ``guard``.
        """
        return None

    def start(self, event: Any) -> Any:
        """The first cursor, of the event that starts a chain: JSON. By default the event itself."""
        return event

    @abstractmethod
    def step(self, cursor: Any, context: Any) -> Any:
        """Do a piece of work: the next cursor, JSON (None is one: null), or ``Done``. The shorter it is, the less is repeated.

        What it raises fails the invocation; Lambda repeats that twice, from the cursor that the invocation began with.
        """

    def close(self) -> None:
        """Release what the task holds."""
        return


def check_options(task: LongTask) -> None:
    """ConfigurationError for an option that can't be."""

    def refuse(option: str, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"{type(task).__name__}.{option}: {wanted}; got {getattr(task, option)!r}")

    if not isinstance(task.name, str) or not 1 <= len(task.name) <= 200:
        raise refuse("name", "a name is a text of 1 to 200 characters")
    if isinstance(task.max_hops, bool) or not isinstance(task.max_hops, int) or task.max_hops < 1:
        raise refuse("max_hops", "a chain has 1 invocation at least")
    margin = task.deadline_margin
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 900:
        raise refuse("deadline_margin", "seconds, more than 0 and less than 900")
    if not isinstance(task.payload_bytes, int) or not 1024 <= task.payload_bytes <= MOST_PAYLOAD:
        raise refuse("payload_bytes", f"bytes, from 1,024 to {MOST_PAYLOAD:,}")
    if task.claims is not None and not isinstance(task.claims, ClaimStore):
        raise refuse("claims", "a claim store, as S3Claims(bucket)")
    if task.guard is not None and not isinstance(task.guard, CellStore):
        raise refuse("guard", "a store of cells, as DynamoDbCells(table)")

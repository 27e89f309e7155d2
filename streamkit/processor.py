"""What users subclass: one record in, its writes out. The options are class attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from .errors import ConfigurationError
from .policy import Block, Park, Policy
from .progress.base import ProgressStore
from .record import Record
from .sinks.base import ShardSink, Write

__all__ = ["RecordProcessor"]

# inspect.iscoroutinefunction and isasyncgenfunction, without the import of inspect in every cold start.
_CO_COROUTINE, _CO_ASYNC_GENERATOR = 0x80, 0x200


class RecordProcessor:
    """Subclass it and write ``process``.

        class Orders(RecordProcessor):
            name = "orders"
            search = CloudSearchSink.from_env("SEARCH_ENDPOINT")

            def process(self, record):
                order = record.json()
                yield self.search.document(order["id"], {"total": order["total"]})

    An ``__init__`` of yours needs no ``super()``. streamkit keeps nothing on the instance: what you keep there lives as
    long as the function's container.
    """

    #: Keys stored state and write ids, so it is persistent: changing it makes every write a new one for sinks that dedupe
    #: by id. Default ``<module>.<class>``; a subclass inherits a name that was given.
    name: str = ""
    #: Which records wait for which: those of one partition ``"key"``, all of the ``"shard"``, or ``"none"``.
    ordering: Literal["key", "shard", "none"] = "key"
    #: What a failed record costs: ``Block()``, ``Divert(queue)``, ``Park(queue, ledger)``.
    on_failure: Policy = Block()
    #: A store of what a redelivered batch need not repeat, as ``DynamoDbProgress(table)``. None: it repeats what it has to.
    progress: ProgressStore | None = None
    #: How many records run at once, each in a thread of its own and never two of one key. 1 runs them in the handler's thread.
    concurrency: int = 1
    #: Seconds kept back from the function's time-out to flush the last writes, settle failures and answer.
    deadline_margin: float = 1.0
    #: A damaged KPL aggregate is a ``DecodeError`` (``"strict"``), or plain data as the KCL has it (``"lenient"``).
    aggregates: Literal["strict", "lenient"] = "strict"

    _name_was_given: ClassVar[bool] = False
    # What runs a call for a tumbling window: WindowProcessor's own, so that no other function pays for its import.
    _window_run: ClassVar[Any] = None
    # What answers for several processors: FanOut's own, likewise.
    _fan_out: ClassVar[Any] = None

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        namer = next(base for base in cls.__mro__ if "name" in vars(base))
        cls._name_was_given = namer is cls or not issubclass(namer, RecordProcessor) or namer._name_was_given
        if not cls._name_was_given:
            cls.name = f"{cls.__module__}.{cls.__qualname__}"
        for method in (cls.process, cls.prepare):
            code = getattr(method, "__code__", None)
            if code is not None and code.co_flags & (_CO_COROUTINE | _CO_ASYNC_GENERATOR):
                raise TypeError(
                    f"{cls.__name__}.{method.__name__} is async, which streamkit does not support yet: "
                    f"write `def {method.__name__}`, and set `concurrency` to overlap waiting"
                )
        check_options(cls)

    def process(self, record: Record) -> Iterable[Write] | Write | None:
        """The work of one record. Yield its writes; they are delivered after it has returned, batched with others'.

        Raise ``Reject(reason)`` for a record that can never succeed, ``Retry(delay)`` for one that may later, and
        ``Unavailable(what)`` when a dependency is down. Anything else that is raised is a failure of the record, and
        ``on_failure`` says what follows.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a `process(self, record)`")

    def prepare(self, records: Sequence[Record]) -> None:
        """Called once a batch before its first record, for bulk look-ups. Records that can't be decoded are left out.

        A ``DecodeError`` of one of the records is that record's failure, and ``prepare`` is called again without it. Any
        other exception means that a dependency is down: nothing of the batch starts, and it stays where it is.
        """

    def close(self) -> None:
        """Called when a local runner or a test ends; Lambda never says that it stops."""


def attributes_of(processor: RecordProcessor | type[RecordProcessor]) -> Iterable[Any]:
    """What it holds, as it stands: asking for a property may run anything."""
    return named_attributes_of(processor).values()


def named_attributes_of(processor: RecordProcessor | type[RecordProcessor]) -> dict[str, Any]:
    """The same, by name."""
    attributes: dict[str, Any] = {}
    owner = processor if isinstance(processor, type) else type(processor)
    for scope in (*reversed(owner.__mro__), *(() if owner is processor else (processor,))):
        attributes |= vars(scope)
    return attributes


def check_options(processor: RecordProcessor | type[RecordProcessor]) -> None:
    """Raise ConfigurationError for an option that is wrong, or that does not go with another."""
    owner = processor.__name__ if isinstance(processor, type) else type(processor).__name__

    def refuse(option: str, rule: str) -> ConfigurationError:
        return ConfigurationError(f"{owner}.{option} = {getattr(processor, option)!r}: {rule}")

    if not isinstance(processor.name, str) or not processor.name:
        raise refuse("name", "a name is a text that is not empty")
    if processor.ordering not in ("key", "shard", "none"):
        raise refuse("ordering", 'choose "key", "shard" or "none"')
    if not isinstance(processor.on_failure, Policy):
        raise refuse("on_failure", "choose a policy: Block(), Divert(queue) or Park(queue, ledger)")
    if isinstance(processor.on_failure, Park) and processor.ordering != "key":
        raise refuse("ordering", 'Park keeps the order of a key: use "key", or another policy')
    if processor.progress is not None and not isinstance(processor.progress, ProgressStore):
        raise refuse("progress", 'a progress store, as DynamoDbProgress("table"), or None')
    if (
        isinstance(processor.concurrency, bool)
        or not isinstance(processor.concurrency, int)
        or processor.concurrency < 1
    ):
        raise refuse("concurrency", "a whole number of records at once, 1 or more")
    if processor.concurrency > 1 and processor.ordering == "shard":
        raise refuse(
            "concurrency", 'ordering = "shard" runs one record at a time; use "key" or "none", or concurrency = 1'
        )
    if isinstance(processor.deadline_margin, bool) or not isinstance(processor.deadline_margin, int | float):
        raise refuse("deadline_margin", "seconds, as a number")
    if not 0 <= processor.deadline_margin <= 900:
        raise refuse("deadline_margin", "seconds, from 0 to 900 (Lambda's longest time-out)")
    if processor.aggregates not in ("strict", "lenient"):
        raise refuse("aggregates", 'choose "strict" or "lenient"')
    for part in attributes_of(processor):
        if isinstance(part, ShardSink):
            part.check(processor)
